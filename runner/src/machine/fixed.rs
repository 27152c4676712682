//! The devices that every guest has, as its board has them: the serial port, the clock, and where a
//! guest ends by a register.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hv::{Address, Arch, GuestMemory, Vm};

use super::Error;
use super::bus::Bus;
use super::devices::{interrupt, level};
use super::map::{pc, virt};
use super::stop::Stop;
use crate::boot::BootPlan;
use crate::devices::pl011::Pl011;
use crate::devices::pl031::Pl031;
use crate::devices::power::{ExitPort, PanicPort, ResetPort};
use crate::devices::rtc::{self, Rtc};
use crate::devices::semihosting::Semihosting;
use crate::devices::serial::{self, Com1};
use crate::devices::uart::{Drained, Uart};
use crate::io::console::Shared;

/// What the serial port is connected to.
pub(super) struct Console {
    /// Where what the guest sends goes.
    pub(super) stdout: Shared,
    /// Called when it takes more input.
    pub(super) drained: Drained,
}

/// Puts them on the bus, and returns the serial port.
pub(super) fn add<V: Vm>(
    vm: &V,
    memory: &GuestMemory,
    boot: &BootPlan,
    console: Console,
    stop: &Stop,
    bus: &mut Bus,
) -> Result<Arc<dyn Uart>, Error> {
    match boot.board.arch {
        Arch::X86_64 => pc(vm, boot, console, stop, bus),
        Arch::Aarch64 => {
            let semihosting =
                Semihosting::new(memory.clone(), boot.family.ends.code(), stop.clone());
            bus.answer_calls(Arc::new(semihosting));
            virt(vm, console, bus)
        }
    }
}

fn virt<V: Vm>(vm: &V, console: Console, bus: &mut Bus) -> Result<Arc<dyn Uart>, Error> {
    let Console { stdout, drained } = console;
    let pl011 = Arc::new(Pl011::new(level(vm, virt::PL011_LINE)?, stdout, drained));
    bus.add(Address::Mmio(virt::PL011), virt::REGISTERS, pl011.clone());
    let pl031 = Pl031::new(Box::new(wall_clock));
    bus.add(Address::Mmio(virt::PL031), virt::REGISTERS, Arc::new(pl031));
    Ok(pl011)
}

fn pc<V: Vm>(
    vm: &V,
    boot: &BootPlan,
    console: Console,
    stop: &Stop,
    bus: &mut Bus,
) -> Result<Arc<dyn Uart>, Error> {
    let Console { stdout, drained } = console;
    let com1 = Arc::new(Com1::new(interrupt(vm, pc::COM1_LINE)?, stdout, drained));
    bus.add(Address::Port(pc::COM1), serial::PORTS, com1.clone());
    for (port, code) in boot.family.ends.ports() {
        // As wide as the widest access.
        bus.add(Address::Port(port), 4, Arc::new(ExitPort::new(code, stop.clone())));
    }
    if let Some((port, code)) = boot.family.ends.panic() {
        bus.add(Address::Port(port), 1, Arc::new(PanicPort::new(code, stop.clone())));
    }
    bus.add(Address::Port(pc::RESET_PORT), 1, Arc::new(ResetPort::new(stop.clone())));
    bus.add(Address::Port(pc::RTC), rtc::PORTS, Arc::new(Rtc::new(Box::new(wall_clock))));
    Ok(com1)
}

/// The host's time since 1970; a host whose clock stands before that is in 1970.
pub(super) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{FAMILIES, Family};
    use crate::image::testing::ElfFile;
    use crate::image::{Image, Source};
    use crate::io::console::Stdout;
    use crate::io::event::Event;
    use hv::script::Script;
    use hv::{GuestRam, Hypervisor as _, IrqChip, VcpuSeed as _, VmConfig, Width};

    /// The ports at which something answers a guest of `family`.
    fn answering(family: &'static Family) -> Vec<u16> {
        let memory = hv::mem::memory([(0, GuestRam::new(1 << 20).unwrap())]).unwrap();
        let config = VmConfig::new().memory(&memory).irqchip(IrqChip::InKernel).vcpus(1);
        let (vm, seeds) = Script::new(Arch::X86_64).create(config).unwrap();
        let _vcpus: Vec<_> = seeds.into_iter().map(|seed| seed.bind().unwrap()).collect();
        vm.ready().unwrap();
        let source = Source::from_bytes("kernel", &ElfFile::kernel().build());
        let image = Image::recognise(source).unwrap();
        let mut boot = BootPlan::new(&image, image.kernel().clone(), None).unwrap();
        boot.family = family;
        let stop = Stop::default();
        let stdout = Stdout::new(stop.clone(), Arc::new(Event::new().unwrap())).unwrap();
        let stdout = Shared::new(stdout).unwrap();
        let console = Console { stdout, drained: Box::new(|| {}) };
        let mut bus = Bus::default();
        add(&vm, &memory, &boot, console, &stop, &mut bus).unwrap();
        let read = |port: &u16| bus.read(Address::Port(*port), Width::W1);
        (0..=u16::MAX).filter(|port| read(port) != 0xff).collect()
    }

    #[test]
    fn guests_have_the_old_ports_that_their_family_needs_and_no_others() {
        let (exit, power, debug, panic) = (0x501..0x505, 0x604..0x608, 0xf4..0xf8, 0x505..0x506);
        let own = |guests: &str| match guests {
            "Hermit's loader for Multiboot" | "Hermit's loader for Firecracker" => {
                vec![debug.clone()]
            }
            guests if guests == "Unikraft for QEMU" || guests.starts_with("OSv") => {
                vec![exit.clone(), power.clone()]
            }
            // They are told of it by ACPI.
            guests if guests.starts_with("Linux") => vec![exit.clone(), panic.clone()],
            _ => vec![exit.clone()],
        };
        let mut seen = 0;
        for family in FAMILIES.iter().filter(|family| family.ends.port().is_some()) {
            // The clock's index, port 0x70, is only written.
            let everybodys = [0x64..0x65, 0x71..0x72, 0x3f8..0x400];
            let mut wanted: Vec<u16> =
                everybodys.into_iter().chain(own(family.guests)).flatten().collect();
            wanted.sort_unstable();
            assert_eq!(answering(family), wanted, "{}", family.guests);
            seen += 1;
        }
        assert!(seen > 10, "{seen}");
    }
}
