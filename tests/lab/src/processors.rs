//! The host's processors (sched_getaffinity(2)).

use crate::command::Result;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// The numbers of those that this process may run on: one at least.
pub(crate) fn ours() -> Result<Vec<usize>> {
    let context = |e| format!("cannot ask for the processors that are ours: {e}");
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(context)?;
    let ours: Vec<_> =
        (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect();
    match ours.is_empty() {
        true => Err("no processor is ours, as sched_getaffinity(2) has it".to_owned()),
        false => Ok(ours),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::process::Command;

    #[test]
    fn each_of_ours_is_one_that_a_program_may_be_kept_on() {
        let ours = ours().unwrap();
        assert!(ours.len() >= std::thread::available_parallelism().unwrap().get());
        assert_eq!(ours.iter().collect::<BTreeSet<_>>().len(), ours.len());
        for cpu in ours {
            let mut command = Command::new("taskset");
            command.args([
                "--cpu-list",
                &cpu.to_string(),
                "grep",
                "Cpus_allowed_list",
                "/proc/self/status",
            ]);
            let output = command.output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text.split_whitespace().last(), Some(cpu.to_string().as_str()), "{text}");
        }
    }
}
