use std::path::PathBuf;
use std::time::Duration;

use super::super::named::{NamedBlock, NamedNet};
use super::super::network::{Asked, Network};
use super::super::{
    AccelChoice, Addresses, Channel, ConsoleChoice, Devices, Disk, DiskFormat, JailChoice, Mount,
    NetChoice, Settings, Share, Vsock,
};
use super::{settled, try_settled};
use crate::boot::Protocol;
use crate::machine::slot::VirtioBus;
use crate::net::{Forward, Transport};

fn block(name: &str, path: &str, read_only: bool) -> NamedBlock {
    NamedBlock { name: name.into(), path: path.into(), read_only, block_size: None }
}

fn named(name: &str, choice: NetChoice) -> NamedNet {
    NamedNet { name: name.into(), choice, mac: None }
}

fn disk(path: &str, read_only: bool) -> Disk {
    Disk { path: path.into(), read_only, format: DiskFormat::Raw }
}

fn mount(volume: &str, path: &str, read_only: bool) -> Mount {
    Mount { volume: volume.into(), path: path.into(), read_only }
}

#[test]
fn what_nobody_says_is_as_in_ops() {
    let wanted = Settings {
        image: Some("hello".into()),
        kernel: None,
        initrd: None,
        entry: None,
        append: None,
        args: Vec::new(),
        env: Vec::new(),
        memory: 2 << 30,
        cpus: 1,
        accel: AccelChoice::Auto,
        accel_asked_by: None,
        jail: JailChoice::On,
        virtio: None,
        disks: Vec::new(),
        blocks: Vec::new(),
        mounts: Vec::new(),
        ephemeral: false,
        network: Network::default(),
        devices: Devices::default(),
        verbose: false,
        timeout: None,
        report: None,
        stdin: false,
        tender: false,
        dump: None,
        warnings: Vec::new(),
        accepted: Vec::new(),
    };
    assert_eq!(settled("hello", &[]), wanted);
    assert_eq!(settled("hello", &["{}"]), wanted);
}

fn share(path: &str, tag: Option<&str>, read_only: bool) -> Share {
    Share { path: path.into(), tag: tag.map(str::to_owned), read_only }
}

/// Those of [`ALL`].
fn shares() -> [Share; 2] {
    [share("data", Some("d"), true), share("more", None, false)]
}

const ALL: &str = r#"{
    "Args": ["a", "b c"],
    "Env": {"A": "1", "B": "2"}, "Mounts": {"data": "/data:ro"},
    "RunConfig": {
        "Accel": false,
        "CPUs": 2,
        "ImageName": "configured",
        "Kernel": "kernel",
        "Memory": "64M",
        "Mounts": ["volume.raw"],
        "Verbose": true,
        "Ports": ["8080:80"],
        "UDPPorts": ["53"],
        "IPAddress": "10.0.2.15",
        "Gateway": "10.0.2.2",
        "NetMask": "255.255.255.0",
        "IPv6Address": "fec0::15"
    },
    "Runner": {
        "Append": "x=1",
        "Balloon": "8M", "Blocks": {"storage": "s.raw,ro"}, "Console": "virtio", "Channels": {"agent": "a.sock"},
        "Disks": [{"Path": "more.raw", "ReadOnly": true}],
        "Entry": "pvh",
        "Ephemeral": true,
        "HostLoopback": true,
        "Initrd": "initrd",
        "Jail": "strict",
        "LinkLocal": true,
        "Mac": "52:54:00:00:00:01",
        "Net": "user",
        "Nets": {"service": "tap:tap0"},
        "Pcap": "c.pcap",
        "PortWait": "3s",
        "Report": "report.json",
        "Rng": false,
        "Shares": [{"Path": "data", "Tag": "d", "ReadOnly": true}, {"Path": "more"}],
        "Stdin": true,
        "Timeout": "90s",
        "Virtio": "pci",
        "Vsock": "v.sock,cid=9"
    }
}"#;

fn asked(transport: Transport, host: &str, guest: u16, by: &str) -> Asked<Forward> {
    let host = host.parse().unwrap();
    Asked { value: Forward { transport, host, guest }, by: by.into() }
}

fn channel(name: &str, path: &str) -> Channel {
    Channel { name: name.into(), path: path.into() }
}

fn vsock(path: &str, cid: u32) -> Vsock {
    Vsock { path: path.into(), cid }
}

