//! A request's parts (virtio 1.2 §5.2.6): a header, data, a status byte, wherever the driver cut
//! them into descriptors (§2.7.4.1: a device makes no assumption on that).

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES,
};

use super::SECTOR;
use crate::devices::virtio::chain::{Broken, Buffers, Chain};

/// Bytes of the header: type, reserved, sector.
const HEADER: usize = 16;

/// What the driver wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Read from the disk.
    Read {
        /// First sector.
        sector: u64,
    },
    /// Write to the disk.
    Write {
        /// First sector.
        sector: u64,
    },
    /// Make all that was written durable.
    Flush,
    /// Tell the disk's name.
    GetId,
    /// Parts of the disk do not matter any more.
    Discard,
    /// Parts of the disk become zeros.
    WriteZeroes,
    /// Something else.
    Unknown,
    /// The header is not all there.
    Truncated,
}

/// How a request ended: the status byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ok,
    Error,
    Unsupported,
}

impl Answer {
    pub(super) fn byte(self) -> u8 {
        let status = match self {
            Answer::Ok => VIRTIO_BLK_S_OK,
            Answer::Error => VIRTIO_BLK_S_IOERR,
            Answer::Unsupported => VIRTIO_BLK_S_UNSUPP,
        };
        status.to_le_bytes()[0]
    }
}

/// A request taken apart. Nothing has been done for it.
#[derive(Debug)]
pub(super) struct Request<'m> {
    pub(super) operation: Operation,
    /// From the driver to the device.
    pub(super) output: Buffers<'m>,
    /// From the device to the driver.
    pub(super) input: Buffers<'m>,
    /// One byte.
    status: Buffers<'m>,
}

impl<'m> Request<'m> {
    /// Takes `chain` apart.
    ///
    /// # Errors
    /// `NoAnswer` without a byte for the status.
    pub(super) fn parse(chain: Chain<'m>) -> Result<Self, Broken> {
        let Chain { readable: mut output, writable: mut status } = chain;
        let header = output.take(HEADER as u64);
        let input = status.len().checked_sub(1).ok_or(Broken::NoAnswer)?;
        let input = status.take(input);
        Ok(Self { operation: operation(&header), output, input, status })
    }

    /// What `chain` asks for and what comes with it, without taking it.
    pub(super) fn peek(chain: &Chain<'m>) -> (Operation, Buffers<'m>) {
        let mut output = chain.readable.clone();
        let header = output.take(HEADER as u64);
        (operation(&header), output)
    }

    /// Answers. `filled` is how many bytes of the input hold data now; returns how many bytes were
    /// written from the first on, which is what the used ring tells.
    pub(super) fn answer(self, answer: Answer, filled: u64) -> u32 {
        self.status.copy_from(&[answer.byte()]);
        let status = u64::from(filled == self.input.len());
        u32::try_from(filled.saturating_add(status)).unwrap_or(u32::MAX)
    }
}

fn operation(header: &Buffers<'_>) -> Operation {
    let mut kind = [0; 4];
    let mut sector = [0; 8];
    let mut bytes = [0; HEADER];
    if header.copy_to(&mut bytes) < bytes.len() {
        return Operation::Truncated;
    }
    kind.copy_from_slice(bytes.get(..4).unwrap_or_default());
    sector.copy_from_slice(bytes.get(8..).unwrap_or_default());
    let sector = u64::from_le_bytes(sector);
    match u32::from_le_bytes(kind) {
        VIRTIO_BLK_T_IN => Operation::Read { sector },
        VIRTIO_BLK_T_OUT => Operation::Write { sector },
        VIRTIO_BLK_T_FLUSH => Operation::Flush,
        VIRTIO_BLK_T_GET_ID => Operation::GetId,
        VIRTIO_BLK_T_DISCARD => Operation::Discard,
        VIRTIO_BLK_T_WRITE_ZEROES => Operation::WriteZeroes,
        _ => Operation::Unknown,
    }
}

/// The byte on the disk where `len` bytes from `sector` on begin, if they are whole sectors and all
/// of them are on a disk of `sectors`.
pub(super) fn place(sector: u64, len: u64, sectors: u64) -> Option<u64> {
    let end = sector.checked_add(len / SECTOR)?;
    let fits = len.is_multiple_of(SECTOR) && end <= sectors;
    sector.checked_mul(SECTOR).filter(|_| fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_sectors_that_are_all_on_the_disk_have_a_place() {
        // B43, B44
        assert_eq!(place(0, 512, 8), Some(0));
        assert_eq!(place(7, 512, 8), Some(7 * 512));
        assert_eq!(place(8, 0, 8), Some(8 * 512));
        for (sector, len) in [
            (0, 511),
            (0, 513),
            (7, 1024),
            (8, 512),
            (9, 0),
            (1 << 63, 512),
            (u64::MAX, 512),
            (u64::MAX, 0),
            (0, u64::MAX - 511),
            (u64::MAX / 512 + 1, 512),
        ] {
            assert_eq!(place(sector, len, 8), None, "{sector} {len}");
        }
        assert_eq!(place(u64::MAX / 512 + 1, 0, u64::MAX), None);
    }
}
