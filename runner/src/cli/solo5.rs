//! The words of Solo5's tender (`tenders/hvt/hvt_main.c` and its modules), for programs that call one:
//! `solo5-hvt [OPTIONS] [--] KERNEL [ARGS]`, or `runner solo5-hvt …`.
//!
//! Options come before the kernel, and each is one word. All that is wrong ends with status 1, as the
//! tender's does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{Command, Failure, Options, show, text};
use crate::boot::Protocol;
use crate::config::NetChoice;
use crate::config::named::{NamedBlock, NamedNet, split};
use crate::config::network::{interface, mac};

/// The name that it is called by.
const NAME: &str = "solo5-hvt";
/// That of the tender which has `--dumpcore` in Solo5's builds.
const WITH_DUMPS: &str = "solo5-hvt-debug";
/// Guest memory when nobody says, in MiB.
const MEMORY: u64 = 512;
/// The status of whatever is wrong.
const STATUS: u8 = 1;

const HELP: &str = "\
usage: solo5-hvt [ CORE OPTIONS ] [ MODULE OPTIONS ] [ -- ] KERNEL [ ARGS ]
KERNEL is the filename of the unikernel to run.
ARGS are optional arguments passed to the unikernel.
Core options:
  [ --mem=512 ] (guest memory in MB)
    --help (display this help)
    --version (display version information)
Module options:
    --block:NAME=PATH (attach block device/file at PATH as block storage NAME)
  [ --block-sector-size:NAME=SECTORSIZE ] (a power of two, 512 to 32768)
    --dumpcore=DIR (enable guest core dump on abort/trap)
    --net:NAME=IFACE (attach tap at IFACE as network NAME)
  [ --net-mac:NAME=HWADDR ] (set HWADDR for network NAME)
This is runner, in the words of Solo5's tender: `runner --help` has its own.
";

/// What a command line says that is in the tender's words; nothing when it is not.
pub(super) fn parse(words: &[OsString]) -> Option<Result<Command, Failure>> {
    let called = words.first().and_then(|word| Path::new(word).file_name());
    let rest = match (called, words.get(1)) {
        (Some(name), _) if name == NAME || name == WITH_DUMPS => words.get(1..),
        (_, Some(command)) if command == NAME => words.get(2..),
        _ => return None,
    };
    Some(command(rest.unwrap_or_default()))
}

fn wrong(what: impl Into<String>) -> Failure {
    Failure { status: STATUS, ..Failure::new(what) }
}

fn command(words: &[OsString]) -> Result<Command, Failure> {
    let mut given = Given::default();
    let mut words = words.iter();
    let kernel = loop {
        let word = words.next().ok_or_else(|| wrong("Missing KERNEL operand; see --help"))?;
        match word.as_bytes() {
            b"--" => {
                break words.next().ok_or_else(|| wrong("Missing KERNEL operand; see --help"))?;
            }
            [b'-', ..] => given.option(word)?,
            _ => break word,
        }
    };
    if kernel.is_empty() {
        return Err(wrong("the KERNEL operand is empty; name the unikernel's file"));
    }
    let argument = |word: &OsString| {
        text(word).map_err(|why| wrong(format!("the argument {} {why}", show(word))))
    };
    let args = words.map(argument).collect::<Result<_, _>>()?;
    let mut options = given.complete()?;
    options.image = Some(file(kernel));
    options.args = args;
    Ok(Command::Run(Box::new(options)))
}

/// The operand as a path in any case: for the tender it is no name of an image.
fn file(kernel: &OsStr) -> PathBuf {
    match kernel.as_bytes().contains(&b'/') {
        true => kernel.into(),
        false => Path::new(".").join(kernel),
    }
}

/// The options so far.
#[derive(Default)]
struct Given {
    memory: Option<u64>,
    blocks: Vec<NamedBlock>,
    sizes: Vec<(String, u16)>,
    nets: Vec<NamedNet>,
    macs: Vec<(String, [u8; 6])>,
    dump: Option<PathBuf>,
}

