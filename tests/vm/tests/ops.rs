//! Disk images as OPS writes them: found and booted. These are for x86_64.

use serde_json::Value;

use super::support::files::{Folder, OPS_IMAGES, kernel, ops_image};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Finished, runner, says};

/// What the kernel in every fixture prints.
const LINE: &str = "kernel from the boot file system\n";

fn booted(finished: &Finished) {
    assert_eq!((finished.status, finished.quiet_text()), (Some(7), LINE), "{finished}");
}

#[test]
fn every_image_of_the_two_real_writers_ends_with_its_programs_status() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for name in OPS_IMAGES {
        booted(&runner([folder.file(name, ops_image(name))]).run());
    }
}

#[test]
fn the_report_says_whose_the_status_is_and_what_ran_it() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for name in OPS_IMAGES {
        let image = folder.file(name, ops_image(name));
        booted(
            &runner(["-m", "256M", "--report", "r.json"]).arg(image).within(folder.path()).run(),
        );
        let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["status"], 7, "{report}");
        assert_eq!(report["status_of"], "guest", "{report}");
        assert_eq!(report["reason"], "exit", "{report}");
        assert_eq!(report["raw"], 7, "{report}");
        assert_eq!(report["accelerator"], "kvm", "{report}");
        assert_eq!(report["protocol"], "Linux 64-bit", "{report}");
        assert_eq!(report["memory"], 256 << 20, "{report}");
        assert_eq!(report["cpus"], 1, "{report}");
        assert_eq!(report["message"], Value::Null, "{report}");
        assert!(report["image"].as_str().unwrap().ends_with(name), "{report}");
        assert!(report["format"].as_str().unwrap().contains("OPS disk image"), "{report}");
        assert_eq!(report["command_line"], "", "its devices are on the PCI bus: {report}");
        assert!(report["duration_ms"].is_u64(), "{report}");
        assert_eq!(report["version"], env!("CARGO_PKG_VERSION"), "{report}");
    }
}

#[test]
fn an_image_is_found_by_path_then_in_the_folder_of_ops() {
    or_skip!(accelerator());
    let image = ops_image("tfs-v5-go-bios");
    let folder = Folder::new();
    folder.file(".ops/images/web", &image);
    folder.file(".ops/images/api.img", &image);
    let found = |name: &str, variable: &str| {
        runner([name]).within(folder.path()).env(variable, folder.path()).run()
    };
    for variable in ["HOME", "OPS_HOME"] {
        for name in ["web", "api", "api.img", "./.ops/images/web"] {
            booted(&found(name, variable));
        }
    }
    // A file of that name comes before OPS's.
    folder.file("web", std::fs::read(kernel("exit")).unwrap());
    assert_eq!(found("web", "HOME").status, Some(255));
}

#[test]
fn the_folder_of_ops_home_comes_before_the_home_folder() {
    or_skip!(accelerator());
    let (home, ops) = (Folder::new(), Folder::new());
    home.file(".ops/images/web", std::fs::read(kernel("exit")).unwrap());
    ops.file(".ops/images/web", ops_image("tfs-v5-go-bios"));
    booted(&runner(["web"]).env("HOME", home.path()).env("OPS_HOME", ops.path()).run());
}

#[test]
fn an_image_of_ops_comes_before_the_builtin_guest() {
    or_skip!(accelerator());
    let home = Folder::new();
    home.file(".ops/images/hello", ops_image("tfs-v5-c-bios"));
    booted(&runner(["hello"]).env("HOME", home.path()).run());
}

#[test]
fn arguments_environment_and_append_reach_the_kernels_command_line() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let image = folder.file("web.img", ops_image("tfs-v5-go-bios"));
    let line = "--virtio=mmio -a one -e MODE=test --append debug=t --report r.json";
    let finished = runner(line.split(' ')).arg(image).arg("--").arg("two").within(folder.path());
    booted(&finished.run());
    let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    // Its disk and its network come first.
    let devices = "virtio_mmio.device=512@0xfeb00000:5 virtio_mmio.device=512@0xfeb00200:6";
    let words = "arguments.1=one arguments.2=two environment.MODE=test debug=t";
    assert_eq!(report["command_line"], format!("{devices} {words}"));
}

