//! Message-signalled interrupts (PCI Local Bus 3.0, 6.8.2): MSI-X's table and pending bits, which are
//! in the function's BAR, and its capability's control register.
//!
//! Messages are sent with the lock held, so that none comes after a guest's write that masks it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hv::Width;

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

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    data: u32,
    masked: bool,
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

    /// Sends the message of `vector`, or keeps it until the vector is no longer masked.
    pub fn raise(&self, vector: usize) {
        let mut state = self.lock();
        if vector < state.entries.len() && state.enabled {
            state.pending |= bit(vector);
            self.send_pending(&mut state);
        }
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

fn bit(vector: usize) -> u64 {
    u32::try_from(vector).ok().and_then(|vector| 1u64.checked_shl(vector)).unwrap_or_default()
}
