//! The host's processors (proc(5), `/proc/PID/status`).

use crate::command::Result;
use std::fs;

/// The numbers of those that this process may run on: one at least.
pub(crate) fn ours() -> Result<Vec<usize>> {
    const STATUS: &str = "/proc/self/status";
    let text = fs::read_to_string(STATUS).map_err(|e| format!("cannot read {STATUS}: {e}"))?;
    listed(&text).ok_or_else(|| format!("{STATUS} does not say which processors are ours"))
}

/// Those of the line `Cpus_allowed_list`, as `0-3,8`.
fn listed(status: &str) -> Option<Vec<usize>> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut numbers = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        numbers.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    (!numbers.is_empty()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_numbers_and_ranges() {
        let list =
            |text: &str| listed(&format!("Name:\tx\nCpus_allowed_list:\t{text}\nMems:\t0\n"));
        assert_eq!(list("0"), Some(vec![0]));
        assert_eq!(list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(list(""), None);
        assert_eq!(list("0-x"), None);
        assert_eq!(listed("Name:\tx\n"), None);
    }

    #[test]
    fn a_process_has_one_at_least_where_there_is_proc() {
        if fs::exists("/proc/self/status").unwrap() {
            assert!(ours().unwrap().len() >= std::thread::available_parallelism().unwrap().get());
        }
    }
}
