//! Tables of every shape, as a guest may have them.

use std::cell::Cell;
use std::collections::HashMap;

use super::*;

const ON: u64 = SCTLR_M;
/// 4 KiB in both halves.
const TG: u64 = 0b10 << 30;

/// T0SZ and T1SZ for input addresses of `bits` bits.
fn sizes(bits: u64) -> u64 {
    (64 - bits) | (64 - bits) << 16 | TG
}

fn translation(tcr_el1: u64) -> Translation {
    Translation { sctlr_el1: ON, tcr_el1, ttbr0_el1: 0x4000_1000, ttbr1_el1: 0x4000_5000 }
}

/// What `address` is with these descriptors in memory.
fn walk(translation: &Translation, tables: &[(u64, u64)], address: u64) -> Option<u64> {
    let tables: HashMap<u64, u64> = tables.iter().copied().collect();
    translation.translate(address, |gpa| tables.get(&gpa).copied())
}

/// A whole walk: four levels, each with index 1, 2, 3, 4.
const DEEP: u64 = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 0xabc;
const FOUR_LEVELS: [(u64, u64); 4] = [
    (0x4000_1008, 0x4000_2003),
    (0x4000_2010, 0x4000_3003),
    (0x4000_3018, 0x4000_4003),
    (0x4000_4020, 0x0040_0000_1234_5703),
];

#[test]
fn with_the_mmu_off_every_address_is_itself() {
    let off = Translation { sctlr_el1: !ON, ..translation(0) };
    assert_eq!(walk(&off, &[], DEEP), Some(DEEP));
}

#[test]
fn four_levels_lead_to_a_page() {
    assert_eq!(walk(&translation(sizes(48)), &FOUR_LEVELS, DEEP), Some(0x1234_5abc));
    // The ASID, and the bit for common translations, are no part of the table's address.
    let mut tagged = translation(sizes(48));
    tagged.ttbr0_el1 |= 0x1234 << 48 | 1;
    assert_eq!(walk(&tagged, &FOUR_LEVELS, DEEP), Some(0x1234_5abc));
}

#[test]
fn blocks_end_a_walk_early_but_not_at_the_first_of_four_levels() {
    let gib = [(0x4000_1008, 0x4000_2003), (0x4000_2010, 0x60_c000_0401)];
    assert_eq!(walk(&translation(sizes(48)), &gib, DEEP), Some(0x60_c060_4abc));
    let mib = [FOUR_LEVELS[0], FOUR_LEVELS[1], (0x4000_3018, 0x60_c0e0_0401)];
    assert_eq!(walk(&translation(sizes(48)), &mib, DEEP), Some(0x60_c0e0_4abc));
    let reserved = [(0x4000_1008, 0x4000_0401)];
    assert_eq!(walk(&translation(sizes(48)), &reserved, DEEP), None);
}

#[test]
fn fewer_bits_begin_at_a_later_level_with_a_smaller_table() {
    let address = DEEP & low_bits(39);
    assert_eq!(
        walk(
            &translation(sizes(39)),
            &[(0x4000_1010, 0x4000_3003), FOUR_LEVELS[2], FOUR_LEVELS[3]],
            address
        ),
        Some(0x1234_5abc)
    );
    // 33 bits: 8 entries of 1 GiB, in 64 bytes.
    let mut small = translation(sizes(33));
    small.ttbr0_el1 = 0x4000_1040;
    assert_eq!(walk(&small, &[(0x4000_1050, 0x8000_0001)], 2 << 30 | 5), Some(0x8000_0005));
    // 25 bits: 16 blocks of 2 MiB.
    assert_eq!(
        walk(&translation(sizes(25)), &[(0x4000_1018, 0x8000_0001)], 3 << 21 | 7),
        Some(0x8000_0007)
    );
}

#[test]
fn the_upper_half_has_tables_of_its_own() {
    let tables = [(0x4000_5000 + 8 * 511, 0xc000_0001)];
    let translation = translation(sizes(39));
    assert_eq!(walk(&translation, &tables, 0xffff_ffff_ffff_f008), Some(0xffff_f008));
    // Bits between the halves belong to neither.
    assert_eq!(walk(&translation, &tables, 0xfff0_ffff_ffff_f008), None);
    assert_eq!(walk(&translation, &tables, 1 << 39), None);
}

#[test]
fn a_tag_in_the_top_byte_is_ignored_where_the_guest_says_so() {
    let tables = [(0x4000_1000, 1)];
    assert_eq!(walk(&translation(sizes(39)), &tables, 0xaa << 56 | 4), None);
    assert_eq!(walk(&translation(sizes(39) | 1 << 37), &tables, 0xaa << 56 | 4), Some(4));
}

#[test]
fn what_is_not_understood_has_no_address() {
    let tables = [(0x4000_1000, 1)];
    let sixty_four_kib = sizes(39) | 0b01 << 14;
    let disabled = sizes(39) | 1 << 7;
    let large = sizes(39) | 1 << 59;
    for tcr in [sixty_four_kib, disabled, large, sizes(49), sizes(24), 0x3f | TG, TG] {
        assert_eq!(walk(&translation(tcr), &tables, 0), None, "{tcr:#x}");
    }
}

#[test]
fn no_tables_however_odd_take_more_than_four_reads_or_panic() {
    let mut seed = 1u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..20_000 {
        let translation = Translation {
            sctlr_el1: ON,
            tcr_el1: random(),
            ttbr0_el1: random(),
            ttbr1_el1: random(),
        };
        let (reads, entry) = (Cell::new(0), random() | 1);
        translation.translate(random(), |_| {
            reads.set(reads.get() + 1);
            Some(entry)
        });
        assert!(reads.get() <= 4, "{translation:x?}");
    }
}
