//! How PCs told of processors and interrupts before ACPI (Intel MultiProcessor Specification 1.4, chapter 4):
//! all that FreeBSD's and NetBSD's kernels for machines like ours look for.
//!
//! The floating pointer is where the extended BIOS data area begins, which the BIOS data area names, and the
//! table where ACPI's would be, which these guests do not get.

use super::Platform;
use super::bytes::Bytes;
use super::layout::{LOW_END, RSDP};
use crate::machine::map::pc::{IOAPIC, LOCAL_APIC};

/// The most processors there can be: one number less than there are APIC IDs, 255 being the broadcast and one
/// the IOAPIC's.
pub(super) const MOST: u32 = 254;

/// Bytes of the table's header.
const HEADER: usize = 44;
/// The specification's revision, 1.4.
const REVISION: u8 = 4;
/// Version of the local APICs, and of an IOAPIC with 24 inputs.
const APIC_VERSION: u8 = 0x14;
const IOAPIC_VERSION: u8 = 0x11;
/// Of a processor: it can be used; it is the one that boots.
const ENABLED: u8 = 1;
const BOOT: u8 = 1 << 1;
/// What CPUID says of it, as far as anybody reads it here: it has an FPU and a local APIC.
const FEATURES: u32 = 1 << 9 | 1;
/// Kinds of entry.
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC: u8 = 2;
const INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;
/// Kinds of interrupt.
const VECTORED: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
/// All local APICs.
const ALL: u8 = 0xff;
/// Interrupts of an ISA bus, and the one that the second 8259 hangs at.
const LINES: u8 = 16;
const CASCADE: u8 = 2;

/// Pointer and table, and where they go. For 1 to [`MOST`] processors; the nth has the APIC ID n.
pub(super) fn tables(cpus: u32, platform: Platform) -> [(u64, Vec<u8>); 2] {
    let ioapic = u8::try_from(cpus).unwrap_or(u8::MAX);
    let mut entries = Bytes::default();
    let mut count: u32 = 0;
    let mut add = |bytes: &[u8]| {
        entries.0.extend_from_slice(bytes);
        count = count.saturating_add(1);
    };
    for id in 0..ioapic {
        let flags = if id == 0 { ENABLED | BOOT } else { ENABLED };
        let [f0, f1, f2, f3] = FEATURES.to_le_bytes();
        let features = [f0, f1, f2, f3, 0, 0, 0, 0, 0, 0, 0, 0];
        add(&[&[PROCESSOR, id, APIC_VERSION, flags, 0, 0, 0, 0][..], &features].concat());
    }
    add(&[BUS, 0, b'I', b'S', b'A', b' ', b' ', b' ']);
    let [a0, a1, a2, a3] = IOAPIC.to_le_bytes();
    add(&[IO_APIC, ioapic, IOAPIC_VERSION, ENABLED, a0, a1, a2, a3]);
    // As the bus has them: edge-triggered, active high.
    for line in (0..LINES).filter(|line| *line != CASCADE) {
        let pin = match (line, platform) {
            // QEMU has the interval timer there, and KVM where the bus has it.
            (0, Platform::Qemu) => CASCADE,
            _ => line,
        };
        add(&[INTERRUPT, VECTORED, 0, 0, 0, line, ioapic, pin]);
    }
    for (kind, pin) in [(EXT_INT, 0), (NMI, 1)] {
        add(&[LOCAL_INTERRUPT, kind, 0, 0, 0, 0, ALL, pin]);
    }
    [(LOW_END, pointer()), (RSDP, table(&entries.0, count))]
}

/// The floating pointer structure (4.1): a table is there, and no IMCR.
fn pointer() -> Vec<u8> {
    let address = u32::try_from(RSDP).unwrap_or_default();
    let mut bytes = b"_MP_".to_vec();
    bytes.extend(address.to_le_bytes());
    bytes.extend([1, REVISION, 0, 0, 0, 0, 0, 0]);
    balanced(bytes, 10)
}

/// The configuration table (4.2).
fn table(entries: &[u8], count: u32) -> Vec<u8> {
    let short = |value: usize| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
    let mut bytes = b"PCMP".to_vec();
    bytes.extend(short(HEADER.saturating_add(entries.len())));
    bytes.extend([REVISION, 0]);
    bytes.extend(b"RUNNER  RUNNER      ");
    bytes.extend([0; 6]);
    bytes.extend(short(usize::try_from(count).unwrap_or(usize::MAX)));
    bytes.extend(LOCAL_APIC.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(entries);
    balanced(bytes, 7)
}

/// With the byte at `at` such that all add up to 0.
fn balanced(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(byte) = bytes.get_mut(at) {
        *byte = sum.wrapping_neg();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    /// The entries of a kind.
    fn entries(table: &[u8], kind: u8) -> Vec<&[u8]> {
        let mut rest = &table[HEADER..];
        let mut found = Vec::new();
        let mut count = 0;
        while let [first, ..] = rest {
            let (entry, behind) = rest.split_at(if *first == PROCESSOR { 20 } else { 8 });
            if *first == kind {
                found.push(entry);
            }
            (rest, count) = (behind, count + 1);
        }
        assert_eq!(u16::from_le_bytes([table[34], table[35]]), count);
        found
    }

    #[test]
    fn the_pointer_leads_to_a_table_with_every_processor_and_line() {
        let [(at, pointer), (table_at, table)] = tables(3, Platform::Hypervisor);
        assert_eq!(
            (at, &pointer[..4], pointer.len(), sum(&pointer)),
            (LOW_END, &b"_MP_"[..], 16, 0)
        );
        assert_eq!(u64::from(u32::from_le_bytes(pointer[4..8].try_into().unwrap())), table_at);
        assert_eq!((&table[..4], sum(&table)), (&b"PCMP"[..], 0));
        assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
        assert_eq!(table[36..40], 0xfee0_0000_u32.to_le_bytes());
        let processors: Vec<_> =
            entries(&table, PROCESSOR).iter().map(|entry| (entry[1], entry[3])).collect();
        assert_eq!(processors, [(0, 3), (1, 1), (2, 1)]);
        let ioapic = entries(&table, IO_APIC);
        assert_eq!(ioapic, [[2, 3, 0x11, 1, 0, 0, 0xc0, 0xfe]]);
        let lines: Vec<_> = entries(&table, INTERRUPT).iter().map(|it| (it[5], it[7])).collect();
        let same = (0..16).filter(|line| *line != 2).map(|line| (line, line));
        assert_eq!(lines, same.collect::<Vec<_>>());
        assert_eq!(entries(&table, LOCAL_INTERRUPT).len(), 2);
    }

    #[test]
    fn qemus_interval_timer_is_at_another_pin() {
        let [_, (_, table)] = tables(1, Platform::Qemu);
        let lines = entries(&table, INTERRUPT);
        assert_eq!((lines[0][5], lines[0][7], lines[1][5], lines[1][7]), (0, 2, 1, 1));
    }

    #[test]
    fn the_most_processors_have_ids_and_the_ioapic_has_one_too() {
        let [_, (_, table)] = tables(MOST, Platform::Hypervisor);
        assert_eq!(entries(&table, PROCESSOR).len(), 254);
        assert_eq!(entries(&table, IO_APIC)[0][1], 254);
        assert!(table.len() < 0x1_0000);
    }
}
