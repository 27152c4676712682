//! Programs from Debian, with the libraries they name and no others: for guests that have none, and for
//! the host in the lab, which has none either.
//!
//! They start by their loader, as `ld.so --library-path tools tools/curl`.

use crate::architecture::Architecture;
use crate::cache::Cache;
use crate::command::{self, Result};
use crate::packages::{self, Wanted};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs, and the packages that they and their libraries are in.
#[derive(Debug)]
pub(crate) struct Tools {
    packages: Wanted,
    programs: &'static [&'static str],
}

/// For networks.
pub(crate) const NET: Tools = Tools {
    packages: Wanted {
        folder: "net-tools",
        suite: None,
        packages: &["iperf3", "curl", "bind9-dnsutils", "libc6"],
        except: &["debconf", "dpkg", "perl-base", "tar", "install-info"],
    },
    programs: &["usr/bin/curl", "usr/bin/dig", "usr/bin/iperf3"],
};

/// For disks.
pub(crate) const FILE_SYSTEMS: Tools = Tools {
    packages: Wanted {
        folder: "e2fsprogs",
        suite: None,
        packages: &["e2fsprogs", "libblkid1", "libc6", "libcom-err2", "libext2fs2", "libuuid1"],
        except: &["logsave", "libgcc-s1"],
    },
    programs: &["sbin/mke2fs", "sbin/e2fsck"],
};

/// What measures disks.
pub(crate) const FIO: Tools = Tools {
    packages: Wanted {
        folder: "fio",
        suite: None,
        packages: &["fio", "libc6"],
        except: &["python3", "init-system-helpers", "debconf", "dpkg", "perl-base", "tar"],
    },
    programs: &["usr/bin/fio"],
};

/// A file of the folder.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) from: PathBuf,
}

/// Programs, the loader and libraries.
pub(crate) fn find(cache: &Cache, tools: &Tools, architecture: &Architecture) -> Result<Vec<Tool>> {
    let tree = packages::unpacked(cache, &tools.packages, architecture.debian)?;
    let library = |name: &str| library(&tree, architecture.triplet, name);
    let loader = architecture.loader;
    let mut found = vec![Tool { name: "ld.so".to_owned(), from: library(loader)? }];
    let mut seen = BTreeSet::from([loader.to_owned()]);
    let mut open = Vec::new();
    for program in tools.programs {
        let from = tree.join(program);
        open.extend(needed(&from)?);
        let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.push(Tool { name, from });
    }
    while let Some(name) = open.pop() {
        if seen.insert(name.clone()) {
            let from = library(&name)?;
            open.extend(needed(&from)?);
            found.push(Tool { name, from });
        }
    }
    Ok(found)
}

/// Where packages of this Debian keep their libraries.
fn library(tree: &Path, triplet: &str, name: &str) -> Result<PathBuf> {
    let folders = ["usr/lib", "lib"].map(|folder| tree.join(folder).join(triplet));
    // Ceph keeps one in a folder of its own.
    let mut candidates = folders.iter().flat_map(|folder| [folder.clone(), folder.join("ceph")]);
    let found = candidates.find_map(|folder| Some(folder.join(name)).filter(|path| path.exists()));
    found.ok_or_else(|| format!("no library {name} in {}", tree.display()))
}

/// The libraries that a program or a library names (readelf(1), `NEEDED`).
fn needed(file: &Path) -> Result<Vec<String>> {
    let text = command::output(Command::new("readelf").arg("-d").arg(file).env("LC_ALL", "C"))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Vec<String> {
    let needed = text.lines().filter(|line| line.contains("(NEEDED)"));
    needed.filter_map(|line| line.split(['[', ']']).nth(1)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_named_in_brackets() {
        let text = "
Dynamic section at offset 0x3d8 contains 30 entries:
 0x0000000000000001 (NEEDED)             Shared library: [libcurl.so.4]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x000000000000000e (SONAME)             Library soname: [libnot.so.1]
";
        assert_eq!(parse(text), ["libcurl.so.4", "libc.so.6"]);
    }
}