impl Given {
    fn option(&mut self, word: &OsStr) -> Result<(), Failure> {
        let value = |option: &str| {
            let rest = word.as_bytes().strip_prefix(option.as_bytes())?;
            Some(OsString::from_vec(rest.to_vec()))
        };
        let invalid = || wrong(format!("Invalid option: {}; see --help", show(word)));
        let named = |rest: OsString| split(&rest).filter(|(_, what)| !what.is_empty());
        if word == "--help" {
            return Err(Failure { text: HELP.to_owned(), to_stdout: true, status: STATUS });
        } else if word == "--version" {
            let text =
                format!("{NAME} tender, runner {}\nABI version 2\n", env!("CARGO_PKG_VERSION"));
            return Err(Failure { text, to_stdout: true, status: 0 });
        } else if let Some(size) = value("--mem=") {
            self.memory = Some(memory(&size)?);
        } else if let Some(rest) = value("--block:") {
            let (name, path) = named(rest).ok_or_else(invalid)?;
            let (path, read_only) = (path.into(), false);
            self.blocks.push(NamedBlock { name, path, read_only, block_size: None });
        } else if let Some(rest) = value("--block-sector-size:") {
            let (name, size) = named(rest).ok_or_else(invalid)?;
            self.sizes.push((name, sector_size(&size)?));
        } else if let Some(rest) = value("--net:") {
            let (name, tap) = named(rest).ok_or_else(invalid)?;
            self.nets.push(NamedNet { name, choice: tap_device(word, &tap)?, mac: None });
        } else if let Some(rest) = value("--net-mac:") {
            let (name, address) = named(rest).ok_or_else(invalid)?;
            let address = address.to_str().unwrap_or_default();
            let address = mac(address).map_err(|why| wrong(format!("{} {why}", show(word))))?;
            self.macs.push((name, address));
        } else if let Some(folder) = value("--dumpcore=") {
            self.dump = Some(folder).filter(|folder| !folder.is_empty()).map(PathBuf::from);
            self.dump.as_ref().ok_or_else(invalid)?;
        } else if value("--gdb").is_some() {
            return Err(wrong(
                "--gdb is for Solo5's own tender (solo5-hvt-debug): runner has no debugger stub; leave it out",
            ));
        } else {
            return Err(invalid());
        }
        Ok(())
    }

    /// Puts together what was said of a device in several options.
    fn complete(mut self) -> Result<Options, Failure> {
        for (name, size) in self.sizes {
            let block = self.blocks.iter_mut().find(|block| block.name == name);
            block.ok_or_else(|| unknown("--block-sector-size", &name, "--block"))?.block_size =
                Some(size);
        }
        for (name, address) in self.macs {
            let net = self.nets.iter_mut().find(|net| net.name == name);
            net.ok_or_else(|| unknown("--net-mac", &name, "--net"))?.mac = Some(address);
        }
        let mut options = Options {
            memory: Some(self.memory.unwrap_or(MEMORY) << 20),
            blocks: self.blocks,
            tender: true,
            entry: Some(Protocol::Hvt),
            dump: self.dump,
            ..Options::default()
        };
        options.network.named = self.nets;
        Ok(options)
    }
}

fn unknown(option: &str, name: &str, attach: &str) -> Failure {
    wrong(format!("{option}:{name}: no such device is attached; add {attach}:{name}=…"))
}

/// MiB, as the tender has them.
fn memory(size: &OsStr) -> Result<u64, Failure> {
    let size = size.to_str().and_then(|size| size.parse::<u64>().ok());
    // More than fits into 44 bits is more than any host has, and would not be bytes.
    let size = size.filter(|size| (1..1 << 43).contains(size));
    size.ok_or_else(|| wrong("Malformed argument to --mem; give MiB, such as --mem=512"))
}

fn sector_size(size: &OsStr) -> Result<u16, Failure> {
    let size = size.to_str().and_then(|size| size.parse::<u16>().ok());
    size.filter(|size| *size >= 512 && size.is_power_of_two()).ok_or_else(|| {
        wrong(
            "Block size must be a multiple of 2 greater than or equal 512: a power of two, 32768 at the most",
        )
    })
}

