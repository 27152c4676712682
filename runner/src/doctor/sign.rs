//! `runner doctor --sign`: gives this program the entitlement without which macOS lets it make no
//! virtual machines, and looks again (Apple's documentation, "com.apple.security.hypervisor"; codesign(1)).
//!
//! What is signed is a copy, which then takes the program's place by its name. The kernel keeps what
//! it knows of a signature with the file, not with the name: a file that is changed while it runs is killed at
//! its next page, and may be refused ever after. A rename leaves this process its own file, gives
//! every later one the new file, and nobody half of each.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use tempfile::{NamedTempFile, TempPath};

/// What macOS is asked for; cargo's runner for macOS (`hv-hvf/sign-and-run`) signs with the same file.
const ENTITLEMENTS: &str = include_str!("../../../hv-hvf/hypervisor.entitlements");

/// Why there is no signed program.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// On a system that wants no signatures.
    #[error(
        "--sign is for macOS, where a program needs an entitlement to use the accelerator; here `runner doctor` says \
         what is missing"
    )]
    NotHere,
    #[error("the program does not find itself: {0}; start it by its path")]
    Lost(io::Error),
    #[error("cannot write beside {}: {error}; try `sudo '{}' doctor --sign`", program.display(), program.display())]
    Folder { program: PathBuf, error: io::Error },
    #[error("cannot write to {}: {error}; name a folder with room in TMPDIR", std::env::temp_dir().display())]
    Entitlements { error: io::Error },
    #[error("{} cannot be started: {error}; install Apple's tools: `xcode-select --install`", program.display())]
    NoTool { program: PathBuf, error: io::Error },
    /// `said` is what it said.
    #[error("codesign failed ({status}): {said}; if a tool is missing, `xcode-select --install`")]
    Refused { status: ExitStatus, said: String },
    #[error("the signed program does not start: {0}; build it again")]
    Broken(String),
}

