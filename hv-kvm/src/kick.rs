//! Interrupting a vCPU (api.rst 5, `immediate_exit`).
//!
//! A signal alone can be lost between the last check and KVM_RUN. So a kick sets a flag, then
//! `immediate_exit` in the page that KVM reads at the start of every run, then signals the thread
//! in case it is inside one; from the vCPU's own thread, which is not, the flag will do. Whoever consumes
//! the flag clears `immediate_exit` first: a kick that comes in between leaves it set again, which costs
//! at most one empty run.

// UNSAFETY: a second mapping of the shared page lets other threads set immediate_exit, and signals
// have no safe interface.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hv::{Error, Kicker, Result};
use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;

/// What a thread is woken by. Not a real-time signal: those are queued, and refused when the user's
/// queue is full (RLIMIT_SIGPENDING), by whichever of his processes. This one is pending or not, and
/// means nothing else here: nobody asks to be told of a socket's urgent data.
const SIGNAL: libc::c_int = libc::SIGURG;

/// The first page of a vCPU's shared area, mapped a second time: `immediate_exit` is in it.
#[derive(Debug)]
struct ImmediateExit(NonNull<kvm_run>);

// SAFETY: the mapping belongs to no thread, and only one atomic byte of it is used.
unsafe impl Send for ImmediateExit {}
// SAFETY: as above.
unsafe impl Sync for ImmediateExit {}

const PAGE: usize = 4096;

impl ImmediateExit {
    fn map(fd: &VcpuFd) -> Result<Self> {
        const { assert!(std::mem::offset_of!(kvm_run, immediate_exit) < PAGE) };
        // SAFETY: a new shared mapping of a file at an address of the kernel's choice.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        let failed = || Error::last_errno("mmap of a vCPU");
        if page == libc::MAP_FAILED {
            return Err(failed());
        }
        NonNull::new(page.cast::<kvm_run>()).map(Self).ok_or_else(failed)
    }

    fn set(&self, value: bool) {
        // SAFETY: the byte lies within the mapping, which lives as long as `self`; everyone who
        // writes it while others may read does so atomically.
        let byte = unsafe { AtomicU8::from_ptr(&raw mut (*self.0.as_ptr()).immediate_exit) };
        byte.store(u8::from(value), Ordering::SeqCst);
    }
}

impl Drop for ImmediateExit {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), PAGE) };
    }
}

/// A thread of this process. The process's id is kept, too: asking for it takes a system call.
#[derive(Clone, Copy, Debug)]
struct Thread {
    process: libc::pid_t,
    id: libc::pid_t,
    /// What a thread knows itself by, without a system call.
    own: libc::pthread_t,
}

/// A vCPU's sticky bit and the way to its thread.
#[derive(Debug)]
struct Shared {
    kicked: AtomicBool,
    page: Mutex<Option<ImmediateExit>>,
    /// The vCPU's thread while it is bound. Signalled under the lock only, so that the thread
    /// cannot end, nor its id go to another, in between.
    thread: Mutex<Option<Thread>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Interrupts a vCPU from any thread.
#[derive(Clone, Debug)]
pub struct KvmKicker(Arc<Shared>);

impl Kicker for KvmKicker {
    fn kick(&self) {
        // A kick that nobody has taken yet says the same. Signalling again would only queue up: a
        // thread that kicks without pause could keep the vCPU's in its handler for ever.
        if self.0.kicked.swap(true, Ordering::SeqCst) {
            return;
        }
        let thread = lock(&self.0.thread);
        // SAFETY: returns a number.
        if thread.is_some_and(|thread| thread.own == unsafe { libc::pthread_self() }) {
            // The vCPU's own thread is not in KVM_RUN, and looks at the flag before the next.
            return;
        }
        if let Some(page) = &*lock(&self.0.page) {
            page.set(true);
        }
        if let Some(Thread { process, id, .. }) = *thread {
            // SAFETY: signals a thread of this process, which is alive while the lock is held.
            unsafe { libc::syscall(libc::SYS_tgkill, process, id, SIGNAL) };
        }
    }
}

/// The vCPU's own side.
#[derive(Debug)]
pub(crate) struct Kicked(Arc<Shared>);

impl Kicked {
    pub(crate) fn new(fd: &VcpuFd) -> Result<Self> {
        Ok(Self(Arc::new(Shared {
            kicked: AtomicBool::new(false),
            page: Mutex::new(Some(ImmediateExit::map(fd)?)),
            thread: Mutex::new(None),
        })))
    }

    pub(crate) fn kicker(&self) -> KvmKicker {
        KvmKicker(Arc::clone(&self.0))
    }

    /// The calling thread is the vCPU's from now on.
    pub(crate) fn bind(&self) {
        // SAFETY: unblocks one signal of this thread; asks for its id.
        let thread = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, SIGNAL);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
            Thread { process: libc::getpid(), id: libc::gettid(), own: libc::pthread_self() }
        };
        *lock(&self.0.thread) = Some(thread);
    }

    /// Whether a kick waits.
    pub(crate) fn waits(&self) -> bool {
        self.0.kicked.load(Ordering::SeqCst)
    }

    /// Whether a kick waits; it is consumed.
    pub(crate) fn take(&self) -> bool {
        self.waits() && {
            self.set_immediate_exit(false);
            self.0.kicked.swap(false, Ordering::SeqCst)
        }
    }

    /// As [`Kicked::take`], after a run that came back early: clears `immediate_exit` also when the
    /// kick that set it was consumed before.
    pub(crate) fn take_after_interruption(&self) -> bool {
        self.set_immediate_exit(false);
        self.0.kicked.swap(false, Ordering::SeqCst)
    }

    /// Makes the next KVM_RUN come back before it enters the guest.
    pub(crate) fn stay_out(&self) {
        self.set_immediate_exit(true);
    }

    /// Takes [`Kicked::stay_out`] back, unless a kick wants the same.
    pub(crate) fn may_enter(&self) {
        self.set_immediate_exit(false);
        if self.waits() {
            self.set_immediate_exit(true);
        }
    }

    fn set_immediate_exit(&self, value: bool) {
        if let Some(page) = &*lock(&self.0.page) {
            page.set(value);
        }
    }
}

impl Drop for Kicked {
    /// Kickers may live on; what they hold of the vCPU goes now.
    fn drop(&mut self) {
        *lock(&self.0.thread) = None;
        *lock(&self.0.page) = None;
    }
}

/// Makes the kick signal end system calls of a vCPU's thread and do nothing else. Once a process.
pub(crate) fn install_handler() -> Result<()> {
    extern "C" fn interrupted(_signal: libc::c_int) {}
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    let code = INSTALLED.get_or_init(|| {
        let handler: extern "C" fn(libc::c_int) = interrupted;
        // SAFETY: installs a handler that touches nothing; without SA_RESTART, so that blocking
        // calls return.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut())
        };
        if result == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) }
    });
    match *code {
        0 => Ok(()),
        errno => Err(Error::errno("sigaction", errno)),
    }
}
