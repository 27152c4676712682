use super::*;
use crate::net::testing::{Mailbox, Scripted, Sheet};

const NOW: Duration = Duration::from_secs(5);

struct Setup {
    folder: tempfile::TempDir,
    link: Recorded,
}

impl Setup {
    fn new(link: Scripted) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = Arc::new(create(&folder.path().join("c.pcap")).unwrap());
        let link = Recorded::new(Box::new(link), file, "c.pcap").unwrap();
        Self { folder, link }
    }

    fn send(&mut self, bytes: &[u8], now: Duration) -> Sent {
        let link = &mut self.link;
        Sheet::default().frame(Offload::default(), bytes, |frame| link.send(frame, now))
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("c.pcap")).unwrap()
    }
}

/// A reader that knows nothing of the writer: the times and frames of a capture.
fn parse(bytes: &[u8]) -> Vec<(Duration, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let half = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
    assert_eq!((word(0), half(4), half(6)), (0xa1b23c4d, 2, 4));
    assert_eq!((word(8), word(12), word(16), word(20)), (0, 0, 65_549, 1));
    let mut frames = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let len = word(at + 8) as usize;
        assert_eq!(word(at + 8), word(at + 12));
        assert!(word(at + 4) < 1_000_000_000);
        let time = Duration::new(word(at).into(), word(at + 4));
        frames.push((time, bytes[at + 16..at + 16 + len].to_vec()));
        at += 16 + len;
    }
    frames
}

fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    parse(bytes).into_iter().map(|(_, frame)| frame).collect()
}

#[test]
fn both_ways_are_written_as_the_frames_are_without_headers_of_virtio() {
    let segment = vec![3; 9000];
    let link = Scripted::of([(false, vec![2; 60]), (true, segment.clone())]);
    let mut setup = Setup::new(link);
    setup.send(&[1; 61], NOW);
    let mut inbox = Mailbox::with_room(9);
    setup.link.receive(&mut inbox, NOW);
    assert_eq!(inbox.bytes(), [&[2; 60][..], &segment]);
    setup.link.finish();
    assert_eq!(frames(&setup.bytes()), [vec![1; 61], vec![2; 60], segment]);
    assert_eq!((setup.link.offer().mtu, setup.link.descriptors()), (1400, 3));
}

#[test]
fn times_are_those_of_the_day_and_as_far_apart_as_the_frames() {
    let mut setup = Setup::new(Scripted::default());
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    setup.send(&[1; 60], NOW);
    setup.send(&[1; 60], NOW + Duration::from_nanos(1_234_567_891));
    setup.link.finish();
    let times: Vec<_> = parse(&setup.bytes()).into_iter().map(|(time, _)| time).collect();
    assert!(times[0] >= before && times[0] < before + Duration::from_secs(60));
    assert_eq!(times[1] - times[0], Duration::from_nanos(1_234_567_891));
}

#[test]
fn a_frame_that_is_offered_again_is_written_once_and_one_without_room_later() {
    let mut link = Scripted::of([(false, vec![2; 60])]);
    link.later = 3;
    let mut setup = Setup::new(link);
    for _ in 0..3 {
        assert_eq!(setup.send(&[1; 60], NOW), Sent::Later);
    }
    setup.send(&[1; 60], NOW);
    let mut inbox = Mailbox::with_room(0);
    setup.link.receive(&mut inbox, NOW);
    setup.link.receive(&mut inbox, NOW);
    inbox.room = 1;
    setup.link.receive(&mut inbox, NOW);
    setup.link.finish();
    assert_eq!(frames(&setup.bytes()), [vec![1; 60], vec![2; 60]]);
}

