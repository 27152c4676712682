//! Registers, into the vCPU and back.

use guests::x86_64::conformance as x86_64;

use super::Image;
use super::bench::{Bench, GDT, IDT, MMIO, TABLES, ok, refused};
use crate::arch::x86_64::{GDT_SIZE, Regs, State};
use crate::arch::{Arch, aarch64};
use crate::error::Kind;
use crate::exit::{Address, Width};
use crate::traits::{Hypervisor, Vcpu};

const REGISTERS: Image = Image::x86_64(x86_64::REGISTERS);

declare! {
    registers_read_back_as_they_were_written(REGISTERS);
    general_purpose_registers_reach_the_guest_and_come_back(REGISTERS);
    system_registers_reach_the_guest(Image::x86_64(x86_64::SYSTEM_REGISTERS));
    a_guest_can_start_in_protected_mode(Image::x86_64(x86_64::PROTECTED_MODE));
    registers_of_another_architecture_are_refused(REGISTERS);
    impossible_registers_are_refused(REGISTERS);
}

/// Every general-purpose register with a value of its own.
fn distinct(regs: &Regs) -> Regs {
    let mut next = 0x0123_4567_89ab_cdef_u64;
    let mut value = || {
        next = next.rotate_left(5) ^ 0x5a;
        next
    };
    Regs {
        rax: value(),
        rbx: value(),
        rcx: value(),
        rdx: value(),
        rsi: value(),
        rdi: value(),
        rsp: value(),
        rbp: value(),
        r8: value(),
        r9: value(),
        r10: value(),
        r11: value(),
        r12: value(),
        r13: value(),
        r14: value(),
        r15: value(),
        ..*regs
    }
}

fn inverted(regs: &Regs) -> Regs {
    Regs {
        rax: !regs.rax,
        rbx: !regs.rbx,
        rcx: !regs.rcx,
        rdx: !regs.rdx,
        rsi: !regs.rsi,
        rdi: !regs.rdi,
        rsp: !regs.rsp,
        rbp: !regs.rbp,
        r8: !regs.r8,
        r9: !regs.r9,
        r10: !regs.r10,
        r11: !regs.r11,
        r12: !regs.r12,
        r13: !regs.r13,
        r14: !regs.r14,
        r15: !regs.r15,
        ..*regs
    }
}

fn registers_read_back_as_they_were_written<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let mut state = guest.x86_64();
    state.regs = distinct(&state.regs);
    // Carry, parity, zero, sign, direction, overflow.
    state.regs.rflags |= 0xcc5;
    state.cr2 = 0x1234_5678_9abc;
    state.idt = IDT;
    state.fs.base = 0x7fff_1234_5000;
    state.gs.base = 0xffff_8000_1234_5000;
    ok(guest.vcpu.set_state(&state.into()));
    assert_eq!(guest.x86_64(), state);
    ok(guest.vcpu.set_state(&state.into()));
    assert_eq!(guest.x86_64(), state, "the second time");
}

fn general_purpose_registers_reach_the_guest_and_come_back<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let mut state = guest.x86_64();
    state.regs = distinct(&state.regs);
    ok(guest.vcpu.set_state(&state.into()));
    let expected = inverted(&state.regs);
    guest.writes(Address::Port(0xe0), Width::W1, expected.rax & 0xff);
    assert_eq!(guest.vcpu.argument(), Some(expected.rdi), "while the access is pending");
    guest.settles();
    // The guest ends with a jump to itself, which is 2 bytes long.
    let expected = Regs { rip: bench.image_end() - 2, ..expected };
    assert_eq!(guest.x86_64().regs, expected);
    // Nothing else has changed.
    assert_eq!(State { regs: expected, ..state }, guest.x86_64());
}

fn system_registers_reach_the_guest<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let mut state = guest.x86_64();
    state.cr2 = 0x1234_5678_9abc;
    state.idt = IDT;
    ok(guest.vcpu.set_state(&state.into()));
    for selector in [0x10, 0x18, 0x18, 0x18, 0x18, 0x18] {
        guest.reports(selector);
    }
    for value in [state.cr0, 0x1234_5678_9abc, TABLES, state.cr4, state.efer] {
        guest.reports(value);
    }
    for value in [u64::from(GDT_SIZE - 1), GDT, IDT.limit.into(), IDT.base] {
        guest.reports(value);
    }
    guest.ends();
}

fn a_guest_can_start_in_protected_mode<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let long = guest.x86_64();
    let mut state = State::protected_mode(long.regs.rip, GDT);
    state.regs.rsp = long.regs.rsp;
    ok(guest.vcpu.set_state(&state.into()));
    guest.writes(Address::Mmio(MMIO), Width::W4, 0x18);
    guest.writes(Address::Mmio(MMIO + 4), Width::W4, 0x1234_5678);
    guest.ends();
}

fn registers_of_another_architecture_are_refused<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let other = match bench.hypervisor.caps().arch {
        Arch::X86_64 => aarch64::State::default().into(),
        Arch::Aarch64 => State::default().into(),
    };
    refused(guest.vcpu.set_state(&other), Kind::Invalid);
    guest.x86_64();
}

fn impossible_registers_are_refused<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    let state = guest.x86_64();
    // Paging without protection.
    let impossible = State { cr0: state.cr0 & !1, ..state };
    refused(guest.vcpu.set_state(&impossible.into()), Kind::Invalid);
    ok(guest.vcpu.set_state(&state.into()));
    guest.writes(Address::Port(0xe0), Width::W1, !state.regs.rax & 0xff);
}
