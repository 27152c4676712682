use super::*;
use crate::boot::Protocol;
use crate::config::named::{NamedBlock, NamedNet};
use crate::config::{ConsoleChoice, DiskFormat, NetChoice, Share};
use crate::machine::slot::VirtioBus;

fn run(line: &str) -> Options {
    match parse(line.split(' ')) {
        Ok(Command::Run(options)) => *options,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    let failure = parse(line.split(' ')).expect_err(line);
    assert!(!failure.to_stdout, "{line}");
    assert_eq!(failure.status(), 125);
    assert!(!failure.text.contains('\n'), "{}", failure.text);
    failure.text
}

fn hello() -> Options {
    Options { image: Some("hello".into()), ..Options::default() }
}

#[test]
fn the_lines_of_ops_documentation_work() {
    let verbose = Options { verbose: true, configs: vec!["config.json".into()], ..hello() };
    assert_eq!(run("runner run -v hello -c config.json"), verbose);
    let accel = Options { accel: Some(AccelChoice::Auto), ..hello() };
    assert_eq!(run("runner run --accel hello"), accel);
    assert_eq!(run("runner run -x hello"), accel);
    assert_eq!(run("runner load -x hello"), accel);
    let off = Options { accel: Some(AccelChoice::Off), ..hello() };
    assert_eq!(run("runner run --accel=false hello"), off);
    assert_eq!(run("runner --config config.json hello").configs.len(), 1);
}

#[test]
fn run_load_and_neither_are_the_same() {
    assert_eq!(run("runner hello"), hello());
    assert_eq!(run("runner run hello"), hello());
    assert_eq!(run("runner load hello"), hello());
    assert_eq!(run("runner -i hello"), hello());
    assert_eq!(run("runner hello -i hello"), hello());
    assert_eq!(run("runner hello -s"), hello());
}

#[test]
fn options_may_follow_the_image_and_precede_the_command() {
    let wanted = Options { memory: Some(512 << 20), cpus: Some(2), ..hello() };
    for line in [
        "runner -m 512M --cpus 2 hello",
        "runner hello -m 512M --cpus 2",
        "runner -m 512m run --smp 2 hello",
        "runner run hello -m512 --smp=2",
        "runner -m 1G -m 512M --cpus 1 --smp 2 hello",
    ] {
        assert_eq!(run(line), wanted, "{line}");
    }
}

#[test]
fn every_option_arrives() {
    let line = "runner img -c a -c b -x=kvm -m 1G --cpus 3 -k vmlinux --initrd i --entry pvh --append q=1 --append=-r -a -v \
                -a x -e A=1 -e B=x=y --disk d,ro,format=qcow2 --disk e,f --mounts v:/w --ephemeral -v --timeout 500ms --report r --stdin \
                --jail=strict --virtio=pci --rng --vsock v,cid=5 --balloon=1G --share f:t:ro --share g --console virtio --channel n=s=1 -p 8080:80 -p 443 --udp 53 --net tap:t0 -t t1 -b --bridgename b1 \
                --ip-address 10.0.0.2 --netmask 255.0.0.0 --gateway 10.0.0.1 --ipv6-address fd00::2 \
                --mac 52:54:00:00:00:01 --host-loopback --link-local --port-wait 2s --pcap c --block s=f,ro --net n=user -- --y z";
    let ports = |text| network::ports(text).unwrap();
    let wanted = Options {
        image: Some("img".into()),
        configs: vec!["a".into(), "b".into()],
        accel: Some(AccelChoice::Kvm),
        memory: Some(1 << 30),
        cpus: Some(3),
        kernel: Some("vmlinux".into()),
        initrd: Some("i".into()),
        entry: Some(Protocol::Pvh),
        append: Some("q=1 -r".into()),
        args: ["-v", "x", "--y", "z"].map(String::from).to_vec(),
        env: vec![("A".into(), "1".into()), ("B".into(), "x=y".into())],
        disks: vec![
            Disk { path: "d".into(), read_only: true, format: DiskFormat::Qcow2 },
            Disk { path: "e,f".into(), read_only: false, format: DiskFormat::Raw },
        ],
        mounts: vec![Mount { volume: "v".into(), path: "/w".into(), read_only: false }],
        ephemeral: true,
        verbose: true,
        timeout: Some(Duration::from_millis(500)),
        report: Some("r".into()),
        stdin: true,
        jail: Some(JailChoice::Strict),
        virtio: Some(VirtioBus::Pci),
        network: Typed {
            net: Some(NetChoice::Tap("t0".into())),
            ports: vec![ports("8080:80"), ports("443")],
            udp: vec![ports("53")],
            tap: Some("t1".into()),
            bridged: true,
            bridge: Some("b1".into()),
            addresses: Addresses {
                ip: Some([10, 0, 0, 2].into()),
                gateway: Some([10, 0, 0, 1].into()),
                netmask: Some([255, 0, 0, 0].into()),
                ipv6: Some("fd00::2".parse().unwrap()),
            },
            mac: Some([0x52, 0x54, 0, 0, 0, 1]),
            host_loopback: true,
            link_local: true,
            port_wait: Some(Duration::from_secs(2)),
            pcap: Some("c".into()),
            named: vec![NamedNet { name: "n".into(), choice: NetChoice::User, mac: None }],
        },
        blocks: vec![NamedBlock {
            name: "s".into(),
            path: "f".into(),
            read_only: true,
            block_size: None,
        }],
        tender: false,
        dump: None,
        devices: Devices {
            rng: Some(true),
            balloon: Some(1 << 30),
            shares: vec![
                Share { path: "f".into(), tag: Some("t".into()), read_only: true },
                Share { path: "g".into(), tag: None, read_only: false },
            ],
            vsock: Some(crate::config::Vsock { path: "v".into(), cid: 5 }),
            console: Some(ConsoleChoice::Virtio),
            channels: vec![crate::config::Channel { name: "n".into(), path: "s=1".into() }],
        },
    };
    assert_eq!(run(line), wanted);
}

#[test]
fn after_leading_dashes_the_first_word_is_the_image_and_the_rest_are_arguments() {
    let wanted = Options {
        verbose: true,
        args: ["--test", "-v", "--", "run"].map(String::from).to_vec(),
        ..hello()
    };
    assert_eq!(run("runner -v -- hello --test -v -- run"), wanted);
    assert_eq!(run("runner -v run -- hello --test -v -- run"), wanted);
    assert_eq!(run("runner -v hello -- --test -v -- run"), wanted);
    assert_eq!(run("runner -v -i hello -- --test -v -- run"), wanted);
}

#[test]
fn an_image_named_like_a_command_is_reached_by_its_path_or_after_dashes() {
    for name in ["run", "load", "inspect", "doctor"] {
        assert_eq!(run(&format!("runner -- {name}")).image, Some(name.into()));
        let path = format!("./{name}");
        assert_eq!(run(&format!("runner {path}")).image, Some(path.into()));
        assert_eq!(run(&format!("runner run {name}")).image, Some(name.into()));
    }
}

#[test]
fn inspect_takes_an_image_and_nothing_else() {
    let wanted = |verbose| Command::Inspect { image: "a.img".into(), verbose };
    assert_eq!(parse(["runner", "inspect", "a.img"]), Ok(wanted(false)));
    assert_eq!(parse(["runner", "inspect", "-v", "a.img"]), Ok(wanted(true)));
    assert_eq!(parse(["runner", "inspect", "--", "a.img"]), Ok(wanted(false)));
    assert_eq!(refused("runner inspect"), "inspect needs an image: runner inspect IMAGE");
    assert_eq!(refused("runner inspect a -m 1G"), "inspect has no option --memory; leave it out");
    assert_eq!(
        refused("runner inspect a -- b"),
        "inspect starts no guest, so `b` has nobody to go to; leave it out"
    );
}

#[test]
fn doctor_takes_json_and_no_image() {
    let wanted = |json, verbose| Ok(Command::Doctor { json, verbose, sign: false });
    assert_eq!(parse(["runner", "doctor"]), wanted(false, false));
    assert_eq!(parse(["runner", "doctor", "--json"]), wanted(true, false));
    assert_eq!(parse(["runner", "-j", "doctor", "-v"]), wanted(true, true));
    assert_eq!(
        refused("runner doctor hello"),
        "doctor takes no `hello`; it looks at this machine, not at an image"
    );
    assert_eq!(refused("runner doctor -x=kvm"), "doctor has no option --accel; leave it out");
    let sign = Command::Doctor { json: true, verbose: false, sign: true };
    assert_eq!(parse(["runner", "doctor", "--sign", "--json"]), Ok(sign));
    assert!(refused("runner --sign hello").contains("`runner doctor --sign`"));
    assert_eq!(refused("runner hello --json"), ops::JSON_ELSEWHERE);
}

#[test]
fn every_option_of_ops_means_the_same_or_is_refused_with_a_sentence() {
    // nanovms/ops, cmd/flags_*.go: what `ops run` and `ops pkg load` know.
    let all = "accel args=1 arch=1 bridged bridgeipaddress=1 bridgename=br1 config=1 consoles=1 debug \
        disable-args-copy envs=A=1 force gateway=10.0.0.1 gdbport=1 imagename=hello ip-address=10.0.0.2 ipv6-address=fd00::2 local \
        memory=1 missing-files mounts=v:/w nanos-version=1 netconsole-ip=1 netconsole-port=1 netmask=255.0.0.0 nightly \
        no-trace=1 package=1 port=1 qmp show-debug show-errors show-warnings skipbuild smp=1 syscall-summary \
        tapname=1 target-root=1 tfsv4 trace type=1 udp=1 verbose json";
    let letters = "a=1 b c=1 d e=A=1 f g=1 i=hello l m=1 n p=1 r=1 s t=1 v 4 j";
    let all = all.split_whitespace().map(|name| format!("--{name}"));
    let letters = letters.split_whitespace().map(|name| format!("-{name}"));
    for option in all.chain(letters) {
        let line = format!("runner hello {option}");
        match parse(line.split(' ')) {
            Ok(_) => assert!(ops::refusal(&option).is_none(), "{option}"),
            Err(failure) => assert!(
                failure.text == ops::JSON_ELSEWHERE
                    || Some(failure.text.clone()) == ops::refusal(&option),
                "{option}: {}",
                failure.text
            ),
        }
    }
    assert!(refused("runner -vd 8080 hello").starts_with("-d: "));
    assert!(refused("runner --bridgeipaddress=10.0.0.1 hello").starts_with("--bridgeipaddress: "));
}

#[test]
fn commands_of_ops_are_sent_to_ops() {
    assert!(refused("runner pkg load eyberg/node").contains("~/.ops/images"));
    assert_eq!(
        refused("runner build hello"),
        "`build` is a command of ops, not of runner: type ops build, then run the image it makes"
    );
}

#[test]
fn a_second_word_is_refused_with_what_was_probably_meant() {
    assert_eq!(
        refused("runner hello world"),
        "one image at a time, but here are `hello` and `world`; the guest's arguments go after `--`"
    );
    assert_eq!(
        refused("runner --accel kvm hello"),
        "--accel takes its value after `=`: write --accel=kvm"
    );
    assert_eq!(
        refused("runner hello -i other"),
        "two images, `hello` and `other`; runner boots one"
    );
}

#[test]
fn a_bad_value_is_named_with_its_option_and_a_remedy() {
    for (line, wanted) in [
        (
            "runner hello -m 0",
            "--memory `0` leaves the guest no memory; give a size such as 512M or 2G",
        ),
        ("runner hello --smp 0", "--cpus `0` leaves the guest no CPU; give 1 or more"),
        (
            "runner hello --accel=maybe",
            "--accel `maybe` is not an accelerator; choose auto, true, kvm, hvf, off or false",
        ),
        ("runner hello -e A", "--envs `A` is not a variable; write KEY=VALUE"),
        (
            "runner hello --timeout 0",
            "--timeout `0` ends the run before it starts; leave it out for no limit",
        ),
        (
            "runner hello --disk ,ro",
            "--disk `,ro` names no file; write --disk FILE or --disk FILE,ro",
        ),
        ("runner hello -c ", "--config `` is empty; give the path of a file"),
        ("runner ", "the image's name is empty; give its name or path"),
    ] {
        assert_eq!(refused(line), wanted, "{line}");
    }
}

#[test]
fn a_broken_option_is_named_in_one_sentence() {
    for (line, wanted) in [
        (
            "runner hello --memroy 1G",
            "no option --memroy; did you mean --memory? runner --help lists all",
        ),
        ("runner hello --zzz", "no option --zzz; runner --help lists all"),
        ("runner hello -m", "--memory needs a value; see runner --help"),
        ("runner hello --verbose=1", "--verbose takes no value; write --verbose alone"),
    ] {
        assert_eq!(refused(line), wanted, "{line}");
    }
}

#[test]
fn words_that_are_not_utf_8_reach_files_but_not_the_guest() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(vec![b'a', 0xff]);
    let line = [OsString::from("runner"), odd.clone()];
    match parse(line) {
        Ok(Command::Run(options)) => assert_eq!(options.image, Some(PathBuf::from(&odd))),
        other => panic!("{other:?}"),
    }
    let line = ["runner", "hello", "--"].map(OsString::from);
    let failure = parse(line.into_iter().chain([odd])).expect_err("not UTF-8");
    assert_eq!(failure.text, "the argument `a\u{fffd}` is not UTF-8; write it in UTF-8");
}

