//! The guest's room for frames: the chains of its receive queue (virtio 1.2 §5.1.6.3, §5.1.6.4).
//!
//! With mergeable buffers a frame may lie in several chains, which the guest sees all at once;
//! without, it has one chain, or is dropped.

use std::collections::VecDeque;
use std::io;

use hv::GuestMemory;
use vm_memory::VolatileSlice;

use crate::devices::virtio::Fault;
use crate::devices::virtio::chain::{Broken, Chain};
use crate::devices::virtio::ring::Ring;
use crate::net::frame::{HEADER, LARGEST, Offload};
use crate::net::{Inbox, Put};

/// Chains that were read, and are not the guest's to have back yet.
#[derive(Debug, Default)]
pub(super) struct Gathered<'m> {
    chain: Chain<'m>,
    /// Of each its first descriptor, bytes and slices.
    chains: VecDeque<(u16, usize, usize)>,
    slices: VecDeque<VolatileSlice<'m>>,
    len: usize,
    /// What is given to a system call, and to the guest.
    vectors: Vec<VolatileSlice<'m>>,
    used: Vec<(u16, u32)>,
}

/// What a receive queue needs beside its ring, from one turn to the next.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) frames: u64,
    /// Larger than the guest's buffers.
    pub(super) too_large: u64,
}

/// What a guest is that receives nothing: without a driver, or without a receive queue.
pub(super) struct NoRoom;

impl Inbox for NoRoom {
    fn room(&mut self, _most: usize) -> usize {
        0
    }

    fn put(&mut self, _offload: Offload, _pieces: &[&[u8]]) -> Put {
        Put::Full
    }

