//! The parsers of images.

use runner::image::elf::Elf;
use runner::image::mbr;
use runner::image::notes::Notes;
use runner::image::tfs::{Filesystem, Region, Tuple, Value};
use runner::image::{Error, Image, Kernel, Marks, Segment, Source, View};

/// An ELF file: whatever is accepted can be loaded.
pub fn elf(data: &[u8]) {
    let view = View::whole(Source::from_bytes("fuzz", data));
    match Elf::parse(&view) {
        Ok(elf) => {
            check_segments(&elf.segments, &view);
            let (entry, pvh) = (elf.physical_entry(), elf.pvh_entry());
            if let Ok(Some(entry)) = entry {
                check_entry(&elf.segments, entry);
            }
            if let Ok(Some(entry)) = pvh {
                check_entry(&elf.segments, entry.into());
            }
        }
        Err(error) => check_text(&error.to_string()),
    }
}

/// A segment of notes; the first byte is its alignment.
pub fn notes(data: &[u8]) {
    let Some((align, segment)) = data.split_first() else {
        return;
    };
    let mut notes = Notes::default();
    if let Err(error) = notes.add(segment, (*align).into()) {
        check_text(&error.to_string());
    }
    let manifest = notes.solo5_manifest.unwrap_or_default();
    assert!(manifest.entries.len() <= 64, "a handle is a bit of 64");
    for (handle, device) in manifest.devices() {
        let name = &device.name;
        assert!(handle > 0 && (1..68).contains(&name.len()), "{handle} {name:?}");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name:?}");
        assert_eq!(manifest.find(name, device.kind), Some(handle), "{name} is one device's name");
    }
}

/// A first sector; behind it, the length of the image.
pub fn mbr(data: &[u8]) {
    let Some((head, len)) = data.split_last_chunk::<8>() else {
        return;
    };
    let len = u64::from_le_bytes(*len);
    match mbr::layout(head, len) {
        None => {}
        Some(Err(error)) => check_text(&error.to_string()),
        Some(Ok(layout)) => {
            for region in [Some(layout.boot), layout.root].into_iter().flatten() {
                let end =
                    region.start.checked_add(region.len).expect("a region does not wrap around");
                assert!(region.len > 0 && region.start > 0 && end <= len, "{layout:?} in {len}");
            }
            assert_eq!(layout.entry, usize::from(layout.uefi));
        }
    }
}

/// A file system: its tree can be walked, and its files read.
pub fn tfs(data: &[u8]) {
    let source = Source::from_bytes("fuzz", data);
    let region = Region { start: 0, len: source.len() };
    let filesystem = match Filesystem::open(&source, region) {
        Ok(filesystem) => filesystem,
        Err(error) => return check_text(&error.to_string()),
    };
    walk(&filesystem.root(), 4);
    for path in ["kernel", "klib/k", "children"] {
        match filesystem.lookup(path) {
            Ok(None) => {}
            Ok(Some(view)) => check_view(&view),
            Err(error) => check_text(&error.to_string()),
        }
    }
}

/// A bzImage, whose two signatures are put right; 4 KiB of kernel behind it.
pub fn bzimage(data: &[u8]) {
    let mut file = data.to_vec();
    file.resize(data.len().max(0x206) + 4096, 0x90);
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    match Kernel::open(&Source::from_bytes("fuzz", &file)) {
        Ok(kernel) => {
            check_kernel(&kernel);
            assert!(kernel.entry32().is_some(), "a bzImage has a 32-bit entry");
            let setup = kernel.setup().expect("a bzImage has a setup header");
            assert!(setup.header.len() < 256, "the zero page has room for it");
        }
        Err(error) => check_error(&error),
    }
}

/// An arm64 Image, whose signature is put right.
pub fn arm64(data: &[u8]) {
    let mut file = data.to_vec();
    file.resize(data.len().max(64), 0);
    file[56..60].copy_from_slice(b"ARM\x64");
    match Kernel::open(&Source::from_bytes("fuzz", &file)) {
        Ok(kernel) => {
            check_kernel(&kernel);
            let first = kernel.segments().first().map(|segment| segment.paddr);
            assert!(first.is_some() && kernel.entry() == first, "it is entered at its first byte");
        }
        Err(error) => check_error(&error),
    }
}

