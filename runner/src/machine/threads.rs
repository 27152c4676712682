//! The machine's threads beside the first vCPU's: the other vCPUs, and the I/O loop. Each is started
//! early and waits; dropped without a word, it ends.

use std::marker::PhantomData;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hv::{Hypervisor, State, Vcpu, VcpuSeed};

use super::Error;
use super::bus::Bus;
use super::hvt::Ports;
use super::input::Input;
use super::lockdown::{Lockdown, Place};
use super::network::Network;
use super::served::Station;
use super::stop::{Reason, Stop};
use super::vcpu;
use super::watch::{Rounds, Watch};
use crate::io;
use crate::io::event_loop::EventLoop;
use crate::io::signals::Signals;
use crate::io::terminal;
use crate::jail::Role;

/// A thread that waits for its work.
#[derive(Debug)]
struct Waiting<T> {
    begin: Option<mpsc::Sender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Waiting<T> {
    fn spawn(
        name: String,
        body: impl FnOnce(mpsc::Receiver<T>) + Send + 'static,
    ) -> Result<Self, Error> {
        let (begin, work) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name).spawn(move || body(work));
        let thread = thread.map_err(Error::system("start a thread"))?;
        Ok(Self { begin: Some(begin), thread: Some(thread) })
    }

    fn begin(&mut self, work: T) {
        if let Some(begin) = self.begin.take() {
            // A thread that is gone has said why.
            let _ = begin.send(work);
        }
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.begin = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            crate::warning!("a thread panicked: this is a bug in runner, please report it");
        }
    }
}

/// The threads of all vCPUs but the first.
#[derive(Debug)]
pub(super) struct Crew<H: Hypervisor> {
    threads: Vec<Waiting<Arc<Bus>>>,
    bound: mpsc::Receiver<hv::Result<()>>,
    vcpus: PhantomData<H>,
}

/// The vCPU of this thread.
fn bind<S: VcpuSeed>(seed: S, state: Option<&State>) -> hv::Result<S::Vcpu> {
    let mut vcpu = seed.bind()?;
    match state {
        Some(state) => vcpu.begin_at(state).map(|()| vcpu),
        None => Ok(vcpu),
    }
}

impl<H: Hypervisor> Crew<H> {
    /// One thread for each seed; they bind while the caller goes on. A vCPU that has a `state` begins by
    /// itself.
    pub(super) fn spawn(
        seeds: impl Iterator<Item = H::Seed>,
        state: impl Fn(u32) -> Option<State>,
        stop: &Stop,
        watch: &Arc<Watch>,
        lockdown: &mut Lockdown,
    ) -> Result<Self, Error> {
        let (done, bound) = mpsc::channel();
        let mut threads = Vec::new();
        for (id, seed) in (1..).zip(seeds) {
            let (done, stop, place) = (done.clone(), stop.clone(), lockdown.place(Role::Vcpu));
            let (watch, state) = (Arc::clone(watch), state(id));
            let body = move |work: mpsc::Receiver<Arc<Bus>>| match bind(seed, state.as_ref()) {
                Ok(mut vcpu) => {
                    let _ = done.send(Ok(()));
                    drop(done);
                    if place.take()
                        && let Ok(bus) = work.recv()
                    {
                        vcpu::run(id, &mut vcpu, &bus, &stop, &watch);
                    }
                }
                Err(error) => drop(done.send(Err(error))),
            };
            threads.push(Waiting::spawn(format!("vcpu{id}"), body)?);
        }
        Ok(Self { threads, bound, vcpus: PhantomData })
    }

    /// Waits until every vCPU is bound.
    pub(super) fn await_bound(&self) -> hv::Result<()> {
        self.bound.iter().collect()
    }

    pub(super) fn begin(&mut self, bus: &Arc<Bus>) {
        for thread in &mut self.threads {
            thread.begin(Arc::clone(bus));
        }
    }
}

/// What the I/O loop looks after.
#[derive(Debug)]
pub(super) struct Duty {
    pub(super) event_loop: EventLoop,
    pub(super) signals: Signals,
    pub(super) timeout: Option<Duration>,
    pub(super) stop: Stop,
    pub(super) watch: Arc<Watch>,
}

