//! Who may send how much (virtio 1.2 §5.10.6.3): both ends say how many bytes they have room for
//! (`buf_alloc`), and how many they have passed on (`fwd_cnt`). Counts wrap.

/// What the guest may be sent, by its own words.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ToGuest {
    room: u32,
    passed_on: u32,
    sent: u32,
}

impl ToGuest {
    /// The guest says how much room it has, and how much it has passed on.
    pub(super) fn hear(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.room = buf_alloc;
        // What it has not passed on can only become less by this: a packet may have been overtaken by
        // another, and nobody passes on what was not sent.
        if self.sent.wrapping_sub(fwd_cnt) <= self.sent.wrapping_sub(self.passed_on) {
            self.passed_on = fwd_cnt;
        }
    }

    /// Bytes that may be sent now.
    pub(super) fn left(self) -> u32 {
        self.room.saturating_sub(self.sent.wrapping_sub(self.passed_on))
    }

    /// So many were sent.
    pub(super) fn spend(&mut self, count: u32) {
        self.sent = self.sent.wrapping_add(count);
    }
}

/// What the guest may send, as it was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct FromGuest {
    /// Bytes that there is room for.
    window: u32,
    received: u32,
    passed_on: u32,
    told: u32,
}

impl FromGuest {
    pub(super) fn new(window: u32) -> Self {
        Self { window, received: 0, passed_on: 0, told: 0 }
    }

    pub(super) fn window(self) -> u32 {
        self.window
    }

    /// So many bytes have come. Whether it was allowed.
    pub(super) fn take(&mut self, count: u32) -> bool {
        let kept = self.received.wrapping_sub(self.passed_on);
        let allowed = count <= self.window.saturating_sub(kept);
        self.received = self.received.wrapping_add(count);
        allowed
    }

    /// So many have found their reader. Whether the guest should hear of it although there is nothing
    /// else to tell: it may be waiting when half of the room, as it knows it, is used.
    pub(super) fn pass_on(&mut self, count: u32) -> bool {
        self.passed_on = self.passed_on.wrapping_add(count);
        self.passed_on.wrapping_sub(self.told) >= self.window / 2
    }

    /// What every packet says: room, and what has been passed on.
    pub(super) fn now(self) -> (u32, u32) {
        (self.window, self.passed_on)
    }

    /// A packet has said it.
    pub(super) fn tell(&mut self) {
        self.told = self.passed_on;
    }
}

#[cfg(test)]
mod tests {
    use super::super::WINDOW;
    use super::*;

    #[test]
    fn the_guest_is_sent_what_it_has_room_for() {
        let mut credit = ToGuest::default();
        assert_eq!(credit.left(), 0);
        credit.hear(1000, 0);
        credit.spend(700);
        assert_eq!(credit.left(), 300);
        credit.hear(1000, 700);
        assert_eq!(credit.left(), 1000);
        credit.spend(1000);
        credit.hear(10, 700);
        assert_eq!(credit.left(), 0, "less room than there is in it");
    }

    #[test]
    fn a_count_that_is_old_or_a_lie_changes_nothing() {
        let mut credit = ToGuest::default();
        credit.hear(1000, 0);
        credit.spend(500);
        credit.hear(1000, 400);
        for fwd_cnt in [0, 399, 501, 1000, u32::MAX, 1 << 31] {
            credit.hear(1000, fwd_cnt);
            assert_eq!(credit.left(), 900, "{fwd_cnt}");
        }
    }

    #[test]
    fn counts_wrap() {
        let mut credit = ToGuest::default();
        let mut window = FromGuest::new(WINDOW);
        for _ in 0..(1u64 << 32) / u64::from(WINDOW) + 2 {
            assert!(window.take(WINDOW));
            assert!(window.pass_on(WINDOW));
            let (room, passed_on) = window.now();
            window.tell();
            credit.spend(WINDOW);
            credit.hear(room, passed_on);
            assert_eq!(credit.left(), WINDOW);
        }
    }

    #[test]
    fn the_guest_may_not_send_more_than_it_was_told() {
        let mut window = FromGuest::new(WINDOW);
        assert!(window.take(WINDOW) && window.take(0));
        assert!(!window.take(1));
        let mut window = FromGuest::new(WINDOW);
        assert!(!window.take(u32::MAX));
        let mut window = FromGuest::new(WINDOW);
        assert!(window.take(WINDOW));
        assert!(!window.pass_on(WINDOW / 2 - 1));
        assert!(window.pass_on(1), "it is told before it has to wait");
        assert_eq!(window.now(), (WINDOW, WINDOW / 2));
        window.tell();
        assert!(!window.pass_on(WINDOW / 2 - 1));
    }
}
