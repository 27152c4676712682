//! What Seatbelt, the sandbox of macOS, is told, and what is made of how a trial of it went.
//!
//! A profile is a program in Scheme (SBPL). Apple documents neither it nor its being given as text;
//! profiles that come with macOS (`/System/Library/Sandbox/Profiles`) and Chromium's
//! (`sandbox/policy/mac/*.sb`) are the reference. Nothing here was seen on a Mac yet:
//! `hv-hvf/ASSUMPTIONS.md`.
#![cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "tested anywhere"))]

use hv::Check;

/// The profile of a process that has opened everything, with a network or without. Everything is
/// denied but what follows.
pub(in crate::jail) fn profile(network: bool) -> String {
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
    rules.join("\n") + "\n"
}

/// What the sandbox does once it holds.
pub(in crate::jail) fn holds(network: bool) -> String {
    let sockets = if network { "sockets but for IP" } else { "sockets" };
    format!(
        "Seatbelt: no files, programs, {sockets} or services of macOS's; no list of system calls here"
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
        Some(trial::HOLDS) => Check::ok(ID, holds(false)),
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

    /// The operations that a profile allows.
    fn allowed(profile: &str) -> Vec<&str> {
        let rules = profile.split("(allow ").skip(1);
        rules.filter_map(|rule| rule.split([' ', ')']).next()).collect()
    }

    #[test]
    fn a_profile_denies_first_and_allows_no_files_programs_or_services() {
        for network in [false, true] {
            let profile = profile(network);
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
        let plain = profile(false);
        assert!(!plain.contains("network"), "{plain}");
        let profile = profile(true);
        let rules = profile.lines().filter(|line| line.contains("network"));
        assert!(
            rules.clone().count() == 3 && rules.clone().all(|rule| rule.contains(" ip \"*:*\""))
        );
        assert!(profile.starts_with(plain.trim_end()), "a network takes nothing away");
    }

    #[test]
    fn brackets_and_quotes_of_a_profile_match() {
        let profile = profile(true);
        let (mut depth, mut quoted) = (0i32, false);
        for c in profile.chars() {
            match c {
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
