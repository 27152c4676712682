//! What the tests are written with.

pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod program;
pub(crate) mod qcow2;
pub(crate) mod script;
pub(crate) mod terminal;
#[cfg(target_os = "linux")]
pub(crate) mod trace;
pub(crate) mod usage;

/// Ends the test, which passes, with one line that says why it cannot run here.
macro_rules! or_skip {
    ($needed:expr) => {
        match $needed {
            Ok(found) => found,
            Err(why) => {
                println!("skipped: {why}");
                return;
            }
        }
    };
}
pub(crate) use or_skip;
