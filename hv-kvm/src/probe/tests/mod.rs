//! Hosts of every kind, laid out in a directory each, and what the checks say of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hv::{Check, Verdict};
use tempfile::TempDir;

use super::host::{Host, Node};
use super::trial::Trial;
use super::{Execution, Ran, judge};

mod access;
mod causes;
mod modules;
mod running;

/// A host that is a directory.
struct Fake {
    _directory: TempDir,
    host: Host,
}

/// A device as udev leaves it: of root and group 108, for both to read and write.
const DEVICE: Node = Node::Device { uid: 0, gid: 108, mode: 0o660 };

impl Fake {
    /// A physical machine with an Intel CPU, KVM loaded and its device in place, used by ann, who
    /// is in no group but her own.
    fn intel() -> Self {
        let fake = Self::empty("x86_64");
        fake.cpu("GenuineIntel", "fpu vmx sse2");
        fake.modules(&["kvm_intel", "kvm"]);
        fake
    }

    /// The same machine before anybody loaded KVM.
    fn unloaded() -> Self {
        let mut fake = Self::intel();
        fake.modules(&["ext4"]);
        fake.host.node = Node::Missing(libc::ENOENT);
        fake
    }

    /// A virtual machine without nested virtualization, by the names its firmware gives.
    fn virtual_machine(vendor: &str, product: &str) -> Self {
        let fake = Self::unloaded();
        fake.cpu("GenuineIntel", "fpu sse2 hypervisor");
        fake.dmi(vendor, product);
        fake
    }

    fn arm() -> Self {
        let fake = Self::empty("aarch64");
        fake.file("/proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd\n");
        fake
    }

    fn empty(arch: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        let host = Host { root, env: BTreeMap::new(), arch, node: DEVICE };
        let fake = Self { _directory: directory, host };
        fake.file(
            "/proc/self/status",
            "Name:\tx\nUid:\t7\t7\t7\t1000\nGid:\t7\t7\t7\t1000\nGroups:\t1000 \n",
        );
        fake.file(
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
        );
        fake.file("/etc/group", "root:x:0:\nann:x:1000:\nkvm:x:108:bob\n");
        fake.file("/proc/version", "Linux version 6.12.9-generic (gcc 14) #1 SMP\n");
        fake.file("/proc/sys/kernel/osrelease", "6.12.9-generic\n");
        fake
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.host.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, text).unwrap();
    }

    fn cpu(&self, vendor: &str, flags: &str) {
        let one = format!("processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n\n");
        self.file("/proc/cpuinfo", &one.repeat(2));
    }

    fn modules(&self, names: &[&str]) {
        let line = |name: &&str| format!("{name} 446464 0 - Live 0x0000000000000000\n");
        self.file("/proc/modules", &names.iter().map(line).collect::<String>());
    }

    fn dmi(&self, vendor: &str, product: &str) {
        self.file("/sys/class/dmi/id/sys_vendor", &format!("{vendor}\n"));
        self.file("/sys/class/dmi/id/product_name", &format!("{product}\n"));
    }

    fn env(&mut self, name: &str, value: &str) {
        self.host.env.insert(name.into(), value.into());
    }

    /// Ann is in `group` as /etc/group has it, and this session in `groups`.
    fn groups(&self, members: &str, session: &str) {
        self.file("/etc/group", &format!("root:x:0:\nkvm:x:108:{members}\n"));
        self.file(
            "/proc/self/status",
            &format!(
                "Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t{session}\n"
            ),
        );
    }

    /// The check of this name after `trial`.
    fn check(&self, id: &str, trial: &Trial) -> Check {
        let report = judge(&self.host, trial);
        let found = report.checks.iter().find(|check| check.id == id);
        found.unwrap_or_else(|| panic!("no {id} in {report:#?}")).clone()
    }

    /// The finding and the remedy of what fails first, after the device did not open.
    fn closed(&self, errno: i32) -> (&'static str, String, String) {
        self.failure(&Trial::Closed(errno))
    }

    fn failure(&self, trial: &Trial) -> (&'static str, String, String) {
        let report = judge(&self.host, trial);
        let check = report.failure().unwrap_or_else(|| panic!("nothing fails: {report:#?}"));
        (check.id, check.finding.clone(), check.remedy.clone().unwrap_or_default())
    }
}

