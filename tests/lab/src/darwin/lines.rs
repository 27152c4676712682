//! What only a Mac compiles, and so nobody of us has run: listed, counted, and kept small. And every
//! condition on the operating system outside `sys/`, each with its reason.
//!
//! Counted are lines of code, in files that `sys/` has for macOS and in what a `cfg` leaves to macOS alone
//! ([`source`](super::source)); a `cfg!` in an expression counts as its line.

use super::allowed::{ALLOWED, Allowed};
use super::source::{Condition, Source};
use crate::command::Result;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Lines that no machine of ours executes.
const LIMIT: usize = 400;

/// Reads all sources below `root`, prints what it found, and fails where the lists do not hold.
pub(crate) fn check(root: &Path) -> Result<()> {
    let found = Found::in_workspace(root)?;
    print!("{}", found.describe());
    let wrong = found.objections(ALLOWED, LIMIT);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n     ")) }
}

/// A piece of a file that macOS alone compiles.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    file: String,
    /// From 1; all lines of a file of `sys`.
    first: usize,
    lines: usize,
}

#[derive(Debug, Default)]
struct Found {
    pieces: Vec<Piece>,
    /// Lines with conditions on the system, by file, outside `sys`.
    conditions: BTreeMap<String, Vec<(usize, String)>>,
}

