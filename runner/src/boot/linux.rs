//! Linux's 32-bit and 64-bit entries: `Documentation/arch/x86/boot.rst`, "32-bit Boot Protocol" and
//! "64-bit Boot Protocol", and `zero-page.rst` for the offsets.

use hv::State;
use hv::arch::x86_64;

use super::Gpas;
use super::layout::{COMMAND_LINE, GDT, PAGE_TABLES, STACK_TOP, ZERO_PAGE, usable_ram};
use crate::image::bzimage::Setup;

/// Offsets in the zero page.
mod offset {
    pub(super) const ACPI_RSDP_ADDR: usize = 0x070;
    pub(super) const E820_ENTRIES: usize = 0x1e8;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    pub(super) const HEADER: usize = 0x202;
    pub(super) const TYPE_OF_LOADER: usize = 0x210;
    pub(super) const RAMDISK_IMAGE: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21c;
    pub(super) const CMD_LINE_PTR: usize = 0x228;
    /// Only where the header is ours: a kernel's own header says the most it takes here.
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    pub(super) const E820_TABLE: usize = 0x2d0;
}

/// Bytes of an e820 entry: address, length, type.
const E820_ENTRY: usize = 20;
/// Usable RAM.
const E820_RAM: u32 = 1;
/// A boot loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;

/// The zero page. A bzImage's own setup header stands in it; an ELF kernel has none, and gets what
/// Nanos looks for, and `command_line` as the bytes of its command line: Nanos and Unikraft count no NUL, Hermit does.
pub(super) fn zero_page(
    ram: &[Gpas],
    setup: Option<&Setup>,
    command_line: usize,
    initrd: Option<&Gpas>,
    rsdp: u64,
) -> Vec<u8> {
    let mut page = vec![0; 4096];
    put(&mut page, offset::ACPI_RSDP_ADDR, &rsdp.to_le_bytes());
    match setup {
        Some(setup) => put(&mut page, Setup::HEADER_AT, &setup.header),
        None => {
            put(&mut page, offset::BOOT_FLAG, &0xaa55u16.to_le_bytes());
            put(&mut page, offset::HEADER, b"HdrS");
            put(&mut page, offset::CMDLINE_SIZE, &low(command_line as u64));
        }
    }
    put(&mut page, offset::TYPE_OF_LOADER, &[LOADER_UNDEFINED]);
    put(&mut page, offset::CMD_LINE_PTR, &low(COMMAND_LINE));
    let initrd = initrd.cloned().unwrap_or(0..0);
    put(&mut page, offset::RAMDISK_IMAGE, &low(initrd.start));
    put(&mut page, offset::RAMDISK_SIZE, &low(initrd.end - initrd.start));
    let mut entries = 0;
    for (range, at) in usable_ram(ram).zip((offset::E820_TABLE..).step_by(E820_ENTRY)) {
        put(&mut page, at, &range.start.to_le_bytes());
        put(&mut page, at + 8, &(range.end - range.start).to_le_bytes());
        put(&mut page, at + 16, &E820_RAM.to_le_bytes());
        entries += 1;
    }
    put(&mut page, offset::E820_ENTRIES, &[entries]);
    page
}

/// The boot vCPU: 64-bit mode, RSI at the zero page, a stack that can be used.
pub(super) fn state64(entry: u64) -> State {
    entered(x86_64::State::long_mode(entry, PAGE_TABLES, GDT))
}

/// `__BOOT_CS`, and the descriptor that 32-bit kernels expect behind it: flat 32-bit code.
const BOOT_CS: u16 = 0x10;
const CODE32: u64 = 0x00cf_9b00_0000_ffff;

/// What the 32-bit protocol has in the GDT where the 64-bit one has 64-bit code.
pub(super) fn boot_cs32() -> (u64, [u8; 8]) {
    (GDT + u64::from(BOOT_CS), CODE32.to_le_bytes())
}