/// A trial in which everything went well.
fn on_cpu() -> Trial {
    Trial::Vm(Ok(Ran { execution: Execution::OnCpu, failed: Vec::new() }))
}

/// A trial on a KVM that interprets.
fn interpreted() -> Trial {
    let execution = Execution::Interpreted { per_second: 1_649_000 };
    Trial::Vm(Ok(Ran { execution, failed: vec!["MULPS", "XGETBV"] }))
}

fn ids_and_verdicts(fake: &Fake, trial: &Trial) -> Vec<(&'static str, Verdict)> {
    judge(&fake.host, trial).checks.iter().map(|check| (check.id, check.verdict)).collect()
}

#[test]
fn a_host_where_all_is_well_has_seven_checks_and_no_remedy() {
    let report = judge(&Fake::intel().host, &on_cpu());
    let findings: Vec<_> = report.checks.iter().map(|c| (c.id, c.finding.as_str())).collect();
    assert_eq!(
        findings,
        [
            ("kvm-cpu", "the CPU has VT-x (vmx)"),
            ("kvm-module", "kvm_intel is loaded"),
            ("kvm-device", "/dev/kvm opens for reading and writing"),
            ("kvm-api", "KVM API 12"),
            ("kvm-vm", "a VM can be made"),
            ("kvm-run", "guest code runs on the CPU"),
            ("kvm-instructions", "all instructions tried are executed"),
        ]
    );
    assert!(report.checks.iter().all(|c| c.verdict == Verdict::Ok && c.remedy.is_none()));
}

#[test]
fn no_host_however_odd_makes_the_checks_panic() {
    let trials = [
        Trial::Closed(libc::ENOENT),
        Trial::Closed(libc::EACCES),
        Trial::Closed(0),
        Trial::Mute(libc::ENOTTY),
        Trial::Version(i32::MIN),
        Trial::Lacks(String::new()),
        Trial::NoVm(libc::EBUSY),
        Trial::Vm(Err(String::new())),
        Trial::Silent,
        Trial::NoThread(libc::EAGAIN),
        on_cpu(),
        interpreted(),
    ];
    let nodes = [Node::Missing(0), Node::Wrong("directory"), DEVICE];
    let odd = ["", ":", "::::\n", "\0\u{fffd}", "Uid:\t-1\nGroups:\tx y 99999999999\n", "kvm\nkvm"];
    for arch in ["x86_64", "aarch64", "riscv64"] {
        for text in odd {
            let mut fake = Fake::empty(arch);
            for path in [
                "/proc/cpuinfo",
                "/proc/modules",
                "/proc/self/status",
                "/proc/1/cgroup",
                "/etc/group",
                "/etc/passwd",
                "/proc/version",
                "/sys/class/dmi/id/sys_vendor",
                "/sys/hypervisor/type",
            ] {
                fake.file(path, text);
            }
            for node in nodes {
                fake.host.node = node;
                for trial in &trials {
                    let report = judge(&fake.host, trial);
                    let healthy = matches!(trial, Trial::Vm(Ok(_)));
                    assert_eq!(report.usable(), healthy, "{arch} {text:?} {node:?} {trial:?}");
                }
            }
        }
    }
}

#[test]
fn a_host_without_proc_and_sys_is_judged_by_the_device_alone() {
    let mut fake = Fake::empty("x86_64");
    fake.host.root = fake.host.root.join("nothing");
    assert!(judge(&fake.host, &on_cpu()).usable());
    let (id, finding, _) = fake.closed(libc::EACCES);
    assert_eq!(id, "kvm-device");
    assert_eq!(
        finding,
        "this user may not open /dev/kvm: it belongs to user 0 and group 108, mode 0660"
    );
    assert_eq!(fake.check("kvm-cpu", &Trial::Closed(libc::EACCES)).verdict, Verdict::Warn);
    assert_eq!(fake.check("kvm-module", &Trial::Closed(libc::EACCES)).verdict, Verdict::Warn);
}
