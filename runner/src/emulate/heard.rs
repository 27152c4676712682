//! What has come from QEMU, on its pipes and by its status, and what it says of the guest's end.

use std::process::ExitStatus;

use hv::Arch;

use super::target::{Mark, Target};
use crate::devices::power::ExitCode;
use crate::machine::stop::Reason;
use crate::outcome::Outcome;

/// The most we keep of what QEMU says.
const MAX_WORDS: usize = 16 << 10;

/// What has come from QEMU so far.
#[derive(Debug)]
pub(super) struct Heard {
    target: &'static Target,
    /// The first byte the guest wrote to its exit port.
    pub(super) exit: Option<u8>,
    /// The end of the log.
    log: Vec<u8>,
    /// What the log said.
    marks: Vec<Mark>,
    pub(super) words: Vec<u8>,
    /// Pipes that QEMU has not closed.
    pub(super) open: u32,
    /// All the console had is on stdout.
    pub(super) console_done: bool,
    /// The key that ends the run came.
    pub(super) escaped: bool,
}

impl Heard {
    pub(super) fn new(target: &'static Target) -> Self {
        Self {
            target,
            exit: None,
            log: Vec::new(),
            marks: Vec::new(),
            words: Vec::new(),
            open: 0,
            console_done: false,
            escaped: false,
        }
    }

    pub(super) fn on_exit_port(&mut self, bytes: &[u8]) {
        self.exit = self.exit.or(bytes.first().copied());
    }

    pub(super) fn on_log(&mut self, bytes: &[u8]) {
        self.log.extend_from_slice(bytes);
        let mut keep = 0;
        for (text, mark) in self.target.marks {
            if !self.marks.contains(mark) && self.log.windows(text.len()).any(|at| at == *text) {
                self.marks.push(*mark);
            }
            keep = keep.max(text.len());
        }
        // A guest can have QEMU log without end: all that matters is a match across two reads.
        self.log.drain(..self.log.len().saturating_sub(keep));
    }

    pub(super) fn on_stderr(&mut self, bytes: &[u8]) {
        let room = MAX_WORDS - self.words.len();
        self.words.extend(bytes.iter().take(room));
    }

    /// Whether QEMU has ended and all it had to tell is here.
    pub(super) fn gone(&self) -> Option<()> {
        (self.open == 0).then_some(())
    }

    /// Whether QEMU said what is wrong, and not only that something might be.
    fn complained(&self) -> bool {
        let text = String::from_utf8_lossy(&self.words);
        let own = |line: &str| Some(line.strip_prefix(self.target.program)?.starts_with(": "));
        text.lines().any(|line| own(line) == Some(true) && !line.contains(": warning: "))
    }

    /// What QEMU said, on one line.
    fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.words);
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.join("; ")
    }
}

/// The outcome of a run that QEMU ended.
pub(super) fn outcome(status: ExitStatus, heard: &Heard, exit_code: ExitCode) -> Outcome {
    match its_reason(status, heard, exit_code) {
        // QEMU does not say which vCPU it was.
        Some(reason @ Reason::Crash { .. }) => {
            let message = Some("the guest crashed: a triple fault".to_owned());
            Outcome { message, ..Outcome::of(&reason) }
        }
        Some(reason) => Outcome::of(&reason),
        None => its_failure(status, heard),
    }
}

/// Why the guest had QEMU end, if it had.
fn its_reason(status: ExitStatus, heard: &Heard, exit_code: ExitCode) -> Option<Reason> {
    let (said, words) = (|mark| heard.marks.contains(&mark), heard.words());
    // This it says, whatever it ends with.
    if words.contains("terminating on signal") {
        return None;
    }
    match status.code()? {
        0 if said(Mark::TripleFault) => {
            Some(Reason::Crash { vcpu: 0, crash: hv::Crash::TripleFault })
        }
        0 if said(Mark::Off) => Some(Reason::Shutdown),
        0 if said(Mark::Restart) => Some(Reason::Restart),
        // With -no-reboot a reset ends it.
        0 if heard.target.arch == Arch::X86_64 => Some(Reason::Reset),
        // With 1 it ends for reasons of its own, too, and says which.
        1 if heard.complained() => None,
        // Semihosting's exit is QEMU's.
        code if said(Mark::Began) => {
            let raw = u64::try_from(code).ok()?;
            exit_code.status(raw).map(|status| Reason::Exit { raw, status })
        }
        _ => None,
    }
}

