//! The `hv_*` symbols of Apple's Hypervisor.framework (macOS 15, Apple silicon), played from a
//! script on any unix.
//!
//! A test says which exits its guest's code would cause and what the backend
//! must have done to the registers when it runs the vCPU again ([`Step`]); the stand-in plays the
//! exits and compares every general-purpose register. In between it keeps the framework's rules
//! strictly: one VM per process, vCPUs on their threads, 16 KiB alignment, no double map, no stale
//! id, the interrupt controller before the vCPUs, objects released. Errors are injected by the name
//! of the call ([`fail`]). The guests of the conformance suite can be played from their own
//! instructions ([`run_guests`]).
//!
//! The state is the process's, as the framework's is. A test takes it with [`Session::begin`],
//! which also makes tests of one process wait for each other, and finds out at its end what was
//! broken. Without a session (one process per case) the first broken rule ends the process.
//!
//! Written from Apple's documentation alone and without the bindings the backend uses, so that a
//! wrong number or signature there does not agree with itself here.

mod abi;
mod decode;
mod guest;
mod script;
mod state;
mod sys;

pub mod esr;

pub use script::{Reg, Step, Width};
pub use state::{Host, ID_REGISTERS, SysReg};

use std::io::Write;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use state::{Endless, Engine, STATE, State, lock};

/// The codes of `hv_return_t` (Apple's documentation, "Hypervisor Errors").
#[expect(missing_docs, reason = "the names are the framework's")]
pub mod code {
    pub const HV_SUCCESS: u32 = 0;
    pub const HV_ERROR: u32 = 0xfae9_4001;
    pub const HV_BUSY: u32 = 0xfae9_4002;
    pub const HV_BAD_ARGUMENT: u32 = 0xfae9_4003;
    pub const HV_ILLEGAL_GUEST_STATE: u32 = 0xfae9_4004;
    pub const HV_NO_RESOURCES: u32 = 0xfae9_4005;
    pub const HV_NO_DEVICE: u32 = 0xfae9_4006;
    pub const HV_DENIED: u32 = 0xfae9_4007;
    pub const HV_FAULT: u32 = 0xfae9_4008;
    pub const HV_UNSUPPORTED: u32 = 0xfae9_400f;
}

/// Adds to the script of the vCPU that is created as number `vcpu` (from 0). Behind its end the
/// vCPU stays in the guest until `hv_vcpus_exit`.
pub fn play(vcpu: usize, steps: impl IntoIterator<Item = Step>) {
    lock().scripts.entry(vcpu).or_default().extend(steps);
}

/// What vCPU `vcpu` does behind the end of its script, instead of staying in the guest.
pub fn play_forever(vcpu: usize, steps: impl FnMut() -> Step + Send + 'static) {
    lock().endless.insert(vcpu, Endless(Box::new(steps)));
}

/// From here on vCPUs without a script run the guest that is in RAM: on KVM where this is an aarch64
/// Linux that has it, otherwise as far as its instructions are known here. Whether it is a real CPU.
pub fn run_guests() -> bool {
    let mut state = lock();
    start_engine(&mut state);
    state.engine == Engine::Machine
}

pub(crate) fn start_engine(state: &mut State) {
    let machine = sys::is_there(&mut state.host);
    state.engine = if machine { Engine::Machine } else { Engine::Interpreter };
}

/// Whether the program does not know of the stand-in, as `HVF_STANDIN=foreign` in its environment says:
/// guests run, and a broken rule is an error code and a line on stderr.
pub(crate) fn is_foreign() -> bool {
    static FOREIGN: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("HVF_STANDIN").is_some_and(|value| value == "foreign"));
    *FOREIGN
}

/// Makes the next call of `call` (its name as a symbol: `hv_vm_map`) return `code` and do nothing.
pub fn fail(call: &'static str, code: u32) {
    lock().failures.push((call, code));
}

static TURN: Mutex<()> = Mutex::new(());

/// The framework, for one test at a time.
#[derive(Debug)]
pub struct Session {
    _turn: MutexGuard<'static, ()>,
    /// Ends the watch when it goes.
    _watch: mpsc::Sender<()>,
}

