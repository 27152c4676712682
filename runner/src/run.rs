//! A whole run: plan, choice of accelerator, machine, outcome.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hv::{Arch, Check, Hypervisor};

use crate::config::{AccelChoice, JailChoice, Settings};
use crate::emulate::{self, Qemu};
use crate::io::signals::Signals;
use crate::io::terminal::{self, Terminal};
use crate::jail::{self, Jail, Needs, fatal};
use crate::machine::stop::Reason;
use crate::machine::{self, Machine};
use crate::outcome::{Origin, Outcome, Report};
use crate::p9::{self, Folder};
use crate::plan::{DumpPlan, Plan, VsockPlan};
use crate::{info, log, warning};

/// Runs what `settings` ask for on `H`, or in software emulation, and returns the process's exit
/// status. Everything there is to say has been said.
///
/// `configs` are the files that `settings` come from.
pub fn run<H: Hypervisor>(settings: &Settings, configs: &[PathBuf]) -> u8 {
    let started = Instant::now();
    fatal::restore_with(terminal::restore);
    fatal::end_on_panic();
    let report = settings.report.as_deref().map(|path| Report::create(path, configs));
    let report = match report.transpose() {
        Ok(report) => report,
        Err(why) => return finish(&Outcome::failed(why), settings.tender),
    };
    let mut run = Run { plan: None, accelerator: None };
    let outcome = run.carry_out::<H>(settings, report.as_ref());
    let (outcome, report) = match outcome {
        Ok(outcome) => (outcome, report),
        Err(Failure::Ran(why)) => (Outcome::failed(why), report),
        Err(Failure::Report(why)) => (Outcome::failed(why), None),
    };
    if let Some(report) = report {
        let (accelerator, plan) = (run.accelerator, run.plan.as_ref());
        if let Err(why) = report.write(&outcome, accelerator, plan, started.elapsed()) {
            warning!("{why}");
        }
    }
    if let Some(vsock) = run.plan.as_ref().and_then(Plan::vsock) {
        vsock.close();
    }
    if let Some(dump) = run.plan.as_ref().and_then(Plan::dump) {
        dump.close();
    }
    // The process ends, and the files' locks with it; to take them back is a call less to allow.
    std::mem::forget(run.plan);
    finish(&outcome, settings.tender)
}

/// A run that its config refuses: says `why`, and writes the record if one was asked for. Returns
/// the process's exit status.
pub fn refuse(report: Option<&Path>, configs: &[PathBuf], why: String) -> u8 {
    let outcome = Outcome::failed(why);
    let record = report.map(|path| Report::create(path, configs));
    let written = record.map(|record| record?.write(&outcome, None, None, Duration::ZERO));
    if let Some(Err(why)) = written {
        warning!("{why}");
    }
    finish(&outcome, false)
}

/// The status of Solo5's tender for all that is not the guest's own end.
const TENDER_FAILED: u8 = 1;

/// Says what there is to say. `tender`: the status is that of Solo5's tender.
fn finish(outcome: &Outcome, tender: bool) -> u8 {
    if let Some(message) = &outcome.message {
        warning!("{message}");
    }
    match tender && outcome.origin != Origin::Guest {
        true => TENDER_FAILED,
        false => outcome.status,
    }
}

/// Why there was no run.
enum Failure {
    /// A sentence for the record, too.
    Ran(String),
    /// The record cannot be where it was wanted.
    Report(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Failure::Ran(why)
    }
}

/// What is known about a run while it goes on.
struct Run {
    plan: Option<Plan>,
    accelerator: Option<&'static str>,
}