/// Signs the file `program` with `codesign`, and runs it with `words`. Its exit status.
pub(super) fn sign_and_look(
    codesign: Option<&Path>,
    program: io::Result<PathBuf>,
    words: &[&str],
) -> Result<u8, Error> {
    let codesign = codesign.ok_or(Error::NotHere)?;
    // A link's target is what runs.
    let program = program.and_then(fs::canonicalize).map_err(Error::Lost)?;
    sign(codesign, &program)?;
    // This process has the old signature for the rest of its life.
    let status = Command::new(&program).args(words).status();
    let status = status.map_err(|error| Error::Broken(error.to_string()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.ok_or_else(|| Error::Broken(status.to_string()))
}

fn sign(codesign: &Path, program: &Path) -> Result<(), Error> {
    let beside = |error| Error::Folder { program: program.to_owned(), error };
    let copy = copy(program).map_err(beside)?;
    let list = NamedTempFile::new().map_err(|error| Error::Entitlements { error })?;
    fs::write(list.path(), ENTITLEMENTS).map_err(|error| Error::Entitlements { error })?;
    // Ad hoc, which needs no account with Apple. The hardened runtime keeps other libraries out of the
    // process and debuggers off it.
    let mut command = Command::new(codesign);
    command.args(["--sign", "-", "--force", "--options", "runtime"]);
    command.args(["--identifier", "runner", "--entitlements"]).arg(list.path()).arg(&copy);
    run(&mut command)?;
    run(Command::new(codesign).args(["--verify", "--strict"]).arg(&copy))?;
    copy.persist(program).map_err(|error| beside(error.error))
}

/// A copy of `program` in its folder, which is gone unless it is kept.
fn copy(program: &Path) -> io::Result<TempPath> {
    let folder = program.parent().unwrap_or(Path::new("/"));
    let mut copy = tempfile::Builder::new().prefix(".runner-").tempfile_in(folder)?;
    let mut original = File::open(program)?;
    io::copy(&mut original, copy.as_file_mut())?;
    copy.as_file().set_permissions(original.metadata()?.permissions())?;
    // A file that is open for writing cannot be run.
    Ok(copy.into_temp_path())
}

fn run(command: &mut Command) -> Result<(), Error> {
    match command.output() {
        Err(error) => Err(Error::NoTool { program: command.get_program().into(), error }),
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { status, stderr, .. }) => {
            let said = String::from_utf8_lossy(&stderr).trim().escape_debug().to_string();
            Err(Error::Refused { status, said })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use tempfile::TempDir;

    /// A folder with a program in it that says what it is asked and that it is not signed, and with a
    /// `codesign` that does `script`, or else signs: the file's words "not signed" become "signed".
    fn host(script: &str) -> (TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o751)).unwrap();
            path
        };
        let program = put("program", "cd \"${0%/*}\" && echo \"$*: not signed\" > said; exit 7");
        let sign = "for file; do :; done\n[ \"$1\" = --verify ] && exit 0\n\
                    cat \"$9\" > \"${0%/*}/list\"\n\
                    sed 's/not signed/signed/' \"$file\" > \"$file.new\" && cat \"$file.new\" > \"$file\" && rm \"$file.new\"";
        let codesign =
            put("codesign", &format!("echo \"$*\" >> \"${{0%/*}}/calls\"\n{script}\n{sign}"));
        (folder, codesign, program)
    }

    fn text(folder: &TempDir, name: &str) -> String {
        fs::read_to_string(folder.path().join(name)).unwrap_or_default()
    }

    #[test]
    fn a_signed_copy_takes_the_programs_place_and_is_asked_again() {
        let (folder, codesign, program) = host("");
        let before = fs::metadata(&program).unwrap();
        let status = sign_and_look(Some(&codesign), Ok(program.clone()), &["doctor", "--json"]);
        assert_eq!(status.unwrap(), 7);
        assert_eq!(text(&folder, "said"), "doctor --json: signed\n");
        assert_eq!(text(&folder, "list"), ENTITLEMENTS);
        let after = fs::metadata(&program).unwrap();
        assert_ne!(before.ino(), after.ino(), "signed where it lies");
        assert_eq!(before.mode(), after.mode());
        // Nothing is left beside it.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5, "{folder:?}");
        let calls = text(&folder, "calls");
        assert!(calls.starts_with("--sign - --force --options runtime "), "{calls}");
        assert!(!calls.contains("--deep") && calls.lines().count() == 2, "{calls}");
    }

    #[test]
    fn the_file_that_a_link_leads_to_is_signed() {
        let (folder, codesign, program) = host("");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&program, &link).unwrap();
        assert_eq!(sign_and_look(Some(&codesign), Ok(link.clone()), &[]).unwrap(), 7);
        assert!(link.is_symlink() && fs::read_to_string(program).unwrap().contains(": signed"));
    }

    #[test]
    fn a_codesign_that_fails_is_quoted_and_the_program_stays() {
        for script in ["echo 'no \u{1b}[31midentity' >&2; exit 3", "[ \"$1\" = --sign ] || exit 3"]
        {
            let (folder, codesign, program) = host(script);
            let error = sign_and_look(Some(&codesign), Ok(program.clone()), &[]).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("3") && message.contains("xcode-select"), "{message}");
            assert!(!message.contains('\u{1b}'), "{message}");
            assert!(fs::read_to_string(&program).unwrap().contains("not signed"));
            assert!(!folder.path().join("said").exists());
        }
    }

    #[test]
    fn a_missing_codesign_comes_with_the_command_that_installs_it() {
        let (_folder, _, program) = host("");
        let nowhere = Path::new("/nonexistent/codesign");
        let message = sign_and_look(Some(nowhere), Ok(program), &[]).unwrap_err().to_string();
        assert!(message.starts_with("/nonexistent/codesign cannot be started"), "{message}");
        assert!(message.ends_with("`xcode-select --install`"), "{message}");
    }

    #[test]
    fn a_program_that_is_killed_after_it_was_signed_is_no_success() {
        let (folder, codesign, program) = host("");
        fs::write(&program, "#!/bin/sh\nkill -KILL $$\n").unwrap();
        let message = sign_and_look(Some(&codesign), Ok(program), &[]).unwrap_err().to_string();
        assert!(message.contains("does not start: signal: 9"), "{message}");
        drop(folder);
    }

    #[test]
    fn a_system_that_wants_no_signature_says_so() {
        let message = sign_and_look(None, Ok("/bin/true".into()), &[]).unwrap_err().to_string();
        assert!(message.starts_with("--sign is for macOS"), "{message}");
    }

    #[test]
    fn a_folder_that_this_user_may_not_write_is_named_with_the_command_that_may() {
        let message = Error::Folder {
            program: "/usr/local/bin/runner".into(),
            error: io::ErrorKind::PermissionDenied.into(),
        };
        assert!(message.to_string().ends_with("`sudo '/usr/local/bin/runner' doctor --sign`"));
    }
}
