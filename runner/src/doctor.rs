//! `runner doctor`: what this host offers to guests, check by check, and what to do about it.
//!
//! The accelerator's checks come from its backend's [`probe`](hv::Hypervisor::probe); the others
//! are runner's own and never decide: without QEMU or an images directory guests still run.

use std::io::{self, Write};
use std::path::Path;

use hv::{Check, HostReport, Hypervisor};
use serde::Serialize;

use crate::jail;
use crate::log;
use crate::outcome::status;

mod own;
mod sign;
#[cfg_attr(target_os = "linux", path = "doctor/sys/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "doctor/sys/macos.rs")]
mod sys;

pub use own::qemu;

/// Looks at this host, prints what was found to stdout, and returns the exit status: 0 if guests
/// will run on `H`, 1 if not, 125 if stdout could not be written.
///
/// `verbose` adds what the jail lets each kind of thread do.
pub fn run<H: Hypervisor>(json: bool, verbose: bool) -> u8 {
    let findings = Findings::new(H::NAME, H::probe());
    let mut out = io::stdout().lock();
    let written = match json {
        true => findings.write_json(&mut out),
        false => findings.write_text(&mut out, verbose),
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => findings.status(),
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => findings.status(),
        Err(error) => {
            log::line(format_args!("runner: standard output cannot be written: {error}"));
            status::FAILED
        }
    }
}

/// Signs this program for the accelerator of macOS, and looks again. The exit status is that of the
/// second look, 125 if there was none.
pub fn sign(json: bool, verbose: bool) -> u8 {
    let mut words = vec!["doctor"];
    words.extend(json.then_some("--json"));
    words.extend(verbose.then_some("--verbose"));
    let looked = sign::sign_and_look(sys::CODESIGN.map(Path::new), std::env::current_exe(), &words);
    looked.unwrap_or_else(|error| {
        log::line(format_args!("runner: {error}"));
        status::FAILED
    })
}

/// Everything `runner doctor` found.
#[derive(Debug)]
pub struct Findings {
    accelerator: &'static str,
    usable: bool,
    checks: Vec<Check>,
}

/// As `--json` prints it.
#[derive(Serialize)]
struct Record<'a> {
    usable: bool,
    accelerator: &'a str,
    checks: Vec<CheckRecord<'a>>,
}

#[derive(Serialize)]
struct CheckRecord<'a> {
    id: &'a str,
    verdict: String,
    finding: &'a str,
    remedy: Option<&'a str>,
}

impl Findings {
    /// Those of `accelerator`'s backend, and runner's own for this host.
    pub fn new(accelerator: &'static str, report: HostReport) -> Self {
        let mut own = own::checks();
        own.extend(jail::checks());
        Self::with(accelerator, report, own)
    }

    fn with(accelerator: &'static str, report: HostReport, own: Vec<Check>) -> Self {
        let usable = report.usable();
        let mut checks = report.checks;
        checks.extend(own);
        Self { accelerator, usable, checks }
    }

    /// The exit status of `runner doctor`: 0 if guests will run on the accelerator, else 1.
    /// (125 means that runner could not do what it was asked; doctor did.)
    pub fn status(&self) -> u8 {
        if self.usable { 0 } else { 1 }
    }

    /// Writes one line a check, verdict, name and finding; what to do on an indented line below;
    /// with `verbose`, what the jail lets each kind of thread do; and the conclusion last.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_text(&self, out: &mut impl Write, verbose: bool) -> io::Result<()> {
        let width = self.checks.iter().map(|check| check.id.len()).max().unwrap_or(0);
        for Check { id, verdict, finding, remedy } in &self.checks {
            writeln!(out, "{verdict:4}  {id:width$}  {}", one_row(finding))?;
            if let Some(remedy) = remedy {
                writeln!(out, "        {}", one_row(remedy))?;
            }
        }
        for list in jail::lists().iter().filter(|_| verbose) {
            writeln!(out, "jail  {list}")?;
        }
        match self.usable {
            true => writeln!(out, "Guests run on {}.", self.accelerator),
            false => writeln!(out, "Guests do not run on {} here.", self.accelerator),
        }
    }

    /// Writes `{"usable":…,"accelerator":…,"checks":[{"id":…,"verdict":…,"finding":…,"remedy":…}]}`
    /// on one line; `remedy` is null when all is well.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let checks = self.checks.iter().map(|check| CheckRecord {
            id: check.id,
            verdict: check.verdict.to_string(),
            finding: &check.finding,
            remedy: check.remedy.as_deref(),
        });
        let record =
            Record { usable: self.usable, accelerator: self.accelerator, checks: checks.collect() };
        serde_json::to_writer(&mut *out, &record)?;
        writeln!(out)
    }
}

