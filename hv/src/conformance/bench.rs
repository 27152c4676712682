//! What a case stands on: a VM with its guest loaded, and words for what is expected of it. The
//! guests' side is `suite.inc` in their folders.

use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};

use super::Need;
use crate::arch::{Arch, State, aarch64, x86_64};
use crate::config::{IrqChip, VmConfig};
use crate::error::{Kind, Result};
use crate::exit::{Address, Cause, Exit, Resume, Width};
use crate::mem::{GuestMemory, GuestRam, memory};
use crate::traits::{Hypervisor, Kicker, Vcpu, VcpuSeed, Vm};

/// Device registers: no RAM is there.
pub(super) const MMIO: u64 = 0x1000_0000;
/// A guest ends with a write of 4 zero bytes here.
const DONE: u64 = 0x2000_0000;
/// A guest says what it found with a write of 8 bytes here.
const REPORT: u64 = 0x2000_0008;
pub(super) const REPORT_AT: Address = Address::Mmio(REPORT);
/// Where a case puts RAM of a special kind, or none.
pub(super) const WINDOW: u64 = 0x3000_0000;

/// Every guest has this much RAM.
pub(super) const RAM: u64 = 2 << 20;
/// From the beginning of RAM: the guest's code, the end of the first vCPU's stack (the others' are
/// above it, a page each), and a word that a case may use.
pub(super) const CODE: u64 = 0x1_0000;
const STACK: u64 = 0x4_0000;
const FLAG: u64 = 0x18_0000;
/// On x86_64: the tables that 64-bit mode needs, and the interrupt descriptors.
pub(super) const GDT: u64 = 0x1000;
pub(super) const TABLES: u64 = 0x2000;
const APIC_TABLE: u64 = TABLES + x86_64::IDENTITY_MAP_SIZE;
pub(super) const IDT: x86_64::Table = x86_64::Table { base: 0x6000, limit: 0xfff };

/// What interrupts a vCPU of `H`.
pub(super) type Kick<H> = <<H as Hypervisor>::Seed as VcpuSeed>::Kicker;

/// Unwinds a case that cannot be played here.
#[derive(Debug)]
pub(super) struct Skip(pub(super) String);

/// The value, or the end of the case with the error's message.
#[track_caller]
pub(super) fn ok<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// Expects an error of `kind`.
#[track_caller]
pub(super) fn refused<T>(result: Result<T>, kind: Kind) {
    match result {
        Ok(_) => panic!("expected an error of kind {kind:?}, and it succeeded"),
        Err(error) => assert_eq!(error.kind, kind, "{error}"),
    }
}

/// Does `here`, a run, and `there` on another thread: most likely when the vCPU is in the guest, or
/// asleep. What is expected holds at any other time, too.
#[track_caller]
pub(super) fn meanwhile<T>(there: impl FnOnce() + Send, here: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(10));
            there();
        });
        here()
    })
}

/// Makes VMs with one case's guest in them.
pub(super) struct Bench<'h, H: Hypervisor> {
    pub(super) hypervisor: &'h H,
    image: &'static [u8],
    needs: &'static [Need],
}

impl<'h, H: Hypervisor> Bench<'h, H> {
    pub(super) fn new(hypervisor: &'h H, image: &'static [u8], needs: &'static [Need]) -> Self {
        Self { hypervisor, image, needs }
    }

    pub(super) fn arch(&self) -> Arch {
        self.hypervisor.caps().arch
    }

    /// The guest physical address of the first byte of RAM.
    pub(super) fn ram_base(&self) -> u64 {
        match self.arch() {
            Arch::X86_64 => 0,
            Arch::Aarch64 => 0x4000_0000,
        }
    }

    /// The guest physical address behind the last byte of the guest.
    pub(super) fn image_end(&self) -> u64 {
        self.ram_base() + CODE + self.image.len() as u64
    }

    /// A word of RAM that nothing else uses.
    pub(super) fn flag(&self) -> u64 {
        self.ram_base() + FLAG
    }

    /// RAM with the guest and what it starts from.
    pub(super) fn memory(&self) -> GuestMemory {
        let base = self.ram_base();
        let memory = ok(memory([(base, ok(GuestRam::new(RAM)))]));
        memory.write_slice(self.image, GuestAddress(base + CODE)).expect("the image fits");
        if self.arch() == Arch::X86_64 {
            ok(x86_64::write_gdt(&memory, GDT));
            ok(x86_64::write_identity_map(&memory, TABLES));
            map_apics(&memory);
        }
        memory
    }

