//! Command lines and configs that cannot be followed: one sentence, status 125.

use std::process::Command;

use super::support::files::{Folder, kernel};
use super::support::host::{accelerator, memory};
use super::support::or_skip;
use super::support::program::{runner, says};

/// Words separated by spaces.
fn refused(line: &str) -> String {
    runner(line.split(' ')).refused()
}

#[test]
fn memory_that_is_none_or_more_than_the_host_has_is_refused() {
    or_skip!(accelerator());
    says(&refused("-m 0 hello"), &["--memory", "`0`", "512M"]);
    says(&refused("-m lots hello"), &["--memory", "`lots`"]);
    says(&refused("-m 512K hello"), &["KiB"]);
    says(&refused("-m 99999999999999999999 hello"), &["more than any host has"]);
    let beyond = or_skip!(memory()) + (1 << 20);
    says(&refused(&format!("-m {beyond}M hello")), &["where this machine has", "-m"]);
}

#[test]
fn memory_too_small_for_the_kernel_says_how_much_it_needs() {
    or_skip!(accelerator());
    says(&refused("-m 1 hello"), &["needs guest memory", "more memory (-m)"]);
}

#[test]
fn cpus_that_are_none_or_more_than_the_host_allows_are_refused() {
    or_skip!(accelerator());
    says(&refused("--cpus 0 hello"), &["--cpus", "`0`"]);
    says(&refused("--cpus 10000 hello"), &["10000 vCPUs", "fewer"]);
    says(&refused("--smp 99999999999 hello"), &["--cpus", "65535"]);
    says(&refused("--cpus two hello"), &["--cpus", "`two`"]);
}

#[test]
fn an_unknown_option_is_answered_with_the_nearest() {
    says(&refused("--memroy 1G hello"), &["--memroy", "did you mean --memory?"]);
    says(&refused("--verbos hello"), &["did you mean --verbose?"]);
    says(&refused("-z hello"), &["no option -z", "--help"]);
}

#[test]
fn values_that_mean_nothing_are_refused() {
    says(&refused("--accel=maybe hello"), &["--accel", "auto"]);
    says(&refused("--accel off hello"), &["--accel=off"]);
    says(&refused("--timeout 0 hello"), &["--timeout"]);
    says(&refused("--timeout soon hello"), &["--timeout", "500ms"]);
    says(&refused("-e GREETING hello"), &["--envs", "KEY=VALUE"]);
    says(&refused("hello world"), &["`hello`", "`world`"]);
    says(&refused("-m"), &["needs a value"]);
    says(&refused("doctor hello"), &["doctor"]);
    says(&refused("inspect"), &["inspect needs an image"]);
    says(&runner([""; 0]).refused(), &["no image to boot"]);
    says(&runner([""]).refused(), &["empty"]);
}

#[test]
fn names_that_would_upset_a_terminal_are_escaped() {
    let name = "two\nlines \x1b[31mred";
    for option in ["--config", "--report", "--disk", "--initrd", "--kernel", "--imagename"] {
        let path = format!("/nonexistent/{name}");
        let why = runner([option, &path, "hello"]).refused();
        assert!(!why.contains('\x1b'), "{option}: {why:?}");
    }
    assert!(!runner([name]).refused().contains('\x1b'));
    assert!(!runner(["-m", name, "hello"]).refused().contains('\x1b'));
}

#[test]
fn text_that_is_no_utf8_is_refused_and_a_name_that_is_none_is_not_found() {
    use std::os::unix::ffi::OsStrExt as _;
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    says(&runner(["hello", "-a"]).arg(odd).refused(), &["--args", "UTF-8"]);
    says(&runner(["hello", "-c"]).arg(odd).refused(), &["no such file"]);
    says(&runner([odd]).refused(), &["no image"]);
}

#[test]
fn letters_of_ops_that_mean_nothing_here_are_refused_with_what_to_do() {
    for (line, wanted) in [
        ("run --bridgeipaddress 10.0.0.1 hello", "sudo ip address add"),
        ("run -d hello", "debugger"),
        ("run -g 1234 hello", "debugger"),
        ("run -f hello", "builds none"),
        ("run -n hello", "brings its own kernel"),
        ("run --mounts a:/b hello", "--disk"),
        ("run --qmp hello", "no QEMU"),
        ("pkg load node", "packages"),
        ("build hello", "ops build"),
    ] {
        says(&refused(line), &[wanted]);
    }
}

#[test]
fn networks_that_cannot_be_are_refused_with_what_to_do() {
    for (line, wanted) in [
        ("-p http hello", "8080:80"),
        ("-p 8080-80 hello", "write 8080:80"),
        ("-p 80 -p 80:81 hello", "by -p 80"),
        ("-p 80 --net=none hello", "only the user-mode network forwards"),
        ("--net=slirp hello", "choose user"),
        ("--net=user -t tap0 hello", "two networks"),
        ("--mac 1 hello", "52:54:00:12:34:56"),
        ("--ip-address 10.0.2.256 hello", "10.0.2.15"),
    ] {
        says(&refused(line), &[wanted]);
    }
}

#[test]
fn accelerators_of_other_systems_are_refused() {
    let other = if cfg!(target_os = "linux") { "hvf" } else { "kvm" };
    says(&refused(&format!("--accel={other} hello")), &[&format!("--accel={other}")]);
}

#[test]
fn files_that_options_name_and_that_are_not_there_are_named() {
    or_skip!(accelerator());
    for option in ["--disk", "--initrd", "--kernel"] {
        says(&refused(&format!("{option} /nonexistent/file hello")), &["/nonexistent/file"]);
    }
}

