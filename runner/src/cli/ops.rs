//! What OPS users type that has no meaning here, and what to do instead.
//!
//! The names are those of nanovms/ops, `cmd/flags_*.go` and `cmd/cmd_*.go`, of May 2026.

use std::ffi::OsStr;

use super::show;

const BUILDS: &str = "runner boots images and builds none: build with ops, then run the image";
const BRIDGE_ADDRESS: &str = "the host's bridges stay as they are: leave it out, and give the bridge \
    its address by `sudo ip address add 10.0.0.1/24 dev br0`";
const DEBUGGER: &str = "this version has no debugger stub: use `ops run -d` for that";
const KERNEL: &str = "an image brings its own kernel: leave it out, or name a kernel with -k";
const TRACE: &str =
    "tracing is built into an image: build it with ops and this option, then run the image";
const LEVELS: &str = "runner always shows errors and warnings: leave it out, or use -v to see more";
const PACKAGES: &str =
    "runner boots images, not packages: `ops pkg load` builds one in ~/.ops/images, run that";

/// For `--json` where no JSON is written to stdout.
pub(super) const JSON_ELSEWHERE: &str =
    "--json belongs to doctor; for a run write the record to a file with --report FILE";

/// Options of `ops run` and `ops pkg load` that are not ours: letter (or a space), name, sentence.
pub(super) const REFUSED: &[(char, &str, &str)] = &[
    ('4', "tfsv4", BUILDS),
    ('d', "debug", DEBUGGER),
    ('f', "force", BUILDS),
    ('g', "gdbport", DEBUGGER),
    ('l', "local", PACKAGES),
    ('n', "nightly", KERNEL),
    ('r', "target-root", BUILDS),
    (' ', "arch", BUILDS),
    (' ', "bridgeipaddress", BRIDGE_ADDRESS),
    (' ', "consoles", BUILDS),
    (' ', "disable-args-copy", BUILDS),
    (' ', "missing-files", TRACE),
    (' ', "nanos-version", KERNEL),
    (' ', "netconsole-ip", BUILDS),
    (' ', "netconsole-port", BUILDS),
    (' ', "no-trace", TRACE),
    (' ', "package", PACKAGES),
    (
        ' ',
        "qmp",
        "there is no QEMU to talk to: stop a run with a signal, and read --report FILE afterwards",
    ),
    (' ', "show-debug", LEVELS),
    (' ', "show-errors", LEVELS),
    (' ', "show-warnings", LEVELS),
    (' ', "syscall-summary", TRACE),
    (' ', "trace", TRACE),
    (' ', "type", BUILDS),
];

/// OPS's commands that are not ours.
const COMMANDS: &[&str] = &[
    "build", "compose", "cron", "deploy", "env", "image", "instance", "network", "pkg", "profile",
    "update", "version", "volume",
];

/// The sentence for an option of OPS, given as `-p`, `--port` or `--port=80`; `None` when OPS has no such option.
pub(super) fn refusal(argument: &str) -> Option<String> {
    let typed = argument.split('=').next()?;
    let (.., sentence) = REFUSED.iter().find(|(letter, name, _)| {
        typed.strip_prefix("--") == Some(*name)
            || typed.strip_prefix('-').is_some_and(|t| t.starts_with(*letter) && *letter != ' ')
    })?;
    Some(format!("{typed}: {sentence}"))
}

/// The sentence for a word after the image.
pub(super) fn second_word(first: &OsStr, extra: &OsStr, accel: bool) -> String {
    let name = first.to_str().unwrap_or_default();
    if name == "pkg" {
        return format!("{}: {PACKAGES}", show(first));
    }
    if COMMANDS.contains(&name) {
        return format!(
            "{} is a command of ops, not of runner: type ops {name}, then run the image it makes",
            show(first)
        );
    }
    if accel && super::values::accel(name).is_ok() {
        return format!("--accel takes its value after `=`: write --accel={name}");
    }
    format!(
        "one image at a time, but here are {} and {}; the guest's arguments go after `--`",
        show(first),
        show(extra)
    )
}
