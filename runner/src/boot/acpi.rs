//! ACPI tables for x86_64 (ACPI 6.5, chapter 5; crate `acpi_tables`): RSDP, XSDT, FADT, MADT, DSDT.
//!
//! Hardware-reduced ACPI: no fixed hardware, so no PM timer and no SCI, and Linux sets up neither 8259
//! nor PIT, although KVM has both 8259s and the MADT says so. Linux then has its clocks from KVM; in
//! software emulation it has none but the PIT, so there the tables say that there is fixed hardware.
//!
//! No `\_S5` but for guests that have no other way to end: a guest that could switch itself off by ACPI would
//! take its exit status along (Nanos does). The reset register is the keyboard controller's, which is all of it that there is.

use acpi_tables::aml::{
    AddressSpace as Resource, AddressSpaceCacheable, Device, EISAName, IO, Interrupt,
    Memory32Fixed, Name, Package, PackageBuilder, Path, ResourceTemplate, Scope, ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, AmlSink};

use super::Platform;
use super::layout::RSDP;
use crate::devices::pci::bus::ECAM;
use crate::devices::rtc::CENTURY;
use crate::machine::map::pc::{
    COM1, COM1_LINE, IOAPIC, LOCAL_APIC, RESET_COMMAND, RESET_PORT, RTC,
};
use crate::machine::slot::{PciHost, Place, VIRTIO_SLOTS, VIRTIO_WINDOW, VirtioSlot};

const OEM: [u8; 6] = *b"RUNNER";
const OEM_TABLE: [u8; 8] = *b"RUNNERVM";
const OEM_REVISION: u32 = 1;
/// Bytes of a table's header.
const HEADER: u32 = 36;

/// FADT, IA-PC boot architecture flags (table 5.11): no VGA, no MSI. That bit 1 is not set says that
/// there is no keyboard controller, which a guest would look for a long time.
const NO_VGA: u16 = 1 << 2;
const NO_MSI: u16 = 1 << 3;

/// MADT: 8259s are there, as KVM's interrupt controllers have them.
const PCAT_COMPAT: u32 = 1;
/// A processor that can be used.
const ENABLED: u32 = 1;
/// The first APIC ID that only x2APIC structures can name: 255 is the broadcast.
const FIRST_X2APIC: u32 = 255;

/// The fixed hardware of [`Platform::Qemu`] (4.8.3): the PM1 event registers, status and enable, and the
/// control register, whose SCI_EN says that ACPI is on. They are memory behind the tables, so what a
/// guest writes is what it reads: at ports without a device they would read as ones, and Linux
/// complains of events that cannot be disabled.
const PM1_REGISTERS: [u8; 6] = [0, 0, 0, 0, 1, 0];
/// Bytes of them that are the event registers.
const PM1_EVENTS: u8 = 4;
const PM1_CONTROL: u8 = 2;
/// Their interrupt.
const SCI: u16 = 9;

/// A BIOS's first instructions, as far as there is one: they reset the machine by the keyboard
/// controller. Linux with hardware-reduced ACPI counts on EFI (`efi_reboot_required`), and without it
/// resets by nothing but a jump to these, in real mode.
pub(super) const RESET_CODE: [u8; 7] = [
    0xb0,
    RESET_COMMAND, // mov $RESET_COMMAND, %al
    0xe6,
    0x64, // out %al, $0x64
    0xf4, // 1: hlt
    0xeb,
    0xfd, // jmp 1b
];

/// What the tables describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Number of processors; the nth has the APIC ID n.
    pub cpus: u32,
    /// Virtio devices: those on mmio are announced here and nowhere else, those on the PCI bus are found
    /// there.
    pub virtio: Vec<VirtioSlot>,
    /// The PCI bus, if devices are there.
    pub pci: Option<PciHost>,
    /// The port at which the guest switches itself off, if it can: the sleep control register, and behind it
    /// the status register (4.8.3.7).
    pub power: Option<u16>,
    /// The port at which the guest says that it has panicked, if it can. In software emulation it cannot.
    pub panic: Option<u16>,
}

/// What a guest writes to sleep control to switch itself off (SLP_TYP), by `\_S5` (7.4.2.6).
const SLEEP_TYPE: u8 = 5;

