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

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::boot::Protocol;
use crate::config::named::{self, NamedBlock};
use crate::config::network::{self, Typed};
use crate::config::{AccelChoice, Addresses, Devices, Disk, JailChoice, Mount, values};
use crate::machine::slot::VirtioBus;

mod ops;
mod solo5;
#[cfg(test)]
mod tests;

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

/// The text of `--help`.
pub const HELP: &str = "\
Boots a unikernel image on the host's accelerator.

Usage: runner [OPTIONS] IMAGE [-- ARGS...]
       runner inspect IMAGE     what the image is and how it boots
       runner doctor [--json]   will guests run on the accelerator here; if not, why
       runner doctor --sign     sign this program for macOS's accelerator, then look
       runner solo5-hvt …       in Solo5's tender's words, as when called by that name

IMAGE is a path, a name in ~/.ops/images, or hello, which is built in.
`runner run IMAGE` and `runner load IMAGE` do the same as `runner IMAGE`.

Options:
  -c, --config FILE     read FILE, a config.json as OPS has it; repeatable, later wins
  -x, --accel[=WHICH]   auto (also true), kvm, hvf, off (also false) [auto]
  -m, --memory SIZE     guest memory, 512M or 2G; a plain number is MiB [2G]
      --cpus N          number of virtual CPUs; also --smp [1]
  -a, --args ARG        an argument for the guest's program; repeatable
  -e, --envs KEY=VALUE  a variable for the guest's environment; repeatable
      --disk FILE[,ro]  attach a disk, read-only by ,ro; raw, or ,format=qcow2; repeatable
      --block NAME=FILE[,ro]  the same for a Solo5 guest, by its name there
      --mounts VOL:/DIR attach OPS's volume VOL, mounted at /DIR, or /DIR:ro; repeatable
      --ephemeral       throw away what the guest writes to its disks, the image too;
                        many runs may share them
      --share FOLDER[:TAG][:ro]  share a folder of the host's by 9P; repeatable
  -p, --port PORTS      forward ports to the guest: 8080, 8080:80, 0.0.0.0:80:80, 80,443,
                        8000-8010; on 127.0.0.1 without an address; repeatable
      --udp PORTS       the same for UDP; repeatable
      --port-wait TIME  for so long clients wait where the guest does not listen yet [0]
      --net WHICH       user, none, tap:NAME, bridge:NAME, unix:PATH, unixgram:PATH
                        [user for what OPS builds and with -p, else none];
                        NAME=WHICH, repeatable, for a Solo5 guest
  -t, --tapname NAME    the same as --net=tap:NAME
  -b, --bridged         put the guest into a bridge of the host's
      --bridgename NAME that bridge [br0]
      --ip-address, --netmask, --gateway, --ipv6-address ADDRESS
                        the guest's own addresses, in place of what DHCP tells it
      --mac ADDRESS     its hardware address
      --host-loopback, --link-local  let it reach the host, by 10.0.2.2; 169.254.0.0/16
      --pcap FILE       write what goes over the network to FILE, for tcpdump
  -i, --imagename NAME  the same as IMAGE
  -k, --kernel FILE     boot this kernel in place of the image's own
      --initrd FILE     initial ram disk for the kernel
      --entry WAY       linux64, linux32, pvh, multiboot, arm64, hvt, uhyve [what suits]
      --virtio WHICH    where virtio devices are: mmio, pci [mmio; what OPS builds: pci]
      --rng             random bytes by a virtio device [for what OPS builds, on pci]
      --vsock PATH[,cid=N]  sockets between the guest and the host's PATH and PATH_PORT
      --console WHICH   serial, or virtio: a virtio console besides, with stdin [serial]
      --channel NAME=PATH  a virtio port NAME, for who listens at PATH; repeatable
      --balloon[=SIZE]  free memory goes back to the host; with SIZE so much in any case
      --append TEXT     add TEXT to the kernel's command line
      --jail WHICH      on, strict (all of it or no run), off [on]
      --timeout TIME    end the run after TIME: 5 or 5s, 500ms, 2m (status 124)
      --report FILE     write a JSON record of the run to FILE
      --stdin           a terminal on stdin is the guest's keyboard; Ctrl-] ends the run
  -v, --verbose         say on stderr what is done
  -h, --help            print this
  -V, --version         print the version