/// Only a vCPU that nobody takes out of the guest, or out of its sleep, makes a test last so long.
const TOO_LONG: Duration = Duration::from_secs(30);

/// Ends the process if the calling test goes on for too long: a lost kick must fail, not hang.
fn watch() -> mpsc::Sender<()> {
    let (watch, watched) = mpsc::channel();
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    std::thread::spawn(move || {
        if watched.recv_timeout(TOO_LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Not by a macro, whose text the test's harness would keep for a test that ends.
            let _ = writeln!(std::io::stderr(), "test {test} ... FAILED: it does not end");
            std::process::abort();
        }
    });
    watch
}

impl Session {
    /// Waits until no other test of the process uses the framework, and starts anew.
    pub fn begin() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        *lock() = State { in_session: true, ..State::new() };
        Self { _turn: turn, _watch: watch() }
    }

    /// Changes what the host is like.
    pub fn host(&self, change: impl FnOnce(&mut Host)) {
        change(&mut lock().host);
    }

    /// See [`play`].
    pub fn play(&self, vcpu: usize, steps: impl IntoIterator<Item = Step>) {
        play(vcpu, steps);
    }

    /// See [`play_forever`].
    pub fn play_forever(&self, vcpu: usize, steps: impl FnMut() -> Step + Send + 'static) {
        play_forever(vcpu, steps);
    }

    /// See [`fail`].
    pub fn fail(&self, call: &'static str, code: u32) {
        fail(call, code);
    }

    /// The arguments of every call of `call` that succeeded, in order.
    pub fn calls(&self, call: &str) -> Vec<Vec<u64>> {
        let state = lock();
        state.calls.iter().filter(|(name, _)| *name == call).map(|(_, args)| args.clone()).collect()
    }

    /// The names of all calls that succeeded, in order.
    pub fn order(&self) -> Vec<&'static str> {
        lock().calls.iter().map(|(name, _)| *name).collect()
    }

    /// Register `register` of the vCPU created as number `vcpu`, which must exist. For the
    /// registers that a step may set, and for system registers by their number.
    pub fn register(&self, vcpu: usize, register: Reg) -> Option<u64> {
        lock().vcpu_created_as(vcpu).map(|vcpu| vcpu.registers.get(register))
    }

    /// Waits until the vCPU created as number `vcpu` is in the guest behind the end of its script.
    ///
    /// # Panics
    /// When it does not come there: after long enough that only a broken test can notice.
    pub fn wait_until_parked(&self, vcpu: usize) {
        let mut state = lock();
        let long = Duration::from_secs(20);
        while !state.vcpu_created_as(vcpu).is_some_and(|vcpu| vcpu.parked) {
            let waited = STATE.changed.wait_timeout(state, long);
            let (now, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            assert!(!timeout.timed_out(), "vCPU {vcpu} is not in the guest");
            state = now;
        }
    }

    /// Makes the vCPU created as number `vcpu` come out with CANCELED for no reason.
    pub fn disturb(&self, vcpu: usize) {
        if let Some(vcpu) = lock().vcpu_created_as(vcpu) {
            vcpu.cancel = true;
        }
        STATE.changed.notify_all();
    }

    /// The rules broken so far, which the end of the session will not mind any more.
    pub fn forgive(&self) -> Vec<String> {
        std::mem::take(&mut lock().broken)
    }

    /// Ends the session for a test that expects broken rules or leftovers: what they are.
    pub fn end(self) -> Vec<String> {
        let mut state = lock();
        let found = state.leftovers();
        *state = State::new();
        found
    }
}

impl Drop for Session {
    /// # Panics
    /// When a rule was broken or something was left behind.
    fn drop(&mut self) {
        let found = {
            let mut state = lock();
            let found = state.leftovers();
            *state = State::new();
            found
        };
        if !std::thread::panicking() {
            assert!(found.is_empty(), "the backend broke the framework's rules: {found:#?}");
        }
    }
}
