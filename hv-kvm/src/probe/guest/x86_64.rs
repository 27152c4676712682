//! A vCPU in 64-bit mode, and the instructions that x86_64 kernels use early. Encodings: Intel SDM
//! volume 2.

// UNSAFETY: kvm-ioctls' call that gives memory to a VM is unsafe, since the VM writes to it.
#![allow(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::time::Duration;

use hv::arch::x86_64::{Regs, State, write_gdt, write_identity_map};
use hv::{GuestMemory, GuestRam, Result};
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress};

use super::{End, Execution, Ran, beyond};
use crate::arch;
use crate::error::call;

/// All of the guest's RAM, from address 0.
const RAM: u64 = 0x8000;
const GDT: u64 = 0x500;
const TABLES: u64 = 0x1000;
const CODE: u64 = 0x4000;
/// Where RSI points: what the instructions read.
const SOURCE: u64 = 0x5000;
/// Where RDI points: what they write.
const TARGET: u64 = 0x6000;
const STACK: u64 = 0x8000;

/// Written to this port, guest code says that it got there.
const DONE: u16 = 0xf4;
/// `out 0xf4, al`
const OUT_DONE: [u8; 2] = [0xe6, 0xf4];
/// `dec ecx`, `jnz` back to it, `out 0xf4, al`
const LOOP: [u8; 6] = [0xff, 0xc9, 0x75, 0xfc, 0xe6, 0xf4];
/// A loop's instructions for one count of ECX.
const LOOP_INSTRUCTIONS: u64 = 2;

/// An instruction that guest kernels use early, alone.
struct Sample {
    name: &'static str,
    code: &'static [u8],
    /// Whether the CPU must announce XSAVE for it.
    xsave: bool,
}

impl Sample {
    const fn new(name: &'static str, code: &'static [u8]) -> Self {
        Self { name, code, xsave: false }
    }
}

/// What compilers and kernels emit for every x86_64, and XGETBV. RSI and RDI are 16-byte aligned;
/// RCX is 0.
const SAMPLES: &[Sample] = &[
    Sample::new("CPUID", &[0x0f, 0xa2]),
    Sample::new("RDTSC", &[0x0f, 0x31]),
    Sample::new("CMPXCHG16B", &[0x48, 0x0f, 0xc7, 0x0f]),
    Sample::new("FNINIT", &[0xdb, 0xe3]),
    Sample::new("FNSTSW", &[0xdf, 0xe0]),
    Sample::new("FXSAVE", &[0x0f, 0xae, 0x07]),
    Sample::new("LDMXCSR", &[0x0f, 0xae, 0x16]),
    Sample::new("MOVAPS", &[0x0f, 0x29, 0x07]),
    Sample::new("PXOR", &[0x66, 0x0f, 0xef, 0xc1]),
    Sample::new("MULPS", &[0x0f, 0x59, 0xc1]),
    Sample::new("CVTSI2SD", &[0xf2, 0x48, 0x0f, 0x2a, 0xc0]),
    Sample { name: "XGETBV", code: &[0x0f, 0x01, 0xd0], xsave: true },
];

/// Runs the loop and the samples in a VM of their own. It is gone when this returns.
///
/// # Errors
/// Whatever kept the guest from its first instructions.
pub(in super::super) fn run(kvm: &Kvm, vm: VmFd) -> Result<Ran> {
    let mut guest = Guest::new(kvm, vm)?;
    let execution = guest.execution()?;
    let mut failed = Vec::new();
    for sample in SAMPLES {
        let end = guest.sample(sample.code)?;
        // An exception is right where the CPU announces no XSAVE.
        let right = end == End::Done || sample.xsave && !guest.xsave && end == End::Exception;
        if !right {
            failed.push(sample.name);
        }
    }
    if guest.system_call()? != End::Done {
        failed.push("SYSCALL");
    }
    Ok(Ran { execution, failed })
}

