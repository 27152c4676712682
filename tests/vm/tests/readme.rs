//! README.md: every command in it is run here, and prints what it says there.
//!
//! A fenced block marked `console` is a session. Its lines that begin with `$ ` are commands for
//! sh, behind each stands what it prints, stdout and stderr as they come. `…` stands for any text
//! within a line, and alone on a line for any lines. Each session starts in a folder of its own
//! with the checkout's `config` in it. `runner`, and `cargo run` with whatever profile, are the
//! program under test. What CI runs itself is listed in [`BY_CI`].
//!
//! Commands may stand in no other block.

use super::support::files::{Folder, checkout};
use super::support::program::{path, shell};
#[cfg(target_arch = "x86_64")]
use super::support::{host::accelerator, or_skip};

const README: &str = include_str!("../../../README.md");

/// Commands that are not run here, by how they begin, and what in `.ci/run` runs them.
const BY_CI: [(&str, &str); 3] = [
    ("git clone ", "on a clean clone"),
    ("cargo test", "cargo test --locked"),
    ("cargo static", "cargo run --locked --package lab -- x86_64"),
];

const CI: &str = include_str!("../../../.ci/run");

/// Marks of blocks in which no command hides.
const NO_COMMANDS: [&str; 4] = ["json", "rust", "toml", "text"];

/// Before each command, so that outputs can be told apart.
const MARK: &str = "-- next command --";

/// What a session begins with: `mark` keeps `$?` for a command that shows it, and `cargo` does
/// what it does once it has built.
const PRELUDE: &str = r#"
exec 2>&1
mark() { set -- $?; printf '%s\n' "$MARK"; return "$1"; }
cargo() {
    case "$*" in
        'run -- '* | 'run --release -- '* | 'run -q -- '* | 'run -q --release -- '*)
            while [ "$1" != -- ]; do shift; done
            shift
            runner "$@";;
        *) echo "not in the table of commands that CI runs: cargo $*"; return 99;;
    esac
}
"#;

/// A command and what it prints.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    prints: String,
}

/// A fenced block: its mark, and the lines in it.
fn blocks(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(mark) = line.trim_start().strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| line.trim_start() != "```");
            blocks.push((mark, inside.collect()));
        }
    }
    blocks
}

/// The steps of a session. A command goes on in the next line behind a `\`.
fn steps(lines: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut goes_on = false;
    for line in lines {
        if let Some(step) = steps.last_mut().filter(|_| goes_on) {
            step.command += "\n";
            step.command += line;
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), prints: String::new() });
        } else if let Some(step) = steps.last_mut() {
            step.prints += line;
            step.prints += "\n";
            continue;
        } else {
            panic!("a session begins with a command, not with: {line}");
        }
        goes_on = line.ends_with('\\');
    }
    steps
}

/// Whether `text` is what `pattern` says, `…` standing for any text and any lines.
fn fits(pattern: &[&str], text: &[&str]) -> bool {
    match (pattern, text) {
        (["…", rest @ ..], _) => (0..=text.len()).any(|skip| fits(rest, &text[skip..])),
        ([first, pattern @ ..], [line, text @ ..]) => line_fits(first, line) && fits(pattern, text),
        (pattern, text) => pattern.is_empty() && text.is_empty(),
    }
}

fn line_fits(pattern: &str, line: &str) -> bool {
    match pattern.split_once('…') {
        None => pattern == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| line_fits(after, &rest[at..]))
        }),
    }
}

/// Runs a session and returns what each step printed.
fn printed(steps: &[&Step]) -> Vec<String> {
    let folder = Folder::new();
    std::os::unix::fs::symlink(checkout().join("config"), folder.path().join("config")).unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::os::unix::fs::symlink(path(), folder.path().join("bin/runner")).unwrap();
    let mut script = format!("MARK='{MARK}'\nPATH=$HOME/bin:$PATH\n{PRELUDE}");
    for step in steps {
        script += &format!("mark\n{}\n", step.command);
    }
    let finished = shell(&script).env("HOME", folder.path()).within(folder.path()).run();
    let outputs: Vec<_> =
        finished.text().split(&format!("{MARK}\n")).skip(1).map(str::to_owned).collect();
    assert_eq!(outputs.len(), steps.len(), "{finished}");
    outputs
}

