//! What a Hermit guest has of its own, as uhyve gives it: files in folders that the user shares, and arguments and
//! environment that its kernel finds in its device tree, or before 0.11 asks for.

use super::devices::share;
use super::{Error, SharePlan};
use crate::boot::{BootPlan, CommandLine, shell_word};
use crate::config::Settings;
use crate::devices::uhyve::{MOST_WORDS, Words};
use crate::image::Image;
use crate::log::printable;
use crate::machine::slot::VirtioBus;

/// What a guest of uhyve has.
#[derive(Debug)]
pub struct UhyvePlan {
    /// The folders whose files it has; their tags are paths of the guest's.
    pub shares: Vec<SharePlan>,
    /// What it is told by calls.
    pub words: Words,
}

impl UhyvePlan {
    /// The folders for a person, one line for each.
    pub(super) fn describe(&self) -> impl Iterator<Item = String> {
        self.shares.iter().map(|share| {
            let mode = if share.folder.is_read_only() { "read-only" } else { "read-write" };
            format!("files: {}: {}, {mode}", share.tag.escape_debug(), share.path)
        })
    }
}

/// What is left of `settings` for the rest of the plan, and what is uhyve's own.
///
/// # Errors
/// What such a guest cannot have.
pub(super) fn plan(
    settings: &Settings,
    image: &Image,
    boot: &mut BootPlan,
) -> Result<(Settings, UhyvePlan), Error> {
    refuse(settings, image)?;
    let most: u64 = boot.board.ram(u64::MAX).iter().map(|range| range.end - range.start).sum();
    if settings.memory > most {
        let (asked, most) = (settings.memory >> 20, most >> 20);
        return Err(Error::Asked(format!(
            "{asked} MiB of guest memory: this Hermit guest has {most} MiB at the most (-m)"
        )));
    }
    let mut shares: Vec<SharePlan> = Vec::new();
    for (number, asked) in (1..).zip(&settings.devices.shares) {
        let path = match &asked.tag {
            Some(tag) => format!("/{tag}"),
            None => format!("/{number}"),
        };
        if path.split('/').skip(1).any(|name| matches!(name, "" | "." | "..")) {
            return Err(Error::Asked(format!(
                "--share: {} is no place for a Hermit guest's files: names with a / between each",
                printable(&path)
            )));
        }
        if shares.iter().any(|other: &SharePlan| other.tag == path) {
            return Err(Error::Asked(format!(
                "two shares are at {path}: give each a name of its own, --share FOLDER:NAME"
            )));
        }
        shares.push(share(asked, path)?);
    }
    if let Some(uhyve) = &mut boot.uhyve {
        uhyve.mounts = shares.iter().map(|share| share.tag.clone()).collect();
    }
    let mut words = words(settings, image)?;
    if boot.kernel.hermit().is_some_and(|hermit| hermit.kernel.is_none()) {
        fill_up(&mut words.environment);
    }
    boot.tell(CommandLine::new(kernel_words(settings))?)?;
    let mut rest = settings.clone();
    rest.devices.shares = Vec::new();
    rest.virtio = Some(settings.virtio.unwrap_or(VirtioBus::Pci));
    Ok((rest, UhyvePlan { shares, words }))
}

/// What a Hermit guest cannot have.
fn refuse(settings: &Settings, image: &Image) -> Result<(), Error> {
    let wanted = [
        (image.is_disk(), "an OPS image with a Hermit kernel", "run the unikernel alone"),
        (settings.initrd.is_some(), "--initrd", "Hermit guests take no ram disk from uhyve"),
        (!settings.disks.is_empty(), "--disk", "Hermit has no driver for disks: --share FOLDER"),
        (!settings.mounts.is_empty(), "--mounts", "Hermit guests have no volumes of OPS's"),
        (!settings.network.addresses.is_empty(), "an address", ADDRESS),
        (
            settings.stdin && settings.devices.console.is_none(),
            "--stdin",
            "uhyve's console has no input",
        ),
    ];
    match wanted.into_iter().find(|(wanted, ..)| *wanted) {
        Some((_, what, why)) => {
            let name = image.source().name();
            Err(Error::Asked(format!("{name}: {what}: {why}")))
        }
        None => Ok(()),
    }
}

/// The kernel's own words, the environment as words of the kernel's, and behind `--` the program's.
pub(super) fn kernel_words(settings: &Settings) -> Vec<String> {
    let mut words: Vec<String> = settings.append.iter().cloned().collect();
    let env = settings.env.iter();
    words.extend(env.map(|(name, value)| shell_word(&format!("env={name}={value}"))));
    if !settings.args.is_empty() {
        words.push("--".to_owned());
        words.extend(settings.args.iter().map(|arg| shell_word(arg)));
    }
    words
}

/// How Hermit has an address.
const ADDRESS: &str =
    "tell Hermit by its own words: --append '-ip 10.0.2.15 -gateway 10.0.2.2 -mask 255.255.255.0'";

/// What a Hermit guest cannot have that its own loader starts, `loader`.
pub(super) fn refuse_by_loader(
    settings: &Settings,
    addresses: bool,
    loader: &str,
) -> Result<(), Error> {
    let shares = !settings.devices.shares.is_empty();
    let wanted = [
        (
            shares,
            "--share",
            "Hermit's kernel has virtio-fs, and runner 9P; without its loader files are uhyve's: run the unikernel \
             itself",
        ),
        (addresses, "an address", ADDRESS),
    ];
    match wanted.into_iter().find(|(wanted, ..)| *wanted) {
        Some((_, what, why)) => Err(Error::Asked(format!("{loader}: {what}: {why}"))),
        None => Ok(()),
    }
}

/// Variables that a kernel before 0.10 has at the least. It leaves its table of them without an end, and its
/// program reads on in what is behind: zeros if the table is large, and if it is small what was there before, of
/// which it hangs (seen with 0.6.9, up to two variables; so it does under uhyve 0.10).
const LEAST_VARIABLES: usize = 32;

/// Adds variables without name and value, which programs pass over.
fn fill_up(environment: &mut Vec<String>) {
    let len = environment.len().max(LEAST_VARIABLES);
    environment.resize(len, String::new());
}

fn words(settings: &Settings, image: &Image) -> Result<Words, Error> {
    let mut arguments = vec![image.source().name().to_owned()];
    arguments.extend(settings.args.clone());
    let environment: Vec<String> =
        settings.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    for (what, words) in [("arguments", &arguments), ("variables", &environment)] {
        if words.len() > MOST_WORDS {
            return Err(Error::Asked(format!(
                "{} {what}: a Hermit guest has {MOST_WORDS} at the most, its name among the arguments: give fewer",
                words.len()
            )));
        }
    }
    Ok(Words { arguments, environment })
}
