//! The vCPU: its registers, its runs, and what ends them.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::*;
use kvm_ioctls::{VcpuFd, VmFd};

use super::registers::{self, bytes, number};
use super::{Result, failed, last};
use crate::script::{Reg, Step};

/// What takes a thread out of KVM_RUN.
const SIGNAL: libc::c_int = libc::SIGURG;
/// `hv_exit_reason_t`.
const CANCELED: u32 = 0;
const VTIMER_ACTIVATED: u32 = 2;

/// The frame that message-signalled interrupts are written to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) base: u64,
    pub(super) size: u64,
    /// The INTIDs that are messages.
    pub(super) first: u32,
    pub(super) end: u32,
}

/// A vCPU of KVM's.
pub(crate) struct Processor {
    fd: Mutex<VcpuFd>,
    raw: RawFd,
    /// Its shared area.
    page: usize,
    process: libc::pid_t,
    thread: AtomicI32,
    /// A register was.
    written: AtomicBool,
    cancel: AtomicBool,
    /// It sleeps in a WFI that should come out.
    asleep: AtomicBool,
    masked: AtomicBool,
    /// FIQ and IRQ, as KVM has them.
    interrupts: Mutex<[bool; 2]>,
    /// KVM's number of it.
    index: u32,
    /// Registers that the framework has and KVM has not, or with values that KVM refuses.
    beside: Mutex<BTreeMap<u64, u64>>,
    pub(super) vm: Arc<VmFd>,
    pub(super) gic: bool,
    pub(super) frame: Option<Frame>,
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processor").field("fd", &self.raw).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Processor {
    /// A vCPU that no thread has.
    pub(super) fn create(
        vm: &Arc<VmFd>,
        index: u32,
        gic: bool,
        frame: Option<Frame>,
    ) -> Result<Arc<Self>> {
        let mut fd = vm.create_vcpu(index.into()).map_err(failed("KVM_CREATE_VCPU"))?;
        let mut init = kvm_vcpu_init::default();
        vm.get_preferred_target(&mut init).map_err(failed("KVM_ARM_PREFERRED_TARGET"))?;
        // No PSCI: each vCPU runs when its thread wants.
        fd.vcpu_init(&init).map_err(failed("KVM_ARM_VCPU_INIT"))?;
        let page: *mut kvm_run = fd.get_kvm_run();
        Ok(Arc::new(Self {
            page: page.expose_provenance(),
            raw: fd.as_raw_fd(),
            fd: Mutex::new(fd),
            // SAFETY: a number.
            process: unsafe { libc::getpid() },
            thread: AtomicI32::new(0),
            written: AtomicBool::new(false),
            cancel: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            masked: AtomicBool::new(false),
            interrupts: Mutex::default(),
            index,
            beside: Mutex::default(),
            vm: Arc::clone(vm),
            gic,
            frame,
        }))
    }

    /// The calling thread is the vCPU's from now on.
    pub(super) fn adopt(&self) -> Result<()> {
        // SAFETY: a number.
        self.thread.store(unsafe { libc::gettid() }, Ordering::SeqCst);
        listen()
    }

    /// Whether KVM made it for this affinity.
    pub(crate) fn is_for(&self, mpidr: u64) -> bool {
        self.gic && self.index == super::index(mpidr)
    }

