//! What KVM's exits are in the framework's words.
//!
//! KVM gives the parts of an access and keeps the syndrome; the instruction tells it again. And KVM
//! moves the program counter on itself, which the framework leaves to its caller: it is put back, so
//! that a caller who forgets it meets the same exit for ever.

use hv::arch::aarch64::Translation;
use kvm_bindings::{
    KVM_EXIT_ARM_NISV, KVM_EXIT_DEBUG, KVM_EXIT_HYPERCALL, KVM_EXIT_MMIO, KVM_HYPERCALL_EXIT_SMC,
};
use kvm_ioctls::VcpuFd;

use super::vcpu::{Frame, Processor, read, write};
use super::{Result, failed, registers, set_spi, trap};
use crate::decode::{Access, Kind};
use crate::esr;
use crate::script::Step;

type Memory<'a> = &'a dyn Fn(u64, u64) -> Option<u64>;

/// What a load finds until its answer is known: no register holds it by chance.
const NONCE: [u8; 8] = [0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d];
/// MSI_TYPER, MSI_SETSPI_NS (Arm DEN 0029, appendix E).
const MSI_TYPER: u64 = 0x8;
const MSI_SETSPI: u64 = 0x40;

/// An access that KVM came out with.
#[derive(Clone, Copy, Debug)]
struct Mmio {
    gpa: u64,
    len: u32,
    /// What a store writes.
    store: Option<u64>,
}

impl Processor {
    /// What the exit that KVM_RUN left is; nothing if the guest just goes on.
    pub(super) fn step(&self, fd: &mut VcpuFd, memory: Memory<'_>) -> Result<Option<Step>> {
        let run = fd.get_kvm_run();
        match run.exit_reason {
            KVM_EXIT_MMIO => {
                // SAFETY: the exit reason says that KVM filled this member.
                let mmio = unsafe { run.__bindgen_anon_1.mmio };
                let store = (mmio.is_write != 0).then(|| u64::from_le_bytes(mmio.data));
                self.mmio(fd, Mmio { gpa: mmio.phys_addr, len: mmio.len, store }, memory)
            }
            KVM_EXIT_ARM_NISV => {
                // SAFETY: as above.
                let abort = unsafe { run.__bindgen_anon_1.arm_nisv };
                Ok(Some(
                    Step::exception(esr::data_abort(abort.esr_iss)).at(abort.fault_ipa).of_guest(),
                ))
            }
            KVM_EXIT_HYPERCALL => {
                // SAFETY: as above; both members of the inner union are numbers.
                let flags = unsafe { run.__bindgen_anon_1.hypercall.__bindgen_anon_1.flags };
                let before = get(fd, registers::PC)?.wrapping_sub(4);
                if flags & u64::from(KVM_HYPERCALL_EXIT_SMC) != 0 {
                    put(fd, registers::PC, before)?;
                    return Ok(Some(Step::exception(esr::smc(0)).of_guest()));
                }
                let trapped = before < trap::SIZE
                    && self.physical(fd, before, memory).is_some_and(|gpa| gpa < trap::SIZE);
                let step = match trapped {
                    true => nowhere(fd, before)?,
                    false => Step::exception(esr::hvc(0)).of_guest(),
                };
                Ok(Some(step))
            }
            KVM_EXIT_DEBUG => {
                // SAFETY: as above.
                let debug = unsafe { run.__bindgen_anon_1.debug.arch };
                Ok(Some(Step::exception(debug.hsr.into()).of_guest()))
            }
            other => Err(format!("KVM came out with {other}, which the framework does not know")),
        }
    }

    /// After an interruption: a wait for an interrupt that nobody could bring comes out.
    pub(super) fn woken(&self, fd: &VcpuFd, memory: Memory<'_>) -> Result<Option<Step>> {
        if !self.was_asleep() {
            return Ok(None);
        }
        let before = get(fd, registers::PC)?.wrapping_sub(4);
        let kind = match self.fetch(fd, before, memory) {
            Some(0xd503_207f) => 0,
            // WFIT with any register.
            Some(word) if word & !0x1f == 0xd503_1020 => 2,
            _ => return Ok(None),
        };
        put(fd, registers::PC, before)?;
        Ok(Some(Step::exception(esr::wait(kind)).of_guest()))
    }

