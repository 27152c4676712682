//! What a hostile guest does, as the steps of `tests/guests/ARCH/kernels/script.S`: it carries them
//! out one by one, and ends with 1 at the first that reads something else than expected.

// On aarch64 there are no ports, and no routines.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

/// Bytes of a step.
const STEP: usize = 32;

/// Accepts what a routine gives, whatever it is.
const ANYTHING: u64 = u64::MAX;

/// What a step does; the order is that of `operations` in script.S.
#[derive(Clone, Copy)]
enum Operation {
    End,
    Store,
    Expect,
    Await,
    Output,
    Input,
    AwaitInput,
    Copy,
    Again,
    Routine,
    Add,
    StartSecond,
}

/// What a step does that moves no number; the order is that of `routines` in script.inc.
#[derive(Clone, Copy)]
pub(super) enum Routine {
    /// Reads the MSR.
    ReadMsr,
    /// Writes the MSR: number, value.
    WriteMsr,
    /// EAX of the CPUID leaf: leaf, subleaf.
    Leaf,
    /// A hypercall of KVM's: number, argument.
    Hypercall,
    /// Bytes from [`OUTPUT`] to a port by one instruction: port, count.
    SendString,
    /// Bytes from a port to [`INPUT`] by one instruction: port, count.
    ReceiveString,
    /// The same, 4 bytes at a time.
    ReceiveWords,
    /// Calls an address.
    Jump,
    /// Takes the page tables there.
    LoadCr3,
    /// An exception with no table of handlers.
    TripleFault,
    /// Halts for good, with interrupts off.
    Halt,
    /// VMXON.
    VmxOn,
    /// VMRUN.
    VmRun,
    /// Writes 16 bytes there by one instruction of SSE.
    WideWrite,
    /// Reads them.
    WideRead,
    /// Sets bits of CR4.
    WriteCr4,
}

/// What string output sends: 64 KiB.
pub(super) const OUTPUT: u64 = 0x30_0000;
/// Where string input goes.
pub(super) const INPUT: u64 = 0x31_0000;

/// An exception, as a routine's result.
pub(super) const INVALID_OPCODE: u64 = 0x106;
/// General protection.
pub(super) const PROTECTION: u64 = 0x10d;

#[derive(Clone, Copy, Default)]
struct Step {
    operation: u8,
    width: u8,
    number: u32,
    address: u64,
    value: u64,
    mask: u64,
}

/// Steps, and the bytes they copy from.
#[derive(Clone, Default)]
pub(super) struct Script {
    steps: Vec<Step>,
    data: Vec<u8>,
    /// For the second processor.
    second: Option<Box<Script>>,
    /// Where its devices are.
    pub(super) bus: Bus,
    /// Which of them it drives, from 0.
    pub(super) device: u64,
}

/// Where virtio devices are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Bus {
    #[default]
    Mmio,
    Pci,
}

impl Script {
    /// No steps yet, for a guest with its devices there.
    pub(super) fn on(bus: Bus) -> Self {
        Self { bus, ..Self::default() }
    }

    /// Drives that device from here on.
    pub(super) fn nth(self, device: u64) -> Self {
        Self { device, ..self }
    }

    fn step(mut self, operation: Operation, step: Step) -> Self {
        self.steps.push(Step { operation: operation as u8, ..step });
        self
    }

    /// Ends the run, with this status.
    pub(super) fn end(self, status: u8) -> Self {
        self.step(Operation::End, Step { value: status.into(), ..Step::default() })
    }

    /// Writes `width` bytes of memory or of a device.
    pub(super) fn store(self, width: u8, address: u64, value: u64) -> Self {
        self.step(Operation::Store, Step { width, address, value, ..Step::default() })
    }

    /// Reads them, and they have to be `value`.
    pub(super) fn expect(self, width: u8, address: u64, value: u64) -> Self {
        self.expect_bits(width, address, u64::MAX, value)
    }

    /// The same for the bits in `mask`.
    pub(super) fn expect_bits(self, width: u8, address: u64, mask: u64, value: u64) -> Self {
        let step = Step { width, address, mask, value, ..Step::default() };
        self.step(Operation::Expect, step)
    }

    /// Reads them, whatever they are.
    pub(super) fn read(self, width: u8, address: u64) -> Self {
        self.expect_bits(width, address, 0, 0)
    }

