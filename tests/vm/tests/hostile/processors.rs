//! Virtual processors: instructions and memory that end in the hypervisor.

use super::driver::DEVICE;
use super::script::{INPUT, INVALID_OPCODE, OUTPUT, PROTECTION, Routine, Script};
use super::{Guest, accelerator, or_skip};
use crate::support::program::Finished;

const COM1: u16 = 0x3f8;
const LAPIC: u64 = 0xfee0_0000;
const ICR: u64 = LAPIC + 0x300;
const APIC_BASE: u64 = 0x1b;

fn script() -> Script {
    Script::default()
}

/// Whether KVM interprets kernel code here, of which it knows little more than general-purpose
/// instructions; what it says of itself.
fn interpreted(finished: &Finished) -> bool {
    finished.stderr.lines().next().unwrap_or_default().contains("interprets guest kernel code")
}

/// An accelerator that executes guests: what a processor does is no matter of KVM's then.
fn processor() -> Result<(), String> {
    accelerator()?;
    let finished = Guest::new(script().end(0)).option("-v").ends_with(0);
    match interpreted(&finished) {
        true => Err("KVM interprets guest kernel code here".to_owned()),
        false => Ok(()),
    }
}

#[test]
fn v65_string_instructions_reach_ports_element_by_element() {
    or_skip!(accelerator());
    let bytes: Vec<u8> = (0..251).cycle().take(0x2000).collect();
    let script = script()
        .copy(OUTPUT, &bytes)
        .call(Routine::SendString, COM1.into(), 0x2000)
        // 0x60 is LSR with nothing to read and all sent; nobody is at 0x80.
        .call(Routine::ReceiveString, (COM1 + 5).into(), 5000)
        .expect(1, INPUT, 0x60)
        .expect(1, INPUT + 4999, 0x60)
        .expect(1, INPUT + 5000, 0)
        .call(Routine::ReceiveWords, 0x80, 1500)
        .expect(4, INPUT + 5996, 0xffff_ffff)
        .expect(1, INPUT + 6000, 0)
        .end(0);
    let finished = Guest::new(script).ends_with(0);
    assert_eq!((finished.stdout, finished.stderr), (bytes, String::new()));
}

#[test]
fn v66_an_access_of_sixteen_bytes_is_cut_or_named() {
    or_skip!(accelerator());
    let script = script()
        .call(Routine::WideRead, DEVICE, 0)
        .call(Routine::WideWrite, DEVICE, 0)
        .call(Routine::WideRead, DEVICE - 8, 0);
    let guest = Guest::new(script.recovers().end(0)).option("-v");
    let finished = super::bounded(super::MEMORY, guest.runner().run());
    if interpreted(&finished) && finished.status == Some(125) {
        assert!(finished.stderr.contains("cannot execute an instruction: `movups"), "{finished}");
    } else {
        assert_eq!(finished.status, Some(0), "{finished}");
    }
}

#[test]
fn v68_a_triple_fault_is_the_guests_crash() {
    or_skip!(accelerator());
    let finished = Guest::new(script().call(Routine::TripleFault, 0, 0)).ends_with(126);
    assert_eq!(finished.stderr, "runner: the guest crashed on vCPU 0: a triple fault\n");
}

#[test]
fn v69_a_guest_that_halts_for_good_costs_no_time_of_the_cpu_and_is_found_out() {
    or_skip!(accelerator());
    asleep(&Guest::new(script().call(Routine::Halt, 0, 0)));
}

/// Runs a guest that nothing can wake.
pub(super) fn asleep(guest: &Guest) {
    let finished = guest.ends_with(126);
    assert!(
        finished.stderr.starts_with("runner: every vCPU has halted with interrupts off, "),
        "{finished}"
    );
    assert!(finished.cpu_time.as_millis() < 3000, "{:?}: {finished}", finished.cpu_time);
}

#[test]
fn v70_interrupts_between_processors_that_make_no_sense_do_nothing() {
    or_skip!(accelerator());
    let script = script()
        // INIT and SIPI to a processor that is not there; then every delivery mode, to all but self.
        .start_processor(77)
        .store(4, LAPIC + 0x310, 0x4d00_0000)
        .times(1000, |script| script.store(4, ICR, 0x4600))
        .store(4, ICR, 0xc_4000)
        .store(4, ICR, 0xc_4100)
        .store(4, ICR, 0xc_4200)
        .store(4, ICR, 0xc_4300)
        .store(4, ICR, 0xc_4500)
        .store(4, ICR, 0xc_4600)
        .store(4, ICR, 0xc_4700)
        // A storm to itself with interrupts off, vectors that there may not be among them.
        .times(1000, |script| script.store(4, ICR, 0x4_4040).store(4, ICR, 0x4_4000))
        .recovers()
        .end(0);
    Guest::new(script).passes();
}

#[test]
fn v70_an_init_of_the_first_processor_stops_it_or_is_ignored() {
    or_skip!(processor());
    // If it is heard, the processor goes on at the reset vector, where there is no firmware.
    let script = script().store(4, LAPIC + 0x310, 0).store(4, ICR, 0x4500);
    let script = script.times(100, |script| script.read(4, DEVICE)).end(7);
    let guest = Guest::new(script).option("--timeout=3s");
    let finished = super::bounded(super::MEMORY, guest.runner().run());
    if finished.status != Some(7) {
        check_stop(&finished);
    }
}

