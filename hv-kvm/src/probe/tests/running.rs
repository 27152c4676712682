//! What KVM does once it is open, made up and for real.

use super::*;

#[test]
fn a_device_that_is_not_kvms_is_found_out() {
    let (id, finding, remedy) = Fake::intel().failure(&Trial::Mute(libc::ENOTTY));
    assert_eq!(id, "kvm-api");
    assert_eq!(
        finding,
        "/dev/kvm does not answer as KVM: Inappropriate ioctl for device (os error 25)"
    );
    assert_eq!(remedy, "make sure that /dev/kvm is the character device 10:232 (`ls -l /dev/kvm`)");
}

#[test]
fn another_version_of_the_api_is_refused() {
    let (id, finding, _) = Fake::intel().failure(&Trial::Version(11));
    assert_eq!(
        (id, finding.as_str()),
        ("kvm-api", "KVM speaks version 11 of its API, and 12 is needed")
    );
}

#[test]
fn a_kvm_without_what_guests_need_is_a_failure() {
    let old = Fake::intel().failure(&Trial::Lacks("KVM_CAP_IRQFD".into()));
    assert_eq!(old.0, "kvm-api");
    assert_eq!(old.1, "this host's KVM cannot run runner's guests: KVM_CAP_IRQFD");
    assert_eq!(old.2, "boot Linux 4.12 or later");
    let arm = Fake::arm().failure(&Trial::Lacks("KVM_CAP_ARM_NISV_TO_USER".into()));
    assert_eq!(arm.2, "boot Linux 5.5 or later");
}

#[test]
fn a_rival_that_holds_the_cpu_is_named_with_its_modules() {
    let fake = Fake::intel();
    fake.modules(&["kvm_intel", "kvm", "vboxnetflt", "vboxdrv", "vmmon"]);
    let (id, finding, remedy) = fake.failure(&Trial::NoVm(libc::EBUSY));
    assert_eq!(id, "kvm-vm");
    assert_eq!(
        finding,
        "KVM cannot make a VM: Device or resource busy (os error 16); VirtualBox or VMware holds \
         the CPU's virtualization"
    );
    assert_eq!(
        remedy,
        "switch off the VMs of VirtualBox and VMware; if that is not enough, \
         `sudo modprobe -r vboxdrv vmmon`"
    );
}

#[test]
fn a_rival_that_does_not_show_is_still_the_likeliest_cause() {
    let (_, finding, remedy) = Fake::intel().failure(&Trial::NoVm(libc::EBUSY));
    assert_eq!(
        finding,
        "KVM cannot make a VM: Device or resource busy (os error 16); another hypervisor holds \
         the CPU's virtualization"
    );
    assert!(remedy.starts_with("stop the other hypervisor (VirtualBox, VMware, Xen"), "{remedy}");
}

#[test]
fn a_vm_that_cannot_be_made_for_lack_of_memory_is_no_configuration_fault() {
    let (id, finding, remedy) = Fake::intel().failure(&Trial::NoVm(libc::ENOMEM));
    assert_eq!(
        (id, finding.as_str()),
        ("kvm-vm", "KVM cannot make a VM: Cannot allocate memory (os error 12)")
    );
    assert_eq!(remedy, "free memory or file descriptors (`ulimit -n`), then try again");
}

#[test]
fn a_seccomp_profile_is_suspected_in_containers_only() {
    let fake = Fake::intel();
    let elsewhere = fake.failure(&Trial::NoVm(libc::EPERM)).2;
    assert_eq!(elsewhere, "the kernel log may say why: `sudo dmesg | grep -i kvm`");
    fake.file("/.dockerenv", "");
    let inside = fake.failure(&Trial::NoVm(libc::EPERM)).2;
    assert!(inside.starts_with("the container's seccomp profile refuses KVM"), "{inside}");
}

