//! The checks that are runner's own: QEMU for software emulation, and where images are.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hv::Check;

const QEMU: &str = "qemu";
const IMAGES: &str = "images";

/// The QEMU that emulates this host's architecture.
#[cfg(target_arch = "aarch64")]
const PROGRAM: &str = "qemu-system-aarch64";
#[cfg(not(target_arch = "aarch64"))]
const PROGRAM: &str = "qemu-system-x86_64";

/// How long QEMU may take to say its version. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// All of them, for this host.
pub(super) fn checks() -> Vec<Check> {
    let home = std::env::var_os("OPS_HOME").or_else(|| std::env::var_os("HOME"));
    vec![qemu(), images(home.filter(|home| !home.is_empty()))]
}

/// Whether QEMU is installed, which runs guests where there is no accelerator. Its remedy names the
/// package.
pub fn qemu() -> Check {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let version = |program: &Path| first_line(Command::new(program).arg("--version"), PATIENCE);
    qemu_in(std::env::var_os("PATH"), &release, version)
}

fn qemu_in(
    path: Option<OsString>,
    os_release: &str,
    version: impl Fn(&Path) -> Result<String, String>,
) -> Check {
    let Some(program) = find(path) else {
        return Check::warn(
            QEMU,
            format!("{PROGRAM} is not in PATH, so guests run on the accelerator or not at all"),
            format!("to run guests in software, {}", install(os_release)),
        );
    };
    match version(&program) {
        Ok(version) => Check::ok(QEMU, format!("{}: {version}", program.display())),
        Err(why) => Check::warn(
            QEMU,
            format!("{} --version {why}", program.display()),
            format!(
                "try that command; if QEMU is broken, install it again: {}",
                install(os_release)
            ),
        ),
    }
}

/// The first QEMU in `path` that may be executed.
fn find(path: Option<OsString>) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let executable = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path?)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(PROGRAM))
        .find(executable)
}

/// The first line that `command` prints.
///
/// # Errors
/// Says how it went wrong, to follow the command.
fn first_line(command: &mut Command, patience: Duration) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let ended = wait(&mut child, patience);
    if !ended.as_ref().is_ok_and(|success| *success) {
        // Nothing is left of it in any case.
        let _ = child.kill();
        let _ = child.wait();
    }
    if !ended? {
        return Err("fails".into());
    }
    let mut text = [0; 4096];
    // One read: all there is lies in the pipe, and a descendant may hold its other end open.
    let len = match child.stdout.take() {
        Some(mut stdout) => stdout.read(&mut text).map_err(|error| error.to_string())?,
        None => 0,
    };
    let text = String::from_utf8_lossy(text.get(..len).unwrap_or_default());
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err("prints nothing".into()),
    }
}

/// Whether the child ended well, within `patience`. What it prints fits the pipe; a program that
/// prints more is none that this wants to hear out.
fn wait(child: &mut Child, patience: Duration) -> Result<bool, String> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if begin.elapsed() < patience => {
                std::thread::sleep(pause);
                pause = pause.saturating_mul(2).min(Duration::from_millis(50));
            }
            Ok(None) => return Err(format!("does not end within {patience:?}")),
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    }
}

/// The command that installs [`PROGRAM`] on the distribution that `os_release` (os-release(5))
/// names.
fn install(os_release: &str) -> String {
    let arm = cfg!(target_arch = "aarch64");
    let pick = |x86, aarch64| if arm { aarch64 } else { x86 };
    if cfg!(target_os = "macos") {
        return "`brew install qemu`".into();
    }
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\''])
    };
    let ids = std::iter::once(value("ID")).chain(value("ID_LIKE").split_whitespace());
    for id in ids {
        let (tool, package) = match id {
            "debian" | "ubuntu" => ("apt install", pick("qemu-system-x86", "qemu-system-arm")),
            "fedora" => ("dnf install", pick("qemu-system-x86", "qemu-system-aarch64")),
            "arch" => ("pacman -S", pick("qemu-system-x86", "qemu-system-aarch64")),
            "alpine" => ("apk add", PROGRAM),
            "suse" | "opensuse" => ("zypper install", pick("qemu-x86", "qemu-arm")),
            _ => continue,
        };
        return format!("`sudo {tool} {package}`");
    }
    format!("install the package of this system that has {PROGRAM}")
}

