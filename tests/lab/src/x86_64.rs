//! `lab x86_64`: the workspace's tests on the KVM of a Linux that runs in QEMU.

use crate::binaries::{TestBinary, Workspace};
use crate::cache::Cache;
use crate::command::{self, Result};
use crate::gates::{self, Gate};
use crate::guest::{Clock, Guest, QEMU};
use crate::linux::{self, Guests};
use crate::packages::{self, Wanted};
use crate::protocol::{Job, Outcome, Plan, Report};
use crate::results::{AllowedSkip, Verdict, judge, measured};
use std::collections::BTreeSet;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What needs a real KVM: the backend with its conformance suite, and whole VMs. Every other test is
/// the same on any machine, and CI has run it by now.
const TESTS: [&[&str]; 2] = [&["--package=hv-kvm"], &["--package=runner", "--test=vm"]];

/// One test. The slowest takes half a minute, and on a machine with other work five times that.
const TEST_DEADLINE: Duration = Duration::from_secs(240);

/// All tests, however many boots they take. CI has 30 minutes for everything.
const LAB_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// One boot should do; each of the others follows a test that took the machine down.
const BOOTS: usize = 4;

/// MiB of the lab's memory. With 6 GiB guests that poll a port run at half the speed, and QEMU 7.2 ends
/// them in a triple fault or lets them hang, each time; with 4 GiB it does not.
const MEMORY: u32 = 4096;

/// The same for tests whose guests have 5 GiB, which a smaller host refuses, and what those tests have
/// in their names.
const LARGE_MEMORY: u32 = 6144;
const LARGE_GUESTS: &str = "linux::machine::";

/// How many tests may fail and then pass. QEMU 7.2 emulates two CPUs that interrupt each other while
/// they run guests, and now and then gets it wrong: of 150 runs of a thousand kicks each, in which
/// nothing differed, two hung and one ended in a triple fault. No such run failed on hardware.
const DOUBTFUL: usize = 5;

/// How often a test that failed has to pass after all, in another boot.
const REPEATS: usize = 2;

/// Skips that are right inside the lab. An entry whose test runs, or is gone, is a failure.
const ALLOWED_SKIPS: &[AllowedSkip] = &[
    emulated(
        "runner/vm::disks::runner_and_qemu_keep_each_other_from_a_disk_that_one_of_them_writes",
    ),
    emulated("runner/vm::emulation::hello_greets_and_says_what_runs_it"),
    emulated(
        "runner/vm::emulation::every_image_of_the_two_real_writers_ends_with_its_programs_status_when_emulated",
    ),
    emulated("runner/vm::emulation::every_status_of_an_emulated_guest_is_the_processs"),
    emulated("runner/vm::emulation::a_wide_exit_value_is_cut_to_8_bits_when_emulated"),
    emulated("runner/vm::emulation::a_triple_fault_is_a_crash_and_a_reset_is_none"),
    emulated("runner/vm::emulation::the_time_ends_an_emulated_guest_that_spins_or_halts"),
    emulated("runner/vm::emulation::a_signal_ends_an_emulated_guest"),
    emulated("runner/vm::emulation::qemu_does_not_outlive_a_runner_that_is_killed"),
    emulated(
        "runner/vm::emulation::an_emulated_guest_gets_its_input_and_loses_no_output_to_a_slow_reader",
    ),
    emulated("runner/vm::emulation::an_emulated_guest_has_a_keyboard_that_is_left_as_it_was"),
    emulated("runner/vm::emulation::every_end_of_an_emulated_guest_leaves_the_terminal_as_it_was"),
    emulated("runner/vm::emulation::a_signal_ends_an_emulated_guest_whose_output_nobody_reads"),
    emulated("runner/vm::emulation::an_emulated_guest_is_told_the_same_by_both_protocols"),
    emulated("runner/vm::emulation::an_emulated_guest_writes_its_disk_unless_it_is_read_only"),
    emulated(
        "runner/vm::emulation::a_write_that_an_emulated_guest_did_not_wait_for_is_on_the_disk",
    ),
    emulated(
        "runner/vm::emulation::what_an_emulated_guest_writes_to_an_ephemeral_disk_is_gone_after_the_run",
    ),
    emulated("runner/vm::emulation::a_disk_that_is_emulated_is_locked_as_any"),
    emulated(
        "runner/vm::emulation::verbose_begins_with_the_accelerator_and_has_qemus_command_line",
    ),
    emulated("runner/vm::emulation::a_config_that_wants_no_accelerator_is_named"),
    emulated("runner/vm::emulation::where_there_is_no_kvm_the_same_command_still_runs_and_says_so"),
    emulated("runner/vm::emulation::a_qemu_that_emulates_is_in_its_own_jail_unless_none_is_wanted"),
    AllowedSkip {
        test: "runner/vm::jail::root_by_sudo_becomes_the_user_who_typed_it",
        because: "the lab runs tests as an ordinary user",
    },
];

