//! The machine of Hermit's uhyve beside its virtio devices: the doors of its hypercalls, and a thread for each folder
//! whose files the guest has.

use std::sync::Arc;
use std::thread::JoinHandle;

use hv::{Arch, GuestMemory, Width};
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::Error;
use super::bus::Bus;
use super::lockdown::{Lockdown, Place};
use super::map::uhyve::address;
use super::stop::{Reason, Stop};
use crate::boot::BootPlan;
use crate::devices::hypercall::Guest;
use crate::devices::uhyve::desk::{Desk, Server};
use crate::devices::uhyve::files::{Files, Mapping};
use crate::devices::uhyve::{self, Door, Hypercalls, places};
use crate::io::console::Shared;
use crate::p9::Errno;
use crate::plan::{SharePlan, UhyvePlan};

/// The hypercalls, and who serves them.
#[derive(Debug)]
pub(super) struct Uhyve {
    calls: Arc<Hypercalls>,
    threads: Vec<JoinHandle<()>>,
}

impl Uhyve {
    /// Puts the hypercalls on the bus.
    pub(super) fn new(
        memory: &GuestMemory,
        boot: &BootPlan,
        plan: &UhyvePlan,
        stdout: Shared,
        stop: &Stop,
        (bus, lockdown): (&mut Bus, &mut Lockdown),
    ) -> Result<Self, Error> {
        let start = memory.iter().next().map_or(0, |region| region.start_addr().0);
        let guest = Guest::new(memory.clone(), start, start, Vec::new());
        let (mut mappings, mut threads) = (Vec::new(), Vec::new());
        for share in &plan.shares {
            let desk = Arc::new(Desk::default());
            let mapping = Mapping::new(&share.tag, Arc::clone(&desk));
            mappings.push(mapping.map_err(|error| refused(share, error))?);
            threads.push(thread(desk, share, guest.clone(), stop, lockdown)?);
        }
        let calls = Arc::new(Hypercalls::new(uhyve::Machine {
            guest,
            console: Box::new(stdout),
            words: plan.words.clone(),
            files: Files::new(mappings),
            code: boot.family.ends.code(),
            stop: stop.clone(),
        }));
        let arch = boot.board.arch;
        let width = match arch {
            Arch::X86_64 => Width::W4,
            Arch::Aarch64 => Width::W8,
        };
        for place in places() {
            let door = Door::new(place, width, Arc::clone(&calls));
            bus.add(address(arch, place.number), width.bytes() as u64, Arc::new(door));
        }
        Ok(Self { calls, threads })
    }

    /// What wakes a vCPU that waits for a file.
    pub(super) fn calls(&self) -> Arc<Hypercalls> {
        Arc::clone(&self.calls)
    }

    /// The guest is gone: what it wrote to files is there.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.calls.wake();
        let broken =
            self.threads.drain(..).map(JoinHandle::join).filter(Result::is_err).count() > 0;
        match broken {
            false => Ok(()),
            true => {
                Err("the thread of a folder panicked: this is a bug in runner, please report it"
                    .to_owned())
            }
        }
    }
}

/// Starts the thread of a folder, which alone opens what is in it.
fn thread(
    desk: Arc<Desk>,
    share: &SharePlan,
    guest: Guest,
    stop: &Stop,
    lockdown: &mut Lockdown,
) -> Result<JoinHandle<()>, Error> {
    let system = || Error::system("serve a folder");
    let folder = || share.folder.try_clone().map_err(system());
    let server = Server::new(folder()?, &share.tag, guest);
    let server = server.map_err(|error| refused(share, error))?;
    let place = lockdown.place_in(folder()?);
    let stop = stop.clone();
    let body = move || serve(place, &desk, server, &stop);
    std::thread::Builder::new().name("share".to_owned()).spawn(body).map_err(system())
}

fn serve(place: Place, desk: &Desk, mut server: Server, stop: &Stop) {
    let end = EndOfServing(stop);
    if place.take() {
        desk.serve(&mut server);
    }
    std::mem::forget(end);
}

/// Whoever waits for a thread that has panicked would wait for good.
struct EndOfServing<'s>(&'s Stop);

impl Drop for EndOfServing<'_> {
    fn drop(&mut self) {
        self.0.request(Reason::Failed("the thread of a folder ended".to_owned()));
    }
}

fn refused(share: &SharePlan, error: Errno) -> Error {
    let what =
        format!("--share {}: {} is no path for the guest ({error:?})", share.path, share.tag);
    hv::Error::new("map a folder", hv::Kind::Invalid, what).into()
}
