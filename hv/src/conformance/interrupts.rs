//! Interrupts through an in-kernel irqchip (contract 5). The guest asks how to wait for
//! the next one, and its handler writes a register before it ends the interrupt.

use guests::{aarch64::conformance as aarch64, x86_64::conformance as x86_64};

use super::Image;
use super::bench::{Bench, Guest, MMIO, meanwhile, ok, refused};
use crate::arch::Arch;
use crate::config::IrqChip;
use crate::error::Kind;
use crate::exit::{Address, Exit, Resume, Width};
use crate::traits::{EdgeLine, Hypervisor, LevelLine, Vm};

const IRQ: Image = Image::both(x86_64::IRQ, aarch64::IRQ);

declare! {
    an_edge_interrupts_once(IRQ) needs IrqChip, Processor;
    an_edge_before_the_guest_listens_is_not_lost(IRQ) needs IrqChip, Processor;
    an_edge_wakes_a_halted_vcpu(IRQ) needs IrqChip, Processor;
    an_edge_interrupts_a_running_guest(IRQ) needs IrqChip, Processor;
    a_level_interrupts_as_long_as_it_is_high(IRQ) needs IrqChip, Processor;
    a_level_wakes_a_halted_vcpu(IRQ) needs IrqChip, Processor;
    a_level_raised_before_the_guest_listens_is_not_lost(IRQ) needs IrqChip, Processor;
    a_level_that_the_guest_says_nothing_about_is_one(Image::aarch64(aarch64::IRQ))
        needs IrqChip, Processor;
    a_kicked_vcpu_goes_on_waiting_for_its_interrupt(IRQ) needs IrqChip, Processor;
    a_message_interrupts_once(Image::x86_64(x86_64::IRQ)) needs IrqChip, Msi;
    lines_there_are_not_are_refused(IRQ) needs IrqChip;
    lines_need_an_irqchip(IRQ);
}

/// The guest asks here how to wait.
const COMMAND: Address = Address::Mmio(MMIO);
/// Lets in what is pending, and says so.
const LOOK: u64 = 0;
/// Halts until an interrupt.
const HALT: u64 = 1;
/// Runs until an interrupt.
const RUN: u64 = 2;
/// The handler writes here.
const ACK: Address = Address::Mmio(MMIO + 8);
/// The guest writes here with interrupts on.
const LISTENING: Address = Address::Mmio(MMIO + 16);

/// IOAPIC inputs that nothing else uses, and the GIC's SPIs.
fn edge<H: Hypervisor>(bench: &Bench<'_, H>) -> u32 {
    match bench.arch() {
        Arch::X86_64 => 5,
        Arch::Aarch64 => 40,
    }
}

fn level<H: Hypervisor>(bench: &Bench<'_, H>) -> u32 {
    match bench.arch() {
        Arch::X86_64 => 11,
        Arch::Aarch64 => 43,
    }
}

/// Where a message goes to reach APIC 0 (SDM volume 3A, 11.11), and the guest's vector.
const MESSAGE: (u64, u32) = (0xfee0_0000, 0x40);

/// A guest that listens to [`edge`] as to an edge.
fn on_edge<H: Hypervisor>(bench: &Bench<'_, H>) -> Guest<H> {
    bench.boot_with([edge(bench).into(), 0], |config| config)
}

/// A guest that listens to [`level`] as to a level.
fn on_level<H: Hypervisor>(bench: &Bench<'_, H>) -> Guest<H> {
    let triggered = match bench.arch() {
        Arch::X86_64 => 1 << 15,
        Arch::Aarch64 => 1,
    };
    bench.boot_with([level(bench).into(), triggered], |config| config)
}

/// Runs to the guest's next question and tells it how to wait.
#[track_caller]
fn tells<H: Hypervisor>(guest: &mut Guest<H>, how: u64) {
    let listening = Exit::Write { at: LISTENING, width: Width::W4, value: 1 };
    let mut exit = guest.run();
    if exit == listening {
        exit = guest.run();
    }
    assert_eq!(exit, Exit::Read { at: COMMAND, width: Width::W4 });
    guest.resume = Resume::Value(how);
}

/// Whether an exit is the handler's. It says whether the interrupt is in service, as it is on a
/// processor: some hosts end it when they deliver it.
fn handler(exit: Exit) -> Option<bool> {
    match exit {
        Exit::Write { at: ACK, width: Width::W4, value } => Some(value == 1),
        _ => None,
    }
}

/// The interrupt comes.
#[track_caller]
fn is_interrupted<H: Hypervisor>(guest: &mut Guest<H>) -> bool {
    let exit = guest.run();
    handler(exit).unwrap_or_else(|| panic!("expected an interrupt, and it came out with {exit:x?}"))
}

/// Runs to the next exit of a guest that looks again and again: the handler's, or its own.
#[track_caller]
fn looks<H: Hypervisor>(guest: &mut Guest<H>) -> Option<bool> {
    let exit = guest.run();
    match exit {
        Exit::Read { at: COMMAND, width: Width::W4 } => guest.resume = Resume::Value(LOOK),
        Exit::Write { at: LISTENING, width: Width::W4, value: 1 } => {}
        _ => assert!(handler(exit).is_some(), "the guest looks, and it came out with {exit:x?}"),
    }
    handler(exit)
}

#[track_caller]
fn stays_quiet<H: Hypervisor>(guest: &mut Guest<H>) {
    for _ in 0..100 {
        assert_eq!(looks(guest), None, "the guest was interrupted, and nobody asked for it");
    }
}

