//! The host bridge, device 0 of the bus: it says that there is a bus, and does nothing. Linux believes
//! in ports for configuration space only where they show one (`pci_sanity_check`).

use hv::Width;

use super::Function;
use super::config::{Config, Identity};

/// Red Hat's, and its host bridge for PCI Express without quirks, which guests know from QEMU.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    class: [0x06, 0, 0],
    revision: 0,
    subsystem: (0, 0),
};

/// The host bridge. Nothing of it can be written.
#[derive(Debug)]
pub struct HostBridge(Config);

impl Default for HostBridge {
    fn default() -> Self {
        Self(Config::new(IDENTITY))
    }
}

impl Function for HostBridge {
    fn read_config(&self, register: u16, width: Width) -> u32 {
        self.0.read(register, width)
    }

    fn write_config(&self, _register: u16, _width: Width, _value: u32) {}

    fn bar(&self) -> Option<(u64, u64)> {
        None
    }

    fn read(&self, _offset: u64, width: Width) -> u64 {
        width.mask()
    }

    fn write(&self, _offset: u64, _width: Width, _value: u64) {}
}
