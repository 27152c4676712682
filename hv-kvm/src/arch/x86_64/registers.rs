//! hv's x86_64 registers in KVM's structures (api.rst 4.11 to 4.14).

use hv::arch::x86_64::{Regs, Segment, State as X86State, Table};
use hv::{Error, Kind, Result, State};
use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_UNINITIALIZED, kvm_dtable,
    kvm_regs, kvm_segment, kvm_sregs,
};
use kvm_ioctls::VcpuFd;

use crate::error::call;

/// The virtual address of the instruction a vCPU is at, as far as KVM says.
pub(crate) fn pc(fd: &VcpuFd) -> Option<u64> {
    fd.get_regs().ok().map(|regs| regs.rip)
}

/// RFLAGS.IF: interrupts are let in.
const INTERRUPTS_ON: u64 = 1 << 9;

/// Whether a vCPU is halted with interrupts off, or waits for its INIT or its SIPI.
pub(crate) fn is_asleep(fd: &VcpuFd, _read: impl Fn(u64) -> Option<u32>) -> bool {
    match fd.get_mp_state().map(|state| state.mp_state) {
        Ok(KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED) => true,
        Ok(KVM_MP_STATE_HALTED) => fd.get_regs().is_ok_and(|regs| regs.rflags & INTERRUPTS_ON == 0),
        _ => false,
    }
}

/// RDI.
pub(crate) fn argument(fd: &VcpuFd) -> Option<u64> {
    fd.get_regs().ok().map(|regs| regs.rdi)
}

/// The TSC's frequency, as exact as KVM has it (api.rst 4.56). Nothing on a host whose own is not stable.
pub(crate) fn counter_hz(fd: &VcpuFd) -> Option<u64> {
    fd.get_tsc_khz().ok().filter(|khz| *khz > 0).map(|khz| u64::from(khz) * 1000)
}

/// The guest physical address behind a virtual one. KVM walks the tables itself.
pub(crate) fn translate(
    fd: &VcpuFd,
    address: u64,
    _read: impl Fn(u64) -> Option<u64>,
) -> Option<u64> {
    let translation = fd.translate_gva(address).ok()?;
    (translation.valid != 0).then_some(translation.physical_address)
}

pub(crate) fn state(fd: &VcpuFd) -> Result<State> {
    let regs = call("KVM_GET_REGS", fd.get_regs())?;
    let sregs = call("KVM_GET_SREGS", fd.get_sregs())?;
    Ok(State::X86_64(X86State {
        regs: from_kvm_regs(&regs),
        cs: from_kvm_segment(&sregs.cs),
        ds: from_kvm_segment(&sregs.ds),
        es: from_kvm_segment(&sregs.es),
        fs: from_kvm_segment(&sregs.fs),
        gs: from_kvm_segment(&sregs.gs),
        ss: from_kvm_segment(&sregs.ss),
        tr: from_kvm_segment(&sregs.tr),
        ldt: from_kvm_segment(&sregs.ldt),
        gdt: Table { base: sregs.gdt.base, limit: sregs.gdt.limit },
        idt: Table { base: sregs.idt.base, limit: sregs.idt.limit },
        cr0: sregs.cr0,
        cr2: sregs.cr2,
        cr3: sregs.cr3,
        cr4: sregs.cr4,
        efer: sregs.efer,
    }))
}

pub(crate) fn set_state(fd: &VcpuFd, state: &State) -> Result<()> {
    let State::X86_64(state) = state else {
        let why = format!("{} registers for an x86_64 vCPU", state.arch());
        return Err(Error::new("KVM_SET_REGS", Kind::Invalid, why));
    };
    // What hv does not carry (the APIC base with its BSP flag, CR8, pending interrupts) stays.
    let kept = call("KVM_GET_SREGS", fd.get_sregs())?;
    let sregs = kvm_sregs {
        cs: to_kvm_segment(&state.cs),
        ds: to_kvm_segment(&state.ds),
        es: to_kvm_segment(&state.es),
        fs: to_kvm_segment(&state.fs),
        gs: to_kvm_segment(&state.gs),
        ss: to_kvm_segment(&state.ss),
        tr: to_kvm_segment(&state.tr),
        ldt: to_kvm_segment(&state.ldt),
        gdt: to_kvm_table(&state.gdt),
        idt: to_kvm_table(&state.idt),
        cr0: state.cr0,
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4,
        efer: state.efer,
        ..kept
    };
    call("KVM_SET_SREGS", fd.set_sregs(&sregs))?;
    call("KVM_SET_REGS", fd.set_regs(&to_kvm_regs(&state.regs)))
}

/// Copies between two structures whose fields have the same names.
macro_rules! same_fields {
    ($from:expr, $to:ident: $($field:ident)*) => {
        $to { $($field: $from.$field),* }
    };
}

fn from_kvm_regs(regs: &kvm_regs) -> Regs {
    same_fields!(regs, Regs:
        rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags)
}

fn to_kvm_regs(regs: &Regs) -> kvm_regs {
    same_fields!(regs, kvm_regs:
        rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags)
}

fn to_kvm_table(table: &Table) -> kvm_dtable {
    kvm_dtable { base: table.base, limit: table.limit, ..Default::default() }
}

fn from_kvm_segment(segment: &kvm_segment) -> Segment {
    let bit = |value: u8, at: u32| u16::from(value) << at;
    Segment {
        selector: segment.selector,
        base: segment.base,
        limit: segment.limit,
        access: u16::from(segment.type_)
            | bit(segment.s, 4)
            | bit(segment.dpl, 5)
            | bit(segment.present, 7)
            | bit(segment.avl, 12)
            | bit(segment.l, 13)
            | bit(segment.db, 14)
            | bit(segment.g, 15),
    }
}

fn to_kvm_segment(segment: &Segment) -> kvm_segment {
    let [low, high] = segment.access.to_le_bytes();
    let present = low >> 7;
    kvm_segment {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        type_: low & 0xf,
        s: low >> 4 & 1,
        dpl: low >> 5 & 3,
        present,
        avl: high >> 4 & 1,
        l: high >> 5 & 1,
        db: high >> 6 & 1,
        g: high >> 7,
        unusable: 1 - present,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::{Controller, prepare};

    #[test]
    fn a_processor_that_was_never_started_is_asleep_and_the_first_one_is_not() {
        let kvm = match kvm_ioctls::Kvm::new() {
            Ok(kvm) => kvm,
            Err(error) => return println!("skipped: open /dev/kvm: {error}"),
        };
        let vm = kvm.create_vm().unwrap();
        prepare(&vm).unwrap();
        Controller::create(&vm).unwrap();
        let (first, second) = (vm.create_vcpu(0).unwrap(), vm.create_vcpu(1).unwrap());
        assert!(!is_asleep(&first, |_| None));
        assert!(is_asleep(&second, |_| None));
        let halt = kvm_bindings::kvm_mp_state { mp_state: KVM_MP_STATE_HALTED };
        first.set_mp_state(halt).unwrap();
        assert!(is_asleep(&first, |_| None), "interrupts are off after a reset");
        let mut regs = first.get_regs().unwrap();
        regs.rflags |= INTERRUPTS_ON;
        first.set_regs(&regs).unwrap();
        assert!(!is_asleep(&first, |_| None), "an interrupt wakes it");
    }
}
