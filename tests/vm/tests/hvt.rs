//! Solo5's hvt: unikernels of our own that do what their command line says (`tests/guests/*/hvt`), good and
//! hostile, on both architectures. V77 is a case's number in the list that `hostile` has its cases from.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::support::files::{Folder, checkout};
use super::support::host::{accelerator, cpu_time};
use super::support::or_skip;
use super::support::program::{Runner, Running, runner, says};
use super::support::script::{self, Script, printed};
use super::support::usage::own_peak_memory;

/// Where a script's structures are, and its buffers.
const AT: u64 = 0x20_0000;
const DATA: u64 = 0x20_1000;
/// Memory of a guest here, in MiB, and where it ends.
const MEMORY: u64 = 16;
const END: u64 = MEMORY << 20;

const WALLTIME: u64 = 1;
const PUTS: u64 = 2;
const POLL: u64 = 3;
const BLOCK_WRITE: u64 = 4;
const BLOCK_READ: u64 = 5;
const NET_WRITE: u64 = 6;
const NET_READ: u64 = 7;
const HALT: u64 = 8;

const OK: u64 = 0;
const AGAIN: u64 = 1;
const INVALID: u64 = 2;
const FAILED: u64 = 3;

pub(crate) fn unikernel(name: &str) -> PathBuf {
    checkout().join(format!("tests/guests/{}/hvt/{name}.elf", std::env::consts::ARCH))
}

/// A guest without devices.
fn guest(script: &Script) -> Runner {
    runner(["-m", &MEMORY.to_string()]).arg(unikernel("script")).arg("--").arg(script.line())
}

/// A guest with block storage of 0x5a and two networks of its own.
pub(crate) fn with_devices(folder: &Folder, script: &Script) -> Runner {
    let disk = folder.file("storage.img", [0x5a; 4096]);
    runner(["-m", &MEMORY.to_string(), "--net=service0=user", "--net=service1=user"])
        .arg(format!("--block=storage={}", disk.display()))
        .arg("--report")
        .arg(folder.path().join("r.json"))
        .arg(unikernel("devices"))
        .arg("--")
        .arg(script.line())
}

/// Makes every call that needs a device or the host's help, one with devices at least.
#[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), allow(dead_code))]
pub(crate) fn every_call() -> Script {
    Script::at(AT)
        .call(WALLTIME, &[0])
        .call(BLOCK_WRITE, &[1, 1024, DATA, 512, 9])
        .call(BLOCK_READ, &[1, 512, DATA, 1024, 9])
        .call(NET_WRITE, &[2, DATA, 60, 9])
        .call(NET_READ, &[2, DATA, 1514, 9])
        .call(POLL, &[100_000_000, 0, 0])
}

/// Breaks the rules, in words of `wanted`, and prints nothing.
fn violates(run: Runner, wanted: &str) {
    assert_eq!(script::violates(run, wanted).text(), "");
}

#[test]
fn a_unikernel_greets_and_has_its_arguments() {
    or_skip!(accelerator());
    let run = runner(["-m", "16"]).arg(unikernel("hello")).args(["-a", "one", "--", "two  words"]);
    let text = "Hello from a Solo5 unikernel! one two  words\n";
    assert_eq!(run.ends_with(0).quiet_text(), text);
    let finished = runner(["-v"]).arg(unikernel("hello")).ends_with(0);
    assert_eq!(finished.text(), "Hello from a Solo5 unikernel! \n");
    says(&finished.stderr, &["Solo5 hvt unikernel", "Solo5 hvt protocol", "2048 MiB"]);
}

#[test]
fn boot_info_is_where_the_abi_has_it() {
    or_skip!(accelerator());
    let info = 0x1_0000;
    let script = (0..7).fold(Script::at(AT), |script, field| script.print(info + 8 * field));
    let printed = printed(&guest(&script).ends_with(0));
    let [memory, end, counter, line, manifest, features, ring] = printed[..] else {
        panic!("{printed:x?}")
    };
    assert_eq!((memory, features, ring), (END, 0, 0));
    assert!((0x10_2000..0x20_0000).contains(&end) && end.is_multiple_of(4096), "{end:#x}");
    // Not slower than any processor, and not faster.
    assert!((1_000_000..20_000_000_000).contains(&counter), "{counter} Hz");
    assert!(info < manifest && manifest < line && line < 0x10_0000, "{manifest:#x} {line:#x}");
}

