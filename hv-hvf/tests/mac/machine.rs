//! A VM and a vCPU by the framework's own calls, with nothing of ours in between.

// UNSAFETY: the framework is a C library.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use applevisor_sys::{self as hvf, hv_reg_t, hv_return_t};
use hv::GuestRam;
use hv::arch::aarch64::PSTATE_EL1H_MASKED;

use crate::sys::Framework;

/// Where code is.
pub(crate) const RAM: u64 = 0x4000_0000;
/// Where more RAM may be.
pub(crate) const MORE: u64 = 0x5000_0000;
/// Where nothing is.
pub(crate) const DEVICE: u64 = 0x1000_0000;
pub(crate) const RAM_SIZE: u64 = 2 << 20;

/// How long a guest may take that should not take long.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// `hv_return_t` as Apple writes it.
pub(crate) fn code(raw: hv_return_t) -> u32 {
    raw.cast_unsigned()
}

pub(crate) const SUCCESS: u32 = 0;
pub(crate) const BUSY: u32 = 0xfae9_4002;
pub(crate) const DENIED: u32 = 0xfae9_4007;
pub(crate) const UNSUPPORTED: u32 = 0xfae9_400f;

/// The process's VM with a piece of RAM in it.
pub(crate) struct Machine {
    ram: Vec<Arc<GuestRam>>,
    pub(crate) framework: Framework,
}

impl Machine {
    /// A VM with `words` at [`RAM`]. Where this process may have none it says so, and there is none.
    pub(crate) fn new(words: &[u32]) -> Option<Self> {
        let framework = Framework::take();
        match create() {
            SUCCESS => {}
            DENIED => {
                println!("skipped: HV_DENIED: this program is not signed for virtual machines");
                return None;
            }
            UNSUPPORTED => {
                println!("skipped: HV_UNSUPPORTED: this macOS runs in a virtual machine");
                return None;
            }
            other => panic!("hv_vm_create: {other:#x}"),
        }
        let mut machine = Self { ram: Vec::new(), framework };
        machine.map(RAM, words, hvf::HV_MEMORY_READ | hvf::HV_MEMORY_WRITE | hvf::HV_MEMORY_EXEC);
        Some(machine)
    }

    /// Maps RAM that begins with `words` at `at`.
    pub(crate) fn map(&mut self, at: u64, words: &[u32], flags: hvf::hv_memory_flags_t) {
        let ram = GuestRam::new(RAM_SIZE).unwrap();
        for (index, word) in words.iter().enumerate() {
            // SAFETY: the RAM is longer than any code here, and nobody else has it yet.
            unsafe { ram.host_address().cast::<u32>().add(index).write(word.to_le()) };
        }
        let len = usize::try_from(RAM_SIZE).unwrap();
        // SAFETY: the pages live until the VM is gone.
        let result = unsafe { hvf::hv_vm_map(ram.host_address().cast(), at, len, flags) };
        assert_eq!(code(result), SUCCESS, "hv_vm_map at {at:#x}");
        self.ram.push(ram);
    }

    /// A vCPU of the calling thread, at [`RAM`], with X0 = [`DEVICE`] and the host's clock.
    pub(crate) fn vcpu(&self) -> Vcpu {
        block_signals();
        let (mut id, mut exit) = (0, std::ptr::null());
        // SAFETY: both variables outlive the call.
        let result =
            unsafe { hvf::hv_vcpu_create(&raw mut id, &raw mut exit, std::ptr::null_mut()) };
        assert_eq!(code(result), SUCCESS, "hv_vcpu_create");
        // SAFETY: plain values.
        let result = unsafe { hvf::hv_vcpu_set_vtimer_offset(id, 0) };
        assert_eq!(code(result), SUCCESS, "hv_vcpu_set_vtimer_offset");
        let vcpu = Vcpu { id, exit };
        vcpu.set(hv_reg_t::PC, RAM);
        vcpu.set(hv_reg_t::CPSR, PSTATE_EL1H_MASKED);
        vcpu.set(hv_reg_t::X0, DEVICE);
        vcpu
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: vCPUs are gone before, as tests declare them later.
        let result = code(unsafe { hvf::hv_vm_destroy() });
        assert!(result == SUCCESS || std::thread::panicking(), "hv_vm_destroy: {result:#x}");
    }
}

/// As the backend does: a signal would end a run.
fn block_signals() {
    // SAFETY: a set of signals is filled in and put into effect.
    let result = unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut())
    };
    assert_eq!(result, 0);
}

/// `hv_vm_create` with the default configuration.
pub(crate) fn create() -> u32 {
    // SAFETY: null is the default configuration.
    code(unsafe { hvf::hv_vm_create(std::ptr::null_mut()) })
}

/// What a run came out with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) reason: u32,
    pub(crate) esr: u64,
    pub(crate) ipa: u64,
    pub(crate) pc: u64,
}

impl Exit {
    /// The exception's class (Arm ARM DDI 0487, D24.2.40).
    pub(crate) fn class(self) -> u64 {
        self.esr >> 26
    }
}

pub(crate) const CANCELED: u32 = 0;
pub(crate) const EXCEPTION: u32 = 1;

/// A vCPU of this thread.
pub(crate) struct Vcpu {
    pub(crate) id: u64,
    exit: *const hvf::hv_vcpu_exit_t,
}

impl Vcpu {
    fn set(&self, register: hv_reg_t, value: u64) {
        // SAFETY: the vCPU is live and this thread's.
        assert_eq!(code(unsafe { hvf::hv_vcpu_set_reg(self.id, register, value) }), SUCCESS);
    }

    fn get(&self, register: hv_reg_t) -> u64 {
        let mut value = 0;
        // SAFETY: the vCPU is live and this thread's; the variable outlives the call.
        let result = unsafe { hvf::hv_vcpu_get_reg(self.id, register, &raw mut value) };
        assert_eq!(code(result), SUCCESS);
        value
    }

    /// Runs the guest, and takes it out after `limit`: CANCELED.
    pub(crate) fn run(&self, limit: Duration) -> Exit {
        let (done, wait) = mpsc::channel::<()>();
        let id = self.id;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if wait.recv_timeout(limit).is_err() {
                    exit(id);
                }
            });
            // SAFETY: the vCPU is live and this thread's.
            let result = code(unsafe { hvf::hv_vcpu_run(self.id) });
            // It has taken the guest out already when nobody listens.
            let _ = done.send(());
            assert_eq!(result, SUCCESS, "hv_vcpu_run");
        });
        // SAFETY: the framework keeps the structure as long as the vCPU lives. The reason is its first
        // member, read as a number.
        let (reason, exception) =
            unsafe { (self.exit.cast::<u32>().read(), (&raw const (*self.exit).exception).read()) };
        let exit = Exit {
            reason,
            esr: exception.syndrome,
            ipa: exception.physical_address,
            pc: self.get(hv_reg_t::PC),
        };
        println!("exit: {exit:x?}");
        exit
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // SAFETY: the vCPU is live and this thread's.
        unsafe { hvf::hv_vcpu_destroy(self.id) };
    }
}

/// Asks the vCPU `id` to leave the guest.
pub(crate) fn exit(id: u64) {
    // SAFETY: the pointer is to one id.
    let result = code(unsafe { hvf::hv_vcpus_exit(&raw const id, 1) });
    assert_eq!(result, SUCCESS, "hv_vcpus_exit");
}