stdout is the guest's console; stdin is, too, a terminal only with --stdin.
The exit status is the guest's; 124 time-out, 125 could not run, 126 the guest crashed.
";

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

fn definition() -> clap::Command {
    let word = |id: &'static str| {
        Arg::new(id).action(ArgAction::Append).value_parser(value_parser!(OsString))
    };
    // `-x FILE`: an option with a value, of which the last counts unless all are collected.
    let option = |id: &'static str| word(id).long(id).action(ArgAction::Set);
    let repeated = |id: &'static str| word(id).long(id);
    let flag = |id: &'static str| Arg::new(id).long(id).action(ArgAction::SetTrue);
    clap::Command::new("runner")
        .version(env!("CARGO_PKG_VERSION"))
        .override_help(HELP)
        .args_override_self(true)
        .arg(word("words"))
        .arg(word("rest").last(true))
        .arg(repeated("config").short('c'))
        .arg(
            option("accel")
                .short('x')
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
        )
        .arg(option("memory").short('m'))
        .arg(option("cpus").alias("smp"))
        .arg(option("kernel").short('k'))
        .arg(option("initrd"))
        .arg(option("entry"))
        .arg(repeated("append").allow_hyphen_values(true))
        .arg(repeated("args").short('a').allow_hyphen_values(true))
        .arg(repeated("envs").short('e'))
        .arg(repeated("disk"))
        .arg(repeated("block"))
        .arg(repeated("share"))
        .arg(repeated("mounts"))
        .arg(flag("ephemeral"))
        .arg(repeated("port").short('p'))
        .arg(repeated("udp"))
        .arg(repeated("net"))
        .arg(option("tapname").short('t'))
        .arg(flag("bridged").short('b'))
        .arg(option("bridgename"))
        .arg(option("ip-address"))
        .arg(option("netmask"))
        .arg(option("gateway"))
        .arg(option("ipv6-address"))
        .arg(option("mac"))
        .arg(flag("host-loopback"))
        .arg(flag("link-local"))
        .arg(option("port-wait"))
        .arg(option("pcap"))
        .arg(option("imagename").short('i'))
        .arg(option("jail"))
        .arg(option("virtio"))
        .arg(flag("rng"))
        .arg(option("vsock"))
        .arg(option("console"))
        .arg(repeated("channel"))
        .arg(option("balloon").num_args(0..=1).require_equals(true).default_missing_value(""))
        .arg(option("timeout"))
        .arg(option("report"))
        .arg(flag("stdin"))
        .arg(flag("verbose").short('v'))
        .arg(flag("json").short('j'))
        .arg(flag("sign"))
        // OPS's `-s`: do not build the image first. Nothing here ever does.
        .arg(flag("skipbuild").short('s'))
}

/// What clap found wrong, in one sentence.
fn failure(error: &clap::Error) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Failure { text: error.render().to_string(), to_stdout: true, status: 0 }
        }
        ErrorKind::UnknownArgument => {
            if let Some(sentence) = ops::refusal(argument) {
                return Failure::new(sentence);
            }
            let nearest = context(ContextKind::SuggestedArg);
            Failure::new(match nearest {
                Some(nearest) => {
                    format!("no option {argument}; did you mean {nearest}? runner --help lists all")
                }
                None => format!("no option {argument}; runner --help lists all"),
            })
        }
        ErrorKind::InvalidValue | ErrorKind::NoEquals => {
            let option = argument.split([' ', '=', '[']).next().unwrap_or_default();
            Failure::new(format!("{option} needs a value; see runner --help"))
        }
        ErrorKind::TooManyValues => {
            let option = argument.split([' ', '=', '[']).next().unwrap_or_default();
            Failure::new(format!("{option} takes no value; write {option} alone"))
        }
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            Failure::new(line.strip_prefix("error: ").unwrap_or(line))
        }
    }
}