#[test]
fn every_status_is_the_processs_and_the_raw_value_is_in_the_report() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for (raw, status) in [(0, 0), (1, 1), (7, 7), (255, 255), (256, 255), (0x107, 7)] {
        let run = runner(["-m", "16", "--report", "r.json"]).arg(unikernel("script")).arg("--");
        let script = Script::at(AT).call(HALT, &[0, raw]).line();
        let finished = run.arg(script).within(folder.path()).ends_with(status);
        assert_eq!(finished.quiet_text(), "", "{raw}");
        let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&report["raw"], &report["status_of"]), (&raw.into(), &"guest".into()));
        assert_eq!(report["protocol"], "Solo5 hvt");
    }
}

#[test]
fn the_wall_clock_is_the_hosts() {
    or_skip!(accelerator());
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let before = now();
    let finished = guest(&Script::at(AT).call(WALLTIME, &[0]).print(AT)).ends_with(0);
    let told = u128::from(printed(&finished)[0]);
    assert!((before..=now()).contains(&told), "{told}");
}

#[test]
fn poll_waits_for_its_time_without_a_processor() {
    or_skip!(accelerator());
    let started = Instant::now();
    let script = Script::at(AT).call(POLL, &[500_000_000, 9, 9]).print(AT + 8).print(AT + 16);
    let finished = guest(&script).ends_with(0);
    assert_eq!(printed(&finished), [0, 0]);
    assert!(started.elapsed() >= Duration::from_millis(500));
    // For good: it is another's affair to end that, and it costs nothing meanwhile.
    let word = u64::from_le_bytes(*b"waiting\n");
    let script = Script::at(AT).store(DATA, word).call(PUTS, &[DATA, 8]);
    let mut running: Running = guest(&script.call(POLL, &[u64::MAX, 0, 0])).start();
    running.wait_for("waiting\n");
    let before = or_skip!(cpu_time(running.id()));
    std::thread::sleep(Duration::from_millis(500));
    let used = or_skip!(cpu_time(running.id())) - before;
    assert!(used <= Duration::from_millis(50), "it is busy: {used:?}");
    running.signal(Signal::TERM);
    let finished = running.finish();
    assert_eq!(finished.status, Some(143), "{finished}");
}

#[test]
fn a_timeout_ends_a_guest_that_waits() {
    or_skip!(accelerator());
    let script = Script::at(AT).call(POLL, &[u64::MAX, 0, 0]).line();
    let run =
        runner(["-m", "16", "--timeout=500ms"]).arg(unikernel("script")).arg("--").arg(script);
    run.ends_with(124);
}

#[test]
fn block_storage_is_written_and_read_and_ephemeral_when_asked() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let script = Script::at(AT)
        .store(DATA, 0x1122_3344_5566_7788)
        .call(BLOCK_WRITE, &[1, 1024, DATA, 512, 9])
        .print(AT + 32)
        .call(BLOCK_READ, &[1, 512, DATA + 0x1000, 1024, 9])
        .print(AT + 32)
        .print(DATA + 0x1000)
        .print(DATA + 0x1200);
    let told = [OK, OK, 0x5a5a_5a5a_5a5a_5a5a, 0x1122_3344_5566_7788];
    let finished = with_devices(&folder, &script).ends_with(0);
    assert_eq!(printed(&finished), told);
    let written = std::fs::read(folder.path().join("storage.img")).unwrap();
    assert_eq!(written[1024..1032], 0x1122_3344_5566_7788_u64.to_le_bytes());
    assert_eq!((written.len(), written[1023], written[1536]), (4096, 0x5a, 0x5a));

    let disk = folder.file("other.img", [0x5a; 4096]);
    let run = runner(["-m", "16", "--ephemeral", "--net=service0=user", "--net=service1=user"]);
    let run = run.arg(format!("--block=storage={}", disk.display())).arg(unikernel("devices"));
    assert_eq!(printed(&run.arg("--").arg(script.line()).ends_with(0)), told);
    assert_eq!(std::fs::read(&disk).unwrap(), [0x5a; 4096]);

    let run = runner(["-m", "16", "--net=service0=user", "--net=service1=user"]);
    let run = run.arg(format!("--block=storage={},ro", disk.display())).arg(unikernel("devices"));
    let finished = run.arg("--").arg(script.line()).ends_with(0);
    assert_eq!(printed(&finished)[..2], [FAILED, OK]);
}

