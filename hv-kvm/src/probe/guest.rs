//! A few instructions in a VM of their own: whether they run on the CPU or KVM interprets them,
//! and which ones it cannot execute.
//!
//! KVM can be there, create VMs, and still not virtualize: a para-virtual KVM interprets a guest's
//! kernel code and knows only part of the instruction set. No flag tells; time does. Encodings:
//! Intel SDM volume 2; the exits: Linux `Documentation/virt/kvm/api.rst`, section 5.

// UNSAFETY: kvm-ioctls' call that gives memory to a VM is unsafe, since the VM writes to it.
#![allow(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use hv::arch::x86_64::{GDT_SIZE, Segment, State, Table, write_gdt, write_identity_map};
use hv::{GuestMemory, GuestRam};
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress};

use super::{Execution, Ran};

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
const LOOP_INSTRUCTIONS: u32 = 2;

/// From this many instructions a second on, the CPU itself executes them. Interpreters have been
/// seen at 1.6 million and CPUs at billions; a CPU that is itself emulated reaches hundreds of
/// millions. The limit stands far from all of them, so a busy machine does not blur it.
const ON_CPU: u64 = 20_000_000;
/// The first count: 2.5 ms for an interpreter, less than an exit's overhead for a CPU.
const SHORT: u32 = 2_000;
/// The second: a CPU needs less than a millisecond however dear its exits are.
const LONG: u32 = 20_000;
/// How often each is tried. The fastest counts, since noise only ever slows a run down.
const TRIES: u32 = 3;

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

/// How a stretch of guest code ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It wrote to [`DONE`].
    Done,
    /// KVM could not go on: it does not know the instruction.
    Unknown,
    /// The instruction raised an exception, for which this guest has no handler.
    Exception,
    /// Anything else, in words.
    Other(String),
}

/// Runs the loop and the samples in a VM of their own. It is gone when this returns.
///
/// # Errors
/// Says in one line what kept the guest from its first instructions.
pub(super) fn run(kvm: &Kvm, vm: VmFd) -> Result<Ran, String> {
    let mut guest = Guest::new(kvm, vm)?;
    let execution = guest.execution()?;
    let mut unknown = Vec::new();
    for sample in SAMPLES {
        if sample.xsave && !guest.xsave {
            continue;
        }
        if guest.sample(sample.code)? != End::Done {
            unknown.push(sample.name);
        }
    }
    Ok(Ran { execution, unknown })
}

/// A VM with one vCPU in 64-bit mode.
struct Guest {
    // Declared, and therefore dropped, before the memory that it runs in.
    vcpu: VcpuFd,
    _vm: VmFd,
    memory: GuestMemory,
    sregs: kvm_sregs,
    xsave: bool,
}

impl Guest {
    fn new(kvm: &Kvm, vm: VmFd) -> Result<Self, String> {
        let ram = GuestRam::new(RAM).map_err(|error| error.to_string())?;
        let region = kvm_userspace_memory_region {
            memory_size: RAM,
            userspace_addr: ram.host_address().expose_provenance() as u64,
            ..Default::default()
        };
        let memory = hv::mem::memory([(0, ram)]).map_err(|error| error.to_string())?;
        write_gdt(&memory, GDT).map_err(|error| error.to_string())?;
        write_identity_map(&memory, TABLES).map_err(|error| error.to_string())?;
        // SAFETY: the pages are the guest's alone, and `Guest` keeps them until its vCPU, the only
        // thing that runs in them, is gone.
        unsafe { vm.set_user_memory_region(region) }.map_err(said("KVM_SET_USER_MEMORY_REGION"))?;
        // Intel's CPUs need these for real mode, which this guest never enters; a host that
        // refuses them can still run it.
        let _ = vm.set_identity_map_address(0xfeff_c000);
        let _ = vm.set_tss_address(0xfeff_d000);
        let vcpu = vm.create_vcpu(0).map_err(said("KVM_CREATE_VCPU"))?;
        let xsave = announce(kvm, &vcpu);
        let mut sregs = vcpu.get_sregs().map_err(said("KVM_GET_SREGS"))?;
        long_mode(&mut sregs, xsave);
        Ok(Self { vcpu, _vm: vm, memory, sregs, xsave })
    }

    /// Times the loop.
    fn execution(&mut self) -> Result<Execution, String> {
        self.write(CODE, &LOOP)?;
        let mut fastest = 0;
        for count in [SHORT, LONG] {
            for _ in 0..TRIES {
                fastest = self.time(count)?.max(fastest);
                if fastest >= ON_CPU {
                    return Ok(Execution::OnCpu);
                }
            }
            // So slow that the cost of the exit cannot be the reason.
            if fastest < ON_CPU / 5 {
                break;
            }
        }
        Ok(Execution::Interpreted { per_second: fastest })
    }

