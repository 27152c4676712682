//! The QEMU that is installed, or how to install one.

use std::io;
use std::process::{Command, Stdio};

use hv::Arch;

use super::target::Target;

/// A QEMU that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    target: &'static Target,
    version: String,
}

impl std::fmt::Display for Qemu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.target.program, self.version)
    }
}

impl Qemu {
    /// Looks for one that runs guests of `arch`.
    ///
    /// # Errors
    /// What is wrong and how to install it, one sentence.
    pub fn find(arch: Arch) -> Result<Self, String> {
        let target = Target::of(arch);
        let program = target.program;
        let mut command = Command::new(program);
        command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
        let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let install = install(target, &os_release);
        let output = command.output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                format!("there is no {program} in PATH for software emulation; {install}")
            }
            _ => format!("{program} does not start: {error}; {install}"),
        })?;
        match version(&String::from_utf8_lossy(&output.stdout)) {
            Some(version) if output.status.success() => Ok(Self { target, version }),
            _ => Err(format!("{program} --version fails ({}): {install}", output.status)),
        }
    }
}

/// `7.2.22` from `QEMU emulator version 7.2.22 (Debian …)`.
fn version(text: &str) -> Option<String> {
    let rest = text.split_once(" version ")?.1;
    rest.split_whitespace().next().map(str::to_owned)
}

/// How to install it on the system that `os_release` describes.
fn install(target: &Target, os_release: &str) -> String {
    if cfg!(target_os = "macos") {
        return "install it with `brew install qemu`".to_owned();
    }
    let value = |key: &str| {
        let mut lines = os_release.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    };
    let ids = [value("ID"), value("ID_LIKE")].map(|value| value.trim_matches(['"', '\'']));
    let names: Vec<&str> = ids.iter().flat_map(|ids| ids.split_whitespace()).collect();
    let own =
        target.packages.iter().find(|(systems, _)| systems.iter().any(|id| names.contains(id)));
    match own {
        Some((_, command)) => format!("install it with `{command}`"),
        None => {
            let all =
                target.packages.map(|(systems, command)| format!("{}: `{command}`", systems[0]));
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
            let advice = install(Target::of(Arch::X86_64), os_release);
            assert!(advice.ends_with(command), "{os_release}: {advice}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")] // see above
    fn a_system_that_is_not_known_is_told_all_of_them() {
        for os_release in ["", "ID=\n", "ID=plan9\nID_LIKE=unix", "nonsense"] {
            let target = Target::of(Arch::Aarch64);
            let advice = install(target, os_release);
            assert!(
                target.packages.iter().all(|(_, command)| advice.contains(command)),
                "{advice}"
            );
        }
    }
}