/// The line is high, and the handler of a guest that looks runs.
#[track_caller]
fn fires<H: Hypervisor>(guest: &mut Guest<H>) -> bool {
    let fired = (0..100).find_map(|_| looks(guest));
    fired.expect("the line is high and the guest listens, and an interrupt comes")
}

/// Lowers the line in the handler, as a device does that has been served. That ends it, but on a
/// host that had ended this interrupt already and, with the line still high, accepted another.
#[track_caller]
fn falls<H: Hypervisor>(guest: &mut Guest<H>, line: &impl LevelLine, in_service: bool) {
    ok(line.set(false));
    if !in_service {
        (0..10).find_map(|_| looks(guest));
    }
    stays_quiet(guest);
}

fn an_edge_interrupts_once<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = on_edge(bench);
    stays_quiet(&mut guest);
    let line = ok(guest.vm.edge(edge(bench)));
    for _ in 0..20 {
        tells(&mut guest, HALT);
        ok(line.pulse());
        is_interrupted(&mut guest);
        stays_quiet(&mut guest);
    }
}

fn an_edge_before_the_guest_listens_is_not_lost<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = on_edge(bench);
    let line = ok(guest.vm.edge(edge(bench)));
    // The guest has set up and asks, with interrupts off. It never halts.
    tells(&mut guest, RUN);
    ok(line.pulse());
    is_interrupted(&mut guest);
    stays_quiet(&mut guest);
}

fn an_edge_wakes_a_halted_vcpu<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = on_edge(bench);
    let line = ok(guest.vm.edge(edge(bench)));
    for _ in 0..3 {
        tells(&mut guest, HALT);
        meanwhile(|| ok(line.pulse()), || is_interrupted(&mut guest));
    }
    stays_quiet(&mut guest);
}

fn an_edge_interrupts_a_running_guest<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = on_edge(bench);
    let line = ok(guest.vm.edge(edge(bench)));
    for _ in 0..3 {
        tells(&mut guest, RUN);
        meanwhile(|| ok(line.pulse()), || is_interrupted(&mut guest));
    }
    stays_quiet(&mut guest);
}

fn a_level_interrupts_as_long_as_it_is_high<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = on_level(bench);
    stays_quiet(&mut guest);
    let line = ok(guest.vm.level(level(bench)));
    for _ in 0..5 {
        ok(line.set(true));
        for _ in 0..5 {
            fires(&mut guest);
        }
        let in_service = fires(&mut guest);
        falls(&mut guest, &line, in_service);
    }
}

fn a_level_wakes_a_halted_vcpu<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = on_level(bench);
    let line = ok(guest.vm.level(level(bench)));
    for _ in 0..3 {
        tells(&mut guest, HALT);
        let in_service = meanwhile(|| ok(line.set(true)), || is_interrupted(&mut guest));
        falls(&mut guest, &line, in_service);
    }
}

fn a_level_raised_before_the_guest_listens_is_not_lost<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = on_level(bench);
    // Before the guest's first instruction, so also before it unmasks the input.
    let line = ok(guest.vm.level(level(bench)));
    ok(line.set(true));
    let in_service = fires(&mut guest);
    falls(&mut guest, &line, in_service);
    // While it has interrupts off.
    ok(line.set(true));
    let in_service = fires(&mut guest);
    falls(&mut guest, &line, in_service);
}

fn a_level_that_the_guest_says_nothing_about_is_one<H: Hypervisor>(bench: &Bench<'_, H>) {
    /// The guest leaves the line's configuration as it is.
    const UNSAID: u64 = 2;
    let mut guest = bench.boot_with([level(bench).into(), UNSAID], |config| config);
    let line = ok(guest.vm.level(level(bench)));
    ok(line.set(true));
    for _ in 0..3 {
        fires(&mut guest);
    }
    let in_service = fires(&mut guest);
    falls(&mut guest, &line, in_service);
}

fn a_kicked_vcpu_goes_on_waiting_for_its_interrupt<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = on_edge(bench);
    let line = ok(guest.vm.edge(edge(bench)));
    for how in [HALT, RUN] {
        tells(&mut guest, how);
        for _ in 0..3 {
            guest.is_kicked_meanwhile();
        }
        ok(line.pulse());
        is_interrupted(&mut guest);
        stays_quiet(&mut guest);
    }
}

fn a_message_interrupts_once<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = on_edge(bench);
    stays_quiet(&mut guest);
    let (address, data) = MESSAGE;
    for _ in 0..10 {
        tells(&mut guest, HALT);
        ok(guest.vm.signal_msi(address, data));
        is_interrupted(&mut guest);
        stays_quiet(&mut guest);
    }
    let vm = guest.vm.clone();
    tells(&mut guest, RUN);
    meanwhile(|| ok(vm.signal_msi(address, data)), || is_interrupted(&mut guest));
    stays_quiet(&mut guest);
}

fn lines_there_are_not_are_refused<H: Hypervisor>(bench: &Bench<'_, H>) {
    let guest = bench.boot();
    let absent = match bench.arch() {
        Arch::X86_64 => [24, u32::MAX],
        // PPIs are the processors' own.
        Arch::Aarch64 => [31, 1020],
    };
    for line in absent {
        refused(guest.vm.edge(line), Kind::Invalid);
        refused(guest.vm.level(line), Kind::Invalid);
    }
}

fn lines_need_an_irqchip<H: Hypervisor>(bench: &Bench<'_, H>) {
    let guest = bench.boot_with([0, 0], |config| config.irqchip(IrqChip::None));
    refused(guest.vm.edge(edge(bench)), Kind::Unsupported);
    refused(guest.vm.level(level(bench)), Kind::Unsupported);
    let (address, data) = MESSAGE;
    refused(guest.vm.signal_msi(address, data), Kind::Unsupported);
}
