//! curl, dig and iperf3 from Debian, with the libraries they name and no others: for guests that have
//! none, and for the host in the lab, which has none either.
//!
//! They start by their loader, as `ld.so --library-path tools tools/curl`.

use crate::cache::Cache;
use crate::command::{self, Result};
use crate::packages::{self, Wanted};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const TOOLS: Wanted = Wanted {
    folder: "net-tools",
    packages: &["iperf3", "curl", "bind9-dnsutils", "libc6"],
    except: &["debconf", "dpkg", "perl-base", "tar", "install-info"],
};

const PROGRAMS: [&str; 3] = ["usr/bin/curl", "usr/bin/dig", "usr/bin/iperf3"];

const LOADER: &str = "ld-linux-x86-64.so.2";

/// Where packages of this Debian keep their libraries.
const FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// A file of the folder.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) from: PathBuf,
}

/// Programs, the loader and libraries.
pub(crate) fn find(cache: &Cache) -> Result<Vec<Tool>> {
    let tree = packages::unpacked(cache, &TOOLS)?;
    let mut tools = vec![Tool { name: "ld.so".to_owned(), from: library(&tree, LOADER)? }];
    let mut seen = BTreeSet::from([LOADER.to_owned()]);
    let mut open = Vec::new();
    for program in PROGRAMS {
        let from = tree.join(program);
        open.extend(needed(&from)?);
        let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tools.push(Tool { name, from });
    }
    while let Some(name) = open.pop() {
        if seen.insert(name.clone()) {
            let from = library(&tree, &name)?;
            open.extend(needed(&from)?);
            tools.push(Tool { name, from });
        }
    }
    Ok(tools)
}

fn library(tree: &Path, name: &str) -> Result<PathBuf> {
    let candidates = FOLDERS.iter().map(|folder| tree.join(folder).join(name));
    let found = candidates.into_iter().find(|path| path.exists());
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
