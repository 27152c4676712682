//! Running a vCPU (api.rst 4.10, KVM_RUN).

use std::marker::PhantomData;

use hv::{
    Cause, Crash, Error, Exit, Instruction, Kind, Pending, Place, Result, Resume, Roster, State,
    Unhandled, Vcpu, VcpuSeed,
};
use kvm_bindings::{
    KVM_EXIT_ARM_NISV, KVM_EXIT_HYPERCALL, KVM_INTERNAL_ERROR_EMULATION, KVM_MP_STATE_RUNNABLE,
    KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::access::Access;
use crate::arch::{self, VcpuSetup};
use crate::error::call_at;
use crate::kick::{Kicked, KvmKicker};
use crate::run_page;
use crate::vm::KvmVm;

/// A vCPU that no thread has claimed.
#[derive(Debug)]
pub struct KvmSeed {
    id: u32,
    fd: VcpuFd,
    kicked: Kicked,
    setup: VcpuSetup,
    place: Place,
    vm: KvmVm,
}

impl KvmSeed {
    pub(crate) fn create(vm: &KvmVm, id: u32, setup: VcpuSetup) -> Result<Self> {
        let fd = vm.create_vcpu(id)?;
        let kicked = Kicked::new(&fd)?;
        Ok(Self { id, fd, kicked, setup, place: vm.roster().place(), vm: vm.clone() })
    }
}

impl VcpuSeed for KvmSeed {
    type Vcpu = KvmVcpu;
    type Kicker = KvmKicker;

    fn kicker(&self) -> KvmKicker {
        self.kicked.kicker()
    }

    fn bind(self) -> Result<KvmVcpu> {
        for refused in self.setup.apply(&self.fd, self.id)? {
            self.vm.note(refused);
        }
        self.kicked.bind();
        Ok(KvmVcpu {
            id: self.id,
            kicked: self.kicked,
            fd: self.fd,
            roster: self.place.take(),
            ready: false,
            pending: Pending::Nothing,
            access: Access::Nothing,
            vm: self.vm,
            not_send: PhantomData,
        })
    }
}

/// A vCPU on its thread. The fields go in order: kickers let go first, the VM last.
#[derive(Debug)]
pub struct KvmVcpu {
    kicked: Kicked,
    fd: VcpuFd,
    id: u32,
    roster: Roster,
    /// Spares the roster's atomic once it has answered.
    ready: bool,
    pending: Pending,
    access: Access,
    vm: KvmVm,
    not_send: PhantomData<*const ()>,
}

/// What one KVM_RUN came to.
enum Entry {
    Exit(Exit),
    /// It came back for no reason that concerns the caller: a signal, or immediate_exit.
    Interrupted,
}

impl KvmVcpu {
    /// Checks and takes the answer. Some: the same exit of KVM has another piece.
    fn answer(&mut self, resume: Resume) -> Result<Option<Exit>> {
        if !self.ready {
            self.roster.require_ready("KVM_RUN")?;
            self.ready = true;
        }
        let value = self.pending.check(resume)?;
        if self.pending != Pending::Nothing {
            self.access.advance(&mut self.fd, value);
        }
        Ok(self.access.exit(&mut self.fd).inspect(|exit| self.pending = Pending::after(exit)))
    }

    /// Whether KVM has yet to complete an instruction that came out.
    fn committing(&self) -> bool {
        self.pending != Pending::Nothing
    }

    /// Enters the guest once. What was pending is committed by that.
    fn enter(&mut self) -> Result<Entry> {
        self.access = Access::Nothing;
        self.pending = Pending::Nothing;
        let exit = match self.fd.run() {
            Ok(exit) => exit,
            Err(error) => return self.refused(error.errno()),
        };
        let exit = match exit {
            VcpuExit::IoIn(..)
            | VcpuExit::IoOut(..)
            | VcpuExit::MmioRead(..)
            | VcpuExit::MmioWrite(..) => return self.accessed(),
            VcpuExit::Hlt => Exit::Halted,
            VcpuExit::Intr => return Ok(Entry::Interrupted),
            VcpuExit::Shutdown => Exit::Crash(Crash::TripleFault),
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => Exit::Shutdown,
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => Exit::Reset,
            VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _) => Exit::Crash(Crash::Reported),
            VcpuExit::FailEntry(reason, _cpu) => self.unhandled(Cause::EntryFailed, reason),
            VcpuExit::MemoryFault { gpa, .. } => self.unhandled(Cause::Memory, gpa),
            VcpuExit::InternalError => self.internal_error(),
            VcpuExit::Hypercall(call) => {
                let function = call.nr;
                self.hypercall(function)
            }
            VcpuExit::Unsupported(KVM_EXIT_ARM_NISV) => {
                let gpa = run_page::fault_ipa(&mut self.fd);
                self.unhandled(Cause::NoSyndrome, gpa)
            }
            VcpuExit::Unknown => {
                let reason = run_page::hardware_reason(&mut self.fd);
                self.unhandled(Cause::UnknownExit, reason)
            }
            _ => {
                let reason = u64::from(self.fd.get_kvm_run().exit_reason);
                self.unhandled(Cause::UnknownExit, reason)
            }
        };
        Ok(Entry::Exit(exit))
    }

    fn accessed(&mut self) -> Result<Entry> {
        self.access = run_page::access(&mut self.fd).unwrap_or_default();
        match self.access.exit(&mut self.fd) {
            Some(exit) => {
                self.pending = Pending::after(&exit);
                Ok(Entry::Exit(exit))
            }
            None => Err(Error::new("KVM_RUN", Kind::Host, "an access of no bytes")),
        }
    }

    fn refused(&mut self, errno: i32) -> Result<Entry> {
        match errno {
            // EAGAIN: an application processor that waits for its start-up IPI was woken.
            libc::EINTR | libc::EAGAIN => Ok(Entry::Interrupted),
            libc::EFAULT => Ok(Entry::Exit(self.unhandled(Cause::Memory, 0))),
            _ => Err(Error::errno("KVM_RUN", errno).at(format!("vCPU {}", self.id))),
        }
    }

    /// A call that the VM was asked to show.
    fn hypercall(&self, function: u64) -> Exit {
        match (u32::try_from(function), arch::arguments(&self.fd)) {
            (Ok(function), Some(args)) => Exit::Hypercall { function, args },
            _ => self.unhandled(Cause::UnknownExit, KVM_EXIT_HYPERCALL.into()),
        }
    }

    fn internal_error(&mut self) -> Exit {
        let suberror = run_page::suberror(&mut self.fd);
        if suberror != KVM_INTERNAL_ERROR_EMULATION {
            return self.unhandled(Cause::Internal, u64::from(suberror));
        }
        let (bytes, len) = run_page::failed_instruction(&mut self.fd);
        let mut exit = self.unhandled(Cause::Instruction, u64::from(suberror));
        if let Exit::Unhandled(Unhandled { instruction: Some(instruction), .. }) = &mut exit
            && len > 0
        {
            let known = bytes.get(..len).unwrap_or_default();
            *instruction = Instruction::new(arch::ARCH, instruction.pc(), known);
        }
        exit
    }

    /// An exit nobody can do anything with, with the instruction the guest is at.
    fn unhandled(&self, cause: Cause, code: u64) -> Exit {
        let instruction = arch::pc(&self.fd).map(|pc| {
            let (bytes, len) = self.code_at(pc);
            Instruction::new(arch::ARCH, pc, bytes.get(..len).unwrap_or_default())
        });
        Exit::Unhandled(Unhandled { cause, code, instruction })
    }

    /// The bytes of an instruction at the virtual address `pc`, as far as they are RAM.
    fn code_at(&self, pc: u64) -> ([u8; arch::INSTRUCTION], usize) {
        let mut bytes = [0; arch::INSTRUCTION];
        let mut len = 0;
        for (offset, byte) in (0u64..).zip(bytes.iter_mut()) {
            let at = pc.wrapping_add(offset);
            match self.translate(at).and_then(|gpa| self.vm.read(gpa)) {
                Some(value) => *byte = value,
                None => break,
            }
            len += 1;
        }
        (bytes, len)
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self, resume: Resume) -> Result<Exit> {
        if let Some(exit) = self.answer(resume)? {
            return Ok(exit);
        }
        // A kick before this run ends it at once, unless KVM must first complete an instruction:
        // then immediate_exit does the same behind it.
        if self.committing() {
            if self.kicked.waits() {
                self.kicked.stay_out();
            }
        } else if self.kicked.take() {
            return Ok(Exit::Kicked);
        }
        loop {
            if let Entry::Exit(exit) = self.enter()? {
                return Ok(exit);
            }
            if self.kicked.take_after_interruption() {
                return Ok(Exit::Kicked);
            }
        }
    }

    fn settle(&mut self, resume: Resume) -> Result<Option<Exit>> {
        if let Some(exit) = self.answer(resume)? {
            return Ok(Some(exit));
        }
        if !self.committing() {
            return Ok(None);
        }
        self.kicked.stay_out();
        let entry = self.enter();
        self.kicked.may_enter();
        match entry? {
            Entry::Exit(exit) => Ok(Some(exit)),
            Entry::Interrupted => Ok(None),
        }
    }

    fn is_asleep(&self) -> bool {
        self.pending == Pending::Nothing && arch::is_asleep(&self.fd, |gpa| self.vm.read(gpa))
    }

    fn translate(&self, address: u64) -> Option<u64> {
        arch::translate(&self.fd, address, |gpa| self.vm.read(gpa))
    }

    fn argument(&self) -> Option<u64> {
        arch::argument(&self.fd)
    }

    fn begin_at(&mut self, state: &State) -> Result<()> {
        self.set_state(state)?;
        let runnable = kvm_bindings::kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE };
        call_at("KVM_SET_MP_STATE", self.fd.set_mp_state(runnable), || format!("vCPU {}", self.id))
    }

    fn counter_hz(&self) -> Option<u64> {
        arch::counter_hz(&self.fd)
    }

    fn state(&self) -> Result<State> {
        self.pending.require_settled("state")?;
        arch::state(&self.fd)
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        self.pending.require_settled("set_state")?;
        let result = arch::set_state(&self.fd, state);
        result.map_err(|error| match error.context.is_empty() {
            true => error.at(format!("vCPU {}", self.id)),
            false => error,
        })
    }
}

/// Creates the vCPU `id` of `vm`.
pub(crate) fn create(vm: &kvm_ioctls::VmFd, id: u32) -> Result<VcpuFd> {
    call_at("KVM_CREATE_VCPU", vm.create_vcpu(u64::from(id)), || format!("vCPU {id}"))
}