/// A VM with one vCPU in 64-bit mode.
struct Guest {
    // Declared, and therefore dropped, before the memory that it runs in.
    vcpu: VcpuFd,
    _vm: VmFd,
    memory: GuestMemory,
    /// What each run begins with.
    state: State,
    xsave: bool,
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
        write_gdt(&memory, GDT)?;
        write_identity_map(&memory, TABLES)?;
        open_to_user_mode(&memory)?;
        arch::prepare(&vm)?;
        // SAFETY: the pages are the guest's alone, and `Guest` keeps them until its vCPU, the only
        // thing that runs in them, is gone.
        call("KVM_SET_USER_MEMORY_REGION", unsafe { vm.set_user_memory_region(region) })?;
        let vcpu = call("KVM_CREATE_VCPU", vm.create_vcpu(0))?;
        let xsave = announce(kvm, &vcpu);
        Ok(Self { vcpu, _vm: vm, memory, state: initial(xsave), xsave })
    }

    /// Times the loop.
    fn execution(&mut self) -> Result<Execution> {
        self.write(CODE, &LOOP)?;
        super::execution(LOOP_INSTRUCTIONS, |count| self.run(count))
    }

    /// Runs one instruction.
    fn sample(&mut self, code: &[u8]) -> Result<End> {
        /// MXCSR after a reset: every exception masked.
        const MXCSR: [u8; 4] = [0x80, 0x1f, 0, 0];
        self.write(SOURCE, &MXCSR)?;
        self.write(CODE, &[code, &OUT_DONE].concat())?;
        self.run(0).map(|(end, _)| end)
    }

    /// Calls from user mode into the kernel with SYSCALL, which must arrive with its privileges.
    fn system_call(&mut self) -> Result<End> {
        /// `syscall`
        const USER: [u8; 2] = [0x0f, 0x05];
        /// `mov rax, cr0`, which only a kernel may, then `out 0xf4, al`
        const KERNEL: [u8; 5] = [0x0f, 0x20, 0xc0, 0xe6, 0xf4];
        const ENTRY: u64 = CODE + 0x100;
        const MSR_STAR: u32 = 0xc000_0081;
        const MSR_LSTAR: u32 = 0xc000_0082;
        const MSR_FMASK: u32 = 0xc000_0084;
        const EFER_SCE: u64 = 1;
        const DPL_3: u16 = 3 << 5;
        let msr = |index, data| kvm_msr_entry { index, data, ..Default::default() };
        // STAR has the kernel's code segment; what SYSRET would load does not matter.
        let msrs = [msr(MSR_STAR, 0x10 << 32), msr(MSR_LSTAR, ENTRY), msr(MSR_FMASK, 0)];
        let accepted = Msrs::from_entries(&msrs).ok().map(|msrs| self.vcpu.set_msrs(&msrs));
        if !matches!(accepted, Some(Ok(3))) {
            return Ok(End::Other("has none of its MSRs".into()));
        }
        self.write(CODE, &USER)?;
        self.write(ENTRY, &KERNEL)?;
        self.state.efer |= EFER_SCE;
        for segment in [&mut self.state.cs, &mut self.state.ss] {
            segment.access |= DPL_3;
            segment.selector |= 3;
        }
        self.run(0).map(|(end, _)| end)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.memory.write_slice(bytes, GuestAddress(at)).map_err(beyond)
    }

    /// Runs from [`CODE`] with `rcx` until the guest stops, and says how long that took.
    fn run(&mut self, rcx: u64) -> Result<(End, Duration)> {
        self.state.regs = Regs {
            rip: CODE,
            rcx,
            rsi: SOURCE,
            rdi: TARGET,
            rsp: STACK,
            rflags: 2,
            ..Regs::default()
        };
        arch::set_state(&self.vcpu, &hv::State::X86_64(self.state))?;
        super::timed(&mut self.vcpu, |exit| match exit {
            VcpuExit::IoOut(DONE, _) => End::Done,
            VcpuExit::InternalError => End::Unknown,
            VcpuExit::Shutdown => End::Exception,
            VcpuExit::FailEntry(reason, _) => {
                End::Other(format!("did not start: hardware entry failure {reason:#x}"))
            }
            exit => End::Other(format!("ended in {exit:?}")),
        })
    }
}

/// Lets user mode into the first 2 MiB, at all three levels of the page tables.
fn open_to_user_mode(memory: &GuestMemory) -> Result<()> {
    const USER: u8 = 1 << 2;
    for entry in [TABLES, TABLES + 0x1000, TABLES + 0x2000].map(GuestAddress) {
        let open = |bits: u8| memory.write_obj(bits | USER, entry);
        memory.read_obj(entry).and_then(open).map_err(beyond)?;
    }
    Ok(())
}

/// Gives the vCPU the CPUID that KVM supports, and says whether it has XSAVE. A host that refuses
/// only loses the instructions that depend on it.
fn announce(kvm: &Kvm, vcpu: &VcpuFd) -> bool {
    const XSAVE: u32 = 1 << 26;
    let Ok(cpuid) = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES) else { return false };
    let has_xsave = |cpuid: &CpuId| {
        cpuid.as_slice().iter().any(|leaf| leaf.function == 1 && leaf.ecx & XSAVE != 0)
    };
    vcpu.set_cpuid2(&cpuid).is_ok() && has_xsave(&cpuid)
}

/// 64-bit mode as the boot protocols have it, with SSE and, where the vCPU has it, XSAVE on. There
/// are no handlers: an exception becomes a triple fault, which ends the run.
fn initial(xsave: bool) -> State {
    const CR0_MP: u64 = 1 << 1;
    const CR4_OSFXSR_OSXMMEXCPT: u64 = 1 << 9 | 1 << 10;
    const CR4_OSXSAVE: u64 = 1 << 18;
    let mut state = State::long_mode(CODE, TABLES, GDT);
    state.cr0 |= CR0_MP;
    state.cr4 |= CR4_OSFXSR_OSXMMEXCPT | if xsave { CR4_OSXSAVE } else { 0 };
    state
}