    /// A VM of that RAM, with the interrupt controller that the case needs.
    pub(super) fn config(&self, memory: &GuestMemory) -> VmConfig {
        let irqchip = match self.needs.contains(&Need::IrqChip) {
            true => IrqChip::InKernel,
            false => IrqChip::None,
        };
        let config = VmConfig::new().memory(memory).irqchip(irqchip);
        match self.needs.contains(&Need::Monitors) {
            true => config.monitors(),
            false => config,
        }
    }

    /// Puts vCPU `id` at the beginning of the guest, with its arguments. On arm64 the first vCPU starts
    /// the others, and with what they set out; it may be at it already.
    pub(super) fn set_out(&self, guest: &mut Guest<H>, id: u32, arguments: [u64; 2]) {
        if self.arch() == Arch::Aarch64 && id > 0 {
            return;
        }
        ok(guest.vcpu.set_state(&self.start(id, arguments)));
    }

    fn start(&self, id: u32, [first, second]: [u64; 2]) -> State {
        let entry = self.ram_base() + CODE;
        let stack = self.ram_base() + STACK + 0x1000 * u64::from(id);
        match self.arch() {
            Arch::X86_64 => {
                let mut state = x86_64::State::long_mode(entry, TABLES, GDT);
                (state.regs.rdi, state.regs.rsi, state.regs.rsp) = (first, second, stack);
                state.into()
            }
            Arch::Aarch64 => {
                let mut state = aarch64::State::el1(entry, first);
                state.x[1] = second;
                state.sp_el1 = stack;
                state.into()
            }
        }
    }

    /// One vCPU on this thread, ready to run.
    pub(super) fn boot(&self) -> Guest<H> {
        self.boot_with([0, 0], |config| config)
    }

    /// The same with arguments for the guest, and with changes to the VM's description.
    pub(super) fn boot_with(
        &self,
        arguments: [u64; 2],
        change: impl FnOnce(VmConfig) -> VmConfig,
    ) -> Guest<H> {
        let memory = self.memory();
        let (vm, mut seeds) = ok(self.hypervisor.create(change(self.config(&memory))));
        let seed = seeds.pop().expect("one vCPU was asked for");
        let mut guest = self.bind(&vm, &memory, seed);
        self.set_out(&mut guest, 0, arguments);
        ok(vm.ready());
        guest
    }

    /// Several vCPUs, a thread each. `play` gets each one's number and the vCPU, bound and ready,
    /// its registers as reset left them.
    pub(super) fn on_threads(&self, vcpus: u32, play: impl Fn(u32, &mut Guest<H>) + Sync) {
        let memory = self.memory();
        let (vm, seeds) = ok(self.hypervisor.create(self.config(&memory).vcpus(vcpus)));
        let bound = Barrier::new(seeds.len() + 1);
        let ready = Barrier::new(seeds.len() + 1);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for (id, seed) in (0..).zip(seeds) {
                let (vm, memory, bound, ready, play) = (&vm, &memory, &bound, &ready, &play);
                threads.push(scope.spawn(move || {
                    let mut guest = self.bind(vm, memory, seed);
                    bound.wait();
                    ready.wait();
                    play(id, &mut guest);
                }));
            }
            bound.wait();
            ok(vm.ready());
            ready.wait();
            for thread in threads {
                thread.join().unwrap_or_else(|payload| resume_unwind(payload));
            }
        });
    }

    /// Binds one vCPU to this thread, its registers as reset left them.
    pub(super) fn bind(&self, vm: &H::Vm, memory: &GuestMemory, seed: H::Seed) -> Guest<H> {
        Guest {
            vm: vm.clone(),
            memory: memory.clone(),
            kicker: seed.kicker(),
            vcpu: ok(seed.bind()),
            resume: Resume::Go,
            may_skip: self.needs.contains(&Need::Instructions),
        }
    }
}

