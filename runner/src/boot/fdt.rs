//! The flattened device tree of an aarch64 guest (Devicetree Specification 0.4; crate `vm-fdt`): what
//! QEMU's machine `virt` (hw/arm/virt.c) tells of itself, as far as it is there. What a node has to say
//! is in Linux's `Documentation/devicetree/bindings`, by its `compatible`.

use hv::arch::aarch64::{affinity, gic};
use vm_fdt::{Error, FdtWriter, FdtWriterNode};

use super::{CommandLine, Gpas};
use crate::devices::pci::bus::ECAM;
use crate::machine::map::virt::{PL011, PL011_LINE, PL031, REGISTERS, SPI_0};
use crate::machine::slot::{PciHost, Place, VIRTIO_WINDOW, VirtioSlot};

/// Nodes that others refer to by number.
const GIC: u32 = 1;
const CLOCK: u32 = 2;

/// Kinds of interrupt, and how they are sensed (`arm,gic-v3.yaml`).
const SPI: u32 = 0;
const PPI: u32 = 1;
const EDGE: u32 = 1;
const LEVEL: u32 = 4;

/// PSCI's `CPU_ON` for 64 bits (Arm DEN 0022).
const CPU_ON: u32 = 0xc400_0003;

/// A stretch of PCI memory below 4 GiB.
const PCI_MEMORY: u32 = 0x0200_0000;
/// The same for ports, and for addresses of 64 bits.
const PCI_PORTS: u32 = 0x0100_0000;
const PCI_MEMORY_64: u32 = 0x0300_0000;
/// Where QEMU's `virt` has ports, behind the other window, and how many.
const PORTS: u32 = 0x3eff_0000;
const PORTS_LEN: u32 = 0x1_0000;
/// The upper half of where it has addresses of 64 bits, and how many of them: Linux warns of 4 GiB and more.
const HIGH: u32 = 0x80;
const HIGH_LEN: u32 = 0x4000_0000;

/// What the timers' interrupts are, in the order of their binding (`arm,arch_timer.yaml`): secure,
/// non-secure, virtual, hypervisor. Guests have the second and the third.
const TIMERS: [u32; 4] = [13, 14, 11, 10];

/// What serial port and clock run at, in Hz: of no consequence to either.
const CLOCK_HZ: u32 = 24_000_000;

/// Random bytes for the guest: enough for its generator, and where its kernel is to lie.
pub(super) type Seed = [u8; 40];

/// What the tree describes beside what every machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Number of processors.
    pub cpus: u32,
    /// Virtio devices. Those on the PCI bus a guest finds there.
    pub virtio: Vec<VirtioSlot>,
    /// The PCI bus, if devices are there.
    pub pci: Option<PciHost>,
}

/// What of it is known when the guest is loaded.
pub(super) struct Chosen<'a> {
    pub(super) ram: &'a [Gpas],
    pub(super) ram_disk: Option<&'a Gpas>,
    /// It is a module for Hermit's loader.
    pub(super) is_module: bool,
    pub(super) command_line: &'a CommandLine,
    pub(super) seed: &'a Seed,
}

impl Tree {
    /// The whole tree.
    pub(super) fn bytes(&self, chosen: &Chosen<'_>) -> Result<Vec<u8>, Error> {
        let mut fdt = FdtWriter::new()?;
        let root = fdt.begin_node("")?;
        fdt.property_string("compatible", "linux,dummy-virt")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        parent_interrupts(&mut fdt)?;
        choose(&mut fdt, chosen)?;
        for range in chosen.ram {
            memory(&mut fdt, range)?;
        }
        self.processors(&mut fdt)?;
        self.interrupt_controller(&mut fdt)?;
        clock_and_console(&mut fdt)?;
        for slot in &self.virtio {
            virtio(&mut fdt, slot)?;
        }
        if let Some(host) = &self.pci {
            pci(&mut fdt, host)?;
        }
        fdt.end_node(root)?;
        fdt.finish()
    }

    /// What Hermit has of the machine.
    pub(super) fn processors_and_devices(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        self.processors(fdt)?;
        self.interrupt_controller(fdt)?;
        for slot in &self.virtio {
            virtio(fdt, slot)?;
        }
        match &self.pci {
            Some(host) => pci(fdt, host),
            None => Ok(()),
        }
    }

