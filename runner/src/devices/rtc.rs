//! The real-time clock of a PC: Motorola MC146818A, ports 0x70 (register number) and 0x71 (register).
//!
//! It tells the host's wall-clock time, in UTC, and cannot be set: a guest that writes the time is
//! told the host's the next time it reads. There are no alarms and no interrupts; what a guest
//! enables in register B never happens. The century, register 0x32, is where ACPI's FADT and most
//! BIOSes have it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hv::Width;
use serde::{Deserialize, Serialize};

use super::state::Refused;
use crate::machine::bus::Device;

/// Ports it answers at, from its base on.
pub const PORTS: u64 = 2;

/// Tells the time since 1970-01-01 00:00 UTC.
pub type WallClock = Box<dyn Fn() -> Duration + Send + Sync>;

/// Registers 0 to 9 are the time and the alarm.
const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const DAY_OF_WEEK: u8 = 6;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const STATUS_A: u8 = 0xa;
const STATUS_B: u8 = 0xb;
const STATUS_C: u8 = 0xc;
const STATUS_D: u8 = 0xd;
/// How many there are.
const REGISTERS: usize = 128;
/// Where the FADT says it is.
pub(crate) const CENTURY: u8 = 0x32;

/// A: the divider runs from 32.768 kHz.
const DIVIDER: u8 = 0x26;
/// A: the time changes within [`UPDATE`]. A guest that has seen this bit clear has that long to read
/// registers that belong together.
const UPDATE_IN_PROGRESS: u8 = 1 << 7;
const UPDATE: Duration = Duration::from_micros(244);
/// B: the guest sets the time, and no update is in progress meanwhile.
const SET: u8 = 1 << 7;
/// B: hours from 0 to 23, which cannot be changed.
const HOURS_24: u8 = 1 << 1;
/// B: numbers are binary, not BCD.
const BINARY: u8 = 1 << 2;
/// D: the battery is well.
const VALID: u8 = 1 << 7;

/// What is kept of it. The time is the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtcState {
    /// The register that port 0x71 is.
    pub index: u8,
    /// What is kept in the registers, those of the time included, whose words are not heard.
    pub kept: Vec<u8>,
}

struct Registers {
    /// The register that port 0x71 is.
    index: u8,
    /// What was written to those that only keep it.
    kept: [u8; REGISTERS],
}

/// The clock.
pub struct Rtc {
    clock: WallClock,
    registers: Mutex<Registers>,
}

impl std::fmt::Debug for Rtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rtc")
    }
}

impl Rtc {
    /// A clock that tells what `clock` does.
    pub fn new(clock: WallClock) -> Self {
        let mut kept = [0; REGISTERS];
        for (register, value) in [(STATUS_A, DIVIDER), (STATUS_B, HOURS_24), (STATUS_D, VALID)] {
            if let Some(kept) = kept.get_mut(usize::from(register)) {
                *kept = value;
            }
        }
        Self { clock, registers: Mutex::new(Registers { index: STATUS_D, kept }) }
    }

    /// What it is while no vCPU runs.
    pub fn describe(&self) -> RtcState {
        let registers = self.lock();
        RtcState { index: registers.index, kept: registers.kept.to_vec() }
    }

    /// Makes it what another one was.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn restore(&self, saved: &RtcState) -> Result<(), Refused> {
        let known = usize::from(saved.index) < REGISTERS;
        Refused::unless(known, "index", &format!("{}, and there are {REGISTERS}", saved.index))?;
        let kept = <[u8; REGISTERS]>::try_from(saved.kept.as_slice());
        let why = |_| format!("{} bytes, and there are {REGISTERS}", saved.kept.len());
        let kept = kept.map_err(|error| Refused::new("kept", why(error)))?;
        let saved = Registers { index: saved.index, kept };
        // What the guest cannot have changed.
        let same = saved.kept(STATUS_A) & UPDATE_IN_PROGRESS == 0
            && saved.kept(STATUS_B) & HOURS_24 != 0
            && (saved.kept(STATUS_C), saved.kept(STATUS_D)) == (0, VALID);
        Refused::unless(same, "kept", "a status register, 10 to 13, has bits that it cannot have")?;
        *self.lock() = saved;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, registers: &Registers) -> u8 {
        let now = || Date::of((self.clock)().as_secs());
        let number = match registers.index {
            STATUS_A => return registers.kept(STATUS_A) | self.update_in_progress(registers),
            SECONDS => now().second,
            MINUTES => now().minute,
            HOURS => now().hour,
            DAY_OF_WEEK => now().day_of_week,
            DAY => now().day,
            MONTH => now().month,
            YEAR => now().year,
            CENTURY => now().century,
            other => return registers.kept(other),
        };
        match registers.kept(STATUS_B) & BINARY {
            0 => bcd(number),
            _ => number,
        }
    }

    /// The bit of that name.
    fn update_in_progress(&self, registers: &Registers) -> u8 {
        let into_second = Duration::from_nanos((self.clock)().subsec_nanos().into());
        let close = into_second.saturating_add(UPDATE) >= Duration::from_secs(1);
        match close && registers.kept(STATUS_B) & SET == 0 {
            true => UPDATE_IN_PROGRESS,
            false => 0,
        }
    }
}

