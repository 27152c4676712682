//! The virtual timer's arithmetic: when it fires, counted from now.
//!
//! Follows DDI 0487, D12.2 "The AArch64 view of the Generic Timer" and `CNTV_CTL_EL0`. On macOS the
//! guest's counter is `mach_absolute_time()` less the vCPU's offset (Apple's documentation of
//! `hv_vcpu_set_vtimer_offset`). Frequencies are 24 MHz or 1 GHz, by chip and system, and neither
//! divides the other's nanoseconds evenly: everything is computed in 128 bits and rounded up, so that
//! nobody wakes before the time.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

/// `CNTV_CTL_EL0`: the timer is on, its interrupt is masked, its condition is met.
const ENABLE: u64 = 1 << 0;
const IMASK: u64 = 1 << 1;
const ISTATUS: u64 = 1 << 2;

const NANOS: u128 = 1_000_000_000;

/// The longest wait for something that cannot be seen coming (an interrupt that one vCPU sends to
/// another stays inside the framework), in steps from the shortest.
const SHORTEST: Duration = Duration::from_micros(125);
const DOUBLINGS: u32 = 7;

/// When a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It is off or masked.
    Never,
    /// It does already.
    Now,
    /// So long from now.
    In(Duration),
}

/// Whether a timer whose `CNTV_CTL_EL0` is `ctl` asserts its interrupt.
pub fn asserted(ctl: u64) -> bool {
    ctl & (ENABLE | IMASK | ISTATUS) == ENABLE | ISTATUS
}

/// When a timer fires whose `CNTV_CTL_EL0` is `ctl` and whose `CNTV_CVAL_EL0` is `cval`, while the
/// host's counter stands at `counter` and runs at `hertz`, and the guest's is `offset` behind it.
pub fn due(ctl: u64, cval: u64, counter: u64, offset: u64, hertz: u64) -> Due {
    if ctl & (ENABLE | IMASK) != ENABLE {
        return Due::Never;
    }
    match cval.checked_sub(counter.wrapping_sub(offset)) {
        None | Some(0) => Due::Now,
        // A counter that stands still.
        Some(_) if hertz == 0 => Due::Never,
        Some(ticks) => Due::In(duration(ticks, hertz)),
    }
}

/// How long `ticks` take at `hertz`, which is not 0; a part of a nanosecond counts as a whole.
fn duration(ticks: u64, hertz: u64) -> Duration {
    let nanos = u128::from(ticks).saturating_mul(NANOS).div_ceil(u128::from(hertz).max(1));
    let (seconds, rest) = (nanos.checked_div(NANOS), nanos.checked_rem(NANOS));
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(u64::MAX);
    let rest = rest.and_then(|rest| u32::try_from(rest).ok()).unwrap_or(0);
    Duration::new(seconds, rest)
}

/// How long a vCPU waits for an interrupt that nobody announces, when it has found none `times` times
/// before in a row: 125 µs, 250 µs and so on up to 16 ms.
pub fn nap(times: u32) -> Duration {
    SHORTEST.saturating_mul(1 << times.min(DOUBLINGS))
}

/// How long to wait in all: not beyond the timer, and not beyond a [`nap`]. Nothing when the timer
/// fires already.
pub fn wait(due: Due, times: u32) -> Option<Duration> {
    match due {
        Due::Now => None,
        Due::Never => Some(nap(times)),
        Due::In(left) => Some(left.min(nap(times))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MHZ_24: u64 = 24_000_000;
    const GHZ: u64 = 1_000_000_000;

    fn left(cval: u64, count: u64, hertz: u64) -> Due {
        due(ENABLE, cval, count, 0, hertz)
    }

    fn nanos(nanos: u64) -> Due {
        Due::In(Duration::from_nanos(nanos))
    }

    #[test]
    fn a_timer_that_is_off_or_masked_never_fires() {
        for ctl in [0, IMASK, ENABLE | IMASK, ISTATUS, ENABLE | IMASK | ISTATUS] {
            assert_eq!(due(ctl, 0, 1, 0, GHZ), Due::Never, "{ctl:#b}");
            assert!(!asserted(ctl), "{ctl:#b}");
        }
        assert!(!asserted(ENABLE) && asserted(ENABLE | ISTATUS));
        // Bits that mean nothing are not believed.
        assert_eq!(due(ENABLE | !0b111, 0, 1, 0, GHZ), Due::Now);
    }

    #[test]
    fn a_time_that_is_reached_or_past_is_now_however_far() {
        assert_eq!(left(5, 5, GHZ), Due::Now);
        assert_eq!(left(5, 6, GHZ), Due::Now);
        assert_eq!(left(0, u64::MAX, GHZ), Due::Now);
        assert_eq!(left(0, 1, 0), Due::Now);
    }

    #[test]
    fn ticks_become_nanoseconds_at_either_frequency() {
        assert_eq!(left(1_000_001, 1, GHZ), nanos(1_000_000));
        assert_eq!(left(24_000_001, 1, MHZ_24), nanos(1_000_000_000));
        // A day: 1e9 / 24e6 truncated to 41 would be 1.6 % short.
        let day = 86_400;
        assert_eq!(left(day * MHZ_24, 0, MHZ_24), Due::In(Duration::from_secs(day)));
    }

    #[test]
    fn nobody_wakes_before_the_time() {
        // 41.67 ns and 83.33 ns.
        assert_eq!(left(1, 0, MHZ_24), nanos(42));
        assert_eq!(left(2, 0, MHZ_24), nanos(84));
        assert_eq!(left(3, 0, MHZ_24), nanos(125));
        assert_eq!(left(1, 0, u64::MAX), nanos(1));
    }

    #[test]
    fn the_guests_counter_is_its_offset_behind_the_hosts_also_across_zero() {
        assert_eq!(due(ENABLE, 150, 1100, 1000, GHZ), nanos(50));
        assert_eq!(due(ENABLE, 99, 1100, 1000, GHZ), Due::Now);
        // The host's counter has wrapped, or the offset is a negative number.
        assert_eq!(due(ENABLE, 150, 90, u64::MAX - 9, GHZ), nanos(50));
    }

    #[test]
    fn the_largest_numbers_overflow_nothing() {
        let Due::In(longest) = left(u64::MAX, 0, 1) else { panic!("it is not due") };
        assert_eq!(longest, Duration::from_secs(u64::MAX));
        let Due::In(long) = left(u64::MAX, 0, MHZ_24) else { panic!("it is not due") };
        assert_eq!(long.as_secs(), u64::MAX / MHZ_24);
        assert_eq!(left(u64::MAX, 0, 0), Due::Never);
    }

    #[test]
    fn a_wait_ends_with_the_timer_or_a_nap_whichever_is_first() {
        assert_eq!(wait(Due::Now, 0), None);
        assert_eq!(wait(Due::Never, 0), Some(Duration::from_micros(125)));
        assert_eq!(wait(nanos(1000), 9), Some(Duration::from_micros(1)));
        assert_eq!(wait(Due::In(Duration::MAX), 1), Some(Duration::from_micros(250)));
    }

    #[test]
    fn naps_grow_to_sixteen_milliseconds_and_no_further() {
        let naps: Vec<u128> = (0..9).map(|times| nap(times).as_micros()).collect();
        assert_eq!(naps, [125, 250, 500, 1000, 2000, 4000, 8000, 16000, 16000]);
        assert_eq!(nap(u32::MAX), Duration::from_millis(16));
    }
}
