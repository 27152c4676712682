use super::*;
use crate::machine::map::Board;
use crate::machine::slot::VirtioBus;
use hv::Arch;

fn virtio_slots() -> impl Iterator<Item = VirtioSlot> {
    Board::of(Arch::X86_64).virtio.on(VirtioBus::Mmio)
}

fn tables(cpus: u32, devices: usize) -> Vec<u8> {
    Tables {
        cpus,
        virtio: virtio_slots().take(devices).collect(),
        pci: None,
        power: None,
        panic: None,
    }
    .bytes(Platform::Hypervisor)
}

#[test]
fn where_the_pit_keeps_time_the_tables_have_fixed_hardware_and_its_interrupt() {
    let all = Tables { cpus: 1, virtio: Vec::new(), pci: None, power: None, panic: None }
        .bytes(Platform::Qemu);
    let fadt = find(&all, b"FACP");
    assert_eq!(u32_at(fadt, 112) >> 20 & 1, 0);
    assert_eq!((u32_at(fadt, 56), u32_at(fadt, 64), fadt[88], fadt[89]), (0, 0, 4, 2));
    // System memory, 32 and 16 bits wide, word access.
    assert_eq!((&fadt[148..152], &fadt[172..176]), (&[0, 32, 0, 2][..], &[0, 16, 0, 2][..]));
    let (events, control) = (u64_at(fadt, 152), u64_at(fadt, 176));
    assert_eq!(events + 4, control);
    // No event has come, none is enabled; ACPI is on.
    let registers = usize::try_from(events - RSDP).unwrap();
    assert_eq!(all[registers..registers + 6], [0, 0, 0, 0, 1, 0]);
    let reduced = tables(1, 0);
    assert_eq!(find(&reduced, b"FACP")[148..196], [0; 48]);
    assert!(find(&all, b"APIC").ends_with(&[2, 10, 0, 0, 2, 0, 0, 0, 0, 0]));
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at `address`, its checksum checked.
fn table(all: &[u8], address: u64) -> &[u8] {
    let start = usize::try_from(address - RSDP).unwrap();
    assert!(start.is_multiple_of(16));
    let len = usize::try_from(u32_at(all, start + 4)).unwrap();
    let table = &all[start..start + len];
    assert_eq!(sum(table), 0, "{}", table[..4].escape_ascii());
    table
}

/// The tables by signature, found from the RSDP as a guest finds them.
fn find<'a>(all: &'a [u8], signature: &[u8; 4]) -> &'a [u8] {
    let xsdt = table(all, u64_at(all, 24));
    let addresses = xsdt[36..].chunks_exact(8).map(|entry| u64_at(entry, 0));
    let mut tables = addresses.map(|address| table(all, address));
    tables.find(|table| table.starts_with(signature)).unwrap()
}

fn has(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).filter(|window| window == &needle).count()
}

#[test]
fn the_rsdp_is_found_by_a_scan_and_leads_to_every_table() {
    let all = tables(2, 1);
    assert_eq!(&all[..8], b"RSD PTR ");
    assert_eq!((sum(&all[..20]), sum(&all[..36]), all[15]), (0, 0, 2));
    let fadt = find(&all, b"FACP");
    assert_eq!(&table(&all, u64_at(fadt, 140))[..4], b"DSDT");
    find(&all, b"APIC");
}

#[test]
fn the_fadt_is_hardware_reduced_and_resets_by_the_keyboard_controller() {
    let all = tables(1, 0);
    let fadt = find(&all, b"FACP");
    let flags = u32_at(fadt, 112);
    assert_eq!((fadt.len(), flags >> 20 & 1, flags >> 10 & 1), (276, 1, 1));
    // System I/O, 8 bits wide, byte access, port 0x64; value 0xfe.
    assert_eq!(fadt[116..129], [1, 8, 0, 1, 0x64, 0, 0, 0, 0, 0, 0, 0, 0xfe]);
    let boot_flags = u16::from_le_bytes([fadt[109], fadt[110]]);
    assert_eq!(boot_flags & 1 << 1, 0, "no 8042 to probe");
    assert_eq!(boot_flags & 1 << 5, 0, "there is a CMOS clock");
    assert_eq!(fadt[108], 0x32, "the clock's register for the century");
}

