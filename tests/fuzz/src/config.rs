//! The reader of `config.json`.

use runner::cli::Options;
use runner::config::{parse_str, settle};

/// A config of any text: parsed, and settled into a run's settings.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse_str("config.json", text) {
        // An error is one line that names the file.
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("config.json") && !error.contains('\n'), "{error:?}");
        }
        Ok(config) => drop(settle(Options::default(), &config)),
    }
}