    /// Instructions a second over `count` rounds of the loop.
    fn time(&mut self, count: u32) -> Result<u64, String> {
        let (end, took) = self.run(count.into())?;
        if end != End::Done {
            return Err(format!("a loop of DEC and JNZ {end}"));
        }
        let instructions = u64::from(count.saturating_mul(LOOP_INSTRUCTIONS));
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        Ok(instructions.saturating_mul(1_000_000_000).checked_div(nanos).unwrap_or(0))
    }

    /// Runs one instruction.
    fn sample(&mut self, code: &[u8]) -> Result<End, String> {
        /// MXCSR after a reset: every exception masked.
        const MXCSR: [u8; 4] = [0x80, 0x1f, 0, 0];
        self.write(SOURCE, &MXCSR)?;
        self.write(CODE, &[code, &OUT_DONE].concat())?;
        self.run(0).map(|(end, _)| end)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), String> {
        self.memory.write_slice(bytes, GuestAddress(at)).map_err(|error| error.to_string())
    }

    /// Runs from [`CODE`] with `rcx` until the guest stops, and says how long that took.
    fn run(&mut self, rcx: u64) -> Result<(End, Duration), String> {
        let regs = kvm_regs {
            rip: CODE,
            rcx,
            rsi: SOURCE,
            rdi: TARGET,
            rsp: STACK,
            rflags: 2,
            ..Default::default()
        };
        self.vcpu.set_sregs(&self.sregs).map_err(said("KVM_SET_SREGS"))?;
        self.vcpu.set_regs(&regs).map_err(said("KVM_SET_REGS"))?;
        let begin = Instant::now();
        let end = loop {
            match self.vcpu.run() {
                Ok(VcpuExit::IoOut(DONE, _)) => break End::Done,
                Ok(VcpuExit::InternalError) => break End::Unknown,
                Ok(VcpuExit::Shutdown) => break End::Exception,
                Ok(VcpuExit::FailEntry(reason, _)) => {
                    break End::Other(format!("did not start: hardware entry failure {reason:#x}"));
                }
                Ok(exit) => break End::Other(format!("ended in {exit:?}")),
                Err(error) if error.errno() == libc::EINTR => {}
                Err(error) => return Err(said("KVM_RUN")(error)),
            }
        };
        let took = begin.elapsed();
        self.settle();
        Ok((end, took))
    }

    /// Lets KVM finish a port access before registers are set again.
    fn settle(&mut self) {
        self.vcpu.set_kvm_immediate_exit(1);
        // It returns EINTR at once, which is all there is to it.
        let _ = self.vcpu.run();
        self.vcpu.set_kvm_immediate_exit(0);
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Done => f.write_str("ran"),
            End::Unknown => f.write_str("ended in KVM_EXIT_INTERNAL_ERROR"),
            End::Exception => f.write_str("ended in a triple fault"),
            End::Other(words) => f.write_str(words),
        }
    }
}

/// Puts the call and its errno in words.
fn said(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> String {
    move |error| hv::Error::errno(call, error.errno()).to_string()
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

/// 64-bit mode as the boot protocols have it, with SSE and, where the vCPU has it, XSAVE on.
fn long_mode(sregs: &mut kvm_sregs, xsave: bool) {
    const CR0_MP: u64 = 1 << 1;
    const CR4_OSFXSR_OSXMMEXCPT: u64 = 1 << 9 | 1 << 10;
    const CR4_OSXSAVE: u64 = 1 << 18;
    let state = State::long_mode(CODE, TABLES, GDT);
    sregs.cs = segment(&state.cs);
    sregs.ds = segment(&state.ds);
    sregs.es = segment(&state.es);
    sregs.fs = segment(&state.fs);
    sregs.gs = segment(&state.gs);
    sregs.ss = segment(&state.ss);
    sregs.tr = segment(&state.tr);
    sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
    sregs.gdt = table(&Table { base: GDT, limit: GDT_SIZE.saturating_sub(1) });
    // No handlers: an exception becomes a triple fault, which ends the run.
    sregs.idt = table(&Table::default());
    sregs.cr0 = state.cr0 | CR0_MP;
    sregs.cr3 = state.cr3;
    sregs.cr4 = state.cr4 | CR4_OSFXSR_OSXMMEXCPT | if xsave { CR4_OSXSAVE } else { 0 };
    sregs.efer = state.efer;
}

fn table(table: &Table) -> kvm_dtable {
    kvm_dtable { base: table.base, limit: table.limit, ..Default::default() }
}

fn segment(segment: &Segment) -> kvm_segment {
    let bits = |shift: u32, mask: u16| -> u8 {
        let [low, _] = (segment.access.checked_shr(shift).unwrap_or(0) & mask).to_le_bytes();
        low
    };
    kvm_segment {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        type_: bits(0, 0xf),
        s: bits(4, 1),
        dpl: bits(5, 3),
        present: bits(7, 1),
        avl: bits(12, 1),
        l: bits(13, 1),
        db: bits(14, 1),
        g: bits(15, 1),
        ..Default::default()
    }
}
