//! A disk that is thrown away after the run: a file that is only read, and over it a sparse file
//! without a name, which takes what the guest writes.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use vm_memory::VolatileSlice;

use super::granules::{GRANULE, GRANULE_BYTES, Granules};
use super::medium::{Base, Raw};

/// A file without a name, and the folder whose file system it takes its room from.
#[derive(Clone, Debug)]
pub struct Scratch {
    /// The file: as long as the disk and all holes, open for reading and writing.
    pub file: Arc<File>,
    /// The folder, for messages.
    pub folder: String,
}

impl Scratch {
    /// The most bytes of a disk: to know what was written of it takes up to 144 MiB.
    pub const MOST: u64 = 4 << 40;
}

/// A base and what was written over it.
///
/// A granule of the disk is wholly in one of both files. It begins in the base and goes to the
/// overlay when a part of it is written; its bit is set when all of it is there, and never cleared.
pub(super) struct Overlay {
    base: Base,
    top: Raw,
    folder: String,
    /// Bytes of the disk.
    len: u64,
    /// Granules that are in `top`.
    present: RwLock<Granules>,
    /// Held by whoever brings granules into `top`: two writes to parts of one would otherwise each
    /// copy the rest of it from the base, and the later copy would undo the earlier write.
    bringing: Mutex<()>,
}

impl Overlay {
    pub(super) fn new(base: Base, scratch: Scratch, len: u64) -> Self {
        let Scratch { file, folder } = scratch;
        let top = Raw::new(file);
        let (present, bringing) = (RwLock::default(), Mutex::new(()));
        Self { base, top, folder, len, present, bringing }
    }

    pub(super) fn folder(&self) -> &str {
        &self.folder
    }

    /// Fills `input`, each run of granules from where it is.
    pub(super) fn read(
        &self,
        offset: u64,
        input: &[VolatileSlice<'_>],
        slow: &mut dyn FnMut(),
    ) -> io::Result<()> {
        let (mut slices, mut within) = (input, 0);
        let (mut offset, end) = (offset, offset.saturating_add(len(input)));
        while offset < end {
            let touched = Granules::touched(offset, end.saturating_sub(offset));
            let (present, next) = self.present().run(touched);
            let next = next.saturating_mul(GRANULE).min(end);
            let wanted = next.saturating_sub(offset);
            let (piece, rest) = cut(slices, within, wanted);
            (slices, within) = rest;
            match present {
                true => self.top.read(offset, &piece, slow)?,
                false => self.base.read(offset, &piece, slow)?,
            }
            offset = next;
        }
        Ok(())
    }

    /// Writes all of `output` to the overlay.
    pub(super) fn write(&self, offset: u64, output: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.change(offset, len(output), || self.top.write(offset, output))
    }

    /// Puts zeros there. In the overlay they take no room.
    pub(super) fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.change(offset, len, || self.top.zero(offset, len, true))
    }

    /// Gives back what the overlay has of it. The base keeps what it has.
    pub(super) fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        // Whole granules alone: what is left of one must stay.
        let first = offset.div_ceil(GRANULE).saturating_mul(GRANULE);
        let end = offset.saturating_add(len);
        let last = if end == self.len { end } else { end.saturating_sub(end % GRANULE) };
        match last.checked_sub(first).filter(|len| *len > 0) {
            Some(len) => self.top.discard(first, len).map_err(|error| self.explain(error)),
            None => Ok(()),
        }
    }

    /// Changes `len` bytes of the overlay from `offset` on with `change`. What is in none of their
    /// granules yet is brought there around them.
    fn change(&self, offset: u64, len: u64, change: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let touched = Granules::touched(offset, len);
        if self.present().has_all(touched.clone()) {
            return change().map_err(|error| self.explain(error));
        }
        let _bringing = self.bringing.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.saturating_add(len);
        if !offset.is_multiple_of(GRANULE) {
            self.bring(touched.start)?;
        }
        // The last granule of the disk may be a short one.
        if !end.is_multiple_of(GRANULE) && end != self.len {
            self.bring(end / GRANULE)?;
        }
        change().map_err(|error| self.explain(error))?;
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        present.insert(touched);
        Ok(())
    }

    /// Copies a granule from the base into the overlay, unless it is there.
    fn bring(&self, granule: u64) -> io::Result<()> {
        if self.present().has(granule) {
            return Ok(());
        }
        let mut bytes = [0; GRANULE_BYTES];
        let offset = granule.saturating_mul(GRANULE);
        let len = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = bytes.get_mut(..len.min(GRANULE_BYTES)).unwrap_or_default();
        let slice = [VolatileSlice::from(bytes)];
        self.base.read(offset, &slice, &mut || ())?;
        self.top.write(offset, &slice).map_err(|error| self.explain(error))
    }

    fn present(&self) -> RwLockReadGuard<'_, Granules> {
        self.present.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error of the overlay is not one of the file that the user named.
    fn explain(&self, error: io::Error) -> io::Error {
        let folder = &self.folder;
        io::Error::new(
            error.kind(),
            format!("{error} in {folder}, where --ephemeral keeps what is written (see TMPDIR)"),
        )
    }
}

