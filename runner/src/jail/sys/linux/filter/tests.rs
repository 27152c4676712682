//! Each list's program, held to what `seccompiler` makes of the same list.

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
fn a_window_has_its_size_asked_for_by_the_i_o_loop_whatever_else_that_serves() {
    let number = libc::SYS_ioctl.try_into().unwrap();
    let arguments = [0, 0x5413, 0, 0, 0, 0]; // TIOCGWINSZ
    let data = Data { number, arch: ARCH, arguments };
    for role in Role::ALL {
        use Role::{Io, Network, NetworkVsock, Vsock};
        let allowed = verdict(&ours(role), &data) == SECCOMP_RET_ALLOW;
        let is_loop = matches!(role, Io | Network | Vsock | NetworkVsock);
        assert_eq!(allowed, is_loop, "{role:?}");
    }
}

#[test]
fn lists_are_as_short_as_was_promised() {
    // The README has these numbers. A debug build's library has one call more where it closes.
    let debug = usize::from(cfg!(debug_assertions));
    for (role, promised, fcntl) in [
        (Role::Main, 18, debug),
        (Role::MainDisk, 22, debug),
        (Role::MainDump, 23, debug),
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
