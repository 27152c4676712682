//! A running QEMU from its start to its end: the console relayed, the guest's end heard of, signals and
//! the timeout obeyed.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Error;
use super::heard::{Heard, outcome};
use super::keys::relay_input;
use super::process::{Ends, Process};
use super::target::Target;
use crate::io::console::{Stdin, Stdout};
use crate::io::event::Event;
use crate::io::event_loop::{Control, EventLoop, Waker};
use crate::io::signals::Signals;
use crate::io::terminal;
use crate::machine::stop::{Reason, Stop};
use crate::outcome::Outcome;
use crate::plan::Plan;

/// How long QEMU may take to flush its disks and end.
const GRACE: Duration = Duration::from_secs(10);

/// How long the console may take for what the guest had written when we ended the run.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs QEMU to the end of the run.
pub(super) fn supervise(
    mut process: Process,
    ends: Ends,
    target: &'static Target,
    plan: &Plan,
    signals: &Signals,
) -> Result<Outcome, Error> {
    let mut watch = Watch::new(ends, target, signals)?;
    let deadline = plan.timeout.and_then(after);
    let over = |heard: &Heard| {
        signals.control_job();
        let signal = || signals.first().map(Reason::Signal);
        let escape = || heard.escaped.then_some(Reason::Escape);
        let exit = heard.exit.and_then(|byte| {
            let raw = byte.into();
            plan.boot.family.ends.code().status(raw).map(|status| Reason::Exit { raw, status })
        });
        let end = exit.or_else(signal).or_else(escape).map(End::Ours);
        end.or_else(|| heard.gone().map(|()| End::Its))
    };
    let end = watch.until(deadline, over)?.unwrap_or(End::Ours(Reason::TimedOut));
    // Disks are flushed next, which takes its time.
    terminal::restore();
    if let End::Ours(reason) = &end {
        if *reason == Reason::Escape {
            signals.end_at_next();
        }
        watch.end(&mut process, reason, plan)?;
    }
    let status = process.wait().map_err(Error::system("wait for QEMU"))?;
    match &end {
        End::Ours(reason) if given_up(reason) => {
            watch.until(after(LAST_WORDS), |heard| heard.console_done.then_some(()))?
        }
        // A guest's last words take as long as their reader does.
        _ => watch.until(deadline, |heard| {
            (heard.console_done || signals.first().is_some()).then_some(())
        })?,
    };
    let heard = watch.heard();
    let ours = format!("terminating on signal 15 from pid {} ", std::process::id());
    let words = String::from_utf8_lossy(&heard.words);
    for line in words.lines().filter(|line| !line.contains(&ours)) {
        crate::info!("qemu: {line}");
    }
    Ok(match end {
        End::Ours(reason) => Outcome::of(&reason),
        End::Its => {
            make_durable(plan);
            outcome(status, &heard, plan.boot.family.ends.code())
        }
    })
}

/// What QEMU had written is in the kernel's hands, and made durable there.
fn make_durable(plan: &Plan) {
    for disk in &plan.disks {
        if let Err(error) = disk.file.sync_data() {
            crate::warning!("{}: {error}", disk.source.name());
        }
    }
}

/// Whether the run ended before the guest did.
fn given_up(reason: &Reason) -> bool {
    matches!(reason, Reason::TimedOut | Reason::Signal(_) | Reason::Escape)
}

fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

/// How a run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// We ended it.
    Ours(Reason),
    /// QEMU ended, for a reason that its status and its log tell.
    Its,
}

/// Everything that is waited for while QEMU runs.
struct Watch {
    main_loop: EventLoop,
    heard: Arc<Mutex<Heard>>,
    console: PipeReader,
}

