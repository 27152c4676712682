//! Hermit through uhyve's interface: unikernels of our own that do what their arguments say (`tests/guests/*/hermit`), good
//! and hostile. V77 is a case's number in the list that `hostile` has its cases from.

mod calls;

use std::path::PathBuf;

use serde_json::Value;

use super::support::files::{Folder, checkout};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Runner, runner, says};
use super::support::script::{Script, printed};

/// Memory of a guest here, in MiB, and where it begins.
const MEMORY: u64 = 16;
const START: u64 = if cfg!(target_arch = "x86_64") { 0 } else { 0x4000_0000 };
const END: u64 = START + (MEMORY << 20);
/// Where a script's structures are, its paths, and its buffers.
const AT: u64 = START + 0x28_0000;
const PATH: u64 = AT + 0x1000;
const DATA: u64 = AT + 0x2000;

/// Both versions of each call.
const EXIT: [u64; 2] = [0x540, 0x1010];
const OPEN: [u64; 2] = [0x440, 0x1110];
const CLOSE: [u64; 2] = [0x480, 0x1120];
const UNLINK: [u64; 2] = [0x840, 0x1150];
const STAT: u64 = 0x1170;
const MAKE_FOLDER: u64 = 0x1190;

const CREATE: u64 = 0o100;
const READ_WRITE: u64 = 2;

fn unikernel(name: &str) -> PathBuf {
    checkout().join(format!("tests/guests/{}/{name}.elf", std::env::consts::ARCH))
}

/// Stores a text with its NUL.
fn text(script: Script, at: u64, text: &str) -> Script {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    let places = (0..).map(|index| at + 8 * index);
    bytes.chunks(8).zip(places).fold(script, |script, (part, at)| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        script.store(at, u64::from_le_bytes(word))
    })
}

fn with(options: &[&str], script: &Script) -> Runner {
    let run = runner(["-m", &MEMORY.to_string()]);
    let run = options.iter().fold(run, |run, option| run.arg(option));
    run.arg(unikernel("hermit/script")).arg("--").arg(script.line())
}

/// What a call answers, as 32 bits.
fn told(value: i32) -> u64 {
    value.cast_unsigned().into()
}

