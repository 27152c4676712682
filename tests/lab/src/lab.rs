//! `lab x86_64` and `lab aarch64`: the workspace's tests on the KVM of a Linux that runs in QEMU.

use crate::architecture::{Architecture, Choice, Entries, Set};
use crate::binaries::TestBinary;
use crate::boots::Boots;
use crate::builder::Builder;
use crate::cache::Cache;
use crate::command::{self, Result};
use crate::evidence;
use crate::gates::{Gate, Measured};
use crate::guest::{Clock, Guest};
use crate::linux::{self, Guests};
use crate::packages;
use crate::protocol::{Job, Plan};
use crate::queue::Place;
use crate::skips::Skips;
use crate::tally::Tally;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// One test. The slowest takes half a minute, and on a machine with other work five times that.
const TEST_DEADLINE: Duration = Duration::from_secs(240);

/// Where there are no tests, or fewer than gates.
const GATES_AT_ONCE: usize = 2;

/// All tests, however many boots they take, also where one hangs or a machine has other work.
const LAB_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Everything that a boot of the lab takes.
#[derive(Debug)]
pub(crate) struct Lab {
    architecture: &'static Architecture,
    workspace: Workspace,
    builder: Builder,
    /// Where its files go.
    folder: PathBuf,
    packages: PathBuf,
    agent: PathBuf,
    runner: PathBuf,
    guests: Guests,
    /// One for each test of each set.
    jobs: Vec<Job>,
    /// Tests that say that they cannot run.
    skips: Skips,
    /// Programs that tests may start.
    programs: Vec<PathBuf>,
}

/// What is built for a set of tests.
struct Built {
    binaries: Vec<TestBinary>,
    /// Programs that these may start.
    programs: Vec<PathBuf>,
    /// In place of the `runner` that ships.
    runner: Option<PathBuf>,
}

impl Built {
    fn of(set: &Set, builder: &Builder) -> Result<Self> {
        let runner = set.runner.map(|words| builder.runner(Some(words))).transpose()?;
        let (binaries, programs) = builder.tests(set.tests)?;
        Ok(Self { binaries, programs, runner })
    }
}

impl Lab {
    /// Downloads and builds it.
    pub(crate) fn prepare(architecture: &'static Architecture) -> Result<Self> {
        command::require_x86_64_linux()?;
        packages::ensure_installed(architecture.machine.qemu)?;
        let workspace = Workspace::find()?;
        let folder = workspace.machines(architecture.name)?;
        let cache = Cache::open()?;
        let builder = Builder::new(&workspace, &cache, &architecture.compiler)?;
        let packages =
            packages::unpacked(&cache, &architecture.linux.packages, architecture.debian)?;
        let sources = linux::Sources { architecture, packages: &packages, workspace: &workspace };
        let (runner, rest) = thread::scope(|scope| {
            // One processor is busy with that for a minute.
            let runner = scope.spawn(|| builder.runner(None));
            let guests = linux::prepare(&cache, &sources, &builder, &folder);
            drop(cache);
            let rest = guests.and_then(|guests| {
                let built: Result<Vec<_>> =
                    architecture.sets.iter().map(|set| Built::of(set, &builder)).collect();
                Ok((guests, builder.agent()?, built?))
            });
            (runner.join().unwrap_or_else(|panic| resume_unwind(panic)), rest)
        });
        let (guests, agent, built) = rest?;
        let mut lab = Self {
            architecture,
            workspace,
            builder,
            folder,
            packages,
            agent,
            runner: runner?,
            guests,
            jobs: Vec::new(),
            skips: Skips::default(),
            programs: Vec::new(),
        };
        for (set, built) in architecture.sets.iter().zip(built) {
            lab.add(set, built)?;
        }
        Ok(lab)
    }

    fn add(&mut self, set: &Set, built: Built) -> Result<()> {
        let runner = built.runner.unwrap_or_else(|| self.runner.clone());
        let mut jobs = jobs(set.name, &built.binaries, &runner, &self.guests);
        let of_set =
            set.environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        jobs.iter_mut().for_each(|job| job.environment.extend(of_set.clone()));
        self.jobs.extend(chosen(set, jobs)?);
        self.skips.add(set.name, set.skips);
        self.programs.extend(built.programs);
        self.programs.push(runner);
        Ok(())
    }