#[test]
fn v77_requests_for_what_there_is_not_are_answered_so_and_the_guest_goes_on() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let mut script = Script::at(AT);
    let mut wanted = Vec::new();
    for (handle, offset, len) in [
        (0, 0, 512),
        (2, 0, 512),
        (63, 0, 512),
        (u64::MAX, 0, 512),
        (1, 4096, 512),
        (1, 3584, 1024),
        (1, 256, 512),
        (1, 0, 100),
        (1, u64::MAX - 511, 512),
        (1, 512, u64::MAX - 511),
    ] {
        for number in [BLOCK_WRITE, BLOCK_READ] {
            script = script.call(number, &[handle, offset, DATA, len, 9]).print(AT + 32);
            wanted.push(INVALID);
        }
    }
    for (handle, len) in [(0, 60), (1, 60), (64, 60), (u64::MAX, 60), (2, 13), (2, 1515)] {
        script = script.call(NET_WRITE, &[handle, DATA, len, 9]).print(AT + 24);
        wanted.push(INVALID);
    }
    script = script.call(NET_READ, &[1, DATA, 1514, 9]).print(AT + 24);
    script = script.call(NET_READ, &[3, DATA, 1514, 9]).print(AT + 24);
    wanted.extend([INVALID, AGAIN]);
    assert_eq!(printed(&with_devices(&folder, &script).ends_with(0)), wanted);
    assert_eq!(std::fs::read(folder.path().join("storage.img")).unwrap(), [0x5a; 4096]);
}

#[test]
fn v77_structures_and_buffers_out_of_memory_end_the_run_and_name_the_call() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for (number, name) in [
        (WALLTIME, "walltime"),
        (PUTS, "puts"),
        (POLL, "poll"),
        (BLOCK_WRITE, "block_write"),
        (BLOCK_READ, "block_read"),
        (NET_WRITE, "net_write"),
        (NET_READ, "net_read"),
        (HALT, "halt"),
    ] {
        for at in [0xfffc, END - 4] {
            let script = Script::at(AT).raw(number, at);
            violates(with_devices(&folder, &script), &format!("{name}: "));
        }
    }
    for (data, len) in [(END - 1, 2), (DATA, u64::MAX)] {
        for (number, words) in [
            (PUTS, vec![data, len]),
            (NET_WRITE, vec![2, data, len]),
            (NET_READ, vec![2, data, len]),
        ] {
            violates(with_devices(&folder, &Script::at(AT).call(number, &words)), "not all");
        }
    }
    for data in [END - 511, u64::MAX - 511] {
        for number in [BLOCK_WRITE, BLOCK_READ] {
            let script = Script::at(AT).call(number, &[1, 0, data, 512]);
            violates(with_devices(&folder, &script), "not all");
        }
    }
    violates(guest(&Script::at(AT).call(HALT, &[END - 511, 0])), "halt: 512 bytes");
}

#[test]
fn v77_nothing_is_written_where_the_guest_itself_cannot_write() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for data in [0x1_0000, 0x10_0000, 0x10_1000] {
        let call = Script::at(AT).raw(WALLTIME, data);
        violates(guest(&call), "walltime: 8 bytes");
        let read = Script::at(AT).call(BLOCK_READ, &[1, 0, data, 512]);
        violates(with_devices(&folder, &read), "not all the guest's to write");
        violates(guest(&Script::at(AT).store(data.max(0x10_0000), 1)), "read-only memory");
    }
}

#[test]
fn v77_a_buffer_over_its_own_structure_is_no_harm_and_nor_is_one_of_no_bytes_nowhere() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let script = Script::at(AT)
        .call(BLOCK_READ, &[1, 0, AT, 512, 0])
        .print(AT)
        .print(AT + 32)
        .call(PUTS, &[AT, 0])
        .call(PUTS, &[0, 0])
        .call(BLOCK_READ, &[1, 0, u64::MAX, 0])
        .call(POLL, &[0, 0, 0])
        .print(AT + 8);
    let told = [0x5a5a_5a5a_5a5a_5a5a, 0x5a5a_5a5a_0000_0000, 0];
    assert_eq!(printed(&with_devices(&folder, &script).ends_with(0)), told);
}

#[test]
fn v77_calls_that_do_not_exist_and_accesses_that_are_none_end_the_run() {
    or_skip!(accelerator());
    let word = |word: &str| guest(&Script::at(AT).word(word.to_owned()));
    violates(word("c0,200000"), "hypercall 0 does not exist");
    // Behind the last one.
    violates(word("c9,200000"), "invalid guest");
    violates(word("c40,200000"), "invalid guest");
    violates(word("o8,1"), "32 bits");
    violates(word("i8"), "a read where hypercalls are written");
    violates(word("o100,1"), "invalid guest");
    violates(word("i100"), "invalid guest");
}