/// A whole image, and the same bytes as a kernel that the user names.
pub fn image(data: &[u8]) {
    let source = Source::from_bytes("fuzz", data);
    for marks in [Marks::Needed, Marks::NotNeeded] {
        match Image::recognise_as(source.clone(), marks) {
            Ok(image) => {
                check_kernel(image.kernel());
                if let Err(error) = image.manifest() {
                    check_error(&error);
                }
            }
            Err(error) => check_error(&error),
        }
    }
    match Kernel::open(&source) {
        Ok(kernel) => check_kernel(&kernel),
        Err(error) => check_error(&error),
    }
}

fn check_kernel(kernel: &Kernel) {
    check_segments(kernel.segments(), kernel.view());
    let (pvh, linux32) = (kernel.pvh_entry().map(u64::from), kernel.entry32().map(u64::from));
    let hvt = kernel.solo5().map(|solo5| solo5.entry);
    let uhyve = kernel.hermit().map(|hermit| hermit.entry);
    let entries = [kernel.entry(), pvh, linux32, hvt, uhyve];
    assert!(entries.iter().any(Option::is_some), "a kernel has an entry");
    for entry in entries.into_iter().flatten() {
        check_entry(kernel.segments(), entry);
    }
    relocate(kernel);
}

/// Relocations are carried out in what is loaded, or refused.
fn relocate(kernel: &Kernel) {
    const BASE: u64 = 0x4_0000;
    let Some(kernel) = kernel.clone().moved(BASE) else { return };
    let Some(hermit) = kernel.hermit() else { return };
    let segments = kernel.segments();
    let put = &mut |at: u64, _value| -> Result<(), Error> {
        let end = at.checked_add(8).expect("a relocation does not wrap around");
        assert!(segments.iter().any(|segment| segment.paddr <= at && end <= segment.end()));
        Ok(())
    };
    if let Err(error) = hermit.relocate(kernel.view(), kernel.arch(), (segments, BASE), put) {
        check_error(&error);
    }
}

fn check_segments(segments: &[Segment], view: &View) {
    assert!(!segments.is_empty());
    let mut spans = Vec::new();
    for segment in segments {
        assert!(segment.mem_size > 0 && segment.file_size <= segment.mem_size);
        let file_end = segment.file_offset.checked_add(segment.file_size);
        assert!(file_end.is_some_and(|end| end <= view.len()), "{segment:?}");
        let end =
            segment.paddr.checked_add(segment.mem_size).expect("a segment does not wrap around");
        spans.push((segment.paddr, end));
        check_pieces(view, segment.file_offset, segment.file_size);
    }
    spans.sort_unstable();
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:x?} overlap");
}

fn check_entry(segments: &[Segment], entry: u64) {
    let inside = |segment: &&Segment| (segment.paddr..segment.end()).contains(&entry);
    assert!(segments.iter().find(inside).is_some_and(Segment::executable), "{entry:#x}");
}

/// The pieces are in order, without gaps, in the source, and can be read.
fn check_pieces(view: &View, offset: u64, len: u64) {
    let mut next = 0;
    for piece in view.pieces(offset, len) {
        assert!(piece.at == next && piece.len > 0);
        next += piece.len;
        if let Some(place) = piece.source {
            let mut last = [0];
            view.source()
                .read_exact_at(place + piece.len - 1, &mut last)
                .expect("a piece is in its source");
        }
    }
    assert_eq!(next, len, "the pieces cover what was asked for");
}

fn check_view(view: &View) {
    check_pieces(view, 0, view.len());
    let mut head = vec![0; usize::try_from(view.len().min(4096)).expect("4096 fits")];
    view.read_exact_at(0, &mut head).expect("a file can be read to its end");
    assert!(view.read_exact_at(view.len(), &mut [0]).is_err(), "and not further");
}

/// Tuples may contain each other.
fn walk(tuple: &Tuple<'_>, depth: u32) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for (key, value) in tuple.entries().iter().take(64) {
        let _ = (key.number(), value.number());
        if let Value::Tuple(inner) = value {
            walk(inner, depth);
        }
    }
}

fn check_error(error: &Error) {
    let text = error.to_string();
    assert!(text.starts_with("fuzz: "), "{text}");
    check_text(&text);
}

/// An image must not write to the terminal by way of our messages.
fn check_text(text: &str) {
    assert!(text.len() < 1000 && !text.contains(char::is_control), "{text:?}");
}
