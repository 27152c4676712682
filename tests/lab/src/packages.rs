//! Debian packages, unpacked into the cache and not installed.
//!
//! The lab keeps package lists of its own, for amd64 and arm64, beside the packages: the machine's
//! apt state is neither needed nor changed, and root is not needed either. Sources and keys are the
//! machine's; another suite of Debian comes from the same mirror. A folder is named by the version of
//! its first package and lists every package in it, so a new version of any of them unpacks a new
//! folder.

use crate::cache::Cache;
use crate::command::{self, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Lists are fetched again after this long: a mirror keeps few old versions.
const LISTS_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The file whose presence says that a folder is complete; holds the packages in it.
const MARKER: &str = ".packages";

/// Our own list of sources, where they are not the machine's.
const SOURCES: &str = "sources.list";

/// Debian's keys, of this and of later releases.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The architecture of a package whose name has none.
pub(crate) const THIS_MACHINES: &str = "amd64";

/// Packages that are wanted as files.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The beginning of the folder's name.
    pub(crate) folder: &'static str,
    /// The suite of Debian that has them; none for the machine's own sources.
    pub(crate) suite: Option<&'static str>,
    /// Package names, `name` or `name:architecture`; the first one's version names the folder.
    pub(crate) packages: &'static [&'static str],
    /// What they depend on is unpacked too, except these: the machine has them.
    pub(crate) except: &'static [&'static str],
}

/// A program, or another file, that has to be on the machine, and Debian's package with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Installed {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
}

/// One package as the lists describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    architecture: String,
    depends: Vec<String>,
}

impl Package {
    /// How apt is asked for exactly this one.
    fn exact(&self) -> String {
        if self.architecture == "all" {
            format!("{}={}", self.name, self.version)
        } else {
            format!("{}:{}={}", self.name, self.architecture, self.version)
        }
    }
}

/// Returns the folder that holds the unpacked packages, filling it when it is missing. They are
/// `architecture`'s where their names do not say.
pub(crate) fn unpacked(cache: &Cache, wanted: &Wanted, architecture: &str) -> Result<PathBuf> {
    for tool in ["apt-get", "apt-cache", "dpkg"] {
        if !command::exists(tool) {
            return Err(format!(
                "the lab is made of Debian packages and {tool} is missing: run it on Debian 12, or in a container of it"
            ));
        }
    }
    let apt = Apt::new(cache, wanted.suite, architecture);
    apt.refresh_lists(LISTS_AGE)?;
    match apt.unpack(cache, wanted) {
        Ok(folder) => Ok(folder),
        // The lists may name versions that the mirror has already replaced.
        Err(_) if apt.lists_older_than(Duration::from_secs(60)) => {
            apt.refresh_lists(Duration::ZERO)?;
            apt.unpack(cache, wanted)
        }
        Err(error) => Err(error),
    }
}

/// The one entry in `folder` of unpacked packages whose name begins with `prefix`.
pub(crate) fn one_file(packages: &Path, folder: impl AsRef<Path>, prefix: &str) -> Result<PathBuf> {
    let folder = packages.join(folder);
    let again = format!("delete {}, and it is filled again", packages.display());
    let entries = fs::read_dir(&folder)
        .map_err(|e| format!("cannot read {}: {e}; {again}", folder.display()))?;
    let mut found = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path());
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path),
        _ => Err(format!("expected one `{prefix}*` in {}; {again}", folder.display())),
    }
}

/// Installs on the machine what is missing.
pub(crate) fn ensure_installed(needed: Installed) -> Result<()> {
    let Installed { name: program, package } = needed;
    if command::exists(program) {
        return Ok(());
    }
    let advice =
        format!("{program} is missing: install it (Debian: `sudo apt-get install {package}`)");
    if !nix::unistd::geteuid().is_root() || !command::exists("apt-get") {
        return Err(advice);
    }
    println!("lab: installing {package}");
    let apt = |arguments: &[&str]| {
        command::output(
            Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"),
        )
        .map_err(|e| format!("{advice}; {e}"))
    };
    apt(&["update"])?;
    apt(&["install", "--yes", "--no-install-recommends", package])?;
    if command::exists(program) { Ok(()) } else { Err(advice) }
}

/// apt with lists in our own folder.
#[derive(Debug)]
struct Apt<'a> {
    dir: PathBuf,
    suite: Option<&'static str>,
    /// Of packages whose names do not say.
    architecture: &'a str,
}

