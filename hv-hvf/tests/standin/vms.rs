//! VMs: RAM, order, limits, failures on the way.

use std::os::fd::AsFd;

use hv::{
    Address, Doorbell, Error, GuestRam, Hypervisor, Kind, OsCode, RamFlags, Slot, VcpuSeed, Vm,
    VmConfig, Width, mem,
};
use hv_hvf::{Hvf, HvfVm};
use hvf_standin::{Session, code};

use super::{RAM, boot, config, ram, with_gic};

fn create(config: VmConfig) -> hv::Result<HvfVm> {
    Hvf::open()?.create(config).map(|(vm, _)| vm)
}

fn slot(gpa: u64, len: u64) -> Slot {
    Slot { region: mem::Region::new(gpa, ram(len)).unwrap(), flags: RamFlags::default() }
}

#[test]
fn limits_are_the_frameworks() {
    let session = Session::begin();
    session.host(|host| (host.max_ipa_bits, host.max_vcpus) = (42, 10));
    let hvf = Hvf::open().unwrap();
    let caps = hvf.caps();
    assert_eq!((caps.address_bits, caps.max_vcpus, caps.granule), (42, 10, 16384));
    assert!(caps.msi && caps.read_only_ram && caps.hypercalls);
    assert!(!caps.doorbell && !caps.dirty_log);
    assert_eq!(create(config().vcpus(11)).unwrap_err().kind, Kind::Exhausted);
    session.fail("hv_vm_get_max_vcpu_count", code::HV_UNSUPPORTED);
    assert_eq!(Hvf::open().unwrap_err().kind, Kind::Unsupported);
}

#[test]
fn the_vm_comes_first_then_ram_then_the_gic_and_vcpus_last() {
    let session = Session::begin();
    let vm_and_vcpu = boot(with_gic());
    drop(vm_and_vcpu);
    let milestones = [
        "hv_vm_config_set_ipa_size",
        "hv_vm_create",
        "hv_vm_map",
        "hv_gic_create",
        "hv_vcpu_create",
        "hv_vcpu_destroy",
        "hv_vm_destroy",
    ];
    let order: Vec<_> =
        session.order().into_iter().filter(|call| milestones.contains(call)).collect();
    assert_eq!(order, milestones);
    assert_eq!(session.calls("hv_vm_config_set_ipa_size"), [[40]]);
    assert_eq!(session.calls("hv_gic_config_set_distributor_base"), [[0x0800_0000]]);
    assert_eq!(session.calls("hv_gic_config_set_redistributor_base"), [[0x080a_0000]]);
    assert_eq!(session.calls("hv_gic_config_set_msi_region_base"), [[0x0802_0000]]);
    assert_eq!(session.calls("hv_gic_config_set_msi_interrupt_range"), [[80, 64]]);
}

#[test]
fn ram_is_mapped_with_its_permissions() {
    const READ_EXEC: u64 = 0b101;
    const ALL: u64 = 0b111;
    let session = Session::begin();
    let flags = RamFlags { read_only: true, log_dirty: false };
    let _vm = create(config().ram(0x2000_0000, ram(0x8000), flags).unwrap()).unwrap();
    let calls = session.calls("hv_vm_map");
    assert_eq!(calls, [[0x2000_0000, 0x8000, READ_EXEC], [RAM, 1 << 20, ALL]]);
}

#[test]
fn ram_can_be_added_and_taken_away() {
    let session = Session::begin();
    let vm = create(config()).unwrap();
    assert_eq!(vm.map(slot(RAM + 0x4000, 0x4000)).unwrap_err().kind, Kind::Busy);
    let other = slot(0x5000_0000, 0x4000);
    let pages = std::sync::Arc::downgrade(other.region.ram());
    vm.map(other).unwrap();
    assert!(pages.upgrade().is_some(), "the VM keeps what the guest can reach");
    vm.unmap(0x5000_0000).unwrap();
    assert!(pages.upgrade().is_none(), "and nothing else");
    assert_eq!(vm.unmap(0x5000_0000).unwrap_err().kind, Kind::Invalid);
    assert_eq!(session.calls("hv_vm_unmap"), [[0x5000_0000, 0x4000]]);
    session.fail("hv_vm_map", code::HV_NO_RESOURCES);
    let error = vm.map(slot(0x5000_0000, 0x4000)).unwrap_err();
    assert_eq!((error.kind, error.os_code), (Kind::Exhausted, Some(OsCode::Hv(0xfae9_4005))));
    assert!(error.to_string().contains("0x4000 bytes of RAM at GPA 0x50000000"), "{error}");
}

