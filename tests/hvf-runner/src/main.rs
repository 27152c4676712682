//! `runner` over the backend for macOS, with a stand-in for Apple's framework: on an aarch64 Linux with
//! KVM the whole program boots real guests through hv-hvf. It is the program's own entry and all of its
//! library; only the backend is another one.

#![no_main] // `entry` has it

#[path = "../../../runner/src/entry.rs"]
mod entry;

/// Does what `words` say, and returns the process's exit status.
fn obey(words: Vec<std::ffi::OsString>) -> u8 {
    // Without a real CPU the guest ends at the first instruction that the stand-in does not know.
    let _ = hvf_standin::run_guests();
    runner::program::obey::<hv_hvf::Hvf>(words)
}
