//! Reading and answering what KVM put into a vCPU's shared area (api.rst 5, "The kvm_run
//! structure").

// UNSAFETY: the area is a C union whose valid member the exit reason names, and port data lies
// behind it at an offset that KVM gives.
#![allow(unsafe_code)]

use kvm_bindings::{KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_MMIO, kvm_run};
use kvm_ioctls::VcpuFd;

use crate::access::{Access, Mmio, Port};

/// The port or MMIO access that the last KVM_RUN came out with.
pub(crate) fn access(fd: &mut VcpuFd) -> Option<Access> {
    let run = fd.get_kvm_run();
    match run.exit_reason {
        KVM_EXIT_IO => {
            // SAFETY: the exit reason says that KVM filled this member.
            let io = unsafe { run.__bindgen_anon_1.io };
            Some(Access::Port(Port {
                port: io.port,
                size: usize::from(io.size),
                count: usize::try_from(io.count).ok()?,
                index: 0,
                write: u32::from(io.direction) == KVM_EXIT_IO_OUT,
                offset: usize::try_from(io.data_offset).ok()?,
            }))
        }
        KVM_EXIT_MMIO => {
            // SAFETY: the exit reason says that KVM filled this member.
            let mmio = unsafe { run.__bindgen_anon_1.mmio };
            Some(Access::Mmio(Mmio {
                gpa: mmio.phys_addr,
                data: mmio.data,
                len: usize::try_from(mmio.len).ok()?.min(mmio.data.len()),
                done: 0,
                write: mmio.is_write != 0,
            }))
        }
        _ => None,
    }
}

/// Puts the bytes of a finished MMIO read where KVM takes them from.
pub(crate) fn answer_mmio(fd: &mut VcpuFd, data: [u8; 8]) {
    fd.get_kvm_run().__bindgen_anon_1.mmio.data = data;
}

/// The bytes of element `index` of a port access; its size is 1, 2 or 4.
pub(crate) fn port_data(fd: &mut VcpuFd, port: &Port) -> [u8; 8] {
    let mut data = [0; 8];
    let size = port.size.min(data.len());
    // SAFETY: KVM gave `offset`, `size` and `count`, and mapped `count` elements there; `index` is
    // below `count`. The vCPU is not running, so nobody writes them.
    unsafe { std::ptr::copy_nonoverlapping(element(fd, port), data.as_mut_ptr(), size) };
    data
}

/// Answers element `index` of a port read.
pub(crate) fn answer_port(fd: &mut VcpuFd, port: &Port, data: [u8; 8]) {
    let size = port.size.min(data.len());
    // SAFETY: as in `port_data`.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), element(fd, port), size) };
}

fn element(fd: &mut VcpuFd, port: &Port) -> *mut u8 {
    let run: *mut kvm_run = fd.get_kvm_run();
    // A wrapping offset is no access; the callers say why the result is within the area.
    run.cast::<u8>().wrapping_add(port.offset + port.index * port.size)
}

/// Instruction bytes that KVM gave along with an emulation failure.
pub(crate) fn failed_instruction(fd: &mut VcpuFd) -> ([u8; 15], usize) {
    const HAS_BYTES: u64 = 1; // KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES
    // SAFETY: called for KVM_EXIT_INTERNAL_ERROR with suberror 1 only, for which KVM fills this.
    let failure = unsafe { fd.get_kvm_run().__bindgen_anon_1.emulation_failure };
    // SAFETY: the union has one member, plain bytes.
    let bytes = unsafe { failure.__bindgen_anon_1.__bindgen_anon_1 };
    // ndata counts what follows it, in 64-bit words: flags, then 16 bytes of size and instruction.
    if failure.ndata >= 3 && failure.flags & HAS_BYTES != 0 {
        (bytes.insn_bytes, usize::from(bytes.insn_size).min(bytes.insn_bytes.len()))
    } else {
        ([0; 15], 0)
    }
}

/// The suberror of KVM_EXIT_INTERNAL_ERROR.
pub(crate) fn suberror(fd: &mut VcpuFd) -> u32 {
    // SAFETY: called for KVM_EXIT_INTERNAL_ERROR only, for which KVM fills this member.
    unsafe { fd.get_kvm_run().__bindgen_anon_1.internal.suberror }
}

/// The guest physical address of the access behind KVM_EXIT_ARM_NISV.
pub(crate) fn fault_ipa(fd: &mut VcpuFd) -> u64 {
    // SAFETY: called for KVM_EXIT_ARM_NISV only, for which KVM fills this member.
    unsafe { fd.get_kvm_run().__bindgen_anon_1.arm_nisv.fault_ipa }
}

/// The hardware's reason behind KVM_EXIT_UNKNOWN.
pub(crate) fn hardware_reason(fd: &mut VcpuFd) -> u64 {
    // SAFETY: called for KVM_EXIT_UNKNOWN only, for which KVM fills this member.
    unsafe { fd.get_kvm_run().__bindgen_anon_1.hw.hardware_exit_reason }
}