#[test]
fn more_disks_than_the_machine_has_room_for_are_refused() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let mut command = runner([kernel("exit")]);
    for number in 0..9 {
        let disk = folder.file(&format!("disk{number}"), [0; 512]);
        command = command.arg("--disk").arg(disk);
    }
    says(&command.refused(), &["9 disks", "8"]);
}

#[test]
fn a_report_that_cannot_be_written_is_known_before_the_guest_runs() {
    or_skip!(accelerator());
    says(&refused("--report /nonexistent/r.json hello"), &["--report /nonexistent/r.json"]);
    says(&refused("--report /dev hello"), &["--report /dev"]);
}

#[test]
fn a_report_that_would_replace_a_file_of_the_run_is_refused_and_the_file_is_whole() {
    let folder = Folder::new();
    let image = std::fs::read(kernel("exit")).unwrap();
    for name in ["image", "disk", "config"] {
        folder.file("image", &image);
        folder.file("disk", [7; 512]);
        folder.file("config", "{}");
        let line = format!("-c config --disk disk --report ./{name} ./image");
        let why = runner(line.split(' ')).within(folder.path()).refused();
        says(&why, &["--report", "would replace"]);
    }
    assert!(std::fs::read(folder.path().join("image")).unwrap() == image);
    assert_eq!(std::fs::read(folder.path().join("disk")).unwrap(), [7; 512]);
    assert_eq!(std::fs::read(folder.path().join("config")).unwrap(), b"{}");
}

#[test]
fn a_report_to_a_fifo_that_nobody_reads_does_not_wait() {
    let folder = Folder::new();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    says(&runner(["hello", "--report"]).arg(fifo).refused(), &["--report"]);
}

#[test]
fn environment_for_a_kernel_that_is_no_ops_image_is_refused() {
    or_skip!(accelerator());
    says(&refused("-e A=1 hello"), &["--append"]);
}

/// What runner says of a config of this text.
fn config(text: impl AsRef<[u8]>) -> String {
    let folder = Folder::new();
    folder.file("config.json", text);
    runner(["-c", "config.json", "hello"]).within(folder.path()).refused()
}

#[test]
fn a_config_that_is_missing_names_the_nearest() {
    let folder = Folder::new();
    folder.file("config.json", "{}");
    let why = runner(["-c", "confg.json", "hello"]).within(folder.path()).refused();
    says(&why, &["no such file: confg.json", "did you mean config.json?"]);
}

#[test]
fn a_config_that_is_no_file_is_refused() {
    let folder = Folder::new();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [folder.path(), &fifo, "/dev/zero".as_ref()] {
        says(&runner(["hello", "-c"]).arg(path).refused(), &["not a regular file"]);
    }
    says(&runner(["hello", "-c", ""]).refused(), &["--config", "empty"]);
}

#[test]
fn a_config_that_may_not_be_read_says_so() {
    let folder = Folder::new();
    let path = folder.file("config.json", "{}");
    folder.mode("config.json", 0o000);
    let command = runner(["hello", "-c"]).arg(path);
    says(&command.by_ordinary_user(&folder).refused(), &["chmod u+r"]);
}

#[test]
fn a_config_that_is_no_json_says_where() {
    for text in ["", "{", "[]", "hello", "{\"RunConfig\": {\"Memory\": \"1G\"}", "{} {}"] {
        says(&config(text), &["config.json:"]);
    }
    says(&config(b"{\"Args\": [\"\xff\"]}"), &["config.json:1:", "UTF-8"]);
    says(&config("[".repeat(100_000)), &["config.json:1:"]);
    says(
        &config(format!("{{\"CloudConfig\": {}1", "{\"a\":".repeat(100_000))),
        &["config.json:1:"],
    );
    says(&config(vec![b' '; (1 << 20) + 1]), &["larger than 1 MiB"]);
}

#[test]
fn an_unknown_field_is_answered_with_the_nearest_and_the_line() {
    let why = config("{\n  \"RunConfig\": {\n    \"Memroy\": \"1G\"\n  }\n}\n");
    says(&why, &["config.json:3:", "Memroy", "Memory"]);
    says(&config("{\"RunCofnig\": {}}"), &["config.json:1:", "RunConfig"]);
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_the_line() {
    for field in [
        r#""RunConfig": {"Memory": true}"#,
        r#""RunConfig": {"Memory": "much"}"#,
        r#""RunConfig": {"Memory": "0"}"#,
        r#""RunConfig": {"CPUs": "two"}"#,
        r#""RunConfig": {"CPUs": -1}"#,
        r#""RunConfig": {"CPUs": 1e99}"#,
        r#""RunConfig": {"Accel": "yes"}"#,
        r#""RunConfig": []"#,
        r#""Args": "one""#,
        r#""Args": [1]"#,
        r#""Env": ["A=1"]"#,
        r#""Runner": {"Disks": [{"ReadOnly": true}]}"#,
        r#""Runner": {"Timeout": "soon"}"#,
    ] {
        says(&config(format!("{{\n{field}\n}}")), &["config.json:2:"]);
    }
}

#[test]
fn a_field_that_this_version_refuses_says_what_to_do_instead() {
    for (field, wanted) in [
        (r#""RunConfig": {"Background": true}"#, "in the background with"),
        (r#""RunConfig": {"Debug": true}"#, "ops run -d"),
        (r#""RunConfig": {"AtExit": "echo"}"#, "AtExit"),
    ] {
        says(&config(format!("{{{field}}}")), &["config.json:1:", wanted]);
    }
}
