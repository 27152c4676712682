use super::*;
use crate::image::notes::NoteError;
use crate::image::source::Source;
use crate::image::testing::{ElfFile, note, pvh_note};

fn parse(file: &[u8]) -> Result<Elf, ElfError> {
    Elf::parse(&View::whole(Source::from_bytes("test", file)))
}

fn kernel(change: impl FnOnce(&mut ElfFile)) -> Result<Elf, ElfError> {
    let mut file = ElfFile::kernel();
    change(&mut file);
    parse(&file.build())
}

/// The sentence it is refused with.
fn refused(change: impl FnOnce(&mut ElfFile)) -> String {
    kernel(change).unwrap_err().to_string()
}

#[test]
fn a_kernel_gives_its_segments_entry_and_machine() {
    let elf = kernel(|_| {}).unwrap();
    assert_eq!((elf.arch, elf.entry, elf.dynamic), (Arch::X86_64, 0x10_0000, false));
    let [segment] = elf.segments[..] else { panic!("{:?}", elf.segments) };
    assert_eq!((segment.file_size, segment.mem_size, segment.end()), (16, 32, 0x10_0020));
    assert_eq!(elf.physical_entry().unwrap(), Some(0x10_0000));
    assert_eq!(elf.pvh_entry().unwrap(), None);
    assert_eq!(kernel(|file| file.machine = 183).unwrap().arch, Arch::Aarch64);
}

#[test]
fn every_truncation_is_an_error_and_none_a_panic() {
    let mut file = ElfFile::kernel();
    file.notes(&pvh_note(0x10_0000));
    let whole = file.build();
    assert!(parse(&whole).is_ok());
    for len in 0..whole.len() {
        assert!(parse(&whole[..len]).is_err(), "{len} bytes");
    }
    assert!(matches!(parse(&whole[..63]), Err(ElfError::NoHeader(63))));
    assert!(matches!(
        parse(&whole[..64]),
        Err(ElfError::PhdrsPastEnd { count: 2, offset: 64, len: 64 })
    ));
}

#[test]
fn no_single_byte_of_the_headers_can_make_it_panic() {
    let mut file = ElfFile::kernel();
    file.notes(&pvh_note(0x10_0000));
    let whole = file.build();
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut broken = whole.clone();
            broken[at] = value;
            if let Ok(elf) = parse(&broken) {
                let _ = (elf.physical_entry(), elf.pvh_entry());
            }
        }
    }
}

#[test]
fn a_wrong_class_encoding_version_machine_or_type_is_named() {
    assert!(refused(|file| file.ident[0] = 0).contains("does not begin as an ELF file"));
    assert!(refused(|file| file.ident[4] = 1).contains("32-bit"));
    assert!(refused(|file| file.ident[4] = 3).contains("class 3"));
    assert!(refused(|file| file.ident[5] = 2).contains("not little-endian"));
    assert!(refused(|file| file.ident[6] = 0).contains("version 0"));
    assert!(refused(|file| file.version = 7).contains("version 7"));
    assert!(refused(|file| file.machine = 243).contains("machine 243"));
    assert!(refused(|file| file.kind = 1).contains("an object file"));
    assert!(refused(|file| file.kind = 4).contains("a core dump"));
    assert!(refused(|file| file.kind = 0xfe00).contains("type 65024"));
}

#[test]
fn program_headers_outside_of_the_file_are_refused() {
    for phoff in [1024, u64::MAX, u64::MAX - 55] {
        let error = kernel(|file| file.phoff = phoff).unwrap_err();
        assert!(matches!(error, ElfError::PhdrsPastEnd { count: 1, .. }), "{error}");
    }
    // 65534 of them need more bytes than there are.
    assert!(refused(|file| file.phnum = Some(65534)).contains("65534 program headers at byte 64"));
}

#[test]
fn program_headers_behind_the_first_bytes_are_read_as_well() {
    let mut file = ElfFile::kernel();
    let table: Vec<u8> = file.build()[64..64 + 56].to_vec();
    file.body.resize(4096, 0);
    file.phoff = 512 + 4096;
    file.body.extend(table);
    assert_eq!(parse(&file.build()).unwrap().segments.len(), 1);
}

