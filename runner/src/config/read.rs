//! Config files from disk.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::{Config, Error};
use crate::log::printable_path;

/// The largest config in bytes. Those of OPS's documentation have a few hundred.
pub const MAX_SIZE: u64 = 1 << 20;

/// So many names of a directory are looked at for one that is near to a missing config's.
const MOST_NAMES: usize = 4096;

/// Reads config files, the later over the earlier.
///
/// # Errors
/// A file that is missing, unreadable, no regular file or larger than [`MAX_SIZE`]; what [`Config::read`] refuses;
/// variables for OPS to fill in.
pub fn load(paths: &[PathBuf]) -> Result<Config, Error> {
    let expand = std::env::var_os("ops_render_config").is_some_and(|value| value == "true");
    let mut config = Config::default();
    for path in paths {
        let name = printable_path(path);
        let text = text(path, &name)?;
        if expand && text.contains('$') {
            return Err(Error(format!(
                "{name}: ops_render_config=true asks for variables to be filled in, which runner does not do; \
                 type `envsubst <{name} >full.json` and give -c full.json"
            )));
        }
        config.read(&name, &text)?;
    }
    Ok(config)
}

fn text(path: &Path, name: &str) -> Result<String, Error> {
    let fail = |error: &std::io::Error| match error.kind() {
        ErrorKind::NotFound => Error(match nearest(path) {
            Some(nearest) => format!("no such file: {name}; did you mean {nearest}?"),
            None => format!("no such file: {name}"),
        }),
        ErrorKind::PermissionDenied => {
            Error(format!("{name}: you may not read it ({error}); try chmod u+r"))
        }
        _ => Error(format!("{name}: cannot be read: {error}")),
    };
    // Opening a FIFO would wait for a writer without O_NONBLOCK.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| fail(&e))?;
    if !file.metadata().map_err(|e| fail(&e))?.is_file() {
        return Err(Error(format!("{name}: not a regular file; put the config into one")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_SIZE) {
        return Err(Error(format!("{name}: larger than 1 MiB, so no config")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = error.as_bytes().get(..good).unwrap_or_default();
        let text = str::from_utf8(text).unwrap_or_default();
        let doc = Document { name, text };
        Error(format!("{}: not UTF-8; save it as UTF-8", doc.place(good)))
    })
}

/// The name in a missing file's directory that is nearest to its own, as a path that can be typed.
fn nearest(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let directory = path.parent()?;
    let listed = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let near = |name: &String| strsim::jaro_winkler(name, wanted);
    fs::read_dir(listed)
        .ok()?
        .take(MOST_NAMES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| near(name) > 0.85)
        .max_by(|a, b| near(a).total_cmp(&near(b)))
        .map(|name| printable_path(&directory.join(name)))
}
