//! Kernels and Linux programs, told from each other.

use super::*;
use crate::image::testing::{ElfFile, note, pvh_note};

/// Why it is taken for a Linux program.
fn why(file: &ElfFile) -> String {
    match problem(&file.build()) {
        Problem::LinuxProgram { why } => why,
        other => panic!("{other}"),
    }
}

/// A program as linkers lay it out: its first segment begins with the ELF header.
fn program(base: u64) -> ElfFile {
    let mut file = ElfFile::new(base + 0x1000);
    file.load(base, &[], 0x200);
    file.phdrs[0].offset = 0;
    file.phdrs[0].file_size = 0x200;
    file.phdrs[0].flags = 4;
    file.load(base + 0x1000, &[0x90; 16], 16);
    file
}

fn kernel_at(base: u64) -> ElfFile {
    let mut file = ElfFile::new(base);
    file.load(base, &[0xf4; 16], 16);
    file
}

#[test]
fn the_refusal_says_what_to_do() {
    let mut file = program(0x40_0000);
    file.interpreter(b"/lib64/ld-linux-x86-64.so.2\0");
    assert_eq!(
        recognise(&file.build()).unwrap_err().to_string(),
        "test.img: it is a Linux program (it asks for the interpreter /lib64/ld-linux-x86-64.so.2), and not a kernel: \
         build an image with `ops`, then run that"
    );
}

#[test]
fn an_interpreter_marks_a_program_whatever_else_is_there() {
    let mut file = ElfFile::kernel();
    file.notes(&pvh_note(0x10_0000));
    file.interpreter(b"\x1b/ld\0");
    assert_eq!(why(&file), r"it asks for the interpreter \x1b/ld");
    file.kind = 3;
    assert!(why(&file).contains("interpreter"));
}

#[test]
fn static_programs_of_ld_lld_and_go_are_refused() {
    for base in [0x40_0000, 0x20_0000, 0x100_0000, 0] {
        assert_eq!(
            why(&program(base)),
            format!("it is linked at {base:#x} as programs are, and nothing marks a kernel")
        );
    }
    // ld -N leaves the header out, and stays at its address.
    assert!(why(&kernel_at(0x40_0000)).contains("0x400000"));
}

#[test]
fn the_abi_marks_a_program() {
    let mut tagged = ElfFile::kernel();
    tagged.notes(&note(b"GNU\0", 1, &[0; 16]));
    assert_eq!(why(&tagged), "its ABI is GNU/Linux");
    let mut file = ElfFile::kernel();
    file.ident[7] = 3;
    assert_eq!(why(&file), "its ABI is GNU/Linux");
    // A build ID is in kernels as well.
    let mut built = ElfFile::kernel();
    built.notes(&note(b"GNU\0", 3, &[0; 20]));
    assert_eq!(format(&built.build()), Format::Elf);
}

#[test]
fn a_static_position_independent_program_is_refused() {
    let mut file = program(0);
    file.kind = 3;
    assert_eq!(why(&file), "it is position-independent, and nothing marks a kernel");
}

#[test]
fn a_position_independent_kernel_is_not_called_a_program_and_not_booted() {
    let mut file = ElfFile::kernel();
    file.kind = 3;
    file.notes(&pvh_note(0x10_0000));
    assert!(problem(&file.build()).to_string().contains("position-independent"));
}

#[test]
fn physical_addresses_of_its_own_mark_a_kernel() {
    let mut file = program(0x100_0000);
    for phdr in &mut file.phdrs {
        phdr.vaddr |= 0xffff_ffff_8000_0000;
    }
    assert_eq!(format(&file.build()), Format::Elf);
}

#[test]
fn a_pvh_note_marks_a_kernel_wherever_it_lies() {
    let mut file = program(0x40_0000);
    file.notes(&pvh_note(0x40_1000));
    assert_eq!(format(&file.build()), Format::Pvh);
}

#[test]
fn kernels_lie_from_1_mib_to_4_mib_without_their_header() {
    for base in [0x10_0000, 0x20_0000, 0x3f_f000] {
        assert_eq!(format(&kernel_at(base).build()), Format::Elf, "{base:#x}");
    }
    for base in [0xf_f000, 0x1000, 0x40_0000, 0x8000_0000] {
        assert!(why(&kernel_at(base)).contains("nothing marks a kernel"), "{base:#x}");
    }
}

#[test]
fn the_user_may_name_a_kernel_that_nothing_marks_but_no_program() {
    let open = |file: &ElfFile| Kernel::open(&Source::from_bytes("k", &file.build()));
    assert_eq!(open(&kernel_at(0x40_0000)).unwrap().entry(), Some(0x40_0000));
    let mut dynamic = program(0x40_0000);
    dynamic.interpreter(b"/lib/ld.so\0");
    assert!(matches!(*open(&dynamic).unwrap_err().problem, Problem::LinuxProgram { .. }));
    let script = Kernel::open(&Source::from_bytes("k", b"#!/bin/sh"));
    assert_eq!(
        script.unwrap_err().to_string(),
        "k: this is a script: build an image with `ops`, then run that"
    );
    let hermit = ElfFile::kernel().build();
    assert_eq!(Kernel::open(&Source::from_bytes("k", &hermit)).unwrap().arch(), Arch::X86_64);
}

#[test]
fn a_file_that_the_user_says_is_a_kernel_needs_no_marks_and_is_no_multiboot_kernel() {
    let recognise_as = |file: &[u8], marks| {
        Image::recognise_as(Source::from_bytes("k", file), marks).map(|image| image.format())
    };
    let multiboot = super::formats::multiboot().build();
    assert!(recognise_as(&kernel_at(0x60_0000).build(), Marks::Needed).is_err());
    assert_eq!(recognise_as(&multiboot, Marks::Needed).unwrap(), Format::Multiboot);
    for file in [kernel_at(0x60_0000).build(), multiboot.clone()] {
        assert_eq!(recognise_as(&file, Marks::NotNeeded).unwrap(), Format::Elf);
    }
    assert!(Kernel::open(&Source::from_bytes("k", &multiboot)).is_ok());
    // A bzImage is one all the same, and a program with an interpreter never a kernel.
    let bzimage = crate::image::testing::BzImageFile::new().build();
    assert_eq!(recognise_as(&bzimage, Marks::NotNeeded).unwrap(), Format::BzImage);
    let mut dynamic = kernel_at(0x60_0000);
    dynamic.interpreter(b"/lib/ld.so\0");
    assert!(recognise_as(&dynamic.build(), Marks::NotNeeded).is_err());
}

#[test]
fn entries_are_checked_and_a_virtual_one_needs_a_pvh_note_beside_it() {
    let mut file = kernel_at(0x10_0000);
    file.entry = 0x10_0010;
    assert!(problem(&file.build()).to_string().contains("entry 0x100010 lies in no segment"));
    file.entry = 0xffff_ffff_8000_0008;
    file.phdrs[0].vaddr = 0xffff_ffff_8000_0000;
    let text = problem(&file.build()).to_string();
    assert!(text.contains("0xffffffff80000008 is a virtual address"), "{text}");
    file.notes(&pvh_note(0x10_0008));
    let image = recognise(&file.build()).unwrap();
    assert_eq!((image.kernel().entry(), image.kernel().pvh_entry()), (None, Some(0x10_0008)));
}
