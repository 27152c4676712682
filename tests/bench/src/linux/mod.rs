//! A Linux on the network of a monitor, measured from both ends, or with a disk, measured by fio in the
//! guest: what it takes, and how two monitors compare in the same run.

pub mod disk;
mod profile;
pub mod rows;
pub mod table;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use peer::Result;
use peer::ask;
use peer::guest::Guest;
use peer::monitor::{Link, Machine, Monitor, free_port};
use peer::serve::Server;

pub use profile::Profile;
use profile::Traffic;
use rows::{Row, What};

/// How long bytes go one way.
const BULK: Duration = Duration::from_secs(2);
/// How long nothing happens.
const REST: Duration = Duration::from_secs(4);
const ROUND_TRIPS: u32 = 400;
const CONNECTIONS: u32 = 300;
const IDLE: u32 = 1000;

/// What was measured, and where the time went meanwhile, where that can be said.
#[derive(Clone, Debug)]
pub struct Value {
    what: What,
    number: f64,
    profile: Option<Profile>,
}

/// Measured values; what could not be measured, or was not asked for, is not there.
pub type Values = Vec<Value>;

/// The host's side of it.
#[derive(Debug)]
pub struct Host {
    /// The server, as a guest reaches it.
    server: String,
}

impl Host {
    /// A server that a guest reaches at `address`.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(address: Ipv4Addr) -> Result<Self> {
        let server = Server::start((Ipv4Addr::UNSPECIFIED, 0).into());
        let server = server.map_err(|error| format!("a server: {error}"))?;
        Ok(Self { server: format!("{address}:{}", server.port()) })
    }
}

/// One round with one monitor: a boot, and one more for what is measured without offloads.
///
/// # Errors
/// When a guest does not do what it is told.
pub fn round(rows: &[Row], monitor: &Monitor, machine: &Machine, host: &Host) -> Result<Values> {
    let mut values = Values::new();
    let is_plain = |what| matches!(what, What::UpPlain | What::DownPlain);
    let wanted = |what| rows.iter().any(|row| row.what == what);
    if rows.iter().any(|row| !is_plain(row.what)) {
        with_offloads(&wanted, monitor, machine, host, &mut values)?;
    }
    if rows.iter().any(|row| is_plain(row.what)) {
        let plain = Machine { driver: "csum=0 gso=0".to_owned(), ..machine.clone() };
        let guest = Guest::start(plain.command(monitor))?;
        let mut session =
            Session { wanted: &wanted, guest, server: &host.server, values: &mut values };
        session.bulk(What::UpPlain, "up", 1)?;
        session.bulk(What::DownPlain, "down", 1)?;
    }
    Ok(values)
}

fn with_offloads(
    wanted: &dyn Fn(What) -> bool,
    monitor: &Monitor,
    machine: &Machine,
    host: &Host,
    values: &mut Values,
) -> Result<()> {
    let guest = match wanted(What::FirstAnswer) {
        false => Guest::start(machine.command(monitor))?,
        true => {
            let (guest, first) = until_first_answer(monitor, machine)?;
            let number = first.as_secs_f64() * 1e3;
            values.push(Value { what: What::FirstAnswer, number, profile: None });
            guest
        }
    };
    let mut session = Session { wanted, guest, server: &host.server, values };
    session.bulk(What::Up, "up", 1)?;
    session.bulk(What::Down, "down", 1)?;
    session.bulk(What::Up8, "up", 8)?;
    session.bulk(What::Down8, "down", 8)?;
    session.round_trips(What::Median, What::Slowest)?;
    session.connections()?;
    session.wake_ups()?;
    if wanted(What::UpBesideIdle) || wanted(What::MedianBesideIdle) {
        if let Err(why) = session.idle() {
            // On a busy machine a peer may not come to the end of a thousand in time.
            println!("{IDLE} idle connections with {monitor:?}: {why}");
            return Ok(());
        }
        session.bulk(What::UpBesideIdle, "up", 1)?;
        session.round_trips(What::MedianBesideIdle, What::Slowest)?;
    }
    Ok(())
}

/// A guest that answers by HTTP at a port of the host's, and the time until it did.
fn until_first_answer(monitor: &Monitor, machine: &Machine) -> Result<(Guest, Duration)> {
    let mut machine = machine.clone();
    let port = free_port().map_err(|error| format!("a port: {error}"))?;
    if let Link::User { tcp, .. } = &mut machine.link {
        tcp.push((port, 7));
    }
    let begin = Instant::now();
    let client = thread::spawn(move || first_answer((Ipv4Addr::LOCALHOST, port).into(), begin));
    let guest = Guest::start(machine.command(monitor))?;
    let first = client.join().map_err(|_| "the client died".to_owned())??;
    Ok((guest, first))
}

