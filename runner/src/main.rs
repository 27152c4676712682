//! The program: hands the command line and the host's backend to the library.

#![no_main] // `entry` has it

mod entry;

/// Does what `words` say, and returns the process's exit status.
fn obey(words: Vec<std::ffi::OsString>) -> u8 {
    runner::program::obey::<runner::host::Accelerator>(words)
}
