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
    let systems: Vec<_> = systems.chain([Some(System::HermitLoader), None]).collect();
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
