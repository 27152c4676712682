//! Every field of a data abort's syndrome (DDI 0487, "ISS encoding for an exception from a Data
//! Abort"), and what comes without one.

use guests::aarch64::conformance as aarch64;

use super::super::Image;
use super::super::bench::{Bench, CODE, Guest, MMIO, REPORT_AT, Skip, WINDOW};
use super::any;
use crate::exit::{Address, Cause, Exit, Unhandled, Width};
use crate::traits::{Hypervisor, Vcpu};

declare! {
    reads_extend_the_sign_to_the_width_of_the_register(Image::aarch64(aarch64::SIGNED_READS));
    every_register_is_loaded_and_stored(Image::aarch64(aarch64::EVERY_REGISTER));
    an_access_without_a_syndrome_is_named(Image::aarch64(aarch64::NO_SYNDROME)) needs Processor;
    an_instruction_is_named_where_the_mmu_has_it(Image::aarch64(aarch64::ALIASED)) needs Processor;
    an_access_can_be_aligned_to_nothing(Image::aarch64(aarch64::UNALIGNED)) needs Processor;
    a_jump_to_where_no_ram_is_aborts_or_comes_out(Image::aarch64(aarch64::JUMP_INTO_HOLE))
        needs Processor;
    an_unknown_system_register_harms_nobody(Image::aarch64(aarch64::UNKNOWN_REGISTER))
        needs Processor;
}

fn at(offset: u64) -> Address {
    Address::Mmio(MMIO + offset)
}

fn reads_extend_the_sign_to_the_width_of_the_register<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    // Where and how wide, what the device answers, and what the guest's register holds then.
    let loads: [(u64, Width, u64, u64); 5] = [
        (0, Width::W1, 0xa1, 0xffff_ffff_ffff_ffa1),
        (0, Width::W1, 0xa1, 0xffff_ffa1),
        (8, Width::W2, 0xb1b2, 0xffff_ffff_ffff_b1b2),
        (8, Width::W2, 0xb1b2, 0xffff_b1b2),
        (16, Width::W4, 0xc1c2_c3c4, 0xffff_ffff_c1c2_c3c4),
    ];
    let found = loads.map(|(offset, width, answer, _)| {
        guest.reads(at(offset), width, answer);
        let exit = guest.run();
        reported(exit).unwrap_or_else(|| panic!("expected what the guest found, not {exit:x?}"))
    });
    guest.ends();
    // All of them, and nothing else that is wrong: a KVM that does one of them right has to do all.
    if H::NAME == "kvm" && found == loads.map(|(_, _, answer, _)| answer) {
        std::panic::resume_unwind(Box::new(Skip(WITHOUT_SIGN.into())));
    }
    assert_eq!(found, loads.map(|(.., register)| register), "{found:x?}");
}

/// `kvm_handle_mmio_return` and `vcpu_data_host_to_guest` in Linux's `arch/arm64/kvm/mmio.c`, 6.12.
const WITHOUT_SIGN: &str = "this KVM extends the sign of LDRSB, LDRSH and LDRSW from a device and then masks the \
    value to the access's width again, so that 0xa1 is 0xa1 and not 0xffffffffffffffa1 in the guest's register \
    (kvm_handle_mmio_return)";

/// What the guest says that it found, if it does.
fn reported(exit: Exit) -> Option<u64> {
    match exit {
        Exit::Write { at: REPORT_AT, width: Width::W8, value } => Some(value),
        _ => None,
    }
}

fn every_register_is_loaded_and_stored<H: Hypervisor>(bench: &Bench<'_, H>) {
    const REGISTERS: u64 = 31;
    let mut guest = bench.boot();
    let mut turn = |value: u64, kept: bool| {
        let kept = |value: u64| if kept { value } else { 0 };
        guest.reads(at(0), Width::W8, value);
        guest.writes(at(8), Width::W8, kept(value));
        // The lower half takes the upper one along.
        guest.reads(at(16), Width::W4, value >> 8);
        guest.writes(at(8), Width::W8, kept(value >> 8 & 0xffff_ffff));
        guest.writes(at(24), Width::W4, kept(value >> 8 & 0xffff_ffff));
    };
    let value =
        |index: u64| 0xf1e2_d3c4_b5a6_9788u64.rotate_left(u32::try_from(index).unwrap_or(0));
    // X0 to X30 without X9, which has the address, then XZR, then X9.
    (0..REGISTERS - 1).for_each(|index| turn(value(index), true));
    turn(value(40), false);
    turn(value(41), true);
    guest.ends();
}

