//! A plan to test with.

use std::sync::Arc;

use crate::boot::{BootPlan, CommandLine};
use crate::config::DiskFormat;
use crate::image::{Image, Source};
use crate::io::lock::{DiskLock, Mode};
use crate::machine::map::MIB;
use crate::machine::slot::VirtioBus;
use crate::plan::{DiskPlan, Plan};

/// The built-in guest with 64 MiB, two vCPUs and disks that are read-only or not.
pub(super) fn plan(read_only: &[bool]) -> Plan {
    plan_of(guests::x86_64::kernels::HELLO, VirtioBus::Mmio, read_only)
}

/// The same with another kernel, and on a bus of choice.
pub(super) fn plan_of(kernel: &'static [u8], bus: VirtioBus, read_only: &[bool]) -> Plan {
    let hello = Source::from_static("hello", kernel);
    let image = Image::recognise(hello).unwrap();
    let command_line = CommandLine::new(["a=1".to_owned()]).unwrap();
    let mut boot = BootPlan::new(&image, image.kernel().clone(), None).unwrap();
    boot.tell(command_line).unwrap();
    let disks = read_only.iter().zip(boot.board.virtio.on(bus)).map(|(read_only, slot)| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(512).unwrap();
        let source = Source::from_file(file, "disk").unwrap();
        let file = Arc::clone(source.file().unwrap());
        let lock = DiskLock::take(&file, "disk", Mode::Write).unwrap();
        let (id, read_only) = (format!("disk{}", slot.index), *read_only);
        let (format, size) = (DiskFormat::Raw, source.len());
        let (scratch, patch) = (None, None);
        DiskPlan { id, source, file, format, size, read_only, scratch, patch, slot, lock }
    });
    Plan {
        format: image.format().to_string(),
        image: "hello".into(),
        boot,
        disks: disks.collect(),
        network: None,
        hvt: None,
        uhyve: None,
        devices: Vec::new(),
        memory: 64 * MIB,
        cpus: 2,
        timeout: None,
        words: Vec::new(),
        bus_was_asked_for: false,
    }
}
