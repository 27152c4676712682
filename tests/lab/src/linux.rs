//! Debian's kernel as a guest of `runner` inside the lab: what the tests of tests/vm/tests/linux
//! boot, in one folder. `RUNNER_LAB_GUESTS` names it.
//!
//! - `vmlinuz`, the kernel as Debian ships it, a bzImage, and `vmlinux`, the ELF with a PVH note in it;
//!   on arm64 `Image`, which Debian ships unpacked
//! - `initrd`, with busybox, the modules for our disks, and the jobs of tests/vm/data/linux
//! - `initrd-net`, the same with the modules for a network card and for sockets, and with `peer`; `initrd-tools` has
//!   curl, dig and iperf3 besides, in `/tools`, as the folder itself has in `tools`
//! - `general/vmlinuz` and `general/initrd`, Debian's kernel for any machine, with the modules for shared
//!   folders, small devices and sockets, the same jobs and `peer`
//! - `peer`, for a host in a namespace of its own
//! - `tiny`, an initrd whose /init ends the machine, and has nothing else
//! - Debian's other kernels, see `payloads`
//! - `mke2fs`, `e2fsck` with what they need, for disks, before and after a guest

use crate::architecture::Architecture;
use crate::builder::Builder;
use crate::bzimage;
use crate::cache::Cache;
use crate::command::Result;
use crate::cpio::Archive;
use crate::packages;
use crate::tools;
use crate::workspace::Workspace;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Tells tests where the folder is.
pub(crate) const VARIABLE: &str = "RUNNER_LAB_GUESTS";

/// How the names of the tests begin that need it.
pub(crate) const TESTS: &str = "linux::";

/// The folder and what is in it.
#[derive(Debug)]
pub(crate) struct Guests {
    pub(crate) folder: PathBuf,
    pub(crate) files: Vec<PathBuf>,
}

/// What the guests are made of.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) architecture: &'static Architecture,
    /// Unpacked: the kernel, its modules and busybox.
    pub(crate) packages: &'a Path,
    pub(crate) workspace: &'a Workspace,
}

/// Fills the folder, which is below `machines`.
pub(crate) fn prepare(
    cache: &Cache,
    sources: &Sources<'_>,
    builder: &Builder,
    machines: &Path,
) -> Result<Guests> {
    let Sources { architecture, packages, .. } = *sources;
    let folder = machines.join("guests").join(packages.file_name().unwrap_or_default());
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let mut guests = Guests { folder, files: Vec::new() };
    guests.kernel(sources)?;
    guests.add("initrd", &sources.initrd()?.finish()?, 0o644)?;
    let general = packages::unpacked(cache, &architecture.linux.general, architecture.debian)?;
    let kernel = read(&packages::one_file(&general, "boot", "vmlinuz-")?)?;
    guests.add("general/vmlinuz", &kernel, 0o644)?;
    let peer = read(&builder.peer()?)?;
    guests.add("general/initrd", &sources.initrd_general(&general, &peer)?.finish()?, 0o644)?;
    guests.add("peer", &peer, 0o755)?;
    guests.add("initrd-net", &sources.initrd_net(&peer)?.finish()?, 0o644)?;
    let mut with_tools = sources.initrd_net(&peer)?;
    for tool in tools::find(cache, &tools::NET, architecture)? {
        let bytes = read(&tool.from)?;
        with_tools.file(&Path::new("tools").join(&tool.name), true, &bytes)?;
        guests.add(&format!("tools/{}", tool.name), &bytes, 0o755)?;
    }
    guests.add("initrd-tools", &with_tools.finish()?, 0o644)?;
    let mut tiny = Archive::default();
    let (_, end) = architecture.linux.end;
    tiny.file(Path::new("init"), true, end)?;
    guests.add("tiny", &tiny.finish()?, 0o644)?;
    for payload in architecture.payloads {
        guests.add(payload.name, &payload.bytes(cache, architecture.debian)?, 0o644)?;
    }
    for tool in tools::find(cache, &tools::FILE_SYSTEMS, architecture)? {
        guests.add(&tool.name, &read(&tool.from)?, 0o755)?;
    }
    Ok(guests)
}

/// Adds `initrd-fio`, which is `initrd-net` with fio in `/tools`.
pub(crate) fn add_fio(
    cache: &Cache,
    sources: &Sources<'_>,
    builder: &Builder,
    guests: &mut Guests,
) -> Result<()> {
    let mut archive = sources.initrd_net(&read(&builder.peer()?)?)?;
    for tool in tools::find(cache, &tools::FIO, sources.architecture)? {
        archive.file(&Path::new("tools").join(&tool.name), true, &read(&tool.from)?)?;
    }
    guests.add("initrd-fio", &archive.finish()?, 0o644)
}

