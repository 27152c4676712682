//! Lists of system calls as programs for the kernel (seccomp(2), `SECCOMP_SET_MODE_FILTER`; classic
//! BPF: Documentation/networking/filter.rst).
//!
//! The programs are made by the compiler, so that a start pays for none of it. They search by halves,
//! and halves of all numbers, not of those in a list: the kernel runs a new filter once for every
//! number there is, to remember those that need no look at their arguments, and that is most of what
//! a filter costs. A test holds them to what `seccompiler` makes of the same lists.

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
    /// The same; and of what does not pass them, nobody dies: it is told that it has no right to.
    OrDenied(&'static [(u8, Test)]),
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
            Rule::If(tests) | Rule::OrDenied(tests) => {
                for (number, (index, test)) in tests.iter().enumerate() {
                    let word = if number == 0 { "if" } else { "and" };
                    write!(f, " {word} argument {index} {test}")?;
                }
                match self.rule {
                    Rule::OrDenied(_) => f.write_str(", else denied"),
                    _ => Ok(()),
                }
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
    let spans = Spans::new(&sorted(list));
    program.search(&spans, 0, spans.len);
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

/// All numbers, in order: those of calls, and what lies between them, which is trapped.
struct Spans {
    /// Each one's first number.
    first: [u32; CAPACITY],
    rule: [Rule; CAPACITY],
    len: usize,
}

/// The kernel runs a new filter for the numbers below this, more or less.
const NUMBERS: u32 = 470;

/// Stands for what is on no list.
const TRAPPED: Rule = Rule::If(&[]);

/// So many calls are compared with, one after the other.
const FEW: usize = 3;

impl Spans {
    const fn new(calls: &[Call]) -> Self {
        let mut spans = Self { first: [0; CAPACITY], rule: [TRAPPED; CAPACITY], len: 0 };
        let (mut next, mut at) = (0, 0);
        while at < calls.len() {
            if calls[at].number > next {
                spans.push(next, TRAPPED);
            }
            spans.push(calls[at].number, calls[at].rule);
            next = calls[at].number + 1;
            at += 1;
        }
        spans.push(next, TRAPPED);
        spans
    }

    const fn push(&mut self, first: u32, rule: Rule) {
        if self.len > 0 && matches!((self.rule[self.len - 1], rule), (Rule::Any, Rule::Any)) {
            return; // the one before goes on
        }
        (self.first[self.len], self.rule[self.len]) = (first, rule);
        self.len += 1;
    }

    /// Whether one number has this span, and a list has it.
    const fn is_lone_call(&self, at: usize) -> bool {
        !matches!(self.rule[at], Rule::If([])) && self.first[at + 1] - self.first[at] == 1
    }

    /// Whether some spans are lone calls, a few, and numbers that are trapped.
    const fn are_lone_calls(&self, from: usize, to: usize) -> bool {
        let (mut calls, mut at) = (0, from);
        while at < to {
            if self.is_lone_call(at) {
                calls += 1;
            } else if !matches!(self.rule[at], Rule::If([])) {
                return false;
            }
            at += 1;
        }
        calls <= FEW && calls < to - from
    }

    /// Where to divide some spans: by numbers, of which each costs the kernel the same.
    const fn middle(&self, from: usize, to: usize) -> usize {
        let end = if to < self.len { self.first[to] } else { NUMBERS };
        let wanted = u32::midpoint(self.first[from], end);
        let mut middle = from + 1;
        while middle + 1 < to
            && self.first[middle + 1].abs_diff(wanted) < self.first[middle].abs_diff(wanted)
        {
            middle += 1;
        }
        middle
    }

    /// Where a jump to these spans leads, or 0 where there is something to look at.
    const fn label(&self, from: usize, to: usize) -> u8 {
        match self.rule[from] {
            _ if to - from > 1 => 0,
            Rule::Any => ALLOW,
            Rule::Denied => DENY,
            Rule::If([]) => TRAP,
            Rule::If(_) | Rule::OrDenied(_) => 0,
        }
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch,
    };

    use super::super::lists;
    use super::*;
    use crate::jail::Role;

    const PROCESS: u32 = 4321;

    /// What a call looks like to a filter.
    #[derive(Clone, Copy, Debug)]
    struct Data {
        number: u32,
        arch: u32,
        arguments: [u64; 6],
    }

    impl Data {
        fn load(&self, offset: u32) -> u32 {
            let halves = |argument: &u64| {
                let [a, b, c, d, e, f, g, h] = argument.to_le_bytes();
                [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
            };
            match usize::try_from(offset).unwrap() {
                NUMBER => self.number,
                ARCHITECTURE => self.arch,
                offset => {
                    let index = (offset - argument(0)) / 4;
                    self.arguments.iter().flat_map(halves).nth(index).unwrap()
                }
            }
        }
    }

    /// What the kernel does for `data`, told `(code, jt, jf, k)` of each instruction.
    fn verdict(code: &[(u16, u8, u8, u32)], data: &Data) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let (code, jt, jf, k) = code[at];
            let branch = |taken| usize::from(if taken { jt } else { jf });
            at += 1 + match u32::from(code) {
                0x20 => {
                    accumulator = data.load(k);
                    0
                }
                0x15 => branch(accumulator == k),
                0x25 => branch(accumulator > k),
                0x35 => branch(accumulator >= k),
                0x45 => branch(accumulator & k != 0),
                0x05 => usize::try_from(k).unwrap(),
                0x54 => {
                    accumulator &= k;
                    0
                }
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            };
        }
    }

    fn ours(role: Role) -> Vec<(u16, u8, u8, u32)> {
        let mut program = lists::filter(role);
        let code = program.instructions(PROCESS).iter();
        code.map(|i| (i.code, i.jt, i.jf, i.k)).collect()
    }

    /// What seccompiler makes of the calls that `keep` wants, for whom `matched` is done where their
    /// arguments are among what `told` says.
    fn theirs(
        role: Role,
        keep: impl Fn(&Rule) -> bool,
        told: impl Fn(Rule) -> Vec<SeccompRule>,
        (matched, otherwise): (SeccompAction, SeccompAction),
    ) -> Vec<(u16, u8, u8, u32)> {
        let rules = lists::list(role).iter().filter(|call| keep(&call.rule));
        let rules: BTreeMap<i64, Vec<SeccompRule>> =
            rules.map(|call| (call.number.into(), told(call.rule))).collect();
        let arch: TargetArch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, otherwise, matched, arch).unwrap();
        let program: BpfProgram = filter.try_into().unwrap();
        program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
    }

    /// A rule as seccompiler has it: any of several, each of all its conditions.
    fn alternatives(rule: Rule) -> Vec<SeccompRule> {
        let (Rule::If(tests) | Rule::OrDenied(tests)) = rule else { return Vec::new() };
        let mut all: Vec<Vec<SeccompCondition>> = vec![Vec::new()];
        for (index, test) in tests {
            let condition = |op, value: u32| {
                SeccompCondition::new(*index, SeccompCmpArgLen::Dword, op, value.into()).unwrap()
            };
            let masked = |mask: u32| SeccompCmpOp::MaskedEq(mask.into());
            let choices = match test {
                Test::Without(bits) => vec![condition(masked(*bits), 0)],
                Test::With(bit) => vec![condition(masked(*bit), *bit)],
                Test::OwnProcess => vec![condition(SeccompCmpOp::Eq, PROCESS)],
                Test::Among(values) => {
                    values.iter().map(|value| condition(SeccompCmpOp::Eq, *value)).collect()
                }
            };
            let with = |choice: &SeccompCondition| {
                let choice = choice.clone();
                all.iter()
                    .map(move |before| [&before[..], std::slice::from_ref(&choice)].concat())
                    .collect::<Vec<_>>()
            };
            all = choices.iter().flat_map(with).collect();
        }
        all.into_iter().map(|conditions| SeccompRule::new(conditions).unwrap()).collect()
    }

    /// What a rule denies, as seccompiler has it: whatever fails one of its tests.
    fn refusals(rule: Rule) -> Vec<SeccompRule> {
        let Rule::OrDenied(tests) = rule else { return Vec::new() };
        let fails = |(index, test): &(u8, Test)| {
            let (bits, value) = match test {
                Test::Without(bit) if bit.is_power_of_two() => (*bit, *bit),
                Test::With(bit) => (*bit, 0),
                other => panic!("{other:?}"),
            };
            let op = SeccompCmpOp::MaskedEq(bits.into());
            let length = SeccompCmpArgLen::Dword;
            let condition = SeccompCondition::new(*index, length, op, value.into()).unwrap();
            SeccompRule::new(vec![condition]).unwrap()
        };
        tests.iter().map(fails).collect()
    }

    /// Calls of every number with arguments that tests ask for, and with others near them.
    fn samples(role: Role) -> Vec<Data> {
        let mut values = vec![0, 1, u64::MAX, 1 << 32];
        for call in lists::list(role) {
            let (Rule::If(tests) | Rule::OrDenied(tests)) = call.rule else { continue };
            for (_, test) in tests {
                let asked: Vec<u32> = match test {
                    Test::Without(bits) | Test::With(bits) => vec![*bits],
                    Test::OwnProcess => vec![PROCESS],
                    Test::Among(values) => values.to_vec(),
                };
                for value in asked.into_iter().map(u64::from) {
                    let below = value.wrapping_sub(1);
                    values.extend([value, value + 1, below, value | 1 << 32, !value]);
                }
            }
        }
        let x32 = 0x4000_0000;
        let numbers = (0..600).chain(x32..x32 + 600).chain([u32::MAX]);
        let mut samples = Vec::new();
        for number in numbers {
            for (at, value) in values.iter().enumerate() {
                let other = values[(at * 7 + 3) % values.len()];
                for arguments in [
                    [*value; 6],
                    [*value, *value, other, *value, other, 0],
                    [other, *value, *value, other, 0, 0],
                ] {
                    samples.push(Data { number, arch: ARCH, arguments });
                }
            }
        }
        samples
    }

    #[test]
    fn the_filters_do_what_seccompiler_makes_of_the_same_lists() {
        for role in Role::ALL {
            let ours = ours(role);
            // It takes two: its filters know one action beside the other.
            let denied = |rule: &Rule| matches!(rule, Rule::Denied | Rule::OrDenied(_));
            let eacces = SeccompAction::Errno(libc::EACCES.unsigned_abs());
            let first = theirs(role, denied, refusals, (eacces, SeccompAction::Allow));
            let second =
                theirs(role, |_| true, alternatives, (SeccompAction::Allow, SeccompAction::Trap));
            let mut allowed = 0;
            for data in samples(role) {
                // The kernel runs both, and the stricter action counts: here, the smaller number,
                // but for errors, which come before a trap.
                let theirs = match (verdict(&first, &data), verdict(&second, &data)) {
                    (SECCOMP_RET_ALLOW, second) => second,
                    (first, _) => first,
                };
                let verdict = verdict(&ours, &data);
                assert_eq!(verdict, theirs, "{role:?} {data:x?}");
                allowed += u32::from(verdict == SECCOMP_RET_ALLOW);
            }
            assert!(allowed > 1000, "{role:?}: {allowed}");
        }
    }

    #[test]
    fn calls_of_another_architecture_are_trapped() {
        for role in Role::ALL {
            for number in 0..600 {
                let data = Data { number, arch: 0x4000_0003, arguments: [0; 6] };
                assert_eq!(verdict(&ours(role), &data), SECCOMP_RET_TRAP, "{role:?} {data:?}");
            }
        }
    }

    #[test]
    fn lists_are_as_short_as_was_promised() {
        // The README has these numbers. A debug build's library has one call more where it closes.
        let debug = usize::from(cfg!(debug_assertions));
        for (role, promised, fcntl) in [
            (Role::Main, 18, debug),
            (Role::MainDisk, 22, debug),
            (Role::Vcpu, 19, debug),
            (Role::Io, 25, debug),
            (Role::Network, 38, debug),
            (Role::Vsock, 33, debug),
            (Role::NetworkVsock, 39, debug),
            (Role::Disk, 24, 0),
            (Role::Share, 37, debug),
        ] {
            let list = lists::list(role);
            assert_eq!(list.len(), promised + fcntl, "{role:?}");
            let named = list.iter().filter(|call| call.name == "fcntl").count();
            assert_eq!(named, fcntl, "{role:?}");
        }
        for role in Role::ALL {
            // A network's calls, and those that name files, are asked for their arguments more often.
            let most = match role {
                Role::Network | Role::NetworkVsock | Role::Share => 104,
                _ => 80,
            };
            assert!(ours(role).len() < most, "{role:?}: {} instructions", ours(role).len());
        }
    }
}
