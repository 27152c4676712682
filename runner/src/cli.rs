//! The command line: what may be typed, and nothing else. Nothing here opens a file or starts anything.
//!
//! Words and options may come in any order before `--`. The first word may be a command (`run` and `load`, which are
//! the same and may be left out, `inspect`, `doctor`); an image that bears such a name is reached by `./run`. After a
//! `--` before which no image was named, the first word is the image and all the rest are the guest's arguments, so
//! that `runner` serves as a cargo runner. Called by the name of Solo5's tender it understands the tender's
//! words: the module `solo5` has those. Letters of OPS (nanovms/ops, `cmd/flags_*.go`) mean the same here or are
//! refused with a sentence: the module `ops` has those.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic
)]

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::boot::Protocol;
use crate::config::named::{self, NamedBlock};
use crate::config::network::{self, Typed};
use crate::config::{AccelChoice, Addresses, Devices, Disk, JailChoice, Mount, values};
use crate::machine::slot::VirtioBus;

mod definition;
mod ops;
mod solo5;
#[cfg(test)]
mod tests;

pub use definition::HELP;
use definition::{definition, failure};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Boot an image.
    Run(Box<Options>),
    /// Say what an image is.
    Inspect {
        /// Its name or path.
        image: PathBuf,
        /// Say more.
        verbose: bool,
    },
    /// Say whether guests will run on the accelerator here.
    Doctor {
        /// As JSON on stdout.
        json: bool,
        /// Say more.
        verbose: bool,
        /// Sign this program first.
        sign: bool,
    },
}

/// The options of a run as typed; `None`, empty and `false` mean not typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Name or path of the image.
    pub image: Option<PathBuf>,
    /// Config files, in the order in which they are read.
    pub configs: Vec<PathBuf>,
    /// Which accelerator may run the guest.
    pub accel: Option<AccelChoice>,
    /// Guest memory in bytes, not 0.
    pub memory: Option<u64>,
    /// Number of vCPUs, not 0.
    pub cpus: Option<u32>,
    /// Kernel to boot in place of the image's own.
    pub kernel: Option<PathBuf>,
    /// Initial ram disk.
    pub initrd: Option<PathBuf>,
    /// How the kernel is entered.
    pub entry: Option<Protocol>,
    /// Text for the end of the kernel's command line.
    pub append: Option<String>,
    /// The guest program's arguments: those of `-a`, then those after `--`.
    pub args: Vec<String>,
    /// Environment variables; a later one wins.
    pub env: Vec<(String, String)>,
    /// What the process gives up before the guest runs.
    pub jail: Option<JailChoice>,
    /// Where virtio devices are.
    pub virtio: Option<VirtioBus>,
    /// Disks beside the image.
    pub disks: Vec<Disk>,
    /// OPS's volumes.
    pub mounts: Vec<Mount>,
    /// Throw away what the guest writes to its disks.
    pub ephemeral: bool,
    /// The guest's network.
    pub network: Typed,
    /// Its further devices.
    pub devices: Devices,
    /// Say on stderr what is done.
    pub verbose: bool,
    /// End the run after this long; not 0.
    pub timeout: Option<Duration>,
    /// Where to write the JSON record of the run.
    pub report: Option<PathBuf>,
    /// A terminal on stdin is the guest's keyboard.
    pub stdin: bool,
    /// Block storage of guests that have names for it.
    pub blocks: Vec<NamedBlock>,
    /// Typed in the words of Solo5's tender.
    pub tender: bool,
    /// Folder for a core dump, in these words.
    pub dump: Option<PathBuf>,
}