impl Tables {
    /// All tables, to stand at [`RSDP`]: one address after the other, each at a multiple of 16.
    pub(super) fn bytes(&self, platform: Platform) -> Vec<u8> {
        let mut all = Area(vec![0; Rsdp::len()]);
        let dsdt = all.add(self.dsdt(platform).as_slice());
        let pm1 = match platform {
            Platform::Hypervisor => None,
            Platform::Qemu => Some(all.add(&PM1_REGISTERS)),
        };
        let msi = self.pci.is_some_and(|host| host.msi);
        let fadt = all.add(&fadt(dsdt, pm1, msi, self.power));
        let madt = all.add(self.madt(platform).as_slice());
        let mut xsdt = Sdt::new(*b"XSDT", HEADER, 1, OEM, OEM_TABLE, OEM_REVISION);
        let mcfg = self.pci.map(|host| all.add(&mcfg(&host)));
        for table in [fadt, madt].into_iter().chain(mcfg) {
            xsdt.append_slice(&table.to_le_bytes());
        }
        let xsdt = all.add(xsdt.as_slice());
        let mut bytes = all.0;
        let rsdp = serialized(&Rsdp::new(OEM, xsdt));
        for (to, from) in bytes.iter_mut().zip(rsdp) {
            *to = from;
        }
        bytes
    }

    /// Processors and the IOAPIC (5.2.12). Every interrupt of ours is where an ISA bus would have it,
    /// edge-triggered and active high, so none is overridden but the PIT's, which PCs have at pin 2.
    fn madt(&self, platform: Platform) -> Sdt {
        let mut body = Vec::new();
        body.dword(LOCAL_APIC);
        body.dword(PCAT_COMPAT);
        for id in 0..self.cpus {
            match u8::try_from(id) {
                // Processor local APIC (5.2.12.2): type, length, UID, APIC ID, flags.
                Ok(small) if id < FIRST_X2APIC => {
                    body.vec(&[0, 8, small, small]);
                    body.dword(ENABLED);
                }
                // Processor local x2APIC (5.2.12.12): type, length, reserved, ID, flags, UID.
                _ => {
                    body.vec(&[9, 16, 0, 0]);
                    body.dword(id);
                    body.dword(ENABLED);
                    body.dword(id);
                }
            }
        }
        // I/O APIC (5.2.12.3): type, length, ID, reserved, address, first interrupt.
        body.vec(&[1, 12, 0, 0]);
        body.dword(IOAPIC);
        body.dword(0);
        if platform == Platform::Qemu {
            // Interrupt source override (5.2.12.5): type, length, ISA bus, source; interrupt, flags.
            body.vec(&[2, 10, 0, 0]);
            body.dword(2);
            body.word(0);
        }
        let mut madt = Sdt::new(*b"APIC", HEADER, 5, OEM, OEM_TABLE, OEM_REVISION);
        madt.append_slice(&body);
        madt
    }

    fn dsdt(&self, platform: Platform) -> Sdt {
        let com1 = device(
            "COM1",
            &EISAName::new("PNP0501"),
            0,
            vec![&IO::new(COM1, COM1, 1, 8), &edge(COM1_LINE)],
        );
        let rtc = device("RTC_", &EISAName::new("PNP0B00"), 0, vec![&IO::new(RTC, RTC, 1, 2)]);
        let mut devices = [com1, rtc].concat();
        for slot in &self.virtio {
            let Place::Mmio { base, line } = slot.place else { continue };
            // Every slot is below 4 GiB, and there are few.
            let base = u32::try_from(base).unwrap_or_default();
            let window = u32::try_from(VIRTIO_WINDOW).unwrap_or_default();
            let window = Memory32Fixed::new(true, base, window);
            devices.extend(device(
                &format!("V{:03}", slot.index),
                &"LNRO0005",
                slot.index,
                vec![&window, &edge(line)],
            ));
        }
        if let Some(host) = &self.pci {
            devices.extend(pci(host));
        }
        if let (Some(port), Platform::Hypervisor) = (self.panic, platform) {
            devices.extend(device("PEVT", &"QEMU0001", 0, vec![&IO::new(port, port, 1, 1)]));
        }
        let scope = Scope::raw(Path::new("_SB_"), devices);
        let mut dsdt = Sdt::new(*b"DSDT", HEADER, 2, OEM, OEM_TABLE, OEM_REVISION);
        dsdt.append_slice(&scope);
        if self.power.is_some() {
            let sleep = Package::new(vec![&SLEEP_TYPE]);
            dsdt.append_slice(&serialized(&Name::new(Path::new("_S5_"), &sleep)));
        }
        dsdt
    }
}