#[test]
fn a_count_of_program_headers_that_is_none_is_refused() {
    assert!(matches!(kernel(|file| file.phnum = Some(0)), Err(ElfError::PhdrCount(0))));
    assert!(matches!(kernel(|file| file.phnum = Some(0xffff)), Err(ElfError::PhdrCount(0xffff))));
    assert!(matches!(kernel(|file| file.phentsize = 55), Err(ElfError::PhdrSize(55, 56))));
    assert!(matches!(kernel(|file| file.phentsize = 0), Err(ElfError::PhdrSize(0, 56))));
}

#[test]
fn a_segment_outside_of_the_file_is_refused_with_its_number() {
    let past = refused(|file| file.phdrs[0].offset = 520);
    assert!(
        past.contains("program header 0 takes 16 bytes at byte 520, and the file has 528"),
        "{past}"
    );
    for (offset, size) in [(u64::MAX, 16), (16, u64::MAX), (u64::MAX, u64::MAX)] {
        let error = kernel(|file| {
            file.phdrs[0].offset = offset;
            file.phdrs[0].file_size = size;
        });
        assert!(matches!(error, Err(ElfError::SegmentPastEnd { index: 0, .. })));
    }
}

#[test]
fn a_segment_of_only_zeros_may_have_any_offset() {
    let elf = kernel(|file| {
        file.load(0x20_0000, &[], 16).offset = u64::MAX;
        file.notes(&[]).offset = u64::MAX;
    });
    let segment = elf.unwrap().segments[1];
    assert_eq!((segment.file_offset, segment.file_size, segment.mem_size), (0, 0, 16));
}

#[test]
fn a_segment_with_more_bytes_in_the_file_than_in_memory_is_refused() {
    assert!(refused(|file| file.phdrs[0].mem_size = 15).contains("loads 16 bytes into 15"));
}

#[test]
fn notes_may_have_no_size_in_memory() {
    // Nanos' kernel has such a program header after `strip`.
    let elf = kernel(|file| file.notes(&pvh_note(0x10_0000)).mem_size = 0).unwrap();
    assert_eq!(elf.pvh_entry().unwrap(), Some(0x10_0000));
}

#[test]
fn addresses_that_wrap_around_are_refused() {
    let physical = kernel(|file| file.phdrs[0].paddr = u64::MAX - 15);
    assert!(matches!(physical, Err(ElfError::SegmentWraps { index: 0, .. })));
    assert!(matches!(
        kernel(|file| file.phdrs[0].vaddr = u64::MAX),
        Err(ElfError::SegmentWraps { .. })
    ));
    assert!(matches!(
        kernel(|file| file.phdrs[0].mem_size = u64::MAX),
        Err(ElfError::SegmentWraps { .. })
    ));
}

#[test]
fn a_huge_segment_is_told_as_it_is_so_that_the_boot_plan_can_refuse_it() {
    let elf = kernel(|file| file.phdrs[0].mem_size = 1 << 62).unwrap();
    assert_eq!(elf.segments[0].mem_size, 1 << 62);
    assert_eq!(elf.segments[0].end(), 0x10_0000 + (1 << 62));
}

#[test]
fn overlapping_segments_are_refused_in_whatever_order_they_come() {
    let overlap = |addr: u64, size: u64| kernel(|file| file.load(addr, &[], size).flags = 6);
    assert!(matches!(overlap(0x10_0000, 32), Err(ElfError::Overlap(..))));
    assert!(matches!(overlap(0x10_001f, 1), Err(ElfError::Overlap(0, 1, 0x10_001f))));
    assert!(matches!(overlap(0xf_0000, 0x10_001), Err(ElfError::Overlap(1, 0, 0x10_0000))));
    assert!(overlap(0x10_0020, 32).is_ok());
    assert!(overlap(0xf_0000, 0x10_000).is_ok());
    // Virtual addresses may be the same: only what is loaded counts.
    let same_virtual = kernel(|file| file.load(0x20_0000, &[], 16).vaddr = 0x10_0000);
    assert!(same_virtual.is_ok());
}

#[test]
fn an_empty_segment_is_none_and_a_file_without_segments_is_refused() {
    assert_eq!(
        kernel(|file| {
            file.load(0x10_0000, &[], 0);
        })
        .unwrap()
        .segments
        .len(),
        1
    );
    assert!(matches!(kernel(|file| file.phdrs[0].kind = 0), Err(ElfError::NothingToLoad)));
}