    fn fill(
        &mut self,
        _most: usize,
        _with_header: bool,
        _read: &mut dyn FnMut(&[VolatileSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Put> {
        Ok(Put::Full)
    }
}

/// A receive queue for a while. What was gathered goes back to its ring at the end.
pub(super) struct Room<'a, 'm> {
    memory: &'m GuestMemory,
    ring: &'a mut Ring,
    gathered: &'a mut Gathered<'m>,
    mergeable: bool,
    /// The guest may have made more available.
    rung: &'a mut bool,
    counts: &'a mut Counts,
    fault: Option<Fault>,
}

impl<'a, 'm> Room<'a, 'm> {
    pub(super) fn new(
        memory: &'m GuestMemory,
        ring: &'a mut Ring,
        gathered: &'a mut Gathered<'m>,
        mergeable: bool,
        rung: &'a mut bool,
        counts: &'a mut Counts,
    ) -> Self {
        Self { memory, ring, gathered, mergeable, rung, counts, fault: None }
    }

    /// Gives back what was gathered.
    ///
    /// # Errors
    /// What the driver did that ends the device's service.
    pub(super) fn close(self) -> Result<(), Fault> {
        while let Some((head, ..)) = self.gathered.chains.pop_back() {
            self.ring.put_back(head);
        }
        self.gathered.slices.clear();
        self.gathered.len = 0;
        self.fault.map_or(Ok(()), Err)
    }

    /// Gathers chains for `len` bytes, as many as are needed or there are; without mergeable buffers
    /// one.
    fn gather(&mut self, len: usize) {
        while self.gathered.len < len && self.fault.is_none() {
            let first = self.gathered.chains.is_empty();
            if !first && !self.mergeable {
                return;
            }
            match self.next() {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => self.fault = Some(fault),
            }
        }
    }

    /// Reads the next chain. Whether there is one.
    fn next(&mut self) -> Result<bool, Fault> {
        if !self.ring.is_waiting() && std::mem::take(self.rung) {
            self.ring.collect(self.memory)?;
        }
        let Some((head, more)) = self.ring.take(self.memory)? else { return Ok(false) };
        *self.rung |= more;
        let gathered = &mut *self.gathered;
        let broken = |error| Fault::Chain { head, error };
        gathered.chain.read_again(self.memory, self.ring.table(), head).map_err(broken)?;
        let writable = &gathered.chain.writable;
        let len = usize::try_from(writable.len()).map_err(|_| broken(Broken::TooLarge))?;
        // What cannot even say what it is for is no room.
        if len < HEADER && gathered.chains.is_empty() || len == 0 {
            return Err(broken(Broken::NoHeader));
        }
        gathered.chains.push_back((head, len, writable.slices().len()));
        gathered.slices.extend(writable.slices());
        gathered.len = gathered.len.saturating_add(len);
        Ok(true)
    }

    /// Gives the guest the first chains, in which `total` bytes are: `header` of them are not yet.
    fn finish(&mut self, total: usize, header: impl FnOnce(u16) -> [u8; HEADER], keep: usize) {
        let gathered = &mut *self.gathered;
        gathered.used.clear();
        let (mut left, mut slices) = (total, 0usize);
        while left > 0
            && let Some((head, len, count)) = gathered.chains.pop_front()
        {
            let written = left.min(len);
            gathered.used.push((head, u32::try_from(written).unwrap_or(u32::MAX)));
            gathered.len = gathered.len.saturating_sub(len);
            slices = slices.saturating_add(count);
            left = left.saturating_sub(written);
        }
        let buffers = u16::try_from(gathered.used.len()).unwrap_or(u16::MAX);
        let header = header(buffers);
        let (mut at, from) = (keep, header.get(keep..).unwrap_or_default());
        let mut rest = from;
        for slice in gathered.slices.iter().take(slices) {
            let skip = at.min(slice.len());
            at = at.saturating_sub(skip);
            if let Ok(place) = slice.offset(skip) {
                let count = rest.len().min(place.len());
                place.copy_from(rest.get(..count).unwrap_or_default());
                rest = rest.get(count..).unwrap_or_default();
            }
        }
        gathered.slices.drain(..slices.min(gathered.slices.len()));
        self.counts.frames = self.counts.frames.saturating_add(1);
        if let Err(fault) = self.ring.give_back_all(self.memory, &gathered.used) {
            self.fault = Some(fault);
        }
    }

    /// Writes `pieces` behind the place of the header.
    fn copy(&self, pieces: &[&[u8]]) {
        let mut slices = self.gathered.slices.iter().copied();
        let (mut place, mut skip) = (slices.next(), HEADER);
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty()
                && let Some(slice) = place
            {
                let before = skip.min(slice.len());
                skip = skip.saturating_sub(before);
                let Ok(free) = slice.offset(before) else { return };
                let count = rest.len().min(free.len());
                free.copy_from(rest.get(..count).unwrap_or_default());
                rest = rest.get(count..).unwrap_or_default();
                let left = free.offset(count).ok().filter(|left| !left.is_empty());
                place = left.or_else(|| slices.next());
            }
        }
    }

    fn too_large(&mut self) -> Put {
        self.counts.too_large = self.counts.too_large.saturating_add(1);
        Put::Done
    }

    /// Whether a frame that has no room in what was gathered will never have any: one chain is all it
    /// may have, or all that the queue has were gathered.
    fn never(&self) -> bool {
        let chains = self.gathered.chains.len();
        let all = chains >= usize::from(self.ring.table().size);
        self.fault.is_none() && chains > 0 && (!self.mergeable || all)
    }
}

impl Inbox for Room<'_, '_> {
    fn room(&mut self, most: usize) -> usize {
        self.gather(most.min(LARGEST).saturating_add(HEADER));
        self.gathered.len.saturating_sub(HEADER).min(most)
    }

    fn put(&mut self, offload: Offload, pieces: &[&[u8]]) -> Put {
        let len = pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len()));
        let total = len.saturating_add(HEADER);
        self.gather(total);
        if self.gathered.len < total {
            return if self.never() { self.too_large() } else { Put::Full };
        }
        self.copy(pieces);
        let headers = pieces.first().map_or(0, |headers| headers.len());
        let headers = u16::try_from(headers).unwrap_or_default();
        self.finish(total, |buffers| offload.header(headers, buffers), 0);
        Put::Done
    }

    fn fill(
        &mut self,
        most: usize,
        with_header: bool,
        read: &mut dyn FnMut(&[VolatileSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Put> {
        // With a header of its own, what is read is at most that much more.
        let total = most.saturating_add(HEADER);
        self.gather(total);
        let never = self.gathered.len < total && self.never();
        let enough = self.gathered.len >= total || never;
        if !enough || self.gathered.len <= HEADER {
            return Ok(Put::Full);
        }
        let before = if with_header { 0 } else { HEADER };
        let gathered = &mut *self.gathered;
        gathered.vectors.clear();
        let mut skip = before;
        for slice in &gathered.slices {
            let cut = skip.min(slice.len());
            skip = skip.saturating_sub(cut);
            gathered.vectors.extend(slice.offset(cut).ok().filter(|slice| !slice.is_empty()));
        }
        let read = read(&gathered.vectors)?;
        let filled = read.saturating_add(before);
        if never && filled >= gathered.len {
            // It was cut off, perhaps.
            return Ok(self.too_large());
        }
        // Of a header that came along only the number of buffers is not right yet.
        let keep = if with_header { HEADER.saturating_sub(size_of::<u16>()) } else { 0 };
        if filled <= HEADER || filled > gathered.len {
            return Ok(Put::Done);
        }
        self.finish(filled, |buffers| Offload::default().header(0, buffers), keep);
        Ok(Put::Done)
    }
}
