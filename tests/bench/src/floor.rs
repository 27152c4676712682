//! The floor: the least a monitor can do to run a guest on KVM. No threads, no devices, no checks.
//! What runner costs beside it is what runner costs.

// UNSAFETY: guest RAM is a raw mapping that KVM is given.
#![allow(unsafe_code)]

use std::fs;
use std::io::Write;

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_MAX_CPUID_ENTRIES, kvm_enable_cap, kvm_regs, kvm_segment,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PAGE_TABLES: usize = 0x2000;

/// Boots the ELF kernel at `path` in 64-bit mode and copies its COM1 to stdout, up to its write to
/// port 0x501.
///
/// # Errors
/// Whatever KVM or the file says.
pub fn boot(path: &str, mib: usize) -> Result<()> {
    let kvm = Kvm::new()?;
    let vm = kvm.create_vm()?;
    vm.set_tss_address(0xfffb_d000)?;
    let memory = map(mib << 20)?;
    let region = kvm_userspace_memory_region {
        memory_size: memory.len() as u64,
        userspace_addr: memory.as_ptr().addr() as u64,
        ..Default::default()
    };
    // SAFETY: the mapping is never unmapped, and only touched while no vCPU runs.
    unsafe { vm.set_user_memory_region(region)? };
    let mut split = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
    if let Some(lines) = split.args.first_mut() {
        *lines = 24;
    }
    vm.enable_cap(&split)?;
    let entry = load(&fs::read(path)?, memory).ok_or("not an ELF64 kernel that fits")?;
    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?)?;
    enter_at(&vcpu, entry, memory)?;
    run(&mut vcpu)
}

fn map(len: usize) -> Result<&'static mut [u8]> {
    // SAFETY: a new private mapping that nobody else knows, kept for the rest of the process.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let base = libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0);
        if base == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(std::slice::from_raw_parts_mut(base.cast(), len))
    }
}

/// Copies the loadable segments of our own guests, and gives their entry.
fn load(elf: &[u8], memory: &mut [u8]) -> Option<u64> {
    let word = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(elf.get(at..at.checked_add(8)?)?.try_into().ok()?))
    };
    let headers = usize::try_from(word(0x20)?).ok()?;
    let count = usize::from(u16::from_le_bytes(elf.get(0x38..0x3a)?.try_into().ok()?));
    for header in (headers..).step_by(56).take(count) {
        if elf.get(header..header + 4)? != [1, 0, 0, 0] {
            continue;
        }
        let field = |at: usize| word(header + at).and_then(|value| usize::try_from(value).ok());
        let (offset, physical, size) = (field(8)?, field(24)?, field(32)?);
        let from = elf.get(offset..offset.checked_add(size)?)?;
        memory.get_mut(physical..physical.checked_add(size)?)?.copy_from_slice(from);
    }
    word(0x18)
}

/// 64-bit mode with the first 8 MiB mapped to themselves.
fn enter_at(vcpu: &VcpuFd, entry: u64, memory: &mut [u8]) -> Result<()> {
    let tables = [(0, 0x3003), (0x1000, 0x4003)];
    let pages = [(0x2000, 0x83), (0x2008, 0x20_0083), (0x2010, 0x40_0083), (0x2018, 0x60_0083)];
    for (at, value) in tables.into_iter().chain(pages) {
        let at = PAGE_TABLES + at;
        let entry = memory.get_mut(at..at + 8).ok_or("no room for page tables")?;
        entry.copy_from_slice(&u64::to_le_bytes(value));
    }
    let data = kvm_segment {
        limit: u32::MAX,
        selector: 16,
        type_: 3,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let mut sregs = vcpu.get_sregs()?;
    sregs.cs = kvm_segment { selector: 8, type_: 11, l: 1, db: 0, ..data };
    (sregs.ds, sregs.es, sregs.ss) = (data, data, data);
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (0x8001_0031, 0x2000, 0x20, 0x500);
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs { rip: entry, rflags: 2, ..Default::default() })?;
    Ok(())
}

fn run(vcpu: &mut VcpuFd) -> Result<()> {
    let mut stdout = std::io::stdout();
    loop {
        match vcpu.run()? {
            VcpuExit::IoOut(0x3f8, data) => stdout.write_all(data)?,
            VcpuExit::IoOut(0x501, _) => return Ok(stdout.flush()?),
            VcpuExit::IoIn(_, data) => data.fill(0x20),
            VcpuExit::IoOut(..) => {}
            other => return Err(format!("unexpected exit: {other:?}").into()),
        }
    }
}
