//! `/dev/kvm`: opening it, its abilities, creating VMs.

use hv::{Caps, Error, HostReport, Hypervisor, Kind, Parts, Result, Roster, VmConfig};
use kvm_ioctls::Cap;

use crate::arch;
use crate::error::call;
use crate::vcpu::{KvmSeed, KvmVcpu};
use crate::vm::KvmVm;
use crate::{kick, probe};

/// The only API version there has ever been (api.rst 4.1).
const API_VERSION: i32 = 12;

/// KVM on this host.
#[derive(Debug)]
pub struct Kvm {
    fd: kvm_ioctls::Kvm,
    caps: Caps,
}

impl Hypervisor for Kvm {
    type Vm = KvmVm;
    type Seed = KvmSeed;
    type Vcpu = KvmVcpu;

    const NAME: &'static str = "kvm";

    fn probe() -> HostReport {
        probe::report()
    }

    fn open() -> Result<Self> {
        let fd = call("open /dev/kvm", kvm_ioctls::Kvm::new())?;
        let version = fd.get_api_version();
        if version != API_VERSION {
            let why = format!("version {version}, where {API_VERSION} is needed");
            return Err(Error::new("KVM_GET_API_VERSION", Kind::Unsupported, why));
        }
        arch::require(&fd)?;
        kick::install_handler()?;
        let caps = caps(&fd);
        Ok(Self { fd, caps })
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn describe(&self) -> String {
        match probe::execution() {
            Ok(execution) => format!("{}, {execution}", self.caps.description),
            Err(why) => format!("{}, {why}", self.caps.description),
        }
    }

    fn create(&self, config: VmConfig) -> Result<(KvmVm, Vec<KvmSeed>)> {
        let Parts { slots, irqchip, vcpus, hypercalls, interval_timer, monitors } =
            config.check(&self.caps)?;
        let roster = Roster::new(vcpus);
        let vm = KvmVm::create(&self.fd, self.caps.clone(), slots, irqchip, roster)?;
        let seeds = vm.create_irqchip(|| {
            if interval_timer {
                arch::create_interval_timer(vm.fd())?;
            }
            arch::show_hypercalls(vm.fd(), &hypercalls)?;
            let mut setup = arch::VcpuSetup::new(&self.fd, vm.fd(), irqchip, vcpus)?;
            if monitors {
                setup = setup.with_monitors();
            }
            (0..vcpus).map(|id| KvmSeed::create(&vm, id, setup.clone())).collect::<Result<_>>()
        })?;
        Ok((vm, seeds))
    }
}

fn caps(fd: &kvm_ioctls::Kvm) -> Caps {
    Caps {
        arch: arch::ARCH,
        description: format!("/dev/kvm, API {API_VERSION}"),
        max_vcpus: arch::max_vcpus(u32::try_from(fd.get_max_vcpus()).unwrap_or(u32::MAX)),
        address_bits: arch::address_bits(fd),
        granule: 4096,
        doorbell: fd.check_extension(Cap::Ioeventfd),
        msi: arch::HAS_MSI && fd.check_extension(Cap::SignalMsi),
        dirty_log: true,
        read_only_ram: fd.check_extension(Cap::ReadonlyMem),
        hypercalls: arch::can_show_hypercalls(fd),
        interval_timer: arch::has_interval_timer(fd),
        monitors: arch::monitors(fd),
    }
}