impl Run {
    fn carry_out<H: Hypervisor>(
        &mut self,
        settings: &Settings,
        report: Option<&Report>,
    ) -> Result<Outcome, Failure> {
        let terminal = if settings.stdin { Terminal::on_stdin() } else { None };
        let signals = Signals::install(terminal.is_some())
            .map_err(|error| format!("signal handlers: {error}; raise ulimit -n"))?;
        fatal::end_on_fault().map_err(|error| format!("signal handlers: {error}"))?;
        for warning in &settings.warnings {
            warning!("{warning}");
        }
        let plan = Plan::new(settings).map_err(|error| error.to_string())?;
        if let Some(report) = report {
            report.spare(&plan).map_err(Failure::Report)?;
        }
        let plan = self.plan.insert(plan);
        let arch = plan.boot.board.arch;
        let needs_accelerator = plan.boot.family.not_emulated;
        let chosen = match needs_accelerator {
            None => choose::<H>(settings, arch)?,
            Some(why) => only_accelerated::<H>(settings, arch, why)?,
        };
        self.accelerator = Some(chosen.describe());
        if matches!(chosen, Chosen::Emulation(_)) {
            emulate::suit(plan).map_err(|error| error.to_string())?;
        }
        if !settings.accepted.is_empty() {
            info!("accepted, not used: {}", settings.accepted.join(", "));
        }
        if log::verbose() {
            for line in plan.describe() {
                info!("{line}");
            }
        }
        if terminal.is_some() {
            warning!("--stdin: what is typed goes to the guest; Ctrl-] ends the run");
        }
        let hypervisor = match chosen {
            Chosen::Accelerator(hypervisor) => hypervisor,
            Chosen::Emulation(_) => return Ok(emulate(plan, &signals, settings)?),
        };
        match Machine::new(&hypervisor, plan) {
            Ok(machine) => {
                // It makes VMs, and there is one.
                drop(hypervisor);
                Ok(confined(machine, plan, signals, settings).map(|end| Outcome::of(&end))?)
            }
            // What opens may still not run guests.
            Err(machine::Error::Hypervisor(error))
                if settings.accel == AccelChoice::Auto && needs_accelerator.is_none() =>
            {
                match H::probe().failure() {
                    Some(check) => {
                        self.accelerator = Some(emulation::<H>(check, arch)?.describe());
                        emulate::suit(plan).map_err(|error| error.to_string())?;
                        Ok(emulate(plan, &signals, settings)?)
                    }
                    None => Err(error.to_string().into()),
                }
            }
            Err(error) => Err(error.to_string().into()),
        }
    }
}

/// What runs the guest.
enum Chosen<H> {
    Accelerator(H),
    Emulation(Qemu),
}

impl<H: Hypervisor> Chosen<H> {
    /// Begins what `-v` says, and gives its name for the record.
    fn describe(&self) -> &'static str {
        match self {
            Chosen::Accelerator(hypervisor) => {
                info!("accelerator: {} ({})", H::NAME, hypervisor.describe());
                H::NAME
            }
            Chosen::Emulation(qemu) => {
                info!("accelerator: none (software emulation, {qemu})");
                "none"
            }
        }
    }
}

/// The accelerator that was asked for, opened; or, where that is allowed, what does without for guests
/// of `arch`.
fn choose<H: Hypervisor>(settings: &Settings, arch: Arch) -> Result<Chosen<H>, String> {
    let asked = settings.accel;
    let by = settings.accel_asked_by.clone().unwrap_or_else(|| format!("--accel={asked}"));
    let other = |name: &str| Err(format!("{by}: this system has {name}"));
    match asked {
        AccelChoice::Kvm if H::NAME != "kvm" => other(H::NAME),
        AccelChoice::Hvf if H::NAME != "hvf" => other(H::NAME),
        AccelChoice::Off => {
            let qemu = Qemu::find(arch).map_err(|missing| format!("{by}: {missing}"))?;
            warning!("{by}: running in software emulation ({qemu}), much slower");
            Ok(Chosen::Emulation(qemu))
        }
        AccelChoice::Auto => H::open().map(Chosen::Accelerator).or_else(|error| match error.kind {
            // It is there, and emulation would take as much.
            hv::Kind::Exhausted => Err(error.to_string()),
            _ => emulation(&check::<H>(&error), arch),
        }),
        AccelChoice::Kvm | AccelChoice::Hvf => {
            H::open().map(Chosen::Accelerator).map_err(|error| {
                let check = check::<H>(&error);
                format!("{by}: {}; see `runner doctor`", sentence(&check))
            })
        }
    }
}

