//! `cargo bench -p bench --bench crowd`: 200 guests at once, and what one of them costs in time and
//! memory, beside the floor.

fn main() -> std::process::ExitCode {
    imp::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))] // KVM is the floor
mod imp {
    pub(crate) fn main() -> std::process::ExitCode {
        println!("skipped: the floor is KVM's, which this system does not have");
        std::process::ExitCode::SUCCESS
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))] // see above
mod imp {
    use std::path::Path;
    use std::process::ExitCode;

    use bench::build;
    use bench::crowd::{Cost, REST, gather};
    use bench::measure::Candidate;
    use guests::x86_64::kernels::HALT;

    const GUESTS: usize = 200;
    const ROUNDS: usize = 3;

    pub(crate) fn main() -> ExitCode {
        bench::status(compare())
    }

    fn compare() -> Result<(), String> {
        if !Path::new("/dev/kvm").exists() {
            println!("skipped: no /dev/kvm here");
            return Ok(());
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let guest = folder.path().join("halt.elf");
        std::fs::write(&guest, HALT).map_err(|error| error.to_string())?;
        let guest = guest.display();
        let (runner, floor) = build::runner_and_floor()?;
        let (runner, floor) = (runner.display(), floor.display());
        let new = |name: &str, line: String| Candidate::new(name, &line, "running");
        let candidates = [
            new("floor 128M", format!("{floor} {guest} 128")),
            new("runner 128M", format!("{runner} -m 128M {guest}")),
            new("runner 2G (default)", format!("{runner} {guest}")),
        ];
        println!(
            "crowd: {GUESTS} guests at once that have said a line and halt; each of {ROUNDS} rounds"
        );
        println!(
            "{:<22} {:>9} {:>11} {:>11} {:>12} {:>12} {:>14}",
            "", "all up ms", "median ms", "slowest ms", "PSS/guest", "RSS/guest", "CPU, all idle"
        );
        for _ in 0..ROUNDS {
            for candidate in &candidates {
                print(&candidate.name, &gather(candidate, GUESTS)?);
            }
        }
        Ok(())
    }

    fn print(name: &str, cost: &Cost) {
        let ms =
            |time: Option<&std::time::Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let share = |kib: u64| kib / u64::try_from(GUESTS).unwrap_or(u64::MAX);
        println!(
            "{name:<22} {:>9.0} {:>11.1} {:>11.1} {:>8} KiB {:>8} KiB {:>12.2} %",
            ms(Some(&cost.all)),
            ms(cost.each.get(cost.each.len() / 2)),
            ms(cost.each.last()),
            share(cost.pss),
            share(cost.rss),
            100.0 * cost.idle.as_secs_f64() / REST.as_secs_f64(),
        );
    }
}
