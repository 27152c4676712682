//! `kvm-module`: which of KVM's kernel modules are there (proc_modules(5), `/sys/module`,
//! `/lib/modules/RELEASE/modules.{builtin,dep}`).

use hv::Check;

use super::cpu;
use super::host::Host;
use super::place::{Container, Machine, Wsl};
use super::trial::Trial;

const ID: &str = "kvm-module";

/// The half of KVM that all vendors share.
const KVM: &str = "kvm";
const INTEL: &str = "kvm_intel";
const AMD: &str = "kvm_amd";
/// Para-virtual: needs no virtualization from the CPU.
pub(super) const PVM: &str = "kvm_pvm";

/// The modules of other hypervisors that can hold the CPU's virtualization, and whose they are.
const RIVALS: [(&str, &str); 2] = [("vboxdrv", "VirtualBox"), ("vmmon", "VMware")];

/// The check, on an x86 host. An arm64 kernel has KVM built in.
pub(super) fn check(host: &Host, trial: &Trial) -> Option<Check> {
    if !host.is_x86() {
        return None;
    }
    let loaded = loaded(host);
    let halves: Vec<&str> = loaded.iter().copied().filter(|name| *name != KVM).collect();
    Some(if !halves.is_empty() && (trial.works() || ready(host)) {
        let named: Vec<String> = halves.iter().map(|name| describe(host, name)).collect();
        Check::ok(ID, named.join(", "))
    } else if trial.works() {
        Check::ok(ID, "KVM works; /proc and /sys do not tell which module it is")
    } else if !halves.is_empty() {
        let names = halves.join(" and ");
        Check::fail(ID, format!("{names} is loaded, for another vendor's CPU"), load(host))
    } else if !host.exists("/proc/modules") && !host.exists("/sys/module") {
        Check::warn(
            ID,
            "/proc and /sys cannot be read, so whether KVM is loaded is not known",
            "mount /proc and /sys",
        )
    } else if loaded.contains(&KVM) {
        let missing = wanted(host).unwrap_or("its half for this CPU");
        Check::fail(ID, format!("the module kvm is loaded and {missing} is not"), load(host))
    } else {
        Check::fail(ID, "the kernel has not loaded KVM", load(host))
    })
}

/// Whether a module is loaded that can drive this CPU, as far as vendors tell.
pub(super) fn ready(host: &Host) -> bool {
    let wanted = wanted(host);
    let fits = |name: &&str| *name == PVM || *name != KVM && wanted.is_none_or(|it| it == *name);
    loaded(host).iter().any(fits)
}

/// KVM's modules that are loaded or built in.
pub(super) fn loaded(host: &Host) -> Vec<&'static str> {
    let list = host.text("/proc/modules").unwrap_or_default();
    let there = |name: &&str| listed(&list, name) || host.exists(&format!("/sys/module/{name}"));
    [KVM, INTEL, AMD, PVM].into_iter().filter(there).collect()
}

/// The loaded modules of other hypervisors, and whose they are.
pub(super) fn rivals(host: &Host) -> Vec<(&'static str, &'static str)> {
    let list = host.text("/proc/modules").unwrap_or_default();
    RIVALS.into_iter().filter(|(name, _)| listed(&list, name)).collect()
}

fn listed(modules: &str, name: &str) -> bool {
    modules.lines().any(|line| line.split_whitespace().next() == Some(name))
}

/// The module for this CPU's vendor.
fn wanted(host: &Host) -> Option<&'static str> {
    match host.cpuinfo("vendor_id")?.trim() {
        "GenuineIntel" | "CentaurHauls" | "Shanghai" => Some(INTEL),
        "AuthenticAMD" | "HygonGenuine" => Some(AMD),
        _ => None,
    }
}

fn describe(host: &Host, name: &str) -> String {
    let built_in = !listed(&host.text("/proc/modules").unwrap_or_default(), name);
    let note = if name == PVM { " (para-virtual)" } else { "" };
    if built_in {
        format!("{name}{note} is built into the kernel")
    } else {
        format!("{name}{note} is loaded")
    }
}

/// How the module gets loaded, or why it cannot be.
fn load(host: &Host) -> String {
    if let Some(wsl) = Wsl::around(host) {
        return wsl.remedy().into();
    }
    let command = match wanted(host) {
        Some(module) => format!("`sudo modprobe {module}`"),
        None => "`sudo modprobe kvm_intel` or `sudo modprobe kvm_amd`".into(),
    };
    if host.cpu_flag("vmx") == Some(false) && host.cpu_flag("svm") == Some(false) {
        return format!("mend kvm-cpu first, then {command}");
    }
    if Container::around(host).is_some() {
        return format!("on the host of this container: {command}");
    }
    match on_disk(host, wanted(host)) {
        OnDisk::Unknown | OnDisk::There => format!("{command}{}", refusals(host)),
        OnDisk::Gone(release) => format!(
            "reboot: the running kernel {release} has no modules on disk any more, as after an \
             update"
        ),
        OnDisk::Without(release) => format!(
            "boot a kernel that has KVM: {release} was installed without it (some distributions \
             have it in a package of extra modules)"
        ),
    }
}

/// What `modprobe` may answer, and what to do then.
fn refusals(host: &Host) -> String {
    let mut text = String::new();
    for (_, name) in rivals(host) {
        let busy = "if that says \"Device or resource busy\"";
        text += &format!("; {busy}, switch off the VMs of {name} first");
    }
    // Kernels before 6.9 show svm although the firmware has switched it off.
    if Machine::around(host) == Machine::Physical {
        text += &format!(
            "; if that says \"Operation not supported\", switch on {} in the BIOS or UEFI settings",
            cpu::setting(host)
        );
    }
    text
}

/// Whether the module could be loaded from disk.
enum OnDisk {
    There,
    /// No directory for the running kernel, and one for another.
    Gone(String),
    /// A directory for the running kernel, without KVM.
    Without(String),
    Unknown,
}

fn on_disk(host: &Host, module: Option<&str>) -> OnDisk {
    let Some(release) = host.line("/proc/sys/kernel/osrelease") else { return OnDisk::Unknown };
    let directory = format!("/lib/modules/{release}");
    if !host.exists("/lib/modules") {
        return OnDisk::Unknown;
    }
    if !host.exists(&directory) {
        return OnDisk::Gone(release);
    }
    // File names have a dash where module names have an underscore.
    let file = format!("/{}.ko", module.unwrap_or(KVM).replace('_', "-"));
    let lists = [format!("{directory}/modules.dep"), format!("{directory}/modules.builtin")];
    let texts: Vec<String> = lists.iter().filter_map(|list| host.text(list)).collect();
    if texts.is_empty() {
        OnDisk::Unknown
    } else if texts.iter().any(|text| text.contains(&file)) {
        OnDisk::There
    } else {
        OnDisk::Without(release)
    }
}