#[test]
fn a_unikernel_greets_and_has_its_arguments_and_its_environment() {
    or_skip!(accelerator());
    let run = runner(["-m", "16", "-e", "A=b c"]).arg(unikernel("hermit/hello"));
    let text = "Hello from a Hermit unikernel! one two  words A=b c\n";
    assert_eq!(run.args(["--", "one", "two  words"]).ends_with(2).quiet_text(), text);
    let finished = runner(["-v"]).arg(unikernel("hermit/hello")).ends_with(0);
    assert_eq!(finished.text(), "Hello from a Hermit unikernel!\n");
    says(&finished.stderr, &["Hermit unikernel", "Hermit uhyve protocol", "2048 MiB"]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_unikernel_of_the_second_interface_has_its_memory_behind_4_gib() {
    or_skip!(accelerator());
    let run = runner(["-m", "16"]).arg(unikernel("hermit2/hello"));
    assert_eq!(run.ends_with(7).quiet_text(), "Hello from behind 4 GiB!\n");
}

#[test]
fn every_status_is_the_processs_and_the_raw_value_is_in_the_report() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for (raw, status) in [(0_i32, 0), (7, 7), (-1, 255), (256, 255)] {
        let raw = u64::from(raw.cast_unsigned());
        for (number, at) in EXIT.into_iter().zip([AT, raw]) {
            let script = Script::at(AT).store(AT, raw).raw(number, at);
            let run = with(&["--report", "r.json"], &script).within(folder.path());
            assert_eq!(run.ends_with(status).quiet_text(), "");
            let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
            let report: Value = serde_json::from_str(&report).unwrap();
            assert_eq!((&report["raw"], &report["status_of"]), (&raw.into(), &"guest".into()));
            assert_eq!(report["protocol"], "Hermit uhyve");
        }
    }
}

#[test]
fn every_processor_begins_by_itself_and_has_a_number() {
    or_skip!(accelerator());
    let run = runner(["-m", "16", "--cpus", "3"]).arg(unikernel("hermit/processors"));
    let finished = run.ends_with(3);
    assert_eq!(finished.text(), "abc");
}

#[test]
fn without_a_shared_folder_there_are_no_files() {
    or_skip!(accelerator());
    let script = text(Script::at(AT), PATH, "/1/file").call(OPEN[0], &[PATH, 0, 0]).print(AT + 16);
    let script = script.call(CLOSE[1], &[3]).print(AT);
    assert_eq!(printed(&with(&[], &script).ends_with(0)), [told(-2), 3 | told(-9) << 32]);
    // The first without a name has a number.
    let folder = Folder::new();
    folder.file("file", "");
    folder.mode("", 0o755);
    let share = format!("--share={}", folder.path().display());
    assert_eq!(printed(&with(&[&share], &script).ends_with(0)), [3, 3]);
}

#[test]
fn what_a_hermit_guest_cannot_have_is_refused_with_what_it_can() {
    let file = unikernel("hermit/hello");
    let refused = |options: &[&str]| {
        let run = options.iter().fold(runner(["-m", "16"]), |run, option| run.arg(option));
        run.arg(&file).ends_with(125).stderr
    };
    let folder = Folder::new();
    let disk = folder.file("disk.img", [0; 512]);
    let disk = disk.to_str().unwrap();
    says(&refused(&["--disk", disk]), &["--disk: Hermit has no driver for disks: --share FOLDER"]);
    says(&refused(&["--initrd", disk]), &["--initrd"]);
    says(&refused(&["--entry=pvh"]), &["--entry=pvh", "only by uhyve"]);
    says(&refused(&["--accel=off"]), &["--accel=off: QEMU has no uhyve", "leave it out"]);
    let share = format!("--share={}:x", folder.path().display());
    says(&refused(&[&share, &share]), &["two shares are at /x"]);
}

/// A guest that does what Hermit's loader does.
#[cfg(target_arch = "x86_64")]
fn loaders() -> [(PathBuf, &'static str, &'static str); 2] {
    let guest = |name: &str| checkout().join("tests/guests/x86_64").join(name);
    [
        (guest("multiboot/hermit_loader.bin"), "Multiboot", "hermit_loader.bin"),
        (guest("systems/hermit_loader.elf"), "Linux 64-bit", "virtio_mmio.device=4K@0xfeb00000:5"),
    ]
}

#[cfg(target_arch = "x86_64")]
#[test]
fn its_loader_has_a_unikernel_as_its_module_with_its_words_and_ends_with_whether_it_failed() {
    or_skip!(accelerator());
    for (loader, protocol, first) in loaders() {
        // What it is given is at the end of memory.
        for (raw, status, memory) in [(1, 0, "2G"), (0, 1, "32M"), (0x101, 1, "32M")] {
            let folder = Folder::new();
            let ends = format!("ends={raw}");
            let words = ["-v", "--report=r.json", "-m", memory, "--net=user", "-e", "A=b c"];
            let run = runner(words).args(["--append", &ends, "--initrd"]);
            let run = run.arg(unikernel("hermit/hello")).arg(&loader);
            let run = run.args(["--", "one", "two words"]).within(folder.path());
            let finished = run.ends_with(status);
            let works = "timer, clock and interrupts work";
            let told = format!("{works}\n{first} {ends} 'env=A=b c' -- one 'two words'\n");
            assert_eq!(finished.text(), told);
            let lines = [&format!("{protocol} protocol\n"), "system: Hermit's loader\n"];
            says(&finished.stderr, &lines);
            says(&finished.stderr, &["interval timer", "exit, port 0xf4\n", "acpi: tables"]);
            let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
            let report: Value = serde_json::from_str(&report).unwrap();
            assert_eq!((&report["raw"], &report["status_of"]), (&raw.into(), &"guest".into()));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn in_software_emulation_its_loader_has_its_module_and_ends_with_whether_it_failed() {
    or_skip!(super::emulation::qemu());
    for (loader, ..) in loaders() {
        for (raw, status) in [(1, 0), (0, 1)] {
            let folder = Folder::new();
            let ends = format!("ends={raw}");
            let words =
                ["--accel=off", "--report=r.json", "-m", "32", "--append", &ends, "--initrd"];
            let run = runner(words).arg(unikernel("hermit/hello")).arg(&loader);
            let finished = run.args(["--", "two words"]).within(folder.path()).ends_with(status);
            let (works, told) = ("timer, clock and interrupts work\n", "-- 'two words'\n");
            assert!(finished.text().starts_with(works), "{finished}");
            assert!(finished.text().ends_with(told), "{finished}");
            let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
            let report: Value = serde_json::from_str(&report).unwrap();
            assert_eq!((&report["raw"], &report["status_of"]), (&raw.into(), &"guest".into()));
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[test]
fn its_loader_has_a_unikernel_as_its_module_with_its_words_and_ends_without_a_status() {
    or_skip!(accelerator());
    let words = ["-v", "-m", "64", "-e", "A=b c", "--append", "quiet", "--initrd"];
    let run = runner(words).arg(unikernel("hermit/hello"));
    let run = run.arg(super::support::files::kernel("hermit_loader")).args(["--", "two words"]);
    let finished = run.ends_with(0);
    assert_eq!(finished.text(), "cycles are counted\nquiet 'env=A=b c' -- 'two words'\n");
    says(&finished.stderr, &["system: Hermit's loader\n", "which carries no status"]);
    says(&finished.stderr, &["device: performance monitors\n"]);
}

#[test]
fn whoever_is_not_its_loader_is_itself_with_a_unikernel_as_its_ram_disk() {
    or_skip!(accelerator());
    let with = |words: &[&str]| runner(words).arg("--initrd").arg(unikernel("hermit/hello"));
    assert!(with(&["hello"]).ends_with(0).text().contains("Hello"));
    with(&["--append=exit=7"]).arg(super::support::files::kernel("exit")).ends_with(7);
    // These tests themselves: dynamic or static, as they were built.
    let why = with(&[]).arg(std::env::current_exe().unwrap()).refused();
    says(&why, &["Linux program"]);
    #[cfg(target_arch = "x86_64")]
    {
        let guest = |name: &str| checkout().join("tests/guests/x86_64").join(name);
        let why = with(&[]).arg(guest("systems/freebsd.elf")).refused();
        says(&why, &["FreeBSD's kernel takes a module for its loader's metadata"]);
        for name in ["kernels/pvh_info.elf", "systems/osv.elf"] {
            let finished = with(&["-v", "--timeout=20"]).arg(guest(name)).run();
            says(&finished.stderr, &["PVH protocol\n"]);
            assert!(!finished.stderr.contains("Hermit's loader"), "{finished}");
        }
    }
}

#[test]
fn what_hermits_loader_cannot_have_is_refused_with_what_it_can() {
    or_skip!(accelerator());
    #[cfg(target_arch = "x86_64")]
    let (loader, other) = (loaders()[0].0.clone(), "aarch64");
    #[cfg(target_arch = "aarch64")]
    let (loader, other) = (super::support::files::kernel("hermit_loader"), "x86_64");
    let folder = Folder::new();
    let share = format!("--share={}", folder.path().display());
    let run = runner([&*share, "--initrd"]).arg(unikernel("hermit/hello")).arg(&loader);
    says(&run.refused(), &["--share: Hermit's kernel has virtio-fs", "run the unikernel itself"]);
    let foreign = checkout().join(format!("tests/guests/{other}/hermit/hello.elf"));
    let why = runner(["--initrd"]).arg(foreign).arg(&loader).refused();
    says(&why, &[&format!("a Hermit unikernel for {other}, and "), "use a loader"]);
}
