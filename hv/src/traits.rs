//! The traits a backend implements and everything else is written against.

use std::os::fd::BorrowedFd;

use crate::arch::State;
use crate::caps::Caps;
use crate::config::{Slot, VmConfig};
use crate::error::Result;
use crate::exit::{Address, Exit, Resume, Width};
use crate::host::HostReport;

/// A way to run guests on this host.
pub trait Hypervisor: Sized + Send + Sync + 'static {
    /// Its virtual machine.
    type Vm: Vm;
    /// Its vCPU, before it belongs to a thread.
    type Seed: VcpuSeed<Vcpu = Self::Vcpu>;
    /// Its vCPU, on its thread.
    type Vcpu: Vcpu;

    /// Its short name: `kvm`, `hvf`, `script`.
    const NAME: &'static str;

    /// Looks at the host. Never fails and leaves nothing behind; may take milliseconds, since it
    /// runs a few guest instructions.
    fn probe() -> HostReport;

    /// Opens the hypervisor.
    ///
    /// # Errors
    /// Names the check that failed and its remedy.
    fn open() -> Result<Self>;

    /// What it can do here.
    fn caps(&self) -> &Caps;

    /// How guests run here, for a person, on one line: `/dev/kvm, API 12, guest code runs on the
    /// CPU`. Runs a few guest instructions to find out, which takes milliseconds.
    fn describe(&self) -> String;

    /// Makes a VM and the seeds of its vCPUs, in order of their ids.
    ///
    /// # Errors
    /// Those of [`VmConfig::check`], and whatever the host refuses. Nothing is left behind.
    fn create(&self, config: VmConfig) -> Result<(Self::Vm, Vec<Self::Seed>)>;
}

/// A virtual machine. Clones are handles to the same one; it lives until the last handle and the
/// last vCPU are gone.
pub trait Vm: Clone + Send + Sync + 'static {
    /// An edge-triggered interrupt line.
    type Edge: EdgeLine;
    /// A level-triggered interrupt line.
    type Level: LevelLine;
    /// A doorbell that rings as long as this lives.
    type Registration: Send + Sync + 'static;

    /// Says that construction is over. Every vCPU must be bound; from here on vCPUs may run, and
    /// lines and doorbells can be had (on KVM each would delay an earlier memory slot).
    ///
    /// # Errors
    /// `Order` while a vCPU is unbound, or when one was dropped or failed to bind.
    fn ready(&self) -> Result<()>;

    /// What the hypervisor that made it can do.
    fn caps(&self) -> &Caps;

    /// What the host refused on the way and the VM does without, one sentence each.
    fn notes(&self) -> Vec<String>;

    /// The edge-triggered line `line`: on x86 a GSI (0 to 23), on arm64 an SPI's INTID (from 32).
    ///
    /// # Errors
    /// `Order` before [`Vm::ready`]; `Invalid` for a number there is not; `Unsupported` without an
    /// in-kernel irqchip.
    fn edge(&self, line: u32) -> Result<Self::Edge>;

    /// The level-triggered line `line`, numbered as for [`Vm::edge`]. Had before vCPUs run, it is one
    /// also for an arm64 guest that does not tell the interrupt controller what the line is.
    ///
    /// # Errors
    /// As [`Vm::edge`].
    fn level(&self, line: u32) -> Result<Self::Level>;

    /// Sends a message-signalled interrupt: `data` written to `address`.
    ///
    /// # Errors
    /// `Order` before [`Vm::ready`]; `Unsupported` where [`Caps::msi`] says so or without an
    /// in-kernel irqchip.
    fn signal_msi(&self, address: u64, data: u32) -> Result<()>;

    /// Signals `fd` (an eventfd on Linux) for every guest write that matches `bell`, without an
    /// exit. The caller may close `fd` afterwards.
    ///
    /// # Errors
    /// `Order` before [`Vm::ready`]; `Unsupported` where [`Caps::doorbell`] says so: the caller
    /// then signals the same descriptor from the exit.
    fn doorbell(&self, bell: Doorbell, fd: BorrowedFd<'_>) -> Result<Self::Registration>;

    /// Adds RAM to a VM that exists. On KVM with an irqchip or doorbells this waits for
    /// milliseconds.
    ///
    /// # Errors
    /// As [`VmConfig::check`]; `Busy` when other RAM is there.
    fn map(&self, slot: Slot) -> Result<()>;

    /// Takes away the RAM that begins at `gpa`.
    ///
    /// # Errors
    /// `Invalid` when none begins there.
    fn unmap(&self, gpa: u64) -> Result<()>;

    /// The pages written since the last call, of the RAM that begins at `gpa`: one bit for 4 KiB,
    /// lowest bit of the first word first.
    ///
    /// # Errors
    /// `Invalid` when none begins there or its writes are not recorded; `Unsupported` where
    /// [`Caps::dirty_log`] says so.
    fn dirty(&self, gpa: u64) -> Result<Vec<u64>>;
}