impl Found {
    fn in_workspace(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for folder in ["hv", "hv-hvf", "hv-kvm", "runner", "tests"] {
            collect(&root.join(folder), &mut files)?;
        }
        files.sort();
        let mut found = Self::default();
        for file in &files {
            let text = fs::read_to_string(file)
                .map_err(|e| format!("cannot read {}: {e}", file.display()))?;
            let name = file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned();
            found.add(&name, &text).map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(found)
    }

    fn add(&mut self, file: &str, text: &str) -> Result<()> {
        let source = Source::new(text);
        let conditions = source.conditions()?;
        if is_macos_file(file) {
            self.pieces.push(Piece {
                file: file.to_owned(),
                first: 1,
                lines: source.count(source.lines()),
            });
        } else {
            for lines in apart(&conditions) {
                let (first, lines) = (lines.start, source.count(lines));
                self.pieces.push(Piece { file: file.to_owned(), first, lines });
            }
        }
        if is_in_sys(file) {
            return Ok(());
        }
        for condition in conditions {
            if let Some(name) = &condition.module {
                return Err(format!(
                    "line {}: the module {name} is for macOS alone: put it into sys/",
                    condition.line
                ));
            }
            if condition.predicate.names_a_system() && !condition.opens_sys {
                let place = (condition.line, condition.predicate.to_string());
                self.conditions.entry(file.to_owned()).or_default().push(place);
            }
        }
        Ok(())
    }

    fn total(&self) -> usize {
        self.pieces.iter().map(|piece| piece.lines).sum()
    }

    fn describe(&self) -> String {
        let mut text =
            String::from("lines that macOS alone compiles, and nobody of us has executed:\n");
        for Piece { file, first, lines } in &self.pieces {
            text += &format!("{lines:5}  {file}:{first}\n");
        }
        text += &format!("{:5}  in all, of {LIMIT} at most\n", self.total());
        text += "conditions on the operating system outside sys/:\n";
        for (file, places) in &self.conditions {
            let reason = ALLOWED.iter().find(|allowed| allowed.covers(file));
            let reason = reason.map_or("?", |allowed| allowed.because);
            text += &format!("{:5}  {file}: {reason}\n", places.len());
        }
        text
    }

    /// What is wrong, a sentence each.
    fn objections(&self, allowed: &[Allowed], limit: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.total() > limit {
            wrong.push(format!(
                "{} lines are compiled for macOS alone, {limit} may be: share what is not the system's own, \
                 as a function that Linux tests",
                self.total()
            ));
        }
        for (file, places) in &self.conditions {
            let entry = allowed.iter().find(|allowed| allowed.covers(file));
            let may = entry.map_or(0, |entry| entry.count);
            if places.len() == may || entry.is_some_and(Allowed::is_folder) {
                continue;
            }
            let list: Vec<String> =
                places.iter().map(|(line, text)| format!("{line}: {text}")).collect();
            wrong.push(format!(
                "{file} has {} conditions on the operating system, tests/lab/src/darwin/allowed.rs has {may} \
                 (move it to sys/, or give the reason there): {}",
                places.len(),
                list.join("; ")
            ));
        }
        let used = |entry: &Allowed| self.conditions.keys().any(|file| entry.covers(file));
        for stale in allowed.iter().filter(|entry| !used(entry)) {
            wrong.push(format!("{} has no condition any more: take it off the list", stale.file));
        }
        wrong
    }
}

/// The lines for macOS alone, each once: conditions lie in one another.
fn apart(conditions: &[Condition]) -> Vec<Range<usize>> {
    let mut ranges: Vec<_> = conditions
        .iter()
        .map(|found| found.only_macos.clone())
        .filter(|lines| !lines.is_empty())
        .collect();
    ranges.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

fn is_in_sys(file: &str) -> bool {
    file.split('/').any(|part| part == "sys")
}

fn is_macos_file(file: &str) -> bool {
    let mut inside = file.split('/').skip_while(|part| *part != "sys");
    inside.any(|part| part == "macos.rs" || part == "macos")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let context = |e| format!("cannot read {}: {e}", folder.display());
    for entry in fs::read_dir(folder).map_err(context)? {
        let path = entry.map_err(context)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match path.is_dir() {
            true if name == "target" || name.starts_with('.') => {}
            true => collect(&path, files)?,
            false if name.ends_with(".rs") => files.push(path),
            false => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Found {
        let mut found = Found::default();
        for (file, text) in files {
            found.add(file, text).unwrap();
        }
        found
    }

    const MACOS: &str = "//! What macOS does.\n\nuse a;\nfn b() {}\n";
    const MIXED: &str =
        "fn a() {}\n#[cfg(target_os = \"macos\")]\nfn b() {}\n#[cfg(test)]\nmod tests;\n";

    #[test]
    fn files_of_sys_and_conditional_lines_are_counted() {
        let found = found(&[
            ("a/sys/macos.rs", MACOS),
            ("a/sys/macos/b.rs", MACOS),
            ("a/sys/linux.rs", MACOS),
            ("a/macos.rs", MACOS),
            ("a/b.rs", MIXED),
        ]);
        assert_eq!(found.total(), 2 + 2 + 2);
        assert_eq!(found.pieces[2], Piece { file: "a/b.rs".into(), first: 2, lines: 2 });
        assert!(found.describe().contains("    2  a/sys/macos/b.rs:1\n"), "{}", found.describe());
    }

    #[test]
    fn a_line_that_is_in_two_conditions_counts_once() {
        let text =
            "#[cfg(target_os = \"macos\")]\nmod a {\n#[cfg(target_os = \"macos\")]\nfn b() {}\n}\n";
        assert_eq!(found(&[("a.rs", text)]).total(), 5);
    }

    #[test]
    fn too_many_lines_are_an_objection() {
        let found = found(&[("a/sys/macos.rs", MACOS)]);
        assert_eq!(found.objections(&[], 2), [] as [String; 0]);
        assert!(
            found.objections(&[], 1)[0].starts_with("2 lines"),
            "{:?}",
            found.objections(&[], 1)
        );
    }

    #[test]
    fn a_condition_outside_sys_is_on_the_list_or_an_objection_and_the_list_has_no_others() {
        let found = found(&[("a.rs", MIXED), ("sys/mod.rs", MIXED), ("tests/b.rs", MIXED)]);
        let allowed = |file, count| Allowed { file, count, because: "it must" };
        let tests = || allowed("tests/", 0);
        assert_eq!(found.objections(&[allowed("a.rs", 1), tests()], 9), [] as [String; 0]);
        for (list, wanted) in [
            (vec![tests()], "a.rs has 1 conditions"),
            (vec![allowed("a.rs", 2), tests()], "allowed.rs has 2"),
            (
                vec![allowed("a.rs", 1), tests(), allowed("gone.rs", 1)],
                "gone.rs has no condition any more",
            ),
        ] {
            let wrong = found.objections(&list, 9);
            assert!(wrong.len() == 1 && wrong[0].contains(wanted), "{wrong:?}");
        }
    }

    /// The lists of the sources themselves, so that who changes them hears of it before the lab does.
    #[test]
    fn the_workspace_keeps_its_lists_and_its_limit() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let found = Found::in_workspace(&root).unwrap();
        assert!(found.total() > 100, "{}", found.describe());
        assert_eq!(found.objections(ALLOWED, LIMIT), [] as [String; 0]);
    }

    #[test]
    fn a_file_that_macos_alone_has_belongs_to_sys() {
        let error =
            Found::default().add("a.rs", "#[cfg(target_os = \"macos\")]\nmod b;\n").unwrap_err();
        assert!(error.contains("put it into sys/"), "{error}");
    }
}
