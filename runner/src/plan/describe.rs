//! A plan for a person: what `-v` says.

use super::{DevicePlan, Plan, UhyvePlan};
use crate::config::DiskFormat;
use crate::image::Segment;
use crate::machine::map::MIB;
use crate::machine::slot::VirtioBus;

/// So many segments are described; kernels have a handful, and a hostile file can have 65,535.
pub(super) const MOST_SEGMENTS: usize = 16;

impl Plan {
    /// The plan for a person: format, entry, devices, memory map; one line each.
    pub fn describe(&self) -> Vec<String> {
        let boot = &self.boot;
        let mut lines = vec![
            format!("image: {} ({})", self.image, self.format),
            format!("entry: {:#x}, {} protocol", boot.entry, boot.protocol),
            format!("command line: {}", boot.command_line.as_str().escape_debug()),
            format!("cpus: {}", self.cpus),
        ];
        lines.extend(boot.kernel.system().map(|system| format!("system: {system}")));
        let ram = boot.board.ram(self.memory);
        for range in &ram {
            let mib = (range.end - range.start) / MIB;
            lines.push(format!("memory: {:#011x}-{:#011x} RAM, {mib} MiB", range.start, range.end));
        }
        lines.extend(describe_segments(boot.kernel.segments()));
        // Where it does not fit, loading it says so.
        if let (Ok(Some(place)), Some(initrd)) = (boot.initrd_place(&ram), &boot.initrd) {
            let (start, end) = (place.start, place.end);
            let name = initrd.name();
            lines.push(format!("memory: {start:#011x}-{end:#011x} ram disk {name}"));
        }
        lines.extend(boot.board.fixed.iter().map(|device| format!("device: {device}")));
        lines.extend(boot.family.own_hardware().iter().map(|device| format!("device: {device}")));
        if self.slots().next().is_some() {
            let bus = if self.is_on_pci() { VirtioBus::Pci } else { VirtioBus::Mmio };
            lines.push(match boot.family.tells(boot.board.arch, bus) {
                Some(told) => format!("devices announced by {told}"),
                None => "devices that the guest looks for itself".to_owned(),
            });
        }
        if boot.acpi.is_some() {
            lines.push("acpi: tables from 0xe0000 on".into());
        }
        for disk in &self.disks {
            let mode = match &disk.scratch {
                Some(scratch) => &format!("ephemeral, written to {}", scratch.folder),
                None if disk.read_only => "read-only",
                None => "read-write",
            };
            let format = match disk.format {
                DiskFormat::Raw => "",
                DiskFormat::Qcow2 => "qcow2, ",
            };
            let (id, name) = (&disk.id, disk.source.name());
            lines.push(format!("device: {id}, {}: {name}, {format}{mode}", disk.slot.place));
        }
        if let Some(hvt) = &self.hvt {
            lines.extend(hvt.describe());
            return lines;
        }
        lines.extend(self.uhyve.iter().flat_map(UhyvePlan::describe));
        lines.push(match &self.network {
            Some(network) => network.describe(),
            None => "network: none".into(),
        });
        lines.extend(self.devices.iter().map(DevicePlan::describe));
        lines
    }
}

fn describe_segments(segments: &[Segment]) -> impl Iterator<Item = String> {
    let more = segments.len().saturating_sub(MOST_SEGMENTS);
    let line = |segment: &Segment| {
        let (start, end) = (segment.paddr, segment.end());
        format!("memory: {start:#011x}-{end:#011x} kernel segment {}", segment.index)
    };
    let rest = (more > 0).then(|| format!("memory: … and {more} more kernel segments"));
    segments.iter().take(MOST_SEGMENTS).map(line).chain(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::ElfFile;
    use crate::image::{Kernel, Source};

    #[test]
    fn a_kernel_of_very_many_segments_is_described_in_few_lines() {
        let source = Source::from_bytes("kernel", &ElfFile::kernel().build());
        let kernel = Kernel::open(&source).unwrap();
        let segment = kernel.segments().first().unwrap();
        let lines = |count| describe_segments(&vec![*segment; count]).collect::<Vec<_>>();
        let line = "memory: 0x000100000-0x000100020 kernel segment 0";
        assert_eq!(lines(MOST_SEGMENTS), [line; MOST_SEGMENTS]);
        let many = lines(60_000);
        assert_eq!(
            (many.len(), many.last().unwrap().as_str()),
            (MOST_SEGMENTS + 1, "memory: … and 59984 more kernel segments",)
        );
    }
}
