//! A vCPU's thread: run, answer, until the stop.

use hv::{Exit, Result, Resume, Vcpu};

use super::bus::{Bus, Caller};
use super::stop::{Reason, Stop};
use super::watch::Watch;

/// A vCPU as devices ask it.
struct Asked<'v, V>(&'v V);

impl<V: Vcpu> Caller for Asked<'_, V> {
    fn translate(&self, address: u64) -> Option<u64> {
        self.0.translate(address)
    }

    fn argument(&self) -> Option<u64> {
        self.0.argument()
    }
}

/// Runs `vcpu` until the run is over, for whatever reason.
pub(super) fn run(id: u32, vcpu: &mut impl Vcpu, bus: &Bus, stop: &Stop, watch: &Watch) {
    if let Err(error) = exits(id, vcpu, bus, stop, watch) {
        stop.request(Reason::Failed(error.to_string()));
    }
}

fn exits<V: Vcpu>(id: u32, vcpu: &mut V, bus: &Bus, stop: &Stop, watch: &Watch) -> Result<()> {
    let (mut answered, watched) = (0, watch.vcpu(id));
    let mut resume = Resume::Go;
    while !stop.requested() {
        let exit = vcpu.run(resume)?;
        resume = Resume::Go;
        if exit != Exit::Kicked
            && let Some(watched) = watched
        {
            watched.came_out();
        }
        match exit {
            Exit::Read { at, width } => resume = Resume::Value(bus.read(at, width)),
            Exit::Write { at, width, value } => bus.write_by(at, width, value, &Asked(vcpu)),
            Exit::Kicked => watch.answer(&mut answered, || vcpu.is_asleep()),
            Exit::Halted => stop.request(Reason::Halted { vcpu: id }),
            Exit::Shutdown => stop.request(Reason::Shutdown),
            Exit::Reset => stop.request(Reason::Restart),
            Exit::Hypercall { function, args } => {
                bus.call(function, args, &|address| vcpu.translate(address));
            }
            Exit::Crash(crash) => stop.request(Reason::Crash { vcpu: id, crash }),
            Exit::Unhandled(exit) => stop.request(Reason::Unhandled { vcpu: id, exit }),
            other => stop.request(Reason::Failed(format!("an exit without a handler: {other:?}"))),
        }
    }
    Ok(())
}