    /// Reads until the bits in `mask` are `value`.
    pub(super) fn wait(self, width: u8, address: u64, mask: u64, value: u64) -> Self {
        self.step(Operation::Await, Step { width, address, mask, value, ..Step::default() })
    }

    /// Writes to a port.
    pub(super) fn output(self, width: u8, port: u16, value: u64) -> Self {
        let step = Step { width, number: port.into(), value, ..Step::default() };
        self.step(Operation::Output, step)
    }

    /// Reads a port; the bits in `mask` have to be `value`.
    pub(super) fn input(self, width: u8, port: u16, mask: u64, value: u64) -> Self {
        let step = Step { width, number: port.into(), mask, value, ..Step::default() };
        self.step(Operation::Input, step)
    }

    /// Reads a port until the bits in `mask` are `value`.
    pub(super) fn wait_input(self, width: u8, port: u16, mask: u64, value: u64) -> Self {
        let step = Step { width, number: port.into(), mask, value, ..Step::default() };
        self.step(Operation::AwaitInput, step)
    }

    /// Puts `bytes` into memory.
    pub(super) fn copy(mut self, address: u64, bytes: &[u8]) -> Self {
        let (value, mask) = (self.data.len() as u64, bytes.len() as u64);
        self.data.extend(bytes);
        self.step(Operation::Copy, Step { address, value, mask, ..Step::default() })
    }

    /// Reads `bytes` from memory, one by one.
    pub(super) fn copied(self, address: u64, bytes: &[u8]) -> Self {
        let each = (address..).zip(bytes);
        each.fold(self, |script, (at, byte)| script.expect(1, at, (*byte).into()))
    }

    /// Adds to a 16-bit word of memory, behind everything written before.
    pub(super) fn add(self, address: u64, value: u16) -> Self {
        let step = Step { address, value: value.into(), ..Step::default() };
        self.step(Operation::Add, step)
    }

    /// Does `steps` that many times in all.
    pub(super) fn times(self, count: u64, steps: impl FnOnce(Self) -> Self) -> Self {
        let before = self.steps.len();
        let script = steps(self);
        let number = u32::try_from(script.steps.len() - before).unwrap();
        script.step(Operation::Again, Step { number, value: count - 1, ..Step::default() })
    }

    /// Calls a routine, whatever it gives.
    pub(super) fn call(self, routine: Routine, first: u64, second: u64) -> Self {
        self.call_gives(routine, first, second, ANYTHING)
    }

    /// Calls a routine, which has to give `value`, or 0x100 and the exception's vector.
    pub(super) fn call_gives(self, routine: Routine, first: u64, second: u64, value: u64) -> Self {
        let number = routine as u32;
        let step = Step { number, address: first, mask: second, value, ..Step::default() };
        self.step(Operation::Routine, step)
    }

    /// Starts the second processor on steps of its own. They may copy nothing.
    pub(super) fn second(mut self, steps: impl FnOnce(Self) -> Self) -> Self {
        assert!(self.second.is_none(), "there is one second processor");
        self.second = Some(Box::new(steps(Self::default())));
        self.start_processor(1)
    }

    /// INIT and SIPI to a processor that need not exist, with the second one's steps.
    pub(super) fn start_processor(self, apic: u8) -> Self {
        self.step(Operation::StartSecond, Step { number: apic.into(), ..Step::default() })
    }

    /// The ram disk: these steps, the second processor's, and what they copy.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let second = self.second.as_deref().map_or(&[][..], |second| &second.steps);
        let second_at = (self.steps.len() * STEP) as u64;
        let data_at = second_at + (second.len() * STEP) as u64;
        let mut bytes = Vec::new();
        for step in self.steps.iter().chain(second) {
            let value = match step.operation {
                copy if copy == Operation::Copy as u8 => step.value + data_at,
                start if start == Operation::StartSecond as u8 => second_at,
                _ => step.value,
            };
            bytes.extend([step.operation, step.width, 0, 0]);
            bytes.extend(step.number.to_le_bytes());
            for field in [step.address, value, step.mask] {
                bytes.extend(field.to_le_bytes());
            }
        }
        bytes.extend(&self.data);
        bytes
    }
}