/// The end of a guest that nobody can help.
#[track_caller]
fn unhandled<H: Hypervisor>(guest: &mut Guest<H>) -> Unhandled {
    match any(guest) {
        Exit::Unhandled(unhandled) => unhandled,
        exit => panic!("expected an unhandled exit, and the vCPU came out with {exit:x?}"),
    }
}

fn an_access_without_a_syndrome_is_named<H: Hypervisor>(bench: &Bench<'_, H>) {
    // The encodings of the guest's eight instructions, in its order.
    const FORMS: [u32; 8] = [
        0xa940_0d22, // ldp x2, x3, [x9]
        0xa900_0d22, // stp x2, x3, [x9]
        0x3dc0_0120, // ldr q0, [x9]
        0xfd00_0120, // str d0, [x9]
        0xf840_8522, // ldr x2, [x9], 8
        0xf840_0d22, // ldr x2, [x9, 0]!
        0xf800_8522, // str x2, [x9], 8
        0xf800_0d22, // str x2, [x9, 0]!
    ];
    for (index, form) in (0..).zip(FORMS) {
        let mut guest = bench.boot_with([index, 0], |config| config);
        let unhandled = unhandled(&mut guest);
        assert_eq!(unhandled.cause, Cause::NoSyndrome, "{unhandled}");
        assert_eq!(unhandled.code, MMIO, "it names the device's address: {unhandled}");
        let instruction = unhandled.instruction.expect("it says which instruction");
        assert_eq!(instruction.bytes(), form.to_le_bytes(), "{unhandled}");
        assert_eq!(instruction.pc(), guest.aarch64().pc, "{unhandled}");
    }
}

fn an_instruction_is_named_where_the_mmu_has_it<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let unhandled = unhandled(&mut guest);
    assert_eq!((unhandled.cause, unhandled.code), (Cause::NoSyndrome, MMIO), "{unhandled}");
    let instruction = unhandled.instruction.expect("it says which instruction");
    assert_eq!(instruction.pc() & !0xfff, 0x8000_0000 + CODE, "{unhandled}");
    assert_eq!(instruction.bytes(), 0xa940_0d22u32.to_le_bytes(), "{unhandled}");
}

fn an_access_can_be_aligned_to_nothing<H: Hypervisor>(bench: &Bench<'_, H>) {
    for offset in [1, 2, 3, 4, 5, 7, 9, 0xff1, 0xff7] {
        let mut guest = bench.boot_with([MMIO + offset, 0], |config| config);
        for (width, value) in
            [(Width::W8, 0x1122_3344_5566_7788), (Width::W4, 0xa1a2_a3a4), (Width::W2, 0x99aa_bbcc)]
        {
            let written = value & width.mask();
            guest.writes(at(offset), width, written);
            let next =
                0xa1a2_a3a4_99aa_bbcc_u64.rotate_right(if width == Width::W8 { 32 } else { 0 });
            guest.reads(at(offset), width, next);
            guest.reports(next & width.mask());
        }
        guest.ends();
    }
}

fn a_jump_to_where_no_ram_is_aborts_or_comes_out<H: Hypervisor>(bench: &Bench<'_, H>) {
    /// `ESR_EL1.EC`: an instruction abort at the same level.
    const INSTRUCTION_ABORT: u64 = 0x21;
    let mut guest = bench.boot();
    match any(&mut guest) {
        Exit::Unhandled(unhandled) => {
            let pc = unhandled.instruction.map(|instruction| instruction.pc());
            assert_eq!(pc, Some(WINDOW), "{unhandled}");
        }
        // As a machine's bus would answer.
        exit => assert_eq!(exit, class(INSTRUCTION_ABORT)),
    }
    // For the report.
    guest.settles();
    guest.aarch64();
}

/// The guest had an exception of this class.
fn class(class: u64) -> Exit {
    Exit::Write { at: at(8), width: Width::W8, value: class }
}

fn an_unknown_system_register_harms_nobody<H: Hypervisor>(bench: &Bench<'_, H>) {
    /// `ESR_EL1.EC`: an unknown reason, which an undefined instruction has.
    const UNDEFINED: u64 = 0;
    let mut guest = bench.boot();
    let exit = guest.run();
    // It reads as zero, or the instruction is undefined.
    assert!(exit == class(UNDEFINED) || reported(exit) == Some(0), "{exit:x?}");
    guest.ends();
    assert!(guest.vcpu.settle(crate::exit::Resume::Go).is_ok());
}