/// The outcome of a run that QEMU ended for reasons of its own.
fn its_failure(status: ExitStatus, heard: &Heard) -> Outcome {
    let words = heard.words();
    let separator = if words.is_empty() { "" } else { ": " };
    let remedy = match words.contains("sandbox") {
        true => "; this QEMU has no jail: --jail=off runs a guest you trust without",
        false => "",
    };
    let why = format!("QEMU ended before the guest did ({status}){separator}{words}{remedy}");
    Outcome::failed(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Origin;
    use std::os::unix::process::ExitStatusExt;

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn heard(arch: Arch, log: &str, words: &str) -> Heard {
        let mut heard = Heard::new(Target::of(arch));
        heard.on_log(log.as_bytes());
        heard.on_stderr(words.as_bytes());
        heard
    }

    fn outcome(status: ExitStatus, heard: &Heard) -> Outcome {
        super::outcome(status, heard, crate::family::ends::AARCH64.code())
    }

    fn on_pc(log: &str, words: &str) -> Heard {
        heard(Arch::X86_64, log, words)
    }

    fn on_virt(log: &str, words: &str) -> Heard {
        heard(Arch::Aarch64, log, words)
    }

    #[test]
    fn a_reset_ends_with_0_and_a_triple_fault_with_126() {
        let reset = outcome(exited(0), &on_pc("CPU Reset (CPU 0)\nEAX=0\n", ""));
        assert_eq!((reset.status, reset.reason, reset.message), (0, "reset", None));
        let crash = outcome(exited(0), &on_pc("CPU Reset (CPU 0)\nTriple fault\n", ""));
        assert_eq!((crash.status, crash.reason), (126, "crash"));
        assert_eq!(crash.message.as_deref(), Some("the guest crashed: a triple fault"));
    }

    const BEGAN: &str = "{\"return\": {}}\n{\"event\": \"RESUME\"}\n";

    #[test]
    fn semihosting_ends_with_the_guests_status_and_psci_with_one_that_nobody_knows() {
        for status in [0, 1, 7, 255] {
            let exit = outcome(exited(status), &on_virt(BEGAN, ""));
            let status = u8::try_from(status).unwrap();
            assert_eq!((exit.status, exit.origin, exit.reason), (status, Origin::Guest, "exit"));
        }
        for (reason, word) in [("guest-shutdown", "shutdown"), ("guest-reset", "reset")] {
            let event =
                format!("{{\"event\": \"SHUTDOWN\", \"data\": {{\"reason\": \"{reason}\"}}}}\n");
            let end = outcome(exited(0), &on_virt(&(BEGAN.to_owned() + &event), ""));
            assert_eq!((end.status, end.origin, end.reason), (0, Origin::Unknown, word));
        }
    }

    #[test]
    fn a_guest_that_ends_with_1_is_told_from_a_qemu_that_does() {
        let warned = "qemu-system-aarch64: warning: something\n";
        let guest = outcome(exited(1), &on_virt(BEGAN, warned));
        assert_eq!((guest.status, guest.origin), (1, Origin::Guest));
        let broken = "qemu-system-aarch64: -device x: no\n";
        for heard in [on_virt(BEGAN, broken), on_virt("", broken), on_virt("", "")] {
            let failed = outcome(exited(1), &heard);
            assert_eq!((failed.status, failed.origin), (125, Origin::Runner), "{heard:?}");
        }
        assert_eq!(outcome(exited(0), &on_virt("", "")).status, 125, "it never ran");
    }

    #[test]
    fn a_qemu_that_fails_ends_with_125_and_its_words_on_one_line() {
        let words = "qemu-system-x86_64: -m 1T: no\n\n  try less\n";
        let failed = outcome(exited(1), &on_pc("", words));
        assert_eq!((failed.status, failed.reason), (125, "failed"));
        let message = failed.message.unwrap();
        assert!(message.ends_with("qemu-system-x86_64: -m 1T: no; try less"), "{message}");
    }

    #[test]
    fn a_qemu_that_somebody_ended_is_not_a_guest_that_did() {
        let words = |program| format!("{program}: terminating on signal 15 from pid 1 (init)");
        let pc = on_pc("", &words("qemu-system-x86_64"));
        let event = "{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"host-signal\"}}\n";
        let virt = on_virt(&(BEGAN.to_owned() + event), &words("qemu-system-aarch64"));
        for heard in [pc, virt] {
            assert_eq!(outcome(exited(0), &heard).status, 125);
        }
        let killed = outcome(ExitStatus::from_raw(9), &on_pc("Triple fault", ""));
        assert_eq!(killed.status, 125);
        assert!(killed.message.is_some_and(|message| message.ends_with("(SIGKILL))")));
    }

    #[test]
    fn a_mark_is_found_across_two_reads_and_the_log_is_not_kept() {
        let mut heard = on_pc(&"x".repeat(100_000), "");
        heard.on_log(b"\nTriple");
        assert!(heard.marks.is_empty() && heard.log.len() <= 12);
        heard.on_log(b" fault\n");
        heard.on_log(b"more, and one more Triple fault");
        assert_eq!(heard.marks, [Mark::TripleFault]);
        let mut heard = on_virt("{\"event\": \"RESU", "");
        heard.on_log(b"ME\"}\n{\"reason\": \"guest-shut");
        heard.on_log(b"down\"}");
        assert_eq!(heard.marks, [Mark::Began, Mark::Off]);
    }

    #[test]
    fn only_the_first_byte_at_the_exit_port_counts() {
        let mut heard = on_pc("", "");
        heard.on_exit_port(&[0xff, 1]);
        heard.on_exit_port(&[2]);
        assert_eq!(heard.exit, Some(0xff));
    }

    #[test]
    fn what_qemu_says_is_kept_up_to_a_bound() {
        let mut heard = on_pc("", "");
        for _ in 0..100 {
            heard.on_stderr(&[b'a'; 1000]);
        }
        assert_eq!(heard.words.len(), MAX_WORDS);
    }
}
