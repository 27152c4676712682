//! The CPU's flags and KVM's kernel modules.

use super::*;

const NO_SUCH_DEVICE: Trial = Trial::Closed(libc::ENOENT);
const BIOS: &str = "switch on Intel Virtualization Technology (VT-x) in the BIOS or UEFI settings \
                    (often below CPU, Advanced or Security), then switch the machine off and on; \
                    without such a setting the CPU cannot virtualize";

#[test]
fn a_cpu_without_the_flag_is_sent_to_its_firmware() {
    let fake = Fake::unloaded();
    fake.cpu("GenuineIntel", "fpu sse2");
    let (id, finding, remedy) = fake.failure(&NO_SUCH_DEVICE);
    assert_eq!(id, "kvm-cpu");
    assert_eq!(finding, "the CPU of a physical machine shows neither vmx nor svm");
    assert_eq!(remedy, BIOS);
    fake.cpu("AuthenticAMD", "fpu sse2");
    let remedy = fake.failure(&NO_SUCH_DEVICE).2;
    assert!(remedy.starts_with("switch on SVM Mode (AMD-V) in the BIOS"), "{remedy}");
    fake.cpu("Other", "fpu");
    let remedy = fake.failure(&NO_SUCH_DEVICE).2;
    assert!(remedy.starts_with("switch on VT-x (Intel) or SVM Mode (AMD) in the"), "{remedy}");
}

#[test]
fn a_flag_is_a_word_and_not_a_part_of_one() {
    let fake = Fake::unloaded();
    fake.cpu("GenuineIntel", "fpu vmxsomething asvm");
    assert_eq!(fake.failure(&NO_SUCH_DEVICE).0, "kvm-cpu");
    fake.cpu("AuthenticAMD", "fpu svm");
    let check = fake.check("kvm-cpu", &NO_SUCH_DEVICE);
    assert_eq!(check, Check::ok("kvm-cpu", "the CPU has AMD-V (svm)"));
}

#[test]
fn modules_that_are_not_loaded_get_the_command_that_loads_them() {
    let fake = Fake::unloaded();
    let (id, finding, remedy) = fake.failure(&NO_SUCH_DEVICE);
    assert_eq!((id, finding.as_str()), ("kvm-module", "the kernel has not loaded KVM"));
    assert_eq!(
        remedy,
        "`sudo modprobe kvm_intel`; if that says \"Operation not supported\", switch on Intel \
         Virtualization Technology (VT-x) in the BIOS or UEFI settings"
    );
    fake.cpu("AuthenticAMD", "svm");
    let remedy = fake.failure(&NO_SUCH_DEVICE).2;
    assert!(remedy.starts_with("`sudo modprobe kvm_amd`; if that says"), "{remedy}");
}

#[test]
fn without_the_flag_a_module_cannot_be_loaded_and_that_is_said() {
    let fake = Fake::unloaded();
    fake.cpu("GenuineIntel", "fpu");
    let check = fake.check("kvm-module", &NO_SUCH_DEVICE);
    assert_eq!(check.remedy.as_deref(), Some("mend kvm-cpu first, then `sudo modprobe kvm_intel`"));
}

#[test]
fn half_of_kvm_is_not_enough() {
    let fake = Fake::unloaded();
    fake.modules(&["kvm"]);
    let (id, finding, remedy) = fake.failure(&NO_SUCH_DEVICE);
    assert_eq!(
        (id, finding.as_str()),
        ("kvm-module", "the module kvm is loaded and kvm_intel is not")
    );
    assert!(remedy.starts_with("`sudo modprobe kvm_intel`"), "{remedy}");
}

#[test]
fn the_other_vendors_module_is_not_enough() {
    let fake = Fake::unloaded();
    fake.modules(&["kvm_amd", "kvm"]);
    let (id, finding, remedy) = fake.failure(&NO_SUCH_DEVICE);
    assert_eq!(
        (id, finding.as_str()),
        ("kvm-module", "kvm_amd is loaded, for another vendor's CPU")
    );
    assert!(remedy.starts_with("`sudo modprobe kvm_intel`"), "{remedy}");
}

#[test]
fn a_built_in_module_shows_in_sysfs_only() {
    let fake = Fake::intel();
    fake.modules(&[]);
    fake.file("/sys/module/kvm_intel/parameters/nested", "Y\n");
    let check = fake.check("kvm-module", &on_cpu());
    assert_eq!(check, Check::ok("kvm-module", "kvm_intel is built into the kernel"));
}

#[test]
fn a_kernel_that_was_updated_under_a_running_system_wants_a_reboot() {
    let fake = Fake::unloaded();
    fake.file("/lib/modules/6.13.1-generic/modules.dep", "kernel/arch/x86/kvm/kvm-intel.ko:\n");
    assert_eq!(
        fake.failure(&NO_SUCH_DEVICE).2,
        "reboot: the running kernel 6.12.9-generic has no modules on disk any more, as after an \
         update"
    );
}

