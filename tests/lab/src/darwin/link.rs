//! `runner` and hv-hvf's tests linked for macOS: everything they take from the system has to be there, and what
//! they take from Hypervisor.framework has to be there on macOS 15. Unoptimized: nothing that is called is left
//! out, and crates are compiled once for both.
//!
//! The linker is zig's, which knows what macOS has in libSystem; it comes from PyPI. Apple's framework is
//! played by a file that lists what macOS 15 has in it ([`framework`](super::framework)), so that a
//! function of a later system does not link. Nothing here runs on a Mac, or shows that it would.

use super::framework::{MACOS_15_0, stub};
use super::macho::Program;
use crate::builder::carry_out;
use crate::cache::Cache;
use crate::command::{self, Result};
use crate::packages::{self, Installed};
use crate::toolchain::Toolchain;
use crate::workspace::Workspace;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::TARGET;

/// The oldest macOS with an interrupt controller in the framework.
const OLDEST: (u32, u32) = (15, 0);

const FRAMEWORK: &str = "/System/Library/Frameworks/Hypervisor.framework/Versions/A/Hypervisor";
const SYSTEM: &str = "/usr/lib/libSystem.B.dylib";
const ICONV: &str = "/usr/lib/libiconv.2.dylib";

/// The tests that ask Apple's framework on a Mac; all others bring a stand-in along.
const APPLES: [&str; 2] = ["hv-hvf/framework", "hv-hvf/mac"];

/// zig as `pip` finds it, with the checksum of the one package for x86_64 Linux.
const ZIG: &str = "ziglang==0.17.1 --hash=sha256:ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54\n";
const ZIG_FOLDER: &str = "zig-0.17.1";

/// Links and looks at what comes of it.
pub(super) fn run(toolchain: &Toolchain, workspace: &Workspace) -> Result<()> {
    let linker = Linker::prepare(&workspace.target.join("link"))?;
    let mut build = linker.cargo(toolchain, "build");
    build.args(["--package=runner", "--bin=runner"]);
    for program in carry_out(workspace, build)? {
        let size = fs::metadata(&program.executable).map_or(0, |metadata| metadata.len());
        let program = read(&program.executable)?;
        program.check_shipped()?;
        println!(
            "lab: runner links for macOS {}.{}: {size} bytes with symbols",
            OLDEST.0, OLDEST.1
        );
        println!("lab: of {FRAMEWORK} it takes {}", program.of_framework().join(", "));
    }
    let mut tests = linker.cargo(toolchain, "test");
    tests.args(["--no-run", "--package=hv-hvf"]);
    let tests = carry_out(workspace, tests)?;
    for test in &tests {
        let program = read(&test.executable)?;
        let checked = match APPLES.contains(&test.label.as_str()) {
            true => program.check_shipped(),
            false => program.check_scripted(),
        };
        checked.map_err(|why| format!("{}: {why}", test.label))?;
    }
    println!(
        "lab: {} test programs of hv-hvf link for macOS, and all but {} bring their framework along",
        tests.len(),
        APPLES.len()
    );
    Ok(())
}

fn read(file: &Path) -> Result<Program> {
    let bytes = fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    Program::parse(&bytes).map_err(|why| format!("{}: {why}", file.display()))
}

impl Program {
    /// What it takes from Apple's framework.
    fn of_framework(&self) -> Vec<&str> {
        self.imports.iter().map(String::as_str).filter(|name| name.starts_with("hv_")).collect()
    }

    /// Whether macOS 15 starts it.
    fn check(&self) -> Result<()> {
        if !self.is_arm64 || self.oldest != Some(OLDEST) {
            return Err(format!(
                "not for arm64 and macOS {}.{}, but for {:?}",
                OLDEST.0, OLDEST.1, self.oldest
            ));
        }
        let foreign =
            self.libraries.iter().find(|name| ![FRAMEWORK, SYSTEM].contains(&name.as_str()));
        foreign.map_or(Ok(()), |name| Err(format!("it needs {name}, which macOS may not have")))
    }

    /// Whether it is what people get: it needs the framework, as macOS 15 has it.
    fn check_shipped(&self) -> Result<()> {
        self.check()?;
        let used = self.of_framework();
        if used.is_empty() || !self.libraries.contains(FRAMEWORK) {
            return Err("it does not use Hypervisor.framework: who runs the guests?".to_owned());
        }
        let newer = used.into_iter().find(|name| !MACOS_15_0.contains(name));
        newer.map_or(Ok(()), |name| Err(format!("{name} is not in macOS 15")))
    }

    /// Whether it plays the framework itself, so that it runs on a Mac that has none.
    fn check_scripted(&self) -> Result<()> {
        self.check()?;
        let apples = self.of_framework();
        match apples.first() {
            None => Ok(()),
            Some(name) => Err(format!(
                "{name} and {} more would be Apple's, and not the stand-in's",
                apples.len() - 1
            )),
        }
    }
}