#[test]
fn help_and_version_go_to_stdout_with_status_0() {
    for line in ["runner --help", "runner -h", "runner run hello -h", "runner doctor --help"] {
        let help = parse(line.split(' ')).expect_err(line);
        assert_eq!((help.text.as_str(), help.to_stdout), (HELP, true), "{line}");
        assert_eq!(help.status(), 0);
    }
    let version = parse(["runner", "--version"]).expect_err("version");
    assert_eq!(version.text, format!("runner {}\n", env!("CARGO_PKG_VERSION")));
    assert!(version.to_stdout);
}

#[test]
fn the_help_lists_each_option_once_and_fits_a_screen() {
    let ours = |line: &&str| line.starts_with("  -") || line.starts_with("      --");
    let listed: Vec<&str> = HELP.lines().filter(ours).collect();
    let definition = definition();
    let hidden = ["json", "sign", "skipbuild"];
    for arg in definition.get_arguments().filter(|a| !a.is_positional()) {
        let long = format!("--{}", arg.get_long().expect("every option has a long name"));
        let lines = listed.iter().filter(|line| {
            line.split([' ', '[', ','])
                .take_while(|word| !word.contains('.'))
                .any(|word| word == long)
        });
        let expected = usize::from(!hidden.contains(&arg.get_id().as_str()));
        assert_eq!(lines.clone().count(), expected, "{long}");
        for line in lines {
            let short = arg.get_short().map_or("      ".into(), |s| format!("  -{s}, "));
            assert!(line.starts_with(&short), "{line}");
        }
    }
    assert!(HELP.lines().count() <= 60 && HELP.lines().all(|l| l.len() <= 90));
}
