//! A whole run: plan, choice of accelerator, machine, outcome.

use std::time::Instant;

use hv::Hypervisor;

use crate::config::{AccelChoice, Settings};
use crate::emulate::{self, Qemu};
use crate::info;
use crate::io::signals::Signals;
use crate::machine::Machine;
use crate::outcome::{Outcome, Report};
use crate::plan::Plan;

/// Runs what `settings` ask for on `H`, or in software emulation, and returns the process's exit
/// status. Everything there is to say has been said.
pub fn run<H: Hypervisor>(settings: &Settings) -> u8 {
    let started = Instant::now();
    let report = match settings.report.as_deref().map(Report::create).transpose() {
        Ok(report) => report,
        Err(why) => return finish(&Outcome::failed(why)),
    };
    let mut run = Run { plan: None, accelerator: None };
    let outcome = run.carry_out::<H>(settings).unwrap_or_else(Outcome::failed);
    if let Some(report) = report {
        let (accelerator, plan) = (run.accelerator, run.plan.as_ref());
        if let Err(why) = report.write(&outcome, accelerator, plan, started.elapsed()) {
            crate::warning!("{why}");
        }
    }
    finish(&outcome)
}

fn finish(outcome: &Outcome) -> u8 {
    if let Some(message) = &outcome.message {
        crate::warning!("{message}");
    }
    outcome.status
}

/// What is known about a run while it goes on.
struct Run {
    plan: Option<Plan>,
    accelerator: Option<&'static str>,
}

impl Run {
    fn carry_out<H: Hypervisor>(&mut self, settings: &Settings) -> Result<Outcome, String> {
        for warning in &settings.warnings {
            crate::warning!("{warning}");
        }
        let chosen = choose::<H>(settings)?;
        match &chosen {
            Chosen::Accelerator(hypervisor) => {
                self.accelerator = Some(H::NAME);
                info!("accelerator: {} ({})", H::NAME, hypervisor.describe());
            }
            Chosen::Emulation(qemu) => {
                self.accelerator = Some("none");
                info!("accelerator: none (software emulation, {qemu})");
            }
        }
        if !settings.accepted.is_empty() {
            info!("accepted, not used: {}", settings.accepted.join(", "));
        }
        let plan = self.plan.insert(Plan::new(settings).map_err(|error| error.to_string())?);
        for line in plan.describe() {
            info!("{line}");
        }
        let signals = Signals::install().map_err(|error| format!("signal handlers: {error}"))?;
        let hypervisor = match chosen {
            Chosen::Accelerator(hypervisor) => hypervisor,
            Chosen::Emulation(_) => {
                return emulate::run(plan, &signals).map_err(|error| error.to_string());
            }
        };
        let machine = Machine::new(&hypervisor, plan).map_err(|error| error.to_string())?;
        let parked = machine.park(plan, signals).map_err(|error| error.to_string())?;
        Ok(Outcome::of(&parked.run()))
    }
}

/// What runs the guest.
enum Chosen<H> {
    Accelerator(H),
    Emulation(Qemu),
}

/// The accelerator that was asked for, opened; or, where that is allowed, what does without.
fn choose<H: Hypervisor>(settings: &Settings) -> Result<Chosen<H>, String> {
    let asked = settings.accel;
    let other = |name: &str| Err(format!("--accel={asked}: this system has {name}"));
    match asked {
        AccelChoice::Kvm if H::NAME != "kvm" => other(H::NAME),
        AccelChoice::Hvf if H::NAME != "hvf" => other(H::NAME),
        AccelChoice::Kvm | AccelChoice::Hvf => {
            H::open().map(Chosen::Accelerator).map_err(|error| error.to_string())
        }
        AccelChoice::Auto => H::open().map(Chosen::Accelerator).or_else(|error| {
            let name = H::NAME.to_uppercase();
            emulation(&format!("no {name} here ({error})"))
        }),
        AccelChoice::Off => emulation(settings.accel_asked_by.as_deref().unwrap_or("--accel=off")),
    }
}

/// Software emulation, announced.
fn emulation<H>(why: &str) -> Result<Chosen<H>, String> {
    let qemu = Qemu::find().map_err(|missing| format!("{why}, and {missing}"))?;
    crate::warning!(
        "{why}: running in software emulation ({qemu}), much slower; see `runner doctor`"
    );
    Ok(Chosen::Emulation(qemu))
}