/// zig, and the folder in which it finds what it does not have.
struct Linker {
    program: PathBuf,
    stubs: PathBuf,
    scratch: PathBuf,
}

impl Linker {
    fn prepare(folder: &Path) -> Result<Self> {
        let zig = zig()?;
        let stubs = folder.join("stubs");
        let framework = stubs.join("Hypervisor.framework");
        let context = |e| format!("cannot write to {}: {e}", folder.display());
        fs::create_dir_all(&framework).map_err(context)?;
        let write = |path: PathBuf, text: &str| fs::write(path, text).map_err(context);
        write(framework.join("Hypervisor.tbd"), &stub(FRAMEWORK, &MACOS_15_0))?;
        // The crate libc names it, for functions that nobody here calls.
        write(stubs.join("libiconv.tbd"), &stub(ICONV, &["iconv"]))?;
        let program = folder.join("cc");
        let (major, minor) = OLDEST;
        write(
            program.clone(),
            &format!(
                "#!/bin/sh\nexec '{}' cc -target aarch64-macos.{major}.{minor} \"$@\"\n",
                zig.display()
            ),
        )?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(context)?;
        Ok(Self { program, stubs, scratch: folder.join("zig") })
    }

    fn cargo(&self, toolchain: &Toolchain, subcommand: &str) -> Command {
        let stubs = self.stubs.display();
        let mut command = toolchain.cargo();
        command
            .args([subcommand, "--locked", "--target", TARGET])
            .env("CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER", &self.program)
            .env(
                "CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS",
                format!("-Clink-arg=-F{stubs} -Clink-arg=-L{stubs}"),
            )
            .env("MACOSX_DEPLOYMENT_TARGET", format!("{}.{}", OLDEST.0, OLDEST.1))
            // Instead of Apple's, which would be searched for.
            .env("SDKROOT", &self.stubs)
            .env("ZIG_GLOBAL_CACHE_DIR", &self.scratch)
            .env("ZIG_LOCAL_CACHE_DIR", &self.scratch);
        command
    }
}

/// zig's program, which is fetched once.
fn zig() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let folder = cache.dir().join(ZIG_FOLDER);
    if !folder.is_dir() {
        println!("lab: fetching zig");
        packages::ensure_installed(Installed { name: "pip3", package: "python3-pip" })?;
        let partial = folder.with_extension("partial");
        let wanted = cache.dir().join("zig.txt");
        let context = |e| format!("cannot write to {}: {e}", cache.dir().display());
        fs::write(&wanted, ZIG).map_err(context)?;
        let mut pip = Command::new("pip3");
        pip.args([
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--target",
        ]);
        command::output(pip.arg(&partial).arg("--requirement").arg(&wanted))?;
        fs::rename(&partial, &folder).map_err(context)?;
    }
    Ok(folder.join("ziglang/zig"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(libraries: &[&str], imports: &[&str]) -> Program {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Program {
            is_arm64: true,
            oldest: Some(OLDEST),
            libraries: names(libraries),
            imports: names(imports),
        }
    }

    #[test]
    fn what_ships_takes_from_the_framework_what_macos_15_has() {
        let good = program(&[FRAMEWORK, SYSTEM], &["hv_vm_create", "write"]);
        assert_eq!(good.check_shipped(), Ok(()));
        let newer =
            program(&[FRAMEWORK, SYSTEM], &["hv_vm_create", "hv_vm_config_set_ipa_granule"]);
        assert!(newer.check_shipped().unwrap_err().contains("set_ipa_granule is not in macOS 15"));
        let none = program(&[SYSTEM], &["write"]);
        assert!(none.check_shipped().unwrap_err().contains("does not use"));
    }

    #[test]
    fn another_processor_system_or_library_is_an_error() {
        let good = program(&[FRAMEWORK, SYSTEM], &["hv_vm_create"]);
        let intel = Program { is_arm64: false, ..good.clone() };
        let late = Program { oldest: Some((26, 0)), ..good.clone() };
        let more = program(&[FRAMEWORK, SYSTEM, "/opt/homebrew/lib/liba.dylib"], &["hv_vm_create"]);
        for (program, word) in [(intel, "arm64"), (late, "(26, 0)"), (more, "liba.dylib")] {
            let why = program.check_shipped().unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn a_test_that_would_take_apples_framework_is_an_error() {
        assert_eq!(program(&[SYSTEM], &["write"]).check_scripted(), Ok(()));
        let why = program(&[FRAMEWORK, SYSTEM], &["hv_vm_create"]).check_scripted().unwrap_err();
        assert!(why.contains("hv_vm_create"), "{why}");
    }

    #[test]
    fn a_file_of_another_kind_is_no_program() {
        assert!(Program::parse(b"\x7fELF").unwrap_err().contains("no Mach-O file"));
    }
}
