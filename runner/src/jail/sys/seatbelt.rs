//! What Seatbelt, the sandbox of macOS, is told, and what is made of how a trial of it went.
//!
//! A profile is a program in Scheme (SBPL). Apple documents neither it nor its being given as text;
//! profiles that come with macOS (`/System/Library/Sandbox/Profiles`) and Chromium's
//! (`sandbox/policy/mac/*.sb`) are the reference. Nothing here was seen on a Mac yet:
//! `hv-hvf/ASSUMPTIONS.md`.
#![cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "tested anywhere"))]

use std::path::Path;

use hv::Check;

use crate::jail::Needs;
use crate::p9::Folder;

/// Where a shared folder is, and whether it is only read.
type Share<'f> = (&'f Path, bool);

/// What the profile needs to know of shared folders.
pub(in crate::jail) fn shares<'f>(folders: &[&'f Folder]) -> Vec<Share<'f>> {
    folders.iter().map(|folder| (folder.path(), folder.is_read_only())).collect()
}

/// The profile of a process that has opened everything but what is in `shares`, with a network or
/// without. Everything is denied but what follows. `sockets` is the folder of a socket device's,
/// `emptied` one out of which files may be taken.
///
/// # Errors
/// The path of a folder that a profile has no words for.
pub(in crate::jail) fn profile(
    network: bool,
    shares: &[Share<'_>],
    sockets: Option<&Path>,
    emptied: Option<&Path>,
) -> Result<String, String> {
    let mut rules = vec![
        "(version 1)",
        "(deny default)",
        // The C library and the allocator ask for the numbers of CPUs and pages.
        "(allow sysctl-read)",
        // An abort is a signal to oneself.
        "(allow signal (target self))",
        // The terminal is given its settings back at the end.
        "(allow file-ioctl (regex #\"^/dev/(tty|ttys[0-9]+)$\"))",
        // Flushes and holes of disks that are open; systems that do not ask do not know the word.
        "(when (defined? 'system-fcntl) (allow system-fcntl))",
    ];
    if network {
        // Whither is the user-mode network's to judge: here addresses cannot be told apart.
        rules.extend([
            "(allow network-outbound (remote ip \"*:*\"))",
            "(allow network-inbound (local ip \"*:*\"))",
            "(allow network-bind (local ip \"*:*\"))",
        ]);
    }
    let mut profile = rules.join("\n") + "\n";
    for share in shares {
        profile += &folder(*share)?;
    }
    if let Some(sockets) = sockets {
        let place = place(sockets)?;
        for operation in ["network-outbound", "network-inbound", "file-write-unlink"] {
            profile += &format!("(allow {operation} {place})\n");
        }
    }
    if let Some(emptied) = emptied {
        profile += &format!("(allow file-write-unlink {})\n", place(emptied)?);
    }
    Ok(profile)
}

/// What is in a folder. Paths are looked at behind all links.
fn place(path: &Path) -> Result<String, String> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| format!("{path:?} is no text, as it would have to be"))?;
    Ok(format!("(subpath \"{}\")", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// What may be done in a shared folder.
fn folder((path, read_only): Share<'_>) -> Result<String, String> {
    let place = place(path)?;
    let reads = format!("(allow file-read-data file-read-metadata {place})\n");
    if read_only {
        return Ok(reads);
    }
    let writes =
        "file-write-create file-write-data file-write-mode file-write-times file-write-unlink";
    Ok(format!(
        "{reads}(allow {writes} {place})\n\
         (when (defined? 'file-link) (allow file-link {place}))\n"
    ))
}

/// What the sandbox does once it holds.
pub(in crate::jail) fn holds(needs: Needs<'_>) -> String {
    let files = if needs.shares.is_empty() { "files" } else { "files but shared ones" };
    let sockets = match (needs.network, needs.vsock) {
        (false, false) => "sockets",
        (true, false) => "sockets but for IP",
        (false, true) => "sockets but those in the folder of --vsock",
        (true, true) => "sockets but for IP and those in the folder of --vsock",
    };
    format!(
        "Seatbelt: no {files}, programs, {sockets} or services of macOS's; no list of system calls here"
    )
}

/// Why there is none.
pub(in crate::jail) fn fails(said: &str) -> String {
    format!(
        "Seatbelt does not take runner's profile ({}): whoever breaks out of a guest has this user's rights",
        said.trim().escape_debug()
    )
}

/// How a trial in a process of its own ended: its exit status.
pub(in crate::jail) mod trial {
    /// The sandbox stopped what it should.
    pub(in crate::jail) const HOLDS: i32 = 0;
    /// There was none.
    pub(in crate::jail) const REFUSED: i32 = 2;
    /// A file could be opened.
    pub(in crate::jail) const LEAKS: i32 = 3;
}

/// What `doctor` says of a trial. `None`: it was ended by a signal, or could not begin.
pub(in crate::jail) fn judge(status: Option<i32>) -> Check {
    const ID: &str = "jail";
    const TRUSTED: &str = "run guests you trust; `--jail=strict` refuses all here";
    match status {
        Some(trial::HOLDS) => Check::ok(ID, holds(Needs::default())),
        Some(trial::REFUSED) => Check::warn(ID, fails("sandbox_init fails"), TRUSTED),
        Some(trial::LEAKS) => Check::fail(
            ID,
            "Seatbelt took runner's profile, and files can be opened all the same",
            TRUSTED,
        ),
        other => {
            let how =
                other.map_or("was killed".to_owned(), |status| format!("ended with {status}"));
            Check::warn(ID, format!("a trial of Seatbelt {how}"), TRUSTED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv::Verdict;
    use std::os::unix::ffi::OsStrExt;

    /// The operations that a profile allows.
    fn allowed(profile: &str) -> Vec<&str> {
        let rules = profile.split("(allow ").skip(1);
        rules.filter_map(|rule| rule.split([' ', ')']).next()).collect()
    }

    #[test]
    fn a_profile_denies_first_and_allows_no_files_programs_or_services() {
        for network in [false, true] {
            let profile = profile(network, &[], None, None).unwrap();
            assert!(profile.starts_with("(version 1)\n(deny default)\n"), "{profile}");
            for operation in allowed(&profile) {
                let bad =
                    ["file-read", "file-write", "process", "mach", "iokit", "default", "network*"];
                assert!(!bad.iter().any(|bad| operation.starts_with(bad)), "{operation}");
            }
        }
    }

    #[test]
    fn sockets_are_for_a_guest_with_a_network_alone_and_for_ip() {
        let plain = profile(false, &[], None, None).unwrap();
        assert!(!plain.contains("network"), "{plain}");
        let profile = profile(true, &[], None, None).unwrap();
        let rules = profile.lines().filter(|line| line.contains("network"));
        assert!(
            rules.clone().count() == 3 && rules.clone().all(|rule| rule.contains(" ip \"*:*\""))
        );
        assert!(profile.starts_with(plain.trim_end()), "a network takes nothing away");
    }

    #[test]
    fn a_shared_folder_is_read_and_one_that_may_be_written_is_written_too() {
        let plain = profile(false, &[], None, None).unwrap();
        let shared =
            |read_only| profile(false, &[(Path::new("/a/b"), read_only)], None, None).unwrap();
        let (read, written) = (shared(true), shared(false));
        assert!(read.starts_with(&plain) && written.starts_with(&read));
        let more = read.strip_prefix(&plain).unwrap();
        assert_eq!(more, "(allow file-read-data file-read-metadata (subpath \"/a/b\"))\n");
        assert!(!read.contains("write") && written.contains("file-write-create"));
        for line in written.strip_prefix(&plain).unwrap().lines() {
            assert!(line.contains("(subpath \"/a/b\"))"), "{line}");
        }
    }

    #[test]
    fn a_path_that_a_profile_has_no_words_for_is_refused() {
        for path in [&b"/a/\xff"[..], b"/a\nb"] {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            assert!(
                profile(false, &[(path, true)], None, None).unwrap_err().contains("is no text")
            );
        }
    }

    #[test]
    fn brackets_and_quotes_of_a_profile_match() {
        let shares = [("/Users/me/a (\"b\") \\", false), ("/c", true)];
        let shares = shares.map(|(path, read_only)| (Path::new(path), read_only));
        let profile = profile(true, &shares, Some(Path::new("/a b/\"(\\")), None).unwrap();
        let (mut depth, mut quoted, mut escaped) = (0i32, false, false);
        for c in profile.chars() {
            if std::mem::take(&mut escaped) {
                continue;
            }
            match c {
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '(' if !quoted => depth += 1,
                ')' if !quoted => depth -= 1,
                '\n' => assert!(depth == 0 && !quoted, "{profile}"),
                _ => {}
            }
        }
        assert_eq!((depth, quoted), (0, false));
    }

    #[test]
    fn a_socket_device_has_its_folder_and_nothing_else() {
        let profile = |sockets| profile(false, &[], sockets, None).unwrap();
        let (plain, with) = (profile(None), profile(Some(Path::new("/x \"y\""))));
        let more = with.strip_prefix(&plain).unwrap();
        assert!(more.lines().all(|rule| rule.ends_with(r#" (subpath "/x \"y\""))"#)), "{more}");
        assert_eq!(allowed(more), ["network-outbound", "network-inbound", "file-write-unlink"]);
    }

    #[test]
    fn a_file_for_a_core_dump_can_be_taken_away_and_no_more() {
        let profile = |emptied| profile(false, &[], None, emptied).unwrap();
        let (plain, with) = (profile(None), profile(Some(Path::new("/cores"))));
        let more = with.strip_prefix(&plain).unwrap();
        assert_eq!(more, "(allow file-write-unlink (subpath \"/cores\"))\n");
    }

    #[test]
    fn each_end_of_a_trial_has_its_verdict() {
        let verdict = |status| judge(status).verdict;
        assert_eq!(verdict(Some(trial::HOLDS)), Verdict::Ok);
        assert_eq!(verdict(Some(trial::REFUSED)), Verdict::Warn);
        assert_eq!(verdict(Some(trial::LEAKS)), Verdict::Fail);
        assert_eq!(verdict(Some(77)), Verdict::Warn);
        assert!(judge(None).finding.contains("was killed"));
    }

    #[test]
    fn what_the_system_says_reaches_no_terminal_raw() {
        assert!(fails("unbound \u{1b}[31mvariable\n").contains("(unbound \\u{1b}[31mvariable)"));
    }
}