const fn emulated(test: &'static str) -> AllowedSkip {
    AllowedSkip { test, because: "the lab is in QEMU, and has none inside" }
}

/// Debian's kernel for virtual machines, and a shell with the usual programs.
const OUTER_LINUX: Wanted = Wanted {
    folder: "linux",
    packages: &["linux-image-cloud-amd64", "busybox-static"],
    except: &["initramfs-tools", "kmod", "linux-base"],
};

/// Everything that a boot of the lab takes.
#[derive(Debug)]
pub(crate) struct Lab {
    workspace: Workspace,
    packages: PathBuf,
    agent: PathBuf,
    runner: PathBuf,
    guests: Guests,
    /// One for each test.
    jobs: Vec<Job>,
    /// Programs that tests may start.
    programs: Vec<PathBuf>,
}

impl Lab {
    /// Downloads and builds it.
    pub(crate) fn prepare() -> Result<Self> {
        command::require_x86_64_linux()?;
        packages::ensure_installed(QEMU, "qemu-system-x86")?;
        let workspace = Workspace::find()?;
        let cache = Cache::open()?;
        let packages = packages::unpacked(&cache, &OUTER_LINUX)?;
        let guests = linux::prepare(&cache, &packages, &workspace)?;
        drop(cache);
        let agent = workspace.agent()?;
        let runner = workspace.shipped_runner()?;
        let (binaries, programs) = workspace.tests(&TESTS)?;
        let jobs = jobs(&binaries, &runner, &guests);
        Ok(Self { workspace, packages, agent, runner, guests, jobs, programs })
    }

    /// A machine that is killed after `time`.
    pub(crate) fn guest(&self, clock: Clock, time: Duration) -> Guest<'_> {
        Guest {
            packages: &self.packages,
            agent: &self.agent,
            workspace: &self.workspace,
            clock,
            memory: MEMORY,
            until: Instant::now() + time,
        }
    }

    /// The one test whose name is `name`.
    pub(crate) fn job(&self, name: &str) -> Result<&Job> {
        self.jobs.iter().find(|job| job.name == name).ok_or_else(|| format!("no test {name}"))
    }

    /// What the jobs of a plan read.
    pub(crate) fn files(&self, plan: &Plan) -> Result<Vec<PathBuf>> {
        let used: BTreeSet<_> = plan.jobs.iter().map(|job| &job.program).collect();
        let mut files = self.programs.clone();
        files.extend(used.into_iter().cloned());
        files.push(self.runner.clone());
        let needs_linux =
            |job: &Job| job.arguments.iter().any(|word| word.starts_with(linux::TESTS));
        if plan.jobs.iter().any(needs_linux) {
            files.extend(self.guests.files.iter().cloned());
        }
        files.extend(checkout(&self.workspace)?);
        Ok(files)
    }
}

