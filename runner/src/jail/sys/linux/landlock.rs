//! No files, no TCP, nobody else's sockets and processes (landlock(7)), for this thread and all that
//! it starts: an empty set of exceptions, but for what is in shared folders, and that a socket device's
//! own socket can be removed, and a file for a core dump. Each thread then gives up those that it does not serve.
//!
//! What is open stays usable. A kernel that knows less than this restricts what it knows.

// UNSAFETY: asking the kernel for its version is a system call that the crate keeps to itself.
#![allow(unsafe_code)]

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::jail::{Error, Needs};
use crate::p9::Folder;

/// All that is asked for.
const WANTED: ABI = ABI::V6;

/// The kernel's version of Landlock; nothing where there is none.
pub(super) fn version() -> Option<i64> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    let none = std::ptr::null::<u8>();
    // SAFETY: asks for a number; nothing is read through the pointer.
    let version = unsafe {
        let flags = LANDLOCK_CREATE_RULESET_VERSION;
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, flags)
    };
    (version > 0).then_some(version)
}

/// What this kernel lacks of it.
pub(super) fn missing() -> Option<String> {
    let without = match version() {
        None => {
            return Some(
                "the kernel has no Landlock, or lsm= on its command line leaves it out: lists of \
                 system calls alone keep runner from files"
                    .to_owned(),
            );
        }
        Some(..=3) => "TCP, ioctls of devices and signals to others",
        Some(4) => "ioctls of devices and signals to others",
        Some(5) => "signals to others",
        Some(6..) => return None,
    };
    let version = version().unwrap_or_default();
    Some(format!(
        "Landlock here is version {version}, and version 6 is Linux 6.12's: lists of system calls \
         alone keep runner from {without}"
    ))
}

/// What the thread of a shared folder does in it, by way of opening and of names.
fn rights(folder: &Folder) -> BitFlags<AccessFs> {
    let reads = AccessFs::ReadFile | AccessFs::ReadDir;
    match folder.is_read_only() {
        true => reads,
        false => {
            let files = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg;
            let names = AccessFs::MakeDir | AccessFs::MakeSym | AccessFs::RemoveFile;
            reads | files | names | AccessFs::RemoveDir | AccessFs::Refer
        }
    }
}

/// An exception for each folder.
fn exceptions<'f>(
    folders: &'f [&'f Folder],
) -> impl Iterator<Item = Result<PathBeneath<&'f Folder>, RulesetError>> {
    folders.iter().map(|folder| Ok(PathBeneath::new(*folder, rights(folder))))
}

fn refused(error: &RulesetError) -> Error {
    let error = std::io::Error::other(error.to_string());
    Error::System { what: "restrict files (Landlock)", error }
}

/// An exception for the socket of a socket device, which is in the working directory.
fn with_socket(set: RulesetCreated, has_one: bool) -> Result<RulesetCreated, RulesetError> {
    match has_one.then(|| PathFd::new(".")).transpose() {
        // Where it cannot be opened the socket stays, for the next run to remove.
        Ok(None) | Err(_) => Ok(set),
        Ok(Some(folder)) => set.add_rule(PathBeneath::new(folder, AccessFs::RemoveFile)),
    }
}

/// An exception for a file that was made for nothing, wherever it is in its folder.
fn with_emptied(
    set: RulesetCreated,
    folder: Option<&Folder>,
) -> Result<RulesetCreated, RulesetError> {
    match folder {
        Some(folder) => set.add_rule(PathBeneath::new(folder, AccessFs::RemoveFile)),
        None => Ok(set),
    }
}

/// Restricts the process, and says how far. With a network it may make connections, what is in shared
/// folders may be opened, and a socket device's socket be removed.
pub(super) fn restrict(needs: Needs<'_>) -> Result<String, Error> {
    let Needs { network, shares, .. } = needs;
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))
        .and_then(|set| {
            set.handle_access(match network {
                true => AccessNet::BindTcp.into(),
                false => AccessNet::from_all(WANTED),
            })
        })
        .and_then(|set| set.scope(Scope::from_all(WANTED)))
        .and_then(|set| set.create())
        .and_then(|set| set.add_rules(exceptions(shares)))
        .and_then(|set| with_socket(set, needs.vsock))
        .and_then(|set| with_emptied(set, needs.emptied))
        .and_then(|set| set.restrict_self());
    let files = if shares.is_empty() { "no files" } else { "no files but shared ones" };
    Ok(match ruleset.map_err(|error| refused(&error))?.ruleset {
        RulesetStatus::FullyEnforced if network => {
            format!("{files}, no TCP ports, no other processes (Landlock)")
        }
        RulesetStatus::FullyEnforced => {
            format!("{files}, no TCP, no other processes (Landlock)")
        }
        RulesetStatus::PartiallyEnforced => format!("{files} (Landlock, in part)"),
        RulesetStatus::NotEnforced => "no Landlock".into(),
    })
}

/// Takes all files from the calling thread but those in `folder`, as far as it has them, and a socket
/// device's socket, if it has that.
pub(super) fn narrow(folder: Option<&Folder>, has_socket: bool) -> Result<(), Error> {
    let folder: Vec<&Folder> = folder.into_iter().collect();
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))
        .and_then(|set| set.create())
        .and_then(|set| set.add_rules(exceptions(&folder)))
        .and_then(|set| with_socket(set, has_socket))
        .and_then(|set| set.restrict_self());
    ruleset.map(drop).map_err(|error| refused(&error))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags, openat};

    use super::*;

    /// Whether a file of that name can be read, and whether one can be made.
    fn may(folder: &Folder, name: &str) -> [bool; 2] {
        let open = |flags| openat(folder, name, flags, Mode::RUSR | Mode::WUSR).is_ok();
        [open(OFlags::RDONLY), open(OFlags::WRONLY | OFlags::CREATE)]
    }

    #[test]
    #[ignore = "gives up files: started by the test below"]
    fn keeps_what_it_shares() {
        let place = tempfile::tempdir().unwrap();
        let [read, written, other] = ["read", "written", "other"].map(|name| {
            let path = place.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("file"), "").unwrap();
            Folder::open(&path, name == "read").unwrap()
        });
        rustix::thread::set_no_new_privs(true).unwrap();
        restrict(Needs { shares: &[&read, &written], ..Needs::default() }).unwrap();
        let all = || [&read, &written, &other].map(|folder| may(folder, "file"));
        let in_a_thread = |folder: Option<&Folder>| {
            let narrowed = || narrow(folder, false).map(|()| all()).unwrap();
            std::thread::scope(|scope| scope.spawn(narrowed).join().unwrap())
        };
        let none = [false, false];
        assert_eq!(in_a_thread(Some(&read)), [[true, false], none, none]);
        assert_eq!(in_a_thread(Some(&written)), [none, [true, true], none]);
        assert_eq!(in_a_thread(Some(&other)), [none; 3], "there is no way back");
        assert_eq!(in_a_thread(None), [none; 3]);
        assert_eq!(all(), [[true, false], [true, true], none], "the one that started them");
        assert!(std::fs::File::open("/etc/passwd").is_err());
        assert!(!may(&written, "../other/file")[0] && !may(&written, "/etc/passwd")[0]);
        println!("held");
    }

    #[test]
    fn each_thread_keeps_its_own_folder_with_the_rights_it_needs() {
        if version().is_none() {
            println!("skipped: the kernel has no Landlock");
            return;
        }
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "--ignored", "--nocapture"]);
        let name = "jail::sys::landlock::tests::keeps_what_it_shares";
        let output = test.arg(name).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("held"), "{output:?}");
    }
}