#[test]
fn a_kernel_that_was_built_without_kvm_is_named() {
    let fake = Fake::unloaded();
    let dep = "/lib/modules/6.12.9-generic/modules.dep";
    fake.file(dep, "kernel/fs/ext4/ext4.ko:\n");
    assert_eq!(
        fake.failure(&NO_SUCH_DEVICE).2,
        "boot a kernel that has KVM: 6.12.9-generic was installed without it (some distributions \
         have it in a package of extra modules)"
    );
    fake.file(dep, "kernel/arch/x86/kvm/kvm-intel.ko.zst: kernel/arch/x86/kvm/kvm.ko.zst\n");
    assert!(fake.failure(&NO_SUCH_DEVICE).2.starts_with("`sudo modprobe kvm_intel`"));
}

#[test]
fn a_rival_that_keeps_the_module_out_is_named() {
    let fake = Fake::unloaded();
    fake.modules(&["vboxdrv"]);
    let remedy = fake.failure(&NO_SUCH_DEVICE).2;
    assert!(
        remedy.contains(
            "; if that says \"Device or resource busy\", switch off the VMs of VirtualBox first;"
        ),
        "{remedy}"
    );
}

#[test]
fn a_loaded_module_without_its_device_gets_the_device_made() {
    let mut fake = Fake::intel();
    fake.host.node = Node::Missing(libc::ENOENT);
    let (id, finding, remedy) = fake.closed(libc::ENOENT);
    assert_eq!((id, finding.as_str()), ("kvm-device", "there is no /dev/kvm"));
    assert_eq!(
        remedy,
        "make the device: `sudo udevadm trigger --name-match=kvm`, or without udev \
         `sudo mknod -m 660 /dev/kvm c 10 232 && sudo chgrp kvm /dev/kvm`"
    );
}

#[test]
fn a_node_without_a_driver_points_to_the_module() {
    let mut fake = Fake::unloaded();
    fake.host.node = DEVICE;
    let check = fake.check("kvm-device", &Trial::Closed(libc::ENODEV));
    assert_eq!(check.finding, "/dev/kvm is there and the kernel has no KVM behind it");
    assert_eq!(check.remedy.as_deref(), Some("load KVM's module first (see kvm-module)"));
    assert_eq!(fake.closed(libc::ENODEV).0, "kvm-module");
}

#[test]
fn where_a_vm_can_be_made_neither_flag_nor_module_is_a_failure() {
    let fake = Fake::unloaded();
    fake.cpu("AuthenticAMD", "fpu hypervisor");
    let expected = [
        ("kvm-cpu", Verdict::Warn),
        ("kvm-module", Verdict::Ok),
        ("kvm-device", Verdict::Ok),
        ("kvm-api", Verdict::Ok),
        ("kvm-vm", Verdict::Ok),
        ("kvm-run", Verdict::Warn),
        ("kvm-instructions", Verdict::Warn),
    ];
    assert_eq!(ids_and_verdicts(&fake, &interpreted()), expected);
}

#[test]
fn a_para_virtual_kvm_does_without_the_flag() {
    let fake = Fake::intel();
    fake.cpu("AuthenticAMD", "fpu hypervisor");
    fake.modules(&[]);
    fake.file("/sys/module/kvm_pvm/parameters/force", "N\n");
    assert_eq!(
        fake.check("kvm-cpu", &interpreted()),
        Check::warn(
            "kvm-cpu",
            "the CPU of a virtual machine shows neither vmx nor svm; this host's KVM is \
             para-virtual and does without",
            "for guests at full speed, switch on nested virtualization where this machine is \
             configured; if its provider has no such setting, use another machine"
        )
    );
    assert_eq!(
        fake.check("kvm-module", &interpreted()),
        Check::ok("kvm-module", "kvm_pvm (para-virtual) is built into the kernel")
    );
    // Even while its device cannot be opened: that is then what fails.
    assert_eq!(fake.closed(libc::EACCES).0, "kvm-device");
}

#[test]
fn a_hidden_flag_is_no_fault_where_guest_code_runs_on_the_cpu() {
    let fake = Fake::intel();
    fake.cpu("GenuineIntel", "fpu");
    assert_eq!(
        fake.check("kvm-cpu", &on_cpu()),
        Check::ok(
            "kvm-cpu",
            "the CPU of a physical machine shows neither vmx nor svm, and yet guest code runs on it"
        )
    );
}

#[test]
fn arm64_has_neither_flags_nor_modules_to_look_at() {
    let fake = Fake::arm();
    let expected = [
        ("kvm-device", Verdict::Ok),
        ("kvm-api", Verdict::Ok),
        ("kvm-vm", Verdict::Ok),
        ("kvm-run", Verdict::Ok),
        ("kvm-instructions", Verdict::Ok),
    ];
    assert_eq!(ids_and_verdicts(&fake, &on_cpu()), expected);
    let (id, _, remedy) = fake.failure(&NO_SUCH_DEVICE);
    assert_eq!(id, "kvm-device");
    assert_eq!(
        remedy,
        "boot a kernel with CONFIG_KVM, from firmware that starts it at EL2 \
         (`sudo dmesg | grep -i kvm` says what is missing)"
    );
}
