//! curl, dig, iperf3, nc and wget as people have them.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;

use super::super::super::support::or_skip;
use super::{GATEWAY, Lan, OUTSIDE, forwarded};
use peer::guest::Guest;
use peer::monitor::Machine;

/// In the guest.
fn tool(guest: &mut Guest, line: &str) -> String {
    let tool = "/tools/ld.so --library-path /tools /tools/";
    guest.must(&line.replace("TOOL/", tool)).unwrap()
}

impl Lan {
    /// On the host.
    fn tool(&self, name: &str, args: &[&str]) -> Result<String, String> {
        let folder = self.folder.join("tools");
        let mut command = Command::new(folder.join("ld.so"));
        command.arg("--library-path").arg(&folder).arg(folder.join(name)).args(args);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(text),
            false => Err(format!("{name} {args:?}: {}: {text}{errors}", output.status)),
        }
    }

    /// QEMU now and then resets the connection over which iperf3's two ends talk of a run.
    fn iperf3(&self, port: &str, more: &[&str]) {
        let args = [&["-c", "127.0.0.1", "-t", "1", "-p", port][..], more].concat();
        let mut tries = if self.is_qemu() { 5 } else { 1 };
        while let Err(said) = self.tool("iperf3", &args) {
            tries -= 1;
            assert!(tries > 0, "{said}");
            println!("differs: QEMU reset a connection in good order: {}", said.trim_end());
        }
    }
}

#[test]
fn the_usual_programs_work_both_ways() {
    let lan = or_skip!(Lan::find());
    let machine = Machine { initrd: "initrd-tools", memory: 768, ..lan.machine() };
    let (machine, forwards) = forwarded(machine, &[80, 5201, 9]);
    let (web, speed) = (forwards[0], forwards[1].port().to_string());
    let mut guest = lan.start(&machine);

    let body = format!("http://{}/3000000", lan.at(OUTSIDE));
    let sum = tool(&mut guest, &format!("TOOL/curl -sS {body} | sha256sum"));
    let mut expected = Vec::new();
    peer::serve::give(&mut expected, 3_000_000).unwrap();
    guest.must("mkdir -p /web; httpd -p 80 -h /web").unwrap();
    guest.must(&format!("wget -q -O /web/file {body}")).unwrap();
    assert_eq!(guest.must("sha256sum </web/file").unwrap(), sum);
    assert!(peer::ask::http(web, "/file").unwrap() == expected, "another file");
    let length = lan.tool(
        "curl",
        &["-sS", "-o", "/dev/null", "-w", "%{size_download}", &format!("http://{web}/file")],
    );
    let length = length.unwrap();
    assert_eq!(length, "3000000");
    // Names are looked up by curl itself.
    tool(
        &mut guest,
        &format!("TOOL/curl -sS -o /dev/null http://1.test:{}/10", lan.at(OUTSIDE).port()),
    );

    let host = lan.at(OUTSIDE).to_string().replace(':', " ");
    let asked = format!("printf 'GET /1000 HTTP/1.0\\r\\n\\r\\n' | nc {host} | wc -c");
    assert_eq!(guest.must(&asked).unwrap().trim(), "1060", "a head of 60 bytes, and the body");
    guest.must("(echo from the guest | nc -l -p 9 >/said) & sleep 1").unwrap();
    let mut stream = TcpStream::connect(forwards[2]).unwrap();
    stream.write_all(b"from the host\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "from the guest\n");
    assert_eq!(guest.must("sleep 1; cat /said").unwrap().trim(), "from the host");

    for (options, answers) in [("", 1), ("+tcp", 1)] {
        let said = tool(&mut guest, &format!("TOOL/dig {options} +short a.test"));
        assert_eq!(said.lines().count(), answers, "{said}");
    }
    // dig has room for 1232 bytes: 60 addresses fit, and 100 are asked for again, over TCP.
    for many in [60, 100] {
        let said = tool(&mut guest, &format!("TOOL/dig +short {many}.test"));
        assert_eq!(said.lines().count(), many, "{said}");
    }

    let server = format!("{}", lan.at(GATEWAY).port());
    assert_ne!(server, speed);
    guest.must("(/tools/ld.so --library-path /tools /tools/iperf3 -s -D); sleep 1").unwrap();
    for more in [&[][..], &["-R"], &["-P", "4"], &["-u", "-b", "5M"]] {
        lan.iperf3(&speed, more);
    }
    lan.end(guest);
}
