//! Debian's kernel as a guest of `runner` inside the lab: what the tests of tests/vm/tests/linux
//! boot, in one folder. `RUNNER_LAB_GUESTS` names it.
//!
//! - `vmlinuz`, the kernel as Debian ships it, a bzImage, and `vmlinux`, the ELF with a PVH note in it
//! - `initrd`, with busybox, the modules for our disks, and the jobs of tests/vm/data/linux
//! - `initrd-net`, the same with the modules for a network card, and with `peer`; `initrd-tools` has
//!   curl, dig and iperf3 besides, in `/tools`, as the folder itself has in `tools`
//! - `peer`, for a host in a namespace of its own
//! - `tiny`, an initrd whose /init ends the machine, and has nothing else
//! - `mke2fs`, `e2fsck` with what they need, for disks, before and after a guest

use crate::binaries::Workspace;
use crate::bzimage;
use crate::cache::Cache;
use crate::command::Result;
use crate::cpio::Archive;
use crate::packages::{self, Wanted};
use crate::tools;
use guests::x86_64::programs::OUTB;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Tells tests where the folder is.
pub(crate) const VARIABLE: &str = "RUNNER_LAB_GUESTS";

/// How the names of the tests begin that need it.
pub(crate) const TESTS: &str = "linux::";

/// In the order in which they can be loaded. ext4 is built in.
const MODULES: [&str; 7] = [
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_mmio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/block/virtio_blk.ko",
];

/// What a network card takes besides. IP and packet sockets are built in.
const NET_MODULES: [&str; 3] =
    ["net/core/failover.ko", "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko"];

const FILE_SYSTEMS: Wanted = Wanted {
    folder: "e2fsprogs",
    packages: &["e2fsprogs", "libblkid1", "libc6", "libcom-err2", "libext2fs2", "libuuid1"],
    except: &["logsave", "libgcc-s1"],
};

/// Programs and libraries in [`FILE_SYSTEMS`], and what the folder calls them.
const TOOLS: [(&str, &str); 9] = [
    ("sbin/mke2fs", "mke2fs"),
    ("sbin/e2fsck", "e2fsck"),
    ("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "ld.so"),
    ("lib/x86_64-linux-gnu/libc.so.6", "libc.so.6"),
    ("usr/lib/x86_64-linux-gnu/libblkid.so.1", "libblkid.so.1"),
    ("lib/x86_64-linux-gnu/libcom_err.so.2", "libcom_err.so.2"),
    ("lib/x86_64-linux-gnu/libe2p.so.2", "libe2p.so.2"),
    ("lib/x86_64-linux-gnu/libext2fs.so.2", "libext2fs.so.2"),
    ("usr/lib/x86_64-linux-gnu/libuuid.so.1", "libuuid.so.1"),
];

/// The folder and what is in it.
#[derive(Debug)]
pub(crate) struct Guests {
    pub(crate) folder: PathBuf,
    pub(crate) files: Vec<PathBuf>,
}

/// Fills the folder from the unpacked kernel in `linux`.
pub(crate) fn prepare(cache: &Cache, linux: &Path, workspace: &Workspace) -> Result<Guests> {
    let name = linux.file_name().unwrap_or_default();
    let folder = workspace.target.join("guests").join(name);
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let mut guests = Guests { folder, files: Vec::new() };
    let vmlinuz = read(&packages::one_file(linux, "boot", "vmlinuz-")?)?;
    guests.add("vmlinuz", &vmlinuz, 0o644)?;
    // Some seconds' work, and the folder is named by the kernel's version.
    let vmlinux = guests.folder.join("vmlinux");
    if vmlinux.is_file() {
        guests.files.push(vmlinux);
    } else {
        let kernel = bzimage::kernel(&vmlinuz)?;
        guests.add("vmlinux", &kernel, 0o644)?;
    }
    let jobs = Jobs { linux, workspace };
    guests.add("initrd", &jobs.initrd()?.finish()?, 0o644)?;
    let peer = read(&workspace.peer()?)?;
    guests.add("peer", &peer, 0o755)?;
    guests.add("initrd-net", &jobs.initrd_net(&peer)?.finish()?, 0o644)?;
    let mut with_tools = jobs.initrd_net(&peer)?;
    for tool in tools::find(cache)? {
        let bytes = read(&tool.from)?;
        with_tools.file(&Path::new("tools").join(&tool.name), true, &bytes)?;
        guests.add(&format!("tools/{}", tool.name), &bytes, 0o755)?;
    }
    guests.add("initrd-tools", &with_tools.finish()?, 0o644)?;
    let mut tiny = Archive::default();
    tiny.file(Path::new("init"), true, OUTB)?;
    guests.add("tiny", &tiny.finish()?, 0o644)?;
    let tools = packages::unpacked(cache, &FILE_SYSTEMS)?;
    for (from, to) in TOOLS {
        guests.add(to, &read(&tools.join(from))?, 0o755)?;
    }
    Ok(guests)
}

impl Guests {
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

/// What the guests' initial roots are made of.
struct Jobs<'a> {
    linux: &'a Path,
    workspace: &'a Workspace,
}

impl Jobs<'_> {
    fn initrd(&self) -> Result<Archive> {
        let mut archive = Archive::default();
        archive.file(Path::new("bin/busybox"), true, &read(&self.linux.join("bin/busybox"))?)?;
        archive.file(Path::new("bin/outb"), true, OUTB)?;
        self.modules(&mut archive, &MODULES)?;
        let jobs = self.workspace.root.join("tests/vm/data/linux");
        archive.file(Path::new("init"), true, &read(&jobs.join("init"))?)?;
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
        self.modules(&mut archive, &NET_MODULES)?;
        archive.file(Path::new("bin/peer"), true, peer)?;
        Ok(archive)
    }

    fn modules(&self, archive: &mut Archive, modules: &[&str]) -> Result<()> {
        let folder = packages::one_file(self.linux, "lib/modules", "")?.join("kernel");
        for module in modules {
            let from = folder.join(module);
            let name = from.file_name().unwrap_or_default();
            archive.file(&Path::new("modules").join(name), false, &read(&from)?)?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}
