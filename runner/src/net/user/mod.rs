//! A network in user space: the guest has an address of its own on a network of its own, and what it
//! sends comes out of ordinary sockets of this process. QEMU's address plan (QEMU, "Network emulation",
//! user mode), so that images built for it work unchanged.
//!
//! A frame goes from [`User`] to the part that its protocol belongs to. Each part answers by the
//! [`outbox::Outbox`], which holds a few small frames, or keeps what it has to say until the guest has
//! room ([`tcp`]). [`policy`] decides for all of them what the guest may reach. Sockets are opened,
//! read and written by [`crate::io::socket`] alone.

pub mod addresses;
mod outbox;
mod packet;
pub mod policy;
pub mod tcp;
mod wire;
