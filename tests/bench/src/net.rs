//! A Linux on the network of a monitor, measured from both ends: what it takes, and how two monitors
//! compare in the same run.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use peer::Result;
use peer::ask;
use peer::guest::Guest;
use peer::monitor::{Link, Machine, Monitor, free_port};
use peer::serve::Server;

/// How long bytes go one way.
const BULK: Duration = Duration::from_secs(2);
/// How long nothing happens.
const REST: Duration = Duration::from_secs(4);
const ROUND_TRIPS: u32 = 400;
const CONNECTIONS: u32 = 300;
const IDLE: u32 = 1000;

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Milliseconds from the start of the monitor to the first answer by HTTP.
    FirstAnswer,
    /// Mbit/s from the guest, one connection.
    Up,
    /// To the guest.
    Down,
    /// From the guest, eight connections.
    Up8,
    /// To the guest.
    Down8,
    /// Microseconds, the median of a byte there and back.
    Median,
    /// The slowest of a hundred.
    Slowest,
    /// Connections a second.
    Connections,
    /// Mbit/s from the guest beside idle connections.
    UpBesideIdle,
    /// The median beside them.
    MedianBesideIdle,
    /// Wake-ups a second of all threads but the processors', when nothing happens.
    WakeUps,
    /// Mbit/s from the guest without offloads.
    UpPlain,
    /// To the guest.
    DownPlain,
}

/// Measured values; what could not be measured is not there.
pub type Values = Vec<(What, f64)>;

/// One round with one monitor: two boots.
///
/// # Errors
/// When a guest does not do what it is told.
pub fn round(monitor: &Monitor, machine: &Machine, host: &Host) -> Result<Values> {
    let mut values = Values::new();
    with_offloads(monitor, machine, host, &mut values)?;
    let plain = Machine { driver: "csum=0 gso=0".to_owned(), ..machine.clone() };
    let mut guest = Guest::start(plain.command(monitor))?;
    values.push((What::UpPlain, bulk(&mut guest, &host.server, "up", 1)?));
    values.push((What::DownPlain, bulk(&mut guest, &host.server, "down", 1)?));
    Ok(values)
}

/// The host's side of it.
#[derive(Debug)]
pub struct Host {
    /// The server, as a guest reaches it.
    pub server: String,
    /// Whether ports are forwarded, or else the guest is reached at this address.
    pub guest: Option<Ipv4Addr>,
}

impl Host {
    /// A server that a guest reaches at `address`.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(address: Ipv4Addr, guest: Option<Ipv4Addr>) -> Result<Self> {
        let server = Server::start((Ipv4Addr::UNSPECIFIED, 0).into());
        let server = server.map_err(|error| format!("a server: {error}"))?;
        Ok(Self { server: format!("{address}:{}", server.port()), guest })
    }
}

fn with_offloads(
    monitor: &Monitor,
    machine: &Machine,
    host: &Host,
    values: &mut Values,
) -> Result<()> {
    let (machine, web) = reachable(machine, host)?;
    let begin = Instant::now();
    let client = thread::spawn(move || first_answer(web, begin));
    let mut guest = Guest::start(machine.command(monitor))?;
    let first = client.join().map_err(|_| "the client died".to_owned())??;
    values.push((What::FirstAnswer, first.as_secs_f64() * 1e3));
    let server = host.server.as_str();
    for (what, way, streams) in [
        (What::Up, "up", 1),
        (What::Down, "down", 1),
        (What::Up8, "up", 8),
        (What::Down8, "down", 8),
    ] {
        values.push((what, bulk(&mut guest, server, way, streams)?));
    }
    let (median, slowest) = round_trips(&mut guest, server)?;
    values.extend([(What::Median, median), (What::Slowest, slowest)]);
    let said = guest.must(&format!("peer row {server} {CONNECTIONS}"))?;
    let [count, time] = numbers(&said)?;
    values.push((What::Connections, count * 1e6 / time));
    thread::sleep(Duration::from_secs(2));
    let before = waits(guest.id())?;
    thread::sleep(REST);
    values.push((What::WakeUps, (waits(guest.id())? - before) / REST.as_secs_f64()));
    guest.must(&format!(
        "peer idle {server} {IDLE} >/idle & until grep -q idle /idle; do usleep 50000; done"
    ))?;
    values.push((What::UpBesideIdle, bulk(&mut guest, server, "up", 1)?));
    values.push((What::MedianBesideIdle, round_trips(&mut guest, server)?.0));
    Ok(())
}