impl<'a> Apt<'a> {
    fn new(cache: &Cache, suite: Option<&'static str>, architecture: &'a str) -> Self {
        let name = suite.map_or("apt".to_owned(), |suite| format!("apt-{suite}-{architecture}"));
        Self { dir: cache.dir().join(name), suite, architecture }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let folder = |name: &str| self.dir.join(name).display().to_string();
        for option in [
            format!("Dir::State::lists={}", folder("lists")),
            format!("Dir::Cache={}", folder("cache")),
            // Container images switch these off; with them a question takes no time.
            "Dir::Cache::pkgcache=pkgcache.bin".to_owned(),
            "Dir::Cache::srcpkgcache=srcpkgcache.bin".to_owned(),
            "APT::Architectures::=amd64".to_owned(),
            "APT::Architectures::=arm64".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        if self.suite.is_some() {
            command.arg("-o").arg(format!("Dir::Etc::SourceList={}", folder(SOURCES)));
            command.args(["-o", "Dir::Etc::SourceParts=-"]);
        }
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    fn stamp(&self) -> PathBuf {
        self.dir.join("updated")
    }

    fn lists_older_than(&self, age: Duration) -> bool {
        fs::metadata(self.stamp())
            .and_then(|stamp| stamp.modified())
            .ok()
            .and_then(|updated| SystemTime::now().duration_since(updated).ok())
            .is_none_or(|elapsed| elapsed >= age)
    }

    fn refresh_lists(&self, age: Duration) -> Result<()> {
        if !self.lists_older_than(age) {
            return Ok(());
        }
        println!("lab: fetching package lists");
        let context = |e| format!("cannot write to {}: {e}", self.dir.display());
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.dir.join(folder)).map_err(context)?;
        }
        if let Some(suite) = self.suite {
            let source = source(&mirror()?, suite, self.architecture);
            fs::write(self.dir.join(SOURCES), source).map_err(context)?;
        }
        let updated = command::output(self.command("apt-get").arg("update"));
        // Old lists do when there is no network; without any, say why.
        if updated.is_ok() || !self.stamp().exists() {
            updated?;
            fs::write(self.stamp(), "").map_err(context)?;
        }
        Ok(())
    }

    fn unpack(&self, cache: &Cache, wanted: &Wanted) -> Result<PathBuf> {
        let packages = self.with_dependencies(wanted)?;
        let list: String = packages.iter().map(|package| package.exact() + "\n").collect();
        let version = packages.first().map_or("", |package| &package.version);
        // Without the epoch: a path with a colon is no entry of LD_LIBRARY_PATH.
        let version = version.rsplit(':').next().unwrap_or_default();
        let folder = match self.architecture {
            THIS_MACHINES => format!("{}-{version}", wanted.folder),
            other => format!("{}-{other}-{version}", wanted.folder),
        };
        let folder = cache.dir().join(folder);
        if fs::read_to_string(folder.join(MARKER)).is_ok_and(|there| there == list) {
            return Ok(folder);
        }
        println!("lab: unpacking {} packages into {}", packages.len(), folder.display());
        let context = |e| format!("cannot write to {}: {e}", folder.display());
        let partial = cache.dir().join("partial");
        for stale in [&partial, &folder] {
            if stale.exists() {
                fs::remove_dir_all(stale).map_err(context)?;
            }
        }
        let downloads = partial.join("debs");
        let tree = partial.join("tree");
        fs::create_dir_all(&downloads).map_err(context)?;
        fs::create_dir_all(&tree).map_err(context)?;
        let exact = packages.iter().map(Package::exact);
        command::output(
            self.command("apt-get").arg("download").args(exact).current_dir(&downloads),
        )?;
        for deb in files(&downloads)? {
            command::output(Command::new("dpkg").arg("-x").arg(&deb).arg(&tree))?;
        }
        fs::write(tree.join(MARKER), list).map_err(context)?;
        fs::rename(&tree, &folder).map_err(context)?;
        fs::remove_dir_all(&partial).map_err(context)?;
        Ok(folder)
    }

    /// The packages wanted and what they depend on, the first one wanted first.
    fn with_dependencies(&self, wanted: &Wanted) -> Result<Vec<Package>> {
        let mut found = Vec::new();
        let mut seen: Vec<String> = wanted.except.iter().map(|&name| name.to_owned()).collect();
        let mut names: Vec<String> = wanted.packages.iter().map(|&name| name.to_owned()).collect();
        let mut required = true;
        while !names.is_empty() {
            seen.extend(names.iter().cloned());
            let described = self.describe(&names)?;
            let mut next = Vec::new();
            for name in &names {
                match described.get(name) {
                    Some(package) => {
                        found.push(package.clone());
                        // Another architecture's own dependencies are of no use here.
                        if !name.contains(':') {
                            next.extend(package.depends.iter().cloned());
                        }
                    }
                    None if required => {
                        return Err(format!(
                            "no package `{name}` in this machine's package sources: use Debian 12 with its security suite"
                        ));
                    }
                    // A virtual package, which something that is there provides.
                    None => {}
                }
            }
            next.sort();
            next.dedup();
            next.retain(|name| !seen.contains(name));
            names = next;
            required = false;
        }
        Ok(found)
    }

