use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::tests::{settled, try_settled};
use super::super::{Addresses, Settings};
use super::{NetChoice, mac, net, ports};
use crate::net::{Forward, Transport};

/// `text` as forwards, `host>guest`.
fn forwards(text: &str) -> Vec<String> {
    let ports = ports(text).unwrap_or_else(|why| panic!("{text} {why}"));
    let all = ports.ranges.iter().flat_map(|range| range.forwards(Transport::Tcp));
    all.map(|forward| format!("{}>{}", forward.host, forward.guest)).collect()
}

#[test]
fn a_port_is_forwarded_from_this_host_alone_unless_an_address_is_given() {
    for (text, wanted) in [
        ("8080", "127.0.0.1:8080>8080"),
        ("8080:80", "127.0.0.1:8080>80"),
        ("0:80", "127.0.0.1:0>80"),
        ("0.0.0.0:8080:80", "0.0.0.0:8080>80"),
        ("192.168.1.7:8080", "192.168.1.7:8080>8080"),
        ("[::1]:8080:80", "[::1]:8080>80"),
        ("[::]:8080", "[::]:8080>8080"),
        ("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080>8080"),
        ("65535:1", "127.0.0.1:65535>1"),
    ] {
        assert_eq!(forwards(text), [wanted], "{text}");
    }
}

#[test]
fn lists_and_ranges_are_as_many_forwards() {
    assert_eq!(forwards("80,443"), ["127.0.0.1:80>80", "127.0.0.1:443>443"]);
    assert_eq!(forwards("80-82").len(), 3);
    assert_eq!(
        forwards("8080-8081:80-81,[::1]:1-2"),
        ["127.0.0.1:8080>80", "127.0.0.1:8081>81", "[::1]:1>1", "[::1]:2>2"]
    );
    assert_eq!(forwards("65534-65535:1-2").len(), 2);
    assert_eq!(forwards("1-1024").len(), 1024);
}