/// Bytes in all.
fn len(slices: &[VolatileSlice<'_>]) -> u64 {
    slices.iter().fold(0, |sum, slice| sum.saturating_add(slice.len() as u64))
}

/// What is left of slices: from the first one on, without so many of its bytes.
type Rest<'s, 'm> = (&'s [VolatileSlice<'m>], usize);

/// The first `wanted` bytes of `slices`, whose first `within` bytes are done; and what is left.
fn cut<'s, 'm>(
    mut slices: &'s [VolatileSlice<'m>],
    mut within: usize,
    wanted: u64,
) -> (Vec<VolatileSlice<'m>>, Rest<'s, 'm>) {
    let mut piece = Vec::new();
    let mut wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    while wanted > 0
        && let Some((first, others)) = slices.split_first()
    {
        let left = first.len().saturating_sub(within);
        let len = left.min(wanted);
        // It lies within the slice, so this cannot fail.
        piece.extend(first.subslice(within, len));
        wanted = wanted.saturating_sub(len);
        (slices, within) = match len == left {
            true => (others, 0),
            false => (slices, within.saturating_add(len)),
        };
    }
    (piece, (slices, within))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// Not a whole number of granules.
    const LEN: u64 = 20 * GRANULE + 1536;

    /// A disk whose every sector holds its number, and the file under it.
    fn overlay() -> (Overlay, Arc<File>, Vec<u8>) {
        let base = Arc::new(tempfile::tempfile().unwrap());
        let sector = |at: u64| u8::try_from(at / 512 % 251).unwrap();
        let bytes: Vec<u8> = (0..LEN).map(sector).collect();
        base.write_all_at(&bytes, 0).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEN).unwrap();
        let scratch = Scratch { file: Arc::new(file), folder: "/scratch".into() };
        (Overlay::new(Base::Raw(Raw::new(Arc::clone(&base))), scratch, LEN), base, bytes)
    }

    fn read(overlay: &Overlay, offset: u64, len: usize) -> Vec<u8> {
        // In pieces of no particular size.
        let mut bytes = vec![0xee; len];
        let slices: Vec<_> = bytes.chunks_mut(1000).map(VolatileSlice::from).collect();
        overlay.read(offset, &slices, &mut || ()).unwrap();
        drop(slices);
        bytes
    }

    fn write(overlay: &Overlay, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes.to_vec();
        let slices: Vec<_> = bytes.chunks_mut(700).map(VolatileSlice::from).collect();
        overlay.write(offset, &slices)
    }

    fn usize(value: u64) -> usize {
        value.try_into().unwrap()
    }

    /// Numbers that look like chance and are the same in every run.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % limit
        }
    }

    #[test]
    fn a_disk_reads_as_what_was_written_over_its_base_whatever_was_cut_where() {
        let (overlay, base, before) = overlay();
        let mut expected = before.clone();
        let mut chance = Chance(1);
        let sectors = LEN / 512;
        for round in 0..2000u64 {
            let first = chance.below(sectors);
            let count = 1 + chance.below((sectors - first).min(40));
            let (offset, len) = (first * 512, usize(count * 512));
            let place = usize(offset)..usize(offset) + len;
            match chance.below(4) {
                0 => {
                    let bytes = vec![u8::try_from(round % 256).unwrap(); len];
                    write(&overlay, offset, &bytes).unwrap();
                    expected[place].copy_from_slice(&bytes);
                }
                1 if round % 5 == 0 => {
                    overlay.zero(offset, len as u64).unwrap();
                    expected[place].fill(0);
                }
                2 if round % 5 == 0 => {
                    overlay.discard(offset, len as u64).unwrap();
                    // Each granule is what it was, or zeros.
                    let now = read(&overlay, offset, len);
                    for (now, then) in now.chunks(512).zip(expected[place.clone()].chunks(512)) {
                        assert!(now == then || now == [0; 512], "{round}");
                    }
                    expected[place].copy_from_slice(&now);
                }
                _ => assert!(read(&overlay, offset, len) == expected[place], "{round}"),
            }
        }
        assert!(read(&overlay, 0, usize(LEN)) == expected);
        let mut base_now = vec![0; usize(LEN)];
        base.read_exact_at(&mut base_now, 0).unwrap();
        assert!(base_now == before, "the base was written");
    }

    #[test]
    fn writes_to_parts_of_one_granule_at_once_are_all_there() {
        let (overlay, ..) = overlay();
        std::thread::scope(|scope| {
            for thread in 0..8u8 {
                let overlay = &overlay;
                // Each has one sector of every granule.
                scope.spawn(move || {
                    for granule in 0..20 {
                        let offset = granule * GRANULE + u64::from(thread) * 512;
                        write(overlay, offset, &[0xa0 + thread; 512]).unwrap();
                    }
                });
            }
        });
        for granule in 0..20 {
            let bytes = read(&overlay, granule * GRANULE, 4096);
            for (thread, sector) in (0..8u8).zip(bytes.chunks(512)) {
                assert_eq!(sector, [0xa0 + thread; 512], "{granule} {thread}");
            }
        }
    }

    /// A sector of a granule that others bring into the overlay meanwhile, and what happens to it. Its
    /// thread alone changes it, so it always knows what is there.
    fn sector_at_work(overlay: &Overlay, offset: u64, before: &[u8], seed: u64) {
        let mut chance = Chance(seed);
        let mut expected = before.to_vec();
        for round in 0..40 {
            match chance.below(3) {
                0 => {
                    let byte = u8::try_from(1 + chance.below(250)).unwrap();
                    expected = vec![byte; 512];
                    write(overlay, offset, &expected).unwrap();
                }
                1 => {
                    expected = vec![0; 512];
                    overlay.zero(offset, 512).unwrap();
                }
                // A part of a granule is never given back.
                _ => overlay.discard(offset, 512).unwrap(),
            }
            assert!(read(overlay, offset, 512) == expected, "{round}: {offset}");
        }
    }

    #[test]
    fn reads_zeros_and_discards_of_a_granule_that_others_write_change_their_own_sectors_alone() {
        let (overlay, _, before) = overlay();
        for granule in 0..20 {
            let start = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for thread in 0..8u64 {
                    let (overlay, before, start) = (&overlay, &before, &start);
                    scope.spawn(move || {
                        let offset = granule * GRANULE + thread * 512;
                        let sector = &before[usize(offset)..usize(offset) + 512];
                        // Together, so that all find it in the base.
                        start.wait();
                        match thread {
                            // Reads what nobody changes: the base's, wherever it is by now.
                            0 => (0..200).for_each(|_| {
                                assert!(read(overlay, offset, 512) == sector, "{granule}");
                            }),
                            _ => sector_at_work(overlay, offset, sector, granule * 8 + thread),
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_granule_that_is_discarded_while_it_is_written_is_zeros_or_what_was_written() {
        let (overlay, _, before) = overlay();
        for granule in 0..20 {
            let offset = granule * GRANULE;
            let start = std::sync::Barrier::new(3);
            std::thread::scope(|scope| {
                let (overlay, start) = (&overlay, &start);
                for part in [0, 1] {
                    scope.spawn(move || {
                        start.wait();
                        write(overlay, offset + part * 2048, &[0xaa; 512]).unwrap();
                    });
                }
                start.wait();
                overlay.discard(offset, GRANULE).unwrap();
            });
            let now = read(&overlay, offset, 4096);
            let then = before[usize(offset)..usize(offset) + 4096].chunks(512);
            for (sector, (now, then)) in now.chunks(512).zip(then).enumerate() {
                let written = if sector % 4 == 0 { &[0xaa; 512][..] } else { then };
                assert!(now == written || now == [0; 512], "{granule} {sector}");
            }
        }
    }

    #[test]
    fn a_full_scratch_folder_is_named_and_what_was_there_before_still_is() {
        if !cfg!(target_os = "linux") {
            println!("skipped: only Linux has /dev/full");
            return;
        }
        let (good, base, before) = overlay();
        drop(good);
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let scratch = Scratch { file: Arc::new(full), folder: "/scratch".into() };
        let overlay = Overlay::new(Base::Raw(Raw::new(base)), scratch, LEN);
        for (offset, len) in [(0, 4096), (512, 512), (4096 - 512, 1024)] {
            let error = write(&overlay, offset, &vec![1; len]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            let text = error.to_string();
            assert!(text.contains("in /scratch") && text.contains("TMPDIR"), "{text}");
        }
        assert!(read(&overlay, 0, usize(LEN)) == before);
    }

    #[test]
    fn a_base_that_becomes_shorter_fails_what_needs_it_and_nothing_else() {
        let (overlay, base, _) = overlay();
        write(&overlay, 8 * GRANULE, &[7; 4096]).unwrap();
        base.set_len(4 * GRANULE).unwrap();
        let mut bytes = [0; 512];
        let error = overlay.read(6 * GRANULE, &[(&mut bytes[..]).into()], &mut || ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let error = write(&overlay, 6 * GRANULE, &[1; 512]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        // Whole granules need no base.
        write(&overlay, 6 * GRANULE, &[1; 4096]).unwrap();
        assert_eq!(read(&overlay, 6 * GRANULE, 4096), [1; 4096]);
        assert_eq!(read(&overlay, 8 * GRANULE, 4096), [7; 4096]);
    }
}