    /// The threads of the two change places.
    pub(crate) fn exchange(&self, other: &Self) -> Result<()> {
        if self.was_written() || other.was_written() {
            return Err("with an interrupt controller MPIDR_EL1 has to be written first".into());
        }
        let thread = self.thread.load(Ordering::SeqCst);
        self.thread.store(other.thread.swap(thread, Ordering::SeqCst), Ordering::SeqCst);
        Ok(())
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn was_written(&self) -> bool {
        self.written.load(Ordering::SeqCst)
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.raw
    }

    pub(crate) fn get(&self, register: Reg) -> Result<u64> {
        let number = number(register);
        if let Some(value) = lock(&self.beside).get(&number) {
            return Ok(*value);
        }
        match read(&lock(&self.fd), number) {
            // The framework knows more registers than KVM.
            Err(error) if error.errno() == libc::ENOENT => Ok(0),
            other => other.map_err(failed("KVM_GET_ONE_REG")),
        }
    }

    pub(crate) fn set(&self, register: Reg, value: u64) -> Result<()> {
        let number = number(register);
        self.written.store(true, Ordering::SeqCst);
        match write(&lock(&self.fd), number, value) {
            Ok(()) => {
                lock(&self.beside).remove(&number);
                Ok(())
            }
            Err(error) if error.errno() == libc::ENOENT => self.keep(number, value),
            // Not a state that a CPU can be in: the run will say so.
            Err(_) if register == Reg::Cpsr => self.keep(number, value),
            // A register that KVM keeps as it is: the caller can read it back.
            Err(error)
                if [libc::EINVAL, libc::EBUSY, libc::EPERM].contains(&error.errno())
                    && matches!(register, Reg::Sys(_)) =>
            {
                Ok(())
            }
            Err(error) => Err(format!("KVM_SET_ONE_REG of {register:?}: {error}")),
        }
    }

    fn keep(&self, number: u64, value: u64) -> Result<()> {
        lock(&self.beside).insert(number, value);
        Ok(())
    }

    pub(crate) fn vector(&self, register: u32) -> Result<u128> {
        let mut value = [0; 16];
        lock(&self.fd)
            .get_one_reg(registers::q(register), &mut value)
            .map_err(failed("KVM_GET_ONE_REG"))?;
        Ok(u128::from_le_bytes(value))
    }

    pub(crate) fn set_vector(&self, register: u32, value: u128) -> Result<()> {
        let outcome = lock(&self.fd).set_one_reg(registers::q(register), &value.to_le_bytes());
        outcome.map(drop).map_err(failed("KVM_SET_ONE_REG"))
    }

    /// Whether BRK comes out.
    pub(crate) fn trap_debug(&self, on: bool) -> Result<()> {
        let control = if on { KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP } else { 0 };
        let debug = kvm_guest_debug { control, ..kvm_guest_debug::default() };
        lock(&self.fd).set_guest_debug(&debug).map_err(failed("KVM_SET_GUEST_DEBUG"))
    }

    /// Sets FIQ and IRQ, as far as there is no interrupt controller to do it.
    fn set_interrupts(&self, [fiq, irq]: [bool; 2]) -> Result<()> {
        if self.gic || [fiq, irq] == *lock(&self.interrupts) {
            return Ok(());
        }
        for (number, level) in [(KVM_ARM_IRQ_CPU_IRQ, irq), (KVM_ARM_IRQ_CPU_FIQ, fiq)] {
            let line = self.index << KVM_ARM_IRQ_VCPU_SHIFT | number;
            self.vm.set_irq_line(line, level).map_err(failed("KVM_IRQ_LINE"))?;
        }
        *lock(&self.interrupts) = [fiq, irq];
        Ok(())
    }

    pub(crate) fn mask_vtimer(&self, masked: bool) {
        self.masked.store(masked, Ordering::SeqCst);
    }

    /// Ends the current run or the next. From any thread.
    pub(crate) fn cancel(&self) {
        self.cancel.store(true, Ordering::SeqCst);
        self.interrupt();
    }

    /// Ends the current run, which sleeps in a WFI. From any thread.
    pub(super) fn wake(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        self.interrupt();
    }

    fn interrupt(&self) {
        self.set_immediate_exit(true);
        let thread = self.thread.load(Ordering::SeqCst);
        // SAFETY: signals a thread of this process; if it is gone, so is the vCPU's run.
        unsafe { libc::syscall(libc::SYS_tgkill, self.process, thread, SIGNAL) };
    }

    fn set_immediate_exit(&self, value: bool) {
        let page: *mut kvm_run = std::ptr::with_exposed_provenance_mut(self.page);
        // SAFETY: the area is mapped as long as `fd` lives, and everybody writes this byte so.
        let byte = unsafe { AtomicU8::from_ptr(&raw mut (*page).immediate_exit) };
        byte.store(value.into(), Ordering::SeqCst);
    }

    /// Runs the guest until it exits. `memory` gives bytes of its RAM.
    pub(crate) fn run(
        &self,
        pending: [bool; 2],
        memory: &dyn Fn(u64, u64) -> Option<u64>,
    ) -> Result<Step> {
        self.set_interrupts(pending)?;
        if lock(&self.beside).contains_key(&registers::PSTATE) {
            return Err("CPSR holds no state that a CPU can be in".into());
        }
        let mut fd = lock(&self.fd);
        loop {
            if self.cancel.swap(false, Ordering::SeqCst) {
                self.set_immediate_exit(false);
                return Ok(Step::exit(CANCELED).of_guest());
            }
            if self.timer_is_due(&mut fd) {
                self.mask_vtimer(true);
                return Ok(Step::exit(VTIMER_ACTIVATED).of_guest());
            }
            let step = match run(&mut fd) {
                Ok(()) => self.step(&mut fd, memory)?,
                Err(error) if error.errno() == libc::EINTR => {
                    // Clear first: a cancellation from here on sets it again.
                    self.set_immediate_exit(false);
                    self.woken(&fd, memory)?
                }
                Err(error) => return Err(format!("KVM_RUN: {error}")),
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// Without an interrupt controller the timer comes out, once until it is unmasked.
    fn timer_is_due(&self, fd: &mut VcpuFd) -> bool {
        // SAFETY: the union's members are numbers, and this is the one that KVM fills.
        let lines = unsafe { fd.get_kvm_run().s.regs }.device_irq_level;
        let high = lines & u64::from(KVM_ARM_DEV_EL1_VTIMER) != 0;
        !self.gic && high && !self.masked.load(Ordering::SeqCst)
    }

    /// Has KVM commit the access that it came out with, and nothing else.
    pub(super) fn complete(&self, fd: &mut VcpuFd) -> Result<()> {
        self.set_immediate_exit(true);
        let outcome = run(fd);
        // As for a run: whoever cancels from here on sets it again, whoever did before is heard.
        self.set_immediate_exit(false);
        match outcome {
            Err(error) if error.errno() == libc::EINTR => Ok(()),
            Err(error) => Err(format!("KVM_RUN: {error}")),
            Ok(()) => Err("KVM entered the guest to complete an access".into()),
        }
    }

    /// Whether it was woken from sleep; only once.
    pub(super) fn was_asleep(&self) -> bool {
        self.asleep.swap(false, Ordering::SeqCst)
    }
}

/// KVM_RUN, whose outcome stays in the shared area.
fn run(fd: &mut VcpuFd) -> std::result::Result<(), kvm_ioctls::Error> {
    fd.run().map(drop)
}

pub(super) fn read(fd: &VcpuFd, number: u64) -> std::result::Result<u64, kvm_ioctls::Error> {
    let mut value = [0; 8];
    fd.get_one_reg(number, &mut value[..bytes(number)])?;
    Ok(u64::from_le_bytes(value))
}

pub(super) fn write(
    fd: &VcpuFd,
    number: u64,
    value: u64,
) -> std::result::Result<(), kvm_ioctls::Error> {
    fd.set_one_reg(number, &value.to_le_bytes()[..bytes(number)]).map(drop)
}

/// Lets the signal end this thread's runs, and do nothing else.
fn listen() -> Result<()> {
    extern "C" fn interrupted(_signal: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = interrupted;
    // SAFETY: installs a handler that touches nothing, and unblocks one signal of this thread.
    let failed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, SIGNAL);
        libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) != 0
            || libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) != 0
    };
    if failed { Err(last("sigaction")) } else { Ok(()) }
}