#[test]
fn ram_where_the_framework_cannot_have_it_is_refused_beforehand() {
    let _session = Session::begin();
    let kind = |gpa, len| {
        let config = VmConfig::new().ram(gpa, ram(len), RamFlags::default()).unwrap();
        create(config).unwrap_err().kind
    };
    assert_eq!(kind(0, 1 << 20), Kind::Invalid);
    assert_eq!(kind(RAM + 0x1000, 0x4000), Kind::Invalid);
    assert_eq!(kind(RAM, 0x1000), Kind::Invalid);
    assert_eq!(kind(1 << 40, 0x4000), Kind::Unsupported);
    let over_the_gic = with_gic().ram(0x0700_0000, ram(0x0200_0000), RamFlags::default()).unwrap();
    assert_eq!(create(over_the_gic).unwrap_err().kind, Kind::Invalid);
    let vm = create(with_gic()).unwrap();
    assert_eq!(vm.map(slot(0, 0x4000)).unwrap_err().kind, Kind::Invalid);
    // Distributor, MSI frame, redistributors: their first and their last 16 KiB.
    for gpa in [0x0800_0000, 0x0800_c000, 0x0802_0000, 0x0802_c000, 0x080a_0000, 0x0889_c000] {
        let error = vm.map(slot(gpa, 0x4000)).unwrap_err();
        assert!(error.to_string().contains("covers the interrupt controller"), "{error}");
    }
}

#[test]
fn a_failure_on_the_way_names_the_call_and_leaves_nothing_behind() {
    let session = Session::begin();
    for call in [
        "hv_vm_config_set_ipa_size",
        "hv_vm_create",
        "hv_vm_map",
        "hv_gic_get_spi_interrupt_range",
        "hv_gic_get_distributor_size",
        "hv_gic_get_distributor_base_alignment",
        "hv_gic_get_redistributor_region_size",
        "hv_gic_get_redistributor_base_alignment",
        "hv_gic_get_msi_region_size",
        "hv_gic_get_msi_region_base_alignment",
        "hv_gic_config_set_distributor_base",
        "hv_gic_config_set_redistributor_base",
        "hv_gic_config_set_msi_region_base",
        "hv_gic_config_set_msi_interrupt_range",
        "hv_gic_create",
    ] {
        session.fail(call, code::HV_ERROR);
        let error: Error = create(with_gic()).unwrap_err();
        assert_eq!((error.op, error.kind), (call, Kind::Host));
    }
    create(with_gic()).unwrap();
}

#[test]
fn a_layout_that_the_framework_cannot_have_is_refused() {
    let session = Session::begin();
    session.host(|host| host.redistributor_region_size = 0x100_0000);
    let error = create(with_gic()).unwrap_err();
    assert_eq!(error.kind, Kind::Unsupported);
    assert!(error.to_string().contains("redistributors"), "{error}");
}

#[test]
fn a_missing_entitlement_comes_with_the_command_that_gives_it() {
    let session = Session::begin();
    session.fail("hv_vm_create", code::HV_DENIED);
    let error = create(config()).unwrap_err();
    assert_eq!(error.kind, Kind::Permission);
    assert!(error.to_string().contains("codesign --sign - --force --entitlements"), "{error}");
}

#[test]
fn a_second_vm_has_to_wait_for_the_end_of_the_first() {
    let _session = Session::begin();
    let (first, vcpu) = boot(config());
    let error = create(config()).unwrap_err();
    assert_eq!(error.kind, Kind::Busy);
    assert!(error.to_string().contains("one VM per process"), "{error}");
    drop(first);
    assert_eq!(create(config()).unwrap_err().kind, Kind::Busy, "its vCPU keeps it");
    drop(vcpu);
    create(config()).unwrap();
}

#[test]
fn memory_outlives_the_vm_that_could_not_be_destroyed() {
    let session = Session::begin();
    let pages = GuestRam::new(1 << 20).unwrap();
    let kept = std::sync::Arc::downgrade(&pages);
    let vm = create(VmConfig::new().ram(RAM, pages, RamFlags::default()).unwrap()).unwrap();
    session.fail("hv_vm_destroy", code::HV_BUSY);
    drop(vm);
    assert!(kept.upgrade().is_some(), "the guest could still reach it");
    let found = session.end();
    assert_eq!(found, ["the VM was not destroyed"]);
}

#[test]
fn doorbells_and_a_log_of_written_pages_are_unsupported() {
    let _session = Session::begin();
    let (vm, mut seeds) = Hvf::open().unwrap().create(config()).unwrap();
    let bell = Doorbell { at: Address::Mmio(0x1000_0000), value: Some((Width::W4, 1)) };
    let (_reader, writer) = std::io::pipe().unwrap();
    assert_eq!(vm.doorbell(bell, writer.as_fd()).unwrap_err().kind, Kind::Order);
    let _vcpu = seeds.pop().unwrap().bind().unwrap();
    vm.ready().unwrap();
    assert_eq!(vm.doorbell(bell, writer.as_fd()).unwrap_err().kind, Kind::Unsupported);
    assert_eq!(vm.dirty(RAM).unwrap_err().kind, Kind::Unsupported);
    let logged = RamFlags { log_dirty: true, read_only: false };
    let config = VmConfig::new().ram(RAM, ram(0x4000), logged).unwrap();
    assert_eq!(create(config).unwrap_err().kind, Kind::Unsupported);
}

#[test]
fn the_probe_says_where_the_framework_lives() {
    if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
        println!("skipped: this host has the framework");
        return;
    }
    let report = Hvf::probe();
    assert!(!report.usable());
    let failure = report.failure().unwrap();
    assert!(failure.finding.contains("macOS"), "{failure:?}");
}

#[test]
fn a_description_says_who_the_framework_is() {
    let _session = Session::begin();
    let description = Hvf::open().unwrap().describe();
    assert!(description.ends_with("guest code runs on the CPU"), "{description}");
}
