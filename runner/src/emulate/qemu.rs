//! The QEMU that is installed, or how to install one.

use std::io;
use std::process::{Command, Stdio};

use hv::Arch;

/// The program. Found in `PATH`, as a shell would.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";

/// A QEMU that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    version: String,
}

impl std::fmt::Display for Qemu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PROGRAM} {}", self.version)
    }
}

impl Qemu {
    /// Looks for one that runs guests of `arch`.
    ///
    /// # Errors
    /// What is wrong and how to install it, one sentence.
    pub fn find(arch: Arch) -> Result<Self, String> {
        if arch != Arch::X86_64 {
            return Err(format!(
                "this version has software emulation for x86_64 guests, and none for {arch}"
            ));
        }
        let mut command = Command::new(PROGRAM);
        command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
        let install = install(&std::fs::read_to_string("/etc/os-release").unwrap_or_default());
        let output = command.output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                format!("there is no {PROGRAM} in PATH for software emulation; {install}")
            }
            _ => format!("{PROGRAM} does not start: {error}; {install}"),
        })?;
        match version(&String::from_utf8_lossy(&output.stdout)) {
            Some(version) if output.status.success() => Ok(Self { version }),
            _ => Err(format!("{PROGRAM} --version fails ({}): {install}", output.status)),
        }
    }
}

/// `7.2.22` from `QEMU emulator version 7.2.22 (Debian …)`.
fn version(text: &str) -> Option<String> {
    let rest = text.split_once(" version ")?.1;
    rest.split_whitespace().next().map(str::to_owned)
}

/// How each system installs it: what os-release(5) calls the system, and the command.
const PACKAGES: [(&[&str], &str); 5] = [
    (&["debian", "ubuntu"], "sudo apt install qemu-system-x86"),
    (&["fedora", "rhel", "centos"], "sudo dnf install qemu-system-x86-core"),
    (&["arch"], "sudo pacman -S qemu-system-x86"),
    (&["alpine"], "sudo apk add qemu-system-x86_64"),
    (&["suse", "opensuse"], "sudo zypper install qemu-x86"),
];

/// How to install it on the system that `os_release` describes.
fn install(os_release: &str) -> String {
    if cfg!(target_os = "macos") {
        return "install it with `brew install qemu`".to_owned();
    }
    let value = |key: &str| {
        let mut lines = os_release.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    };
    let ids = [value("ID"), value("ID_LIKE")].map(|value| value.trim_matches(['"', '\'']));
    let names: Vec<&str> = ids.iter().flat_map(|ids| ids.split_whitespace()).collect();
    let own = PACKAGES.iter().find(|(systems, _)| systems.iter().any(|id| names.contains(id)));
    match own {
        Some((_, command)) => format!("install it with `{command}`"),
        None => {
            let all = PACKAGES.map(|(systems, command)| format!("{}: `{command}`", systems[0]));
            format!("install it ({})", all.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_word_behind_version() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright …";
        assert_eq!(version(debian).as_deref(), Some("7.2.22"));
        assert_eq!(version("QEMU emulator version 10.1.0\n").as_deref(), Some("10.1.0"));
        assert_eq!(version("something else"), None);
    }

    #[test]
    fn there_is_none_for_guests_of_aarch64_and_the_sentence_names_both() {
        let why = Qemu::find(Arch::Aarch64).unwrap_err();
        assert!(why.contains("x86_64") && why.contains("aarch64"), "{why}");
    }

    #[test]
    #[cfg(target_os = "linux")] // there is one way on macOS
    fn the_package_is_the_one_of_this_system() {
        for (os_release, command) in [
            ("NAME=x\nID=debian\n", "sudo apt install qemu-system-x86`"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "sudo apt install qemu-system-x86`"),
            ("ID=fedora\n", "sudo dnf install qemu-system-x86-core`"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf install qemu-system-x86-core`"),
            ("ID=arch\n", "sudo pacman -S qemu-system-x86`"),
            ("ID=opensuse-leap\nID_LIKE='suse opensuse'\n", "sudo zypper install qemu-x86`"),
        ] {
            let advice = install(os_release);
            assert!(advice.ends_with(command), "{os_release}: {advice}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")] // see above
    fn a_system_that_is_not_known_is_told_all_of_them() {
        for os_release in ["", "ID=\n", "ID=plan9\nID_LIKE=unix", "nonsense"] {
            let advice = install(os_release);
            assert!(PACKAGES.iter().all(|(_, command)| advice.contains(command)), "{advice}");
        }
    }
}