/// Runs the tests and gates that have `filter` in their names.
pub(crate) fn run(filter: &str) -> Result<()> {
    let lab = Lab::prepare()?;
    let gates: Vec<_> = Gate::ALL.into_iter().filter(|gate| gate.name().contains(filter)).collect();
    let chosen = lab.jobs.iter().filter(|job| job.name.contains(filter)).cloned().collect();
    let plan = Plan { jobs: chosen, hold_kvm: true };
    if plan.jobs.is_empty() && gates.is_empty() {
        return Err(format!("no test and no gate has `{filter}` in its name"));
    }
    let mut tally = Tally::default();
    let stale: Vec<_> = stale_entries(ALLOWED_SKIPS, &lab.jobs);
    for entry in &stale {
        tally.add(
            entry,
            &Verdict::Failed(
                "is on the list of allowed skips, but there is no such test".to_owned(),
            ),
            "",
        );
    }
    if !plan.jobs.is_empty() {
        let files = lab.files(&plan)?;
        println!("lab: {} tests on KVM in QEMU", plan.jobs.len());
        let large = |job: &Job| job.name.contains(LARGE_GUESTS);
        let (large, small): (Vec<_>, Vec<_>) = plan.jobs.into_iter().partition(large);
        for (memory, jobs) in [(MEMORY, small), (LARGE_MEMORY, large)] {
            if jobs.is_empty() {
                continue;
            }
            let guest = || Guest { memory, ..lab.guest(Clock::Host, LAB_DEADLINE) };
            let plan = Plan { jobs, hold_kvm: true };
            let repeat = run_tests(&guest(), plan, &files, &mut tally);
            if !repeat.jobs.is_empty() {
                repeat_tests(&guest(), &repeat, &files, &mut tally);
            }
        }
    }
    for gate in gates {
        let counting = lab.guest(gate.clock(), LAB_DEADLINE);
        tally.gate(gate.name(), gate.check(&lab.runner, &lab.guests, &counting));
    }
    tally.finish()
}

/// One job per test, so that a crash, a hang or a skip is that test's alone.
fn jobs(binaries: &[TestBinary], runner: &Path, guests: &Guests) -> Vec<Job> {
    let job = |binary: &TestBinary, test: &String| Job {
        name: format!("{}::{test}", binary.label),
        program: binary.executable.clone(),
        // With two threads libtest prints a test's name after its output, not on its first line.
        arguments: ["--exact", test, "--nocapture", "--test-threads=2"].map(str::to_owned).into(),
        directory: binary.directory.clone(),
        environment: vec![
            ("CARGO_MANIFEST_DIR".to_owned(), binary.directory.display().to_string()),
            ("RUNNER_BIN".to_owned(), runner.display().to_string()),
            (linux::VARIABLE.to_owned(), guests.folder.display().to_string()),
            ("RUST_BACKTRACE".to_owned(), "0".to_owned()),
        ],
        deadline: TEST_DEADLINE.as_secs(),
    };
    binaries
        .iter()
        .flat_map(|binary| binary.tests.iter().map(move |test| job(binary, test)))
        .collect()
}

fn stale_entries<'a>(allowed: &'a [AllowedSkip], jobs: &[Job]) -> Vec<&'a str> {
    allowed
        .iter()
        .map(|skip| skip.test)
        .filter(|test| !jobs.iter().any(|job| job.name == *test))
        .collect()
}