#[test]
fn a_frame_is_in_the_file_after_a_tenth_of_a_second_and_memory_does_not_grow() {
    let mut setup = Setup::new(Scripted::default());
    assert_eq!(setup.link.deadline(), None);
    setup.send(&[1; 60], NOW);
    let deadline = setup.link.deadline().unwrap();
    assert_eq!(deadline, NOW + DELAY);
    setup.link.receive(&mut Mailbox::default(), NOW);
    assert_eq!(frames(&setup.bytes()).len(), 0);
    setup.link.receive(&mut Mailbox::default(), deadline);
    assert_eq!(frames(&setup.bytes()).len(), 1);
    assert_eq!(setup.link.deadline(), None);
    for _ in 0..100 {
        setup.send(&vec![7; LARGEST], deadline);
        assert_eq!(setup.link.capture.waiting.capacity(), ROOM);
    }
    setup.link.finish();
    assert_eq!(frames(&setup.bytes()).len(), 101);
}

#[test]
#[cfg(target_os = "linux")] // macOS has no /dev/full
fn a_full_disk_stops_the_capture_and_not_the_network() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let error = Recorded::new(Box::new(Scripted::default()), Arc::new(full), "full").unwrap_err();
    assert!(error.starts_with("--pcap full: "), "{error}");
    let mut setup = Setup::new(Scripted::default());
    setup.link.capture.file =
        Some(Arc::new(File::options().write(true).open("/dev/full").unwrap()));
    for _ in 0..100 {
        assert_eq!(setup.send(&vec![7; LARGEST], NOW), Sent::Done);
    }
    assert!(setup.link.capture.file.is_none() && setup.link.capture.waiting.is_empty());
    assert_eq!(setup.link.deadline(), None);
}

#[test]
fn the_file_is_its_users_alone_and_an_earlier_capture_is_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let mut setup = Setup::new(Scripted::default());
    let path = setup.folder.path().join("c.pcap");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    setup.send(&[1; 60], NOW);
    setup.link.finish();
    assert!(create(&path).unwrap_err().contains("another run writes it"));
    let (folder, before) = (setup.folder, setup.link);
    drop(before);
    let file = Arc::new(create(&path).unwrap());
    let bytes = || std::fs::read(&path).unwrap();
    assert_eq!(frames(&bytes()).len(), 1, "until it is sure that there will be a run");
    Recorded::new(Box::new(Scripted::default()), file, "c.pcap").unwrap();
    assert_eq!(frames(&bytes()).len(), 0);
    drop(folder);
}

#[test]
fn what_is_no_capture_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let error = |name: &str| create(&path(name)).unwrap_err();
    std::fs::write(path("disk.img"), [0; 512]).unwrap();
    assert!(error("disk.img").contains("no capture, and it would be lost: name another"));
    std::fs::write(path("short"), [0xd4]).unwrap();
    assert!(error("short").contains("no capture"));
    std::os::unix::fs::symlink(path("new"), path("link")).unwrap();
    assert!(error("link").contains("a symbolic link"));
    assert!(!path("new").exists());
    assert!(error("none/c").contains("No such file"));
    let fifo = std::process::Command::new("mkfifo").arg(path("fifo")).status();
    if fifo.is_ok_and(|status| status.success()) {
        assert!(error("fifo").contains("no regular file"));
    }
    for magic in CAPTURES {
        std::fs::write(path("c"), magic.to_le_bytes()).unwrap();
        create(&path("c")).unwrap();
    }
}

#[test]
fn tcpdump_reads_it() {
    let mut setup = Setup::new(Scripted::default());
    // ARP: who has 10.0.2.2, tell 10.0.2.15.
    let mut arp = vec![0xff; 6];
    arp.extend([0x52, 0x54, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0, 0, 1]);
    arp.extend([10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2]);
    setup.send(&arp, NOW);
    setup.link.finish();
    let path = setup.folder.path().join("c.pcap");
    let tcpdump = std::process::Command::new("tcpdump").arg("-nr").arg(path).output();
    match tcpdump {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("ARP, Request who-has 10.0.2.2 tell 10.0.2.15"), "{text}");
        }
        Err(error) => println!("skipped: there is no tcpdump: {error}"),
    }
}
