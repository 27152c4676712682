//! The machine of Solo5's hvt: its memory, in which what is read-only is RAM of its own, its hypercalls,
//! and the networks behind them, which the I/O loop serves.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use hv::{Caps, GuestMemory, IrqChip, RamFlags, VmConfig, Width};
use vm_memory::{GuestMemoryBackend as _, VolatileSlice};

use super::Error;
use super::bus::Bus;
use super::fixed::wall_clock;
use super::map::hvt::{CALLS, doorbell, first};
use super::stop::Stop;
use crate::boot::BootPlan;
use crate::boot::hvt::{BOOT_INFO, KERNELS};
use crate::devices::hvt::desk::Desk;
use crate::devices::hvt::{self, Block, Guard, Hypercalls};
use crate::devices::hypercall::Guest;
use crate::devices::virtio::block::Disk;
use crate::io::console::Stdout;
use crate::io::event::Event;
use crate::io::event_loop::{EventLoop, Ready};
use crate::net::frame::{Bytes, Frame, HEADER, LARGEST, Offload};
use crate::net::{Inbox, Link, Put, Sent};
use crate::plan::{BlockPlan, HvtPlan, PortPlan};

/// Where the guest's RAM is, in pieces, and what of it the guest cannot write.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) ram: Vec<Range<u64>>,
    pub(super) read_only: Vec<Range<u64>>,
}

impl Memory {
    /// Up to `memory`, as far as `caps` allows in pieces of their own; else in one, and page tables alone
    /// protect it.
    pub(super) fn new(boot: &BootPlan, memory: u64, caps: &Caps) -> Self {
        let read_only = boot.read_only();
        let aligned = |range: &Range<u64>| {
            range.start.is_multiple_of(caps.granule) && range.end.is_multiple_of(caps.granule)
        };
        let inside = |range: &Range<u64>| range.end <= memory;
        let mut from = first(boot.board.arch);
        if !caps.read_only_ram || !read_only.iter().all(|range| aligned(range) && inside(range)) {
            return Self { ram: [from..memory].into(), read_only: Vec::new() };
        }
        let edges = read_only.iter().flat_map(|range| [range.start, range.end]);
        let mut ram = Vec::new();
        for edge in edges.chain([memory]) {
            if edge > from {
                ram.push(from..edge);
                from = edge;
            }
        }
        Self { ram, read_only }
    }

    /// The VM with this memory, reserved as `memory`, and nothing beside it: its guests take no interrupts.
    pub(super) fn config(&self, memory: &GuestMemory) -> hv::Result<VmConfig> {
        let config = VmConfig::new().irqchip(IrqChip::None).vcpus(1);
        memory.iter().try_fold(config, |config, region| {
            let read_only = self.read_only.iter().any(|range| range.start == region.gpa());
            let flags = RamFlags { read_only, ..RamFlags::default() };
            config.ram(region.gpa(), Arc::clone(region.ram()), flags)
        })
    }
}

/// Puts the hypercalls on the bus, and a guard where nothing is.
pub(super) fn add(
    memory: &GuestMemory,
    boot: &BootPlan,
    plan: &HvtPlan,
    stdout: Stdout,
    stop: &Stop,
    event_loop: &EventLoop,
    bus: &mut Bus,
) -> Result<(Arc<Hypercalls>, Option<Ports>), Error> {
    let system = || Error::system("serve the guest's networks");
    let wake = match plan.ports.is_empty() {
        true => None,
        false => Some(Arc::new(Event::new().map_err(system())?)),
    };
    let mtus = plan.ports.iter().map(|port| (port.handle as u64, port.mtu));
    let desk = Arc::new(Desk::new(mtus, wake.clone()));
    let ports = match wake {
        Some(wake) => {
            let ports = Ports::new(&plan.ports, Arc::clone(&desk), wake, event_loop);
            Some(ports.map_err(system())?)
        }
        None => None,
    };
    let doorbell = doorbell(boot.board.arch);
    let calls = Hypercalls::new(
        doorbell.shift,
        hvt::Machine {
            guest: Guest::new(memory.clone(), BOOT_INFO, KERNELS, boot.read_only()),
            console: Box::new(stdout),
            clock: wall_clock,
            blocks: plan.blocks.iter().map(block).collect(),
            desk,
            code: boot.family.ends.code(),
            stop: stop.clone(),
        },
    );
    let calls = Arc::new(calls);
    // The last call is as wide as the others.
    let len = ((CALLS - 1) << doorbell.shift) + Width::W4.bytes() as u64;
    bus.add(doorbell.at, len, Arc::clone(&calls) as Arc<_>);
    bus.catch_strays(Arc::new(Guard::new(boot.read_only(), stop.clone())));
    Ok((calls, ports))
}

fn block(plan: &BlockPlan) -> (u64, Block) {
    let (path, len) = (plan.source.name(), plan.source.len());
    let (id, file) = (&plan.name, Arc::clone(&plan.file));
    let disk = match &plan.scratch {
        Some(scratch) => Disk::ephemeral(id, path, file, len, scratch.clone()),
        None => Disk::new(id, path, file, len, plan.read_only),
    };
    (plan.handle as u64, Block::new(disk, len, plan.block_size))
}

/// From one network's keys to the next one's, as a power of two: links have 40 bits of them.
const KEYS: u32 = 41;
/// The key of the desk's event.
const WAKE: usize = 1 << 40;
/// Frames that are taken from the guest before it is another network's turn.
const BATCH: usize = 64;