/// The sources as they are here: tests name fixtures and documents by paths into the checkout.
fn checkout(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![workspace.root.clone()];
    while let Some(folder) = folders.pop() {
        let context = |e| format!("cannot read {}: {e}", folder.display());
        for entry in fs::read_dir(&folder).map_err(context)? {
            let entry = entry.map_err(context)?;
            let name = entry.file_name();
            let kind = entry.file_type().map_err(context)?;
            if name == "target" || name.as_encoded_bytes().starts_with(b".") {
                continue;
            } else if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Runs the plan. A test that takes the machine down fails, and those after it get another boot.
/// Gives the failed tests, as a plan for trying them again.
fn run_tests(guest: &Guest<'_>, mut plan: Plan, files: &[PathBuf], tally: &mut Tally) -> Plan {
    let mut failed = Vec::new();
    for _ in 0..BOOTS {
        let mut reported = BTreeSet::new();
        let mut started = None;
        let result = guest.run(&plan, files, |report| match report {
            Report::Started { job } => started = Some(*job),
            Report::Finished { job, outcome } if reported.insert(*job) => {
                if let Some(spec) = plan.jobs.get(*job) {
                    let verdict = judge(&spec.name, outcome, ALLOWED_SKIPS);
                    if matches!(verdict, Verdict::Failed(_)) {
                        failed.push(spec.clone());
                    }
                    tally.test(&spec.name, &verdict, outcome);
                }
            }
            Report::Broken { .. } | Report::Finished { .. } | Report::Done => {}
        });
        let fatal = started.filter(|job| !reported.contains(job));
        let mut missing = Vec::new();
        for (index, job) in plan.jobs.into_iter().enumerate() {
            if Some(index) == fatal {
                let why = "took the machine down, see below".to_owned();
                tally.add(&job.name, &Verdict::Failed(why), "");
                failed.push(job);
            } else if !reported.contains(&index) {
                missing.push(job);
            }
        }
        plan = Plan { jobs: missing, hold_kvm: true };
        match result {
            Ok(()) => break,
            Err(error) => {
                println!("lab: {error}");
                tally.broken |= fatal.is_none();
            }
        }
        if fatal.is_none() || plan.jobs.is_empty() {
            break;
        }
        println!("lab: booting again for the other {} tests", plan.jobs.len());
    }
    for job in plan.jobs {
        let why = "missing: the lab did not report it".to_owned();
        tally.add(&job.name, &Verdict::Failed(why), "");
        tally.broken = true;
    }
    Plan { jobs: failed, hold_kvm: true }
}

/// Runs each of a few failed tests again. One that now passes every time was the emulator's fault
/// as far as anybody can tell, and its failure is taken back, with a word about it.
fn repeat_tests(guest: &Guest<'_>, failed: &Plan, files: &[PathBuf], tally: &mut Tally) {
    if failed.jobs.len() > DOUBTFUL {
        println!("lab: {} tests failed, too many to blame the emulator", failed.jobs.len());
        return;
    }
    println!("lab: booting again to repeat what failed, {REPEATS} times each");
    let twice = failed.jobs.iter().flat_map(|job| iter::repeat_n(job.clone(), REPEATS));
    let plan = Plan { jobs: twice.collect(), hold_kvm: true };
    let mut passed = Vec::new();
    let result = guest.run(&plan, files, |report| {
        if let Report::Finished { job, outcome } = report
            && let Some(spec) = plan.jobs.get(*job)
        {
            match judge(&spec.name, outcome, ALLOWED_SKIPS) {
                Verdict::Passed => passed.push(spec.name.clone()),
                Verdict::Skipped(_) => {}
                Verdict::Failed(why) => println!("lab: {} failed again: {why}", spec.name),
            }
        }
    });
    if let Err(error) = result {
        println!("lab: {error}");
    }
    for job in &failed.jobs {
        if passed.iter().filter(|name| **name == job.name).count() == REPEATS {
            tally.take_back(&job.name);
        }
    }
}

/// What was printed so far, in numbers.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    skipped: usize,
    /// Names, and why.
    failed: Vec<(String, String)>,
    /// Failed, and then passed every time.
    doubtful: Vec<String>,
    /// The machine itself failed, whatever its tests say.
    broken: bool,
}

impl Tally {
    fn test(&mut self, name: &str, verdict: &Verdict, outcome: &Outcome) {
        self.add(name, verdict, &format!(" ({} ms)", outcome.milliseconds));
        for line in measured(&outcome.output) {
            println!("    | {line}");
        }
        if matches!(verdict, Verdict::Failed(_)) {
            for line in outcome.output.lines().filter(|line| !line.is_empty()) {
                println!("    | {line}");
            }
        }
    }

    fn gate(&mut self, name: &str, verdict: gates::Measured) {
        match verdict {
            Ok(figures) => self.add(name, &Verdict::Passed, &format!(" ({figures})")),
            Err(why) => self.add(name, &Verdict::Failed(why), ""),
        }
    }

    fn add(&mut self, name: &str, verdict: &Verdict, note: &str) {
        match verdict {
            Verdict::Passed => {
                self.passed += 1;
                println!("test {name} ... ok{note}");
            }
            Verdict::Skipped(why) => {
                self.skipped += 1;
                println!("test {name} ... skipped: {why}");
            }
            // It may be taken back: what counts is said at the end.
            Verdict::Failed(why) => {
                self.failed.push((name.to_owned(), why.clone()));
                println!("lab: {name} failed: {why}{note}");
            }
        }
    }

    fn take_back(&mut self, name: &str) {
        println!("test {name} ... ok, after a failure that {REPEATS} repetitions did not show");
        self.failed.retain(|(failed, _)| failed != name);
        self.passed += 1;
        self.doubtful.push(name.to_owned());
    }

    fn finish(self) -> Result<()> {
        for name in &self.doubtful {
            println!("doubtful: {name}");
        }
        for (name, why) in &self.failed {
            println!("test {name} ... FAILED: {why}");
        }
        println!("lab: {} skipped as its list allows", self.skipped);
        println!("{} passed, {} failed", self.passed, self.failed.len());
        if self.failed.is_empty() && !self.broken {
            Ok(())
        } else {
            Err("the lab failed; the reasons are above".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary() -> TestBinary {
        TestBinary {
            label: "hv-kvm/conformance".to_owned(),
            executable: "/t/conformance-1".into(),
            directory: "/ws/hv-kvm".into(),
            tests: vec!["kick::sticks".to_owned(), "sums".to_owned()],
        }
    }

    fn guests() -> Guests {
        Guests { folder: "/t/guests".into(), files: Vec::new() }
    }

    #[test]
    fn each_test_is_a_process_of_its_own_and_knows_the_runner() {
        let jobs = jobs(&[binary()], Path::new("/t/runner"), &guests());
        assert_eq!(jobs.len(), 2);
        assert_eq!(jobs[0].name, "hv-kvm/conformance::kick::sticks");
        assert_eq!(jobs[0].arguments[..2], ["--exact", "kick::sticks"]);
        assert!(jobs[0].environment.contains(&("RUNNER_BIN".to_owned(), "/t/runner".to_owned())));
    }

    #[test]
    fn a_failure_that_is_taken_back_is_a_pass_and_no_other_is() {
        let mut tally = Tally::default();
        for name in ["a", "b"] {
            tally.add(name, &Verdict::Failed("hangs".to_owned()), "");
        }
        tally.take_back("a");
        assert_eq!((tally.passed, tally.failed.len(), tally.failed[0].0.as_str()), (1, 1, "b"));
        assert!(tally.finish().is_err());
        let mut tally = Tally::default();
        tally.add("a", &Verdict::Failed("hangs".to_owned()), "");
        tally.take_back("a");
        assert!(tally.finish().is_ok());
    }

    #[test]
    fn a_skip_allowed_for_a_test_that_is_gone_is_found() {
        let jobs = jobs(&[binary()], Path::new("/t/runner"), &guests());
        let allow = |test| AllowedSkip { test, because: "" };
        let list = [allow("hv-kvm/conformance::sums"), allow("hv-kvm/conformance::gone")];
        assert_eq!(stale_entries(&list, &jobs), ["hv-kvm/conformance::gone"]);
    }
}
