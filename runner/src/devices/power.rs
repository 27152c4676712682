//! How an x86_64 guest ends: a value to an exit port, or a reset through the keyboard controller.
//!
//! Which value means what is part of the guest's boot protocol ([`ExitCode`]), not of the device.

use hv::Width;

use crate::machine::bus::Device;
use crate::machine::map::pc::RESET_COMMAND;
use crate::machine::stop::{Reason, Stop};

/// From the value a guest writes to its exit port to the status of this process.
pub type ExitCode = fn(u64) -> u8;

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
        if offset == 0 {
            self.stop.request(Reason::Exit { raw: value, status: (self.code)(value) });
        }
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
        let port = ExitPort::new(|raw| raw.to_le_bytes()[0], stop.clone());
        port.write(0, Width::W4, 0x107);
        port.write(0, Width::W1, 9);
        assert_eq!(stop.reason(), Some(&Reason::Exit { raw: 0x107, status: 7 }));
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
