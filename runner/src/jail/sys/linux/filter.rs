//! Lists of system calls as programs for the kernel (seccomp(2), `SECCOMP_SET_MODE_FILTER`; classic
//! BPF: Documentation/networking/filter.rst).
//!
//! The programs are made by the compiler, so that a start pays for none of it. They search the call's
//! number by halves: the kernel runs a new filter once for every number there is, to remember those
//! that need no look at their arguments, and that is most of what a filter costs. A test holds them
//! to what `seccompiler` makes of the same lists.

use std::fmt;
use std::mem::offset_of;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_TRAP, seccomp_data, sock_filter,
};

/// One argument of a call: its low 32 bits, which are all that the kernel looks at in those that are
/// asked for here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    /// None of these bits is set.
    Without(u32),
    /// All of these bits, of which there is one, are set.
    With(u32),
    /// It is one of these.
    Among(&'static [u32]),
    /// It is this process's id.
    OwnProcess,
}

/// What a thread may do with a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// Anything.
    Any,
    /// What passes these tests, each of an argument by its number from 0 on.
    If(&'static [(u8, Test)]),
    /// Nothing, and it is told that it has no right to (EACCES).
    Denied,
}

/// A line of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// As the kernel calls it.
    pub(super) name: &'static str,
    /// Its number on this architecture.
    pub(super) number: u32,
    /// What is allowed of it.
    pub(super) rule: Rule,
}

impl fmt::Display for Call {
    /// `ioctl(16) if argument 1 is 0xae80 or 0x8090ae81`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name, self.number)?;
        match self.rule {
            Rule::Any => Ok(()),
            Rule::Denied => f.write_str(" denied"),
            Rule::If(tests) => {
                for (number, (index, test)) in tests.iter().enumerate() {
                    let word = if number == 0 { "if" } else { "and" };
                    write!(f, " {word} argument {index} {test}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::Without(bits) => write!(f, "has none of {bits:#x}"),
            Test::With(bit) => write!(f, "has {bit:#x}"),
            Test::OwnProcess => f.write_str("is this process"),
            Test::Among(values) => {
                let values: Vec<String> =
                    values.iter().map(|value| format!("{value:#x}")).collect();
                write!(f, "is {}", values.join(" or "))
            }
        }
    }
}

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
    program.search(&sorted(list), 0, N);
    program.leave(ALLOW, SECCOMP_RET_ALLOW);
    program.leave(TRAP, SECCOMP_RET_TRAP);
    program.leave(DENY, SECCOMP_RET_ERRNO | libc::EACCES.unsigned_abs());
    program
}

const fn sorted<const N: usize>(mut list: [Call; N]) -> [Call; N] {
    let mut done = 1;
    while done < N {
        let mut at = done;
        while at > 0 && list[at].number < list[at - 1].number {
            (list[at], list[at - 1]) = (list[at - 1], list[at]);
            at -= 1;
        }
        assert!(at == 0 || list[at].number != list[at - 1].number, "a call is in its list twice");
        done += 1;
    }
    list
}

impl Program {
    const fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.code[self.len] = sock_filter { code, jt, jf, k };
        self.len += 1;
    }

    /// Appends what decides about the calls from `from` to below `to`, and leaves the search.
    const fn search(&mut self, list: &[Call], from: usize, to: usize) {
        if to - from > 1 {
            let middle = from + (to - from) / 2;
            let branch = self.len;
            self.push(IF_AT_LEAST, 0, 0, list[middle].number);
            self.search(list, from, middle);
            self.code[branch].jt = self.distance(branch);
            self.search(list, middle, to);
            return;
        }
        let Call { number, rule, .. } = list[from];
        match rule {
            Rule::Any => self.push(IF_EQUAL, ALLOW, TRAP, number),
            Rule::Denied => self.push(IF_EQUAL, DENY, TRAP, number),
            Rule::If(tests) => {
                self.push(IF_EQUAL, 0, TRAP, number);
                let mut index = 0;
                while index < tests.len() {
                    let passed = if index + 1 < tests.len() { 0 } else { ALLOW };
                    self.test(tests[index].0, tests[index].1, passed);
                    index += 1;
                }
            }
        }
    }

    /// Appends what goes to `passed` if an argument passes `test`, and traps if not.
    const fn test(&mut self, index: u8, test: Test, passed: u8) {
        self.push(LOAD, 0, 0, word(argument(index)));
        match test {
            Test::Without(bits) => self.push(IF_ANY_BIT, TRAP, passed, bits),
            Test::With(bit) => {
                assert!(bit.is_power_of_two(), "a jump asks for any of the bits");
                self.push(IF_ANY_BIT, passed, TRAP, bit);
            }
            Test::OwnProcess => {
                assert!(self.own_process.is_none(), "one call of a list asks for the process");
                self.own_process = Some(self.len);
                self.push(IF_EQUAL, passed, TRAP, 0);
            }
            Test::Among(values) => {
                assert!(passed == ALLOW, "the last test of a call, so that jumps can leave");
                let mut at = 0;
                while at < values.len() {
                    let next = if at + 1 < values.len() { 0 } else { TRAP };
                    self.push(IF_EQUAL, passed, next, values[at]);
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
