//! `lab uhyve`: a Hermit unikernel under runner and under crates.io's `uhyve`, in one run: the same output, the same
//! status, the first byte no later, no more memory.
//!
//! `cargo bench -p bench --bench hermit [KERNEL]` does the same where a KVM is, with RUNNER_BIN and UHYVE_BIN set.

fn main() -> std::process::ExitCode {
    imp::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))] // the unikernel is for KVM on x86_64
mod imp {
    pub(crate) fn main() -> std::process::ExitCode {
        println!("skipped: the guest is for KVM on x86_64");
        std::process::ExitCode::SUCCESS
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))] // see above
mod imp {
    use std::env;
    use std::path::PathBuf;
    use std::process::ExitCode;

    use bench::hermit::{Spread, Unikernel, differing, pairs, said};
    use bench::measure::{Candidate, Sample};

    const ROUNDS: usize = 9;

    pub(crate) fn main() -> ExitCode {
        bench::status(compare())
    }

    fn compare() -> Result<(), String> {
        let kernel = env::args().skip(1).find(|word| word != "--bench").map(PathBuf::from);
        let (Some(runner), Some(uhyve)) = (env::var_os("RUNNER_BIN"), env::var_os("UHYVE_BIN"))
        else {
            println!(
                "skipped: RUNNER_BIN and UHYVE_BIN are not set; run `cargo run -p lab -- uhyve`"
            );
            return Ok(());
        };
        let folder = tempfile::tempdir().map_err(|error| format!("a folder: {error}"))?;
        let unikernel = match &kernel {
            Some(path) => Unikernel::at(path.clone(), folder.path()),
            None => Unikernel::own(folder.path())?,
        };
        let candidates = unikernel.candidates(&PathBuf::from(runner), &PathBuf::from(uhyve));
        same(&candidates, kernel.is_none())?;
        println!("{ROUNDS} pairs: least, median, most");
        huge_pages(false)?;
        let pairs_as_the_host_has = pairs(&candidates, ROUNDS)?;
        println!("pages as the host gives them");
        time("first byte, ms", &pairs_as_the_host_has, |sample| sample.marker.as_secs_f64() * 1e3);
        time("to the end, ms", &pairs_as_the_host_has, |sample| sample.wall.as_secs_f64() * 1e3);
        time("CPU, ms", &pairs_as_the_host_has, |sample| sample.cpu.as_secs_f64() * 1e3);
        memory(&pairs_as_the_host_has);
        huge_pages(true)?;
        println!("pages of 4 KiB alone");
        memory(&pairs(&candidates, ROUNDS)?);
        Ok(())
    }

    /// What both say is the same, word by word where `exactly`.
    fn same(candidates: &[Candidate; 2], exactly: bool) -> Result<(), String> {
        let [ours, theirs] = candidates;
        let (ours, theirs) = (said(ours)?, said(theirs)?);
        if ours.status != theirs.status {
            return Err(format!(
                "runner ends with {:?}, uhyve with {:?}",
                ours.status, theirs.status
            ));
        }
        let differing = differing(&ours.text, &theirs.text);
        if exactly && ours.text != theirs.text {
            return Err(format!("runner: {:?}\nuhyve: {:?}", ours.text, theirs.text));
        }
        let lines = [&ours.text, &theirs.text].map(|text| text.lines().count());
        println!(
            "status {} of both, lines {lines:?}, of which {differing} are one's alone",
            ours.status.map_or_else(|| "none".to_owned(), |status| status.to_string())
        );
        Ok(())
    }

    /// Whether programs that this one starts do without huge pages.
    fn huge_pages(without: bool) -> Result<(), String> {
        let told = rustix::thread::disable_transparent_huge_pages(without);
        told.map_err(|error| format!("huge pages: {error}"))
    }

    /// A row of the table; the median counts.
    fn time(name: &str, pairs: &[[Sample; 2]], value: fn(&Sample) -> f64) {
        let [ours, theirs] = [0, 1].map(|index| spread(pairs, index, value));
        let met = ours.zip(theirs).is_some_and(|(ours, theirs)| ours.median <= theirs.median);
        row(name, ours, theirs, met);
    }

    /// A row whose most has to be less than the other's least.
    fn memory(pairs: &[[Sample; 2]]) {
        let value = |sample: &Sample| sample.mebibytes();
        let [ours, theirs] = [0, 1].map(|index| spread(pairs, index, value));
        let met = ours.zip(theirs).is_some_and(|(ours, theirs)| ours.most <= theirs.least);
        row("peak memory, MiB", ours, theirs, met);
    }

    fn spread(pairs: &[[Sample; 2]], index: usize, value: fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(pairs.iter().filter_map(|pair| pair.get(index)).map(value))
    }

    fn row(name: &str, ours: Option<Spread>, theirs: Option<Spread>, met: bool) {
        let text = |spread: Option<Spread>| match spread {
            Some(Spread { least, median, most }) => format!("{least:.1} {median:.1} {most:.1}"),
            None => "-".to_owned(),
        };
        let verdict = if met { "met" } else { "missed" };
        println!("  {name:<18} runner {:<24} uhyve {:<24} {verdict}", text(ours), text(theirs));
    }
}
