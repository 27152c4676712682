//! Disk images that are nearly OPS images.

use super::*;
use crate::image::elf::ElfError;
use crate::image::mbr::MbrError;
use crate::image::testing::{
    ElfFile, Node, boot_disk, boot_filesystem, directory, disk, file, first_extension, link, log,
};
use crate::image::tfs::{FileError, LogProblem, TfsError};

fn kernel() -> Vec<u8> {
    ElfFile::kernel().build()
}

fn sectors(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len() / 512).unwrap()
}

#[test]
fn the_smallest_disk_with_a_kernel_is_an_ops_image() {
    for version in [4, 5] {
        let image = recognise(&boot_disk(&boot_filesystem(version, &kernel()))).unwrap();
        assert_eq!(image.format(), Format::Ops { uefi: false, tfs: version.into() });
        assert_eq!(image.manifest().unwrap(), None);
        let mut bytes = vec![0; kernel().len()];
        image.kernel().view().read_exact_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, kernel());
    }
}

#[test]
fn every_truncation_of_a_disk_is_an_error_and_none_a_panic() {
    let whole = boot_disk(&boot_filesystem(5, &kernel()));
    for len in 0..whole.len() {
        assert!(recognise(&whole[..len]).is_err(), "{len} bytes");
    }
    let truncated = problem(&whole[..whole.len() - 1]);
    assert!(
        matches!(truncated, Problem::Partitions(MbrError::PastEnd { entry: 0, start: 1024, .. })),
        "{truncated}"
    );
}

#[test]
fn no_single_byte_of_a_disk_can_make_it_panic() {
    let whole = boot_disk(&boot_filesystem(5, &kernel()));
    for at in 0x1be..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut broken = whole.clone();
            broken[at] = value;
            if let Ok(image) = recognise(&broken) {
                let _ = image.manifest();
            }
        }
    }
}

#[test]
fn the_kernel_of_a_very_old_image_is_in_its_root_file_system() {
    let boot = log(4, 1, &[Node::Tuple(vec![])]);
    let root = boot_filesystem(4, &kernel());
    let entries = [(0x83, 2, sectors(&boot)), (0x83, 2 + sectors(&boot), sectors(&root))];
    let image = recognise(&disk(&entries, &[boot, root].concat())).unwrap();
    assert_eq!(image.kernel().entry(), Some(0x10_0000));
}

#[test]
fn a_uefi_layout_is_told_from_a_bios_one() {
    let boot = boot_filesystem(5, &kernel());
    let root = log(5, 1, &[Node::Tuple(vec![("program", Node::Text("/p"))])]);
    let at = 3 + sectors(&boot);
    let entries = [(0xef, 2, 1), (0x83, 3, sectors(&boot)), (0x83, at, sectors(&root))];
    let image = recognise(&disk(&entries, &[vec![0; 512], boot, root].concat())).unwrap();
    assert_eq!(image.format(), Format::Ops { uefi: true, tfs: 5 });
    assert_eq!(image.manifest().unwrap().unwrap().program.as_deref(), Some("/p"));
}

#[test]
fn a_manifest_that_cannot_be_read_does_not_stop_the_kernel_from_being_found() {
    let boot = boot_filesystem(5, &kernel());
    let entries = [(0x83, 2, sectors(&boot)), (0x83, 2 + sectors(&boot), 1)];
    let image = recognise(&disk(&entries, &[boot, first_extension(5, &[9])].concat())).unwrap();
    let error = image.manifest().unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("test.img: the root file system: the log is damaged at byte"),
        "{text}"
    );
}

#[test]
fn the_strings_of_a_manifest_are_printable_and_its_arguments_in_order() {
    let boot = boot_filesystem(5, &kernel());
    let manifest = Node::Tuple(vec![
        (
            "arguments",
            Node::Tuple(vec![
                ("1", Node::Text("b")),
                ("0", Node::Text("a\x1b[2J")),
                ("x", Node::Text("no")),
            ]),
        ),
        ("environment", Node::Tuple(vec![("K\n", Node::Text("v\0"))])),
        ("trace", Node::Text("t")),
        ("number", Node::Number(7)),
        ("program", Node::Text("/pröp")),
    ]);
    let root = log(5, 1, &[manifest]);
    let entries = [(0x83, 2, sectors(&boot)), (0x83, 2 + sectors(&boot), sectors(&root))];
    let found =
        recognise(&disk(&entries, &[boot, root].concat())).unwrap().manifest().unwrap().unwrap();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(found.arguments, [r"a\u{1b}[2J", "b"]);
    assert_eq!(found.environment, [pair(r"K\n", r"v\u{0}")]);
    assert_eq!(found.settings, [pair("trace", "t"), pair("number", "7")]);
    assert_eq!(found.program.as_deref(), Some("/pröp"));
}

