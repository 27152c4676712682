//! The guest's address spaces, I/O ports and MMIO, and the devices that answer there; and who answers its
//! hypercalls.

use std::sync::Arc;

use hv::{Address, Width};

/// The vCPU that reads or writes, as a device may ask it.
pub trait Caller {
    /// The guest physical address that one of its virtual ones stands for.
    fn translate(&self, address: u64) -> Option<u64>;
    /// A pointer that it passes in a register beside what it writes ([`hv::Vcpu::argument`]).
    fn argument(&self) -> Option<u64>;
}

/// Who has nothing to say.
struct Nobody;

impl Caller for Nobody {
    fn translate(&self, _address: u64) -> Option<u64> {
        None
    }

    fn argument(&self) -> Option<u64> {
        None
    }
}

/// A device as a vCPU sees it. Called from every vCPU's thread.
pub trait Device: Send + Sync {
    /// The guest reads `width` bytes at `offset` from the device's base.
    fn read(&self, offset: u64, width: Width) -> u64;
    /// The guest writes `value`; bits above `width` are 0.
    fn write(&self, offset: u64, width: Width, value: u64);
    /// The same, for a device that asks its caller for more.
    fn write_by(&self, offset: u64, width: Width, value: u64, _caller: &dyn Caller) {
        self.write(offset, width, value);
    }
}

/// Who answers hypercalls. Called from every vCPU's thread.
pub trait Calls: Send + Sync {
    /// The guest calls `function`. `translate` gives the guest physical address that one of its
    /// virtual addresses stands for.
    fn call(&self, function: u32, args: [u64; 2], translate: &dyn Fn(u64) -> Option<u64>);
}

/// Who hears of accesses that no device answers. Called from every vCPU's thread.
pub trait Stray: Send + Sync {
    /// The guest writes, or reads, where no device is, or past the end of one.
    fn stray(&self, at: Address, write: bool);
}

/// Where a device answers, and which.
struct Entry {
    start: u64,
    len: u64,
    device: Arc<dyn Device>,
}

/// Both address spaces, and hypercalls. Built before the guest runs and never changed after.
#[derive(Default)]
pub struct Bus {
    ports: Vec<Entry>,
    mmio: Vec<Entry>,
    calls: Option<Arc<dyn Calls>>,
    stray: Option<Arc<dyn Stray>>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.ports.iter().map(|entry| ("port", entry.start, entry.len)))
            .entries(self.mmio.iter().map(|entry| ("mmio", entry.start, entry.len)))
            .finish()
    }
}

impl Bus {
    /// Puts `device` at `len` addresses from `at` on.
    ///
    /// # Panics
    /// When another device is there: the machine's map is ours, and it is wrong then.
    #[expect(clippy::panic, reason = "no guest and no user can reach it")]
    pub fn add(&mut self, at: Address, len: u64, device: Arc<dyn Device>) {
        let (entries, start) = match at {
            Address::Port(port) => (&mut self.ports, u64::from(port)),
            Address::Mmio(gpa) => (&mut self.mmio, gpa),
        };
        let index = entries.partition_point(|entry| entry.start < start);
        let end_before = index.checked_sub(1).and_then(|before| entries.get(before));
        let free = end_before.is_none_or(|entry| entry.start + entry.len <= start)
            && entries.get(index).is_none_or(|next| start + len <= next.start);
        if !free {
            panic!("two devices at {at:x?}");
        }
        entries.insert(index, Entry { start, len, device });
    }

    /// Has `calls` answer hypercalls.
    pub fn answer_calls(&mut self, calls: Arc<dyn Calls>) {
        self.calls = Some(calls);
    }

    /// Has `stray` hear of accesses that no device answers.
    pub fn catch_strays(&mut self, stray: Arc<dyn Stray>) {
        self.stray = Some(stray);
    }

    fn strayed(&self, at: Address, write: bool) {
        if let Some(stray) = &self.stray {
            stray.stray(at, write);
        }
    }

    /// Hands a hypercall to who answers it. Without one nothing happens.
    pub fn call(&self, function: u32, args: [u64; 2], translate: &dyn Fn(u64) -> Option<u64>) {
        if let Some(calls) = &self.calls {
            calls.call(function, args, translate);
        }
    }

    /// Reads; where no device is, all bits are set, as on a bus that nobody drives.
    pub fn read(&self, at: Address, width: Width) -> u64 {
        match self.find(at, width) {
            Some((device, offset)) => device.read(offset, width) & width.mask(),
            None => {
                self.strayed(at, false);
                width.mask()
            }
        }
    }

