//! The suite's own tests: over the scripted backend, which plays a backend that does right and one
//! that does wrong.

use std::collections::BTreeSet;

use super::bench::MMIO;
use super::*;
use crate::exit::{Address, Crash, Exit, Unhandled, Width};
use crate::insn::Instruction;
use crate::script::{Script, Step};
use crate::{Caps, Cause};

/// Plays a case over a vCPU that exits like this.
fn play(arch: Arch, name: &str, exits: impl IntoIterator<Item = Exit>) -> Outcome {
    let script = Script::new(arch);
    script.play(0, exits.into_iter().map(Step::Exit));
    find(arch, name).play(&script)
}

fn find(arch: Arch, name: &str) -> Case<Script> {
    cases(arch).into_iter().find(|case| case.name() == name).unwrap()
}

fn write(at: u64, width: Width, value: u64) -> Exit {
    Exit::Write { at: Address::Mmio(at), width, value }
}

/// What a right backend makes of the guest that writes every width.
fn writes() -> [Exit; 6] {
    [
        write(MMIO, Width::W1, 0x88),
        write(MMIO + 8, Width::W2, 0x7788),
        write(MMIO + 16, Width::W4, 0x5566_7788),
        write(MMIO + 24, Width::W8, 0x1122_3344_5566_7788),
        write(MMIO + 32, Width::W8, 0),
        write(0x2000_0000, Width::W4, 0),
    ]
}

#[test]
fn right_exits_pass_on_either_architecture() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        assert_eq!(play(arch, "mmio_writes_of_every_width", writes()), Outcome::Passed);
        assert_eq!(play(arch, "kick_before_a_run", writes()), Outcome::Passed);
    }
}

#[test]
fn each_wrong_exit_fails_and_the_message_shows_both() {
    for wrong in 0..6 {
        for exit in [write(MMIO, Width::W1, 0x89), Exit::Halted, Exit::Crash(Crash::TripleFault)] {
            let mut exits = writes();
            exits[wrong] = exit;
            let outcome = play(Arch::X86_64, "mmio_writes_of_every_width", exits);
            let Outcome::Failed(why) = outcome else { panic!("{exit:?}: {outcome:?}") };
            assert!(why.contains(&format!("came out with {exit:#x?}")), "{why}");
        }
    }
}

#[test]
fn an_error_of_the_backend_fails_with_its_message() {
    let script = Script::new(Arch::X86_64);
    script.fail(crate::script::Op::Create, crate::Error::errno("KVM_CREATE_VM", libc::ENOMEM));
    let outcome = find(Arch::X86_64, "mmio_writes_of_every_width").play(&script);
    assert!(
        matches!(&outcome, Outcome::Failed(why) if why.contains("KVM_CREATE_VM")),
        "{outcome:?}"
    );
}

/// The host does not know `mulps`.
fn unknown() -> Exit {
    let instruction = Instruction::new(Arch::X86_64, 0x1_0020, &[0x0f, 0x59, 0xc1]);
    let instruction = Some(instruction);
    Exit::Unhandled(Unhandled { cause: Cause::Instruction, code: 1, instruction })
}

#[test]
fn only_a_case_about_instructions_is_skipped_for_one_that_the_host_does_not_know() {
    let outcome = play(Arch::X86_64, "mulps", [unknown()]);
    assert!(matches!(&outcome, Outcome::Skipped(why) if why.contains("mulps")), "{outcome:?}");
    let outcome = play(Arch::X86_64, "mmio_writes_of_every_width", [unknown()]);
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("mulps")), "{outcome:?}");
    // And it must execute it rightly, or say that it cannot.
    let outcome = play(Arch::X86_64, "mulps", [write(0x2000_0008, Width::W8, 0)]);
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
}

#[test]
fn a_case_is_skipped_for_what_the_backend_says_it_lacks() {
    let caps = Caps { dirty_log: false, read_only_ram: false, ..Script::caps_for(Arch::X86_64) };
    let script = Script::new(Arch::X86_64).with_caps(caps);
    for name in
        ["written_pages_are_recorded_exactly", "read_only_ram_can_be_read_and_its_writes_come_out"]
    {
        let outcome = find(Arch::X86_64, name).play(&script);
        assert!(matches!(&outcome, Outcome::Skipped(why) if why.contains("script")), "{outcome:?}");
    }
}

#[test]
fn the_scripted_backend_keeps_the_order_of_construction() {
    let mut played = 0;
    for case in order::cases::<Script>() {
        let script = Script::new(Arch::X86_64);
        script.play(0, writes().map(Step::Exit));
        assert_eq!(case.play(&script), Outcome::Passed, "{}", case.name());
        played += 1;
    }
    assert!(played > 4);
}

#[test]
fn the_scripted_backend_keeps_the_rules_of_pending_accesses() {
    let turn = |value| {
        let at = Address::Mmio(MMIO);
        [Exit::Read { at, width: Width::W8 }, write(MMIO + 8, Width::W8, value)]
    };
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let name = "a_wrong_answer_is_refused_and_leaves_the_access_open";
        assert_eq!(play(arch, name, [turn(2), turn(4)].concat()), Outcome::Passed);
        let name = "an_answer_counts_even_when_that_run_is_kicked";
        let exits = (1..=100).chain([0]).flat_map(turn);
        assert_eq!(play(arch, name, exits), Outcome::Passed);
    }
}

#[test]
fn every_name_is_its_own() {
    let names: Vec<_> = cases::<Script>(Arch::X86_64).iter().map(Case::name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}
