use std::collections::BTreeMap;

use super::*;
use crate::boot::CommandLine;
use crate::machine::map::Board;
use crate::machine::slot::VirtioBus;
use hv::Arch;

/// Property by node and name: `/cpus/cpu@0 reg`.
type Properties = BTreeMap<String, Vec<u8>>;

fn u32_at(blob: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(blob[at..at + 4].try_into().unwrap())
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(bytes[..end].to_vec()).unwrap()
}

/// What a reader finds in a flattened tree (specification, chapter 5).
fn read(blob: &[u8]) -> Properties {
    assert_eq!((u32_at(blob, 0), u32_at(blob, 4) as usize), (0xd00d_feed, blob.len()));
    let (mut at, names) = (u32_at(blob, 8) as usize, u32_at(blob, 12) as usize);
    let (mut path, mut found) = (Vec::new(), Properties::new());
    loop {
        let token = u32_at(blob, at);
        at += 4;
        match token {
            1 => {
                let name = text(&blob[at..]);
                at = (at + name.len() + 1).next_multiple_of(4);
                path.push(name);
            }
            2 => drop(path.pop().unwrap()),
            3 => {
                let (len, name) = (u32_at(blob, at) as usize, u32_at(blob, at + 4) as usize);
                let node = if path.len() > 1 { path.join("/") } else { "/".into() };
                let name = format!("{node} {}", text(&blob[names + name..]));
                found.insert(name, blob[at + 8..at + 8 + len].to_vec());
                at = (at + 8 + len).next_multiple_of(4);
            }
            9 => return found,
            other => panic!("token {other}"),
        }
    }
}

fn cells(value: &[u8]) -> Vec<u32> {
    value.chunks(4).map(|cell| u32_at(cell, 0)).collect()
}

fn tree(cpus: u32, devices: usize, ram_disk: Option<&Gpas>) -> Properties {
    tree_with(cpus, devices, ram_disk, false)
}

fn tree_with(cpus: u32, devices: usize, ram_disk: Option<&Gpas>, is_module: bool) -> Properties {
    let virtio = Board::of(Arch::Aarch64).virtio.on(VirtioBus::Mmio).take(devices).collect();
    let line = CommandLine::new(["console=ttyAMA0".to_owned(), "a=1".to_owned()]).unwrap();
    let ram = Board::of(Arch::Aarch64).ram(512 << 20);
    let seed = std::array::from_fn(|index| u8::try_from(index).unwrap());
    let chosen = Chosen { ram: &ram, ram_disk, is_module, command_line: &line, seed: &seed };
    read(&Tree { cpus, virtio, pci: None }.bytes(&chosen).unwrap())
}

#[test]
fn where_nothing_is_said_a_kernels_own_command_line_counts() {
    let ram = Board::of(Arch::Aarch64).ram(512 << 20);
    let line = CommandLine::default();
    let (ram_disk, is_module) = (None, false);
    let chosen = Chosen { ram: &ram, ram_disk, is_module, command_line: &line, seed: &[0; 40] };
    let tree = Tree { cpus: 1, virtio: Vec::new(), pci: None };
    assert!(!read(&tree.bytes(&chosen).unwrap()).contains_key("/chosen bootargs"));
}

#[test]
fn the_kernel_finds_memory_its_command_line_ram_disk_console_and_seeds() {
    let tree = tree(1, 0, Some(&(0x5ff0_0000..0x5ff0_1234)));
    assert_eq!(cells(&tree["/memory@40000000 reg"]), [0, 0x4000_0000, 0, 0x2000_0000]);
    assert_eq!(tree["/memory@40000000 device_type"], b"memory\0");
    assert_eq!(tree["/chosen bootargs"], b"console=ttyAMA0 a=1\0");
    assert_eq!(tree["/chosen stdout-path"], b"/pl011@9000000\0");
    assert_eq!(cells(&tree["/chosen linux,initrd-start"]), [0, 0x5ff0_0000]);
    assert_eq!(cells(&tree["/chosen linux,initrd-end"]), [0, 0x5ff0_1234]);
    assert_eq!(tree["/chosen kaslr-seed"], [0, 1, 2, 3, 4, 5, 6, 7]);
    let seed = &tree["/chosen rng-seed"];
    assert_eq!((seed.len(), seed[0], seed[31]), (32, 8, 39));
    assert!(!self::tree(1, 0, None).contains_key("/chosen linux,initrd-start"));
}

#[test]
fn hermits_loader_finds_a_module_where_its_nodes_name_says() {
    let tree = tree_with(1, 0, Some(&(0x400_0000..0x400_1234)), true);
    let node = "/chosen/module@0x04000000";
    assert_eq!(tree[&format!("{node} compatible")], b"multiboot,module\0multiboot,ramdisk\0");
    assert_eq!(cells(&tree[&format!("{node} reg")]), [0, 0x400_0000, 0, 0x1234]);
    assert!(!tree.contains_key("/chosen linux,initrd-start"));
    assert!(tree.contains_key("/chosen rng-seed"));
}