impl Watch {
    fn new(ends: Ends, target: &'static Target, signals: &Signals) -> Result<Self, Error> {
        let Ends { input, console, exit, log, words } = ends;
        let main_loop = EventLoop::new().map_err(Error::system("make an event loop"))?;
        let mut watch =
            Self { main_loop, heard: Arc::new(Mutex::new(Heard::new(target))), console };
        watch.connect(input).map_err(Error::system("connect the console"))?;
        let listen = |watch: &mut Self| -> io::Result<()> {
            watch.listen(exit, Heard::on_exit_port)?;
            watch.listen(log, Heard::on_log)?;
            watch.listen(words, Heard::on_stderr)?;
            signals.wake(&mut watch.main_loop)
        };
        listen(&mut watch).map_err(Error::system("wait for QEMU"))?;
        Ok(watch)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }

    /// Hands what comes from `end` to `take`, until it is closed.
    fn listen(&mut self, end: impl Into<OwnedFd>, take: fn(&mut Heard, &[u8])) -> io::Result<()> {
        let end = Arc::new(File::from(end.into()));
        let heard = Arc::clone(&self.heard);
        let from = Arc::clone(&end);
        let handler = move || {
            let mut buffer = [0; 4096];
            let mut heard = lock(&heard);
            match (&*from).read(&mut buffer) {
                Ok(read @ 1..) => {
                    take(&mut heard, buffer.get(..read).unwrap_or_default());
                    Control::More
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Control::More,
                Ok(0) | Err(_) => {
                    heard.open -= 1;
                    Control::Pause
                }
            }
        };
        self.main_loop.add(end, handler)?;
        self.heard().open += 1;
        Ok(())
    }

    /// Relays the console in threads of their own: a reader of our stdout may be slow, and then the guest
    /// has to wait, but not we.
    fn connect(&mut self, input: io::PipeWriter) -> io::Result<()> {
        // Nothing stops it: where nobody reads, it is left behind.
        let stdout = Stdout::new(Stop::default(), Arc::new(Event::new()?))?;
        let console = self.console.try_clone()?;
        let (heard, waker) = (Arc::clone(&self.heard), self.main_loop.waker());
        if let Some(stdin) = Stdin::new() {
            let (heard, waker) = (Arc::clone(&heard), waker.clone());
            let escape = move || {
                lock(&heard).escaped = true;
                waker.wake();
            };
            std::thread::Builder::new().spawn(move || relay_input(stdin, input, escape))?;
        }
        let output = move || relay_output(console, stdout, &heard, &waker);
        std::thread::Builder::new().spawn(output)?;
        Ok(())
    }

    /// Has QEMU flush its disks and end, now that the run is over for `reason`.
    fn end(&mut self, process: &mut Process, reason: &Reason, plan: &Plan) -> Result<(), Error> {
        process.terminate().map_err(Error::system("end QEMU"))?;
        if given_up(reason) {
            if self.until(after(LAST_WORDS), Heard::gone)?.is_some() {
                return Ok(());
            }
            // It may wait for a reader of our stdout that takes nothing more. From here on all is
            // taken, and dropped.
            let console = self.console.try_clone();
            console
                .and_then(|console| self.listen(console, |_, _| {}))
                .map_err(Error::system("empty the console"))?;
        }
        if self.until(after(GRACE), Heard::gone)?.is_some() {
            return Ok(());
        }
        crate::warning!("QEMU has not ended in {} s, and is killed", GRACE.as_secs());
        process.kill().map_err(Error::system("kill QEMU"))?;
        make_durable(plan);
        Ok(())
    }

    /// Waits until `over` says something, or until `limit`.
    fn until<T>(
        &mut self,
        limit: Option<Instant>,
        over: impl Fn(&Heard) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        loop {
            if let Some(end) = over(&self.heard()) {
                return Ok(Some(end));
            }
            let left = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            self.main_loop.turn(left).map_err(Error::system("wait for QEMU"))?;
        }
    }
}

/// Puts on stdout what the guest sends, until QEMU is gone.
fn relay_output(mut console: PipeReader, mut stdout: Stdout, heard: &Mutex<Heard>, waker: &Waker) {
    let mut buffer = [0; 4096];
    loop {
        match console.read(&mut buffer) {
            // It takes everything and says itself when that is lost.
            Ok(read @ 1..) => drop(stdout.write(buffer.get(..read).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
        }
    }
    lock(heard).console_done = true;
    waker.wake();
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}