    /// A machine that is killed after `time`.
    pub(crate) fn guest(&self, clock: Clock, time: Duration) -> Guest<'_> {
        Guest {
            architecture: self.architecture,
            packages: &self.packages,
            agent: &self.agent,
            folder: &self.folder,
            clock,
            number: 0,
            place: Place::First,
            until: Instant::now() + time,
        }
    }

    /// A program that finds runner and the guests as a test does.
    pub(crate) fn program(&self, name: &str, program: PathBuf, deadline: Duration) -> Job {
        let mut environment = environment(&self.runner, &self.guests);
        environment.push(("RUNNER_LAB".to_owned(), "1".to_owned()));
        environment.push(("PATH".to_owned(), "/usr/bin:/bin".to_owned()));
        Job {
            name: name.to_owned(),
            program,
            arguments: Vec::new(),
            directory: self.workspace.root.clone(),
            environment,
            deadline: deadline.as_secs(),
        }
    }

    pub(crate) fn builder(&self) -> &Builder {
        &self.builder
    }

    /// runner, and what Linux as a guest takes.
    pub(crate) fn runner_and_guests(&self) -> Vec<PathBuf> {
        let guests = self.guests.files.iter().cloned();
        guests.chain([self.runner.clone()]).collect()
    }

    /// What the guests have for a shell.
    pub(crate) fn busybox(&self) -> PathBuf {
        self.architecture.linux.busybox(&self.packages)
    }

    /// Gives the guests fio, which tests have no use for.
    pub(crate) fn add_fio(&mut self) -> Result<()> {
        let cache = Cache::open()?;
        let Self { architecture, packages, workspace, .. } = self;
        let sources = linux::Sources { architecture, packages, workspace };
        linux::add_fio(&cache, &sources, &self.builder, &mut self.guests)
    }

    /// The one test whose name is `name`.
    pub(crate) fn job(&self, name: &str) -> Result<&Job> {
        self.jobs.iter().find(|job| job.name == name).ok_or_else(|| format!("no test {name}"))
    }

    /// The tests whose names have all of these in them.
    pub(crate) fn jobs_with<'a>(&'a self, texts: &'a [&str]) -> impl Iterator<Item = &'a Job> {
        self.jobs.iter().filter(|job| texts.iter().all(|text| job.name.contains(text)))
    }

    /// What the jobs of a plan read.
    pub(crate) fn files(&self, plan: &Plan) -> Result<Vec<PathBuf>> {
        let used: BTreeSet<_> = plan.jobs.iter().map(|job| &job.program).collect();
        let mut files = self.programs.clone();
        files.extend(used.into_iter().cloned());
        let needs_linux =
            |job: &Job| job.arguments.iter().any(|word| word.starts_with(linux::TESTS));
        if plan.jobs.iter().any(needs_linux) {
            files.extend(self.guests.files.iter().cloned());
        }
        files.extend(self.workspace.checkout()?);
        files.sort();
        files.dedup();
        Ok(files)
    }
}

/// Runs the tests and gates of `architecture` that have `filter` in their names.
pub(crate) fn run(architecture: &'static Architecture, filter: &str) -> Result<()> {
    let lab = Lab::prepare(architecture)?;
    let gates = Gates::of(architecture, filter);
    let chosen = lab.jobs.iter().filter(|job| job.name.contains(filter)).cloned().collect();
    let plan = Plan { jobs: chosen };
    if plan.jobs.is_empty() && gates.none() {
        return Err(format!("no test and no gate has `{filter}` in its name"));
    }
    let mut tally = Tally::default();
    for entry in lab.skips.stale(&lab.jobs) {
        tally.failed(entry, "is on the list of allowed skips, but there is no such test");
    }
    if !plan.jobs.is_empty() {
        println!("lab: {} tests on KVM in {}", plan.jobs.len(), architecture.machine.qemu.name);
        let files = lab.files(&plan)?;
        let guest = lab.guest(Clock::Host, LAB_DEADLINE);
        // Whatever else the host does, gates count the same: who has no more tests measures.
        let boots = Boots::new(&files, &lab.skips, &mut tally);
        boots.run(&guest, plan.jobs, &|place| gates.check(&lab, place))?;
    }
    thread::scope(|scope| {
        for _ in 0..GATES_AT_ONCE {
            scope.spawn(|| gates.check(&lab, Place::First));
        }
    });
    gates.report(&mut tally);
    if filter.is_empty() {
        for wrong in evidence::unsupported(architecture.name, &tally.seen) {
            tally.failed("the README's table of guests", &wrong);
        }
    }
    tally.finish()
}

/// Gates, for whoever has the time.
struct Gates {
    waiting: Mutex<Vec<(usize, Gate)>>,
    measured: Mutex<BTreeMap<usize, (Gate, Measured)>>,
}

impl Gates {
    /// Those of `architecture` that have `filter` in their names.
    fn of(architecture: &Architecture, filter: &str) -> Self {
        let gates = architecture.gates.iter().copied();
        let chosen = gates.filter(|gate| gate.name().contains(filter)).enumerate().collect();
        Self { waiting: Mutex::new(chosen), measured: Mutex::default() }
    }

    fn none(&self) -> bool {
        locked(&self.waiting).is_empty()
    }

    /// Measures as long as there is one that nobody does. The last takes longest.
    fn check(&self, lab: &Lab, place: Place) {
        loop {
            let Some((number, gate)) = locked(&self.waiting).pop() else { return };
            let counting = Guest { number, place, ..lab.guest(gate.clock(), LAB_DEADLINE) };
            let figures = gate.check(&lab.runner, &lab.guests, &counting);
            locked(&self.measured).insert(number, (gate, figures));
        }
    }

