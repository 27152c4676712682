//! Descriptor chains, read once into host memory and checked (virtio 1.2 §2.7.5).
//!
//! `virtio-queue` has a walker of its own; it ends a broken chain as if it were whole, follows
//! indirect tables that were not negotiated, and ignores NEXT beside INDIRECT. Here each of these
//! has a name.

use hv::GuestMemory;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

/// The most descriptors in a chain: as many as the largest queue here has entries. A driver stays
/// below (§2.7.5.3.1).
pub const MAX_SEGMENTS: u16 = 256;

/// Bytes of a descriptor.
const DESCRIPTOR: u32 = 16;

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An index that the table does not have.
    #[error("descriptor {0} is beyond the table")]
    Index(u16),
    /// A loop, or more descriptors than there may be.
    #[error("it has no end")]
    TooLong,
    /// Part of a table is not in RAM.
    #[error("its table is not in the guest's RAM")]
    Table,
    /// An indirect table although the driver did not ask for the feature.
    #[error("an indirect table, which was not negotiated")]
    NotNegotiated,
    /// An indirect table inside another, or with a descriptor after it.
    #[error("an indirect table where none may be")]
    Indirect,
    /// An indirect table that is empty, has a part of a descriptor, or too many.
    #[error("an indirect table of {0} bytes")]
    TableLength(u32),
    /// Device-readable behind device-writable (§2.7.4.2).
    #[error("a readable buffer behind a writable one")]
    Order,
    /// More than 4 GiB in all (§2.7.5.2).
    #[error("more than 4 GiB in one chain")]
    TooLarge,
    /// A buffer outside of RAM.
    #[error("a buffer of {len} bytes at {address:#x} is not in the guest's RAM")]
    Buffer {
        /// Guest physical address.
        address: u64,
        /// Length in bytes.
        len: u32,
    },
    /// What this kind of device cannot work with: it has no way to answer.
    #[error("no room for an answer")]
    NoAnswer,
    /// What a balloon is given: no whole page numbers, or too many.
    #[error("{0} bytes are no list of page numbers")]
    PageList(u64),
    /// A page of a balloon's outside of RAM.
    #[error("page {0:#x} is not in the guest's RAM")]
    Page(u32),
    /// Fewer bytes than the header of what should be in it.
    #[error("no whole header")]
    NoHeader,
}

/// Where chains are.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Guest physical address of the descriptor table.
    pub address: u64,
    /// Its number of descriptors.
    pub size: u16,
    /// Whether descriptors may refer to indirect tables.
    pub indirect: bool,
}

/// The buffers of one request, in order.
#[derive(Debug, Default)]
pub struct Chain<'m> {
    /// What the device may read.
    pub readable: Buffers<'m>,
    /// What the device may write.
    pub writable: Buffers<'m>,
}

impl<'m> Chain<'m> {
    /// Follows the chain that begins at `head`. Each descriptor is read once.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn read(memory: &'m GuestMemory, table: Table, head: u16) -> Result<Self, Broken> {
        let mut chain = Self::default();
        chain.read_again(memory, table, head)?;
        Ok(chain)
    }

    /// The same in place of what is in here, whose room is used again.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn read_again(
        &mut self,
        memory: &'m GuestMemory,
        table: Table,
        head: u16,
    ) -> Result<(), Broken> {
        self.readable.clear();
        self.writable.clear();
        let mut walk = Walk { table, index: head, inside: false };
        // One step more than descriptors: the one that leads to an indirect table.
        for _ in 0..=MAX_SEGMENTS {
            let descriptor = walk.descriptor(memory)?;
            if descriptor.refers_to_indirect_table() {
                walk.enter(&descriptor)?;
                continue;
            }
            self.push(memory, &descriptor)?;
            if !descriptor.has_next() {
                return Ok(());
            }
            walk.index = descriptor.next();
        }
        Err(Broken::TooLong)
    }

    /// Bytes in all.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks for nothing")]
    pub fn len(&self) -> u64 {
        self.readable.len.saturating_add(self.writable.len)
    }

    fn push(&mut self, memory: &'m GuestMemory, descriptor: &Descriptor) -> Result<(), Broken> {
        let buffers = match descriptor.is_write_only() {
            true => &mut self.writable,
            false if self.writable.parts > 0 => return Err(Broken::Order),
            false => &mut self.readable,
        };
        buffers.push(memory, descriptor.addr(), descriptor.len())?;
        match self.len() <= 1 << 32 {
            true => Ok(()),
            false => Err(Broken::TooLarge),
        }
    }
}