impl Registers {
    fn kept(&self, register: u8) -> u8 {
        self.kept.get(usize::from(register)).copied().unwrap_or_default()
    }

    fn set(&mut self, value: u8) {
        let value = match self.index {
            STATUS_A => value & !UPDATE_IN_PROGRESS,
            STATUS_B => value | HOURS_24,
            STATUS_C | STATUS_D => return,
            _ => value,
        };
        if let Some(kept) = self.kept.get_mut(usize::from(self.index)) {
            *kept = value;
        }
    }
}

/// The ports of an access: the clock is an 8-bit device, and a wider access reaches both.
fn ports(offset: u64, width: Width) -> impl Iterator<Item = u64> {
    (0..width.bytes()).zip(offset..PORTS).map(|(_, port)| port)
}

impl Device for Rtc {
    fn read(&self, offset: u64, width: Width) -> u64 {
        let registers = self.lock();
        let mut bytes = [0xff; 8];
        for (byte, port) in bytes.iter_mut().zip(ports(offset, width)) {
            if port == 1 {
                *byte = self.get(&registers);
            }
        }
        u64::from_le_bytes(bytes)
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let mut registers = self.lock();
        for (port, byte) in ports(offset, width).zip(value.to_le_bytes()) {
            match port {
                // Bit 7 masks NMIs, elsewhere.
                0 => registers.index = byte & 0x7f,
                _ => registers.set(byte),
            }
        }
    }
}

/// Two decimal digits, 4 bits each.
fn bcd(number: u8) -> u8 {
    let (tens, ones) = (number / 10, number % 10);
    tens.wrapping_shl(4) | ones
}

