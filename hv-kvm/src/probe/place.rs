//! Where this process runs: in a container, under WSL, on a CI service, on which virtual machine.
//! The causes people meet have their remedies there, and seldom where the failure shows.

use super::host::Host;

/// What a user namespace shows for users and groups of the host that it does not have.
pub(super) const UNMAPPED: u32 = 65534;

/// A container, by what made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Docker,
    Podman,
    Kubernetes,
    Lxc,
    Nspawn,
    /// A job of GitHub Actions with `container:`.
    GithubJob,
    /// One that does not say.
    Other,
}

impl Container {
    /// The container this process is in, if it is.
    pub(super) fn around(host: &Host) -> Option<Self> {
        let cgroup = host.text("/proc/1/cgroup").unwrap_or_default();
        // PID 1 of a container may carry its maker's name; so may our own environment.
        let maker = host
            .variable("container")
            .map(str::to_owned)
            .or_else(|| host.line("/run/systemd/container"))
            .unwrap_or_default();
        let docker = host.exists("/.dockerenv");
        let podman = host.exists("/run/.containerenv");
        if host.variable("KUBERNETES_SERVICE_HOST").is_some() || cgroup.contains("kubepods") {
            Some(Container::Kubernetes)
        } else if docker && host.variable("GITHUB_ACTIONS").is_some() {
            Some(Container::GithubJob)
        } else if podman || maker == "podman" {
            Some(Container::Podman)
        } else if docker || cgroup.contains("docker") || maker == "docker" {
            Some(Container::Docker)
        } else if maker.starts_with("lxc") || cgroup.contains("/lxc") {
            Some(Container::Lxc)
        } else if maker == "systemd-nspawn" {
            Some(Container::Nspawn)
        } else if !maker.is_empty() && maker != "wsl" || cgroup.contains("containerd") {
            Some(Container::Other)
        } else {
            None
        }
    }

    /// How a finding calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Container::Docker => "a Docker container",
            Container::Podman => "a Podman container",
            Container::Kubernetes => "a Kubernetes pod",
            Container::Lxc => "an LXC container",
            Container::Nspawn => "a systemd-nspawn container",
            Container::GithubJob => "a container job of GitHub Actions",
            Container::Other => "a container",
        }
    }

    /// How it gets the device.
    pub(super) const fn device(self) -> &'static str {
        match self {
            Container::Docker => "start it with `docker run --device /dev/kvm …`",
            Container::Podman => {
                "start it with `podman run --device /dev/kvm --group-add keep-groups …`"
            }
            Container::Kubernetes => {
                "give the pod the device: a device plugin that offers /dev/kvm, or a privileged \
                 container with a hostPath volume of it"
            }
            Container::Lxc => {
                "on the host: `lxc config device add NAME kvm unix-char path=/dev/kvm`"
            }
            Container::Nspawn => {
                "start it with `systemd-nspawn --bind=/dev/kvm --property=DeviceAllow='/dev/kvm rw' …`"
            }
            Container::GithubJob => {
                "in the workflow, below `container:`, set `options: --device /dev/kvm`"
            }
            Container::Other => "start it with the device /dev/kvm of its host",
        }
    }

    /// How its user gets into the device's group, whose number in here is `gid`.
    pub(super) fn group(self, gid: u32) -> String {
        match self {
            Container::Podman => self.device().into(),
            _ if gid == UNMAPPED => "on the host: `sudo chmod 666 /dev/kvm` (a rootless container \
                                     does not get its user's groups)"
                .into(),
            Container::Docker => {
                format!("start it with `docker run --device /dev/kvm --group-add {gid} …`")
            }
            Container::GithubJob => format!(
                "in the workflow, below `container:`, set \
                 `options: --device /dev/kvm --group-add {gid}`"
            ),
            Container::Kubernetes => {
                format!("in the pod's securityContext, set `supplementalGroups: [{gid}]`")
            }
            Container::Lxc => "on the host: `lxc config device set NAME kvm mode=0666`".into(),
            Container::Nspawn | Container::Other => {
                format!("in the container, `sudo groupadd --gid {gid} kvm` and join that group")
            }
        }
    }
}

/// The Windows Subsystem for Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wsl {
    /// No Linux kernel at all.
    One,
    /// A Linux kernel in a VM.
    Two,
}

impl Wsl {
    /// The one this process is in, if it is.
    pub(super) fn around(host: &Host) -> Option<Self> {
        let version = host.text("/proc/version")?.to_ascii_lowercase();
        if version.contains("microsoft-standard") || version.contains("wsl2") {
            Some(Wsl::Two)
        } else if version.contains("microsoft") {
            // A kernel of one's own in WSL2 need not say so; WSL1 cannot have one.
            Some(if host.exists("/run/WSL") { Wsl::Two } else { Wsl::One })
        } else {
            None
        }
    }

    /// How it gets virtualization.
    pub(super) const fn remedy(self) -> &'static str {
        match self {
            Wsl::One => "WSL 1 has no Linux kernel: in Windows, `wsl --set-version DISTRIBUTION 2`",
            Wsl::Two => {
                "on Windows 11, put `nestedVirtualization=true` below `[wsl2]` into \
                 %UserProfile%\\.wslconfig, then `wsl --shutdown` and start again; Windows 10 \
                 cannot do it"
            }
        }
    }
}

