//! The same over a tap device, in a network namespace of its own.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::super::super::support::files::Folder;
use super::super::super::support::or_skip;
use super::Lan;
use peer::guest::Guest;
use peer::monitor::{Link, Machine};

/// Makes the device and a peer that answers, has another one ask the guest everything, and becomes the
/// monitor. `$1` is the folder with `peer`, `$2` where the answers go.
const SCRIPT: &str = r#"
peer=$1/peer answers=$2
shift 2
ip link set lo up
tunctl -t tap7 >/dev/null 2>&1 || ip tuntap add tap7 mode tap || exit
ip addr add 10.0.9.1/24 dev tap7
ip link set tap7 up
$peer serve 4000 >/dev/null 2>&1 &
(
    guest=10.0.9.2:7
    until $peer put $guest 1 >/dev/null; do sleep 1; done
    for question in "put $guest 8000000" "get $guest 8000000" "echo $guest 2000000" "late $guest 300000" \
        "is-reset $guest" "resets $guest 5" "many $guest 200" "row $guest 200" "datagrams $guest 1472 5" \
        "datagrams $guest 9000 5"; do
        $peer $question
        echo "$? $question"
    done
    ping -c 2 -A 10.0.9.2 >/dev/null
    echo "$? ping $guest"
    echo done
) >$answers 2>&1 &
exec "$@"
"#;

#[test]
fn a_tap_device_carries_the_same_both_ways() {
    let lan = or_skip!(Lan::find());
    let folder = Folder::new();
    let answers = folder.path().join("answers");
    let machine = Machine { link: Link::Tap("tap7".to_owned()), cpus: 2, ..lan.machine() };
    let line = machine.command(&lan.monitor);
    let mut command = Command::new("unshare");
    command.args(["-rn", "sh", "-c", SCRIPT, "sh"]).arg(&lan.folder).arg(&answers);
    command.arg(line.get_program()).args(line.get_args());
    let mut guest = Guest::start(command).unwrap();
    for question in ["put", "get", "echo", "late", "datagrams"] {
        let number = if question == "datagrams" { "1473 5" } else { "4000000" };
        guest.must(&format!("peer {question} 10.0.9.1:4000 {number}")).unwrap();
    }
    guest.must("ping -c 2 -A 10.0.9.1").unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let said = loop {
        let said = fs::read_to_string(&answers).unwrap();
        if said.ends_with("done\n") {
            break said;
        }
        assert!(Instant::now() < until, "{said}");
        thread::sleep(Duration::from_millis(50));
    };
    // A line with the status of each question, and none but 0.
    let statuses = said.lines().filter(|line| line.ends_with(|c: char| c.is_ascii_digit()));
    assert_eq!(statuses.filter(|line| line.starts_with("0 ")).count(), 11, "{said}");
    lan.end(guest);
}