/// The machine with a way to its web server, and where that is.
fn reachable(machine: &Machine, host: &Host) -> Result<(Machine, SocketAddr)> {
    let mut machine = machine.clone();
    match (&mut machine.link, host.guest) {
        (Link::User { tcp, .. }, _) => {
            let port = free_port().map_err(|error| format!("a port: {error}"))?;
            tcp.push((port, 7));
            Ok((machine, (Ipv4Addr::LOCALHOST, port).into()))
        }
        (Link::Tap(_), Some(address)) => Ok((machine, (address, 7).into())),
        (Link::Tap(name), None) => Err(format!("nobody knows the guest's address on {name}")),
    }
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

/// Mbit/s.
fn bulk(guest: &mut Guest, server: &str, way: &str, streams: u32) -> Result<f64> {
    let time = BULK.as_millis();
    let said = guest.must(&format!("peer {way} {server} {streams} {time}"))?;
    let [bytes, time] = numbers(&said)?;
    Ok(bytes * 8.0 / time)
}

/// Median and the slowest of a hundred, in microseconds.
fn round_trips(guest: &mut Guest, server: &str) -> Result<(f64, f64)> {
    let said = guest.must(&format!("peer round-trips {server} {ROUND_TRIPS}"))?;
    let [median, slowest] = numbers(&said)?;
    Ok((median, slowest))
}

/// The words of an answer that are numbers, which have to be two.
fn numbers(said: &str) -> Result<[f64; 2]> {
    let numbers: Vec<f64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().map_err(|_| format!("not two numbers: {said}"))
}

/// How often threads have waited that are no processors (proc(5), status).
fn waits(process: u32) -> Result<f64> {
    let folder = format!("/proc/{process}/task");
    let context = |error| format!("{folder}: {error}");
    let mut sum = 0.0;
    for thread in fs::read_dir(&folder).map_err(context)?.flatten() {
        let text = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let name = text("comm");
        if name.contains("vcpu") || name.contains("CPU") {
            continue;
        }
        let status = text("status");
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += count.and_then(|count| count.trim().parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(sum)
}

/// A row of the table: what it is called, and what is asked of it beside the peer. `true` where more is
/// better.
const ROWS: [(What, &str, &str, bool, f64); 13] = [
    (What::FirstAnswer, "first answer by HTTP", "ms", false, 1.0),
    (What::Up, "up, 1 connection", "Mbit/s", true, 5.0),
    (What::Down, "down, 1 connection", "Mbit/s", true, 5.0),
    (What::Up8, "up, 8 connections", "Mbit/s", true, 5.0),
    (What::Down8, "down, 8 connections", "Mbit/s", true, 5.0),
    (What::Median, "round trip, median", "us", false, 0.8),
    (What::Slowest, "round trip, p99", "us", false, 1.0),
    (What::Connections, "connections", "/s", true, 1.0),
    (What::UpBesideIdle, "up, beside 1000 idle", "Mbit/s", true, 5.0),
    (What::MedianBesideIdle, "median, beside them", "us", false, 0.8),
    (What::WakeUps, "wake-ups when idle", "/s", false, 1.0),
    (What::UpPlain, "up, no offloads", "Mbit/s", true, 1.5),
    (What::DownPlain, "down, no offloads", "Mbit/s", true, 1.5),
];

/// Prints medians over the rounds of both, and their ratio beside what is asked for.
pub fn print(peer: &str, peers: &[Values], own: &[Values]) {
    println!("{:<24} {:>10} {:>10} {:>8}   asked for", "", peer, "runner", "ratio");
    for (what, name, unit, more, goal) in ROWS {
        let (theirs, ours) = (median(what, peers), median(what, own));
        let ratio = ours / theirs;
        let met = if more { ratio >= goal } else { ratio <= goal };
        let sign = if more { ">=" } else { "<=" };
        let verdict = if met { "" } else { ", missed" };
        println!(
            "{:<24} {theirs:>10.0} {ours:>10.0} {ratio:>8.2}   {sign} {goal}{verdict}",
            format!("{name}, {unit}")
        );
    }
    let within = |of: What, one: What| median(of, own) / median(one, own);
    println!(
        "runner, eight connections beside one: up {:.2}, down {:.2} (>= 0.9)",
        within(What::Up8, What::Up),
        within(What::Down8, What::Down)
    );
    println!(
        "runner, up beside 1000 idle connections: {:.2} (>= 0.95)",
        within(What::UpBesideIdle, What::Up)
    );
}

fn median(what: What, rounds: &[Values]) -> f64 {
    let of =
        |values: &Values| values.iter().find(|(this, _)| *this == what).map(|(_, value)| *value);
    let mut values: Vec<f64> = rounds.iter().filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
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

    #[test]
    fn the_median_is_of_the_rounds_in_which_it_was_measured() {
        let rounds = [vec![(What::Up, 3.0)], vec![(What::Up, 1.0)], vec![], vec![(What::Up, 2.0)]];
        assert_eq!(median(What::Up, &rounds), 2.0);
        assert!(median(What::Down, &rounds).is_nan());
    }
}