/// What the machine says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// Nothing speaks for a virtual one.
    Physical,
    /// A virtual one of a known kind.
    Known(&'static Kind),
    /// A virtual one by the name its firmware gives.
    Virtual(Option<String>),
}

/// A kind of virtual machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// How a finding calls it.
    name: &'static str,
    /// Where nested virtualization is switched on.
    nesting: &'static str,
}

const GCP: Kind = Kind {
    name: "Google Compute Engine",
    nesting: "create the instance with `gcloud compute instances create … \
              --enable-nested-virtualization` (an Intel machine type other than E2), or set \
              advancedMachineFeatures.enableNestedVirtualization of a stopped one",
};
const EC2: Kind = Kind {
    name: "Amazon EC2",
    nesting: "use a *.metal instance type, or one that nests (C8i, M8i, R8i) launched with \
              `--cpu-options NestedVirtualization=enabled`",
};
const AZURE: Kind = Kind {
    name: "Microsoft Azure",
    nesting: "use a size with nested virtualization (Dv5 and Ev5 with Intel CPUs are), with the \
              security type Standard",
};
const HYPER_V: Kind = Kind {
    name: "Hyper-V",
    nesting: "switch the VM off, then on the Windows host, as administrator: \
              `Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true`",
};
const VMWARE: Kind = Kind {
    name: "VMware",
    nesting: "switch the VM off, then check \"Virtualize Intel VT-x/EPT or AMD-V/RVI\" in its \
              processor settings (`vhv.enable = \"TRUE\"` in its .vmx file)",
};
const VIRTUALBOX: Kind = Kind {
    name: "VirtualBox",
    nesting: "switch the VM off, then on the host: `VBoxManage modifyvm NAME --nested-hw-virt on`",
};
const PARALLELS: Kind = Kind {
    name: "Parallels",
    nesting: "switch the VM off, then on the Mac: `prlctl set NAME --nested-virt on` (Intel Macs, \
              and Apple silicon from M3 on)",
};
const APPLE: Kind = Kind {
    name: "Apple's Virtualization framework",
    nesting: "switch on nested virtualization in the program that started the VM (macOS 15 on \
              Apple silicon from M3 on)",
};
const QEMU: Kind = Kind {
    name: "KVM or QEMU",
    nesting: "on the host, give the VM the host's CPU (`-cpu host`, in libvirt \
              `<cpu mode='host-passthrough'/>`) and load KVM with `nested=1`",
};
const XEN: Kind = Kind {
    name: "Xen",
    nesting: "use a host that nests, or boot this one without Xen if it is the host (dom0)",
};

/// The mark of Azure among Hyper-V's machines: the asset tag of its chassis.
const AZURE_CHASSIS: &str = "7783-7084-3265-9085-8269-3286-77";

impl Machine {
    /// This one.
    pub(super) fn around(host: &Host) -> Self {
        let dmi = |name: &str| host.line(&format!("/sys/class/dmi/id/{name}")).unwrap_or_default();
        let (vendor, product) = (dmi("sys_vendor"), dmi("product_name"));
        if vendor == "Amazon EC2" && product.contains(".metal") {
            return Machine::Physical;
        }
        if let Some(kind) = known(&vendor, &product, &dmi("chassis_asset_tag")) {
            return Machine::Known(kind);
        }
        if host.line("/sys/hypervisor/type").is_some_and(|kind| kind == "xen") {
            return Machine::Known(&XEN);
        }
        match host.cpu_flag("hypervisor") {
            Some(true) => Machine::Virtual((!vendor.is_empty()).then_some(vendor)),
            _ => Machine::Physical,
        }
    }

    /// What a finding adds about it.
    pub(super) fn name(&self) -> String {
        match self {
            Machine::Physical => "a physical machine".into(),
            Machine::Known(kind) => format!("a virtual machine ({})", kind.name),
            Machine::Virtual(Some(vendor)) => format!("a virtual machine ({vendor})"),
            Machine::Virtual(None) => "a virtual machine".into(),
        }
    }

    /// Where nested virtualization is switched on; nothing on a physical one.
    pub(super) fn nesting(&self) -> Option<&'static str> {
        match self {
            Machine::Physical => None,
            Machine::Known(kind) => Some(kind.nesting),
            Machine::Virtual(_) => Some(
                "switch on nested virtualization where this machine is configured; if its provider \
                 has no such setting, use another machine",
            ),
        }
    }
}

/// Which kind the names in the firmware's tables belong to.
fn known(vendor: &str, product: &str, chassis: &str) -> Option<&'static Kind> {
    if product == "Google Compute Engine" || vendor == "Google" {
        Some(&GCP)
    } else if vendor == "Amazon EC2" {
        Some(&EC2)
    } else if vendor == "Microsoft Corporation" && product == "Virtual Machine" {
        Some(if chassis == AZURE_CHASSIS { &AZURE } else { &HYPER_V })
    } else if vendor.starts_with("VMware") || product.starts_with("VMware") {
        Some(&VMWARE)
    } else if vendor.starts_with("innotek") || product == "VirtualBox" {
        Some(&VIRTUALBOX)
    } else if vendor.starts_with("Parallels") {
        Some(&PARALLELS)
    } else if vendor == "Apple Inc." && product.contains("Virtual") {
        Some(&APPLE)
    } else if vendor == "QEMU" || product == "KVM" || product.starts_with("Standard PC") {
        Some(&QEMU)
    } else if vendor == "Xen" || product.starts_with("HVM domU") {
        Some(&XEN)
    } else {
        None
    }
}
