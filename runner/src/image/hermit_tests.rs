use super::*;
use crate::image::testing::{ElfFile, Rela, hermit_file, note};
use crate::image::{Format, Image, Kernel, Source};

const RELATIVE: u32 = 8;
const ABSOLUTE: u32 = 1;
const DATA: u32 = 6;

fn image(file: &ElfFile) -> Result<Image, Problem> {
    let image = Image::recognise(Source::from_bytes("hermit", &file.build()));
    image.map_err(|error| *error.problem)
}

fn refused(file: &ElfFile) -> HermitError {
    match image(file) {
        Err(Problem::Hermit(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// What relocations come to, `base` above where they are linked.
fn relocated(kernel: &Kernel, base: u64) -> Result<Vec<(u64, u64)>, Error> {
    let kernel = kernel.clone().moved(base).unwrap();
    let mut all = Vec::new();
    let put = &mut |at, value| -> Result<(), Error> {
        all.push((at, value));
        Ok(())
    };
    let arch = kernel.arch();
    kernel.hermit().unwrap().relocate(kernel.view(), arch, (kernel.segments(), base), put)?;
    Ok(all)
}

fn of(relocations: &[Rela]) -> Result<Vec<(u64, u64)>, HermitError> {
    let image = image(&hermit_file(None, relocations)).unwrap();
    relocated(image.kernel(), 0x4_0000).map_err(|error| match *error.problem {
        Problem::Hermit(error) => error,
        other => panic!("{other}"),
    })
}

#[test]
fn a_unikernel_as_another_kernels_ram_disk_is_one_whatever_it_cannot_do_here() {
    let of = |bytes: &[u8]| program(&Source::from_bytes("initrd", bytes));
    let mut file = hermit_file(Some(99), &[]);
    assert_eq!(of(&file.build()), Some(Arch::X86_64));
    file.machine = 183;
    assert_eq!(of(&file.build()), Some(Arch::Aarch64));
    assert_eq!(of(&file.build()[..100]), None);
    assert_eq!((of(&ElfFile::kernel().build()), of(b"070701")), (None, None));
    assert_eq!(of(b"ELF"), None);
}

#[test]
fn a_hermit_unikernel_is_known_by_its_note_and_says_which_interface_it_speaks() {
    for (version, interface) in [
        (None, Interface::V1),
        (Some(1), Interface::V1),
        (Some(2), Interface::V2),
        (Some(3), Interface::V2),
    ] {
        let image = image(&hermit_file(version, &[])).unwrap();
        assert_eq!((image.format(), image.arch()), (Format::Hermit, Arch::X86_64));
        let hermit = image.kernel().hermit().unwrap();
        assert_eq!((hermit.interface, hermit.entry, hermit.kernel), (interface, 0, None));
        assert!(hermit.is_relocatable);
        assert_eq!(hermit.tls.map(|tls| (tls.vaddr, tls.mem_size)), Some((0x1000, 0x81)));
        assert_eq!(image.kernel().entry(), None, "it is entered by uhyve alone");
    }
}

#[test]
fn versions_that_are_not_known_are_named() {
    assert_eq!(refused(&hermit_file(Some(4), &[])), HermitError::Interface(4));
    let mut old = ElfFile::kernel();
    old.notes(&note(b"HERMIT\0", 0x5a00, &[3]));
    assert_eq!(refused(&old), HermitError::Version(3));
    let mut short = ElfFile::kernel().short();
    short.notes(&note(b"HERMIT\0", 0x5a00, &[4]));
    assert!(matches!(image(&short), Err(Problem::Elf { error: ElfError::Class32, .. })));
}

#[test]
fn relocations_are_relative_to_where_the_image_lies_or_a_symbols_address() {
    let all = [
        (0x1000, RELATIVE, 0, 0x10),
        (0x1008, ABSOLUTE, 0, 4),
        (0x1010, DATA, 0, 0),
        (0, 0, 0, 0),
        // A symbol that may be missing, and is.
        (0x1010, DATA, 1, 0),
    ];
    let wanted = [(0x4_1000, 0x4_0010), (0x4_1008, 0x4_0044), (0x4_1010, 0x4_0040)];
    assert_eq!(of(&all), Ok(wanted.to_vec()));
    // More than are read at once, and below zero.
    let many: Vec<Rela> = (0..1500).map(|_| (0x1000, RELATIVE, 0, u64::MAX)).collect();
    assert_eq!(of(&many), Ok(vec![(0x4_1000, 0x3_ffff); 1500]));
}

#[test]
fn relocations_of_another_architecture_have_other_numbers() {
    let mut file = hermit_file(None, &[(0x1000, 1027, 0, 0x10)]);
    file.machine = 183;
    let image = image(&file).unwrap();
    assert_eq!(relocated(image.kernel(), 0x100).unwrap(), [(0x1100, 0x110)]);
    file.machine = 62;
    let error = relocated(super::tests::image(&file).unwrap().kernel(), 0).unwrap_err();
    assert!(error.to_string().contains("of kind 1027"), "{error}");
}

#[test]
fn a_relocation_outside_of_the_image_or_of_no_symbol_is_refused_with_its_number() {
    for at in [0x2ff9, 0x3000, 0xff9, 0xfff, u64::MAX, u64::MAX - 7, 1 << 40] {
        let all = [(0x1000, RELATIVE, 0, 0), (at, RELATIVE, 0, 0)];
        assert_eq!(of(&all), Err(HermitError::Outside { index: 1, at }), "{at:#x}");
    }
    assert_eq!(of(&[(0x1000, DATA, 2, 0)]), Err(HermitError::Symbol(0)));
    assert_eq!(of(&[(0x1000, DATA, u32::MAX, 0)]), Err(HermitError::Symbol(0)));
    assert_eq!(of(&[(0x1000, 37, 0, 0)]), Err(HermitError::Kind { index: 0, kind: 37 }));
}

/// The file with one number of its table for linkers changed, from the beginning of that table on.
fn with_table(change: impl FnOnce(&mut [u8])) -> ElfFile {
    let mut file = hermit_file(None, &[(0x1000, RELATIVE, 0, 0)]);
    let table = file.phdrs.iter().find(|phdr| phdr.kind == 2).unwrap();
    let at = usize::try_from(table.offset).unwrap() - 512;
    change(&mut file.body[at..]);
    file
}

#[test]
fn a_table_that_lies_is_refused_before_anything_is_loaded() {
    let set = |at: usize, value: u64| {
        with_table(|table| table[at..at + 8].copy_from_slice(&value.to_le_bytes()))
    };
    for address in [0x9000, u64::MAX, 0x2000] {
        let outside = HermitError::TableOutside { at: address, size: 24 };
        assert_eq!(refused(&set(24, address)), outside, "{address:#x}");
    }
    for size in [1 << 20, u64::MAX] {
        let error = refused(&set(40, size));
        assert!(
            matches!(error, HermitError::TableOutside { size: it, .. } if it == size),
            "{error}"
        );
    }
    assert_eq!(refused(&set(0, DT_NEEDED)), HermitError::Library);
    for (tag, name) in [(DT_REL, "DT_REL"), (DT_RELR, "DT_RELR"), (DT_JMPREL, "DT_JMPREL")] {
        assert_eq!(refused(&set(0, tag)), HermitError::Sort(name));
    }
    let at = |change: &dyn Fn(&mut crate::image::testing::Phdr)| {
        let mut file = hermit_file(None, &[]);
        change(file.phdrs.iter_mut().find(|phdr| phdr.kind == 2).unwrap());
        refused(&file)
    };
    let table = HermitError::NoTable("table for linkers");
    assert_eq!(at(&|phdr| phdr.offset = u64::MAX), table);
    assert_eq!(at(&|phdr| phdr.file_size = 1 << 40), table);
}

#[test]
fn a_table_for_which_no_segment_has_the_bytes_is_refused_however_long_the_file_is() {
    // Behind the file's own bytes is a hole, as long as the table.
    let of = |size: u64, in_segment: bool| {
        let mut file = hermit_file(None, &[]);
        let table = file.phdrs.iter().find(|phdr| phdr.kind == 2).unwrap();
        let at = usize::try_from(table.offset).unwrap() - 512;
        file.body[at + 40..at + 48].copy_from_slice(&size.to_le_bytes());
        let data = file.phdrs.iter_mut().filter(|phdr| phdr.kind == 1).nth(1).unwrap();
        if in_segment {
            data.file_size = 0x60 + size;
            data.mem_size = data.mem_size.max(data.file_size);
        }
        let bytes = file.build();
        let (len, whole) = (bytes.len() as u64, bytes.len() as u64 + 0x60 + size);
        let source = Source::from_bytes("hermit", &bytes);
        let view = View::of_extents(source, whole, &[(0, len, Some(0))]).unwrap();
        let elf = Elf::parse(&view).unwrap();
        Hermit::new(&view, &elf, ENTRY_VERSION).map_err(|error| match error {
            Problem::Hermit(error) => error,
            other => panic!("{other:?}"),
        })
    };
    for size in [1 << 20, 4_800_000_000, 12_000_000_000_000] {
        let outside = HermitError::TableOutside { at: 0x1060, size };
        assert_eq!(of(size, false), Err(outside), "{size}");
    }
    let most = MOST_RELOCATIONS * 24;
    assert!(of(most, true).is_ok());
    let many = HermitError::TooMany { at: 0x1060, count: MOST_RELOCATIONS + 1 };
    for size in [most + 1, most + 24] {
        assert_eq!(of(size, true), Err(many.clone()), "{size}");
    }
}

#[test]
fn thread_local_storage_and_addresses_that_are_not_in_the_image_are_refused() {
    let with = |kind: u32, change: &dyn Fn(&mut crate::image::testing::Phdr)| {
        let mut file = hermit_file(None, &[]);
        change(file.phdrs.iter_mut().find(|phdr| phdr.kind == kind).unwrap());
        refused(&file)
    };
    assert_eq!(with(7, &|phdr| (phdr.vaddr, phdr.file_size) = (0x8000, 1)), HermitError::Tls);
    assert_eq!(with(7, &|phdr| phdr.file_size = 0x2001), HermitError::Tls);
    assert_eq!(with(7, &|phdr| phdr.file_size = u64::MAX), HermitError::Tls);
    assert_eq!(with(1, &|phdr| phdr.vaddr += 0x1000), HermitError::Virtual(0));
}

#[test]
fn thread_local_storage_that_is_all_zeros_may_be_between_segments() {
    let mut file = hermit_file(None, &[]);
    let tls = file.phdrs.iter_mut().find(|phdr| phdr.kind == 7).unwrap();
    (tls.vaddr, tls.file_size) = (0x8000, 0);
    let image = image(&file).unwrap();
    let tls = image.kernel().hermit().unwrap().tls.unwrap();
    assert_eq!((tls.vaddr, tls.file_size, tls.mem_size), (0x8000, 0, 0x81));
}

#[test]
fn a_kernel_that_would_leave_the_address_space_is_not_moved() {
    let image = image(&hermit_file(None, &[])).unwrap();
    assert!(image.kernel().clone().moved(u64::MAX - 0x2000).is_none());
    let moved = image.kernel().clone().moved(0x4_0000).unwrap();
    assert_eq!(moved.hermit().unwrap().entry, 0x4_0000);
    assert_eq!(moved.segments()[1].paddr, 0x4_1000);
}
