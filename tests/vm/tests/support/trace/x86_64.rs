//! System calls of x86_64 (syscall(2), "Architecture calling conventions").

use libc::{c_long, pid_t, user_regs_struct};

use super::ptrace;

/// The registers of a thread before its call became another one.
pub(super) type Before = user_regs_struct;

fn registers(thread: pid_t) -> user_regs_struct {
    // SAFETY: a structure of integers, which the kernel fills.
    let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
    ptrace(libc::PTRACE_GETREGS, thread, 0, (&raw mut registers).addr().cast_signed());
    registers
}

fn set_registers(thread: pid_t, registers: &user_regs_struct) {
    ptrace(libc::PTRACE_SETREGS, thread, 0, (&raw const *registers).addr().cast_signed());
}

/// Makes the call that `thread` is about to make another one. Returns its registers.
pub(super) fn replace(thread: pid_t, number: c_long, arguments: [i64; 4]) -> Before {
    let before = registers(thread);
    let mut registers = before;
    registers.orig_rax = number.cast_unsigned();
    let [a, b, c, d] = arguments.map(i64::cast_unsigned);
    (registers.rdi, registers.rsi, registers.rdx, registers.r10) = (a, b, c, d);
    set_registers(thread, &registers);
    before
}

/// Has `thread`, which has made a call of ours, make its own: the instruction is two bytes long. Returns
/// what the kernel answered to ours.
pub(super) fn again(thread: pid_t, mut before: Before) -> i64 {
    let answer = registers(thread).rax.cast_signed();
    before.rax = before.orig_rax;
    before.rip -= 2;
    set_registers(thread, &before);
    answer
}