    /// Processors of which no more is to say than that they are there.
    pub(super) fn plain_processors(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        let cpus = fdt.begin_node("cpus")?;
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 0)?;
        for index in 0..self.cpus {
            let cpu = fdt.begin_node(&format!("cpu@{index:x}"))?;
            fdt.property_string("device_type", "cpu")?;
            fdt.property_u32("reg", index)?;
            fdt.end_node(cpu)?;
        }
        fdt.end_node(cpus)
    }

    /// Processors, how they are started, and their timers.
    fn processors(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        let cpus = fdt.begin_node("cpus")?;
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 0)?;
        for index in 0..self.cpus {
            // In one cell, which every affinity fits into that the interrupt controller has room for.
            let reg = u32::try_from(affinity(index)).unwrap_or(u32::MAX);
            let cpu = fdt.begin_node(&format!("cpu@{reg:x}"))?;
            fdt.property_string("device_type", "cpu")?;
            fdt.property_string("compatible", "arm,armv8")?;
            fdt.property_u32("reg", reg)?;
            fdt.property_string("enable-method", "psci")?;
            fdt.end_node(cpu)?;
        }
        fdt.end_node(cpus)?;
        let psci = fdt.begin_node("psci")?;
        fdt.property_string_list("compatible", strings(["arm,psci-1.0", "arm,psci-0.2"]))?;
        fdt.property_string("method", "hvc")?;
        // By number as in PSCI 0.1, and as QEMU's `virt` has it: Hermit's kernel looks for no other.
        fdt.property_u32("cpu_on", CPU_ON)?;
        fdt.end_node(psci)?;
        let timer = fdt.begin_node("timer")?;
        fdt.property_string("compatible", "arm,armv8-timer")?;
        fdt.property_array_u32("interrupts", &TIMERS.map(|ppi| [PPI, ppi, LEVEL]).concat())?;
        fdt.property_null("always-on")?;
        fdt.end_node(timer)
    }

    fn interrupt_controller(&self, fdt: &mut FdtWriter) -> Result<(), Error> {
        let node = device(fdt, "intc", gic::DISTRIBUTOR, &["arm,gic-v3"])?;
        let size = gic::REDISTRIBUTOR_SIZE.saturating_mul(self.cpus.into());
        let reg = [gic::DISTRIBUTOR, gic::DISTRIBUTOR_SIZE, gic::REDISTRIBUTORS, size];
        fdt.property_array_u64("reg", &reg)?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("#interrupt-cells", 3)?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_null("ranges")?;
        fdt.property_phandle(GIC)?;
        fdt.end_node(node)
    }
}

/// Makes a whole tree `more` bytes longer, for its reader to use (5.2, `totalsize`).
pub(super) fn make_room(tree: &mut Vec<u8>, more: usize) {
    let len = tree.len().saturating_add(more);
    if let (Ok(total), Some(field)) = (u32::try_from(len), tree.get_mut(4..8)) {
        field.copy_from_slice(&total.to_be_bytes());
        tree.resize(len, 0);
    }
}

/// Whose interrupts those of all devices are.
pub(super) fn parent_interrupts(fdt: &mut FdtWriter) -> Result<(), Error> {
    fdt.property_u32("interrupt-parent", GIC)
}

/// A piece of RAM.
pub(super) fn memory(fdt: &mut FdtWriter, range: &Gpas) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("memory@{:x}", range.start))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[range.start, range.end - range.start])?;
    fdt.end_node(node)
}

/// What the kernel is told, and where it finds its console.
fn choose(fdt: &mut FdtWriter, chosen: &Chosen<'_>) -> Result<(), Error> {
    let node = fdt.begin_node("chosen")?;
    // Where nothing is said, what is built into a kernel counts: OSv has a place for it in its Image.
    if !chosen.command_line.is_empty() {
        fdt.property_string("bootargs", chosen.command_line.as_str())?;
    }
    fdt.property_string("stdout-path", &format!("/pl011@{PL011:x}"))?;
    let ram_disk = chosen.ram_disk.filter(|_| !chosen.is_module);
    if let Some(place) = ram_disk {
        fdt.property_u64("linux,initrd-start", place.start)?;
        fdt.property_u64("linux,initrd-end", place.end)?;
    }
    let (kaslr, rng) = chosen.seed.split_at(8);
    fdt.property("kaslr-seed", kaslr)?;
    fdt.property("rng-seed", rng)?;
    if let Some(place) = chosen.ram_disk.filter(|_| chosen.is_module) {
        module(fdt, place)?;
    }
    fdt.end_node(node)
}

/// A module as QEMU's `guest-loader` tells of one (QEMU, `docs/system/guest-loader.rst`): where it is stands in
/// its name, with the `0x` without which Hermit's loader takes that for decimal.
fn module(fdt: &mut FdtWriter, place: &Gpas) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("module@{:#010x}", place.start))?;
    let compatible = strings(["multiboot,module", "multiboot,ramdisk"]);
    fdt.property_string_list("compatible", compatible)?;
    fdt.property_array_u64("reg", &[place.start, place.end - place.start])?;
    fdt.end_node(node)
}

