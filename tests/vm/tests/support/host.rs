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

/// Time of the CPU that a process has used, in its own code and the system's.
pub(crate) fn cpu_time(process: u32) -> Result<Duration, String> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // proc(5): the name is in parentheses and may hold anything; utime and stime are the 12th and
    // 13th field behind it, in hundredths of a second on every Linux there is.
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Ok(Duration::from_millis(10 * ticks))
}
