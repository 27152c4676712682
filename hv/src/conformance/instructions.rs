//! Instructions beyond the general-purpose ones, which a hypervisor that interprets kernel code may
//! not know. Where it does not, it must say so, with the instruction.

use guests::x86_64::conformance as x86_64;

use super::Image;
use super::bench::{Bench, ok};
use crate::exit::{Cause, Exit, Resume};
use crate::traits::{Hypervisor, Vcpu};

declare! {
    mulps(Image::x86_64(x86_64::MULPS)) needs Instructions;
    pxor(Image::x86_64(x86_64::PXOR)) needs Instructions;
    ldmxcsr(Image::x86_64(x86_64::LDMXCSR)) needs Instructions;
    fnstsw(Image::x86_64(x86_64::FNSTSW)) needs Instructions;
    xgetbv(Image::x86_64(x86_64::XGETBV)) needs Instructions;
    an_instruction_is_executed_or_named(Image::x86_64(x86_64::MULPS));
}

fn mulps<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    guest.reports(6.0f32.to_bits().into());
    guest.ends();
}

fn pxor<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    guest.reports(0);
    guest.ends();
}

fn ldmxcsr<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    guest.reports(0x1fa0);
    guest.ends();
}

fn fnstsw<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    guest.reports(0xffff_0000);
    guest.ends();
}

fn xgetbv<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    guest.reports(1);
    guest.ends();
}

fn an_instruction_is_executed_or_named<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let unhandled = match ok(guest.vcpu.run(Resume::Go)) {
        Exit::Unhandled(unhandled) => unhandled,
        // It was executed; case `mulps` checks what came of it.
        Exit::Write { .. } => return,
        other => panic!("neither executed nor named: {other:?}"),
    };
    assert_eq!(unhandled.cause, Cause::Instruction, "{unhandled}");
    let instruction = unhandled.instruction.expect("it says which instruction");
    assert_eq!(instruction.pc(), guest.x86_64().regs.rip, "{unhandled}");
    let bytes = guest.bytes(instruction.pc(), instruction.bytes().len());
    assert!(!bytes.is_empty() && bytes == instruction.bytes(), "{unhandled}");
    let name = instruction.name().expect("the bytes are an instruction");
    assert!(["mulps", "movups", "mov"].iter().any(|known| name.starts_with(known)), "{unhandled}");
}
