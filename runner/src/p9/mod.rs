//! A folder of the host, served to the guest: 9P2000.L, the dialect of Linux's `9p` file system
//! (ericvh/diod `protocol.md`; Plan 9 manual, section 5; `include/net/9p/9p.h`).
//!
//! The guest names files by fids. A fid is a path below the folder and holds no descriptor unless it is
//! open. Every operation begins at the folder's own descriptor and goes down from there, a component at
//! a time, and never through a symbolic link (`tree`): what a link says is for the guest to follow,
//! and a name is one component. No operation goes up: `..` shortens a path, and at the folder it stays.
//!
//! What the guest makes belongs to the user who runs runner. Owners do not change, set-user-ID and
//! set-group-ID are never set, and neither devices nor sockets nor pipes are made or opened. Other file
//! systems mounted within the folder are not part of it.
//!
//! The folder and what is in it (`tree`, `path`, `errno`) are also those of Hermit's files
//! ([`crate::devices::uhyve`]).
//!
//! All of it is bounded: fids and what their paths take, open files, the size of a message.

#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)
)]

mod errno;
mod fids;
mod message;
mod path;
mod server;
mod tree;
mod wire;

#[cfg_attr(target_os = "linux", path = "sys/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sys/macos.rs")]
mod sys;

#[cfg(test)]
mod tests;

pub use errno::Errno;
pub use path::{Name, Path};
pub use server::Server;
pub(crate) use server::{Wanted, entry_kind};
pub use tree::{Attributes, Folder, Unfit};
pub(crate) use tree::{Entry, Listing};

/// Bytes of the largest message. Linux's driver has no use for more: 128 descriptors, a page each.
pub const MAX_MESSAGE: u32 = 512 << 10;

/// Bytes of what precedes every message's body: size, kind, tag.
pub const HEADER: usize = 7;

/// Bytes of an answer that says what went wrong: there is always room for one, or none at all.
pub const SHORTEST_ANSWER: usize = HEADER + 4;

/// How many files of a share can be open at once.
pub const MAX_OPEN: usize = 1024;

/// Descriptors that a share has at most, those of a walk through the folder included.
pub const DESCRIPTORS: u64 = MAX_OPEN as u64 + 8;