#[test]
fn what_is_no_port_is_refused_with_what_to_write() {
    for (text, wanted) in [
        ("", "is not a port to forward; write 8080"),
        ("http", "is not a port to forward"),
        ("80,", "is not a port to forward"),
        (" 80", "is not a port to forward"),
        ("+80", "is not a port to forward"),
        ("80:", "is not a port to forward"),
        ("-80", "is not a port to forward"),
        ("80-", "is not a port to forward"),
        ("1-2-3", "is not a port to forward"),
        ("1:2:3", "is not a port to forward"),
        ("0.0.0.0:1:2:3", "is not a port to forward"),
        (":80", "no address or port before its first colon"),
        ("localhost:80:80", "no address or port before its first colon"),
        ("tcp::80-:80", "no address or port before its first colon"),
        ("::1:8080:80", "an IPv6 address without brackets"),
        ("[::1]", "no IPv6 address in its brackets"),
        ("[::1]8080", "no IPv6 address in its brackets"),
        ("[127.0.0.1]:80", "no IPv6 address in its brackets"),
        ("0", "names no port of the guest's; write 0:80"),
        ("80:0", "names no port of the guest's"),
        ("0-3:1-4", "begin with 1 or more"),
        ("65536", "the largest is 65535"),
        ("99999999999999999999", "the largest is 65535"),
        ("8080-80", "write 8080:80"),
        ("80-82:90-91", "make them equal"),
        ("80-81:90", "make them equal"),
        ("1-1025", "at most 1024"),
        ("1-65535", "at most 1024"),
        ("1-600,1001-1600", "is 1200 ports"),
        ("224.0.0.1:80", "which many hosts have together"),
        ("255.255.255.255:80", "0.0.0.0 or [::]"),
        ("[ff02::1]:80", "which many hosts have together"),
        ("[fe80::1]:80", "which is another host on each link"),
        ("[fe80::1%eth0]:80", "no IPv6 address in its brackets"),
        ("53/udp", "--udp"),
        ("80/tcp", "leave out /tcp"),
    ] {
        let error = ports(text).expect_err(text);
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn a_network_is_named_by_its_kind_and_what_it_is() {
    let choice = |text: &str| net(OsStr::new(text)).unwrap();
    for text in [
        "user",
        "none",
        "tap:tap0",
        "bridge:br0",
        "unix:/run/a:b",
        "unixgram:g.sock",
        "unixgram:g.sock,vfkit",
        "unixgram:/run/g.sock,own=/run/r.sock",
    ] {
        assert_eq!(choice(text).to_string(), text);
    }
    let datagram = |path: &str, own: &str, vfkit| NetChoice::Datagram {
        path: path.into(),
        own: Some(own.into()).filter(|_| !own.is_empty()),
        vfkit,
    };
    assert_eq!(choice("unixgram:a,vfkit"), datagram("a", "", true));
    assert_eq!(choice("unixgram:a,own=b"), datagram("a", "b", false));
    assert_eq!(choice("unixgram:/a,b/c"), datagram("/a,b/c", "", false));
    assert_eq!(choice("unixgram:a,b,plain"), datagram("a,b", "", false));
    assert_eq!(choice("unixgram:a,vfkit,plain"), datagram("a,vfkit", "", false));
    assert_eq!(choice("unixgram:a,own=b,plain"), datagram("a,own=b", "", false));
    for (text, wanted) in [
        ("", "choose user, none, tap:NAME"),
        ("slirp", "choose user"),
        ("user:x", "choose user"),
        ("none:", "choose user"),
        ("tap", "names no network interface"),
        ("tap:", "names no network interface"),
        ("tap:a/b", "is no name of a network interface"),
        ("tap:0123456789abcdef", "at most 15 bytes"),
        ("tap:tap%d", "is no name of a network interface"),
        ("bridge:..", "is no name of a network interface"),
        ("unix:", "names no socket"),
        ("unix", "names no socket"),
        ("unixgram:,vfkit", "names no socket"),
        ("unixgram:a,own=", "names no socket"),
        ("unixgram:a,own=a", "the same socket for both ends"),
        ("unixgram:a,vfkitt", "has `vfkitt` behind the socket's path"),
        ("unixgram:a,vfkit,", "has `` behind the socket's path"),
    ] {
        let error = net(OsStr::new(text)).expect_err(text);
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn a_hardware_address_is_that_of_one_card() {
    assert_eq!(mac("52:54:00:aB:cd:01"), Ok([0x52, 0x54, 0, 0xab, 0xcd, 1]));
    assert_eq!(mac("52-54-00-00-00-01"), Ok([0x52, 0x54, 0, 0, 0, 1]));
    for bad in [
        "",
        "52:54:00:00:00",
        "52:54:00:00:00:01:02",
        "525400000001",
        "5g:54:00:00:00:01",
        "+1:54:00:00:00:01",
        "2:54:0:0:0:1",
    ] {
        assert!(mac(bad).unwrap_err().contains("52:54:00:12:34:56"), "{bad}");
    }
    for nobodys in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
        assert!(mac(nobodys).unwrap_err().contains("single network card"), "{nobodys}");
    }
    assert!(mac("52:55:0a:00:02:02").unwrap_err().contains("the user-mode network's own"));
}

fn choice(settings: Settings) -> Option<(NetChoice, String)> {
    settings.network.choice.map(|asked| (asked.value, asked.by))
}

#[test]
fn the_network_is_that_of_the_command_line_then_runners_then_of_ops_fields() {
    let tap = |name: &str| NetChoice::Tap(name.into());
    let bridge = |bridge: &str, tap: Option<&str>| NetChoice::Bridge {
        bridge: bridge.into(),
        tap: tap.map(str::to_owned),
    };
    let all = r#"{"RunConfig": {"TapName": "t1", "Bridged": true}, "Runner": {"Net": "tap:t2"}}"#;
    for (line, text, wanted, by) in [
        ("--net=user", all, NetChoice::User, "--net=user"),
        ("-t t0", all, tap("t0"), "--tapname t0"),
        ("-b", all, bridge("br0", None), "--bridged"),
        ("--bridgename b1 -t t0", all, bridge("b1", Some("t0")), "--tapname t0"),
        ("", all, tap("t2"), "a.json:1:62: Runner.Net"),
        (
            "",
            r#"{"RunConfig": {"TapName": "t1", "Bridged": true}}"#,
            bridge("br0", Some("t1")),
            "a.json:1:16: RunConfig.TapName",
        ),
        (
            "",
            r#"{"RunConfig": {"TapName": "t1", "Bridged": false}}"#,
            tap("t1"),
            "a.json:1:16: RunConfig.TapName",
        ),
        (
            "",
            r#"{"RunConfig": {"Bridged": true, "BridgeName": "b2", "TapName": ""}}"#,
            bridge("b2", None),
            "a.json:1:16: RunConfig.Bridged",
        ),
    ] {
        let settled = settled(&format!("hello {line}"), &[text]);
        assert_eq!(choice(settled), Some((wanted, by.to_owned())), "{line} {text}");
    }
    assert_eq!(choice(settled("hello", &[r#"{"RunConfig": {"Bridged": false}}"#])), None);
}

#[test]
fn two_networks_on_one_command_line_are_refused() {
    for (line, other) in
        [("-t t0", "--tapname t0"), ("-b", "--bridged"), ("--bridgename b", "--bridgename")]
    {
        let error = try_settled(&format!("hello --net=user {line}"), &[]).expect_err(line);
        let wanted =
            format!("two networks, --net=user and {other}; the guest has one: leave one out");
        assert_eq!(error, wanted);
    }
}

#[test]
fn ports_of_the_command_line_are_added_to_those_of_the_config_and_said_twice_is_once() {
    let text = r#"{"RunConfig": {"Ports": ["80", "8080:80"], "UDPPorts": ["80"]}}"#;
    let settled = settled("hello -p 80,443 --udp 53 -p 0:1 -p 0:2", &[text]);
    let found = settled.network.forwards.into_iter().map(|asked| {
        let Forward { transport, host, guest } = asked.value;
        (format!("{transport} {}>{guest}", host.port()), asked.by)
    });
    let wanted = [
        ("TCP 80>80", "a.json:1:16: RunConfig.Ports 80"),
        ("TCP 8080>80", "a.json:1:16: RunConfig.Ports 8080:80"),
        ("TCP 443>443", "-p 80,443"),
        ("TCP 0>1", "-p 0:1"),
        ("TCP 0>2", "-p 0:2"),
        ("UDP 80>80", "a.json:1:44: RunConfig.UDPPorts 80"),
        ("UDP 53>53", "--udp 53"),
    ];
    assert_eq!(found.collect::<Vec<_>>(), wanted.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert!(settled.warnings.is_empty());
}

#[test]
fn forwards_that_meet_are_refused_with_both_places() {
    let text = r#"{"RunConfig": {"Ports": ["8080:80"]}}"#;
    for (line, texts, wanted) in [
        (
            "-p 80 -p 80:81",
            &[][..],
            "-p 80:81: the host's TCP port 80 leads to the guest already, by -p 80:",
        ),
        (
            "-p 1-9,5:1",
            &[],
            "-p 1-9,5:1: the host's TCP port 5 leads to the guest already, by -p 1-9,5:1:",
        ),
        (
            "-p 8080",
            &[text],
            "-p 8080: the host's TCP port 8080 leads to the guest already, by a.json:1:16: RunConfig.Ports 8080:80:",
        ),
        ("-p 0.0.0.0:80:80 -p 80:80", &[], "-p 80:80: the host's TCP port 80"),
        ("--udp [::1]:80 --udp [::]:80", &[], "--udp [::]:80: the host's UDP port 80"),
        ("-p 1-1024 -p 2000", &[], "-p 2000: more than 1024 ports to forward"),
    ] {
        let error = try_settled(&format!("hello {line}"), texts).expect_err(line);
        assert!(error.starts_with(wanted), "{error}");
    }
    settled("hello -p 80 --udp 80 -p 127.0.0.2:80 -p [::1]:80", &[]);
}

#[test]
fn only_the_user_mode_network_forwards() {
    for (line, wanted) in [
        ("-p 80 --net=none", "-p 80: only the user-mode network forwards ports, and --net=none is"),
        (
            "--udp 80 -t t0",
            "--udp 80: only the user-mode network forwards ports, and --tapname t0 is",
        ),
        (
            "-p 80 --net=unix:s",
            "-p 80: only the user-mode network forwards ports, and --net=unix:s is",
        ),
    ] {
        let error = try_settled(&format!("hello {line}"), &[]).expect_err(line);
        assert!(error.starts_with(wanted) && error.contains("leave out one"), "{error}");
    }
    let text = r#"{"RunConfig": {"Ports": ["80"], "Bridged": true}}"#;
    let error = try_settled("hello", &[text]).expect_err("Bridged");
    assert!(error.starts_with("a.json:1:16: RunConfig.Ports 80: "), "{error}");
    assert!(error.contains("a.json:1:33: RunConfig.Bridged is another"), "{error}");
    settled("hello --net=user", &[text]);
}

#[test]
fn clients_of_no_port_cannot_wait() {
    for line in ["--port-wait 1s", "--udp 53 --port-wait 1s"] {
        let error = try_settled(&format!("hello {line}"), &[]).expect_err(line);
        assert!(error.starts_with("--port-wait, and no TCP port"), "{error}");
    }
    let text = r#"{"RunConfig": {"Ports": ["80"]}, "Runner": {"PortWait": "2s"}}"#;
    let wait = |line| settled(line, &[text]).network.port_wait;
    assert_eq!(wait("hello"), Some(Duration::from_secs(2)));
    assert_eq!(wait("hello --port-wait 500ms"), Some(Duration::from_millis(500)));
}

#[test]
fn addresses_are_kept() {
    let text = r#"{"RunConfig": {"IPAddress": "10.0.2.15", "Gateway": "10.0.2.2",
        "NetMask": "255.255.255.0", "IPv6Address": ""}}"#;
    let wanted = Addresses {
        ip: Some(Ipv4Addr::new(10, 0, 2, 16)),
        gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
        netmask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        ipv6: Some("fec0::15".parse().unwrap()),
    };
    let line = "hello --ip-address 10.0.2.16 --ipv6-address fec0::15";
    assert_eq!(settled(line, &[text]).network.addresses, wanted);
    assert!(settled("hello", &["{}"]).network.addresses.is_empty());
}

#[test]
fn a_wrong_value_in_a_config_is_named_with_its_place() {
    for (text, wanted) in [
        (
            r#"{"RunConfig": {"Ports": ["80", "x"]}}"#,
            r#"c.json:1:32: RunConfig.Ports "x" is not a port to forward; write 8080"#,
        ),
        (
            r#"{"RunConfig": {"TapName": "a/b"}}"#,
            r#"c.json:1:27: RunConfig.TapName "a/b" is no name of a network interface"#,
        ),
        (
            r#"{"Runner": {"Net": "slirp"}}"#,
            r#"c.json:1:20: Runner.Net "slirp" is not a network; choose user"#,
        ),
        (
            r#"{"Runner": {"Mac": "1"}}"#,
            r#"c.json:1:20: Runner.Mac "1" is not a hardware address; give six bytes"#,
        ),
    ] {
        let error = super::super::tests::error(text);
        assert!(error.starts_with(wanted), "{error}");
    }
}