fn check(session: &[Step]) {
    let ours: Vec<&Step> = session
        .iter()
        .filter(|step| !BY_CI.iter().any(|(begin, _)| step.command.starts_with(begin)))
        .collect();
    for (step, printed) in ours.iter().zip(printed(&ours)) {
        let pattern: Vec<&str> = step.prints.lines().collect();
        let lines: Vec<&str> = printed.lines().collect();
        let Step { command, prints } = step;
        assert!(fits(&pattern, &lines), "$ {command}\nshould print:\n{prints}\nprints:\n{printed}");
    }
}

fn session(text: &str) -> Vec<Step> {
    steps(&text.lines().collect::<Vec<_>>())
}

#[test]
#[cfg(target_arch = "x86_64")] // which the sessions are of
fn every_command_of_the_readme_prints_what_the_readme_says() {
    or_skip!(accelerator());
    let sessions: Vec<_> =
        blocks(README).into_iter().filter(|(mark, _)| *mark == "console").collect();
    assert!(!sessions.is_empty(), "no session in README.md");
    for (_, lines) in sessions {
        check(&steps(&lines));
    }
}

#[test]
fn no_command_of_the_readme_hides_in_a_block_that_is_not_run() {
    for (mark, lines) in blocks(README) {
        assert!(
            mark == "console" || NO_COMMANDS.contains(&mark),
            "a block marked {mark:?}: write commands in a `console` block, other text in one of \
             {NO_COMMANDS:?}: {lines:?}"
        );
    }
}

#[test]
fn what_is_left_to_ci_is_in_its_script() {
    for (command, proof) in BY_CI {
        assert!(CI.contains(proof), "{command}: no {proof:?} in .ci/run");
    }
}

#[test]
fn a_session_is_read_as_commands_and_what_they_print() {
    let text = "before\n```console\n$ one\n1\n2\n$ two \\\n  more\n```\n```json\n{}\n```\n";
    let blocks = blocks(text);
    assert_eq!(blocks.len(), 2);
    assert_eq!((blocks[0].0, &*blocks[1].1), ("console", &["{}"][..]));
    let step =
        |command: &str, prints: &str| Step { command: command.into(), prints: prints.into() };
    assert_eq!(steps(&blocks[0].1), [step("one", "1\n2\n"), step("two \\\n  more", "")]);
}

#[test]
fn dots_stand_for_any_text_in_a_line_and_any_lines() {
    let fits = |pattern: &str, text: &str| {
        fits(&pattern.lines().collect::<Vec<_>>(), &text.lines().collect::<Vec<_>>())
    };
    assert!(fits("a\nb\n", "a\nb\n"));
    assert!(fits("a … c\n", "a b c\n") && fits("…x…y", "xy") && fits("…", ""));
    assert!(fits("a\n…\nz\n", "a\nz\n") && fits("a\n…\nz\n", "a\nb\nz\ny\nz\n"));
    assert!(!fits("a\n", "a\nb\n") && !fits("a\nb\n", "a\n") && !fits("a … c", "a b d"));
    assert!(!fits("…x\n", "x\nx\n") && !fits("", "a"));
}

#[test]
fn a_session_runs_its_commands_in_order_and_shows_statuses() {
    check(&session(
        "$ echo one >file\n$ cat file\none\n$ (exit 7)\n$ echo $?\n7\n$ echo two >&2\ntwo",
    ));
    check(&session("$ runner --version\nrunner …\n$ cargo run --release -- --version\nrunner …"));
    check(&session(
        "$ git clone https://example.org/runner\n$ ls config/hello.json\nconfig/hello.json",
    ));
}

#[test]
#[should_panic(expected = "should print")]
fn a_session_that_prints_something_else_fails() {
    check(&session("$ echo one\ntwo"));
}

#[test]
#[should_panic(expected = "not in the table")]
fn a_cargo_command_that_nobody_runs_fails() {
    check(&session("$ cargo publish"));
}
