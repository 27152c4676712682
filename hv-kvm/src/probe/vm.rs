//! `kvm-api`, `kvm-vm`, `kvm-run`, `kvm-instructions`: what KVM does once it is open.

use hv::{Check, OsCode};

use super::host::Host;
use super::module;
use super::place::Container;
use super::trial::{API, PATIENCE, Trial};
use super::{Execution, Ran};

const API_ID: &str = "kvm-api";
const VM: &str = "kvm-vm";
const RUN: &str = "kvm-run";
const INSTRUCTIONS: &str = "kvm-instructions";

/// The checks behind the device's, as far as the trial came.
pub(super) fn checks(host: &Host, trial: &Trial) -> Vec<Check> {
    let api = Check::ok(API_ID, format!("KVM API {API}"));
    match trial {
        Trial::Closed(_) => Vec::new(),
        Trial::Mute(errno) => vec![Check::fail(
            API_ID,
            format!("/dev/kvm does not answer as KVM: {}", OsCode::Errno(*errno)),
            "make sure that /dev/kvm is the character device 10:232 (`ls -l /dev/kvm`)",
        )],
        Trial::Version(version) => vec![Check::fail(
            API_ID,
            format!("KVM speaks version {version} of its API, and {API} is needed"),
            "boot Linux 4.12 or later",
        )],
        Trial::Silent => vec![Check::fail(
            RUN,
            format!("KVM did not answer within {} seconds", PATIENCE.as_secs()),
            "the kernel log may say why: `sudo dmesg | grep -i kvm`",
        )],
        Trial::NoThread(errno) => vec![Check::fail(
            RUN,
            format!("runner cannot start a thread: {}", OsCode::Errno(*errno)),
            "raise this user's limit of processes (`ulimit -u`)",
        )],
        Trial::Lacks(what) => vec![Check::fail(
            API_ID,
            format!("this host's KVM cannot run runner's guests: {what}"),
            match host.is_x86() {
                true => "boot Linux 4.12 or later",
                false => "boot Linux 5.5 or later",
            },
        )],
        Trial::NoVm(errno) => vec![api, no_vm(host, *errno)],
        Trial::Vm(ran) => {
            let mut checks = vec![api, Check::ok(VM, "a VM can be made")];
            checks.extend(ran_checks(ran));
            checks
        }
    }
}

/// KVM_CREATE_VM failed.
fn no_vm(host: &Host, errno: i32) -> Check {
    let rivals = module::rivals(host);
    let finding = format!("KVM cannot make a VM: {}", OsCode::Errno(errno));
    match errno {
        libc::EBUSY if rivals.is_empty() => Check::fail(
            VM,
            format!("{finding}; another hypervisor holds the CPU's virtualization"),
            "stop the other hypervisor (VirtualBox, VMware, Xen, an emulator with its own kernel \
             module), then try again",
        ),
        libc::EBUSY => {
            let names: Vec<&str> = rivals.iter().map(|(_, name)| *name).collect();
            let modules: Vec<&str> = rivals.iter().map(|(module, _)| *module).collect();
            Check::fail(
                VM,
                format!("{finding}; {} holds the CPU's virtualization", names.join(" or ")),
                format!(
                    "switch off the VMs of {}; if that is not enough, `sudo modprobe -r {}`",
                    names.join(" and "),
                    modules.join(" ")
                ),
            )
        }
        libc::ENOMEM | libc::EMFILE | libc::ENFILE => Check::fail(
            VM,
            finding,
            "free memory or file descriptors (`ulimit -n`), then try again",
        ),
        libc::EPERM | libc::EACCES if Container::around(host).is_some() => Check::fail(
            VM,
            finding,
            "the container's seccomp profile refuses KVM: allow ioctl in it, or use the default one",
        ),
        _ => Check::fail(VM, finding, "the kernel log may say why: `sudo dmesg | grep -i kvm`"),
    }
}

/// How the first instructions went.
fn ran_checks(ran: &Result<Ran, String>) -> Vec<Check> {
    match ran {
        Err(why) => vec![Check::fail(
            RUN,
            format!("a VM can be made and its first instructions do not run: {why}"),
            "the kernel log may say why: `sudo dmesg | grep -i kvm`; `runner --accel=off` does \
             without KVM",
        )],
        Ok(ran) => vec![execution(ran.execution), instructions(ran)],
    }
}

fn execution(execution: Execution) -> Check {
    match execution {
        Execution::OnCpu => Check::ok(RUN, execution.to_string()),
        Execution::Interpreted { .. } => Check::warn(
            RUN,
            execution.to_string(),
            "guests start slowly here, and only those whose kernel keeps to general-purpose \
             instructions; for others use `--accel=off`, a physical machine, or a virtual one with \
             nested virtualization",
        ),
    }
}

fn instructions(ran: &Ran) -> Check {
    if ran.failed.is_empty() {
        return Check::ok(INSTRUCTIONS, "all instructions tried are executed");
    }
    Check::warn(
        INSTRUCTIONS,
        format!("KVM fails to execute in guests: {}", ran.failed.join(", ")),
        "guests that use them fail here: run them with `--accel=off`, or on a host whose CPU \
         executes guest code",
    )
}
