//! What a list has in each of its lines: a call, and what is allowed of it.

use std::fmt;

/// One argument of a call: its low 32 bits, which are all that the kernel looks at in those that are
/// asked for here.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Test {
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
pub(in super::super) enum Rule {
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
pub(in super::super) struct Call {
    /// As the kernel calls it.
    pub(in super::super) name: &'static str,
    /// Its number on this architecture.
    pub(in super::super) number: u32,
    /// What is allowed of it.
    pub(in super::super) rule: Rule,
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
