//! `lab coverage`: the lines of parsers and devices that the quick tests reach, and whether they are
//! enough.
//!
//! The unit tests of `runner` and the fuzz targets' corpora run instrumented, on any machine: what
//! only a KVM could reach does not count. Lines of tests do not count either. The compiler
//! instruments on its own; reading what that leaves takes LLVM's tools of at least the compiler's
//! version, which are unpacked from Debian's packages.

use crate::architecture::X86_64;
use crate::binaries::TestBinary;
use crate::builder::Builder;
use crate::cache::Cache;
use crate::command::{self, Result};
use crate::packages::{self, THIS_MACHINES, Wanted};
use crate::workspace::Workspace;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// LLVM's major version in the packages below.
const LLVM_VERSION: u32 = 22;

const LLVM: Wanted = Wanted {
    folder: "llvm",
    suite: None,
    packages: &["llvm-22"],
    except: &["libc6", "libgcc-s1", "libstdc++6", "llvm-22-linker-tools", "llvm-22-runtime"],
};

/// What is measured together, by folders, and the least percentage of its lines.
const GROUPS: [(&str, &[&str], f64); 2] = [
    (
        "parsers",
        &["runner/src/image", "runner/src/boot", "runner/src/config", "runner/src/family"],
        95.0,
    ),
    ("devices", &["runner/src/devices"], 90.0),
];

/// Which tests count.
const TESTS: [&str; 3] = ["--package=runner", "--lib", "--test=fuzz_corpus"];

/// Measures, prints a table, and fails below a limit.
pub(crate) fn run() -> Result<()> {
    command::require_x86_64_linux()?;
    require_known_llvm()?;
    let cache = Cache::open()?;
    let tools = packages::unpacked(&cache, &LLVM, THIS_MACHINES)?;
    let workspace = Workspace::find()?;
    let builder = Builder::new(&workspace, &cache, &X86_64.compiler)?;
    drop(cache);
    let mut build = builder.cargo();
    build
        .args(["test", "--no-run", "--target", X86_64.compiler.target])
        .arg("--config=build.rustflags=['-Cinstrument-coverage']")
        .args(TESTS)
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    let (tests, _) = builder.build_tests(build)?;
    let scratch = workspace.target.join("coverage");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)
            .map_err(|e| format!("cannot empty {}: {e}", scratch.display()))?;
    }
    for test in &tests {
        println!("lab: running {} tests of {}", test.tests.len(), test.label);
        let mut command = Command::new(&test.executable);
        command.current_dir(&test.directory).arg("--quiet");
        command.env("LLVM_PROFILE_FILE", scratch.join("%p.profraw"));
        command.env("CARGO_MANIFEST_DIR", &test.directory);
        let output = command.output().map_err(|e| command::cannot_start(&command, &e))?;
        if !output.status.success() {
            // libtest says on stdout what failed.
            print!("{}", String::from_utf8_lossy(&output.stdout));
            return Err(format!("tests of {} fail, and nothing is measured", test.label));
        }
    }
    let lines = Tools(&tools).lines(&scratch, &tests)?;
    judge(&Table::of(&workspace.root, &lines)?)
}

fn require_known_llvm() -> Result<()> {
    let text = command::output(Command::new("rustc").arg("-vV"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    match major {
        Some(major) if major <= LLVM_VERSION => Ok(()),
        _ => Err(format!(
            "rustc has LLVM {}, and the tools here are of {LLVM_VERSION}: name newer packages in tests/lab/src/coverage.rs",
            version.unwrap_or("of an unknown version")
        )),
    }
}

/// How often each line of each file ran.
type Lines = BTreeMap<PathBuf, BTreeMap<usize, u64>>;

/// LLVM's tools, unpacked.
struct Tools<'a>(&'a Path);

impl Tools<'_> {
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.0.join("usr/lib/llvm-22/bin").join(name));
        command.env("LD_LIBRARY_PATH", self.0.join("usr/lib/x86_64-linux-gnu"));
        command
    }

    fn lines(&self, scratch: &Path, tests: &[TestBinary]) -> Result<Lines> {
        let merged = scratch.join("all.profdata");
        let raw = fs::read_dir(scratch).map_err(|e| format!("no test left a profile: {e}"))?;
        let raw: Vec<_> = raw.flatten().map(|entry| entry.path()).collect();
        let mut merge = self.command("llvm-profdata");
        command::output(merge.args(["merge", "--sparse", "-o"]).arg(&merged).args(raw))?;
        let mut export = self.command("llvm-cov");
        export.args(["export", "--format=lcov", "--instr-profile"]).arg(&merged);
        for test in tests {
            let mut object = OsString::from("--object=");
            object.push(&test.executable);
            export.arg(object);
        }
        Ok(parse(&command::output(&mut export)?))
    }
}

/// Reads LCOV's format: `SF:` begins a file, `DA:line,count` is a line of it.
fn parse(text: &str) -> Lines {
    let mut lines = Lines::new();
    let mut file = PathBuf::new();
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            file = path.into();
        } else if let Some((line, count)) =
            line.strip_prefix("DA:").and_then(|line| line.split_once(','))
            && let (Ok(line), Ok(count)) = (line.parse(), count.parse::<u64>())
        {
            let counter: &mut u64 = lines.entry(file.clone()).or_default().entry(line).or_default();
            *counter = counter.saturating_add(count);
        }
    }
    lines
}

