//! Sequence numbers (RFC 9293 §3.4): they count bytes and wrap at 2³². Which of two comes first is
//! defined for numbers that are less than 2³¹ apart.

/// A sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seq(pub(super) u32);

const HALF: u32 = 1 << 31;

impl Seq {
    /// The number `count` further on.
    pub(super) fn add(self, count: usize) -> Self {
        Self(self.0.wrapping_add(narrow(count)))
    }

    /// The number `count` before.
    pub(super) fn back(self, count: usize) -> Self {
        Self(self.0.wrapping_sub(narrow(count)))
    }

    /// How far this is behind `start`. `None` when it comes before it.
    pub(super) fn from(self, start: Self) -> Option<usize> {
        let distance = self.0.wrapping_sub(start.0);
        if distance < HALF { usize::try_from(distance).ok() } else { None }
    }

    /// Whether this comes after `other`.
    pub(super) fn is_after(self, other: Self) -> bool {
        self != other && self.from(other).is_some()
    }
}

/// Modulo 2³².
fn narrow(count: usize) -> u32 {
    u32::try_from(count & 0xffff_ffff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap_and_keep_their_order() {
        let late = Seq(u32::MAX - 1);
        assert_eq!(late.add(3), Seq(1));
        assert_eq!(Seq(1).back(3), late);
        assert_eq!(Seq(1).from(late), Some(3));
        assert_eq!(late.from(Seq(1)), None);
        assert_eq!(late.from(late), Some(0));
        assert!(Seq(1).is_after(late) && !late.is_after(Seq(1)) && !late.is_after(late));
        assert_eq!(Seq(7).from(Seq(7).add(1 << 31)), None);
        assert_eq!(Seq(0).add(usize::MAX), Seq(u32::MAX));
    }
}