/// `pm1`: where the registers of the fixed hardware are, if there is some; `power`: [`Tables::power`].
fn fadt(dsdt: u64, pm1: Option<u64>, msi: bool, power: Option<u16>) -> Vec<u8> {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    match pm1 {
        None => fadt = fadt.flag(Flags::HwReducedAcpi),
        Some(events) => {
            let register = |bytes: u8, address| {
                GAS::new(AddressSpace::SystemMemory, 8 * bytes, 0, AccessSize::WordAccess, address)
            };
            fadt.sci_int = SCI.into();
            (fadt.pm1_evt_len, fadt.pm1_cnt_len) = (PM1_EVENTS, PM1_CONTROL);
            fadt.x_pm1a_evt_blk = register(PM1_EVENTS, events);
            fadt.x_pm1a_cnt_blk = register(PM1_CONTROL, events + u64::from(PM1_EVENTS));
        }
    }
    fadt.century = CENTURY;
    let boot = if msi { NO_VGA } else { NO_VGA | NO_MSI };
    fadt.iapc_boot_arch = boot.into();
    let port = |port| GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, port);
    fadt.reset_reg = port(RESET_PORT.into());
    if let Some(power) = power {
        fadt.sleep_control_reg = port(power.into());
        fadt.sleep_status_reg = port(u64::from(power) + 1);
    }
    fadt.reset_value = RESET_COMMAND;
    serialized(&fadt.finalize())
}

/// Where the PCI bus has its configuration space (PCI Firmware Specification 3.3, 4.1.2): bus 0 alone.
fn mcfg(host: &PciHost) -> Vec<u8> {
    let mut mcfg = MCFG::new(OEM, OEM_TABLE, OEM_REVISION);
    mcfg.add_ecam(host.ecam, 0, 0, 0);
    serialized(&mcfg)
}

/// The PCI bus, and that its configuration space is taken, without which Linux does not use it. Pins
/// are wired to lines (6.2.13): device, pin, no link, line; level-triggered, active low, as pins are,
/// which the hypervisor does not distinguish from active high.
fn pci(host: &PciHost) -> Vec<u8> {
    let (first, last) = (host.window, host.window.saturating_add(host.window_len - 1));
    let buses = Resource::new_bus_number(0u16, 0);
    let window = Resource::new_memory(AddressSpaceCacheable::NotCacheable, true, first, last, None);
    let resources = ResourceTemplate::new(vec![&buses, &window]);
    let mut pins = PackageBuilder::new();
    for device in 1..=VIRTIO_SLOTS {
        let device = u8::try_from(device).unwrap_or_default();
        let address = u32::from(device) << 16 | 0xffff;
        let line = host.line_of(device);
        pins.add_element(&Package::new(vec![&address, &ZERO, &ZERO, &line]));
    }
    let name = |name, value: &dyn Aml| Name::new(Path::new(name), value);
    let id = name("_HID", &EISAName::new("PNP0A08"));
    let compatible = name("_CID", &EISAName::new("PNP0A03"));
    let (uid, resources, pins) =
        (name("_UID", &ZERO), name("_CRS", &resources), name("_PRT", &pins));
    let parts: Vec<&dyn Aml> = vec![&id, &compatible, &uid, &resources, &pins];
    let bus = Device::new(Path::new("PCI0"), parts);
    let ecam = u32::try_from(host.ecam).unwrap_or_default();
    let taken = Memory32Fixed::new(true, ecam, u32::try_from(ECAM).unwrap_or_default());
    let taken = device("MCFG", &EISAName::new("PNP0C02"), 0, vec![&taken]);
    [serialized(&bus), taken].concat()
}

/// A device of the name `name`, with its hardware ID, unique ID and resources.
fn device(name: &str, hid: &dyn Aml, uid: usize, resources: Vec<&dyn Aml>) -> Vec<u8> {
    let hid = Name::new(Path::new("_HID"), hid);
    let uid = Name::new(Path::new("_UID"), &uid);
    let crs = Name::new(Path::new("_CRS"), &ResourceTemplate::new(resources));
    serialized(&Device::new(Path::new(name), vec![&hid, &uid, &crs]))
}

/// An interrupt of the device's own, edge-triggered, active high: all of ours are.
fn edge(line: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, line)
}

fn serialized(table: &dyn Aml) -> Vec<u8> {
    // It comes byte by byte: room for most tables.
    let mut bytes = Vec::with_capacity(512);
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// Tables one after the other.
struct Area(Vec<u8>);

impl Area {
    /// Adds a table and tells its address.
    fn add(&mut self, table: &[u8]) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(16), 0);
        let address = RSDP + self.0.len() as u64;
        self.0.extend_from_slice(table);
        address
    }
}

#[cfg(test)]
#[path = "acpi_tests.rs"]
mod tests;
