//! Which tests the lab may skip, and why.

use crate::protocol::Job;
use std::collections::BTreeMap;

/// A skip that is right inside a lab.
#[derive(Debug)]
pub(crate) struct AllowedSkip {
    /// The test as the lab prints it, `package::test`, without the name of a set.
    pub(crate) test: &'static str,
    /// Why the lab cannot run it.
    pub(crate) because: &'static str,
}

/// The skips that are right in one lab, and why. One whose test runs, or is gone, is a failure.
#[derive(Debug, Default)]
pub(crate) struct Skips(BTreeMap<String, &'static str>);

impl Skips {
    /// Adds those of a set of tests.
    pub(crate) fn add(&mut self, set: &str, skips: &'static [AllowedSkip]) {
        self.0.extend(skips.iter().map(|skip| (format!("{set}{}", skip.test), skip.because)));
    }

    /// Why `test` may skip, if it may.
    pub(crate) fn of(&self, test: &str) -> Option<&'static str> {
        self.0.get(test).copied()
    }

    /// Those whose tests are gone.
    pub(crate) fn stale(&self, jobs: &[Job]) -> impl Iterator<Item = &str> {
        let gone = |test: &&String| !jobs.iter().any(|job| job.name == **test);
        self.0.keys().filter(gone).map(String::as_str)
    }
}

const NAMESPACES: &str =
    "runner/vm::jail::who_cannot_have_another_root_directory_is_told_and_a_strict_jail_refuses";
const NO_SETPRIV: &str = "the lab has no setpriv; CI's own machine runs it";

