//! A list as all numbers that there are: whose span each is in, and where they are divided.

use super::rule::{Call, Rule};
use super::{ALLOW, CAPACITY, DENY, TRAP};

/// All numbers, in order: those of calls, and what lies between them, which is trapped.
pub(super) struct Spans {
    /// Each one's first number.
    pub(super) first: [u32; CAPACITY],
    pub(super) rule: [Rule; CAPACITY],
    pub(super) len: usize,
}

/// The kernel runs a new filter for the numbers below this, more or less.
const NUMBERS: u32 = 470;

/// Stands for what is on no list.
const TRAPPED: Rule = Rule::If(&[]);

/// So many calls are compared with, one after the other.
const FEW: usize = 3;

impl Spans {
    pub(super) const fn new<const N: usize>(list: [Call; N]) -> Self {
        let calls = sorted(list);
        let mut spans = Self { first: [0; CAPACITY], rule: [TRAPPED; CAPACITY], len: 0 };
        let (mut next, mut at) = (0, 0);
        while at < N {
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
    pub(super) const fn is_lone_call(&self, at: usize) -> bool {
        !matches!(self.rule[at], Rule::If([])) && self.first[at + 1] - self.first[at] == 1
    }

    /// Whether some spans are lone calls, a few, and numbers that are trapped.
    pub(super) const fn are_lone_calls(&self, from: usize, to: usize) -> bool {
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
    pub(super) const fn middle(&self, from: usize, to: usize) -> usize {
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
    pub(super) const fn label(&self, from: usize, to: usize) -> u8 {
        match self.rule[from] {
            _ if to - from > 1 => 0,
            Rule::Any => ALLOW,
            Rule::Denied => DENY,
            Rule::If([]) => TRAP,
            Rule::If(_) | Rule::OrDenied(_) => 0,
        }
    }
}

/// In the order of their numbers.
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
