//! The README's table of guests and platforms, made of what the tests show: each word of evidence stands for
//! tests, by how their names begin. A lab that has run all of them fails where one of those is missing, did not
//! run, or failed; and a test compares the table with the README's.
//!
//! What was seen by hand says so, and nothing checks it.

use crate::command::Result;
use std::collections::BTreeMap;

/// What is known of a guest on a platform.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Evidence {
    /// These tests passed on the KVM in the lab.
    Lab(&'static [&'static str]),
    /// These passed over the stand-in for Apple's framework, in the lab for arm64.
    StandIn(&'static [&'static str]),
    /// CI runs these with the QEMU that is installed: the labs have none inside, and list them as skipped.
    Qemu(&'static [&'static str]),
    /// Something else than a test, in its own words.
    Words(&'static str),
    /// There is no such thing.
    Nothing,
}

use Evidence::{Lab, Nothing, Qemu, StandIn, Words};

/// Nobody has seen it.
const NO: Evidence = Words("no");

/// A guest, and what is known of it under KVM on x86_64, in software emulation, on arm64, and on macOS: beside
/// the word what it is restricted to.
#[derive(Debug)]
pub(crate) struct Row {
    guest: &'static str,
    cells: [(Evidence, &'static str); 4],
}

/// A row whose words are about all of it.
const fn row(guest: &'static str, cells: [Evidence; 4]) -> Row {
    let [pc, emulated, arm64, macos] = cells;
    Row { guest, cells: [(pc, ""), (emulated, ""), (arm64, ""), (macos, "")] }
}

pub(crate) static TABLE: &[Row] = &[
    row(
        "built-in hello",
        [
            Lab(&["hello::hello_greets"]),
            Qemu(&["emulation::hello_greets", "emulated_virt::hello_greets"]),
            Lab(&["hello::hello_greets"]),
            StandIn(&["hello::hello_greets"]),
        ],
    ),
    row(
        "OPS disk images: BIOS and UEFI layout, TFS v4 and v5",
        [
            Lab(&["ops::every_image_of_the_two_real_writers"]),
            Qemu(&["emulation::every_image_of_the_two_real_writers"]),
            Words("a stock image in the lab, by hand"),
            NO,
        ],
    ),
    row(
        "ELF64 kernels by Linux's 64-bit entry, and PVH",
        [
            Lab(&[
                "protocols::a_kernel_is_told_its_command_line",
                "protocols::a_kernel_finds_its_ram",
            ]),
            Qemu(&["emulation::an_emulated_guest_is_told_the_same_by_both_protocols"]),
            Nothing,
            Nothing,
        ],
    ),
    row(
        "Multiboot 1 kernels: ELF32, ELF64, and by the addresses in the header",
        [
            Lab(&["protocols::a_multiboot_kernel_is_told"]),
            Qemu(&["protocols::in_software_emulation_a_multiboot_kernel"]),
            Nothing,
            Nothing,
        ],
    ),
    row(
        "memtest86+ by both entries; Xen and gnumach to where they want modules",
        [Lab(&["linux::payloads::"]), Nothing, Nothing, Nothing],
    ),
    Row {
        guest: "Linux bzImages by their 64-bit and 32-bit entry, one and several CPUs",
        cells: [
            (Lab(&["bzimage::a_kernel_is_entered_in_64_bits", "linux::machine::"]), ""),
            (Qemu(&["bzimage::in_software_emulation"]), "micro-guests, and Linux by hand"),
            (Nothing, ""),
            (Nothing, ""),
        ],
    },
    Row {
        guest: "Linux arm64 Images, and ELF64 kernels for aarch64, one and several CPUs",
        cells: [
            (Nothing, ""),
            (Qemu(&["emulated_virt::"]), "Linux by hand"),
            (Lab(&["linux::machine::", "virt::"]), ""),
            (StandIn(&["linux::machine::"]), ""),
        ],
    },
    Row {
        guest: "Solo5 unikernels for hvt: micro-guests, and Solo5's own tests by hand",
        cells: [
            (Lab(&["hvt::"]), ""),
            (Nothing, ""),
            (Lab(&["hvt::"]), "micro-guests"),
            (StandIn(&["hvt::"]), "micro-guests"),
        ],
    },
    Row {
        guest: "Hermit unikernels by uhyve's interface: micro-guests, and programs of kernels 0.6 to 0.13 by hand, on arm64 of 0.11 and 0.13",
        cells: [
            (Lab(&["hermit::"]), ""),
            (Nothing, ""),
            (Lab(&["hermit::"]), ""),
            (StandIn(&["hermit::calls::"]), "micro-guests, one CPU"),
        ],
    },
    Row {
        guest: "Hermit's loader with a unikernel: micro-guests; loaders 0.5.6 and 0.5.7 with kernel 0.13, several CPUs and HTTP, by hand",
        cells: [
            (Lab(&["hermit::its_loader_has"]), ""),
            (Qemu(&["hermit::in_software_emulation_its_loader"]), ""),
            (Lab(&["hermit::its_loader_has"]), ""),
            (NO, ""),
        ],
    },
    row(
        "Unikraft: micro-guests; its helloworld by hand, for Firecracker and for arm64 in the lab, for QEMU and Firecracker in QEMU 7.2",
        [
            Lab(&["systems::unikraft_for_qemu", "systems::unikraft_for_firecracker"]),
            Qemu(&["systems::in_software_emulation_unikraft", "emulated_virt::images_that_want"]),
            Lab(&["virt::images_of_unikraft_and_osv"]),
            NO,
        ],
    ),
    Row {
        guest: "OSv: micro-guests; its own kernel by hand, to its end, with one and two CPUs: for arm64 in the lab and in QEMU 7.2, for x86_64 in a lab without XSAVE (with that, it dies there under QEMU's KVM, too)",
        cells: [
            (Lab(&["systems::osv_"]), ""),
            (Qemu(&["emulated_virt::images_that_want"]), "for arm64"),
            (Lab(&["virt::images_of_unikraft_and_osv"]), ""),
            (NO, ""),
        ],
    },
    row(
        "FreeBSD's and NetBSD's kernels for virtual machines, by PVH: micro-guests; no kernel of theirs yet",
        [
            Lab(&["systems::the_bsds_"]),
            Qemu(&["systems::in_software_emulation_the_bsds"]),
            Nothing,
            Nothing,
        ],
    ),
    Row {
        guest: "the user-mode network, with micro-guests and with Linux; tap devices; stream and datagram sockets",
        cells: [
            (Lab(&["network::", "links::", "linux::net::"]), ""),
            (
                Qemu(&[
                    "links::an_emulated_guest_serves",
                    "links::an_emulated_guest_on_a_tap_device",
                    "links::a_peer_on_a_stream_socket_hears_an_emulated_guest",
                    "links::a_peer_on_a_datagram_socket_hears_an_emulated_guest",
                ]),
                "micro-guests",
            ),
            (Lab(&["linux::net::"]), ""),
            (StandIn(&["linux::net::addresses::", "linux::net::pci::"]), "the first, with Linux"),
        ],
    },
    Row {
        guest: "entropy device, balloon, virtio console, with micro-guests and with Linux",
        cells: [
            (
                Lab(&[
                    "hostile::rng::",
                    "hostile::balloon::",
                    "hostile::console::",
                    "linux::devices::",
                ]),
                "",
            ),
            (
                Qemu(&[
                    "hostile::rng::in_software_emulation",
                    "hostile::balloon::in_software_emulation",
                    "hostile::console::in_software_emulation_text",
                ]),
                "micro-guests; a balloon without a size",
            ),
            (
                Lab(&[
                    "hostile::rng::",
                    "hostile::balloon::",
                    "hostile::console::",
                    "linux::every::",
                ]),
                "",
            ),
            (NO, ""),
        ],
    },
    Row {
        guest: "shared folders and virtio sockets, with micro-guests and with Linux",
        cells: [
            (Lab(&["hostile::p9::", "hostile::vsock::", "linux::shares::", "linux::vsock::"]), ""),
            (Qemu(&["hostile::p9::in_software_emulation"]), "folders"),
            (Lab(&["hostile::p9::", "hostile::vsock::", "linux::every::"]), ""),
            (NO, ""),
        ],
    },
    Row {
        guest: "OPS's volumes, qcow2 disks, with micro-guests",
        cells: [
            (Lab(&["ops::volumes_stand_behind", "disks::an_image_that_is_named_as_qcow2"]), ""),
            (Qemu(&["emulation::an_emulated_disk_is_raw_unless_it_is_named_as_qcow2"]), ""),
            (Lab(&["disks::an_image_that_is_named_as_qcow2"]), "qcow2 disks"),
            (NO, ""),
        ],
    },
    row(
        "bridges",
        [Words("CI's own KVM, see below"), Qemu(&["links::an_emulated_guest_in_a_bridge"]), NO, NO],
    ),
    row(
        "conformance suite of `hv`",
        [
            Lab(&["hv-kvm/conformance::"]),
            Nothing,
            Lab(&["hv-kvm/conformance::"]),
            StandIn(&["hv-hvf/conformance::"]),
        ],
    ),
];

impl Evidence {
    fn word(self) -> &'static str {
        match self {
            Lab(_) => "lab",
            StandIn(_) => "stand-in",
            Qemu(_) => "QEMU 7.2",
            Words(words) => words,
            Nothing => "–",
        }
    }
}

/// How a test went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It passed.
    Passed,
    /// The lab's list has it, and why.
    Skipped,
    /// It failed, and did not pass when it was repeated.
    Failed,
}

