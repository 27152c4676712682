//! How an x86_64 guest ends: a value to an exit port, word of a panic, or a reset through the keyboard controller.
//!
//! Which value means what is part of the guest's family ([`ExitCode`], `family::ends`), not of the
//! device.

use hv::Width;

use crate::machine::bus::Device;
use crate::machine::map::pc::RESET_COMMAND;
use crate::machine::stop::{Reason, Stop};

/// What the values that a guest may end with mean: the first line that fits counts. Whatever none fits ends
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(pub &'static [(Raw, Status)]);

/// Values as the guest gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raw {
    /// This one.
    Is(u64),
    /// Those that have this bit.
    Bit(u32),
    /// Any.
    Any,
}

/// The exit status of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// This one.
    Is(u8),
    /// The value itself as far as a process's status goes, its low 8 bits, but for failures that would look
    /// like success: those are 255.
    Low,
}

impl ExitCode {
    /// The status that `raw` stands for.
    #[must_use]
    pub fn status(self, raw: u64) -> Option<u8> {
        let fits = |is: &Raw| match *is {
            Raw::Is(value) => value == raw,
            Raw::Bit(bit) => raw.checked_shr(bit).unwrap_or_default() & 1 != 0,
            Raw::Any => true,
        };
        let [low, ..] = raw.to_le_bytes();
        let (_, status) = self.0.iter().find(|(is, _)| fits(is))?;
        Some(match *status {
            Status::Is(status) => status,
            Status::Low if low == 0 && raw != 0 => u8::MAX,
            Status::Low => low,
        })
    }

    /// The same for a person: each value, and the status that it stands for.
    pub fn words(self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().enumerate().map(|(index, (raw, status))| {
            let value = match (raw, index) {
                (Raw::Is(value), _) => value.to_string(),
                (Raw::Bit(bit), _) => format!("any with bit {bit}"),
                (Raw::Any, 0) => "any".to_owned(),
                (Raw::Any, _) => "any other".to_owned(),
            };
            let status = match status {
                Status::Is(status) => status.to_string(),
                Status::Low => "its low 8 bits; 255 where those are 0 and it is not".to_owned(),
            };
            (value, status)
        })
    }
}

/// A port that ends the run with the value written to it (QEMU's `isa-debug-exit`, but exact).
#[derive(Debug)]
pub struct ExitPort {
    code: ExitCode,
    stop: Stop,
}

impl ExitPort {
    /// An exit port whose values mean what `code` says.
    pub fn new(code: ExitCode, stop: Stop) -> Self {
        Self { code, stop }
    }
}

impl Device for ExitPort {
    fn read(&self, _offset: u64, _width: Width) -> u64 {
        0
    }

    fn write(&self, offset: u64, _width: Width, value: u64) {
        if offset == 0
            && let Some(status) = self.code.status(value)
        {
            self.stop.request(Reason::Exit { raw: value, status });
        }
    }
}

/// Where a guest says that its kernel has panicked (pvpanic; QEMU, `docs/specs/pvpanic.rst`). Reads say of which
/// events it may speak: of a panic, after which nothing comes.
#[derive(Debug)]
pub struct PanicPort(ExitPort);

impl PanicPort {
    /// Bit of the event that the kernel has panicked.
    pub const PANICKED: u32 = 0;

    /// The port, whose values mean what `code` says.
    pub fn new(code: ExitCode, stop: Stop) -> Self {
        Self(ExitPort::new(code, stop))
    }
}

impl Device for PanicPort {
    fn read(&self, _offset: u64, _width: Width) -> u64 {
        1 << Self::PANICKED
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        self.0.write(offset, width, value);
    }
}

/// As much of the 8042 keyboard controller as a guest needs to reset itself: its command port, and
/// the command that pulses the processor's reset line (Intel 8042, "pulse output port": 0xf0 to
/// 0xff, a clear bit pulses, bit 0 is reset).
#[derive(Debug)]
pub struct ResetPort {
    stop: Stop,
}

impl ResetPort {
    /// A command port at 0x64.
    pub fn new(stop: Stop) -> Self {
        Self { stop }
    }
}

impl Device for ResetPort {
    /// The status register: both buffers empty, so that a guest need not wait.
    fn read(&self, _offset: u64, _width: Width) -> u64 {
        0
    }

    fn write(&self, _offset: u64, width: Width, value: u64) {
        if width == Width::W1 && value == u64::from(RESET_COMMAND) {
            self.stop.request(Reason::Reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_written_to_the_exit_port_is_the_status() {
        let stop = Stop::default();
        let port = ExitPort::new(ExitCode(&[(Raw::Any, Status::Low)]), stop.clone());
        port.write(1, Width::W1, 3);
        assert!(!stop.requested());
        port.write(0, Width::W4, 0x107);
        port.write(0, Width::W1, 9);
        assert_eq!(stop.reason(), Some(&Reason::Exit { raw: 0x107, status: 7 }));
    }

    #[test]
    fn a_value_that_means_nothing_ends_nothing() {
        let stop = Stop::default();
        let port = ExitPort::new(ExitCode(&[(Raw::Bit(13), Status::Is(0))]), stop.clone());
        for value in [0, 1, 0x1fff, 0xc000, !0x2000] {
            port.write(0, Width::W2, value);
        }
        assert!(!stop.requested());
        port.write(0, Width::W2, 0x3c01);
        assert_eq!(stop.reason(), Some(&Reason::Exit { raw: 0x3c01, status: 0 }));
    }

    #[test]
    fn a_panic_ends_the_run_and_other_events_do_not() {
        let stop = Stop::default();
        let panicked = ExitCode(&[(Raw::Bit(PanicPort::PANICKED), Status::Is(126))]);
        let port = PanicPort::new(panicked, stop.clone());
        assert_eq!(port.read(0, Width::W1), 1);
        // That another kernel takes over, for its dump.
        for value in [0, 2, 0xfe] {
            port.write(0, Width::W1, value);
        }
        assert!(!stop.requested());
        port.write(0, Width::W1, 1);
        assert_eq!(stop.reason(), Some(&Reason::Exit { raw: 1, status: 126 }));
    }

    #[test]
    fn a_status_is_the_first_that_fits_and_0_only_for_success() {
        let low = ExitCode(&[(Raw::Any, Status::Low)]);
        for (raw, wanted) in [(0, 0), (1, 1), (255, 255), (256, 255), (263, 7), (u64::MAX, 255)] {
            assert_eq!(low.status(raw), Some(wanted), "{raw}");
        }
        let code = ExitCode(&[(Raw::Is(41), Status::Is(0)), (Raw::Any, Status::Is(3))]);
        assert_eq!([0, 41, 42].map(|raw| code.status(raw)), [Some(3), Some(0), Some(3)]);
        assert_eq!(ExitCode(&[(Raw::Bit(64), Status::Is(0))]).status(u64::MAX), None);
    }

    #[test]
    fn only_the_reset_command_resets() {
        let stop = Stop::default();
        let port = ResetPort::new(stop.clone());
        for value in [0xfd, 0xff, 0xd1, 0x20] {
            port.write(0, Width::W1, value);
        }
        assert!(!stop.requested());
        port.write(0, Width::W1, RESET_COMMAND.into());
        assert_eq!(stop.reason(), Some(&Reason::Reset));
        assert_eq!(port.read(0, Width::W1), 0);
    }
}
