//! Lists of system calls as programs for the kernel (seccomp(2), `SECCOMP_SET_MODE_FILTER`; classic
//! BPF: Documentation/networking/filter.rst).
//!
//! The programs are made by the compiler, so that a start pays for none of it. They search by halves,
//! and halves of all numbers, not of those in a list: the kernel runs a new filter once for every
//! number there is, to remember those that need no look at their arguments, and that is most of what
//! a filter costs. A test holds them to what `seccompiler` makes of the same lists.

mod rule;
mod spans;
#[cfg(test)]
mod tests;

use std::mem::offset_of;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_TRAP, seccomp_data, sock_filter,
};

pub(super) use rule::{Call, Rule, Test};
use spans::Spans;

/// No list of ours needs more, and jumps reach 252 instructions.
const CAPACITY: usize = 128;

/// Instructions, and where among them the process's id belongs.
#[derive(Clone, Copy)]
pub(super) struct Program {
    code: [sock_filter; CAPACITY],
    len: usize,
    own_process: Option<usize>,
}

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

#[expect(clippy::cast_possible_truncation, reason = "constants of the kernel's, all below 2^16")]
const fn op(code: u32) -> u16 {
    code as u16
}

#[expect(clippy::cast_possible_truncation, reason = "offsets within 64 bytes")]
const fn word(offset: usize) -> u32 {
    offset as u32
}

const LOAD: u16 = op(BPF_LD | BPF_W | BPF_ABS);
const IF_EQUAL: u16 = op(BPF_JMP | BPF_JEQ | BPF_K);
const IF_AT_LEAST: u16 = op(BPF_JMP | BPF_JGE | BPF_K);
const IF_ANY_BIT: u16 = op(BPF_JMP | BPF_JSET | BPF_K);
const RETURN: u16 = op(BPF_RET | BPF_K);

/// Where `seccomp_data` has what a program loads. Both architectures are little-endian: the low half
/// of an argument comes first.
const NUMBER: usize = offset_of!(seccomp_data, nr);
const ARCHITECTURE: usize = offset_of!(seccomp_data, arch);
const fn argument(index: u8) -> usize {
    offset_of!(seccomp_data, args) + 8 * index as usize
}

/// Where a jump goes that leaves the search, until the program's length is known. No jump within is
/// that long.
const ALLOW: u8 = 255;
const TRAP: u8 = 254;
const DENY: u8 = 253;

/// Makes the program that allows `list` and traps everything else. It is as short as can be, and so is
/// what the kernel does with it: every thread pays for that.
pub(super) const fn program<const N: usize>(list: [Call; N]) -> Program {
    let nothing = sock_filter { code: 0, jt: 0, jf: 0, k: 0 };
    let mut program = Program { code: [nothing; CAPACITY], len: 0, own_process: None };
    program.push(LOAD, 0, 0, word(ARCHITECTURE));
    program.push(IF_EQUAL, 0, TRAP, ARCH);
    program.push(LOAD, 0, 0, word(NUMBER));
    let spans = Spans::new(list);
    program.search(&spans, 0, spans.len);
    program.leave(ALLOW, SECCOMP_RET_ALLOW);
    program.leave(TRAP, SECCOMP_RET_TRAP);
    program.leave(DENY, SECCOMP_RET_ERRNO | libc::EACCES.unsigned_abs());
    program
}

