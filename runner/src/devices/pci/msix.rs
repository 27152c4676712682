//! Message-signalled interrupts (PCI Local Bus 3.0, 6.8.2): MSI-X's table and pending bits, which are
//! in the function's BAR, and its capability's control register.
//!
//! Messages are sent with the lock held, so that none comes after a guest's write that masks it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hv::Width;
use serde::{Deserialize, Serialize};

use crate::devices::state::Refused;

/// Sends a message: an address and what is written there.
pub type Messages = Arc<dyn Fn(u64, u32) + Send + Sync>;

/// The capability's ID.
pub const CAPABILITY: u8 = 0x11;
/// The control register's bits: MSI-X is on, all vectors are masked.
pub const ENABLE: u16 = 1 << 15;
/// All vectors are masked.
pub const MASK_ALL: u16 = 1 << 14;
/// Bytes of the table for each vector.
pub const ENTRY: u64 = 16;
/// The most vectors here: one word of pending bits.
pub const MOST: usize = 64;

/// A vector's control word: it is masked.
const MASKED: u32 = 1;

/// What is kept of MSI-X, beside its capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MsixState {
    /// The vectors.
    pub entries: Vec<Entry>,
    /// Those that have something to say, a bit for each.
    pub pending: u64,
}

/// A vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where its message goes, a multiple of 4.
    pub address: u64,
    /// The message.
    pub data: u32,
    /// It is not sent.
    pub masked: bool,
}

#[derive(Debug)]
struct State {
    entries: Vec<Entry>,
    pending: u64,
    enabled: bool,
    masked: bool,
    /// The function may write to memory, which is what a message is.
    bus_master: bool,
}

/// MSI-X of one function.
pub struct Msix {
    state: Mutex<State>,
    send: Messages,
}

impl fmt::Debug for Msix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Msix").field(&*self.lock()).finish()
    }
}

impl Msix {
    /// `vectors` of them, at most [`MOST`], off and masked.
    pub fn new(vectors: usize, send: Messages) -> Self {
        let entry = Entry { address: 0, data: 0, masked: true };
        let entries = vec![entry; vectors.min(MOST)];
        let (pending, enabled, masked, bus_master) = (0, false, false, false);
        Self { state: Mutex::new(State { entries, pending, enabled, masked, bus_master }), send }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many vectors there are.
    pub fn vectors(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether the guest has switched it on.
    pub fn enabled(&self) -> bool {
        self.lock().enabled
    }

    /// The guest has written the control register, or the command register's bus-master bit.
    pub fn control(&self, control: u16, bus_master: bool) {
        let mut state = self.lock();
        state.enabled = control & ENABLE != 0;
        state.masked = control & MASK_ALL != 0;
        state.bus_master = bus_master;
        self.send_pending(&mut state);
    }

    /// Sends the messages of `vectors`, a bit for each, or keeps them until they are no longer masked.
    /// Whether the guest has switched MSI-X on: nothing is sent or kept where it has not.
    pub fn raise(&self, vectors: u64) -> bool {
        let mut state = self.lock();
        if state.enabled {
            state.pending |= vectors & vectors_of(state.entries.len());
            self.send_pending(&mut state);
        }
        state.enabled
    }

    /// Its table and what is pending.
    pub fn describe(&self) -> MsixState {
        let state = self.lock();
        MsixState { entries: state.entries.clone(), pending: state.pending }
    }

    /// Has them what they were. Nothing is sent before the control register is.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn restore(&self, saved: &MsixState) -> Result<(), Refused> {
        let mut state = self.lock();
        let (count, own) = (saved.entries.len(), state.entries.len());
        Refused::unless(count == own, "entries", &format!("{count}, and it has {own}"))?;
        let odd = saved.entries.iter().position(|entry| entry.address % 4 != 0);
        if let Some(entry) = odd {
            return Err(Refused::new(&format!("entries[{entry}].address"), "no multiple of 4"));
        }
        let unknown = saved.pending & !vectors_of(own);
        let why = format!("{unknown:#x} is of vectors that do not exist");
        Refused::unless(unknown == 0, "pending", &why)?;
        state.entries.copy_from_slice(&saved.entries);
        state.pending = saved.pending;
        Ok(())
    }

    /// What was kept is forgotten: the device was reset.
    pub fn forget(&self) {
        self.lock().pending = 0;
    }

    fn send_pending(&self, state: &mut State) {
        if state.pending == 0 || !state.enabled || state.masked || !state.bus_master {
            return;
        }
        for (vector, entry) in state.entries.iter().enumerate() {
            if state.pending & bit(vector) != 0 && !entry.masked {
                state.pending &= !bit(vector);
                (self.send)(entry.address, entry.data);
            }
        }
    }

    /// Reads the table. Accesses other than of aligned 4 or 8 bytes read as 0.
    pub fn read_table(&self, offset: u64, width: Width) -> u64 {
        let state = self.lock();
        by_words(offset, width, |word| state.word(word))
    }

    /// Writes it, in the same way.
    pub fn write_table(&self, offset: u64, width: Width, value: u64) {
        let mut state = self.lock();
        match width {
            Width::W4 if offset.is_multiple_of(4) => state.set_word(offset / 4, value),
            Width::W8 if offset.is_multiple_of(8) => {
                state.set_word(offset / 4, value & 0xffff_ffff);
                state.set_word((offset / 4).saturating_add(1), value >> 32);
            }
            _ => {}
        }
        self.send_pending(&mut state);
    }

    /// Reads the pending bits. They cannot be written.
    pub fn read_pending(&self, offset: u64, width: Width) -> u64 {
        let pending = self.lock().pending;
        by_words(offset, width, |word| match word {
            0 => pending & 0xffff_ffff,
            1 => pending >> 32,
            _ => 0,
        })
    }
}

impl State {
    fn word(&self, word: u64) -> u64 {
        let entry = usize::try_from(word / 4).ok().and_then(|index| self.entries.get(index));
        let Some(entry) = entry else { return 0 };
        match word % 4 {
            0 => entry.address & 0xffff_ffff,
            1 => entry.address >> 32,
            2 => entry.data.into(),
            _ => entry.masked.into(),
        }
    }