/// What [`ALL`] says.
fn configured() -> Network {
    Network {
        choice: Some(Asked { value: NetChoice::User, by: "a.json:30:9: Runner.Net".into() }),
        forwards: vec![
            asked(Transport::Tcp, "127.0.0.1:8080", 80, "a.json:12:9: RunConfig.Ports 8080:80"),
            asked(Transport::Udp, "127.0.0.1:53", 53, "a.json:13:9: RunConfig.UDPPorts 53"),
        ],
        addresses: Addresses {
            ip: Some([10, 0, 2, 15].into()),
            gateway: Some([10, 0, 2, 2].into()),
            netmask: Some([255, 255, 255, 0].into()),
            ipv6: Some("fec0::15".parse().unwrap()),
        },
        mac: Some([0x52, 0x54, 0, 0, 0, 1]),
        host_loopback: true,
        link_local: true,
        port_wait: Some(Duration::from_secs(3)),
        pcap: Some("c.pcap".into()),
        named: vec![named("service", NetChoice::Tap("tap0".into()))],
    }
}

#[test]
fn a_config_says_everything_the_command_line_can() {
    let env = [("A", "1"), ("B", "2")];
    let wanted = Settings {
        image: Some("configured".into()),
        kernel: Some("kernel".into()),
        initrd: Some("initrd".into()),
        entry: Some(Protocol::Pvh),
        append: Some("x=1".into()),
        args: vec!["a".into(), "b c".into()],
        env: env.map(|(k, v)| (k.into(), v.into())).to_vec(),
        memory: 64 << 20,
        cpus: 2,
        accel: AccelChoice::Off,
        accel_asked_by: Some("a.json:5:9: RunConfig.Accel".into()),
        jail: JailChoice::Strict,
        virtio: Some(VirtioBus::Pci),
        disks: vec![disk("volume.raw", false), disk("more.raw", true)],
        blocks: vec![block("storage", "s.raw", true)],
        mounts: vec![mount("data", "/data", true)],
        ephemeral: true,
        network: configured(),
        devices: Devices {
            rng: Some(false),
            vsock: Some(vsock("v.sock", 9)),
            balloon: Some(8 << 20),
            console: Some(ConsoleChoice::Virtio),
            channels: vec![channel("agent", "a.sock")],
            shares: shares().to_vec(),
        },
        verbose: true,
        timeout: Some(Duration::from_secs(90)),
        report: Some("report.json".into()),
        stdin: true,
        tender: false,
        dump: None,
        warnings: Vec::new(),
        accepted: Vec::new(),
    };
    assert_eq!(settled("", &[ALL]), wanted);
}

#[test]
fn the_command_line_wins_over_a_config() {
    let line = "typed -x=kvm -m 1G --cpus 3 -k k --initrd i --entry linux32 --append y=2 -a x -e B=3 \
                -e C=4 --disk d,ro --mounts data:/typed --timeout 1 --report r --jail=off --virtio mmio --rng --balloon --console=serial --channel b=c --vsock w --share typed:t \
                -p 80 --udp 53 --udp [::1]:53:54 --net=user --ip-address 10.0.2.9 --mac 52:54:00:00:00:02 \
                --pcap other --block other=o.raw --block storage=typed.raw --net service=user";
    let mut network = configured();
    network.choice = Some(Asked { value: NetChoice::User, by: "--net=user".into() });
    network.forwards.insert(1, asked(Transport::Tcp, "127.0.0.1:80", 80, "-p 80"));
    network.forwards.push(asked(Transport::Udp, "[::1]:53", 54, "--udp [::1]:53:54"));
    network.addresses.ip = Some([10, 0, 2, 9].into());
    network.mac = Some([0x52, 0x54, 0, 0, 0, 2]);
    network.pcap = Some("other".into());
    network.named = vec![named("service", NetChoice::User)];
    let env = [("A", "1"), ("B", "3"), ("C", "4")];
    let wanted = Settings {
        image: Some("typed".into()),
        kernel: Some("k".into()),
        initrd: Some("i".into()),
        entry: Some(Protocol::Linux32),
        append: Some("y=2".into()),
        args: vec!["x".into()],
        env: env.map(|(k, v)| (k.into(), v.into())).to_vec(),
        memory: 1 << 30,
        cpus: 3,
        accel: AccelChoice::Kvm,
        accel_asked_by: Some("--accel=kvm".into()),
        jail: JailChoice::Off,
        virtio: Some(VirtioBus::Mmio),
        disks: vec![disk("volume.raw", false), disk("more.raw", true), disk("d", true)],
        blocks: vec![block("other", "o.raw", false), block("storage", "typed.raw", false)],
        mounts: vec![mount("data", "/typed", false)],
        ephemeral: true,
        network,
        devices: Devices {
            rng: Some(true),
            vsock: Some(vsock("w", 3)),
            balloon: Some(0),
            shares: [&shares()[..], &[share("typed", Some("t"), false)]].concat(),
            console: Some(ConsoleChoice::Serial),
            channels: vec![channel("agent", "a.sock"), channel("b", "c")],
        },
        verbose: true,
        timeout: Some(Duration::from_secs(1)),
        report: Some("r".into()),
        stdin: true,
        tender: false,
        dump: None,
        warnings: Vec::new(),
        accepted: Vec::new(),
    };
    assert_eq!(settled(line, &[ALL]), wanted);
}