#[test]
fn segments_have_a_bound() {
    let with = |count: u16| {
        let mut file = ElfFile::kernel();
        let phdr = file.build()[64..120].to_vec();
        // Behind everything else, where there is room for many.
        (file.phoff, file.phnum) = (u64::try_from(file.build().len()).unwrap(), Some(count));
        let mut bytes = file.build();
        for number in 0..u64::from(count) {
            let at = bytes.len();
            bytes.extend(&phdr);
            for address in [at + 16, at + 24] {
                let place = 0x10_0000 + number * 0x1000;
                bytes[address..address + 8].copy_from_slice(&place.to_le_bytes());
            }
        }
        parse(&bytes)
    };
    assert_eq!(with(512).unwrap().segments.len(), 512);
    for count in [513, 0xfffe] {
        assert!(matches!(with(count), Err(ElfError::TooMany(many)) if many == usize::from(count)));
    }
}

#[test]
fn an_entry_outside_of_the_executable_segments_is_refused() {
    let entry = |entry: u64| kernel(|file| file.entry = entry).unwrap().physical_entry();
    assert!(matches!(
        entry(0x10_0020),
        Err(ElfError::EntryOutside { which: "ELF", entry: 0x10_0020 })
    ));
    assert!(matches!(entry(0xf_ffff), Err(ElfError::EntryOutside { .. })));
    assert!(matches!(entry(0x8000_0000_0000_0000), Err(ElfError::EntryOutside { .. })));
    assert!(matches!(entry(u64::MAX), Err(ElfError::EntryOutside { .. })));
    // Zeros can be entered, for what that is worth: the segment is executable.
    assert_eq!(entry(0x10_001f).unwrap(), Some(0x10_001f));
    let elf = kernel(|file| file.phdrs[0].flags = 6).unwrap();
    assert!(matches!(elf.physical_entry(), Err(ElfError::EntryNotExecutable { which: "ELF", .. })));
}

#[test]
fn a_virtual_entry_is_told_from_one_that_lies_nowhere() {
    let high = kernel(|file| {
        file.entry = 0xffff_ffff_8010_0004;
        file.phdrs[0].vaddr = 0xffff_ffff_8010_0000;
    });
    assert_eq!(high.unwrap().physical_entry().unwrap(), None);
}

#[test]
fn a_pvh_entry_outside_of_the_segments_is_refused() {
    let elf = kernel(|file| {
        file.notes(&pvh_note(0x20_0000));
    })
    .unwrap();
    assert!(matches!(
        elf.pvh_entry(),
        Err(ElfError::EntryOutside { which: "PVH", entry: 0x20_0000 })
    ));
}

#[test]
fn notes_outside_of_the_file_too_long_or_broken_are_refused_with_the_header() {
    let past = kernel(|file| file.notes(&pvh_note(0)).file_size = 4096);
    assert!(matches!(past, Err(ElfError::SegmentPastEnd { index: 1, .. })));
    let long = kernel(|file| {
        file.notes(&note(b"A\0", 1, &[0; 70_000]));
    });
    assert!(matches!(long, Err(ElfError::NotesTooLong { index: 1, .. })));
    // The limit is for all of them together.
    let many = kernel(|file| {
        file.notes(&note(b"A\0", 1, &[0; 40_000]));
        let second = file.phdrs[1];
        file.phdrs.push(second);
    });
    assert!(matches!(many, Err(ElfError::NotesTooLong { index: 2, .. })));
    let broken = kernel(|file| {
        file.notes(&[0xff; 12]);
    });
    assert!(matches!(broken, Err(ElfError::Note { index: 1, error: NoteError::Truncated(0) })));
}

#[test]
fn an_interpreter_that_cannot_be_read_is_still_an_interpreter() {
    let named = kernel(|file| {
        file.interpreter(b"/lib/ld.so\0garbage");
    })
    .unwrap();
    assert_eq!(named.interpreter.as_deref(), Some(&b"/lib/ld.so"[..]));
    let elsewhere = kernel(|file| file.interpreter(b"/lib/ld.so\0").offset = u64::MAX).unwrap();
    assert_eq!(elsewhere.interpreter.as_deref(), Some(&b""[..]));
    let long = kernel(|file| {
        file.interpreter(&[b'x'; 1000]);
    })
    .unwrap();
    assert_eq!(long.interpreter.map(|name| name.len()), Some(64));
}

#[test]
fn a_garbage_dynamic_segment_is_not_looked_at() {
    assert!(kernel(|file| file.interpreter(&[0xff; 7]).kind = 2).is_ok());
}