/// What of the table a whole run of the lab for `architecture` does not bear out, by how its tests went.
pub(crate) fn unsupported(architecture: &str, tests: &BTreeMap<String, Seen>) -> Vec<String> {
    let mut wrong = Vec::new();
    for Row { guest, cells: [pc, emulated, arm64, macos] } in TABLE {
        // The QEMU of x86_64 is CI's machine's, whose tests are those of this lab.
        let columns = match architecture {
            "x86_64" => [(pc, ""), (emulated, "")],
            _ => [(arm64, ""), (macos, "hvf: ")],
        };
        for ((evidence, _), set) in columns {
            let (beginnings, may_skip) = match evidence {
                Lab(beginnings) | StandIn(beginnings) => (*beginnings, false),
                Qemu(beginnings) => (*beginnings, true),
                Words(_) | Nothing => continue,
            };
            for beginning in beginnings {
                let beginning = format!("{set}{}", full(beginning));
                if let Err(why) = borne_out(&beginning, may_skip, tests) {
                    wrong.push(format!("README.md says {:?} of {guest}: {why}", evidence.word()));
                }
            }
        }
    }
    wrong
}

/// Tests of whole VMs go without the name of their package.
fn full(test: &str) -> String {
    if test.contains('/') { test.to_owned() } else { format!("runner/vm::{test}") }
}

