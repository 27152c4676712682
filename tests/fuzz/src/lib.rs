//! What the fuzz targets do with their input, and the list of them.
//!
//! Each target is a function here, which drives the real parser or device and checks what it
//! promises beyond not panicking. libFuzzer runs it from `fuzz_targets/NAME.rs`, and
//! `runner/tests/fuzz_corpus.rs` includes this file and runs it on all of `corpus/NAME/`, without
//! libFuzzer. A new target is a function, a line in [`TARGETS`], a file in `fuzz_targets/` with its
//! `[[bin]]`, and a few seeds in `corpus/`.

pub mod balloon;
pub mod block;
pub mod chain;
pub mod config;
pub mod console;
mod disks;
mod driver;
pub mod frames;
pub mod hvt;
pub mod image;
mod input;
pub mod mmio;
pub mod nic;
pub mod p9;
pub mod pci;
pub mod pl011;
pub mod qcow2;
pub mod rng;
pub mod serial;
mod served;
pub mod state;
pub mod uhyve;
pub mod vsock;

/// A target: the name of its corpus, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("arm64", image::arm64),
    ("balloon", balloon::balloon),
    ("block", block::block),
    ("bzimage", image::bzimage),
    ("chain", chain::chain),
    ("console", console::console),
    ("config", config::config),
    ("elf", image::elf),
    ("frames", frames::frames),
    ("hvt", hvt::hvt),
    ("image", image::image),
    ("mbr", image::mbr),
    ("mmio", mmio::mmio),
    ("pci", pci::pci),
    ("nic", nic::nic),
    ("notes", image::notes),
    ("p9", p9::p9),
    ("pl011", pl011::pl011),
    ("qcow2", qcow2::qcow2),
    ("rng", rng::rng),
    ("serial", serial::serial),
    ("state", state::state),
    ("tfs", image::tfs),
    ("uhyve", uhyve::uhyve),
    ("vsock", vsock::vsock),
];