struct Walk {
    table: Table,
    index: u16,
    /// In an indirect table.
    inside: bool,
}

impl Walk {
    fn descriptor(&self, memory: &GuestMemory) -> Result<Descriptor, Broken> {
        if self.index >= self.table.size {
            return Err(Broken::Index(self.index));
        }
        let offset = u64::from(self.index).saturating_mul(DESCRIPTOR.into());
        let address = GuestAddress(self.table.address).checked_add(offset).ok_or(Broken::Table)?;
        memory.read_obj(address).map_err(|_| Broken::Table)
    }

    fn enter(&mut self, descriptor: &Descriptor) -> Result<(), Broken> {
        if !self.table.indirect {
            return Err(Broken::NotNegotiated);
        }
        if self.inside || descriptor.has_next() {
            return Err(Broken::Indirect);
        }
        let len = descriptor.len();
        let entries = u16::try_from(len / DESCRIPTOR).ok().filter(|entries| *entries > 0);
        match entries {
            Some(size) if len.is_multiple_of(DESCRIPTOR) => {
                let address = descriptor.addr().raw_value();
                *self =
                    Self { table: Table { address, size, ..self.table }, index: 0, inside: true };
                Ok(())
            }
            _ => Err(Broken::TableLength(len)),
        }
    }
}

/// Guest memory in pieces, as if it were one.
#[derive(Clone, Debug, Default)]
pub struct Buffers<'m> {
    slices: Vec<VolatileSlice<'m>>,
    len: u64,
    /// Descriptors, those without a byte included.
    parts: usize,
}

impl<'m> Buffers<'m> {
    fn clear(&mut self) {
        self.slices.clear();
        (self.len, self.parts) = (0, 0);
    }

    fn push(
        &mut self,
        memory: &'m GuestMemory,
        address: GuestAddress,
        len: u32,
    ) -> Result<(), Broken> {
        let outside = Broken::Buffer { address: address.raw_value(), len };
        self.parts = self.parts.saturating_add(1);
        // Pieces of RAM may lie side by side: a buffer can be several slices.
        let count = usize::try_from(len).map_err(|_| outside)?;
        for slice in memory.get_slices(address, count) {
            self.slices.push(slice.map_err(|_| outside)?);
        }
        self.len = self.len.saturating_add(len.into());
        Ok(())
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is not one byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces.
    pub fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.slices
    }

    /// Takes the first `len` bytes off; all of them when there are fewer.
    pub fn take(&mut self, len: u64) -> Buffers<'m> {
        let mut taken = Buffers::default();
        let mut rest = Buffers::default();
        for slice in self.slices.drain(..) {
            let wanted = len.saturating_sub(taken.len);
            let mid = usize::try_from(wanted).map_or(slice.len(), |wanted| wanted.min(slice.len()));
            // `mid` lies within the slice, so this cannot fail.
            if let Ok((before, after)) = slice.split_at(mid) {
                taken.add(before);
                rest.add(after);
            }
        }
        *self = rest;
        taken
    }

    fn add(&mut self, slice: VolatileSlice<'m>) {
        if !slice.is_empty() {
            self.len = self.len.saturating_add(slice.len() as u64);
            self.slices.push(slice);
        }
    }

    /// Copies from the first bytes on. Returns how many.
    pub fn copy_to(&self, bytes: &mut [u8]) -> usize {
        let mut done = 0usize;
        for slice in &self.slices {
            let rest = bytes.get_mut(done..).unwrap_or_default();
            done = done.saturating_add(slice.copy_to(rest));
        }
        done
    }

    /// Copies into the first bytes. Returns how many.
    pub fn copy_from(&self, bytes: &[u8]) -> usize {
        let mut done = 0usize;
        for slice in &self.slices {
            let rest = bytes.get(done..).unwrap_or_default();
            slice.copy_from(rest);
            done = done.saturating_add(rest.len().min(slice.len()));
        }
        done
    }
}
