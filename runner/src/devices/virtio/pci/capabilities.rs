//! The capabilities by which drivers find what is in the BAR (virtio 1.2 §4.1.4), and the last of them,
//! which is a way into the BAR by configuration space alone (§4.1.4.9).

use super::registers::{
    BAR_LEN, COMMON, COMMON_LEN, DEVICE, DEVICE_LEN, ISR, NOTIFY, NOTIFY_STEP, PENDING, TABLE,
};
use crate::devices::pci::config::Config;
use crate::devices::pci::msix;
use crate::devices::virtio::transport::Identity;
use hv::Width;

/// Types of virtio capabilities.
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;
const PCI_CFG: u8 = 5;

/// Vendor-specific (PCI Local Bus 3.0, appendix H).
const VENDOR: u8 = 9;
/// Bytes of a virtio capability without what some have behind it.
const PLAIN: u8 = 16;

/// A virtio capability behind its ID and pointer, on BAR 0. `more` is what some have behind it.
fn body(kind: u8, offset: u64, len: u32, more: &[u8]) -> Vec<u8> {
    let size = PLAIN.saturating_add(u8::try_from(more.len()).unwrap_or_default());
    let [o0, o1, o2, o3, ..] = offset.to_le_bytes();
    // Length, type, BAR, ID, 2 of padding; offset and length in the BAR.
    let head = [size, kind, 0, 0, 0, 0, o0, o1, o2, o3];
    [&head[..], &len.to_le_bytes(), more].concat()
}

/// Where in the configuration space are those that do something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// MSI-X's capability.
    pub(super) msix: Option<u16>,
    /// The way into the BAR.
    access: u16,
}

/// Adds all capabilities of a device; `vectors` of MSI-X, if it has that.
pub(super) fn add(config: &mut Config, identity: &Identity, vectors: Option<usize>) -> Places {
    let msix = vectors.map(|vectors| {
        let last = u16::try_from(vectors.saturating_sub(1)).unwrap_or_default();
        // Control: the table's last index. Then the two tables' places, both in BAR 0.
        let [t0, t1, t2, t3, ..] = TABLE.to_le_bytes();
        let [p0, p1, p2, p3, ..] = PENDING.to_le_bytes();
        let [c0, c1] = last.to_le_bytes();
        let [_, writable] = (msix::ENABLE | msix::MASK_ALL).to_le_bytes();
        let body = [c0, c1, t0, t1, t2, t3, p0, p1, p2, p3];
        config.capability(msix::CAPABILITY, &body, &[0, writable])
    });
    let queues = u32::try_from(identity.queues.len()).unwrap_or_default();
    let notify = queues.saturating_mul(NOTIFY_STEP);
    let mut plain = |kind, offset, len, more: &[u8]| {
        config.capability(VENDOR, &body(kind, offset, len, more), &[]);
    };
    plain(COMMON_CFG, COMMON, COMMON_LEN, &[]);
    plain(NOTIFY_CFG, NOTIFY, notify, &NOTIFY_STEP.to_le_bytes());
    plain(ISR_CFG, ISR, 1, &[]);
    // With fields that nobody has offered, which read as 0: Hermit has its driver only of what has all.
    if !identity.config.is_empty() {
        plain(DEVICE_CFG, DEVICE, DEVICE_LEN, &[]);
    }
    // BAR, offset, length and data are the driver's to write.
    let mut writable = [0xff; 18];
    for (at, byte) in writable.iter_mut().enumerate() {
        if at < 2 || (3..6).contains(&at) {
            *byte = 0;
        }
    }
    let access = body(PCI_CFG, 0, 0, &[0; 4]);
    Places { msix, access: config.capability(VENDOR, &access, &writable) }
}

impl Places {
    /// Whether a register is the window of the way into the BAR.
    pub(super) fn is_window(self, register: u16) -> bool {
        register & !3 == self.window()
    }

    /// The window's register.
    pub(super) fn window(self) -> u16 {
        self.access.saturating_add(PLAIN.into())
    }

    /// Where in the BAR the window leads to, if that is inside: nowhere for another BAR, or a length and
    /// an offset that no driver may have.
    pub(super) fn target(self, config: &Config) -> Option<(u64, Width)> {
        let [bar, ..] = config.get(self.access.saturating_add(4)).to_le_bytes();
        let offset = config.get(self.access.saturating_add(8));
        let len = config.get(self.access.saturating_add(12));
        let width = match len {
            1 => Width::W1,
            2 => Width::W2,
            4 => Width::W4,
            _ => return None,
        };
        let inside = offset.is_multiple_of(len) && offset < BAR_LEN;
        (bar == 0 && inside).then_some((offset.into(), width))
    }
}