    fn set_word(&mut self, word: u64, value: u64) {
        let entry = usize::try_from(word / 4).ok().and_then(|index| self.entries.get_mut(index));
        let (Some(entry), Ok(value)) = (entry, u32::try_from(value)) else { return };
        match word % 4 {
            // Messages are of four aligned bytes.
            0 => entry.address = entry.address & !0xffff_ffff | u64::from(value & !3),
            1 => entry.address = entry.address & 0xffff_ffff | u64::from(value) << 32,
            2 => entry.data = value,
            _ => entry.masked = value & MASKED != 0,
        }
    }
}

fn by_words(offset: u64, width: Width, word: impl Fn(u64) -> u64) -> u64 {
    match width {
        Width::W4 if offset.is_multiple_of(4) => word(offset / 4),
        Width::W8 if offset.is_multiple_of(8) => {
            word((offset / 4).saturating_add(1)) << 32 | word(offset / 4)
        }
        _ => 0,
    }
}

/// A bit for each of so many: one more bit than there are, less one.
fn vectors_of(count: usize) -> u64 {
    bit(count).wrapping_sub(1)
}

fn bit(vector: usize) -> u64 {
    u32::try_from(vector).ok().and_then(|vector| 1u64.checked_shl(vector)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Width::{W1, W2, W4, W8};

    /// MSI-X with three vectors, and what it sent since it was last asked.
    fn msix() -> (Msix, impl Fn() -> Vec<(u64, u32)>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        let msix = Msix::new(3, Arc::new(move |at, data| log.lock().unwrap().push((at, data))));
        (msix, move || std::mem::take(&mut *sent.lock().unwrap()))
    }

    /// The same, switched on, with a message in each vector and none masked.
    fn ready() -> (Msix, impl Fn() -> Vec<(u64, u32)>) {
        let (msix, sent) = msix();
        for vector in 0..3 {
            msix.write_table(ENTRY * vector, W4, 0xfee0_0000 + 0x1000 * vector);
            msix.write_table(ENTRY * vector + 8, W4, 0x40 + vector);
            msix.write_table(ENTRY * vector + 12, W4, 0);
        }
        msix.control(ENABLE, true);
        (msix, sent)
    }

    const MESSAGES: [(u64, u32); 3] =
        [(0xfee0_0000, 0x40), (0xfee0_1000, 0x41), (0xfee0_2000, 0x42)];

    #[test]
    fn after_reset_it_is_off_and_every_vector_is_masked_and_empty() {
        let (msix, sent) = msix();
        assert!(!msix.enabled() && msix.vectors() == 3);
        let table: Vec<u64> = (0..12).map(|word| msix.read_table(4 * word, W4)).collect();
        assert_eq!(table, [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
        assert!(!msix.raise(0b111), "the pin it is");
        assert_eq!((msix.read_pending(0, W8), sent()), (0, vec![]));
    }

    #[test]
    fn a_table_entry_takes_words_and_pairs_of_words_and_nothing_else() {
        let (msix, _) = msix();
        for (at, value) in [(16, 0xffff_ffff), (20, 0x89ab_cdef), (24, 0x1234_5678), (28, u64::MAX)]
        {
            msix.write_table(at, W4, value & W4.mask());
        }
        // The message's address is a multiple of 4, and of the control word there is one bit.
        for (at, width, value) in [
            (16, W4, 0xffff_fffc),
            (20, W4, 0x89ab_cdef),
            (24, W4, 0x1234_5678),
            (28, W4, 1),
            (16, W8, 0x89ab_cdef_ffff_fffc),
            (24, W8, 0x0000_0001_1234_5678),
        ] {
            assert_eq!(msix.read_table(at, width), value, "{at} {width:?}");
        }
        msix.write_table(24, W8, 0x2_0000_0007);
        assert_eq!(msix.read_table(24, W8), 7, "unmasked, with other data");
        for at in 16..32u64 {
            let before = [msix.read_table(16, W8), msix.read_table(24, W8)];
            for width in [W1, W2, W4, W8].into_iter().filter(|width| match width {
                W1 | W2 => true,
                width => !at.is_multiple_of(width.bytes() as u64),
            }) {
                msix.write_table(at, width, 0x5a5a_5a5a_5a5a_5a5a & width.mask());
                assert_eq!(msix.read_table(at, width), 0, "{at} {width:?}");
            }
            assert_eq!([msix.read_table(16, W8), msix.read_table(24, W8)], before, "{at}");
        }
    }

    #[test]
    fn there_is_nothing_behind_the_last_entry() {
        let (msix, sent) = ready();
        for at in [48, 56, 0xff8, u64::MAX - 7] {
            msix.write_table(at, W8, u64::MAX);
            assert_eq!((msix.read_table(at, W8), msix.read_pending(at, W8)), (0, 0), "{at:#x}");
        }
        // P38: what there is no vector for is neither sent nor kept.
        assert!(msix.raise(u64::MAX << 3));
        assert_eq!((msix.read_pending(0, W8), sent()), (0, vec![]));
        let many = Msix::new(1000, Arc::new(|_, _| ()));
        assert_eq!(many.vectors(), MOST);
        many.control(ENABLE, true);
        many.raise(u64::MAX);
        assert_eq!(many.read_pending(0, W8), u64::MAX);
    }

    #[test]
    fn every_vector_has_its_message_and_two_at_once_are_two() {
        let (msix, sent) = ready();
        assert!(msix.raise(0b010));
        assert_eq!(sent(), MESSAGES[1..2]);
        assert!(msix.raise(0b101));
        assert_eq!(sent(), [MESSAGES[0], MESSAGES[2]]);
        assert!(msix.raise(0));
        assert_eq!(sent(), []);
    }

    #[test]
    fn what_a_masked_vector_has_to_say_is_pending_and_sent_once_when_it_is_unmasked() {
        let (msix, sent) = ready();
        msix.write_table(ENTRY + 12, W4, 1);
        for _ in 0..3 {
            msix.raise(0b011);
        }
        assert_eq!(sent(), [MESSAGES[0]; 3], "the other goes on");
        assert_eq!(msix.read_pending(0, W4), 0b010);
        assert_eq!((msix.read_pending(4, W4), msix.read_pending(0, W8)), (0, 0b010));
        assert_eq!((msix.read_pending(0, W1), msix.read_pending(2, W4)), (0, 0), "words alone");
        msix.write_table(ENTRY + 12, W4, 0);
        assert_eq!((sent(), msix.read_pending(0, W8)), (vec![MESSAGES[1]], 0));
        msix.write_table(ENTRY + 12, W4, 0);
        assert_eq!(sent(), []);
    }

    #[test]
    fn the_function_mask_and_the_bus_master_bit_hold_back_every_vector() {
        let (msix, sent) = ready();
        for (control, bus_master) in [(ENABLE | MASK_ALL, true), (ENABLE, false)] {
            msix.control(control, bus_master);
            msix.raise(0b101);
            assert_eq!((sent(), msix.read_pending(0, W8)), (vec![], 0b101));
            msix.control(ENABLE, true);
            assert_eq!((sent(), msix.read_pending(0, W8)), (vec![MESSAGES[0], MESSAGES[2]], 0));
        }
    }

    #[test]
    fn what_is_pending_waits_while_msix_is_off_and_is_forgotten_by_a_reset() {
        let (msix, sent) = ready();
        msix.control(ENABLE | MASK_ALL, true);
        msix.raise(0b001);
        msix.control(0, true);
        assert!(!msix.raise(0b010));
        assert_eq!((sent(), msix.read_pending(0, W8)), (vec![], 0b001));
        msix.forget();
        msix.control(ENABLE, true);
        assert_eq!((sent(), msix.read_pending(0, W8)), (vec![], 0));
    }
}
