//! The guest's room for packets: the chains of its receive queue.
//!
//! What a socket has may be more than one chain can hold: several are gathered, the socket is read once
//! into all of them, and each is a packet.

use std::io;

use hv::GuestMemory;
use vm_memory::VolatileSlice;

use super::RECEIVE;
use super::packet::{HEADER, HEADER_LEN, Header};
use crate::devices::virtio::chain::{Broken, Chain};
use crate::devices::virtio::virtqueues::Virtqueues;
use crate::net::frame::Bytes;

/// Chains for one read: with buffers of 4 KiB, as Linux has them, 64 KiB.
const CHAINS: usize = 16;

/// A chain that was read, and is not the guest's to have back yet.
#[derive(Clone, Copy, Debug)]
struct Taken {
    head: u16,
    /// Its pieces among all.
    first: usize,
    count: usize,
    /// Bytes behind a header.
    room: usize,
}

/// A receive queue for a while.
pub(super) struct Inbox<'a, 'm> {
    memory: &'m GuestMemory,
    queues: &'a mut Virtqueues,
    chain: Chain<'m>,
    taken: Vec<Taken>,
    slices: Vec<VolatileSlice<'m>>,
    /// Without what is for headers.
    behind: Vec<VolatileSlice<'m>>,
}

impl<'a, 'm> Inbox<'a, 'm> {
    pub(super) fn new(memory: &'m GuestMemory, queues: &'a mut Virtqueues) -> Self {
        let (chain, taken, slices, behind) = Default::default();
        Self { memory, queues, chain, taken, slices, behind }
    }

    /// Bytes that the next packet can have behind its header; `None` when there is no room for one.
    pub(super) fn next(&mut self) -> Option<usize> {
        if self.taken.is_empty() {
            self.take();
        }
        self.taken.first().map(|taken| taken.room)
    }

    /// Gives the guest a packet without bytes, for which there is room.
    pub(super) fn put(&mut self, header: &Header) {
        if let Some(taken) = self.taken.first().copied() {
            self.give(taken, header, 0);
            self.done(1);
        }
    }

    /// Gives the guest up to `most` bytes that `read` brings into its memory, in as many packets as they
    /// take, each with `header`, but for its length. Returns what `read` returned.
    ///
    /// # Errors
    /// As `read`.
    pub(super) fn fill(
        &mut self,
        most: usize,
        header: &Header,
        read: impl FnOnce(Bytes<'_>) -> io::Result<Option<usize>>,
    ) -> io::Result<Option<usize>> {
        self.gather(most);
        let read = read(Bytes::new(&self.behind).take(most));
        let Ok(Some(mut left @ 1..)) = read else { return read };
        let mut packets = 0usize;
        while left > 0
            && let Some(taken) = self.taken.get(packets).copied()
        {
            let count = left.min(taken.room);
            left = left.saturating_sub(count);
            self.give(taken, header, count);
            packets = packets.saturating_add(1);
        }
        self.done(packets);
        read
    }

    /// Gives back to the ring what was gathered and not used.
    pub(super) fn close(mut self) {
        while let Some(taken) = self.taken.pop() {
            self.queues.put_back(RECEIVE, taken.head);
        }
    }

    /// Gathers chains for `most` bytes, or as many as there are.
    fn gather(&mut self, most: usize) {
        let sum = |taken: &[Taken]| taken.iter().fold(0usize, |sum, t| sum.saturating_add(t.room));
        while sum(&self.taken) < most
            && self.taken.len() < CHAINS
            // What has no room for a byte is a packet of another kind.
            && self.taken.last().is_none_or(|taken| taken.room > 0)
            && self.take()
        {}
        self.behind.clear();
        for taken in &self.taken {
            let end = taken.first.saturating_add(taken.count);
            let mut header = HEADER;
            for slice in self.slices.get(taken.first..end).unwrap_or_default() {
                let cut = header.min(slice.len());
                header = header.saturating_sub(cut);
                self.behind.extend(slice.offset(cut).ok().filter(|slice| !slice.is_empty()));
            }
        }
    }

    /// Reads the next chain. Whether there is one.
    fn take(&mut self) -> bool {
        let Some(head) = self.queues.take_into(self.memory, RECEIVE, &mut self.chain) else {
            return false;
        };
        let writable = &self.chain.writable;
        let len = usize::try_from(writable.len()).unwrap_or(usize::MAX);
        let Some(room) = len.checked_sub(HEADER) else {
            self.queues.refuse(head, Broken::NoHeader);
            return false;
        };
        let (first, count) = (self.slices.len(), writable.slices().len());
        self.slices.extend_from_slice(writable.slices());
        self.taken.push(Taken { head, first, count, room });
        true
    }

    /// Gives the guest a packet whose bytes are there already.
    fn give(&mut self, taken: Taken, header: &Header, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let end = taken.first.saturating_add(taken.count);
        Header { len, ..*header }.write(self.slices.get(taken.first..end).unwrap_or_default());
        let written = HEADER_LEN.saturating_add(len);
        self.queues.give_back(self.memory, RECEIVE, taken.head, written);
    }

    /// The first `count` chains are the guest's again.
    fn done(&mut self, count: usize) {
        self.taken.drain(..count.min(self.taken.len()));
        if self.taken.is_empty() {
            self.slices.clear();
        }
    }
}
