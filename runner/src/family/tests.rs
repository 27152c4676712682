use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::*;
use crate::image::testing::{BzImageFile, ElfFile, with_sections};
use crate::image::{Marks, Source};

/// How a row is found: its first system if it has one, and whether in a bzImage.
fn key(family: &Family) -> (Option<System>, bool) {
    match family.whose {
        Whose::Of(systems) => (systems.first().copied(), false),
        Whose::BzImage => (None, true),
        Whose::Any => (None, false),
    }
}

#[test]
fn no_family_stands_behind_one_that_takes_its_guests() {
    for family in &FAMILIES {
        let (system, is_bzimage) = key(family);
        assert!(!family.entered.is_empty(), "{}", family.guests);
        for protocol in family.entered {
            let found = Family::find(*protocol, system, is_bzimage);
            assert_eq!(found.map(|it| it.guests), Some(family.guests), "{protocol}");
        }
    }
}

#[test]
fn whatever_the_kernel_and_the_way_in_there_is_a_family() {
    let systems = MARKS.iter().map(|(_, system)| Some(*system));
    let systems: Vec<_> = systems.chain([None]).collect();
    for protocol in Protocol::ALL {
        for system in &systems {
            for is_bzimage in [false, true] {
                // Only a bzImage has that entry.
                let is_bzimage = is_bzimage || protocol == Protocol::Linux32;
                let found = Family::find(protocol, *system, is_bzimage);
                assert!(found.is_some(), "{protocol}: {system:?}");
            }
        }
    }
}

#[test]
fn what_a_family_needs_is_there_on_its_machine() {
    for family in &FAMILIES {
        let guests = family.guests;
        assert!(Ends::ALL.contains(&family.ends), "{guests}: README.md does not have its ends");
        let is_pc = family.ends.ports().next().is_some();
        // A timer is on ports, and so is the end where there are some.
        assert!(is_pc || !family.interval_timer, "{guests}");
        assert!(family.entered == [Protocol::Arm64] || !family.monitors, "{guests}");
        let told_by_pc = matches!(family.told, Announcement::Acpi | Announcement::CommandLine(_));
        assert_eq!(is_pc, told_by_pc, "{guests}");
    }
}

fn family(bytes: &[u8], protocol: Protocol) -> &'static str {
    let source = Source::from_bytes("kernel", bytes);
    let image = crate::image::Image::recognise_as(source, Marks::NotNeeded).unwrap();
    Family::of(protocol, image.kernel()).guests
}

#[test]
fn a_kernel_is_of_the_family_of_its_system_and_its_way_in_or_of_nobodys() {
    let unikraft = with_sections(&ElfFile::kernel(), b"\0.uk_inittab\0");
    assert_eq!(family(&unikraft, Protocol::Linux64), "Unikraft for Firecracker");
    assert_eq!(family(&unikraft, Protocol::Multiboot), "Unikraft for QEMU");
    let plain = ElfFile::kernel().build();
    assert!(family(&plain, Protocol::Linux64).starts_with("Nanos, and other ELF"));
    assert!(family(&BzImageFile::new().build(), Protocol::Linux64).starts_with("Linux, and"));
}

/// Where a mark is, for a person; nothing where none of a family's files has it.
fn mark(mark: &Mark, family: &Family) -> Option<String> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let is_image = family.entered == [Protocol::Arm64];
    match mark {
        Mark::XenNote(name) => (!is_image).then(|| format!("`{}` in Xen's note", text(name))),
        Mark::Section(name) => Some(format!("sections `{}…`", text(name))),
        Mark::Version(name) => Some(format!("version `{name}…`")),
        Mark::BehindPage(bytes) => {
            is_image.then(|| format!("an Image {bytes} bytes behind a page"))
        }
        Mark::Text(known) => {
            Some(format!("`{}` in it, with a Hermit unikernel as its `--initrd`", text(known)))
        }
    }
}

fn known_by(family: &Family) -> String {
    let Whose::Of(systems) = family.whose else {
        return match (family.whose, family.entered) {
            (Whose::BzImage, _) => "a bzImage",
            (_, [Protocol::Hvt]) => "Solo5's notes",
            (_, [Protocol::Uhyve]) => "Hermit's note",
            _ => "that entry",
        }
        .into();
    };
    let of_it = MARKS.iter().filter(|(_, system)| systems.contains(system));
    let marks: Vec<_> = of_it.filter_map(|(it, _)| mark(it, family)).collect();
    assert!(!marks.is_empty(), "{}: nothing says which they are", family.guests);
    marks.join(", or ")
}

/// By what it is told where it has its devices, for a person; one on both machines by each of them.
fn told_by(family: &Family) -> String {
    let by = |arch| match family.tells(arch, family.bus) {
        Some(told) => told.to_string(),
        None => "nothing: it looks itself".to_owned(),
    };
    match family.entered {
        [Protocol::Uhyve] => {
            format!("{} (aarch64), {} (x86_64)", by(Arch::Aarch64), by(Arch::X86_64))
        }
        [Protocol::Arm64] => by(Arch::Aarch64),
        _ => by(Arch::X86_64),
    }
}

#[test]
fn what_is_on_the_pci_bus_is_in_no_words_of_a_command_line() {
    let tells = |guests: &str, arch, bus| {
        let family = FAMILIES.iter().find(|family| family.guests.starts_with(guests)).unwrap();
        family.tells(arch, bus).map(|told| told.to_string())
    };
    let said = |text: &str| Some(text.to_owned());
    let (pci, mmio) = (VirtioBus::Pci, VirtioBus::Mmio);
    assert_eq!(tells("Hermit's loader for Multi", Arch::X86_64, pci), said("ACPI"));
    assert_eq!(tells("Hermit's loader for Multi", Arch::X86_64, mmio), said("the command line"));
    assert_eq!(tells("Nanos, and", Arch::X86_64, pci), None);
    for bus in [pci, mmio] {
        assert_eq!(tells("Hermit unikernels", Arch::X86_64, bus), None);
        assert_eq!(tells("Hermit unikernels", Arch::Aarch64, bus), said("the device tree"));
    }
}

fn readme_row(family: &Family) -> String {
    let entered: Vec<_> = family.entered.iter().map(|protocol| protocol.name()).collect();
    let begins = match family.first_word {
        FirstWord::Nothing => "–",
        FirstWord::FileName => "its file's name",
        FirstWord::NoPci => "`--nopci`, without PCI",
    };
    let bus = match family.bus {
        VirtioBus::Mmio => "mmio",
        VirtioBus::Pci => "pci",
    };
    let emulated = if family.not_emulated.is_some() { "refused" } else { "tried" };
    let own = match family.own_hardware() {
        own if own.is_empty() => "–".to_owned(),
        own => own.join("; "),
    };
    let columns = [
        family.guests,
        &known_by(family),
        &entered.join(", "),
        &told_by(family),
        begins,
        if family.told == Announcement::Manifest { "–" } else { bus },
        &own,
        emulated,
    ];
    format!("| {} |", columns.join(" | "))
}

#[test]
fn the_readme_has_the_table_of_families() {
    let mut wanted =
        "\n| guests | known by | `--entry` | told of devices by | command line begins with | \
                      `--virtio` | of its own | software emulation |\n|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for family in &FAMILIES {
        writeln!(wanted, "{}", readme_row(family)).unwrap();
    }
    wanted.push('\n');
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let table = readme
        .split_once("<!-- families -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- /families -->"))
        .map(|(table, _)| table)
        .expect("README.md has the two markers");
    assert!(table == wanted, "README.md does not have the table of family.rs, which is:\n{wanted}");
}