    fn mmio(&self, fd: &mut VcpuFd, mmio: Mmio, memory: Memory<'_>) -> Result<Option<Step>> {
        let pc = get(fd, registers::PC)?;
        if let Some(frame) = self.frame.filter(|frame| frame.has(mmio.gpa)) {
            return self.message(fd, frame, mmio).map(|()| None);
        }
        let word = self.fetch(fd, pc, memory).ok_or(format!("nothing is at PC {pc:#x}"))?;
        let access =
            Access::of(word).ok_or(format!("{word:#010x} at {pc:#x} is no load or store"))?;
        let (at, is_store) = (address(fd, pc, access)?, access.kind == Kind::Store);
        let rt = registers::x(access.rt.min(30));
        let register = if access.rt == 31 { 0 } else { get(fd, rt)? };
        // What we read from the instruction has to be what KVM got from the CPU.
        let mask = u64::MAX >> (64 - 8 * access.bytes());
        let same = access.bytes() == mmio.len
            && is_store == mmio.store.is_some()
            && at & 0xfff == mmio.gpa & 0xfff
            && mmio.store.is_none_or(|value| value & mask == register & mask);
        if !same {
            return Err(format!("{word:#010x} at {pc:#x} is {access:?} at {at:#x}, not {mmio:x?}"));
        }
        fd.get_kvm_run().__bindgen_anon_1.mmio.data = NONCE;
        self.complete(fd)?;
        if !is_store && access.rt != 31 {
            let (loaded, nonce) = (get(fd, rt)?, u64::from_le_bytes(NONCE));
            // KVM extends the sign and then cuts it off again (mmio.c, vcpu_data_host_to_guest).
            if loaded != access.loaded(nonce) && loaded != nonce & mask {
                return Err(format!("{word:#010x} at {pc:#x} is {access:?} and loads {loaded:#x}"));
            }
            put(fd, rt, register)?;
        }
        put(fd, registers::PC, pc)?;
        // Where RAM is, it is a store that is not allowed.
        let denied = memory(mmio.gpa, mmio.len.into()).is_some();
        let syndrome = access.syndrome();
        let syndrome = if denied { esr::denied(syndrome) } else { syndrome };
        Ok(Some(Step::exception(syndrome).at(mmio.gpa).seen_at(at).of_guest()))
    }

    /// The frame that the framework's interrupt controller has and KVM's has not.
    fn message(&self, fd: &mut VcpuFd, frame: Frame, mmio: Mmio) -> Result<()> {
        match (mmio.gpa - frame.base, mmio.store.map(u32::try_from)) {
            (MSI_SETSPI, Some(Ok(intid))) if (frame.first..frame.end).contains(&intid) => {
                set_spi(&self.vm, intid, true)?;
                set_spi(&self.vm, intid, false)
            }
            (_, Some(_)) => Ok(()),
            (register, None) => {
                let count = frame.end - frame.first;
                let value = if register == MSI_TYPER { frame.first << 16 | count } else { 0 };
                fd.get_kvm_run().__bindgen_anon_1.mmio.data = u64::from(value).to_le_bytes();
                Ok(())
            }
        }
    }

    /// The instruction at `pc`.
    fn fetch(&self, fd: &VcpuFd, pc: u64, memory: Memory<'_>) -> Option<u32> {
        u32::try_from(memory(self.physical(fd, pc, memory)?, 4)?).ok()
    }

    /// The guest physical address of `address`.
    fn physical(&self, fd: &VcpuFd, address: u64, memory: Memory<'_>) -> Option<u64> {
        let translation = Translation {
            sctlr_el1: get(fd, registers::SCTLR_EL1).ok()?,
            tcr_el1: get(fd, registers::TCR_EL1).ok()?,
            ttbr0_el1: get(fd, registers::TTBR0_EL1).ok()?,
            ttbr1_el1: get(fd, registers::TTBR1_EL1).ok()?,
        };
        translation.translate(address, |gpa| memory(gpa, 8))
    }
}

impl Frame {
    fn has(&self, gpa: u64) -> bool {
        gpa.checked_sub(self.base).is_some_and(|offset| offset < self.size)
    }
}

/// The guest runs where nothing is: at `pc`, or at the vector of an exception that KVM gave it for that.
fn nowhere(fd: &VcpuFd, pc: u64) -> Result<Step> {
    /// IFSC: synchronous external abort, which KVM says.
    const EXTERNAL: u64 = 0x10;
    let esr = get(fd, registers::ESR_EL1)?;
    let vector = pc.wrapping_sub(get(fd, registers::VBAR_EL1)?);
    let (abort, at) =
        (matches!(esr >> 26, 0x20 | 0x21) && esr & 0x3f == EXTERNAL, |number| get(fd, number));
    let pc = if abort && matches!(vector, 0 | 0x200 | 0x400) {
        put(fd, registers::PSTATE, at(registers::SPSR_EL1)?)?;
        at(registers::ELR_EL1)?
    } else {
        pc
    };
    put(fd, registers::PC, pc)?;
    Ok(Step::exception(esr::instruction_abort()).at(pc).seen_at(pc).of_guest())
}

/// The address that `access` makes of the registers.
fn address(fd: &VcpuFd, pc: u64, access: Access) -> Result<u64> {
    /// PSTATE.SP: the exception level's own stack pointer.
    const SP: u64 = 1;
    let stack =
        if get(fd, registers::PSTATE)? & SP == 0 { registers::SP_EL0 } else { registers::SP_EL1 };
    // What cannot be read is no register; a wrong address is noticed.
    let register = |index: u8| if index == 31 { stack } else { registers::x(index) };
    Ok(access.address(pc, |index| get(fd, register(index)).unwrap_or(0)))
}

fn get(fd: &VcpuFd, number: u64) -> Result<u64> {
    read(fd, number).map_err(failed("KVM_GET_ONE_REG"))
}

fn put(fd: &VcpuFd, number: u64, value: u64) -> Result<()> {
    write(fd, number, value).map_err(failed("KVM_SET_ONE_REG"))
}
