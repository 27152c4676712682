//! Unikernels that do what they are told in words (`tests/guests/*/script.inc`), and what comes of it.

use super::program::{Finished, Runner, says};

/// What a guest does.
#[derive(Clone)]
pub(crate) struct Script {
    words: Vec<String>,
    /// Where the structures of its calls are.
    structures: u64,
}

impl Script {
    /// Nothing yet; calls have their structures `at` that place.
    pub(crate) fn at(structures: u64) -> Self {
        Self { words: Vec::new(), structures }
    }

    pub(crate) fn word(mut self, word: String) -> Self {
        self.words.push(word);
        self
    }

    pub(crate) fn store(self, at: u64, value: u64) -> Self {
        self.word(format!("s{at:x},{value:x}"))
    }

    /// Prints 64 bits.
    pub(crate) fn print(self, at: u64) -> Self {
        self.word(format!("r{at:x}"))
    }

    /// Makes a call with a value.
    pub(crate) fn raw(self, number: u64, value: u64) -> Self {
        self.word(format!("c{number:x},{value:x}"))
    }

    /// Makes a call with a structure, which begins with these words.
    pub(crate) fn call(self, number: u64, words: &[u64]) -> Self {
        let at = self.structures;
        let places = (0..).map(|index| at + 8 * index);
        let stored = places.zip(words).fold(self, |script, (at, word)| script.store(at, *word));
        stored.raw(number, at)
    }

    /// All of it, for the guest.
    pub(crate) fn line(&self) -> String {
        self.words.join(" ")
    }
}

/// The numbers that it printed.
pub(crate) fn printed(finished: &Finished) -> Vec<u64> {
    let lines = finished.quiet_text().lines();
    lines.map(|line| u64::from_str_radix(line, 16).unwrap()).collect()
}

/// Ends with the guest's breaking of the rules, one line that has `wanted` in it.
pub(crate) fn violates(run: Runner, wanted: &str) -> Finished {
    let finished = run.ends_with(126);
    says(&finished.stderr, &["the guest broke the rules of its interface: ", wanted]);
    assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
    finished
}