/// Why there is no [`Command`]: the help that was asked for, or what is wrong with the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to print: whole lines for stdout, one sentence without a line end for stderr.
    pub text: String,
    /// It was asked for and belongs on stdout; else it belongs on stderr.
    pub to_stdout: bool,
    status: u8,
}

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Failure { text: text.into(), to_stdout: false, status: 125 }
    }

    /// The process's exit status: 0 for what was asked for, else 125; in the words of Solo5's tender
    /// what that has.
    #[must_use]
    pub fn status(&self) -> u8 {
        self.status
    }
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// Help and version, when asked for; else the first thing that is wrong with the command line.
pub fn parse<I, T>(args: I) -> Result<Command, Failure>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if let Some(command) = solo5::parse(&args) {
        return command;
    }
    let matches = definition().try_get_matches_from(args).map_err(|e| failure(&e))?;
    let imagename = one(&matches, "imagename", path)?;
    let mut rest = words(&matches, "rest");
    let mut words = words(&matches, "words");

    let command = match words.first().and_then(|w| w.to_str()) {
        Some(word @ ("run" | "load" | "inspect" | "doctor")) => Some(word.to_owned()),
        _ => None,
    };
    if command.is_some() {
        words.remove(0);
    }
    if command.as_deref() == Some("doctor") {
        only(&matches, "doctor", &["json", "verbose", "sign"])?;
        if let Some(extra) = words.into_iter().chain(rest).next() {
            return Err(Failure::new(format!(
                "doctor takes no {}; it looks at this machine, not at an image",
                show(&extra)
            )));
        }
        return Ok(Command::Doctor {
            json: matches.get_flag("json"),
            verbose: matches.get_flag("verbose"),
            sign: matches.get_flag("sign"),
        });
    }
    if matches.get_flag("json") {
        return Err(Failure::new(ops::JSON_ELSEWHERE));
    }
    if matches.get_flag("sign") {
        return Err(Failure::new("--sign signs runner itself: `runner doctor --sign`"));
    }

    if words.is_empty() && imagename.is_none() && !rest.is_empty() {
        words.push(rest.remove(0));
    }
    let image = the_image(&matches, words, imagename)?;
    if command.as_deref() == Some("inspect") {
        only(&matches, "inspect", &["verbose", "imagename"])?;
        if let Some(extra) = rest.first() {
            return Err(Failure::new(format!(
                "inspect starts no guest, so {} has nobody to go to; leave it out",
                show(extra)
            )));
        }
        let image =
            image.ok_or_else(|| Failure::new("inspect needs an image: runner inspect IMAGE"))?;
        return Ok(Command::Inspect { image, verbose: matches.get_flag("verbose") });
    }
    Ok(Command::Run(Box::new(options(&matches, image, rest)?)))
}

fn options(
    matches: &ArgMatches,
    image: Option<PathBuf>,
    rest: Vec<OsString>,
) -> Result<Options, Failure> {
    let mut args = all(matches, "args", text)?;
    for word in rest {
        args.push(
            text(&word)
                .map_err(|why| Failure::new(format!("the argument {} {why}", show(&word))))?,
        );
    }
    Ok(Options {
        image,
        configs: all(matches, "config", path)?,
        accel: one(matches, "accel", |v| values::accel(&text(v)?))?,
        memory: one(matches, "memory", |v| values::memory(&text(v)?))?,
        cpus: one(matches, "cpus", |v| values::cpus(&text(v)?))?,
        kernel: one(matches, "kernel", path)?,
        initrd: one(matches, "initrd", path)?,
        entry: one(matches, "entry", |v| values::entry(&text(v)?))?,
        append: Some(all(matches, "append", text)?.join(" ")).filter(|text| !text.is_empty()),
        args,
        env: all(matches, "envs", |v| values::env(&text(v)?))?,
        jail: one(matches, "jail", |v| values::jail(&text(v)?))?,
        virtio: one(matches, "virtio", |v| values::bus(&text(v)?))?,
        disks: all(matches, "disk", values::disk)?,
        mounts: all(matches, "mounts", |v| values::mount(&text(v)?))?,
        ephemeral: matches.get_flag("ephemeral"),
        network: typed_network(matches)?,
        devices: typed_devices(matches)?,
        verbose: matches.get_flag("verbose"),
        timeout: one(matches, "timeout", |v| values::duration(&text(v)?))?,
        report: one(matches, "report", path)?,
        stdin: matches.get_flag("stdin"),
        blocks: all(matches, "block", named::block)?,
        tender: false,
        dump: None,
    })
}

fn typed_devices(matches: &ArgMatches) -> Result<Devices, Failure> {
    Ok(Devices {
        rng: matches.get_flag("rng").then_some(true),
        vsock: one(matches, "vsock", values::vsock)?,
        shares: all(matches, "share", values::share)?,
        balloon: one(matches, "balloon", |v| match v.is_empty() {
            true => Ok(0),
            false => values::memory(&text(v)?),
        })?,
        console: one(matches, "console", |v| values::console(&text(v)?))?,
        channels: all(matches, "channel", values::channel)?,
    })
}