/// Whether the images that OPS keeps can be read.
fn images(home: Option<OsString>) -> Check {
    let Some(home) = home else {
        return Check::warn(
            IMAGES,
            "neither OPS_HOME nor HOME is set, so images are found by path only",
            "set HOME",
        );
    };
    let directory = Path::new(&home).join(".ops").join("images");
    let shown = directory.display();
    match fs::read_dir(&directory) {
        Ok(entries) => Check::ok(IMAGES, format!("{shown} has {} images", count(entries))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Check::ok(IMAGES, format!("there is no {shown}: images are found by path"))
        }
        Err(error) => Check::warn(
            IMAGES,
            format!("{shown} cannot be read: {error}"),
            format!("`ls -ld {shown}`; give this user the right to read it"),
        ),
    }
}

fn count(entries: fs::ReadDir) -> usize {
    entries.flatten().filter(|entry| entry.path().is_file()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A directory with a program of QEMU's name in it, and a PATH that leads there.
    fn program(mode: u32) -> (tempfile::TempDir, Option<OsString>) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(PROGRAM);
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let path = std::env::join_paths([Path::new("/nonexistent"), directory.path()]).unwrap();
        (directory, Some(path))
    }

    #[test]
    fn qemu_is_found_in_path_and_shown_with_its_version() {
        let (directory, path) = program(0o755);
        let file = directory.path().join(PROGRAM);
        let check = qemu_in(path, "", |program| {
            assert_eq!(program, file);
            Ok("QEMU emulator version 7.2.1".into())
        });
        let finding = format!("{}: QEMU emulator version 7.2.1", file.display());
        assert_eq!(check, Check::ok(QEMU, finding));
    }

    #[test]
    fn a_qemu_that_does_not_work_is_a_warning() {
        let (_directory, path) = program(0o755);
        let check = qemu_in(path, "", |_| Err("fails".into()));
        assert_eq!(check.verdict, hv::Verdict::Warn);
        assert!(check.finding.ends_with("--version fails"), "{}", check.finding);
    }

    #[test]
    fn a_file_that_is_not_executable_is_not_qemu() {
        let (_directory, path) = program(0o644);
        for path in [path, None] {
            let check = qemu_in(path, "", |_| Ok("version 0".into()));
            assert!(check.finding.contains("is not in PATH"), "{}", check.finding);
        }
    }

    #[test]
    fn a_programs_first_line_is_read_and_its_failures_are_told_apart() {
        let sh = |script| first_line(Command::new("sh").args(["-c", script]), PATIENCE);
        assert_eq!(sh("echo ' one '; echo two"), Ok("one".into()));
        assert_eq!(sh("echo one; exit 3"), Err("fails".into()));
        assert_eq!(sh("exit 0"), Err("prints nothing".into()));
        let missing = first_line(&mut Command::new("/nonexistent/qemu"), PATIENCE);
        assert!(missing.unwrap_err().starts_with("cannot be started: "));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let patience = Duration::from_millis(20);
        let result = first_line(Command::new("sleep").arg("600"), patience);
        assert_eq!(result, Err("does not end within 20ms".into()));
    }

    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))] // the packages of one architecture
    fn the_package_is_named_as_the_distribution_calls_it() {
        for (release, command) in [
            ("ID=debian\n", "`sudo apt install qemu-system-x86`"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "`sudo apt install qemu-system-x86`"),
            ("NAME=x\nID=\"fedora\"\n", "`sudo dnf install qemu-system-x86`"),
            ("ID=manjaro\nID_LIKE=arch\n", "`sudo pacman -S qemu-system-x86`"),
            ("ID=alpine\n", "`sudo apk add qemu-system-x86_64`"),
            ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", "`sudo zypper install qemu-x86`"),
            ("ID=plan9\n", "install the package of this system that has qemu-system-x86_64"),
        ] {
            assert_eq!(install(release), command, "{release}");
        }
    }

    #[test]
    fn images_are_counted_and_their_absence_is_no_fault() {
        let home = tempfile::tempdir().unwrap();
        let shown = home.path().join(".ops/images");
        let look = || images(Some(home.path().as_os_str().to_owned()));
        assert_eq!(
            look(),
            Check::ok(IMAGES, format!("there is no {}: images are found by path", shown.display()))
        );
        fs::create_dir_all(shown.join("directory")).unwrap();
        fs::write(shown.join("hello"), "").unwrap();
        fs::write(shown.join("hello.img"), "").unwrap();
        assert_eq!(look(), Check::ok(IMAGES, format!("{} has 2 images", shown.display())));
    }

    #[test]
    fn an_images_directory_that_cannot_be_read_is_a_warning() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".ops")).unwrap();
        fs::write(home.path().join(".ops/images"), "").unwrap();
        let check = images(Some(home.path().as_os_str().to_owned()));
        assert_eq!(check.verdict, hv::Verdict::Warn);
        assert!(check.finding.contains("cannot be read"), "{}", check.finding);
        assert_eq!(images(None).verdict, hv::Verdict::Warn);
    }
}
