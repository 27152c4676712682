//! A vCPU at EL1 with its MMU off, and a few instructions of each kind that arm64 kernels use early.
//! Encodings: Arm ARM DDI 0487, "A64 Instruction Set Encoding".

// UNSAFETY: kvm-ioctls' call that gives memory to a VM is unsafe, since the VM writes to it.
#![allow(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::time::Duration;

use hv::arch::aarch64::State;
use hv::{GuestMemory, GuestRam, IrqChip, Result};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress};

use super::{End, Execution, Ran, beyond};
use crate::arch;
use crate::error::call;

/// All of the guest's RAM, from address 0.
const RAM: u64 = 0x8000;
/// Where an exception from EL1 goes, after a reset: VBAR_EL1 is 0.
const VECTOR: u64 = 0x200;
const CODE: u64 = 0x4000;
/// Where X2 points: what the instructions may read and write.
const DATA: u64 = 0x6000;

/// Where X1 points, behind RAM: a write here says that guest code got there.
const DONE: u64 = 0x1_0000;
/// A write here says that it had an exception.
const EXCEPTION: u64 = DONE + 8;
/// `str xzr, [x1]`
const STORE_DONE: u32 = 0xf900_003f;
/// `str xzr, [x1, 8]`
const STORE_EXCEPTION: u32 = 0xf900_043f;
/// `subs x0, x0, 1`, `b.ne` back to it, `str xzr, [x1]`
const LOOP: [u32; 3] = [0xf100_0400, 0x54ff_ffe1, STORE_DONE];
/// A loop's instructions for one count of X0.
const LOOP_INSTRUCTIONS: u64 = 2;

/// What compilers and kernels emit for every arm64.
const SAMPLES: [(&str, u32); 6] = [
    ("FADD", 0x1e61_2800),
    ("ADD (vector)", 0x4ea1_8400),
    ("UDIV", 0x9ac2_0843),
    ("MRS CNTVCT_EL0", 0xd53b_e043),
    ("STP", 0xa900_1043),
    ("DC CVAC", 0xd50b_7a22),
];

/// Runs the loop and the samples in a VM of their own. It is gone when this returns.
///
/// # Errors
/// Whatever kept the guest from its first instructions.
pub(in super::super) fn run(kvm: &Kvm, vm: VmFd) -> Result<Ran> {
    let mut guest = Guest::new(kvm, vm)?;
    let execution = guest.execution()?;
    let mut failed = Vec::new();
    for (name, instruction) in SAMPLES {
        guest.write(CODE, &[instruction, STORE_DONE])?;
        if guest.run(0)?.0 != End::Done {
            failed.push(name);
        }
    }
    Ok(Ran { execution, failed })
}

/// A VM with one vCPU.
struct Guest {
    // Declared, and therefore dropped, before the memory that it runs in.
    vcpu: VcpuFd,
    _vm: VmFd,
    memory: GuestMemory,
}

impl Guest {
    fn new(kvm: &Kvm, vm: VmFd) -> Result<Self> {
        let ram = GuestRam::new(RAM)?;
        let region = kvm_userspace_memory_region {
            memory_size: RAM,
            userspace_addr: ram.host_address().expose_provenance() as u64,
            ..Default::default()
        };
        let memory = hv::mem::memory([(0, ram)])?;
        arch::prepare(&vm)?;
        // SAFETY: the pages are the guest's alone, and `Guest` keeps them until its vCPU, the only
        // thing that runs in them, is gone.
        call("KVM_SET_USER_MEMORY_REGION", unsafe { vm.set_user_memory_region(region) })?;
        let vcpu = call("KVM_CREATE_VCPU", vm.create_vcpu(0))?;
        // What it refuses, guests do without.
        arch::VcpuSetup::new(kvm, &vm, IrqChip::None, 1)?.apply(&vcpu, 0)?;
        arch::allow_vectors(&vcpu)?;
        let guest = Self { vcpu, _vm: vm, memory };
        guest.write(VECTOR, &[STORE_EXCEPTION])?;
        Ok(guest)
    }

    /// Times the loop.
    fn execution(&mut self) -> Result<Execution> {
        self.write(CODE, &LOOP)?;
        super::execution(LOOP_INSTRUCTIONS, |count| self.run(count))
    }

    fn write(&self, at: u64, instructions: &[u32]) -> Result<()> {
        let bytes: Vec<u8> = instructions.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.memory.write_slice(&bytes, GuestAddress(at)).map_err(beyond)
    }

    /// Runs from [`CODE`] with `x0` until the guest stops, and says how long that took.
    fn run(&mut self, x0: u64) -> Result<(End, Duration)> {
        let mut state = State::el1(CODE, x0);
        let [_, x1, x2, ..] = &mut state.x;
        (*x1, *x2) = (DONE, DATA);
        arch::set_state(&self.vcpu, &state.into())?;
        super::timed(&mut self.vcpu, |exit| match exit {
            VcpuExit::MmioWrite(DONE, _) => End::Done,
            VcpuExit::MmioWrite(EXCEPTION, _) => End::Exception,
            exit => End::Other(format!("ended in {exit:?}")),
        })
    }
}