/// The boot vCPU: 32-bit mode without paging, ESI at the zero page, a stack that can be used.
pub(super) fn state32(entry: u64) -> State {
    let mut state = x86_64::State::protected_mode(entry, GDT);
    state.cs.selector = BOOT_CS;
    entered(state)
}

fn entered(mut state: x86_64::State) -> State {
    state.regs.rsi = ZERO_PAGE;
    state.regs.rsp = STACK_TOP;
    State::X86_64(state)
}

/// The low 32 bits: everything we place is below 4 GiB.
fn low(value: u64) -> [u8; 4] {
    let [b0, b1, b2, b3, ..] = value.to_le_bytes();
    [b0, b1, b2, b3]
}

fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in page.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(page: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(page[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn the_zero_page_has_what_nanos_and_linux_look_for() {
        let ram = [0..0x2000_0000u64];
        let page = zero_page(&ram, None, 3, Some(&(0x1f00_0000..0x1f00_1234)), 0xe_0000);
        assert_eq!(u32_at(&page, 0x70), 0xe_0000);
        assert_eq!(page[0x1fe..0x200], [0x55, 0xaa]);
        assert_eq!(&page[0x202..0x206], b"HdrS");
        assert_eq!((u32_at(&page, 0x228), u32_at(&page, 0x238)), (0x2_0000, 3));
        assert_eq!((u32_at(&page, 0x218), u32_at(&page, 0x21c)), (0x1f00_0000, 0x1234));
        assert_eq!(page[0x1e8], 2);
        assert_eq!((u32_at(&page, 0x2d0), u32_at(&page, 0x2d8)), (0, 0x9_fc00));
        assert_eq!((u32_at(&page, 0x2e4), u32_at(&page, 0x2ec)), (0x10_0000, 0x1ff0_0000));
        assert!(page[0xd00..0xdaa].iter().all(|byte| *byte == 0), "Nanos wants these zero");
    }

    #[test]
    fn the_stack_is_below_the_zero_page_and_clear_of_the_page_tables() {
        for state in [state32(0x10_0000), state64(0x10_0000)] {
            let State::X86_64(state) = state else { panic!("x86_64") };
            assert_eq!(state.regs.rsp, ZERO_PAGE);
            assert!(state.regs.rsp.is_multiple_of(16) && state.regs.rsp < PAGE_TABLES);
        }
    }

    #[test]
    fn a_setup_header_is_handed_back_with_what_the_loader_fills_in() {
        let mut header = vec![0xee; 0x26c - Setup::HEADER_AT];
        header[0x202 - Setup::HEADER_AT..][..4].copy_from_slice(b"HdrS");
        let setup = Setup {
            protocol: 0x20f,
            header,
            initrd_addr_max: 0x7fff_ffff,
            cmdline_size: 2047,
            version: None,
        };
        let page = zero_page(&[0..0x2000_0000u64], Some(&setup), 3, None, 0);
        assert_eq!(&page[0x202..0x206], b"HdrS");
        assert_eq!((page[0x1f1], page[0x210], page[0x26b], page[0x26c]), (0xee, 0xff, 0xee, 0));
        assert_eq!((u32_at(&page, 0x228), u32_at(&page, 0x238)), (0x2_0000, 0xeeee_eeee));
        assert_eq!(page[0x1e8], 2);
    }

    #[test]
    fn a_32_bit_kernel_finds_its_code_segment_behind_the_selector_it_expects() {
        let State::X86_64(state) = state32(0x10_0000) else { panic!("x86_64") };
        assert_eq!((state.cs.selector, state.ds.selector), (0x10, 0x18));
        assert_eq!((state.regs.rsi, state.regs.rbx, state.efer), (ZERO_PAGE, 0, 0));
        assert_eq!(boot_cs32(), (0x510, 0x00cf_9b00_0000_ffff_u64.to_le_bytes()));
    }
}
