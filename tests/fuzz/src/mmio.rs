//! Two disks on one bus and one worker: registers at any address and width, both queues, rings in
//! the same memory, notifications, resets, in any order. What a good driver of one disk does works
//! whatever becomes of the other.

use std::sync::Arc;

use hv::{Address, Arch, Width};
use runner::devices::virtio::mmio::Mmio;
use runner::machine::bus::Bus;
use runner::machine::map::Board;
use runner::machine::slot::{Place, VIRTIO_WINDOW, VirtioBus};

use super::disks::{Disks, Field, Registers};
use super::input::Input;

/// A list of actions.
pub fn mmio(data: &[u8]) {
    let (mut disks, mut windows) = (Disks::new(), Windows::default());
    for (slot, id) in Board::of(Arch::X86_64).virtio.on(VirtioBus::Mmio).zip(["disk0", "disk1"]) {
        let Place::Mmio { base, .. } = slot.place else { continue };
        let transport = disks.add(id, |_| Arc::new(|| ()));
        windows.bus.add(Address::Mmio(base), VIRTIO_WINDOW, Arc::new(Mmio(transport)));
        windows.bases.push(base);
    }
    disks.attack(&mut windows, Input(data));
}

#[derive(Default)]
struct Windows {
    bus: Bus,
    bases: Vec<u64>,
}

/// The register, or the lower of the two (§4.2.2).
fn register(field: Field) -> u64 {
    match field {
        Field::Status => 0x70,
        Field::DeviceFeaturesSelect => 0x14,
        Field::DeviceFeatures => 0x10,
        Field::DriverFeaturesSelect => 0x24,
        Field::DriverFeatures => 0x20,
        Field::QueueSelect => 0x30,
        Field::QueueSize => 0x38,
        Field::Descriptors => 0x80,
        Field::Available => 0x90,
        Field::Used => 0xa0,
        Field::QueueEnable => 0x44,
        Field::Notify => 0x50,
    }
}

impl Registers for Windows {
    fn set(&self, disk: usize, field: Field, value: u64) {
        let at = self.bases[disk] + register(field);
        let write = |at, half: u64| self.bus.write(Address::Mmio(at), Width::W4, half);
        write(at, value & Width::W4.mask());
        if matches!(field, Field::Descriptors | Field::Available | Field::Used) {
            write(at + 4, value >> 32);
        }
    }

    fn get(&self, disk: usize, field: Field) -> u64 {
        self.bus.read(Address::Mmio(self.bases[disk] + register(field)), Width::W4)
    }

    fn act(&mut self, _disk: usize, input: &mut Input<'_>) {
        let write = input.one_in(2);
        let (at, width) = (self.address(input), input.width());
        match write {
            true => self.bus.write(at, width, input.long() & width.mask()),
            false => assert_eq!(self.bus.read(at, width) & !width.mask(), 0),
        }
    }

    fn restore(&mut self) {}
}

impl Windows {
    /// Mostly a device's, sometimes near one, sometimes anywhere.
    fn address(&self, input: &mut Input<'_>) -> Address {
        match input.byte() % 8 {
            0 => Address::Mmio(input.long()),
            1 => Address::Port(input.half()),
            2 => Address::Mmio(self.bases[0].wrapping_sub(8) + u64::from(input.half() % 0x410)),
            _ => Address::Mmio(self.bases[0] + u64::from(input.half() % 0x100) * 4),
        }
    }
}