#[test]
fn interpreted_guest_code_is_a_warning_with_its_speed_and_what_fails() {
    let fake = Fake::intel();
    assert!(judge(&fake.host, &interpreted()).usable());
    assert_eq!(
        fake.check("kvm-run", &interpreted()),
        Check::warn(
            "kvm-run",
            "KVM interprets guest kernel code, 1.6 million instructions a second",
            "guests start slowly here, and only those whose kernel keeps to general-purpose \
             instructions; for others use `--accel=off`, a physical machine, or a virtual one \
             with nested virtualization"
        )
    );
    assert_eq!(
        fake.check("kvm-instructions", &interpreted()),
        Check::warn(
            "kvm-instructions",
            "KVM fails to execute in guests: MULPS, XGETBV",
            "guests that use them fail here: run them with `--accel=off`, or on a host whose CPU \
             executes guest code"
        )
    );
}

#[test]
fn a_guest_that_does_not_start_is_a_failure() {
    let trial = Trial::Vm(Err("did not start: hardware entry failure 0x80000021".into()));
    let (id, finding, remedy) = Fake::intel().failure(&trial);
    assert_eq!(id, "kvm-run");
    assert_eq!(
        finding,
        "a VM can be made and its first instructions do not run: did not start: hardware entry \
         failure 0x80000021"
    );
    assert!(remedy.contains("`sudo dmesg | grep -i kvm`"), "{remedy}");
}

#[test]
fn a_kvm_that_hangs_is_a_failure_and_not_a_hang() {
    let (id, finding, _) = Fake::intel().failure(&Trial::Silent);
    assert_eq!((id, finding.as_str()), ("kvm-run", "KVM did not answer within 10 seconds"));
}

#[test]
fn a_user_who_has_no_thread_left_is_told_the_limit() {
    let (id, finding, remedy) = Fake::intel().failure(&Trial::NoThread(libc::EAGAIN));
    assert_eq!(id, "kvm-run");
    assert_eq!(
        finding,
        "runner cannot start a thread: Resource temporarily unavailable (os error 11)"
    );
    assert_eq!(remedy, "raise this user's limit of processes (`ulimit -u`)");
}

#[test]
fn execution_is_said_as_the_verbose_line_has_it() {
    assert_eq!(Execution::OnCpu.to_string(), "guest code runs on the CPU");
    let slow = |per_second| Execution::Interpreted { per_second }.to_string();
    assert!(slow(1_649_999).ends_with("code, 1.6 million instructions a second"));
    assert!(slow(0).ends_with("code, 0.0 million instructions a second"));
    assert!(slow(u64::MAX).ends_with(" million instructions a second"));
}

#[test]
fn a_device_that_opens_and_is_not_kvm_is_mute() {
    let trial = super::super::trial::trial(Path::new("/dev/null"));
    assert_eq!(trial, Trial::Mute(libc::ENOTTY));
}

#[test]
fn a_path_where_nothing_is_stays_closed() {
    let nothing = tempfile::tempdir().unwrap().path().join("kvm");
    assert_eq!(super::super::trial::trial(&nothing), Trial::Closed(libc::ENOENT));
}

#[test]
fn this_hosts_report_agrees_with_opening_its_device() {
    let opens = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    let report = super::super::report();
    let device = report.checks.iter().find(|check| check.id == "kvm-device");
    assert_eq!(device.map(|check| check.verdict == Verdict::Ok), Some(opens), "{report:#?}");
}

#[test]
#[cfg(target_arch = "x86_64")] // runner has instructions to try for this architecture only
fn where_this_host_can_make_a_vm_the_loop_runs_in_it() {
    let report = super::super::report();
    let check = |id| report.checks.iter().find(|check| check.id == id);
    if check("kvm-vm").is_none_or(|check| check.verdict != Verdict::Ok) {
        eprintln!("skipped: this host's KVM cannot make a VM: {:?}", report.failure());
        return;
    }
    let run = check("kvm-run").unwrap();
    assert_ne!(run.verdict, Verdict::Fail, "{run:#?}");
    let on_cpu = matches!(super::super::execution(), Ok(Execution::OnCpu));
    assert_eq!(run.verdict == Verdict::Ok, on_cpu, "{run:#?}");
}