    fn report(self, tally: &mut Tally) {
        for (gate, figures) in
            self.measured.into_inner().unwrap_or_else(PoisonError::into_inner).into_values()
        {
            tally.gate(gate.name(), figures);
        }
    }
}

/// A thread that panics takes the lab with it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tests of a set that are run. Each entry of its choice has to be about one at least.
fn chosen(set: &Set, jobs: Vec<Job>) -> Result<Vec<Job>> {
    let (out, named) = match set.choice {
        Choice::AllBut { these, yet } => (these, yet),
        Choice::Only(entries) => (&[][..], entries),
    };
    let begins = |job: &Job, with: &str| {
        job.name.strip_prefix(set.name).is_some_and(|name| name.starts_with(with))
    };
    for (beginning, because) in out.iter().chain(named) {
        if !jobs.iter().any(|job| begins(job, beginning)) {
            return Err(format!(
                "no test begins with {}{beginning}, and there is an entry for it: {because}",
                set.name
            ));
        }
    }
    let among = |entries: Entries, job: &Job| entries.iter().any(|(with, _)| begins(job, with));
    let others_run = matches!(set.choice, Choice::AllBut { .. });
    let is_run = |job: &Job| among(named, job) || others_run && !among(out, job);
    Ok(jobs.into_iter().filter(is_run).collect())
}

/// One job per test, so that a crash, a hang or a skip is that test's alone.
fn jobs(set: &str, binaries: &[TestBinary], runner: &Path, guests: &Guests) -> Vec<Job> {
    let job = |binary: &TestBinary, test: &String| Job {
        name: format!("{set}{}::{test}", binary.label),
        program: binary.executable.clone(),
        // With two threads libtest prints a test's name after its output, not on its first line.
        arguments: ["--exact", test, "--nocapture", "--test-threads=2"].map(str::to_owned).into(),
        directory: binary.directory.clone(),
        environment: {
            let folder = binary.directory.display().to_string();
            let mut environment = environment(runner, guests);
            environment.push(("CARGO_MANIFEST_DIR".to_owned(), folder));
            environment
        },
        deadline: TEST_DEADLINE.as_secs(),
    };
    binaries
        .iter()
        .flat_map(|binary| binary.tests.iter().map(move |test| job(binary, test)))
        .collect()
}

/// What a program needs to find runner and the guests.
fn environment(runner: &Path, guests: &Guests) -> Vec<(String, String)> {
    vec![
        ("RUNNER_BIN".to_owned(), runner.display().to_string()),
        (linux::VARIABLE.to_owned(), guests.folder.display().to_string()),
        ("RUST_BACKTRACE".to_owned(), "0".to_owned()),
    ]
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
        let jobs = jobs("twice: ", &[binary()], Path::new("/t/runner"), &guests());
        assert_eq!(jobs.len(), 2);
        assert_eq!(jobs[0].name, "twice: hv-kvm/conformance::kick::sticks");
        assert_eq!(jobs[0].arguments[..2], ["--exact", "kick::sticks"]);
        assert!(jobs[0].environment.contains(&("RUNNER_BIN".to_owned(), "/t/runner".to_owned())));
    }

    #[test]
    fn a_choice_is_by_how_names_begin_and_each_entry_has_its_tests() {
        let set = |choice| Set {
            name: "2: ",
            tests: &[],
            choice,
            runner: None,
            environment: &[],
            skips: &[],
        };
        let names = |choice| {
            let all = jobs("2: ", &[binary()], Path::new("/t/runner"), &guests());
            chosen(&set(choice), all)
                .map(|jobs| jobs.into_iter().map(|job| job.name).collect::<Vec<_>>())
        };
        const NONE: Entries = &[];
        const ALL: Entries = &[("hv-kvm/conformance::", "takes long")];
        const KICK: Entries = &[("hv-kvm/conformance::kick", "takes long")];
        let (kick, sums) = ("2: hv-kvm/conformance::kick::sticks", "2: hv-kvm/conformance::sums");
        let all_but = |these, yet| Choice::AllBut { these, yet };
        assert_eq!(names(all_but(NONE, NONE)).unwrap(), [kick, sums]);
        assert_eq!(names(all_but(KICK, NONE)).unwrap(), [sums]);
        assert_eq!(names(all_but(ALL, KICK)).unwrap(), [kick]);
        assert_eq!(names(Choice::Only(KICK)).unwrap(), [kick]);
        const GONE: Entries = &[("hv-kvm/conformance::gone", "takes long")];
        for choice in [all_but(GONE, NONE), all_but(ALL, GONE), Choice::Only(GONE)] {
            assert!(names(choice).unwrap_err().contains("conformance::gone"));
        }
    }
}