#[test]
fn a_disk_without_tfs_is_named() {
    let error = problem(&disk(&[(0x83, 2, 2)], &[0xeb; 1024]));
    assert!(
        matches!(error, Problem::Partitions(MbrError::NotTfs { entry: 0, start: 1024 })),
        "{error}"
    );
}

#[test]
fn a_damaged_boot_file_system_is_named_with_its_byte() {
    let filesystem = [first_extension(5, &link(0, 1)), vec![0; 512]].concat();
    match problem(&boot_disk(&filesystem)) {
        Problem::FileSystem {
            which: "boot",
            error: TfsError::Log { at: 1054, problem: LogProblem::Loop(0) },
        } => {}
        other => panic!("{other}"),
    }
    let no_magic = [first_extension(5, &link(1, 1)), vec![0; 512]].concat();
    match problem(&boot_disk(&no_magic)) {
        Problem::FileSystem {
            which: "boot",
            error: TfsError::Log { at: 1536, problem: LogProblem::Magic },
        } => {}
        other => panic!("{other}"),
    }
}

#[test]
fn a_disk_without_a_kernel_is_named() {
    let empty = log(5, 1, &[directory("kernel.img", file(1, 1, 1))]);
    assert!(matches!(problem(&boot_disk(&empty)), Problem::NoKernel("boot")));
    let entries = [(0x83, 2, sectors(&empty)), (0x83, 2 + sectors(&empty), sectors(&empty))];
    let both = disk(&entries, &[empty.clone(), empty].concat());
    assert!(matches!(problem(&both), Problem::NoKernel("boot or root")));
}

#[test]
fn a_kernel_file_outside_of_its_file_system_is_named_with_its_path() {
    let outside = log(5, 1, &[directory("kernel", file(512, 2, 1))]);
    match problem(&boot_disk(&outside)) {
        Problem::FileSystem { which: "boot", error: TfsError::File { path, problem } } => {
            assert_eq!(
                (path.as_str(), problem),
                ("kernel", FileError::Outside { sector: 0, offset: 2, length: 1 })
            );
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_broken_kernel_in_an_image_is_named_as_the_file_in_it() {
    let broken = |change: fn(&mut ElfFile)| {
        let mut file = ElfFile::kernel();
        change(&mut file);
        problem(&boot_disk(&boot_filesystem(5, &file.build())))
    };
    let text = broken(|file| file.phdrs[0].offset = 4096).to_string();
    assert!(
        text.starts_with("the file `kernel` in it: program header 0 takes 16 bytes at byte 4096"),
        "{text}"
    );
    assert!(matches!(
        broken(|file| file.ident[1] = 0),
        Problem::Elf { error: ElfError::Magic, .. }
    ));
    assert!(matches!(
        broken(|file| file.ident[4] = 1),
        Problem::Elf { error: ElfError::Class32, .. }
    ));
    assert!(matches!(
        broken(|file| file.kind = 3),
        Problem::Elf { error: ElfError::Relocatable, .. }
    ));
    let program = broken(|file| {
        file.interpreter(b"/lib/ld.so\0");
    });
    assert!(program.to_string().contains("it asks for the interpreter /lib/ld.so"), "{program}");
}

#[test]
fn a_kernel_scattered_over_the_disk_is_put_together() {
    // Sectors 5 and 7 hold the file's first and second half, the hole between them is sector 1.
    let number = Node::Number;
    let extent = |offset| Node::Tuple(vec![("offset", number(offset)), ("length", number(1))]);
    let extents = Node::Tuple(vec![("2", extent(5)), ("0", extent(7))]);
    let metadata = Node::Tuple(vec![("filelength", number(1100)), ("extents", extents)]);
    let mut file = ElfFile::new(0x10_0000);
    file.load(0x10_0000, &[0; 588], 600);
    let bytes = file.build();
    let mut filesystem = log(5, 4, &[directory("kernel", metadata)]);
    filesystem.extend([0xaa; 512]);
    filesystem.extend([0xbb; 512]);
    filesystem.extend(&bytes[..512]);
    let image = recognise(&boot_disk(&filesystem)).unwrap();
    let kernel = image.kernel();
    let pieces: Vec<_> = kernel.pieces(&kernel.segments()[0]).collect();
    let expected = [
        Piece { at: 0, len: 512, source: None },
        Piece { at: 512, len: 76, source: Some(1024 + 5 * 512) },
    ];
    assert_eq!(pieces, expected);
}