#[test]
fn a_later_config_wins_field_by_field() {
    let later = r#"{"RunConfig": {"Memory": "128M", "Verbose": false}, "Args": ["z"]}"#;
    let settled = settled("", &[ALL, later]);
    assert_eq!((settled.memory, settled.cpus), (128 << 20, 2));
    assert_eq!(settled.args, ["z"]);
    assert!(!settled.verbose);
    assert_eq!(settled.env.len(), 2);
    // `Accel` still stands in the first file, and says so.
    assert_eq!(settled.accel_asked_by.as_deref(), Some("a.json:5:9: RunConfig.Accel"));
}

#[test]
fn a_later_config_replaces_args_and_merges_env_by_name() {
    let texts = [
        r#"{"Args": ["a", "b"], "Env": {"A": "1", "B": "2"}}"#,
        r#"{"Args": ["c"], "Env": {"B": "3", "C": "4"}}"#,
    ];
    let settled = settled("hello -e C=5", &texts);
    assert_eq!(settled.args, ["c"]);
    let env = [("A", "1"), ("B", "3"), ("C", "5")];
    assert_eq!(settled.env, env.map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert!(settled.warnings.is_empty());
}

#[test]
fn an_empty_list_or_text_in_a_later_config_takes_the_earlier_one_back_and_null_leaves_it() {
    let empty =
        r#"{"Args": [], "RunConfig": {"Kernel": "", "Mounts": []}, "Runner": {"Disks": []}}"#;
    let settled_empty = settled("", &[ALL, empty]);
    assert!(settled_empty.args.is_empty() && settled_empty.disks.is_empty());
    assert_eq!(settled_empty.kernel, None);
    let null = r#"{"Args": null, "Env": null, "RunConfig": null, "Runner": {"Disks": null}}"#;
    assert_eq!(settled("", &[ALL, null]), settled("", &[ALL]));
}

#[test]
fn a_later_config_takes_back_what_is_refused_warned_of_or_only_accepted() {
    let first = r#"{"Klibs": ["tls"], "RunConfig": {"Background": true, "Vga": true}}"#;
    let later = r#"{"Klibs": [], "RunConfig": {"Background": false, "Vga": false}}"#;
    let error = try_settled("hello", &[first]).expect_err("Background");
    assert!(
        error.starts_with("a.json:1:34: RunConfig.Background: a run stays in the foreground"),
        "{error}"
    );
    assert!(error.contains("systemd-run") && error.contains("launchctl"));
    let settled = settled("hello", &[first, later]);
    assert!(settled.warnings.is_empty() && settled.accepted.is_empty());
}

#[test]
fn a_refusal_names_the_file_it_stands_in() {
    let error = try_settled("hello", &["{}", "{\n\"RunConfig\": {\"GdbPort\": 1234}}"]);
    assert_eq!(
        error.expect_err("GdbPort"),
        "b.json:2:15: RunConfig.GdbPort: there is no debugger stub in this version: use `ops run -d`"
    );
}

#[test]
fn the_image_is_the_typed_one_then_image_name_then_the_program_without_its_endings() {
    let image = |line, text| settled(line, &[text]).image.map(PathBuf::into_os_string);
    let both = r#"{"Program": "p", "RunConfig": {"ImageName": "./images/i.img"}}"#;
    assert_eq!(image("typed", both), Some("typed".into()));
    assert_eq!(image("-i typed", both), Some("typed".into()));
    assert_eq!(image("", both), Some("./images/i.img".into()));
    let program = r#"{"Program": "./build/hello.v1.bin"}"#;
    assert_eq!(image("", program), Some("hello".into()));
    for text in ["{}", r#"{"Program": ".."}"#, r#"{"Program": ".x"}"#] {
        let error = try_settled("", &[text]).expect_err(text);
        assert!(error.starts_with("no image to boot: name one"), "{error}");
    }
    assert_eq!(settled("-k kernel", &[]).image, None);
}

#[test]
fn run_configs_kernel_comes_before_the_one_at_the_top() {
    let both = r#"{"Kernel": "top", "RunConfig": {"Kernel": "inner"}}"#;
    assert_eq!(settled("hello", &[both]).kernel, Some("inner".into()));
    let top = r#"{"Kernel": "top"}"#;
    assert_eq!(settled("hello", &[top]).kernel, Some("top".into()));
}

#[test]
fn accel_true_is_an_automatic_choice_and_runners_accel_comes_before_it() {
    let accel = |line, text| {
        let settled = settled(line, &[text]);
        (settled.accel, settled.accel_asked_by)
    };
    let by = |text: &str| Some(text.to_owned());
    assert_eq!(accel("hello -x", "{}"), (AccelChoice::Auto, by("--accel=auto")));
    assert_eq!(accel("hello --accel=false", "{}"), (AccelChoice::Off, by("--accel=off")));
    assert_eq!(
        accel("hello", r#"{"RunConfig": {"Accel": true}}"#),
        (AccelChoice::Auto, by("a.json:1:16: RunConfig.Accel"))
    );
    let both = r#"{"RunConfig": {"Accel": true}, "Runner": {"Accel": "kvm"}}"#;
    assert_eq!(accel("hello", both), (AccelChoice::Kvm, by("a.json:1:43: Runner.Accel")));
    assert_eq!(accel("hello -x=hvf", both), (AccelChoice::Hvf, by("--accel=hvf")));
}

#[test]
fn a_typed_mount_is_added_to_those_of_a_config_and_wins_over_one_of_the_same_volume() {
    let mounts = r#"{"Mounts": {"data": "/data", "logs": "/var/log:ro"}}"#;
    let settled = settled("hello --mounts data:/other:ro --mounts %1:/one", &[mounts]);
    assert_eq!(
        settled.mounts,
        [
            mount("%1", "/one", false),
            mount("data", "/other", true),
            mount("logs", "/var/log", true)
        ]
    );
    assert_eq!((settled.accepted.len(), settled.disks.len()), (0, 0));
}

#[test]
fn a_mount_that_nanos_would_not_understand_is_refused_where_it_stands() {
    for (path, why) in [
        ("data", "names no place in the guest, which begins with `/`, as in /data"),
        ("/", "is the guest's root, where its image is: choose a folder, as in /data"),
        ("//:ro", "is the guest's root, where its image is: choose a folder, as in /data"),
        ("/data:rw", "has a `:` that is not the one of `:ro` at its end; leave it out"),
    ] {
        let config = format!(r#"{{"Mounts": {{"x": "{path}"}}}}"#);
        let error = try_settled("hello", &[&config]).expect_err(path);
        assert_eq!(error, format!(r#"a.json:1:18: Mounts "x": "{path}" {why}"#));
    }
}

#[test]
fn a_device_by_name_that_is_none_is_refused_with_its_place() {
    for (config, why) in [
        (r#"{"Runner": {"Blocks": {"a b": "x"}}}"#, "Runner.Blocks `a b=x` is no block storage"),
        (r#"{"Runner": {"Blocks": {"a": ""}}}"#, "Runner.Blocks `a=` names no file"),
        (r#"{"Runner": {"Nets": {"a": "wifi"}}}"#, "Runner.Nets `a=wifi` is not a network"),
        (r#"{"Runner": {"Nets": {"": "user"}}}"#, "Runner.Nets `=user` is "),
    ] {
        let error = try_settled("hello", &[config]).unwrap_err().to_string();
        assert!(error.starts_with("a.json:1:13: ") && error.contains(why), "{error}");
    }
}