/// Lines that ran, and all lines.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    run: usize,
    all: usize,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.run += other.run;
        self.all += other.all;
    }

    fn percent(self) -> f64 {
        // Far below what an f64 has digits for.
        #[expect(clippy::cast_precision_loss, reason = "files have fewer lines than 2^52")]
        let percent = 100.0 * self.run as f64 / self.all.max(1) as f64;
        percent
    }
}

/// Lines per file, tests left out.
#[derive(Debug, Default)]
struct Table(BTreeMap<String, (Count, Vec<usize>)>);

impl Table {
    fn of(root: &Path, lines: &Lines) -> Result<Self> {
        let mut table = Self::default();
        for (path, counts) in lines {
            let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
            if is_of_tests(name) {
                continue;
            }
            let source = fs::read_to_string(path)
                .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            let end = first_line_of_tests(&source);
            let own = counts.iter().filter(|(line, _)| **line < end);
            let missed: Vec<_> =
                own.clone().filter(|(_, count)| **count == 0).map(|(line, _)| *line).collect();
            let all = own.count();
            table.0.insert(name.to_owned(), (Count { run: all - missed.len(), all }, missed));
        }
        Ok(table)
    }

    fn sum(&self, folders: &[&str]) -> Count {
        let mut sum = Count::default();
        for (_, (count, _)) in self.0.iter().filter(|(name, _)| is_below(name, folders)) {
            sum.add(*count);
        }
        sum
    }
}

fn is_below(name: &str, folders: &[&str]) -> bool {
    folders
        .iter()
        .any(|folder| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with(['/', '.'])))
}

/// Files that hold nothing else.
fn is_of_tests(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    name.contains("/tests/")
        || file.ends_with("_tests.rs")
        || ["tests.rs", "testing.rs"].contains(&file)
}

/// Tests stand at the end of a file.
fn first_line_of_tests(source: &str) -> usize {
    let lines: Vec<_> = source.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0].starts_with("#[cfg(test)]")
            && pair[1].starts_with("mod ")
            && pair[1].trim_end().ends_with('{')
    });
    tests.map_or(usize::MAX, |index| index + 1)
}

/// Prints files and sums; an error names what is below its limit.
fn judge(table: &Table) -> Result<()> {
    let mut below = Vec::new();
    for (group, folders, limit) in GROUPS {
        println!("{group}:");
        for (name, (count, missed)) in table.0.iter().filter(|(name, _)| is_below(name, folders)) {
            let missed = ranges(missed);
            println!(
                "  {:6.2} %  {:4} of {:4}  {name}  {missed}",
                count.percent(),
                count.run,
                count.all
            );
        }
        for folder in folders {
            let count = table.sum(&[folder]);
            println!(
                "  {:6.2} %  {:4} of {:4}  all of {folder}",
                count.percent(),
                count.run,
                count.all
            );
        }
        let count = table.sum(folders);
        let percent = count.percent();
        println!(
            "  {percent:6.2} %  {:4} of {:4}  {group}, at least {limit} %",
            count.run, count.all
        );
        if percent < limit || count.all == 0 {
            below.push(format!("{group} have {percent:.2} %, below {limit} %"));
        }
    }
    match below.is_empty() {
        true => Ok(()),
        false => Err(format!("too few lines are tested: {}", below.join("; "))),
    }
}

/// Lines as a person reads them: `3, 7-9`.
fn ranges(lines: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &line in lines {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == line => *end = line,
            _ => ranges.push((line, line)),
        }
    }
    let text = |(start, end): &(usize, usize)| match start == end {
        true => start.to_string(),
        false => format!("{start}-{end}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_a_file_that_is_in_two_programs_add_up() {
        let text = "SF:/ws/a.rs\nDA:1,2\nDA:2,0\nend_of_record\nSF:/ws/a.rs\nDA:1,1\nDA:2,0\n";
        let lines = parse(text);
        assert_eq!(lines[Path::new("/ws/a.rs")], BTreeMap::from([(1, 3), (2, 0)]));
    }

    #[test]
    fn tests_do_not_count() {
        let source = "fn a() {}\n#[cfg(test)]\nuse b;\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(first_line_of_tests(source), 4);
        assert_eq!(first_line_of_tests("#[cfg(test)]\nmod tests;\nfn a() {}\n"), usize::MAX);
        for name in ["runner/src/image/tests/disks.rs", "a/magic_tests.rs", "a/testing.rs"] {
            assert!(is_of_tests(name), "{name}");
        }
        assert!(!is_of_tests("runner/src/image/elf/mod.rs"));
    }

    #[test]
    fn a_folder_has_its_files_and_no_neighbours() {
        assert!(is_below("runner/src/config/parse.rs", &["runner/src/config"]));
        assert!(is_below("runner/src/config.rs", &["runner/src/config"]));
        assert!(!is_below("runner/src/configure/a.rs", &["runner/src/config"]));
    }

    #[test]
    fn missed_lines_are_ranges() {
        assert_eq!(ranges(&[3, 7, 8, 9, 20]), "3, 7-9, 20");
    }
}
