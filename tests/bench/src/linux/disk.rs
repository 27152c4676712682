//! The disk's side of it: fio in the guest, on a raw file of the host's, past the guest's page cache and by
//! way of the host's.

use std::fs;
use std::path::Path;

use peer::Result;
use peer::guest::Guest;
use peer::monitor::{Machine, Monitor};

use super::profile::{self, Traffic};
use super::rows::{Fio, Row, What};
use super::{Host, Session, Value, Values, numbers};

/// Seconds that fio runs for one number.
const SECONDS: u32 = 2;

/// Seconds that it would run beside the network, which is measured before it ends, and milliseconds
/// of a stream beside it.
const SECONDS_BESIDE: u32 = 60;
const STREAM: u32 = 4000;

/// fio in the guest, and what is the same each time: one result a line, no clock read for each request, on
/// a guest that has no system's files.
const FIO: &str = "/tools/ld.so --library-path /tools /tools/fio --minimal --gtod_reduce=1 --thread \
    --name=j --filename=/dev/vda --direct=1 --bs=4k --time_based";

/// The initrd in the folder of guests that has it.
pub const INITRD: &str = "initrd-fio";

/// Bytes of the disk.
pub const SIZE: u64 = 256 << 20;

/// Makes the disk that both monitors serve. No part of it is a hole.
///
/// # Errors
/// When there is no room.
pub fn make(path: &Path) -> Result<()> {
    let bytes = vec![0x5a; usize::try_from(SIZE).map_err(|error| error.to_string())?];
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// One round with one monitor, a boot.
///
/// # Errors
/// When a guest does not do what it is told.
pub fn round(rows: &[Row], monitor: &Monitor, machine: &Machine, host: &Host) -> Result<Values> {
    let wanted = |what| rows.iter().any(|row| row.what == what);
    let mut values = Values::new();
    let mut guest = Guest::start(machine.command(monitor))?;
    // The loader reads a hundred files; the first time is not what is measured.
    guest.must(&fio(Fio { way: "read", depth: 1 }, "--runtime=1"))?;
    for row in rows {
        if let What::Fio(job) = row.what {
            let line = fio(job, &format!("--runtime={SECONDS}"));
            let begun = profile::Begun::new(&mut guest, Traffic::Requests)?;
            let number = requests(&guest.must(&line)?)?;
            let profile = Some(begun.end(&mut guest)?);
            values.push(Value { what: row.what, number, profile });
        }
    }
    if wanted(What::Durable) || wanted(What::Honoured) {
        durable(&mut guest, &mut values)?;
    }
    let beside = [What::MedianBesideFio, What::SlowestBesideFio, What::SilenceBesideFio];
    if beside.into_iter().any(wanted) {
        let session = Session { wanted: &wanted, guest, server: &host.server, values: &mut values };
        beside_fio(session)?;
    }
    Ok(values)
}

/// What the network does while fio writes, as much at once as it may.
fn beside_fio(mut session: Session<'_>) -> Result<()> {
    let job = Fio { way: "randwrite", depth: 32 };
    let line = fio(job, &format!("--runtime={SECONDS_BESIDE}"));
    let start = format!("{line} >/fio 2>&1 & echo $! >/running; usleep 3000000");
    session.guest.must(&start)?;
    session.round_trips(What::MedianBesideFio, What::SlowestBesideFio)?;
    if (session.wanted)(What::SilenceBesideFio) {
        let question = format!("peer silence {} {STREAM}", session.server);
        let ([_, longest], profile) = session.ask(&question)?;
        session.note(What::SilenceBesideFio, longest, profile);
    }
    // It still ran: what was measured was beside it.
    session.guest.must("kill -0 $(cat /running) || { cat /fio; false; }").map(drop)
}

/// A command line of the guest's.
fn fio(job: Fio, more: &str) -> String {
    let Fio { way, depth } = job;
    format!("{FIO} --ioengine=libaio --rw={way} --iodepth={depth} {more}")
}

/// Requests a second, of reads or of writes, in a line of fio's (its HOWTO, "Terse output", version 3).
fn requests(said: &str) -> Result<f64> {
    let of = |line: &str| {
        let fields: Vec<&str> = line.split(';').collect();
        let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
        (fields.first() == Some(&"3") && fields.get(4) == Some(&"0"))
            .then(|| Some(number(7)? + number(48)?))?
    };
    said.lines().find_map(of).ok_or_else(|| format!("fio said: {said}"))
}

/// Writes that are each made durable, and what came of that in the host.
fn durable(guest: &mut Guest, values: &mut Values) -> Result<()> {
    let syncs = Syncs::start()?;
    let flushes = flushes(guest)?;
    let line = format!("{FIO} --ioengine=psync --rw=randwrite --fdatasync=1 --runtime={SECONDS}");
    let begun = profile::Begun::new(guest, Traffic::Requests)?;
    let number = requests(&guest.must(&line)?)?;
    let profile = begun.end(guest)?;
    values.push(Value { what: What::Durable, number, profile: Some(profile.clone()) });
    let asked = self::flushes(guest)? - flushes;
    let number = 1000.0 * syncs.of(guest.id())? / asked;
    values.push(Value { what: What::Honoured, number, profile: Some(profile) });
    Ok(())
}

/// Flushes that the guest's disk has answered (Linux, Documentation/block/stat.rst).
fn flushes(guest: &mut Guest) -> Result<f64> {
    let said = guest.must("awk '{ print $16; print $17 }' /sys/block/vda/stat")?;
    let [count, _] = numbers(&said.replace('\n', " "))?;
    Ok(count)
}

/// Counts of the system calls of all threads that make files durable, by the kernel's tracing (Linux,
/// Documentation/trace/histogram.rst). They end with this value.
struct Syncs;

const EVENTS: &str = "/sys/kernel/tracing/events/syscalls";
const CALLS: [&str; 2] = ["sys_enter_fdatasync", "sys_enter_fsync"];
const TRIGGER: &str = "hist:keys=common_pid";

impl Syncs {
    fn start() -> Result<Self> {
        let started = Self;
        for call in CALLS {
            tell(call, TRIGGER)?;
        }
        Ok(started)
    }

    /// Those of one process so far.
    fn of(&self, process: u32) -> Result<f64> {
        let mut count = 0.0;
        let threads = profile::threads(process)?;
        let is_its = |thread: &str| threads.iter().any(|path| path.ends_with(thread));
        for call in CALLS {
            let path = format!("{EVENTS}/{call}/hist");
            let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
            let lines = text.lines().filter_map(entry);
            count += lines.filter(|(thread, _)| is_its(thread)).map(|(_, hits)| hits).sum::<f64>();
        }
        Ok(count)
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        for call in CALLS {
            // One that was never there is no loss.
            let _ = tell(call, &format!("!{TRIGGER}"));
        }
    }
}

fn tell(call: &str, trigger: &str) -> Result<()> {
    let path = format!("{EVENTS}/{call}/trigger");
    fs::write(&path, trigger).map_err(|error| format!("{path}: {error}"))
}

/// `{ common_pid:         93 } hitcount:         12`.
fn entry(line: &str) -> Option<(&str, f64)> {
    let (key, hits) = line.strip_prefix("{ common_pid:")?.split_once("} hitcount:")?;
    Some((key.trim(), hits.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_that_were_read_and_those_that_were_written() {
        let mut fields = vec!["0"; 130];
        (fields[0], fields[7], fields[48]) = ("3", "120", "3");
        assert_eq!(requests(&format!("fio: a note\n{}", fields.join(";"))), Ok(123.0));
        fields[4] = "5";
        assert!(requests(&fields.join(";")).is_err(), "an error of fio's");
        assert!(requests("no such file").is_err());
    }

    #[test]
    fn an_entry_of_a_histogram_has_a_thread_and_a_count() {
        assert_eq!(entry("{ common_pid:         93 } hitcount:         12"), Some(("93", 12.0)));
        assert_eq!(entry("Totals:"), None);
    }
}
