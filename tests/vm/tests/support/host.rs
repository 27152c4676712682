//! What this machine has that a test may need.

use std::time::{Duration, Instant};

/// An accelerator that boots guests of ours. Asked of the system and not of `runner`, whose
/// mistakes must not turn into skips.
pub(crate) fn accelerator() -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        return Err("the tests of whole VMs are for KVM".to_owned());
    }
    match std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("/dev/kvm: {error}")),
    }
}

/// Who a guest is told that runs it. The lab says so where it is another backend's turn.
pub(crate) fn hypervisor() -> String {
    std::env::var("RUNNER_LAB_HYPERVISOR").unwrap_or_else(|_| "KVM".to_owned())
}

/// MiB of memory.
pub(crate) fn memory() -> Result<u64, String> {
    let path = "/proc/meminfo";
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    Ok(kib / 1024)
}

/// Waits until a process is stopped.
pub(crate) fn is_stopped(process: u32) -> Result<(), String> {
    let path = format!("/proc/{process}/stat");
    let until = Instant::now() + Duration::from_secs(90);
    loop {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        // proc(5): the state stands behind the name in parentheses, which may hold anything.
        if text.rsplit_once(')').unwrap().1.trim_start().starts_with('T') {
            return Ok(());
        }
        assert!(Instant::now() < until, "not stopped: {text}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Time of the CPU that a process has used, in its own code, the guest's and the system's.
pub(crate) fn cpu_time(process: u32) -> Result<Duration, String> {
    Ok(scheduled(process)?.0)
}

/// How long and how often a process's threads have been on a CPU, to the nanosecond: proc(5)'s utime and
/// stime count hundredths of a second.
pub(crate) fn scheduled(process: u32) -> Result<(Duration, u64), String> {
    let path = format!("/proc/{process}/task");
    let failed = |error| format!("{path}: {error}");
    let (mut nanoseconds, mut times) = (0, 0);
    for task in std::fs::read_dir(&path).map_err(failed)? {
        // Three numbers (Linux, Documentation/scheduler/sched-stats.rst): on a CPU, waiting for one, how
        // often.
        let path = task.map_err(failed)?.path().join("schedstat");
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        let fields: Vec<u64> =
            text.split_whitespace().map(|field| field.parse().unwrap()).collect();
        nanoseconds += fields[0];
        times += fields[2];
    }
    Ok((Duration::from_nanos(nanoseconds), times))
}