/// The devices that the machine always has. The clock never interrupts, and so has no interrupt.
fn clock_and_console(fdt: &mut FdtWriter) -> Result<(), Error> {
    let clock = fdt.begin_node("apb-pclk")?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", CLOCK_HZ)?;
    fdt.property_string("clock-output-names", "clk24mhz")?;
    fdt.property_phandle(CLOCK)?;
    fdt.end_node(clock)?;
    let pl011 = device(fdt, "pl011", PL011, &["arm,pl011", "arm,primecell"])?;
    fdt.property_array_u64("reg", &[PL011, REGISTERS])?;
    interrupt(fdt, PL011_LINE, LEVEL)?;
    fdt.property_array_u32("clocks", &[CLOCK, CLOCK])?;
    fdt.property_string_list("clock-names", strings(["uartclk", "apb_pclk"]))?;
    fdt.end_node(pl011)?;
    let pl031 = device(fdt, "pl031", PL031, &["arm,pl031", "arm,primecell"])?;
    fdt.property_array_u64("reg", &[PL031, REGISTERS])?;
    fdt.property_u32("clocks", CLOCK)?;
    fdt.property_string("clock-names", "apb_pclk")?;
    fdt.end_node(pl031)
}

fn virtio(fdt: &mut FdtWriter, slot: &VirtioSlot) -> Result<(), Error> {
    let Place::Mmio { base, line } = slot.place else { return Ok(()) };
    let node = device(fdt, "virtio_mmio", base, &["virtio,mmio"])?;
    fdt.property_array_u64("reg", &[base, VIRTIO_WINDOW])?;
    interrupt(fdt, line, EDGE)?;
    fdt.property_null("dma-coherent")?;
    fdt.end_node(node)
}

/// The PCI bus (`host-generic-pci.yaml`; IEEE 1275's PCI binding for addresses): bus 0 alone. A device's address in
/// the interrupt map is its number from bit 11 on. Ports and addresses of 64 bits, which no function here has, are
/// where QEMU's `virt` has them: Hermit's kernel does not go without (`src/arch/aarch64/kernel/pci.rs`, `init`).
fn pci(fdt: &mut FdtWriter, host: &PciHost) -> Result<(), Error> {
    let node = device(fdt, "pcie", host.ecam, &["pci-host-ecam-generic"])?;
    fdt.property_string("device_type", "pci")?;
    fdt.property_array_u64("reg", &[host.ecam, ECAM])?;
    fdt.property_u32("#address-cells", 3)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("#interrupt-cells", 1)?;
    fdt.property_array_u32("bus-range", &[0, 0])?;
    let (window, len) = (host.window, host.window_len);
    let ranges = [
        [PCI_PORTS, 0, 0, 0, PORTS, 0, PORTS_LEN],
        [PCI_MEMORY, 0, window, 0, window, 0, len],
        [PCI_MEMORY_64, HIGH, 0, HIGH, 0, 0, HIGH_LEN],
    ];
    fdt.property_array_u32("ranges", &ranges.concat())?;
    let pin = |device: u8| {
        let spi = host.line_of(device).saturating_sub(SPI_0);
        [u32::from(device) << 11, 0, 0, 1, GIC, 0, 0, SPI, spi, LEVEL]
    };
    fdt.property_array_u32("interrupt-map", &[0, 1, 2, 3].map(pin).concat())?;
    fdt.property_array_u32("interrupt-map-mask", &[3 << 11, 0, 0, 7])?;
    fdt.property_null("dma-coherent")?;
    fdt.end_node(node)
}

/// Begins the node of a device at `base`.
fn device(
    fdt: &mut FdtWriter,
    name: &str,
    base: u64,
    compatible: &[&str],
) -> Result<FdtWriterNode, Error> {
    let node = fdt.begin_node(&format!("{name}@{base:x}"))?;
    let compatible = compatible.iter().map(|&each| each.to_owned()).collect();
    fdt.property_string_list("compatible", compatible)?;
    Ok(node)
}

/// The interrupt of a device, by its INTID.
fn interrupt(fdt: &mut FdtWriter, line: u32, sense: u32) -> Result<(), Error> {
    fdt.property_array_u32("interrupts", &[SPI, line.saturating_sub(SPI_0), sense])
}

fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[cfg(test)]
#[path = "fdt_tests.rs"]
mod tests;