/// Which guest writes ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    /// Where the guest writes.
    pub at: Address,
    /// Only writes of this width and value; any write when absent.
    pub value: Option<(Width, u64)>,
}

/// An interrupt line that carries events.
pub trait EdgeLine: Send + Sync + 'static {
    /// Raises and lowers the line once. Pulses that come before the guest takes the first may
    /// merge.
    ///
    /// # Errors
    /// What the host refused.
    fn pulse(&self) -> Result<()>;
}

/// An interrupt line that carries a condition.
pub trait LevelLine: Send + Sync + 'static {
    /// Sets the line. The interrupt is delivered as long as it is high.
    ///
    /// # Errors
    /// What the host refused.
    fn set(&self, high: bool) -> Result<()>;
}

/// A vCPU that no thread has claimed.
pub trait VcpuSeed: Send + 'static {
    /// What it becomes.
    type Vcpu: Vcpu;
    /// What interrupts it.
    type Kicker: Kicker;

    /// A handle that interrupts the vCPU: valid from here on, and harmless after the vCPU is gone.
    fn kicker(&self) -> Self::Kicker;

    /// Gives the vCPU to the calling thread, which alone may use it from now on.
    ///
    /// # Errors
    /// What the host refused. The VM can then never become [ready](Vm::ready).
    fn bind(self) -> Result<Self::Vcpu>;
}

/// Interrupts a vCPU from any thread.
pub trait Kicker: Clone + Send + Sync + 'static {
    /// Makes the current or the next [`Vcpu::run`] return [`Exit::Kicked`], once however often it
    /// is called before that. Wakes a vCPU that waits for an interrupt.
    fn kick(&self);
}

/// A vCPU on its thread; dropped there, too. Not `Send`.
pub trait Vcpu {
    /// Runs the guest until something happens that the caller must know.
    ///
    /// After [`Exit::Read`] or [`Exit::Write`] an access is pending, and the next call commits it:
    /// [`Resume::Value`] answers a read, [`Resume::Go`] goes on after a write. An answer counts
    /// even when that call returns [`Exit::Kicked`], and what is left of the same instruction (an
    /// access across pages, a string instruction) comes out before it.
    ///
    /// # Errors
    /// `Order` for the wrong kind of answer, or before [`Vm::ready`]: nothing has happened then,
    /// and the call can be made again. `Host` when the host refused.
    fn run(&mut self, resume: Resume) -> Result<Exit>;

    /// Commits a pending access as [`Vcpu::run`] would, without running the guest on. `None`: the
    /// vCPU stands between two instructions and its registers can be read and written. `Some`:
    /// the same instruction has another access, which is pending now.
    ///
    /// # Errors
    /// As [`Vcpu::run`].
    fn settle(&mut self, resume: Resume) -> Result<Option<Exit>>;

    /// Whether nothing but another vCPU can have it do anything: it has halted with interrupts off,
    /// or was never started. `false` also where the host cannot tell.
    fn is_asleep(&self) -> bool;

    /// The guest physical address that the guest's kernel reaches by `address`. Nothing where it has
    /// none, and where the host cannot tell.
    fn translate(&self, address: u64) -> Option<u64>;

    /// What x86_64's RDI holds, also while an access is pending: guests pass a pointer there beside what
    /// they write to a port, which has 32 bits. Nothing on arm64, where a write has 64, and where the host
    /// cannot tell.
    fn argument(&self) -> Option<u64>;

    /// Writes the registers of a vCPU that has not run yet, and has it begin by itself: no other vCPU need
    /// start it.
    ///
    /// # Errors
    /// As [`Vcpu::set_state`]; `Unsupported` where a vCPU waits for another in any case.
    fn begin_at(&mut self, state: &State) -> Result<()>;

    /// How often its counter counts in a second: what RDTSC gives on x86_64, CNTVCT_EL0 on arm64.
    /// Nothing where that is at no fixed rate.
    fn counter_hz(&self) -> Option<u64>;

    /// Reads the registers.
    ///
    /// # Errors
    /// `Order` while an access is pending: hosts disagree on what registers hold then.
    fn state(&self) -> Result<State>;

    /// Writes the registers.
    ///
    /// # Errors
    /// `Order` while an access is pending; `Invalid` for another architecture's, or values that
    /// the host refuses.
    fn set_state(&mut self, state: &State) -> Result<()>;
}
