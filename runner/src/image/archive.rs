//! Hermit images (`hermit-entry` 0.10, `src/config.rs`): a tar archive (POSIX pax, "ustar Interchange Format"), as it is
//! or compressed by gzip, with a unikernel, its files, and `hermit.toml`, which says how it is started. They are
//! told from other archives, in order to be named.

use std::io::{self, Read};

use flate2::read::GzDecoder;

use super::Source;

/// What makes an archive a Hermit image.
const CONFIG: &[u8] = b"hermit.toml";
/// Bytes of a header, and what files are padded to.
const BLOCK: usize = 512;
/// It is looked for this far in the archive, in no more bytes of the file, and among so many files.
const FAR: u64 = 256 << 20;
const MOST_FILES: usize = 10_000;

/// Whether the file is a Hermit image.
pub(super) fn is_hermit_image(source: &Source) -> bool {
    is_image_within(source, FAR)
}

fn is_image_within(source: &Source, far: u64) -> bool {
    let reader = || Reader { source, at: 0 }.take(far);
    // What is packed may say nothing for as long as it likes, or be longer than it.
    has_config(reader()) || has_config(GzDecoder::new(reader()).take(far))
}

/// Whether a tar archive has that file; `false` also for what is none.
fn has_config(mut archive: impl Read) -> bool {
    for _ in 0..MOST_FILES {
        let mut header = [0; BLOCK];
        if archive.read_exact(&mut header).is_err() {
            return false;
        }
        let Some(size) = size(&header) else { return false };
        let name = header.iter().take(100).take_while(|byte| **byte != 0).copied();
        let name: Vec<u8> = name.collect();
        if name.strip_prefix(b"./").unwrap_or(&name) == CONFIG {
            return true;
        }
        let Some(padded) = size.checked_next_multiple_of(BLOCK as u64) else { return false };
        if io::copy(&mut archive.by_ref().take(padded), &mut io::sink()).is_err() {
            return false;
        }
    }
    false
}

/// How long the file is, in octal digits; nothing where the header is none.
fn size(header: &[u8; BLOCK]) -> Option<u64> {
    let is_tar = header.get(257..262)? == b"ustar";
    let digits = header.get(124..135)?.iter().copied().filter(|_| is_tar);
    let text: String = digits.map(char::from).take_while(char::is_ascii_digit).collect();
    u64::from_str_radix(&text, 8).ok()
}

/// The file from its beginning on.
struct Reader<'s> {
    source: &'s Source,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.source.len().saturating_sub(self.at);
        let len = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let into = into.get_mut(..len).unwrap_or_default();
        self.source.read_exact_at(self.at, into).map_err(io::Error::other)?;
        self.at = self.at.saturating_add(len as u64);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::image::Image;

    /// An archive of files with so many bytes each.
    fn tar(files: &[(&str, usize)]) -> Vec<u8> {
        let mut all = Vec::new();
        for (name, len) in files {
            let mut header = [0; BLOCK];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..136].copy_from_slice(format!("{len:011o}\0").as_bytes());
            header[257..263].copy_from_slice(b"ustar\0");
            all.extend(header);
            all.resize(all.len() + len.next_multiple_of(BLOCK), b'x');
        }
        all.resize(all.len() + 2 * BLOCK, 0);
        all
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn refusal(bytes: &[u8]) -> String {
        Image::recognise(Source::from_bytes("app", bytes)).unwrap_err().to_string()
    }

    #[test]
    fn a_hermit_image_is_told_from_other_archives_and_says_how_it_is_run() {
        for name in ["hermit.toml", "./hermit.toml"] {
            let image = tar(&[("app/kernel", 5000), ("empty", 0), (name, 20)]);
            for bytes in [packed(&image), image] {
                let refusal = refusal(&bytes);
                assert!(refusal.starts_with("app: this is a Hermit image"), "{refusal}");
                assert!(refusal.contains("tar xf") && refusal.contains("hermit.toml"), "{refusal}");
            }
        }
        for files in [&[("app/hermit.toml", 20), ("hermit.tom", 1)][..], &[]] {
            let refusal = refusal(&packed(&tar(files)));
            assert!(refusal.contains("this is a gzip file: unpack it"), "{refusal}");
        }
        assert!(refusal(&tar(&[("a", 1)])).contains("this is a tar archive"));
    }

    #[test]
    fn what_says_nothing_for_as_long_as_it_likes_is_no_image() {
        // Blocks of no bytes (RFC 1951, 3.2.4), and behind them the archive.
        let image = packed(&tar(&[("hermit.toml", 20)]));
        let (header, body) = image.split_at(10);
        let of = |blocks: usize| [header, &[0, 0, 0, 0xff, 0xff].repeat(blocks), body].concat();
        let far = 1 << 20;
        let is_image = |bytes: &[u8]| is_image_within(&Source::from_bytes("app", bytes), far);
        assert!(is_image(&of(1000)));
        assert!(!is_image(&of(usize::try_from(far / 5 + 1).unwrap())));
        assert!(is_hermit_image(&Source::from_bytes("app", &of(1000))));
    }

    #[test]
    fn an_archive_that_is_damaged_is_none() {
        let image = packed(&tar(&[("kernel", 5000), ("hermit.toml", 20)]));
        for len in 0..image.len() / 2 {
            assert!(!is_hermit_image(&Source::from_bytes("app", &image[..len])), "{len}");
        }
        let mut huge = tar(&[("kernel", 0), ("hermit.toml", 20)]);
        huge[124..135].copy_from_slice(b"77777777777");
        assert!(!is_hermit_image(&Source::from_bytes("app", &huge)));
        huge[124..135].copy_from_slice(b"-0000000000");
        assert!(!is_hermit_image(&Source::from_bytes("app", &huge)));
    }
}