/// Maps the IOAPIC and the local APIC to themselves, for guests that take interrupts.
fn map_apics(memory: &GuestMemory) {
    let write = |at, value: u64| {
        memory.write_obj(value, GuestAddress(at)).expect("the tables are in RAM");
    };
    // The fourth GiB, behind the page directory pointer table that follows the PML4.
    write(TABLES + 0x1000 + 8 * 3, APIC_TABLE | 0b11);
    for page in [0xfec0_0000, 0xfee0_0000] {
        // Present, writable, not cached, 2 MiB.
        write(APIC_TABLE + 8 * ((page >> 21) & 0x1ff), page | 0b1001_0011);
    }
}

/// A vCPU and its VM. It remembers the answer to the last read and gives it with the next run.
pub(super) struct Guest<H: Hypervisor> {
    // Before the VM: vCPUs go first.
    pub(super) vcpu: H::Vcpu,
    pub(super) vm: H::Vm,
    pub(super) memory: GuestMemory,
    pub(super) kicker: Kick<H>,
    pub(super) resume: Resume,
    may_skip: bool,
}

impl<H: Hypervisor> Guest<H> {
    /// Runs to the next exit.
    #[track_caller]
    pub(super) fn run(&mut self) -> Exit {
        let exit = ok(self.vcpu.run(std::mem::replace(&mut self.resume, Resume::Go)));
        if let Exit::Unhandled(unhandled) = exit {
            if self.may_skip && unhandled.cause == Cause::Instruction {
                resume_unwind(Box::new(Skip(unhandled.to_string())));
            }
            panic!("the guest cannot go on: {unhandled}");
        }
        exit
    }

    /// Expects the next exit to be this one.
    #[track_caller]
    pub(super) fn exits(&mut self, expected: Exit) {
        let exit = self.run();
        assert!(exit == expected, "expected {expected:#x?}, and the vCPU came out with {exit:#x?}");
    }

    /// Expects a read, which will be answered with `answer`.
    #[track_caller]
    pub(super) fn reads(&mut self, at: Address, width: Width, answer: u64) {
        self.exits(Exit::Read { at, width });
        self.resume = Resume::Value(answer);
    }

    /// Expects a write.
    #[track_caller]
    pub(super) fn writes(&mut self, at: Address, width: Width, value: u64) {
        self.exits(Exit::Write { at, width, value });
    }

    /// Expects the guest to say that it found `value`.
    #[track_caller]
    pub(super) fn reports(&mut self, value: u64) {
        self.writes(Address::Mmio(REPORT), Width::W8, value);
    }

    /// Expects to be kicked.
    #[track_caller]
    pub(super) fn is_kicked(&mut self) {
        self.exits(Exit::Kicked);
    }

    /// Expects to be kicked by another thread, while the guest waits.
    #[track_caller]
    pub(super) fn is_kicked_meanwhile(&mut self) {
        let kicker = self.kicker.clone();
        meanwhile(move || kicker.kick(), || self.is_kicked());
    }

    /// Expects the guest to end.
    #[track_caller]
    pub(super) fn ends(&mut self) {
        self.writes(Address::Mmio(DONE), Width::W4, 0);
    }

    /// Expects the pending access to be the instruction's last, and commits it.
    #[track_caller]
    pub(super) fn settles(&mut self) {
        let rest = ok(self.vcpu.settle(std::mem::replace(&mut self.resume, Resume::Go)));
        assert_eq!(rest, None, "expected the instruction to have no further access");
    }

    /// The registers, of an x86_64 guest.
    #[track_caller]
    pub(super) fn x86_64(&self) -> x86_64::State {
        match ok(self.vcpu.state()) {
            State::X86_64(state) => state,
            State::Aarch64(state) => panic!("expected registers of x86_64, not {state:?}"),
        }
    }

    /// The registers, of an aarch64 guest.
    #[track_caller]
    pub(super) fn aarch64(&self) -> aarch64::State {
        match ok(self.vcpu.state()) {
            State::Aarch64(state) => state,
            State::X86_64(state) => panic!("expected registers of aarch64, not {state:?}"),
        }
    }

    /// What is in RAM.
    #[track_caller]
    pub(super) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).expect("the bytes are in RAM");
        bytes
    }

    /// Writes a word of RAM.
    #[track_caller]
    pub(super) fn poke(&self, at: u64, value: u64) {
        self.memory.write_obj(value, GuestAddress(at)).expect("the word is in RAM");
    }
}