#[test]
fn v70_a_local_apic_may_be_moved_and_switched_off() {
    or_skip!(accelerator());
    for base in [0x0030_0900, 0x0080_0900, 0xfeb0_0900, 0xfee0_0100, 0xfee0_0d00] {
        let script = script()
            .call(Routine::WriteMsr, APIC_BASE, base)
            .read(4, base & !0xfff)
            .read(4, LAPIC)
            .end(0);
        Guest::new(script).passes();
    }
}

#[test]
fn v71_there_is_no_virtualization_inside() {
    or_skip!(processor());
    const EFER: u64 = 0xc000_0080;
    let script = script()
        .call_gives(Routine::VmxOn, OUTPUT, 0, INVALID_OPCODE)
        .call_gives(Routine::WriteCr4, 1 << 13, 0, PROTECTION)
        .call_gives(Routine::VmRun, OUTPUT, 0, INVALID_OPCODE)
        .call_gives(Routine::WriteMsr, EFER, 0x1500, PROTECTION)
        .recovers()
        .end(0);
    Guest::new(script).passes();
}

#[test]
fn v71_msrs_and_leaves_that_nobody_knows_are_the_guests_exception() {
    or_skip!(accelerator());
    let mut script = script();
    for msr in [0x1234_5678, 0xffff_ffff, 0x4b56_4dff] {
        script = script.call_gives(Routine::ReadMsr, msr, 0, PROTECTION);
        script = script.call_gives(Routine::WriteMsr, msr, 1, PROTECTION);
    }
    for leaf in [0, 0x1f, 0x4000_0000, 0x4fff_ffff, 0x8000_0000, 0xc000_0000, 0xffff_ffff] {
        script = script.call(Routine::Leaf, leaf, 0).call(Routine::Leaf, leaf, 0xffff_ffff);
    }
    Guest::new(script.recovers().end(0)).passes();
}

#[test]
fn v71_hypercalls_that_nobody_knows_are_refused() {
    or_skip!(processor());
    let mut script = script();
    for number in [0, 0x1000, u64::from(u32::MAX), u64::MAX] {
        script = script.call(Routine::Hypercall, number, u64::MAX);
    }
    Guest::new(script.recovers().end(0)).passes();
}

#[test]
fn v72_structures_that_kvm_is_told_to_keep_outside_of_ram_are_not_kept() {
    or_skip!(accelerator());
    const WALL_CLOCK: u64 = 0x4b56_4d00;
    const SYSTEM_TIME: u64 = 0x4b56_4d01;
    const ASYNC_PF: u64 = 0x4b56_4d02;
    const STEAL_TIME: u64 = 0x4b56_4d03;
    const PV_EOI: u64 = 0x4b56_4d04;
    let end = super::MEMORY << 20;
    let mut script = script();
    for address in [end - 8, end, DEVICE, LAPIC, 1 << 40, u64::MAX - 63] {
        for msr in [WALL_CLOCK, SYSTEM_TIME, ASYNC_PF, STEAL_TIME, PV_EOI] {
            script = script.call(Routine::WriteMsr, msr, address | 1);
        }
        script = script.times(50, |script| script.read(4, DEVICE));
    }
    Guest::new(script.recovers().end(0)).passes();
}

/// Runs a guest that its processor cannot go on with.
fn stops_somehow(script: Script) {
    let guest = Guest::new(script.end(0)).option("--timeout=3s");
    check_stop(&super::bounded(super::MEMORY, guest.runner().run()));
}

/// A crash of the guest's own; a stop of ours, which says where it was; or, where KVM takes the same
/// fault again and again, a guest that spins until its time is over.
fn check_stop(finished: &Finished) {
    let (crash, stop) = ("the guest crashed on vCPU 0: ", "vCPU 0 stopped: ");
    let last = finished.stderr.lines().last().unwrap_or_default();
    match finished.status {
        Some(124) => assert!(last.ends_with("the time given with --timeout is over"), "{finished}"),
        Some(125) => assert!(last.contains(stop), "{finished}"),
        Some(126) => assert!(last.contains(crash), "{finished}"),
        _ => panic!("no stop: {finished}"),
    }
}

#[test]
fn v73_code_in_a_device_stops_the_guest() {
    or_skip!(accelerator());
    for address in [DEVICE, 0xf000_0000, LAPIC] {
        stops_somehow(script().call(Routine::Jump, address, 0));
    }
}

#[test]
fn v73_page_tables_in_a_device_stop_the_guest() {
    or_skip!(accelerator());
    for address in [DEVICE & !0xfff, 0xf000_0000, LAPIC, 0xf_ffff_f000] {
        stops_somehow(script().call(Routine::LoadCr3, address, 0));
    }
}

#[test]
fn v76_where_no_memory_is_reads_are_ones_and_writes_are_lost() {
    or_skip!(accelerator());
    let mut script = script();
    for address in [super::MEMORY << 20, 0xc000_0000, 0xfffe_0000, 0xffff_fff8] {
        script = script.store(8, address, 0).expect(8, address, u64::MAX);
    }
    Guest::new(script.recovers().end(0)).passes();
}
