//! Where boot data stands: all of it below 640 KiB, which kernels leave alone until they have read
//! it, and none of it at 0.

/// The GDT that the boot vCPU's segments come from.
pub(super) const GDT: u64 = 0x500;

/// PVH's start_info, its module list and its memory map: one page.
pub(super) const START_INFO: u64 = 0x4000;
pub(super) const MODULES: u64 = 0x4080;
pub(super) const MEMORY_MAP: u64 = 0x4100;

/// The stack pointer a guest is given. PVH and Linux's 64-bit entry leave it undefined, but Nanos
/// among others calls a subroutine before it sets one; there is a page below this for it.
pub(super) const STACK_TOP: u64 = 0x7000;

/// Linux's zero page. Nanos wants 0x7d00-0x7daa to be zero, which it is inside this page.
pub(super) const ZERO_PAGE: u64 = 0x7000;

/// The identity map of the first GiB, three pages.
pub(super) const PAGE_TABLES: u64 = 0x9000;

/// The command line, NUL-terminated.
pub(super) const COMMAND_LINE: u64 = 0x2_0000;

/// The most a command line can have, without its NUL: Linux takes 2047 and cuts the rest off
/// itself; Nanos takes what it gets.
pub(super) const COMMAND_LINE_MAX: usize = 0xffff;

/// ACPI's RSDP, and behind it the other tables: the area where guests scan for it, in the half that
/// QEMU's firmware leaves free.
pub(super) const RSDP: u64 = 0xe_0000;

/// Where a processor begins in real mode, f000:fff0: what resets a machine by a jump goes there.
pub(super) const RESET_VECTOR: u64 = 0xf_fff0;

/// All of the above but the RSDP and what is behind it lies in here.
pub(super) const BOOT_DATA: std::ops::Range<u64> = 0..0x3_0000;

/// Conventional memory ends here; up to 1 MiB there would be a BIOS, and tables that guests scan for.
pub(super) const LOW_END: u64 = 0x9_fc00;

/// Memory goes on here.
pub(super) const HIGH_START: u64 = 0x10_0000;

/// RAM as a guest is told of it: conventional memory, then everything from 1 MiB on.
pub(super) fn usable_ram(ram: &[super::Gpas]) -> impl Iterator<Item = super::Gpas> + '_ {
    let low = ram.first().map(|first| first.start..first.end.min(LOW_END));
    let high = ram.iter().map(|range| range.start.max(HIGH_START)..range.end);
    low.into_iter().chain(high).filter(|range| !range.is_empty())
}
