//! `runner` with a record of every exit its guest's vCPUs had, over the backend of this system or over
//! the one for macOS with its stand-in. The tests beside it compare the two.
//!
//! `TRACED_OVER` names the backend (`native`, `hvf`), `TRACED_INTO` the folder of the record. It is
//! written while the guest runs, which the jail does not allow: `--jail=off`.

#![no_main] // `entry` has it

#[path = "../../../../runner/src/entry.rs"]
mod entry;
mod record;
mod traced;

use traced::Traced;

/// Does what `words` say, and returns the process's exit status.
fn obey(words: Vec<std::ffi::OsString>) -> u8 {
    match std::env::var("TRACED_OVER").as_deref() {
        Ok("native") => runner::program::obey::<Traced<runner::host::Accelerator>>(words),
        Ok("hvf") => {
            // Without a real CPU the guest ends at the first instruction that the stand-in does not know.
            let _ = hvf_standin::run_guests();
            runner::program::obey::<Traced<hv_hvf::Hvf>>(words)
        }
        other => {
            eprintln!("TRACED_OVER is {other:?}: it has to be `native` or `hvf`");
            125
        }
    }
}