/// Whether there are tests that begin so, and all of them passed; or, where the lab has no QEMU, are on its
/// list of skips.
fn borne_out(beginning: &str, may_skip: bool, tests: &BTreeMap<String, Seen>) -> Result<()> {
    let of = || tests.iter().filter(|(name, _)| name.starts_with(beginning));
    // Of many tests some may need what no lab has; of the only one that is all there is.
    let any = of().any(|(_, seen)| *seen == Seen::Passed || may_skip && *seen == Seen::Skipped);
    match of().find(|(_, seen)| **seen == Seen::Failed) {
        Some((name, _)) => Err(format!("{name} failed")),
        None if any => Ok(()),
        None => Err(format!("no test ran that begins with {beginning}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    /// The table as the README has it.
    fn table() -> String {
        let mut text = String::from(
            "| guest | Linux x86_64, KVM | software emulation | Linux arm64 | macOS, Apple silicon |\n\
             |---|---|---|---|---|\n",
        );
        for Row { guest, cells } in TABLE {
            let cells = cells.map(|(evidence, only)| match only {
                "" => evidence.word().to_owned(),
                only => format!("{}, {only}", evidence.word()),
            });
            text += &format!("| {guest} | {} |\n", cells.join(" | "));
        }
        text
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = Workspace::find().unwrap().root.join("README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        let there = readme
            .split_once("<!-- guests -->\n")
            .and_then(|(_, rest)| rest.split_once("<!-- /guests -->"))
            .map(|(table, _)| table.trim_matches('\n'))
            .expect("README.md has the two markers");
        let wanted = table();
        assert!(
            there == wanted.trim_end(),
            "README.md has another table; this one is it:\n{wanted}"
        );
    }

    fn seen(of: &[(&str, Seen)]) -> BTreeMap<String, Seen> {
        of.iter().map(|(name, seen)| ((*name).to_owned(), *seen)).collect()
    }

    #[test]
    fn a_word_of_evidence_needs_tests_that_ran_and_passed() {
        let run = seen(&[
            ("runner/vm::a::one", Seen::Passed),
            ("runner/vm::a::two", Seen::Skipped),
            ("runner/vm::b::one", Seen::Skipped),
            ("runner/vm::c::one", Seen::Failed),
            ("runner/vm::c::two", Seen::Passed),
        ]);
        assert!(borne_out(&full("a::"), false, &run).is_ok());
        assert!(borne_out(&full("b::"), true, &run).is_ok(), "CI runs it");
        for (test, why) in
            [("b::", "no test ran"), ("c::", "c::one failed"), ("d::", "no test ran")]
        {
            let error = borne_out(&full(test), false, &run).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(borne_out(&full("c::"), true, &run).is_err());
        assert_eq!(full("hv-kvm/conformance::"), "hv-kvm/conformance::");
    }

    #[test]
    fn a_run_without_tests_bears_nothing_out() {
        let wrong = |architecture| unsupported(architecture, &BTreeMap::new());
        assert!(wrong("x86_64").len() > wrong("aarch64").len());
        assert!(wrong("aarch64").iter().any(|line| line.contains("hvf: runner/vm::hello")));
    }
}