    /// Writes; where no device is, nothing happens. No device can ask who does.
    pub fn write(&self, at: Address, width: Width, value: u64) {
        self.write_by(at, width, value, &Nobody);
    }

    /// The same for `caller`.
    pub fn write_by(&self, at: Address, width: Width, value: u64, caller: &dyn Caller) {
        match self.find(at, width) {
            Some((device, offset)) => device.write_by(offset, width, value, caller),
            None => self.strayed(at, true),
        }
    }

    /// The device that the whole access falls into. One that reaches past a device's end is
    /// nobody's.
    fn find(&self, at: Address, width: Width) -> Option<(&dyn Device, u64)> {
        let (entries, address) = match at {
            Address::Port(port) => (&self.ports, u64::from(port)),
            Address::Mmio(gpa) => (&self.mmio, gpa),
        };
        let index = entries.partition_point(|entry| entry.start <= address).checked_sub(1)?;
        let entry = entries.get(index)?;
        let offset = address.checked_sub(entry.start)?;
        let end = offset.checked_add(width.bytes() as u64)?;
        (end <= entry.len).then_some((&*entry.device, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<(u64, Width, u64)>>);

    impl Device for Recorder {
        fn read(&self, offset: u64, _width: Width) -> u64 {
            0x1122_3344_5566_7700 + offset
        }
        fn write(&self, offset: u64, width: Width, value: u64) {
            self.0.lock().unwrap().push((offset, width, value));
        }
    }

    fn bus() -> (Bus, Arc<Recorder>) {
        let device = Arc::new(Recorder::default());
        let mut bus = Bus::default();
        bus.add(Address::Port(0x3f8), 8, device.clone());
        bus.add(Address::Mmio(0x1000), 0x200, device.clone());
        (bus, device)
    }

    #[test]
    fn a_device_sees_offsets_and_reads_are_cut_to_their_width() {
        let (bus, device) = bus();
        assert_eq!(bus.read(Address::Port(0x3fd), Width::W1), 5);
        assert_eq!(bus.read(Address::Mmio(0x1004), Width::W2), 0x7704);
        bus.write(Address::Mmio(0x11fc), Width::W4, 9);
        assert_eq!(*device.0.lock().unwrap(), [(0x1fc, Width::W4, 9)]);
    }

    #[test]
    fn where_no_device_is_reads_are_ones_and_writes_are_lost() {
        let (bus, device) = bus();
        for at in [
            Address::Port(0x3f7),
            Address::Port(0x400),
            Address::Mmio(0x3f8),
            Address::Mmio(0xfff),
            Address::Mmio(0x1200),
            Address::Mmio(u64::MAX),
            Address::Port(0),
        ] {
            assert_eq!(bus.read(at, Width::W4), 0xffff_ffff, "{at:?}");
            bus.write(at, Width::W4, 1);
        }
        assert!(device.0.lock().unwrap().is_empty());
    }

    #[test]
    fn an_access_that_straddles_a_devices_end_is_nobodys() {
        let (bus, device) = bus();
        assert_eq!(bus.read(Address::Mmio(0x11fd), Width::W4), 0xffff_ffff);
        bus.write(Address::Port(0x3ff), Width::W2, 1);
        assert!(device.0.lock().unwrap().is_empty());
    }

    #[derive(Default)]
    struct Strays(Mutex<Vec<(Address, bool)>>);

    impl Stray for Strays {
        fn stray(&self, at: Address, write: bool) {
            self.0.lock().unwrap().push((at, write));
        }
    }

    #[test]
    fn accesses_that_no_device_answers_are_heard_of() {
        let (mut bus, device) = bus();
        let strays = Arc::new(Strays::default());
        bus.catch_strays(strays.clone());
        assert_eq!(bus.read(Address::Port(0x3f7), Width::W1), 0xff);
        bus.write(Address::Mmio(0x11fd), Width::W4, 1);
        bus.write(Address::Mmio(0x11fc), Width::W4, 1);
        let heard = [(Address::Port(0x3f7), false), (Address::Mmio(0x11fd), true)];
        assert_eq!(*strays.0.lock().unwrap(), heard);
        assert_eq!(device.0.lock().unwrap().len(), 1);
    }

    #[test]
    #[should_panic(expected = "two devices")]
    fn two_devices_at_one_place_are_a_bug_of_ours() {
        let (mut bus, device) = bus();
        bus.add(Address::Port(0x3ff), 1, device);
    }
}