/// What a run that found no accelerator says about the check that failed.
pub fn one_line(check: &Check) -> String {
    let finding = one_row(&check.finding);
    match &check.remedy {
        Some(remedy) => {
            format!("{finding}; {} (`runner doctor` shows everything)", one_row(remedy))
        }
        None => format!("{finding} (`runner doctor` shows everything)"),
    }
}

/// Findings quote the host's files, and whatever is in those must not reach a terminal.
fn one_row(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let (plain, escaped) = match c.is_control() {
                true => (None, Some(c.escape_default())),
                false => (Some(c), None),
            };
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Findings {
        let report = HostReport {
            checks: vec![
                Check::ok("kvm-cpu", "the CPU has VT-x (vmx)"),
                Check::fail("kvm-device", "there is no /dev/kvm", "make one"),
            ],
        };
        Findings::with("kvm", report, vec![Check::warn("qemu", "no QEMU", "install it")])
    }

    fn text(findings: &Findings) -> String {
        let mut out = Vec::new();
        findings.write_text(&mut out, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_check_is_a_line_with_its_remedy_below_and_the_conclusion_comes_last() {
        assert_eq!(
            text(&broken()),
            "ok    kvm-cpu     the CPU has VT-x (vmx)\n\
             fail  kvm-device  there is no /dev/kvm\n\
             \x20       make one\n\
             warn  qemu        no QEMU\n\
             \x20       install it\n\
             Guests do not run on kvm here.\n"
        );
    }

    #[test]
    fn json_has_every_check_on_one_line() {
        let mut out = Vec::new();
        broken().write_json(&mut out).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "usable": false,
                "accelerator": "kvm",
                "checks": [
                    {"id": "kvm-cpu", "verdict": "ok", "finding": "the CPU has VT-x (vmx)", "remedy": null},
                    {"id": "kvm-device", "verdict": "fail", "finding": "there is no /dev/kvm", "remedy": "make one"},
                    {"id": "qemu", "verdict": "warn", "finding": "no QEMU", "remedy": "install it"},
                ],
            })
        );
    }

    #[test]
    fn only_the_accelerators_checks_decide_the_status() {
        assert_eq!(broken().status(), 1);
        let own = || vec![Check::fail("images", "gone", "look")];
        let fine = Findings::with("kvm", HostReport { checks: vec![Check::ok("a", "b")] }, own());
        assert_eq!(fine.status(), 0);
        assert!(text(&fine).ends_with("Guests run on kvm.\n"));
        let slow = HostReport { checks: vec![Check::warn("kvm-run", "slow", "wait")] };
        assert_eq!(Findings::with("kvm", slow, own()).status(), 0);
    }

    #[test]
    fn a_failed_run_says_finding_remedy_and_where_the_rest_is() {
        let check = Check::fail("kvm-device", "there is no /dev/kvm", "make one");
        assert_eq!(
            one_line(&check),
            "there is no /dev/kvm; make one (`runner doctor` shows everything)"
        );
    }

    #[test]
    fn control_characters_of_the_host_never_reach_the_terminal() {
        let check = Check::fail("kvm-cpu", "vendor \u{1b}[31m\nred", "none\r");
        assert_eq!(
            one_line(&check),
            "vendor \\u{1b}[31m\\nred; none\\r (`runner doctor` shows everything)"
        );
    }
}
