//! What the lab keeps between runs, outside any checkout: package lists and unpacked packages.
//! The folder may be deleted at any time; the next run fills it again.

use crate::command::Result;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The cache folder, locked against other labs for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    _lock: File,
}

impl Cache {
    /// Opens the cache, makes it when it is missing, and waits while another lab fills it.
    pub(crate) fn open() -> Result<Self> {
        let dir = location(|name| std::env::var_os(name).map(PathBuf::from))?;
        let context = |e| {
            format!(
                "cannot use the cache {}: {e}; name another folder in RUNNER_LAB_CACHE",
                dir.display()
            )
        };
        fs::create_dir_all(&dir).map_err(context)?;
        let lock = File::create(dir.join("lock")).map_err(context)?;
        lock.lock().map_err(context)?;
        Ok(Self { dir, _lock: lock })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Relative and empty values count as unset, as the XDG base directory specification has it.
fn location(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    absolute("RUNNER_LAB_CACHE")
        .or_else(|| absolute("XDG_CACHE_HOME").map(|dir| dir.join("runner-lab")))
        .or_else(|| absolute("HOME").map(|dir| dir.join(".cache/runner-lab")))
        .ok_or_else(|| {
            "no place for the cache: set RUNNER_LAB_CACHE to an absolute path, or HOME".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)]) -> Result<PathBuf> {
        location(|name| set.iter().find(|(key, _)| *key == name).map(|(_, v)| PathBuf::from(v)))
    }

    #[test]
    fn the_labs_own_variable_comes_first_then_xdg_then_home() {
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("RUNNER_LAB_CACHE", "/l")];
        assert_eq!(with(&all).unwrap(), Path::new("/l"));
        assert_eq!(with(&all[..2]).unwrap(), Path::new("/x/runner-lab"));
        assert_eq!(with(&all[..1]).unwrap(), Path::new("/h/.cache/runner-lab"));
    }

    #[test]
    fn relative_and_empty_values_are_passed_over() {
        let set = [("RUNNER_LAB_CACHE", "here"), ("XDG_CACHE_HOME", ""), ("HOME", "/h")];
        assert_eq!(with(&set).unwrap(), Path::new("/h/.cache/runner-lab"));
        assert!(with(&set[..2]).unwrap_err().contains("RUNNER_LAB_CACHE"));
    }
}