/// The guest's networks, for the I/O loop to serve.
pub(super) struct Ports {
    ports: Vec<Port>,
    desk: Arc<Desk>,
    wake: Arc<Event>,
    /// There were more frames than a batch.
    more: bool,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").field("ports", &self.ports.len()).finish_non_exhaustive()
    }
}

/// One network.
struct Port {
    handle: u64,
    name: String,
    link: Box<dyn Link>,
    /// A frame of the guest's on its way, with room for the largest.
    frame: Vec<u8>,
    /// Its bytes, while the link does not take it.
    waiting: Option<usize>,
    /// Where a link reads a frame into.
    arriving: Vec<u8>,
}

impl Ports {
    fn new(
        plans: &[PortPlan],
        desk: Arc<Desk>,
        wake: Arc<Event>,
        event_loop: &EventLoop,
    ) -> std::io::Result<Self> {
        let mut ports = Vec::new();
        for plan in plans {
            let Some(mut link) = plan.cable.take_link() else { continue };
            link.watch(event_loop.watcher()?.based(ports.len() << KEYS))?;
            link.activate(Some(0));
            let (handle, name) = (plan.handle as u64, plan.name.clone());
            let (frame, arriving) = (vec![0; LARGEST], vec![0; HEADER + LARGEST]);
            ports.push(Port { handle, name, link, frame, waiting: None, arriving });
        }
        event_loop.watcher()?.watch(wake.as_fd(), WAKE)?;
        Ok(Self { ports, desk, wake, more: true })
    }

    /// Does what there is to do, up to a bound. `ready` is what the loop found, `now` since the run began.
    pub(super) fn serve(&mut self, ready: &[Ready], now: Duration) {
        for ready in ready {
            if ready.key == WAKE {
                self.wake.rearm();
            } else if let Some(port) = self.ports.get_mut(ready.key >> KEYS) {
                port.link.ready(Ready { key: ready.key & (WAKE - 1), ..*ready }, now);
                port.offer_again(now);
            }
        }
        let due = |port: &Port| port.link.deadline().is_some_and(|deadline| deadline <= now);
        if self.more || !ready.is_empty() || self.ports.iter().any(due) {
            self.more = false;
            for port in &mut self.ports {
                self.more |= port.serve(&self.desk, now);
            }
        }
    }

    /// How long they may be left alone.
    pub(super) fn wait(&self, now: Duration) -> Option<Duration> {
        let deadlines = self.ports.iter().filter_map(|port| port.link.deadline());
        match self.more {
            true => Some(Duration::ZERO),
            false => deadlines.min().map(|deadline| deadline.saturating_sub(now)),
        }
    }

    /// The guest is gone: what it has sent goes on its way.
    pub(super) fn finish(&mut self, now: Duration) {
        for port in &mut self.ports {
            while port.serve(&self.desk, now) {}
            port.link.finish();
            let dropped = self.desk.dropped(port.handle);
            crate::info!("network {}: {:?}, {dropped} frames dropped", port.name, port.link);
        }
    }
}

impl Port {
    /// Offers the link what it did not take.
    fn offer_again(&mut self, now: Duration) {
        if let Some(len) = self.waiting.take() {
            self.offer(len, now);
        }
    }

    fn offer(&mut self, len: usize, now: Duration) {
        let bytes = self.frame.get_mut(..len).unwrap_or_default();
        let slices = [VolatileSlice::from(bytes)];
        let frame = Frame { offload: Offload::default(), bytes: Bytes::new(&slices) };
        if self.link.send(&frame, now) == Sent::Later {
            self.waiting = Some(len);
        }
    }

    /// Brings frames both ways; whether the guest may have more.
    fn serve(&mut self, desk: &Desk, now: Duration) -> bool {
        let mut taken = 0;
        while taken < BATCH && self.waiting.is_none() {
            let Some(len) = desk.take(self.handle, &mut self.frame) else { break };
            self.offer(len, now);
            taken += 1;
        }
        let mut inbox = ToGuest { desk, handle: self.handle, arriving: &mut self.arriving };
        self.link.receive(&mut inbox, now);
        taken == BATCH && self.waiting.is_none()
    }
}

/// The guest's side of the desk.
struct ToGuest<'a> {
    desk: &'a Desk,
    handle: u64,
    arriving: &'a mut [u8],
}

impl Inbox for ToGuest<'_> {
    fn room(&mut self, most: usize) -> usize {
        self.desk.room(self.handle).min(most)
    }

    fn put(&mut self, _offload: Offload, pieces: &[&[u8]]) -> Put {
        if self.desk.room(self.handle) == 0 {
            return Put::Full;
        }
        self.desk.bring(self.handle, pieces);
        Put::Done
    }

    fn fill(
        &mut self,
        most: usize,
        with_header: bool,
        read: &mut dyn FnMut(&[VolatileSlice<'_>]) -> std::io::Result<usize>,
    ) -> std::io::Result<Put> {
        if self.desk.room(self.handle) == 0 {
            return Ok(Put::Full);
        }
        let header = if with_header { HEADER } else { 0 };
        let room = header.saturating_add(most).min(self.arriving.len());
        let bytes = self.arriving.get_mut(..room).unwrap_or_default();
        let read = read(&[VolatileSlice::from(bytes)])?;
        self.desk.bring(self.handle, &[self.arriving.get(header..read).unwrap_or_default()]);
        Ok(Put::Done)
    }
}
