//! How Linux ends, and what status that is.

use super::super::support::or_skip;
use super::super::support::program::says;
use super::{Debian, Kernel};

/// The status of a run that ends with `end HOW`.
fn status(debian: &Debian, kernel: Kernel, cpus: &str, how: &str) -> Option<i32> {
    let finished = debian.boot(kernel, &["-m", "256", "--cpus", cpus], &format!("end {how}")).run();
    assert_eq!(finished.stderr, "", "{how}: {finished}");
    finished.status
}

#[test]
fn the_byte_that_init_writes_to_the_exit_port_is_the_status() {
    let debian = or_skip!(Debian::find());
    let ways = [(Kernel::BzImage, "1", 0), (Kernel::BzImage32, "1", 99), (Kernel::Pvh, "4", 213)];
    for (kernel, cpus, code) in ways {
        assert_eq!(status(&debian, kernel, cpus, &code.to_string()), Some(code));
    }
}

#[test]
fn a_reboot_ends_with_0() {
    let debian = or_skip!(Debian::find());
    assert_eq!(status(&debian, Kernel::BzImage, "4", "reboot"), Some(0));
    assert_eq!(status(&debian, Kernel::Pvh, "1", "reboot"), Some(0));
}

#[test]
fn switching_off_halts_for_ever_which_is_a_crash_and_said() {
    let debian = or_skip!(Debian::find());
    let args = ["-m", "256", "--cpus", "4"];
    let finished = debian.boot(Kernel::BzImage, &args, "end poweroff").ends_with(126);
    // There is no ACPI power-off, and without one Linux halts.
    assert!(finished.text().contains("reboot: System halted"), "{finished}");
    says(&finished.stderr, &["every vCPU has halted with interrupts off"]);
}

#[test]
fn a_panic_reboots_where_the_command_line_says_so() {
    let debian = or_skip!(Debian::find());
    let finished = debian.boot(Kernel::BzImage, &["-m", "256"], "end panic").ends_with(0);
    assert!(finished.text().contains("Kernel panic - not syncing"), "{finished}");
}
