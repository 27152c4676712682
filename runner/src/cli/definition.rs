//! What clap is told of the command line, the help that is shown in its place, and what it finds wrong, in a sentence.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, value_parser};

use super::{Failure, ops};

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

/// All options, as clap knows them.
pub(super) fn definition() -> clap::Command {
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
pub(super) fn failure(error: &clap::Error) -> Failure {
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
