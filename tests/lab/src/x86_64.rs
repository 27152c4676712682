//! `lab x86_64`: the workspace's tests on the KVM of a Linux that runs in QEMU.

use crate::binaries::{TestBinary, Workspace};
use crate::boots::Boots;
use crate::cache::Cache;
use crate::command::{self, Result};
use crate::gates::Gate;
use crate::guest::{Clock, Guest, QEMU};
use crate::linux::{self, Guests};
use crate::packages::{self, Wanted};
use crate::protocol::{Job, Plan};
use crate::skips::{ALLOWED_SKIPS, AllowedSkip};
use crate::tally::Tally;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What needs a real KVM: the backend with its conformance suite, and whole VMs. Every other test is
/// the same on any machine, and CI has run it by now.
const TESTS: [&[&str]; 2] = [&["--package=hv-kvm"], &["--package=runner", "--test=vm"]];

/// One test. The slowest takes half a minute, and on a machine with other work five times that.
const TEST_DEADLINE: Duration = Duration::from_secs(240);

/// All tests, however many boots they take. CI has 30 minutes for everything.
const LAB_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// MiB of the lab's memory, for guests of 5 GiB. It costs nothing before it is touched.
const MEMORY: u32 = 6144;

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
            number: 0,
            memory: MEMORY,
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

    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// runner, and what Linux as a guest takes.
    pub(crate) fn runner_and_guests(&self) -> Vec<PathBuf> {
        let guests = self.guests.files.iter().cloned();
        guests.chain([self.runner.clone()]).collect()
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
    let plan = Plan { jobs: chosen };
    if plan.jobs.is_empty() && gates.is_empty() {
        return Err(format!("no test and no gate has `{filter}` in its name"));
    }
    let mut tally = Tally::default();
    for entry in stale_entries(ALLOWED_SKIPS, &lab.jobs) {
        tally.failed(entry, "is on the list of allowed skips, but there is no such test");
    }
    if !plan.jobs.is_empty() {
        println!("lab: {} tests on KVM in QEMU", plan.jobs.len());
        let files = lab.files(&plan)?;
        let guest = lab.guest(Clock::Host, LAB_DEADLINE);
        Boots::new(&files, &mut tally).run(&guest, plan.jobs);
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
    fn a_skip_allowed_for_a_test_that_is_gone_is_found() {
        let jobs = jobs(&[binary()], Path::new("/t/runner"), &guests());
        let allow = |test| AllowedSkip { test, because: "" };
        let list = [allow("hv-kvm/conformance::sums"), allow("hv-kvm/conformance::gone")];
        assert_eq!(stale_entries(&list, &jobs), ["hv-kvm/conformance::gone"]);
    }
}
