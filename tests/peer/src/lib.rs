//! Both ends of a network that is tested. The same program talks in the guest and on the host, so that
//! whatever is tested one way is tested the other way as well; and a Linux that is a guest does what it
//! is told on its console, whichever monitor runs it.
//!
//! - `serve` answers, `ask` asks: TCP and UDP, each connection for one purpose
//! - `pattern` is what they send, so that a byte that is lost, doubled or moved shows
//! - `dns` is a name server with short and long answers
//! - `monitor` is the command line of runner, or of QEMU with its user network: the oracle
//! - `guest` is the Linux
//! - `vsock` asks and answers without a network

pub mod ask;
pub mod dns;
pub mod guest;
pub mod monitor;
pub mod pattern;
pub mod serve;
pub mod vsock;

/// What went wrong, as a sentence.
pub type Result<T> = std::result::Result<T, String>;