/// A moment as the clock shows it.
#[derive(Debug, PartialEq, Eq)]
struct Date {
    century: u8,
    year: u8,
    month: u8,
    day: u8,
    /// Sunday is 1.
    day_of_week: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

const DAY_SECONDS: u64 = 86_400;
/// The Gregorian calendar repeats itself after 400 years.
const CYCLE_YEARS: u64 = 400;
const CYCLE_DAYS: u64 = 146_097;

impl Date {
    /// The date `seconds` after 1970 began.
    fn of(seconds: u64) -> Self {
        let (days, in_day) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
        let cycles = days / CYCLE_DAYS;
        let mut year = cycles.saturating_mul(CYCLE_YEARS).saturating_add(1970);
        let mut left = days % CYCLE_DAYS;
        while let Some(rest) = left.checked_sub(365_u64.saturating_add(leap(year))) {
            left = rest;
            year = year.saturating_add(1);
        }
        let mut month: u64 = 1;
        for len in [31, 28_u64.saturating_add(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            let Some(rest) = left.checked_sub(len) else { break };
            left = rest;
            month = month.saturating_add(1);
        }
        // 1970 began on a Thursday.
        let day_of_week = (days % 7).saturating_add(4) % 7;
        let small = |value: u64| u8::try_from(value % 100).unwrap_or_default();
        Self {
            century: small(year / 100),
            year: small(year),
            month: small(month),
            day: small(left.saturating_add(1)),
            day_of_week: small(day_of_week.saturating_add(1)),
            hour: small(in_day / 3600),
            minute: small(in_day / 60 % 60),
            second: small(in_day % 60),
        }
    }
}

/// Days more than 365.
fn leap(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    u64::from(leap)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtc(seconds: u64) -> Rtc {
        Rtc::new(Box::new(move || Duration::from_millis(seconds * 1000 + 999)))
    }

    fn register(rtc: &Rtc, index: u8) -> u8 {
        rtc.write(0, Width::W1, index.into());
        rtc.read(1, Width::W1).to_le_bytes()[0]
    }

    fn set(rtc: &Rtc, index: u8, value: u8) {
        rtc.write(0, Width::W1, index.into());
        rtc.write(1, Width::W1, value.into());
    }

    /// 2024-02-29 23:59:58 UTC, a Thursday.
    const LEAP_DAY: u64 = 1_709_251_198;

    #[test]
    fn the_time_is_the_hosts_in_bcd_and_24_hours() {
        let rtc = rtc(LEAP_DAY);
        let time = [CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS, DAY_OF_WEEK];
        let shown = time.map(|index| register(&rtc, index));
        assert_eq!(shown, [0x20, 0x24, 0x02, 0x29, 0x23, 0x59, 0x58, 5]);
        assert_eq!(register(&rtc, STATUS_B) & (HOURS_24 | BINARY), HOURS_24);
        assert_eq!(register(&rtc, STATUS_A) & UPDATE_IN_PROGRESS, 0);
        assert_eq!((register(&rtc, STATUS_C), register(&rtc, STATUS_D)), (0, VALID));
    }

    #[test]
    fn the_end_of_a_second_is_announced_so_that_no_time_is_read_in_pieces() {
        for (nanos, announced) in
            [(0, false), (999_755_999, false), (999_756_000, true), (999_999_999, true)]
        {
            let rtc = Rtc::new(Box::new(move || Duration::new(LEAP_DAY, nanos)));
            let shown = register(&rtc, STATUS_A);
            assert_eq!(shown & UPDATE_IN_PROGRESS != 0, announced, "{nanos}");
            assert_eq!(shown & !UPDATE_IN_PROGRESS, DIVIDER);
            set(&rtc, STATUS_B, SET);
            assert_eq!(register(&rtc, STATUS_A), DIVIDER, "not while the time is being set");
        }
    }

    #[test]
    fn a_guest_that_wants_binary_numbers_gets_them() {
        let rtc = rtc(LEAP_DAY);
        set(&rtc, STATUS_B, BINARY);
        assert_eq!((register(&rtc, HOURS), register(&rtc, SECONDS)), (23, 58));
        assert_eq!(register(&rtc, STATUS_B), BINARY | HOURS_24, "12 hours are not offered");
    }

    #[test]
    fn the_time_cannot_be_set_and_memory_keeps_what_is_written() {
        let rtc = rtc(LEAP_DAY);
        set(&rtc, HOURS, 0x11);
        set(&rtc, STATUS_A, 0xff);
        set(&rtc, STATUS_D, 0);
        set(&rtc, 0x7f, 0x5a);
        assert_eq!(register(&rtc, HOURS), 0x23);
        assert_eq!(register(&rtc, STATUS_A), 0x7f);
        assert_eq!((register(&rtc, STATUS_D), register(&rtc, 0x7f)), (VALID, 0x5a));
    }

    #[test]
    fn the_bit_that_masks_nmis_is_no_part_of_the_number() {
        let rtc = rtc(LEAP_DAY);
        assert_eq!(register(&rtc, 0x80 | YEAR), 0x24);
    }

    #[test]
    fn wide_and_late_accesses_reach_the_two_ports_and_no_more() {
        let rtc = rtc(LEAP_DAY);
        rtc.write(0, Width::W2, 0x5a40);
        assert_eq!(rtc.read(0, Width::W2), !0xff00 | 0x5a00);
        rtc.write(0, Width::W8, u64::MAX);
        rtc.write(1, Width::W8, u64::MAX);
        rtc.write(u64::MAX, Width::W8, 0);
        assert_eq!(rtc.read(u64::MAX, Width::W4), u64::MAX);
        assert_eq!(rtc.read(2, Width::W1), u64::MAX);
    }

    #[test]
    fn dates_follow_the_calendar() {
        let day = |seconds| {
            let Date { century, year, month, day, day_of_week, .. } = Date::of(seconds);
            (century, year, month, day, day_of_week)
        };
        assert_eq!(day(0), (19, 70, 1, 1, 5));
        assert_eq!(day(951_782_400), (20, 0, 2, 29, 3));
        assert_eq!(day(1_767_225_599), (20, 25, 12, 31, 4));
        assert_eq!(day(4_107_542_400), (21, 0, 3, 1, 2), "2100 is no leap year");
        // 400 years later it is the same day of the week.
        assert_eq!(day(CYCLE_DAYS * DAY_SECONDS), (23, 70, 1, 1, 5));
        let _ = Date::of(u64::MAX);
    }

    #[test]
    fn a_restored_clock_has_its_registers_and_the_time_of_the_host() {
        let before = rtc(0);
        set(&before, 0x7f, 0x5a);
        set(&before, STATUS_B, BINARY | SET);
        let saved = before.describe();
        let other = rtc(LEAP_DAY);
        other.restore(&saved).unwrap();
        assert_eq!(other.describe(), saved);
        assert_eq!(other.read(1, Width::W1) & 0xff, u64::from(BINARY | SET | HOURS_24));
        assert_eq!((register(&other, 0x7f), register(&other, HOURS)), (0x5a, 23));
    }

    #[test]
    fn registers_that_a_guest_cannot_have_written_are_refused() {
        let good = rtc(0).describe();
        let with = |register: u8, value| {
            let mut bad = good.clone();
            bad.kept[usize::from(register)] = value;
            bad
        };
        for (bad, field) in [
            (RtcState { index: 128, ..good.clone() }, "index"),
            (RtcState { kept: vec![0; 127], ..good.clone() }, "kept"),
            (with(STATUS_A, 0x80), "kept"),
            (with(STATUS_B, 0), "kept"),
            (with(STATUS_C, 1), "kept"),
            (with(STATUS_D, 0), "kept"),
        ] {
            assert_eq!(rtc(0).restore(&bad).unwrap_err().field, field);
        }
    }
}