fn typed_network(matches: &ArgMatches) -> Result<Typed, Failure> {
    let interface = |id| one(matches, id, |v| network::interface(&text(v)?));
    let (mut net, mut named) = (None, Vec::new());
    for network in all(matches, "net", named::net)? {
        match network {
            Ok(by_name) => named.push(by_name),
            Err(choice) => net = Some(choice),
        }
    }
    let ip4 = |id| one(matches, id, |v| values::ip4(&text(v)?));
    Ok(Typed {
        net,
        ports: all(matches, "port", |v| network::ports(&text(v)?))?,
        udp: all(matches, "udp", |v| network::ports(&text(v)?))?,
        tap: interface("tapname")?,
        bridged: matches.get_flag("bridged"),
        bridge: interface("bridgename")?,
        addresses: Addresses {
            ip: ip4("ip-address")?,
            gateway: ip4("gateway")?,
            netmask: one(matches, "netmask", |v| values::netmask(&text(v)?))?,
            ipv6: one(matches, "ipv6-address", |v| values::ip6(&text(v)?))?,
        },
        mac: one(matches, "mac", |v| network::mac(&text(v)?))?,
        host_loopback: matches.get_flag("host-loopback"),
        link_local: matches.get_flag("link-local"),
        port_wait: one(matches, "port-wait", |v| values::duration(&text(v)?))?,
        pcap: one(matches, "pcap", path)?,
        named,
    })
}

fn words(matches: &ArgMatches, id: &str) -> Vec<OsString> {
    matches.get_many(id).into_iter().flatten().cloned().collect()
}

fn all<T>(
    matches: &ArgMatches,
    id: &str,
    read: impl Fn(&OsStr) -> Result<T, String>,
) -> Result<Vec<T>, Failure> {
    let values = matches.get_many::<OsString>(id).into_iter().flatten();
    let read = |value: &OsString| {
        read(value).map_err(|why| Failure::new(format!("--{id} {} {why}", show(value))))
    };
    values.map(read).collect()
}

fn one<T>(
    matches: &ArgMatches,
    id: &str,
    read: impl Fn(&OsStr) -> Result<T, String>,
) -> Result<Option<T>, Failure> {
    Ok(all(matches, id, read)?.pop())
}

fn text(value: &OsStr) -> Result<String, String> {
    match value.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err("is not UTF-8; write it in UTF-8".into()),
    }
}

fn path(value: &OsStr) -> Result<PathBuf, String> {
    if value.is_empty() {
        return Err("is empty; give the path of a file".into());
    }
    Ok(value.into())
}

/// A word as typed, in quotes, with whatever would upset a terminal escaped.
fn show(word: &OsStr) -> String {
    format!("`{}`", word.to_string_lossy().escape_debug())
}

/// The one image that words and `-i` name, if any.
fn the_image(
    matches: &ArgMatches,
    words: Vec<OsString>,
    name: Option<PathBuf>,
) -> Result<Option<PathBuf>, Failure> {
    let mut words = words.into_iter();
    let first = words.next();
    if let (Some(first), Some(extra)) = (&first, words.next()) {
        return Err(Failure::new(ops::second_word(
            first,
            &extra,
            matches.value_source("accel") == Some(ValueSource::CommandLine),
        )));
    }
    match (first, name) {
        (Some(word), Some(name)) if word != name => Err(Failure::new(format!(
            "two images, {} and {}; runner boots one",
            show(&word),
            show(name.as_os_str())
        ))),
        (Some(word), _) if word.is_empty() => {
            Err(Failure::new("the image's name is empty; give its name or path"))
        }
        (Some(word), _) => Ok(Some(word.into())),
        (None, name) => Ok(name),
    }
}

/// Refuses all options but those a command has.
fn only(matches: &ArgMatches, command: &str, allowed: &[&str]) -> Result<(), Failure> {
    let typed =
        |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    let foreign = matches
        .ids()
        .filter(typed)
        .find(|id| !["words", "rest"].contains(&id.as_str()) && !allowed.contains(&id.as_str()));
    match foreign {
        Some(id) => Err(Failure::new(format!("{command} has no option --{id}; leave it out"))),
        None => Ok(()),
    }
}