/// In the lab for x86_64.
pub(crate) const X86_64: &[AllowedSkip] = &[
    emulated(
        "runner/vm::disks::runner_and_qemu_keep_each_other_from_a_disk_that_one_of_them_writes",
    ),
    emulated("runner/vm::emulation::hello_greets_and_says_what_runs_it"),
    emulated(
        "runner/vm::emulation::every_image_of_the_two_real_writers_ends_with_its_programs_status_when_emulated",
    ),
    emulated("runner/vm::emulation::every_status_of_an_emulated_guest_is_the_processs"),
    emulated("runner/vm::emulation::a_wide_exit_value_is_cut_to_8_bits_when_emulated"),
    emulated("runner/vm::emulation::a_triple_fault_is_a_crash_and_a_reset_is_none"),
    emulated("runner/vm::emulation::the_time_ends_an_emulated_guest_that_spins_or_halts"),
    emulated("runner/vm::emulation::a_signal_ends_an_emulated_guest"),
    emulated("runner/vm::emulation::qemu_does_not_outlive_a_runner_that_is_killed"),
    emulated(
        "runner/vm::emulation::an_emulated_guest_gets_its_input_and_loses_no_output_to_a_slow_reader",
    ),
    emulated("runner/vm::emulation::an_emulated_guest_has_a_keyboard_that_is_left_as_it_was"),
    emulated("runner/vm::emulation::every_end_of_an_emulated_guest_leaves_the_terminal_as_it_was"),
    emulated("runner/vm::emulation::a_signal_ends_an_emulated_guest_whose_output_nobody_reads"),
    emulated("runner/vm::emulation::an_emulated_guest_is_told_the_same_by_both_protocols"),
    emulated("runner/vm::emulation::an_emulated_guest_writes_its_disk_unless_it_is_read_only"),
    emulated(
        "runner/vm::emulation::a_write_that_an_emulated_guest_did_not_wait_for_is_on_the_disk",
    ),
    emulated(
        "runner/vm::emulation::what_an_emulated_guest_writes_to_an_ephemeral_disk_is_gone_after_the_run",
    ),
    emulated("runner/vm::emulation::a_disk_that_is_emulated_is_locked_as_any"),
    emulated(
        "runner/vm::emulation::verbose_begins_with_the_accelerator_and_has_qemus_command_line",
    ),
    emulated("runner/vm::emulation::a_config_that_wants_no_accelerator_is_named"),
    emulated("runner/vm::emulation::where_there_is_no_kvm_the_same_command_still_runs_and_says_so"),
    emulated("runner/vm::emulation::a_qemu_that_emulates_is_in_its_own_jail_unless_none_is_wanted"),
    emulated(
        "runner/vm::systems::in_software_emulation_unikraft_sleeps_by_an_8259_and_ends_by_the_exit_port",
    ),
    emulated(
        "runner/vm::emulated_virt::hello_greets_from_an_emulated_virt_and_finds_its_processors",
    ),
    emulated(
        "runner/vm::emulated_virt::the_status_of_an_emulated_arm64_guest_is_the_processs_and_called_the_guests",
    ),
    emulated("runner/vm::emulated_virt::an_emulated_end_that_carries_no_status_is_called_unknown"),
    emulated("runner/vm::emulated_virt::an_emulated_second_processor_is_started_by_psci"),
    emulated("runner/vm::emulated_virt::the_time_ends_an_emulated_arm64_guest_that_spins_or_halts"),
    emulated("runner/vm::emulated_virt::an_emulated_arm64_guest_gets_its_input"),
    emulated(
        "runner/vm::emulated_virt::an_emulated_arm64_guest_writes_its_disk_unless_it_is_read_only_or_ephemeral",
    ),
    emulated(
        "runner/vm::emulated_virt::semihosting_gives_an_emulated_guest_its_status_and_no_file_of_the_hosts",
    ),
    emulated(
        "runner/vm::emulated_virt::images_that_want_to_stand_close_to_the_beginning_of_ram_do_so_in_software_emulation",
    ),
    emulated("runner/vm::emulated_virt::more_than_qemus_virt_has_room_for_is_refused"),
    emulated("runner/vm::emulation::a_socket_device_is_refused_when_emulated_and_leaves_no_socket"),
    emulated("runner/vm::emulation::an_emulated_disk_is_raw_unless_it_is_named_as_qcow2"),
    emulated("runner/vm::protocols::in_software_emulation_a_multiboot_kernel_is_told_the_same"),
    emulated(
        "runner/vm::bzimage::in_software_emulation_a_kernel_is_entered_in_64_bits_where_it_can_be",
    ),
    emulated(
        "runner/vm::systems::in_software_emulation_the_bsds_find_processors_and_devices_as_they_do_otherwise",
    ),
    emulated(
        "runner/vm::hermit::in_software_emulation_its_loader_has_its_module_and_ends_with_whether_it_failed",
    ),
    emulated("runner/vm::hostile::rng::in_software_emulation_random_bytes_are_qemus_to_give"),
    emulated(
        "runner/vm::hostile::balloon::in_software_emulation_a_balloon_takes_what_is_reported_free",
    ),
    emulated(
        "runner/vm::hostile::console::in_software_emulation_text_is_on_stdout_and_input_where_the_guest_has_room",
    ),
    emulated("runner/vm::hostile::p9::in_software_emulation_the_same_folder_is_qemus_to_serve"),
    emulated(
        "runner/vm::hostile::console::in_software_emulation_a_guest_for_arm64_need_not_wait_for_its_last_words",
    ),
    emulated("runner/vm::links::qemus_stream_and_dgram_understand_the_guest"),
    emulated("runner/vm::links::an_emulated_guest_serves_through_ports_of_the_hosts"),
    emulated("runner/vm::links::a_peer_on_a_stream_socket_hears_an_emulated_guest"),
    emulated("runner/vm::links::a_peer_of_an_emulated_guest_that_goes_away_is_one_line"),
    emulated("runner/vm::links::a_peer_on_a_datagram_socket_hears_an_emulated_guest"),
    emulated("runner/vm::links::what_goes_by_an_emulated_guest_is_in_the_capture"),
    emulated("runner/vm::links::an_emulated_guest_on_a_tap_device_is_on_the_hosts_network"),
    emulated("runner/vm::links::an_emulated_guest_in_a_bridge_is_on_the_hosts_network"),
    ordinary_user("runner/vm::links::a_guest_on_a_tap_device_is_on_the_hosts_network"),
    ordinary_user(
        "runner/vm::links::a_guest_in_a_bridge_is_on_the_hosts_network_and_its_device_is_gone_after_the_run",
    ),
    ordinary_user("runner/vm::jail::root_by_sudo_becomes_the_user_who_typed_it"),
    ordinary_user("runner/vm::jail::a_socket_device_leaves_its_folder_in_reach_and_nothing_else"),
    AllowedSkip { test: NAMESPACES, because: NO_SETPRIV },
];