/// An image whose program is a link, for all that a run can tell, and so may lead to a folder.
fn image_with_a_place_to_mount() -> Vec<u8> {
    let mut image = ops_image("tfs-v5-c-bios");
    let name = b"filelength";
    // The boot file system's is the first.
    let last = image.windows(name.len()).rposition(|bytes| bytes == name).unwrap();
    image[last..last + name.len()].copy_from_slice(b"linktarget");
    image
}

/// The first sector of a volume, and room.
fn volume(label: &str) -> Vec<u8> {
    let mut bytes =
        [b"NVMTFS\x05\x01", &b"0123456789abcdef"[..], label.as_bytes(), &[0, 1]].concat();
    bytes.resize(1 << 20, 0);
    bytes
}

#[test]
fn volumes_stand_behind_the_image_and_its_disks_and_the_guest_is_told_where_to_mount_them() {
    or_skip!(accelerator());
    let folder = Folder::new();
    folder.file("web.img", image_with_a_place_to_mount());
    folder.file("d.raw", [0x5a; 512]);
    folder.file(".ops/volumes/data:1a-2b.raw", volume("data"));
    folder.file("c.json", r#"{"Mounts": {"data": "/hello:ro"}}"#);
    let run =
        |line: &str| runner(line.split(' ')).within(folder.path()).env("OPS_HOME", folder.path());
    let line = "-v -c c.json web.img --disk d.raw --report r.json --net=none";
    let finished = run(line).run();
    assert_eq!((finished.status, finished.text()), (Some(7), LINE), "{finished}");
    let at =
        |place: &str| finished.stderr.find(place).unwrap_or_else(|| panic!("{place}: {finished}"));
    assert!(at("web.img, read-write") < at("d.raw, read-write"));
    assert!(at("d.raw, read-write") < at(".ops/volumes/data:1a-2b.raw, read-only"));
    let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let line = report["command_line"].as_str().unwrap();
    assert_eq!(line, "mounts.30313233-3435-3637-3839-616263646566=/hello:ro");
    booted(&run("web.img --mounts 1a-2b:/hello").run());
    // Those who only read it share it.
    let mut reader = run("--disk=.ops/volumes/data:1a-2b.raw,ro").arg(kernel("spin")).start();
    reader.wait_for("running\n");
    booted(&run("web.img --mounts data:/hello:ro").run());
    let why = run("web.img --mounts data:/hello").refused();
    says(&why, &["data:1a-2b.raw: in use by runner", "stop that first"]);
    drop(reader);
    let why = run("web.img --mounts data:/nowhere").refused();
    says(&why, &["mount data: ", "web.img has no folder /nowhere", "Mounts of its config.json"]);
    let why = run("web.img --mounts dta:/hello").refused();
    says(&why, &["mount dta: no volume of that label or UUID in ", "there are data:1a-2b.raw"]);
}

#[test]
fn a_folder_of_the_hosts_in_mounts_is_shared_and_the_guest_is_told_its_number() {
    or_skip!(accelerator());
    let folder = Folder::new();
    folder.file("web.img", image_with_a_place_to_mount());
    folder.file("files/a", "");
    folder.file("c.json", r#"{"Mounts": {"./files": "/hello:ro"}}"#);
    let run =
        |line: &str| runner(line.split(' ')).within(folder.path()).env("OPS_HOME", folder.path());
    let finished = run("-v -c c.json web.img --report r.json --net=none").run();
    assert_eq!((finished.status, finished.text()), (Some(7), LINE), "{finished}");
    says(&finished.stderr, &["device: share0, ", "./files, read-only, tag 0"]);
    let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["command_line"], "mounts.%0=/hello:ro");
    let why = run("web.img --mounts files/a:/hello").refused();
    says(&why, &["mount files/a: no volume of that label or UUID in ", "no folder of the host's"]);
}

#[test]
fn a_value_with_white_space_is_refused_where_the_guest_would_split_it() {
    let folder = Folder::new();
    let image = folder.file("web.img", ops_image("tfs-v5-go-bios"));
    let why = runner(["-a", "two words", "-a", "x"]).arg(image).refused();
    assert!(why.contains("\"two words\"") && why.contains("build the image again"), "{why}");
}