#[test]
fn data_is_not_executed_and_the_first_64_kib_are_nowhere() {
    or_skip!(accelerator());
    // These guests have no handlers for exceptions.
    let ends = |word: &str| {
        let run = runner(["-m", "16", "--timeout=1s"]).arg(unikernel("script")).arg("--").arg(word);
        let finished = run.run();
        let ended = finished.status.is_some_and(|status| [124, 125, 126].contains(&status));
        assert!(ended && finished.text().is_empty(), "{word}: {finished}");
    };
    for word in ["j200000", "j101000", "r8000", "r0", "j1000"] {
        ends(word);
    }
}

#[test]
fn frames_go_to_the_network_and_come_from_it_by_their_handles() {
    or_skip!(accelerator());
    let folder = Folder::new();
    // An ARP request for the gateway of the user-mode network, in words of 8 bytes.
    let mut frame = vec![0xff; 6];
    let mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
    frame.extend(mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend([10, 0, 2, 15]);
    frame.extend([0; 6]);
    frame.extend([10, 0, 2, 2]);
    frame.resize(64, 0);
    for handle in [2_u64, 3] {
        let stored =
            (DATA..).step_by(8).zip(frame.chunks(8)).fold(Script::at(AT), |it, (at, word)| {
                it.store(at, u64::from_le_bytes(word.try_into().unwrap()))
            });
        let script = stored
            .call(NET_WRITE, &[handle, DATA, 60, 9])
            .print(AT + 24)
            .call(POLL, &[10_000_000_000, 0, 0])
            .print(AT + 8)
            .print(AT + 16)
            .call(NET_READ, &[handle, DATA + 0x1000, 1514, 9])
            .print(AT + 24)
            .print(DATA + 0x1000 + 12)
            .call(NET_READ, &[5 - handle, DATA + 0x1000, 1514, 9])
            .print(AT + 24);
        let disk = folder.file("storage.img", [0x5a; 4096]);
        let run = runner(["-m", "16", "--net=service0=user", "--net=service1=user"]);
        let run = run.arg(format!("--block=storage={}", disk.display())).arg(unikernel("devices"));
        let told = printed(&run.arg("--").arg(script.line()).ends_with(0));
        let [sent, ready, count, read, answer, other] = told[..] else { panic!("{told:x?}") };
        assert_eq!((sent, ready, count, read, other), (OK, 1 << handle, 1, OK, AGAIN));
        // ARP, and of it a reply.
        assert_eq!(answer, u64::from_le_bytes([8, 6, 0, 1, 8, 0, 6, 4]));
    }
}

#[test]
fn what_a_guest_declares_and_nobody_attaches_is_asked_for_by_name() {
    let run =
        |options: &[&str]| runner(options.iter().copied()).arg(unikernel("devices")).refused();
    let why = run(&["-m", "16"]);
    says(&why, &["--block storage=FILE --net service0=user --net service1=user"]);
    says(&run(&["--block=disk=/dev/null"]), &["--block disk", "not declared", "storage"]);
    says(&run(&["--net=service9=user"]), &["--net service9", "service0, service1"]);
    says(&run(&["--net=user"]), &["several networks", "service0, service1"]);
    says(&run(&["--disk=/dev/null"]), &["--disk", "--block NAME=FILE"]);
    says(&run(&["--cpus=2"]), &["one CPU"]);
    says(&run(&["-e", "A=1"]), &["arguments only"]);
    let alone = |option: &str| runner([option]).arg(unikernel("hello")).refused();
    for option in ["--mac=02:00:00:00:00:01", "--pcap=x.pcap", "--host-loopback"] {
        says(&alone(option), &["the guest's manifest declares no network: leave it out"]);
    }
    let odd = runner(["-m", "15"]).arg(unikernel("hello")).refused();
    says(&odd, &["15 MiB", "multiple of 2 MiB"]);
    let off = runner(["--accel=off"]).arg(unikernel("hello")).refused();
    says(&off, &["--accel=off", "QEMU has no hvt"]);
    let folder = Folder::new();
    let disk = folder.file("odd.img", [0; 700]);
    let why = runner(["-m", "16", "--net=service0=user", "--net=service1=user"])
        .arg(format!("--block=storage={}", disk.display()))
        .arg(unikernel("devices"))
        .refused();
    says(&why, &["odd.img", "Backing storage size must be block aligned", "truncate"]);
}

#[test]
fn the_tenders_words_and_statuses_are_understood() {
    or_skip!(accelerator());
    let hello = || unikernel("hello");
    let run = runner(["solo5-hvt", "--mem=16", "--"]).arg(hello()).args(["a", "--b"]);
    assert_eq!(run.ends_with(0).quiet_text(), "Hello from a Solo5 unikernel! a --b\n");
    let script =
        |words: &str| runner(["solo5-hvt", "--mem=16"]).arg(unikernel("script")).arg(words);
    script(&Script::at(AT).call(HALT, &[0, 255]).line()).ends_with(255);
    let finished = script("s100000,1").ends_with(1);
    says(&finished.stderr, &["host/guest translation fault"]);
    let finished = runner(["solo5-hvt", "--mem=15"]).arg(hello()).ends_with(0);
    says(&finished.stderr, &["adjusting memory to 14680064 bytes"]);
    let finished = runner(["solo5-hvt", "--mem=x"]).arg(hello()).ends_with(1);
    says(&finished.stderr, &["Malformed argument to --mem"]);
    let finished = runner(["solo5-hvt"]).arg(unikernel("devices")).ends_with(1);
    says(&finished.stderr, &["not attached"]);
    // By its name.
    let folder = Folder::new();
    let tender = folder.path().join("solo5-hvt");
    std::os::unix::fs::symlink(super::support::program::path(), &tender).unwrap();
    let line = format!("{} --mem=16 {}", tender.display(), hello().display());
    let finished = super::support::program::shell(&line).ends_with(0);
    says(finished.text(), &["Hello from a Solo5 unikernel!"]);
}

/// A unikernel that waits a moment and ends with `raw`, in the tender's words, its core wanted in `folder`.
pub(crate) fn dumping(folder: &Path, raw: u64) -> Runner {
    let script = Script::at(AT).store(DATA, MARK).call(POLL, &[100_000_000, 0, 0]);
    let script = script.call(HALT, &[0, raw]);
    runner(["solo5-hvt".to_owned(), format!("--mem={MEMORY}")])
        .arg(format!("--dumpcore={}", folder.display()))
        .arg(unikernel("script"))
        .arg(script.line())
}

const MARK: u64 = 0x1122_3344_5566_7788;

fn u64_at(bytes: &[u8], at: u64) -> u64 {
    let at = usize::try_from(at).unwrap();
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn a_unikernel_that_aborts_leaves_its_memory_and_registers_in_a_core_file() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let cores = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    // Nobody's rights are left to take a file away with where the folder is root's.
    let finished = dumping(folder.path(), 0).ends_with(0);
    match rustix::process::geteuid().is_root() {
        true => {
            says(&finished.stderr, &["nothing was dumped", "Permission denied", "remove it"]);
            cores().iter().for_each(|empty| std::fs::remove_file(empty).unwrap());
        }
        false => assert_eq!((cores().len(), &*finished.stderr), (0, "")),
    }
    let finished = dumping(folder.path(), 255).ends_with(255);
    let [path] = &cores()[..] else { panic!("{:?}", cores()) };
    says(&finished.stderr, &["core.solo5-hvt.", &format!("to: {}", path.display())]);
    let core = std::fs::read(path).unwrap();
    assert_eq!((&core[..7], core[16]), (&b"\x7fELF\x02\x01\x01"[..], 4));
    // A note, and memory.
    let (note, load) = (64, 64 + 56);
    assert_eq!((core[note], core[load]), (4, 1));
    let memory = u64_at(&core, 64 + 56 + 8);
    assert_eq!((u64_at(&core, 64 + 56 + 32), core.len() as u64), (END, memory + END));
    assert_eq!(u64_at(&core, memory + DATA), MARK);
    assert_eq!(u64_at(&core, memory + AT + 8), 255, "what it gave to the call");
    let registers = u64_at(&core, 64 + 8) + 20 + 112;
    let (pc, sp) = if cfg!(target_arch = "x86_64") { (16, 19) } else { (32, 31) };
    let [pc, sp] = [pc, sp].map(|index| u64_at(&core, registers + 8 * index));
    assert!(
        (0x10_0000..0x20_0000).contains(&pc) && (0x10_0000..=END).contains(&sp),
        "{pc:#x} {sp:#x}"
    );

    let missing = folder.path().join("missing");
    let finished = dumping(&missing, 255).ends_with(1);
    says(&finished.stderr, &["--dumpcore=", "missing", "name a folder"]);
}

#[test]
fn a_unikernel_that_prints_all_its_memory_costs_no_more_than_that() {
    or_skip!(accelerator());
    // Not into this process, which would grow.
    let folder = Folder::new();
    let path = folder.path().join("stdout");
    let script = Script::at(AT).call(PUTS, &[0x1_0000, END - 0x1_0000]);
    let finished = guest(&script).stdout(File::create(&path).unwrap()).ends_with(0);
    assert_eq!(path.metadata().unwrap().len(), END - 0x1_0000);
    // A child was this process before, and may have been as large.
    let limit = ((MEMORY + 32) << 20).max(own_peak_memory());
    assert!(finished.peak_memory <= limit, "{} bytes", finished.peak_memory);
}
