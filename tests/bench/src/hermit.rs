//! A Hermit unikernel under runner and under crates.io's `uhyve`: what it says and ends with, and what a run takes.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::measure::{Candidate, Sample, once};

/// Memory of the guest, in MiB: uhyve's default.
const MEMORY: u64 = 64;
/// Where the script of our own unikernel has structures and texts (`tests/guests/x86_64/hermit/script.S`).
const AT: u64 = 0x28_0000;
/// What it says first.
const GREETING: &str = "Hello from a Hermit unikernel!\n";
/// What is in the file that it reads.
const CONTENT: &str = "read from a file\n";
/// What it ends with.
const STATUS: u64 = 7;

/// A unikernel, and what it is told.
#[derive(Debug)]
pub struct Unikernel {
    path: PathBuf,
    words: Vec<String>,
    /// A folder that it has at /root.
    folder: PathBuf,
    /// What tells that it speaks.
    marker: &'static str,
}

impl Unikernel {
    /// Our own, in `folder`: it greets, prints what a file has in it, and ends with 7.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn own(folder: &Path) -> Result<Self, String> {
        let written = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, String>(path)
        };
        let path = written("script.elf", guests::x86_64::hermit::SCRIPT)?;
        written("file", CONTENT.as_bytes())?;
        // Twice: uhyve 0.10 puts each argument where the one before belongs.
        Ok(Self { path, words: vec![script(); 2], folder: folder.to_owned(), marker: GREETING })
    }

    /// Another; `folder` is its /root.
    #[must_use]
    pub fn at(path: PathBuf, folder: &Path) -> Self {
        Self { path, words: Vec::new(), folder: folder.to_owned(), marker: "\n" }
    }

    /// How the two are started with it.
    #[must_use]
    pub fn candidates(&self, runner: &Path, uhyve: &Path) -> [Candidate; 2] {
        let text = |path: &Path| path.display().to_string();
        let (kernel, folder) = (text(&self.path), text(&self.folder));
        let of = |name: &str, start: Vec<String>| Candidate {
            name: name.to_owned(),
            argv: [start, self.words.clone()].concat(),
            marker: self.marker,
        };
        let mut ours = vec![text(runner), format!("-m{MEMORY}M"), format!("--share={folder}:root")];
        ours.extend([kernel.clone(), "--".to_owned()]);
        let mut theirs = vec![text(uhyve), format!("-m{MEMORY}MiB")];
        theirs.extend([format!("--file-mapping={folder}:/root"), kernel]);
        [of("runner", ours), of("uhyve", theirs)]
    }
}

/// What our own unikernel does, in its words: greets by `serial write buffer`, and by the first version of the
/// interface opens a file, reads it, writes it to the console, and ends.
fn script() -> String {
    let (path, data, len) = (AT + 0x1000, AT + 0x2000, CONTENT.len() as u64);
    let mut words = String::new();
    let mut text = |at: u64, text: &str| {
        for (chunk, at) in text.as_bytes().chunks(8).zip((at..).step_by(8)) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            let _ = write!(words, "s{at:x},{:x} ", u64::from_le_bytes(word));
        }
    };
    text(data, GREETING);
    text(path, "/root/file\0");
    let mut call = |number: u64, fields: &[u64]| {
        for (field, at) in fields.iter().zip((AT..).step_by(8)) {
            let _ = write!(words, "s{at:x},{field:x} ");
        }
        let _ = write!(words, "c{number:x},{AT:x} ");
    };
    call(0x880, &[data, GREETING.len() as u64]);
    call(0x440, &[path, 0, 0]);
    // A descriptor of 32 bits, and behind it without a gap where the buffer is, and its length.
    let transfer = |fd: u64| [fd | data << 32, data >> 32 | len << 32, len >> 32, 0];
    call(0x500, &transfer(3));
    call(0x400, &transfer(1));
    call(0x540, &[STATUS]);
    words
}

/// What a run says, and what it ends with.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// What was on stdout.
    pub text: String,
    /// The exit status.
    pub status: Option<i32>,
}

/// Runs `candidate` for what it says.
///
/// # Errors
/// When it cannot be started.
pub fn said(candidate: &Candidate) -> Result<Said, String> {
    let (program, args) = candidate.argv.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(args).env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|e| format!("{program}: {e}"))?;
    let mut bytes = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut bytes).map_err(|error| format!("{program}: {error}"))?;
    }
    let status = child.wait().map_err(|error| format!("{program}: {error}"))?;
    Ok(Said { text: String::from_utf8_lossy(&bytes).into_owned(), status: status.code() })
}

/// Lines that are in one of both alone: a kernel's log has addresses and names of the processor in it.
#[must_use]
pub fn differing(ours: &str, theirs: &str) -> usize {
    let mut left: Vec<&str> = theirs.lines().collect();
    let only_ours = ours.lines().filter(|line| match left.iter().position(|other| other == line) {
        Some(at) => {
            left.swap_remove(at);
            false
        }
        None => true,
    });
    only_ours.count() + left.len()
}

/// Runs both in turn, `rounds` times after one that does not count.
///
/// # Errors
/// As [`once`].
pub fn pairs(candidates: &[Candidate; 2], rounds: usize) -> Result<Vec<[Sample; 2]>, String> {
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let [ours, theirs] = candidates;
        let pair = match round % 2 {
            0 => [once(ours)?, once(theirs)?],
            _ => {
                let theirs = once(theirs)?;
                [once(ours)?, theirs]
            }
        };
        if round > 0 {
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

/// Least, median and most of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The one in the middle.
    pub median: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of `values`; nothing of none.
    #[must_use]
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len() / 2)?;
        Some(Self { least: *values.first()?, median, most: *values.last()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_one_alone_has_are_counted_wherever_they_are() {
        assert_eq!(differing("a\nb\n", "b\na\n"), 0);
        assert_eq!(differing("a\nb\nb\n", "b\nc\n"), 3);
    }

    #[test]
    fn the_middle_is_the_median_and_of_nothing_there_is_none() {
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter()).unwrap();
        assert_eq!(spread, Spread { least: 1.0, median: 2.0, most: 3.0 });
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn the_script_has_a_word_for_each_store_and_each_call() {
        let script = script();
        let calls = script.split_whitespace().filter(|word| word.starts_with('c')).count();
        assert_eq!(calls, 5);
        assert!(script.contains(&format!("s281000,{:x} ", u64::from_le_bytes(*b"/root/fi"))));
    }
}