fn tap_device(word: &OsStr, name: &OsStr) -> Result<NetChoice, Failure> {
    let name = name.to_str().unwrap_or_default();
    if name.starts_with('@') {
        let option = show(word);
        return Err(wrong(format!(
            "{option}: runner takes no tap device by its descriptor; name the device"
        )));
    }
    let name = interface(name).map_err(|why| wrong(format!("{} {why}", show(word))))?;
    Ok(NetChoice::Tap(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Failure> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        super::super::parse(words)
    }

    fn options(line: &str) -> Options {
        match parsed(line) {
            Ok(Command::Run(options)) => *options,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn wrong(line: &str) -> String {
        let failure = parsed(line).unwrap_err();
        assert_eq!((failure.to_stdout, failure.status()), (false, 1), "{line}");
        failure.text
    }

    #[test]
    fn the_tenders_words_are_understood_by_its_name_and_by_a_command() {
        let words = "--mem=64 --dumpcore=/a=b --block-sector-size:storage=4096 --block:storage=d=1.img --net:service=tap100 \
                     --net-mac:service=02:00:00:00:00:01 -- unikernel.hvt -a --b c";
        for name in ["/opt/bin/solo5-hvt", "./solo5-hvt-debug", "runner solo5-hvt"] {
            let line = format!("{name} {words}");
            let options = options(&line);
            assert_eq!(options.image, Some("./unikernel.hvt".into()));
            assert_eq!(options.args, ["-a", "--b", "c"]);
            assert_eq!((options.memory, options.tender), (Some(64 << 20), true));
            assert_eq!(options.dump, Some("/a=b".into()));
            let [block] = &options.blocks[..] else { panic!("{options:?}") };
            assert_eq!((block.name.as_str(), block.block_size), ("storage", Some(4096)));
            assert_eq!(block.path, Path::new("d=1.img"));
            let [net] = &options.network.named[..] else { panic!("{options:?}") };
            assert_eq!(
                (&net.choice, net.mac),
                (&NetChoice::Tap("tap100".into()), Some([2, 0, 0, 0, 0, 1]))
            );
        }
    }

    #[test]
    fn without_options_a_guest_has_512_mib_and_its_arguments() {
        let options = options("solo5-hvt kernel --mem=1");
        assert_eq!((options.memory, options.args), (Some(512 << 20), vec!["--mem=1".to_owned()]));
    }

    #[test]
    fn whatever_is_wrong_ends_with_status_1_in_the_tenders_words() {
        for line in ["solo5-hvt", "solo5-hvt --mem=2", "solo5-hvt --"] {
            assert!(wrong(line).starts_with("Missing KERNEL operand"), "{line}");
        }
        for size in ["", "0", "-1", "2M", "99999999999999999999"] {
            let text = wrong(&format!("solo5-hvt --mem={size} k"));
            assert!(text.starts_with("Malformed argument to --mem"), "{size}");
        }
        for size in ["521", "256", "0", "65536", "x"] {
            let text = wrong(&format!("solo5-hvt --block:a=f --block-sector-size:a={size} k"));
            assert!(
                text.starts_with("Block size must be a multiple of 2 greater than or equal 512")
            );
        }
        for option in [
            "--nothing",
            "-m",
            "--block:=f",
            "--block:a",
            "--block:a=",
            "--net:a/b=t",
            "--mem",
            "--dumpcore=",
        ] {
            let text = wrong(&format!("solo5-hvt {option} k"));
            assert!(text.starts_with("Invalid option: "), "{text}");
        }
        for (line, about) in [
            ("solo5-hvt --net:a=@4 k", "descriptor"),
            ("solo5-hvt --net:a=a/b k", "network interface"),
            ("solo5-hvt --net:a=t --net-mac:a=1 k", "hardware address"),
            ("solo5-hvt --net-mac:a=02:00:00:00:00:01 k", "--net:a"),
            ("solo5-hvt --block-sector-size:a=512 k", "--block:a"),
            ("solo5-hvt --gdb-port=1 k", "debugger"),
        ] {
            let text = wrong(line);
            assert!(text.contains(about), "{text}");
        }
    }

    #[test]
    fn help_and_version_are_as_the_tender_has_them() {
        let help = parsed("solo5-hvt --help").unwrap_err();
        assert!(help.to_stdout && help.status() == 1 && help.text.starts_with("usage: solo5-hvt"));
        let version = parsed("runner solo5-hvt --version").unwrap_err();
        assert!(
            version.to_stdout && version.status() == 0 && version.text.contains("ABI version 2")
        );
    }
}