impl Program {
    const fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.code[self.len] = sock_filter { code, jt, jf, k };
        self.len += 1;
    }

    /// Appends what decides about the numbers of some spans, `from` to below `to`, of which there are
    /// two or more, and leaves the search.
    const fn search(&mut self, spans: &Spans, from: usize, to: usize) {
        if spans.are_lone_calls(from, to) {
            return self.compare(spans, from, to);
        }
        let middle = spans.middle(from, to);
        let branch = self.len;
        self.push(
            IF_AT_LEAST,
            spans.label(middle, to),
            spans.label(from, middle),
            spans.first[middle],
        );
        if self.code[branch].jf == 0 {
            self.part(spans, from, middle);
        }
        if self.code[branch].jt == 0 {
            self.code[branch].jt = self.distance(branch);
            self.part(spans, middle, to);
        }
    }

    /// The same for lone calls: one comparison for each, where halves would take two.
    const fn compare(&mut self, spans: &Spans, from: usize, to: usize) {
        let first = self.len;
        let mut at = from;
        while at < to {
            if spans.is_lone_call(at) {
                self.push(IF_EQUAL, spans.label(at, at + 1), 0, spans.first[at]);
            }
            at += 1;
        }
        self.code[self.len - 1].jf = TRAP;
        let (mut branch, mut at) = (first, from);
        while at < to {
            if spans.is_lone_call(at) {
                if self.code[branch].jt == 0 {
                    self.code[branch].jt = self.distance(branch);
                    self.part(spans, at, at + 1);
                }
                branch += 1;
            }
            at += 1;
        }
    }

    /// Appends what decides about one span or more.
    const fn part(&mut self, spans: &Spans, from: usize, to: usize) {
        if to - from > 1 {
            return self.search(spans, from, to);
        }
        let (tests, failed) = match spans.rule[from] {
            Rule::If(tests) => (tests, TRAP),
            Rule::OrDenied(tests) => (tests, DENY),
            Rule::Any | Rule::Denied => return,
        };
        let mut index = 0;
        while index < tests.len() {
            let passed = if index + 1 < tests.len() { 0 } else { ALLOW };
            self.test(tests[index], passed, failed);
            index += 1;
        }
    }

    /// Appends what goes to `passed` if an argument passes `test`, and to `failed` if not.
    #[expect(clippy::cast_possible_truncation, reason = "checked")]
    const fn test(&mut self, (index, test): (u8, Test), passed: u8, failed: u8) {
        self.push(LOAD, 0, 0, word(argument(index)));
        match test {
            Test::Without(bits) => self.push(IF_ANY_BIT, failed, passed, bits),
            Test::With(bit) => {
                assert!(bit.is_power_of_two(), "a jump asks for any of the bits");
                self.push(IF_ANY_BIT, passed, failed, bit);
            }
            Test::OwnProcess => {
                assert!(self.own_process.is_none(), "one call of a list asks for the process");
                self.own_process = Some(self.len);
                self.push(IF_EQUAL, passed, failed, 0);
            }
            Test::Among(values) => {
                let end = self.len + values.len();
                assert!(end < ALLOW as usize, "a jump over a few values");
                let mut at = 0;
                while at < values.len() {
                    let next = if at + 1 < values.len() { 0 } else { failed };
                    // On to the next test of the call: behind the other values.
                    let on = if passed == ALLOW { ALLOW } else { (end - self.len - 1) as u8 };
                    self.push(IF_EQUAL, on, next, values[at]);
                    at += 1;
                }
            }
        }
    }

    /// Appends the end that jumps to `label` want.
    const fn leave(&mut self, label: u8, action: u32) {
        let mut at = 0;
        while at < self.len {
            if self.code[at].jt == label {
                self.code[at].jt = self.distance(at);
            }
            if self.code[at].jf == label {
                self.code[at].jf = self.distance(at);
            }
            at += 1;
        }
        self.push(RETURN, 0, 0, action);
    }

    /// How far it is from the instruction at `branch` to the next that is pushed.
    #[expect(clippy::cast_possible_truncation, reason = "checked")]
    const fn distance(&self, branch: usize) -> u8 {
        let distance = self.len - branch - 1;
        assert!(distance < DENY as usize, "the list is too long for jumps of a byte");
        distance as u8
    }

    /// The instructions for the process with the id `process`.
    pub(super) fn instructions(&mut self, process: u32) -> &[sock_filter] {
        if let Some(instruction) = self.own_process.and_then(|at| self.code.get_mut(at)) {
            instruction.k = process;
        }
        self.code.get(..self.len).unwrap_or_default()
    }
}
