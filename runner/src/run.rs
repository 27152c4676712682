//! A whole run: plan, choice of accelerator, machine, outcome.

use std::time::Instant;

use hv::Hypervisor;

use crate::config::{AccelChoice, Settings};
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
        let hypervisor = choose::<H>(settings)?;
        self.accelerator = Some(H::NAME);
        info!("accelerator: {} ({})", H::NAME, hypervisor.describe());
        if !settings.accepted.is_empty() {
            info!("accepted, not used: {}", settings.accepted.join(", "));
        }
        let plan = self.plan.insert(Plan::new(settings).map_err(|error| error.to_string())?);
        for line in plan.describe() {
            info!("{line}");
        }
        let signals = Signals::install().map_err(|error| format!("signal handlers: {error}"))?;
        let machine = Machine::new(&hypervisor, plan).map_err(|error| error.to_string())?;
        let parked = machine.park(plan, signals).map_err(|error| error.to_string())?;
        Ok(Outcome::of(&parked.run()))
    }
}

/// The accelerator that was asked for, opened.
fn choose<H: Hypervisor>(settings: &Settings) -> Result<H, String> {
    let asked = settings.accel;
    let other = |name: &str| Err(format!("--accel={asked}: this system has {name}"));
    match asked {
        AccelChoice::Kvm if H::NAME != "kvm" => return other(H::NAME),
        AccelChoice::Hvf if H::NAME != "hvf" => return other(H::NAME),
        AccelChoice::Off => return Err("software emulation is being built".into()),
        _ => {}
    }
    H::open().map_err(|error| error.to_string())
}