impl Guests {
    fn kernel(&mut self, sources: &Sources<'_>) -> Result<()> {
        let linux = &sources.architecture.linux;
        let kernel = read(&packages::one_file(sources.packages, "boot", "vmlinuz-")?)?;
        self.add(linux.kernel, &kernel, 0o644)?;
        let Some(name) = linux.unpacked else { return Ok(()) };
        // Some seconds' work, and the folder is named by the kernel's version.
        let unpacked = self.folder.join(name);
        if unpacked.is_file() {
            self.files.push(unpacked);
            return Ok(());
        }
        self.add(name, &bzimage::kernel(&kernel)?, 0o644)
    }

    /// Written beside its place first: what is there is whole.
    fn add(&mut self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            let context = |e| format!("cannot make {}: {e}", parent.display());
            fs::create_dir_all(parent).map_err(context)?;
        }
        let partial = self.folder.join(".partial");
        let context = |e| format!("cannot write {}: {e}", path.display());
        fs::write(&partial, bytes).map_err(context)?;
        fs::set_permissions(&partial, fs::Permissions::from_mode(mode)).map_err(context)?;
        fs::rename(&partial, &path).map_err(context)?;
        self.files.push(path);
        Ok(())
    }
}

impl Sources<'_> {
    fn initrd(&self) -> Result<Archive> {
        let mut archive = self.without_modules()?;
        let linux = &self.architecture.linux;
        self.modules(&mut archive, "disk", self.packages, linux.disk_modules)?;
        self.modules(&mut archive, "devices", self.packages, linux.device_modules)?;
        Ok(archive)
    }

    /// For the kernel in the folder `general`.
    fn initrd_general(&self, general: &Path, peer: &[u8]) -> Result<Archive> {
        let mut archive = self.without_modules()?;
        let linux = &self.architecture.linux;
        self.modules(&mut archive, "disk", general, linux.share_modules)?;
        self.modules(&mut archive, "devices", general, linux.device_modules)?;
        self.modules(&mut archive, "vsock", general, linux.vsock_modules)?;
        archive.file(Path::new("bin/peer"), true, peer)?;
        Ok(archive)
    }

    fn without_modules(&self) -> Result<Archive> {
        let mut archive = Archive::default();
        let linux = &self.architecture.linux;
        archive.file(Path::new("bin/busybox"), true, &read(&linux.busybox(self.packages))?)?;
        let (name, end) = linux.end;
        archive.file(&Path::new("bin").join(name), true, end)?;
        let jobs = self.workspace.root.join("tests/vm/data/linux");
        archive.file(Path::new("init"), true, &read(&jobs.join("init"))?)?;
        let machine = jobs.join("machine").join(self.architecture.name);
        archive.file(Path::new("machine"), false, &read(&machine)?)?;
        let entries =
            fs::read_dir(&jobs).map_err(|e| format!("cannot read {}: {e}", jobs.display()))?;
        let mut scripts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        scripts.retain(|path| path.extension().is_some_and(|ending| ending == "sh"));
        scripts.sort();
        for script in scripts {
            let name = script.file_name().unwrap_or_default();
            archive.file(&Path::new("jobs").join(name), false, &read(&script)?)?;
        }
        Ok(archive)
    }

    fn initrd_net(&self, peer: &[u8]) -> Result<Archive> {
        let mut archive = self.initrd()?;
        let linux = &self.architecture.linux;
        self.modules(&mut archive, "net", self.packages, linux.net_modules)?;
        self.modules(&mut archive, "vsock", self.packages, linux.vsock_modules)?;
        archive.file(Path::new("bin/peer"), true, peer)?;
        Ok(archive)
    }

    /// Those of the kernel in `packages`, with a list of their names, which scripts load in its order.
    fn modules(
        &self,
        archive: &mut Archive,
        list: &str,
        packages: &Path,
        modules: &[&str],
    ) -> Result<()> {
        let folder = Path::new("modules");
        let mut names = String::new();
        for module in modules {
            let (from, name) = self.architecture.linux.module(packages, module)?;
            archive.file(&folder.join(&name), false, &read(&from)?)?;
            names += &format!("/{}/{name}\n", folder.display());
        }
        archive.file(&folder.join(list), false, names.as_bytes())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}
