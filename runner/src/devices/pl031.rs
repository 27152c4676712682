//! The real-time clock of an aarch64 machine: a PL031 (Arm DDI 0224, chapter 3). It counts the seconds
//! of the host's wall clock, from 1970 on; a guest that sets it has its own time from then on. Its
//! alarm never comes, and no interrupt is announced.
//!
//! The crate `vm-superio` has one, too, which asks the system for the time itself and panics where that
//! is before 1970.

use std::sync::{Mutex, PoisonError};

use hv::Width;
use serde::{Deserialize, Serialize};

use super::rtc::WallClock;
use super::state::Refused;
use crate::machine::bus::Device;

/// Registers (table 3-1).
mod register {
    /// The time.
    pub(super) const DR: u64 = 0x00;
    /// The alarm's.
    pub(super) const MR: u64 = 0x04;
    /// Sets the time.
    pub(super) const LR: u64 = 0x08;
    /// Bit 0: it runs.
    pub(super) const CR: u64 = 0x0c;
    /// Bit 0: the alarm interrupts.
    pub(super) const IMSC: u64 = 0x10;
    /// `PeriphID0` to `PCellID3`.
    pub(super) const IDS: u64 = 0xfe0;
}

const IDS: [u8; 8] = [0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// Its registers, which are what is kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pl031State {
    /// How far the guest's time is ahead of the host's, in seconds.
    pub ahead: u32,
    /// LR.
    pub load: u32,
    /// MR.
    pub alarm: u32,
    /// IMSC.
    pub mask: u32,
}

/// The clock.
pub struct Pl031 {
    clock: WallClock,
    registers: Mutex<Pl031State>,
}

impl std::fmt::Debug for Pl031 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pl031")
    }
}

impl Pl031 {
    /// A clock that tells what `clock` does.
    pub fn new(clock: WallClock) -> Self {
        Self { clock, registers: Mutex::default() }
    }

    /// What it is while no vCPU runs.
    pub fn describe(&self) -> Pl031State {
        *self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it what another one was.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn restore(&self, saved: Pl031State) -> Result<(), Refused> {
        let why = format!("{:#x} has bits other than 1", saved.mask);
        Refused::unless(saved.mask <= 1, "mask", &why)?;
        *self.registers.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        Ok(())
    }

    /// The seconds that a register has room for: they begin anew in 2106.
    fn now(&self) -> u32 {
        let [b0, b1, b2, b3, ..] = (self.clock)().as_secs().to_le_bytes();
        u32::from_le_bytes([b0, b1, b2, b3])
    }
}

impl Device for Pl031 {
    fn read(&self, offset: u64, _width: Width) -> u64 {
        let registers = self.registers.lock().unwrap_or_else(PoisonError::into_inner);
        let value = match offset {
            register::DR => self.now().wrapping_add(registers.ahead),
            register::MR => registers.alarm,
            register::LR => registers.load,
            register::CR => 1,
            register::IMSC => registers.mask,
            register::IDS.. if offset.is_multiple_of(4) => {
                let index = usize::try_from((offset & 0x1f) >> 2).unwrap_or_default();
                IDS.get(index).copied().unwrap_or_default().into()
            }
            _ => 0,
        };
        value.into()
    }

    fn write(&self, offset: u64, _width: Width, value: u64) {
        let [b0, b1, b2, b3, ..] = value.to_le_bytes();
        let value = u32::from_le_bytes([b0, b1, b2, b3]);
        let mut registers = self.registers.lock().unwrap_or_else(PoisonError::into_inner);
        match offset {
            register::MR => registers.alarm = value,
            register::LR => {
                registers.load = value;
                registers.ahead = value.wrapping_sub(self.now());
            }
            register::IMSC => registers.mask = value & 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    /// A clock, and what it goes by.
    fn clock(seconds: u64) -> (Pl031, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(seconds));
        let told = Arc::clone(&time);
        let tell = move || Duration::from_secs(told.load(Ordering::SeqCst));
        (Pl031::new(Box::new(tell)), time)
    }

    #[test]
    fn it_tells_the_hosts_seconds_until_it_is_set_and_goes_on_from_there() {
        let (clock, time) = clock(1_796_000_000);
        assert_eq!(clock.read(0, Width::W4), 1_796_000_000);
        clock.write(8, Width::W4, 1000);
        assert_eq!((clock.read(0, Width::W4), clock.read(8, Width::W4)), (1000, 1000));
        time.fetch_add(7, Ordering::SeqCst);
        assert_eq!(clock.read(0, Width::W4), 1007);
    }

    #[test]
    fn its_seconds_begin_anew_when_they_are_too_many() {
        let (clock, _) = clock((1 << 32) + 5);
        assert_eq!(clock.read(0, Width::W4), 5);
    }

    #[test]
    fn an_alarm_is_kept_and_never_comes() {
        let (clock, time) = clock(10);
        clock.write(4, Width::W4, 11);
        clock.write(0x10, Width::W4, u64::MAX);
        time.store(12, Ordering::SeqCst);
        let registers = [4, 0xc, 0x10, 0x14, 0x18].map(|at| clock.read(at, Width::W4));
        assert_eq!(registers, [11, 1, 1, 0, 0]);
    }

    #[test]
    fn it_says_whose_it_is_and_bears_any_access() {
        let (clock, _) = clock(0);
        let ids: Vec<_> = (0..8).map(|index| clock.read(0xfe0 + 4 * index, Width::W4)).collect();
        assert_eq!(ids, [0x31, 0x10, 4, 0, 0xd, 0xf0, 5, 0xb1]);
        for offset in (0..0x1000).chain([0xffff, 0x1_0000, u64::MAX]) {
            for value in [0, u64::MAX] {
                clock.write(offset, Width::W8, value);
                clock.read(offset, Width::W1);
            }
        }
    }

    #[test]
    fn a_restored_clock_is_as_far_ahead_as_it_was() {
        let (before, _) = clock(1000);
        before.write(8, Width::W4, 5000);
        before.write(4, Width::W4, 77);
        let saved = before.describe();
        let (other, _) = clock(2000);
        other.restore(saved).unwrap();
        assert_eq!((other.describe(), other.read(0, Width::W4)), (saved, 6000));
        let refused = other.restore(Pl031State { mask: 2, ..saved }).unwrap_err();
        assert_eq!(refused.field, "mask");
    }
}
