//! Linux and its socket device: files both ways, many connections, a driver that comes and goes; and a port of
//! its console beside that.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use peer::pattern;

use super::super::support::files::Folder;
use super::super::support::or_skip;
use super::super::support::program::Finished;
use super::{Debian, Kernel, number, quietly};

/// Bytes of the file: many windows and buffers.
const LEN: usize = 1_500_001;

/// Nothing here takes a tenth of it, on an idle machine.
const PATIENCE: Duration = Duration::from_secs(300);

fn file() -> Vec<u8> {
    let chunks = (0..).step_by(pattern::CHUNK).map(pattern::at);
    chunks.flatten().copied().take(LEN).collect()
}

/// Serves the guest's connections at `port` of the device's socket, for as long as the test lives.
fn serve(path: &Path, port: u32, each: impl Fn(UnixStream) + Send + 'static) {
    let path = PathBuf::from(format!("{}_{port}", path.display()));
    let listener = UnixListener::bind(&path).unwrap();
    // Where tests are run by root, runner becomes nobody.
    std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(each));
}

/// Has the guest's port 7 send everything back.
fn echoed(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = loop {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"CONNECT 7\n").unwrap();
        let mut line = String::new();
        // One byte at a time: what follows is the stream.
        let mut reader = BufReader::with_capacity(1, stream.try_clone().unwrap());
        if reader.read_line(&mut line).unwrap() > 0 {
            assert!(line.starts_with("OK "), "{line:?}");
            break stream;
        }
        // It does not listen yet.
        thread::sleep(Duration::from_millis(100));
    };
    let mut reader = stream.try_clone().unwrap();
    let reader = thread::spawn(move || {
        let mut back = Vec::new();
        reader.read_to_end(&mut back).map(|_| back)
    });
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    reader.join().unwrap().unwrap()
}

/// The host's side: servers at ports 100 to 103 of the guest's host.
pub(super) struct Host {
    folder: Folder,
    /// Files that came at port 100.
    files: Receiver<Vec<u8>>,
    /// What is open at port 103.
    over: Receiver<UnixStream>,
}

impl Host {
    pub(super) fn new() -> Self {
        let folder = Folder::new();
        folder.mode("", 0o777);
        let path = folder.path().join("v.sock");
        let (arrived, files) = mpsc::channel();
        serve(&path, 100, move |mut stream| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            arrived.send(bytes).unwrap();
        });
        serve(&path, 101, |mut stream| stream.write_all(&file()).unwrap());
        serve(&path, 102, |mut stream| {
            let mut byte = [0];
            // A driver that is unbound ends it anywhere.
            if stream.read_exact(&mut byte).is_ok() {
                let _ = stream.write_all(&byte);
            }
        });
        let (last, over) = mpsc::channel();
        serve(&path, 103, move |stream| last.send(stream).unwrap());
        Self { folder, files, over }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("v.sock")
    }

    /// For runner.
    pub(super) fn option(&self) -> String {
        format!("--vsock={}", self.path().display())
    }

    /// What the guest's job has to do with it, to its end.
    pub(super) fn drive(&self) {
        let wait = || self.files.recv_timeout(PATIENCE).expect("the file comes back");
        assert!(wait() == file(), "the file is another");
        assert!(wait() == file(), "the file is another");
        let end = self.over.recv_timeout(PATIENCE);
        let end = end.expect("the guest has done all it had to");
        let back = echoed(&self.path(), &file());
        assert!(back == file(), "the guest sends something else back");
        drop(end);
    }

    /// And what it said.
    pub(super) fn check(&self, finished: &Finished, rebinds: u32, row: u64) {
        assert_eq!(number(finished.text(), "row"), row, "{finished}");
        assert!(finished.text().contains(&format!("bound {rebinds} times")), "{finished}");
        assert!(!self.path().exists(), "the socket goes with the run");
    }
}

/// A program of the host's at the other end of a port of the guest's console, which sends bytes and is sent
/// the same.
fn agent(path: &Path) -> JoinHandle<(bool, UnixStream)> {
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let sent = file()[..100_000].to_vec();
        stream.write_all(&sent).unwrap();
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back).unwrap();
        (back == sent, stream)
    })
}

/// A guest with `options`, through all its job.
fn through(debian: &Debian, options: &[&str], rebinds: u32, row: u64) {
    let host = Host::new();
    let path = host.folder.path().join("agent.sock");
    let agent = agent(&path);
    let (vsock, channel) = (host.option(), format!("--channel=agent={}", path.display()));
    let args = [&["-m", "256", &vsock, &channel][..], options].concat();
    let job = format!("vsock {rebinds} {row} agent");
    let running = debian.boot_with("initrd-net", Kernel::ALL[0], &args, &job).start();
    host.drive();
    let finished = quietly(running.finish());
    host.check(&finished, rebinds, row);
    assert_eq!(number(finished.text(), "agent"), 100_000, "{finished}");
    assert!(agent.join().unwrap().0, "what came back by the channel is something else");
}

#[test]
fn files_go_both_ways_before_and_after_a_driver_that_comes_and_goes_a_hundred_times() {
    let debian = or_skip!(Debian::find());
    through(&debian, &["--cpus=1"], 100, 10);
}

#[test]
fn on_pci_with_four_processors_a_thousand_connections_are_made_one_behind_the_other() {
    let debian = or_skip!(Debian::find());
    through(&debian, &["--cpus=4", "--virtio=pci"], 10, 1000);
}