/// In the lab for aarch64.
pub(crate) const AARCH64: &[AllowedSkip] = &[
    AllowedSkip {
        test: "hv-kvm/conformance::reads_extend_the_sign_to_the_width_of_the_register",
        because: "KVM masks a signed load from a device to its width, in Linux 6.12 at least",
    },
    emulated(
        "runner/vm::disks::runner_and_qemu_keep_each_other_from_a_disk_that_one_of_them_writes",
    ),
    emulated(
        "runner/vm::emulated_virt::hello_greets_from_an_emulated_virt_and_finds_its_processors",
    ),
    emulated(
        "runner/vm::emulated_virt::the_status_of_an_emulated_arm64_guest_is_the_processs_and_called_the_guests",
    ),
    emulated("runner/vm::emulated_virt::an_emulated_end_that_carries_no_status_is_called_unknown"),
    emulated("runner/vm::emulated_virt::an_emulated_second_processor_is_started_by_psci"),
    emulated("runner/vm::emulated_virt::the_time_ends_an_emulated_arm64_guest_that_spins_or_halts"),
    emulated("runner/vm::emulated_virt::an_emulated_arm64_guest_gets_its_input"),
    emulated(
        "runner/vm::emulated_virt::an_emulated_arm64_guest_writes_its_disk_unless_it_is_read_only_or_ephemeral",
    ),
    emulated(
        "runner/vm::emulated_virt::semihosting_gives_an_emulated_guest_its_status_and_no_file_of_the_hosts",
    ),
    emulated(
        "runner/vm::emulated_virt::images_that_want_to_stand_close_to_the_beginning_of_ram_do_so_in_software_emulation",
    ),
    emulated("runner/vm::emulated_virt::more_than_qemus_virt_has_room_for_is_refused"),
    ordinary_user("runner/vm::jail::root_by_sudo_becomes_the_user_who_typed_it"),
    ordinary_user("runner/vm::jail::a_socket_device_leaves_its_folder_in_reach_and_nothing_else"),
    AllowedSkip { test: NAMESPACES, because: NO_SETPRIV },
];

/// In the same lab, over the backend for macOS.
pub(crate) const HVF: &[AllowedSkip] = &[
    of_kvm("hv-hvf/conformance::a_doorbell_for_one_value_takes_no_other"),
    of_kvm("hv-hvf/conformance::a_doorbell_takes_every_write_to_its_address"),
    of_kvm("hv-hvf/conformance::a_dropped_doorbell_lets_writes_come_out_again"),
    of_kvm("hv-hvf/conformance::doorbells_for_several_values_share_an_address"),
    of_kvm("hv-hvf/conformance::doorbells_wait_for_readiness"),
    of_kvm("hv-hvf/conformance::only_ram_that_was_asked_to_records_writes"),
    of_kvm("hv-hvf/conformance::written_pages_are_recorded_exactly"),
    AllowedSkip {
        test: "hv-hvf/conformance::performance_monitors_can_be_set_up_and_count_and_interrupt_if_they_say_so",
        because: "the stand-in's KVM keeps accesses to system registers, which come out on a Mac",
    },
];

const fn of_kvm(test: &'static str) -> AllowedSkip {
    AllowedSkip { test, because: "the framework has no doorbells and keeps no log of writes" }
}

const fn ordinary_user(test: &'static str) -> AllowedSkip {
    AllowedSkip { test, because: "the lab runs tests as an ordinary user" }
}

const fn emulated(test: &'static str) -> AllowedSkip {
    AllowedSkip { test, because: "the lab is in QEMU, and has none inside" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: &[AllowedSkip] =
        &[ordinary_user("hv-kvm/conformance::sums"), ordinary_user("hv-kvm/conformance::gone")];

    #[test]
    fn a_skip_is_allowed_in_its_set_and_found_when_its_test_is_gone() {
        let mut skips = Skips::default();
        skips.add("twice: ", ALLOWED);
        assert_eq!(skips.of("hv-kvm/conformance::sums"), None);
        assert!(skips.of("twice: hv-kvm/conformance::sums").is_some());
        let job = Job {
            name: "twice: hv-kvm/conformance::sums".to_owned(),
            program: "/t".into(),
            arguments: Vec::new(),
            directory: "/".into(),
            environment: Vec::new(),
            deadline: 1,
        };
        let stale: Vec<_> = skips.stale(&[job]).collect();
        assert_eq!(stale, ["twice: hv-kvm/conformance::gone"]);
    }
}
