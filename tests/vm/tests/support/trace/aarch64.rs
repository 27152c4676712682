//! System calls of aarch64 (syscall(2), "Architecture calling conventions"). The kernel takes the number
//! from X8 before a tracer sees the call, and has a set of its own for who changes it
//! (`arch/arm64/kernel/ptrace.c`). X7 is the kernel's in a stop, and put back by it.

use libc::{c_int, c_long, c_uint, iovec, pid_t, user_regs_struct};

use super::ptrace;

/// The general registers (elf(5), `NT_PRSTATUS`).
const GENERAL: usize = 1;
/// The number of the system call (`include/uapi/linux/elf.h`, `NT_ARM_SYSTEM_CALL`).
const CALL: usize = 0x404;

/// The registers of a thread before its call became another one.
pub(super) type Before = user_regs_struct;

/// Hands `value` to a request for a set of registers, to be read or filled.
fn set_of<T>(request: c_uint, thread: pid_t, set: usize, value: &mut T) {
    let mut place = iovec { iov_base: (&raw mut *value).cast(), iov_len: size_of::<T>() };
    ptrace(request, thread, set, (&raw mut place).addr().cast_signed());
}

fn registers(thread: pid_t) -> user_regs_struct {
    // SAFETY: a structure of integers, which the kernel fills.
    let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
    set_of(libc::PTRACE_GETREGSET, thread, GENERAL, &mut registers);
    registers
}

/// Makes the call that `thread` is about to make another one. Returns its registers.
pub(super) fn replace(thread: pid_t, number: c_long, arguments: [i64; 4]) -> Before {
    let before = registers(thread);
    let mut registers = before;
    registers.regs[..4].copy_from_slice(&arguments.map(i64::cast_unsigned));
    set_of(libc::PTRACE_SETREGSET, thread, GENERAL, &mut registers);
    let mut number = c_int::try_from(number).unwrap();
    set_of(libc::PTRACE_SETREGSET, thread, CALL, &mut number);
    before
}

/// Has `thread`, which has made a call of ours, make its own: the instruction is four bytes long.
/// Returns what the kernel answered to ours.
pub(super) fn again(thread: pid_t, mut before: Before) -> i64 {
    let [answer, ..] = registers(thread).regs;
    before.pc -= 4;
    set_of(libc::PTRACE_SETREGSET, thread, GENERAL, &mut before);
    answer.cast_signed()
}