fn first_answer(web: SocketAddr, begin: Instant) -> Result<Duration> {
    loop {
        match ask::http(web, "/1") {
            Ok(_) => return Ok(begin.elapsed()),
            Err(why) if begin.elapsed() > Duration::from_secs(90) => return Err(why),
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// A running guest, and what has been measured of it.
struct Session<'a> {
    wanted: &'a dyn Fn(What) -> bool,
    guest: Guest,
    server: &'a str,
    values: &'a mut Values,
}

impl Session<'_> {
    /// Mbit/s.
    fn bulk(&mut self, what: What, way: &str, streams: u32) -> Result<()> {
        if !(self.wanted)(what) {
            return Ok(());
        }
        let question = format!("peer {way} {} {streams} {}", self.server, BULK.as_millis());
        let ([bytes, time], profile) = self.ask(&question)?;
        self.note(what, bytes * 8.0 / time, profile);
        Ok(())
    }

    /// Median and the slowest of a hundred, in microseconds.
    fn round_trips(&mut self, median: What, slowest: What) -> Result<()> {
        if !(self.wanted)(median) && !(self.wanted)(slowest) {
            return Ok(());
        }
        let question = format!("peer round-trips {} {ROUND_TRIPS}", self.server);
        let ([half, most], profile) = self.ask(&question)?;
        self.note(median, half, profile.clone());
        self.note(slowest, most, profile);
        Ok(())
    }

    fn connections(&mut self) -> Result<()> {
        if (self.wanted)(What::Connections) {
            let question = format!("peer row {} {CONNECTIONS}", self.server);
            let ([count, time], profile) = self.ask(&question)?;
            self.note(What::Connections, count * 1e6 / time, profile);
        }
        Ok(())
    }

    fn wake_ups(&mut self) -> Result<()> {
        if (self.wanted)(What::WakeUps) {
            thread::sleep(Duration::from_secs(2));
            let before = waits(self.guest.id())?;
            thread::sleep(REST);
            let count = waits(self.guest.id())? - before;
            let number = count / REST.as_secs_f64();
            self.values.push(Value { what: What::WakeUps, number, profile: None });
        }
        Ok(())
    }

    /// Opens connections on which nothing is said any more.
    fn idle(&mut self) -> Result<()> {
        let server = self.server;
        let wait = "until grep -q idle /idle; do usleep 50000; done";
        self.guest.must(&format!("peer idle {server} {IDLE} >/idle & {wait}")).map(drop)
    }

    /// Asks the guest a question whose answer has two numbers.
    fn ask(&mut self, question: &str) -> Result<([f64; 2], Profile)> {
        let begun = profile::Begun::new(&mut self.guest, Traffic::Frames)?;
        let said = self.guest.must(question)?;
        Ok((numbers(&said)?, begun.end(&mut self.guest)?))
    }

    /// The first value there is of it counts.
    fn note(&mut self, what: What, number: f64, profile: Profile) {
        if self.values.iter().all(|value| value.what != what) {
            self.values.push(Value { what, number, profile: Some(profile) });
        }
    }
}

/// The words of an answer that are numbers, which have to be two.
fn numbers(said: &str) -> Result<[f64; 2]> {
    let numbers: Vec<f64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().map_err(|_| format!("not two numbers: {said}"))
}

/// How often the thread has waited that serves the network, by what both monitors call it.
fn waits(process: u32) -> Result<f64> {
    let serves = |thread: &&std::path::PathBuf| {
        let name = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
        ["network", "qemu-system-x86"].contains(&name.trim())
    };
    let threads = profile::threads(process)?;
    let thread = threads.iter().find(serves).map(std::path::PathBuf::as_path);
    let waits = thread.and_then(|thread: &Path| profile::waits(thread));
    waits.ok_or_else(|| format!("process {process}: no thread that serves the network"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_two_numbers_among_its_words() {
        assert_eq!(numbers("300 in 5000 us").unwrap(), [300.0, 5000.0]);
        assert_eq!(numbers("p50 81 us p99 336 us").unwrap(), [81.0, 336.0]);
        assert!(numbers("no such server").is_err());
    }
}