/// The same for a guest that software emulation cannot have.
fn only_accelerated<H: Hypervisor>(
    settings: &Settings,
    arch: Arch,
    why: &str,
) -> Result<Chosen<H>, String> {
    match settings.accel {
        AccelChoice::Off => {
            let by = settings.accel_asked_by.as_deref().unwrap_or("--accel=off");
            Err(format!("{by}: {why}: leave it out"))
        }
        AccelChoice::Auto => H::open().map(Chosen::Accelerator).map_err(|error| match error.kind {
            hv::Kind::Exhausted => error.to_string(),
            _ => format!("{}; {why}; see `runner doctor`", sentence(&check::<H>(&error))),
        }),
        AccelChoice::Kvm | AccelChoice::Hvf => choose(settings, arch),
    }
}

/// The check that `doctor` would fail, for an accelerator that did not open.
fn check<H: Hypervisor>(error: &hv::Error) -> Check {
    match H::probe().failure() {
        Some(check) => check.clone(),
        // It may have opened meanwhile.
        None => Check { remedy: None, ..Check::fail(H::NAME, error.to_string(), "") },
    }
}

/// Finding and remedy.
fn sentence(check: &Check) -> String {
    match &check.remedy {
        Some(remedy) => format!("{}; {remedy}", check.finding),
        None => check.finding.clone(),
    }
}

/// Software emulation because of `check`, announced.
fn emulation<H: Hypervisor>(check: &Check, arch: Arch) -> Result<Chosen<H>, String> {
    let name = H::NAME.to_uppercase();
    let qemu = Qemu::find(arch).map_err(|missing| {
        format!("no {name} here ({}; see `runner doctor`), and {missing}", sentence(check))
    })?;
    let finding = &check.finding;
    warning!(
        "no {name} here ({finding}): running in software emulation ({qemu}), much slower; see `runner doctor`"
    );
    Ok(Chosen::Emulation(qemu))
}

/// The run itself, in the jail.
fn confined<H: Hypervisor>(
    machine: Machine<H>,
    plan: &Plan,
    signals: Signals,
    settings: &Settings,
) -> Result<Reason, String> {
    let text = |error: jail::Error| error.to_string();
    let vsock = plan.vsock();
    let shares: Vec<&Folder> = plan.shares().map(|share| &share.folder).collect();
    let descriptors = shares.iter().map(|_| p9::DESCRIPTORS);
    let descriptors = descriptors.chain([plan.descriptors()]);
    let needs = Needs {
        largest_file: plan.largest_file(),
        network: plan.has_network(),
        vsock: vsock.is_some(),
        descriptors: descriptors.chain(vsock.map(VsockPlan::descriptors)).sum(),
        shares: &shares,
        emptied: plan.dump().map(DumpPlan::folder),
    };
    if let Some(vsock) = vsock {
        vsock.enter().map_err(|error| format!("go to the folder of --vsock: {error}"))?;
    }
    let jail = Jail::enter(settings.jail, needs);
    let parked = machine.park(plan, signals, jail.map_err(text)?);
    let parked = parked.map_err(|error| error.to_string())?;
    Ok(parked.lock().map_err(|error| error.to_string())?.run(plan))
}

fn emulate(plan: &Plan, signals: &Signals, settings: &Settings) -> Result<Outcome, String> {
    jail::prepare_child(settings.jail).map_err(|error| error.to_string())?;
    // QEMU's own is for Linux.
    let sandbox = cfg!(target_os = "linux") && settings.jail != JailChoice::Off;
    emulate::run(plan, signals, sandbox).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Command};
    use crate::config;
    use hv::script::Script;

    fn settings(accel: &str) -> Settings {
        match cli::parse(["runner", accel, "hello"].map(std::ffi::OsString::from)) {
            Ok(Command::Run(options)) => config::settle(*options, &Default::default()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_automatic_choice_is_the_systems_accelerator_where_it_opens() {
        let chosen = choose::<Script>(&settings("--accel=auto"), Arch::X86_64);
        assert!(matches!(chosen, Ok(Chosen::Accelerator(_))));
    }

    #[test]
    fn another_systems_accelerator_is_refused_and_never_replaced() {
        for accel in ["--accel=kvm", "--accel=hvf"] {
            let refusal = choose::<Script>(&settings(accel), Arch::X86_64).err().unwrap();
            assert_eq!(refusal, format!("{accel}: this system has script"));
        }
    }
}