#[test]
fn every_processor_is_in_the_madt_by_the_structure_that_can_name_it() {
    let all = tables(300, 0);
    let mut rest = &find(&all, b"APIC")[44..];
    let (mut local, mut x2, mut ioapics) = (Vec::new(), Vec::new(), Vec::new());
    while let [kind, len, ..] = rest {
        let (entry, behind) = rest.split_at(usize::from(*len));
        match kind {
            0 => {
                assert_eq!(u32_at(entry, 4), 1);
                local.push(u32::from(entry[3]));
            }
            9 => {
                assert_eq!((u32_at(entry, 8), u32_at(entry, 12)), (1, u32_at(entry, 4)));
                x2.push(u32_at(entry, 4));
            }
            1 => ioapics.push((u32_at(entry, 4), u32_at(entry, 8))),
            other => panic!("a structure of type {other}"),
        }
        rest = behind;
    }
    assert_eq!(local, (0..255).collect::<Vec<_>>());
    assert_eq!(x2, (255..300).collect::<Vec<_>>());
    assert_eq!(ioapics, [(0xfec0_0000, 0)]);
}

#[test]
fn the_dsdt_has_com1_the_clock_and_each_virtio_device_with_its_window_and_line() {
    let all = tables(1, 3);
    let dsdt = table(&all, u64_at(find(&all, b"FACP"), 140));
    assert_eq!((has(dsdt, b"COM1"), has(dsdt, b"RTC_"), has(dsdt, b"LNRO0005\0")), (1, 1, 3));
    assert_eq!(has(dsdt, b"_S5_"), 0, "a guest that switches itself off takes its status along");
    for slot in virtio_slots().take(3) {
        let Place::Mmio { base, line } = slot.place else { panic!("{slot:?}") };
        let base = u32::try_from(base).unwrap().to_le_bytes();
        let window = [&[0x86, 9, 0, 1][..], &base, &[0, 2, 0, 0]].concat();
        let line = [&[0x89, 6, 0, 3, 1][..], &line.to_le_bytes()].concat();
        assert_eq!(has(dsdt, &[window, line].concat()), 1, "{slot:?}");
    }
    assert_eq!(has(tables(4, 0).as_slice(), b"LNRO0005"), 0);
}

#[test]
fn who_switches_off_by_acpi_has_a_register_for_it_and_its_value() {
    let power = Tables { cpus: 2, virtio: Vec::new(), pci: None, power: Some(0x604), panic: None };
    let all = power.bytes(Platform::Hypervisor);
    let fadt = find(&all, b"FACP");
    assert_eq!(fadt[244..256], [1, 8, 0, 1, 4, 6, 0, 0, 0, 0, 0, 0]);
    assert_eq!(fadt[256..268], [1, 8, 0, 1, 5, 6, 0, 0, 0, 0, 0, 0]);
    let dsdt = table(&all, u64_at(fadt, 140));
    assert_eq!(has(dsdt, b"\x08_S5_\x12\x04\x01\x0a\x05"), 1);
    let none = tables(2, 0);
    assert_eq!(find(&none, b"FACP")[244..268], [0; 24]);
}

#[test]
fn a_guest_that_tells_of_a_panic_knows_where_but_in_software_emulation() {
    let tables = Tables { cpus: 1, virtio: Vec::new(), pci: None, power: None, panic: Some(0x505) };
    let port = [0x47, 1, 5, 5, 5, 5, 1, 1];
    for (platform, wanted) in [(Platform::Hypervisor, 1), (Platform::Qemu, 0)] {
        let all = tables.bytes(platform);
        let dsdt = table(&all, u64_at(find(&all, b"FACP"), 140));
        assert_eq!((has(dsdt, b"QEMU0001\0"), has(dsdt, &port)), (wanted, wanted), "{platform:?}");
    }
}

#[test]
fn the_tables_of_as_many_processors_as_there_can_be_fit_where_they_go() {
    assert!(tables(4096, 8).len() < 0x2_0000);
}