/// What comes and goes between the guest and the outside by way of the I/O loop.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) input: Option<Input>,
    pub(super) network: Option<Network>,
    pub(super) ports: Option<Ports>,
    pub(super) stations: Vec<Station>,
}

/// The thread of the I/O loop. Its work is in a box: a channel has room for 31 messages from the first on, and
/// clears it, which are six pages of memory at each start.
#[derive(Debug)]
pub(super) struct IoThread(Waiting<Box<(Duty, Traffic)>>);

impl IoThread {
    pub(super) fn spawn(place: Place) -> Result<Self, Error> {
        let name = place.role().name().to_owned();
        let body = |work: mpsc::Receiver<Box<(Duty, Traffic)>>| {
            if place.role() == Role::Network {
                // Woken by a guest's first frame, it would take the CPU that they share, send that frame alone
                // and be woken for the next: a guest that goes on for a moment has more to send, all at once.
                io::give_way();
            }
            if place.take()
                && let Ok(work) = work.recv()
            {
                let (duty, traffic) = *work;
                duty.serve(traffic);
            }
        };
        Ok(Self(Waiting::spawn(name, body)?))
    }

    pub(super) fn begin(&mut self, duty: Duty, traffic: Traffic) {
        self.0.begin(Box::new((duty, traffic)));
    }
}

impl Duty {
    /// Waits for whatever may come, until the stop.
    fn serve(mut self, traffic: Traffic) {
        let started = Instant::now();
        let mut rounds = Rounds::default();
        let Traffic { mut input, mut network, mut stations, mut ports } = traffic;
        let mut service = network.as_mut().map(Network::service);
        while !self.stop.requested() {
            self.signals.control_job();
            if let Some(service) = &mut service {
                service.serve(self.event_loop.ready(), started.elapsed());
            }
            if let Some(ports) = &mut ports {
                ports.serve(self.event_loop.ready(), started.elapsed());
            }
            for station in &mut stations {
                station.serve(self.event_loop.ready(), started.elapsed());
            }
            if let Some(input) = &mut input {
                input.serve(&mut self.event_loop);
                if input.escaped() {
                    self.stop.request(Reason::Escape);
                    break;
                }
            }
            let now = started.elapsed();
            if rounds.look(&self.watch, now) {
                self.stop.request(Reason::Asleep);
                break;
            }
            let left = self.timeout.map(|timeout| timeout.saturating_sub(now));
            let round = rounds.next().saturating_sub(now);
            let look = input.as_ref().and_then(Input::look_again);
            let again = service.as_mut().and_then(|service| service.wait(now));
            let stations = stations.iter().filter_map(|station| station.wait(now));
            let ports = ports.as_ref().and_then(|ports| ports.wait(now));
            let wait = left.into_iter().chain(look).chain(again).chain(ports).chain(stations);
            let wait = wait.chain([round]).min();
            if left == Some(Duration::ZERO) {
                self.stop.request(Reason::TimedOut);
            } else if let Some(signal) = self.signals.first() {
                self.stop.request(Reason::Signal(signal));
            } else if let Err(error) = self.event_loop.turn(wait) {
                self.stop.request(Reason::Failed(format!("wait for events: {error}")));
            }
        }
        if let Some(service) = service {
            service.finish(started.elapsed());
        }
        if let Some(ports) = &mut ports {
            ports.finish(started.elapsed());
        }
        for station in &mut stations {
            station.finish(started.elapsed());
        }
        // Disks are flushed next, which takes its time: whoever has not got it ends the process.
        self.signals.end_at_next();
        terminal::restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "ends the process: started by the test below"]
    fn ends_at_a_signal() {
        let stop = Stop::default();
        stop.request(Reason::Shutdown);
        let duty = Duty {
            event_loop: EventLoop::new().unwrap(),
            signals: Signals::install(false).unwrap(),
            timeout: None,
            stop,
            watch: Arc::default(),
        };
        duty.serve(Traffic::default());
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
            .unwrap();
        println!("went on");
    }

    #[test]
    fn once_the_run_is_over_the_first_signal_ends_the_process() {
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "--ignored", "machine::threads::tests::ends_at_a_signal"]);
        let output = test.output().unwrap();
        assert_eq!(output.status.code(), Some(143), "{output:?}");
    }
}