#[test]
fn every_processor_has_its_affinity_and_is_started_by_psci() {
    let tree = tree(18, 0, None);
    assert_eq!(cells(&tree["/cpus/cpu@0 reg"]), [0]);
    assert_eq!(cells(&tree["/cpus/cpu@f reg"]), [0xf]);
    assert_eq!(cells(&tree["/cpus/cpu@101 reg"]), [0x101]);
    assert_eq!(tree["/cpus/cpu@101 enable-method"], b"psci\0");
    assert_eq!(tree.keys().filter(|name| name.ends_with(" enable-method")).count(), 18);
    assert_eq!(tree["/psci method"], b"hvc\0");
    assert_eq!(cells(&tree["/psci cpu_on"]), [0xc400_0003]);
    assert_eq!(tree["/psci compatible"], b"arm,psci-1.0\0arm,psci-0.2\0");
    let interrupts = [[1, 13, 4], [1, 14, 4], [1, 11, 4], [1, 10, 4]].concat();
    assert_eq!(cells(&tree["/timer interrupts"]), interrupts);
}

#[test]
fn the_interrupt_controller_has_a_redistributor_for_each_processor() {
    let tree = tree(3, 0, None);
    let reg = [0, 0x0800_0000, 0, 0x1_0000, 0, 0x080a_0000, 0, 0x6_0000];
    assert_eq!(cells(&tree["/intc@8000000 reg"]), reg);
    assert_eq!(tree["/intc@8000000 compatible"], b"arm,gic-v3\0");
    assert_eq!(tree["/ interrupt-parent"], tree["/intc@8000000 phandle"]);
}

#[test]
fn every_device_is_there_once_with_its_registers_and_its_interrupt() {
    let tree = tree(1, 2, None);
    assert_eq!(cells(&tree["/pl011@9000000 reg"]), [0, 0x0900_0000, 0, 0x1000]);
    assert_eq!(cells(&tree["/pl011@9000000 interrupts"]), [0, 1, 4]);
    assert_eq!(cells(&tree["/pl031@9010000 reg"]), [0, 0x0901_0000, 0, 0x1000]);
    assert!(!tree.contains_key("/pl031@9010000 interrupts"), "it never comes");
    for node in ["/pl011@9000000", "/pl031@9010000"] {
        let clock = &tree["/apb-pclk phandle"];
        assert!(tree[&format!("{node} clocks")].starts_with(clock), "{node}");
    }
    assert_eq!(cells(&tree["/virtio_mmio@a000000 interrupts"]), [0, 16, 1]);
    assert_eq!(cells(&tree["/virtio_mmio@a000200 reg"]), [0, 0x0a00_0200, 0, 0x200]);
    assert_eq!(cells(&tree["/virtio_mmio@a000200 interrupts"]), [0, 17, 1]);
    assert_eq!(tree.keys().filter(|name| name.starts_with("/virtio_mmio@")).count(), 2 * 4);
}

#[test]
fn the_most_processors_and_the_longest_command_line_fit_where_the_tree_goes() {
    let line = CommandLine::new(["x".repeat(0xffff)]).unwrap();
    let ram = Board::of(Arch::Aarch64).ram(512 << 20);
    let (ram_disk, is_module) = (None, false);
    let chosen = Chosen { ram: &ram, ram_disk, is_module, command_line: &line, seed: &[0; 40] };
    let virtio = Board::of(Arch::Aarch64).virtio.on(VirtioBus::Mmio).collect();
    let blob = Tree { cpus: gic::MAX_VCPUS, virtio, pci: None }.bytes(&chosen).unwrap();
    assert!(blob.len() < 0x2_0000, "{:#x}", blob.len());
}

#[test]
fn the_pci_bus_has_memory_where_bars_are_and_beside_it_what_hermits_kernel_insists_on() {
    let host = Board::of(Arch::Aarch64).virtio.pci;
    let line = CommandLine::default();
    let ram = Board::of(Arch::Aarch64).ram(512 << 20);
    let (ram_disk, is_module) = (None, false);
    let chosen = Chosen { ram: &ram, ram_disk, is_module, command_line: &line, seed: &[0; 40] };
    let tree = Tree { cpus: 1, virtio: Vec::new(), pci: Some(host) };
    let tree = read(&tree.bytes(&chosen).unwrap());
    let ranges = cells(&tree["/pcie@3f000000 ranges"]);
    let [ports, memory, high] = ranges.chunks(7).collect::<Vec<_>>()[..] else {
        panic!("{ranges:x?}")
    };
    // What kind, where on the bus, where for a processor, and how much.
    assert_eq!(ports, [0x0100_0000, 0, 0, 0, 0x3eff_0000, 0, 0x1_0000]);
    assert_eq!(memory, [0x0200_0000, 0, host.window, 0, host.window, 0, host.window_len]);
    assert_eq!(high, [0x0300_0000, 0x80, 0, 0x80, 0, 0, 0x4000_0000]);
    // One lies behind the other, and configuration space behind both.
    assert_eq!(host.window + host.window_len, ports[4]);
    assert_eq!(u64::from(ports[4] + ports[6]), host.ecam);
}
