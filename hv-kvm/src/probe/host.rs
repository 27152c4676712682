//! The host as far as the checks look at it: files below a root, the environment, who we are.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// More than any file that is read whole holds.
const WHOLE: u64 = 4 << 20;
/// More than /proc/cpuinfo says of one CPU. Some kernels take milliseconds for all of a large host.
const ONE_CPU: u64 = 16 << 10;

/// Where the checks look.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// `/`, or a directory that stands for it.
    pub(super) root: PathBuf,
    /// The environment, as far as it is text.
    pub(super) env: BTreeMap<String, String>,
    /// The architecture's name in [`std::env::consts`].
    pub(super) arch: &'static str,
    /// What is at `/dev/kvm`. Not looked up below `root`, since nobody but root makes devices.
    pub(super) node: Node,
}

/// What is at `/dev/kvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// Nothing, or something that cannot be seen: errno.
    Missing(i32),
    /// Something else than a device: a word for it.
    Wrong(&'static str),
    /// A character device.
    Device {
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Permission bits.
        mode: u32,
    },
}

impl Host {
    /// This one.
    pub(super) fn here() -> Self {
        Self {
            root: PathBuf::from("/"),
            env: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            arch: std::env::consts::ARCH,
            node: Node::at(Path::new(super::device::PATH)),
        }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Whether something is at `path`.
    pub(super) fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// The text at `path`; nothing when it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.head(path, WHOLE)
    }

    /// The first `limit` bytes of that.
    fn head(&self, path: &str, limit: u64) -> Option<String> {
        let path = self.path(path);
        // Not a FIFO: opening one would wait for a writer.
        if !fs::metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        fs::File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The line of text at `path`, without white space around it; nothing when it is empty.
    pub(super) fn line(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let line = text.lines().next()?.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// A variable of the environment that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether this is an x86 host.
    pub(super) fn is_x86(&self) -> bool {
        matches!(self.arch, "x86_64" | "x86")
    }

    /// The value of `key` in /proc/cpuinfo, for the first CPU.
    pub(super) fn cpuinfo(&self, key: &str) -> Option<String> {
        field(&self.head("/proc/cpuinfo", ONE_CPU)?, key).map(str::to_owned)
    }

    /// Whether the first CPU has `flag`; nothing when /proc/cpuinfo does not say.
    pub(super) fn cpu_flag(&self, flag: &str) -> Option<bool> {
        Some(self.cpuinfo("flags")?.split_whitespace().any(|word| word == flag))
    }

    /// Who this process is.
    pub(super) fn identity(&self) -> Identity {
        let status = self.text("/proc/self/status").unwrap_or_default();
        // Real, effective, saved, file system: the last one opens files.
        let number = |key| field(&status, key)?.split_whitespace().nth(3)?.parse().ok();
        let uid = number("Uid");
        let mut groups: Vec<u32> = field(&status, "Groups")
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        groups.extend(number("Gid"));
        Identity { uid, groups, name: self.user_name(uid) }
    }

    /// The name to log in with, fit for a command line; `"$(id -un)"` when it is not known.
    fn user_name(&self, uid: Option<u32>) -> String {
        let passwd = self.text("/etc/passwd").unwrap_or_default();
        let listed = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse().ok() == uid && uid.is_some()).then_some(name)
        });
        let plain = |name: &&str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && !name.starts_with('-') && name.bytes().all(known)
        };
        listed
            .or_else(|| self.variable("USER"))
            .filter(plain)
            .map_or_else(|| "\"$(id -un)\"".to_owned(), str::to_owned)
    }

    /// The group with this number.
    pub(super) fn group(&self, gid: u32) -> Option<Group> {
        self.groups().into_iter().find(|group| group.gid == gid)
    }

    /// The group of this name.
    pub(super) fn group_named(&self, name: &str) -> Option<Group> {
        self.groups().into_iter().find(|group| group.name == name)
    }

    fn groups(&self) -> Vec<Group> {
        let text = self.text("/etc/group").unwrap_or_default();
        text.lines().filter_map(Group::parse).collect()
    }
}

/// The value behind `key` and a colon, on the first line that begins with it.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The user; nothing without /proc.
    pub(super) uid: Option<u32>,
    /// The groups of this session.
    pub(super) groups: Vec<u32>,
    /// The user's name, or a shell expression for it.
    pub(super) name: String,
}

/// A line of /etc/group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) gid: u32,
    pub(super) members: Vec<String>,
}

impl Group {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let gid = fields.nth(1)?.trim().parse().ok()?;
        let members =
            fields.next().unwrap_or_default().split(',').map(|name| name.trim().to_owned());
        Some(Self { name, gid, members: members.filter(|name| !name.is_empty()).collect() })
    }
}

impl Node {
    /// What is at `path`, behind links.
    pub(super) fn at(path: &Path) -> Self {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return Node::Missing(error.raw_os_error().unwrap_or(libc::ENOENT)),
        };
        let kind = metadata.file_type();
        if kind.is_char_device() {
            let (uid, gid, mode) = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
            Node::Device { uid, gid, mode }
        } else if kind.is_dir() {
            Node::Wrong("directory")
        } else if kind.is_file() {
            Node::Wrong("regular file")
        } else {
            Node::Wrong("special file that is no character device")
        }
    }
}
