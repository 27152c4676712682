//! Cutting KVM's port and MMIO exits into the contract's accesses.
//!
//! A string instruction brings many elements in one exit (api.rst 5, KVM_EXIT_IO: `count`), and an
//! access that crosses a page comes in odd pieces (3 and 5 bytes). The index is kept here, and KVM
//! runs on only when the last piece is answered.

use hv::{Address, Exit, Width};
use kvm_ioctls::VcpuFd;

use crate::run_page;

/// What KVM waits for, and how much of it is done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Access {
    /// Nothing.
    #[default]
    Nothing,
    /// One or more elements of a port access.
    Port(Port),
    /// One or more pieces of an MMIO access.
    Mmio(Mmio),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    pub(crate) port: u16,
    /// Bytes of an element.
    pub(crate) size: usize,
    pub(crate) count: usize,
    /// The element that is due.
    pub(crate) index: usize,
    pub(crate) write: bool,
    /// Where the elements are in the shared area, in bytes.
    pub(crate) offset: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Mmio {
    pub(crate) gpa: u64,
    pub(crate) data: [u8; 8],
    /// Bytes of `data` that count, at most 8.
    pub(crate) len: usize,
    /// Bytes that are answered.
    pub(crate) done: usize,
    pub(crate) write: bool,
}

impl Access {
    /// The exit for the piece that is due, if one is.
    pub(crate) fn exit(&self, fd: &mut VcpuFd) -> Option<Exit> {
        match self {
            Access::Nothing => None,
            Access::Port(port) if port.index < port.count => {
                let width = Width::at_most(port.size)?;
                let data = if port.write { run_page::port_data(fd, port) } else { [0; 8] };
                Some(exit(Address::Port(port.port), width, port.write, u64::from_le_bytes(data)))
            }
            Access::Mmio(mmio) if mmio.done < mmio.len => {
                let width = Width::at_most(mmio.len - mmio.done)?;
                let at = Address::Mmio(mmio.gpa.wrapping_add(mmio.done as u64));
                let value = u64::from_le_bytes(mmio.data) >> (8 * mmio.done);
                Some(exit(at, width, mmio.write, value))
            }
            Access::Port(_) | Access::Mmio(_) => None,
        }
    }

    /// Takes the answer to the piece that was due (0 for a write).
    pub(crate) fn advance(&mut self, fd: &mut VcpuFd, value: u64) {
        match self {
            Access::Nothing => {}
            Access::Port(port) => {
                if !port.write {
                    run_page::answer_port(fd, port, value.to_le_bytes());
                }
                port.index += 1;
            }
            Access::Mmio(mmio) => {
                let width = Width::at_most(mmio.len - mmio.done).map_or(0, Width::bytes);
                if !mmio.write {
                    let bytes = value.to_le_bytes();
                    for (to, from) in mmio.data.iter_mut().skip(mmio.done).zip(&bytes).take(width) {
                        *to = *from;
                    }
                }
                mmio.done += width;
                if !mmio.write && mmio.done == mmio.len {
                    run_page::answer_mmio(fd, mmio.data);
                }
            }
        }
    }
}

fn exit(at: Address, width: Width, write: bool, value: u64) -> Exit {
    if write {
        Exit::Write { at, width, value: value & width.mask() }
    } else {
        Exit::Read { at, width }
    }
}