    /// The candidate version of each package that exists, by the name it was asked for with.
    fn describe(&self, names: &[String]) -> Result<BTreeMap<String, Package>> {
        let mut command = self.command("apt-cache");
        command.args(["show", "--no-all-versions"]).args(names);
        // By its name alone a package that is for all architectures, or this machine's, is found.
        let others = names.iter().filter(|name| !name.contains(':'));
        command.args(others.map(|name| format!("{name}:{}", self.architecture)));
        // Its status is an error as soon as one name is unknown.
        let output = command.output().map_err(|e| command::cannot_start(&command, &e))?;
        let records = parse_records(&String::from_utf8_lossy(&output.stdout));
        Ok(names
            .iter()
            .filter_map(|name| {
                let record = records.iter().find(|package| self.matches(name, package))?;
                Some((name.clone(), record.clone()))
            })
            .collect())
    }

    fn matches(&self, name: &str, package: &Package) -> bool {
        let (name, architecture) = name.split_once(':').unwrap_or((name, self.architecture));
        package.name == name && [architecture, "all"].contains(&&*package.architecture)
    }
}

/// Where this machine has its Debian from.
fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let text = command::output(&mut command)?;
    let debian = text.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian"));
    Ok(debian.unwrap_or("http://deb.debian.org/debian").to_owned())
}

/// One source of packages (sources.list(5)).
fn source(mirror: &str, suite: &str, architecture: &str) -> String {
    format!("deb [arch={architecture} signed-by={KEYS}] {mirror} {suite} main\n")
}

/// Reads records in the format of Debian control files (deb-control(5)).
fn parse_records(text: &str) -> Vec<Package> {
    text.split("\n\n")
        .filter_map(|record| {
            let field = |name: &str| {
                record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            Some(Package {
                name: field("Package")?.to_owned(),
                version: field("Version")?.to_owned(),
                architecture: field("Architecture")?.to_owned(),
                depends: parse_depends(field("Depends").unwrap_or_default()),
            })
        })
        .collect()
}

/// The names in a `Depends` field; of alternatives the first.
fn parse_depends(field: &str) -> Vec<String> {
    field
        .split(',')
        .filter_map(|clause| clause.split(['|', '(', ':', ' ']).find(|word| !word.is_empty()))
        .map(str::to_owned)
        .collect()
}

/// The files of a folder in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = |e| format!("cannot read {}: {e}", folder.display());
    let mut files = fs::read_dir(folder)
        .map_err(context)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(context))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &str = "Package: linux-image-cloud-amd64
Architecture: amd64
Version: 6.1.192-2
Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), kmod, initramfs-tools (>= 0.120) | linux-initramfs-tool, libc6:any
Description: kernel
 Depends: not a field

Package: rust-web-src
Version: 1.96.0
Architecture: all
";

    #[test]
    fn a_record_gives_version_and_the_first_of_alternatives() {
        let records = parse_records(RECORDS);
        assert_eq!(records.len(), 2);
        assert_eq!(
            records[0].depends,
            ["linux-image-6.1.0-56-cloud-amd64", "kmod", "initramfs-tools", "libc6"]
        );
        assert_eq!(records[0].exact(), "linux-image-cloud-amd64:amd64=6.1.192-2");
        assert_eq!(records[1].exact(), "rust-web-src=1.96.0");
        assert!(records[1].depends.is_empty());
    }

    #[test]
    fn a_name_without_an_architecture_is_of_the_one_that_is_wanted() {
        let apt = |architecture| Apt { dir: PathBuf::new(), suite: None, architecture };
        let records = parse_records(RECORDS);
        let name = "linux-image-cloud-amd64";
        assert!(apt("amd64").matches(name, &records[0]));
        assert!(!apt("arm64").matches(name, &records[0]));
        assert!(!apt("amd64").matches(&format!("{name}:arm64"), &records[0]));
        assert!(apt("arm64").matches(&format!("{name}:amd64"), &records[0]));
        for architecture in ["amd64", "arm64"] {
            assert!(apt(architecture).matches("rust-web-src", &records[1]));
        }
    }

    #[test]
    fn another_suite_is_one_source_for_one_architecture() {
        let line = source("http://m/debian/", "trixie", "arm64");
        assert!(line.starts_with("deb [arch=arm64 signed-by=/usr/share/keyrings/"), "{line}");
        assert!(line.ends_with("] http://m/debian/ trixie main\n"), "{line}");
    }
}
