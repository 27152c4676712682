//! The bus itself: which function an access is for, in configuration space and in the window of the
//! BARs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hv::Width;

use super::Function;
use crate::devices::state::Refused;
use crate::machine::bus::Device;

/// Bytes of configuration space that each device has on the bus: eight functions of 4 KiB.
const DEVICE: u64 = 0x8000;
/// Bytes of configuration space of a bus, as PCI Express has it in memory.
pub const ECAM: u64 = 1 << 20;

/// A device with one function, its place on the bus, and the BAR's home.
struct Slot {
    device: u8,
    home: (u64, u64),
    function: Arc<dyn Function>,
}

/// Bus 0. Built before the guest runs and never changed after.
#[derive(Default)]
pub struct PciBus(Vec<Slot>);

impl fmt::Debug for PciBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|slot| (slot.device, slot.home))).finish()
    }
}

impl PciBus {
    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts function 0 of `device` on the bus.
    pub fn add(&mut self, device: u8, function: Arc<dyn Function>) {
        let home = function.bar().unwrap_or_default();
        self.0.push(Slot { device, home, function });
    }

    /// Reads configuration space at `offset` from the bus's beginning. Nobody's registers read as ones.
    fn read_config(&self, offset: u64, width: Width) -> u64 {
        if width == Width::W8 {
            let low = self.read_config(offset, Width::W4);
            let high = self.read_config(offset.saturating_add(4), Width::W4);
            return high << 32 | low;
        }
        match self.function(offset, width) {
            Some((function, register)) => function.read_config(register, width).into(),
            None => width.mask(),
        }
    }

    fn write_config(&self, offset: u64, width: Width, value: u64) {
        if width == Width::W8 {
            self.write_config(offset, Width::W4, value & 0xffff_ffff);
            self.write_config(offset.saturating_add(4), Width::W4, value >> 32);
        } else if let Some((function, register)) = self.function(offset, width)
            && let Ok(value) = u32::try_from(value)
        {
            function.write_config(register, width, value);
        }
    }

    /// The function, and the register in it, of an access within four aligned bytes; any other is
    /// nobody's, as PCI Express lets it be.
    fn function(&self, offset: u64, width: Width) -> Option<(&dyn Function, u16)> {
        let within = (offset % 4).saturating_add(width.bytes() as u64) <= 4;
        let device = u8::try_from(offset / DEVICE).ok()?;
        // Of its eight functions there is the first.
        let register = u16::try_from(offset % DEVICE).ok().filter(|register| *register < 0x1000)?;
        let slot = self.0.iter().find(|slot| slot.device == device).filter(|_| within)?;
        Some((&*slot.function, register))
    }

    /// The function in whose BAR all of the access is, and where in it. In a home that is the one whose
    /// home it is, or nobody; elsewhere nobody, where more than one would answer.
    fn claimant(&self, address: u64, width: Width) -> Option<(&dyn Function, u64)> {
        let owner = self.0.iter().find(|slot| inside(slot.home, address, width).is_some());
        let slots = self.0.iter().filter(|slot| owner.is_none_or(|it| it.device == slot.device));
        let mut claims = slots.filter_map(|slot| {
            let bar = slot.function.bar()?;
            Some((&*slot.function, inside(bar, address, width)?))
        });
        let first = claims.next()?;
        claims.next().is_none().then_some(first)
    }
}

/// Where in `place` an access is that lies in it as a whole.
fn inside((start, len): (u64, u64), address: u64, width: Width) -> Option<u64> {
    let offset = address.checked_sub(start)?;
    (offset.checked_add(width.bytes() as u64)? <= len).then_some(offset)
}

/// Configuration space in memory: an access's offset has device, function and register.
#[derive(Debug)]
pub struct Ecam(pub Arc<PciBus>);

impl Device for Ecam {
    fn read(&self, offset: u64, width: Width) -> u64 {
        match width == Width::W8 && !offset.is_multiple_of(8) {
            true => width.mask(),
            false => self.0.read_config(offset, width),
        }
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        if width != Width::W8 || offset.is_multiple_of(8) {
            self.0.write_config(offset, width, value);
        }
    }
}

/// Where BARs can be.
#[derive(Debug)]
pub struct Window {
    /// The bus.
    pub bus: Arc<PciBus>,
    /// Its first address.
    pub base: u64,
}

impl Device for Window {
    fn read(&self, offset: u64, width: Width) -> u64 {
        match self.bus.claimant(self.base.saturating_add(offset), width) {
            Some((function, offset)) => function.read(offset, width),
            None => width.mask(),
        }
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        if let Some((function, offset)) = self.bus.claimant(self.base.saturating_add(offset), width)
        {
            function.write(offset, width, value);
        }
    }
}

/// A PC's ports for configuration space (PCI Local Bus 3.0, 3.2.2.3.2): an address register, which takes
/// 32 bits at once and nothing else, and a window of four bytes.
#[derive(Debug)]
pub struct Ports {
    bus: Arc<PciBus>,
    address: AtomicU32,
}

/// Bytes of ports.
pub const PORTS: u64 = 8;
const ENABLE: u32 = 1 << 31;
/// Bits 24 to 30, 0 and 1 of the address register are reserved and read as 0.
const ADDRESS: u32 = 0x80ff_fffc;

impl Ports {
    /// The ports of `bus`.
    pub fn new(bus: Arc<PciBus>) -> Self {
        Self { bus, address: AtomicU32::new(0) }
    }

    /// What the guest has last written into the address register.
    pub fn describe(&self) -> u32 {
        self.address.load(Ordering::Relaxed)
    }

    /// Has it written `address`.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn restore(&self, address: u32) -> Result<(), Refused> {
        let why = format!("{address:#x} has bits that are reserved");
        Refused::unless(address & !ADDRESS == 0, "pci_ports", &why)?;
        self.address.store(address, Ordering::Relaxed);
        Ok(())
    }

    /// Offset in the configuration space of a port of the window.
    fn offset(&self, port: u64) -> Option<u64> {
        let address = self.address.load(Ordering::Relaxed);
        let bus = address >> 16 & 0xff;
        if address & ENABLE == 0 || bus != 0 {
            return None;
        }
        // Device, function, register: 5, 3 and 8 bits.
        let function = u64::from(address >> 8 & 0xff);
        Some(function << 12 | u64::from(address & 0xfc) | port.checked_sub(4)?)
    }
}

impl Device for Ports {
    fn read(&self, port: u64, width: Width) -> u64 {
        match (port, self.offset(port)) {
            (0, _) if width == Width::W4 => self.address.load(Ordering::Relaxed).into(),
            (_, Some(offset)) => self.bus.read_config(offset, width),
            _ => width.mask(),
        }
    }

    fn write(&self, port: u64, width: Width, value: u64) {
        if port == 0 && width == Width::W4 {
            let value = u32::try_from(value).unwrap_or_default() & ADDRESS;
            self.address.store(value, Ordering::Relaxed);
        } else if let Some(offset) = self.offset(port) {
            self.bus.write_config(offset, width, value);
        }
    }
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
