//! How Linux ends, and what status that is.

use super::super::support::or_skip;
use super::super::support::program::{Finished, says};
use super::{Debian, Kernel, arch};

/// A run that ends with `end HOW`.
fn ended(debian: &Debian, kernel: Kernel, cpus: &str, how: &str) -> Finished {
    debian.boot(kernel, &["-m", "256", "--cpus", cpus], &format!("end {how}")).run()
}

#[test]
fn what_init_gives_is_the_status_or_where_there_is_no_way_out_for_it_on_the_console() {
    let debian = or_skip!(Debian::find());
    let ends = [("1", 0), ("4", 213), ("1", 99)];
    for (kernel, (cpus, code)) in Kernel::ALL.into_iter().cycle().zip(ends) {
        let finished = ended(&debian, kernel, cpus, &code.to_string());
        assert_eq!(arch::end(&finished), (Some(code), ""), "{finished}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_byte_that_init_writes_to_the_exit_port_is_the_status_by_the_32_bit_entry() {
    let debian = or_skip!(Debian::find());
    let finished = ended(&debian, Kernel::BzImage32, "1", "99");
    assert_eq!(arch::end(&finished), (Some(99), ""), "{finished}");
}

/// A reset ends the run with 0. By PSCI that is nobody's status, which is said.
fn is_a_reset(finished: &Finished) {
    assert_eq!(finished.status, Some(0), "{finished}");
    match cfg!(target_arch = "x86_64") {
        true => assert_eq!(finished.stderr, "", "{finished}"),
        false => says(&finished.stderr, &["the guest reset itself", "no status"]),
    }
}

#[test]
fn a_reboot_ends_with_0() {
    let debian = or_skip!(Debian::find());
    for (kernel, cpus) in Kernel::ALL.into_iter().zip(["4", "1"]) {
        is_a_reset(&ended(&debian, kernel, cpus, "reboot"));
    }
}

#[test]
#[cfg(target_arch = "x86_64")] // what PSCI ends is off
fn switching_off_halts_for_ever_which_is_a_crash_and_said() {
    let debian = or_skip!(Debian::find());
    let finished = ended(&debian, Kernel::BzImage, "4", "poweroff");
    assert_eq!(finished.status, Some(126), "{finished}");
    // There is no ACPI power-off, and without one Linux halts.
    assert!(finished.text().contains("reboot: System halted"), "{finished}");
    says(&finished.stderr, &["every vCPU has halted with interrupts off"]);
}

/// On x86_64 what is switched off halts, too, and has four.
const HALTS_ON: &str = if cfg!(target_arch = "x86_64") { "1" } else { "4" };

#[test]
fn a_system_that_is_halted_is_found_out() {
    let debian = or_skip!(Debian::find());
    let finished = ended(&debian, Kernel::ALL[0], HALTS_ON, "halt");
    assert_eq!(finished.status, Some(126), "{finished}");
    assert!(finished.text().contains("reboot: System halted"), "{finished}");
    says(&finished.stderr, &["every vCPU has halted with interrupts off"]);
}

/// Debian's kernel for arm64 has no driver for pvpanic.
#[test]
fn a_panic_is_a_crash_where_the_guest_says_so_and_else_reboots_as_the_command_line_has_it() {
    let debian = or_skip!(Debian::find());
    let finished = ended(&debian, Kernel::ALL[0], "1", "panic");
    match cfg!(target_arch = "x86_64") {
        true => assert_eq!((finished.status, &*finished.stderr), (Some(126), ""), "{finished}"),
        false => is_a_reset(&finished),
    }
    assert!(finished.text().contains("Kernel panic - not syncing"), "{finished}");
}
