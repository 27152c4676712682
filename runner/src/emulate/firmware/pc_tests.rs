//! The ROM decoded from the reset vector on: each register is loaded from where its value is.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use super::*;
use hv::arch::x86_64::{Regs, Segment, Table};

/// Where the ROM is seen below 1 MiB.
const LOW: u64 = 0xf_0000;

/// `base`, with registers of which no two are the same.
fn state(base: x86_64::State) -> x86_64::State {
    let segment = |selector| Segment { selector, ..base.ds };
    let regs = Regs {
        rax: 0x11,
        rbx: 0x12,
        rcx: 0x13,
        rdx: 0x14,
        rsi: 0x15,
        rdi: 0x16,
        rsp: 0x17,
        rbp: 0x18,
        r8: 0x19,
        r9: 0x1a,
        r10: 0x1b,
        r11: 0x1c,
        r12: 0x1d,
        r13: 0x1e,
        r14: 0x1f,
        r15: 0x2222_3333_4444_5555,
        ..base.regs
    };
    let (ds, es, fs, gs) = (segment(0x20), segment(0x28), segment(0x30), segment(0x38));
    let (gdt, idt) = (Table { base: 0x500, limit: 0x27 }, Table { base: 0x600, limit: 0x2f });
    x86_64::State { regs, ds, es, fs, gs, ss: segment(0x40), gdt, idt, cr2: 0x21, ..base }
}

struct Rom(Vec<u8>);

impl Rom {
    fn of(state: &x86_64::State) -> Self {
        let rom = rom(state).unwrap();
        assert_eq!(rom.len(), SIZE);
        Self(rom)
    }

    fn read(&self, address: u64, len: usize) -> u64 {
        let at = usize::try_from(address - LOW).unwrap();
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&self.0[at..at + len]);
        u64::from_le_bytes(bytes)
    }

    /// The code at `address`, up to where it goes elsewhere without a condition.
    fn code(&self, bits: u32, address: u64) -> Vec<Instruction> {
        let bytes = &self.0[usize::try_from(address - LOW).unwrap()..];
        let mut code = Vec::new();
        for instruction in Decoder::with_ip(bits, bytes, address, DecoderOptions::NONE) {
            assert!(!instruction.is_invalid());
            code.push(instruction);
            let flow = instruction.flow_control();
            if !matches!(flow, FlowControl::Next | FlowControl::ConditionalBranch) {
                break;
            }
        }
        code
    }

    /// From reset to the 32-bit code.
    fn protected(&self) -> Vec<Instruction> {
        let reset = self.code(16, LOW + 0xfff0)[0];
        assert_eq!((reset.code(), reset.far_branch_selector()), (Code::Jmp_ptr1616, 0xf000));
        let real = self.code(16, LOW + u64::from(reset.far_branch16()));
        let jump = real.last().unwrap();
        assert_eq!((jump.code(), jump.far_branch_selector()), (Code::Jmp_ptr1632, 0x08));
        self.code(32, jump.far_branch32().into())
    }

    /// Each register that `code` loads from the ROM, and the value it finds there.
    fn loads(&self, code: &[Instruction]) -> Vec<(Register, u64)> {
        let loads = code.iter().filter(|load| {
            load.op_count() == 2
                && load.op0_kind() == OpKind::Register
                && load.op1_kind() == OpKind::Memory
                && load.code() != Code::Lea_r64_m
        });
        let value =
            |load: &Instruction| self.read(load.memory_displacement64(), load.memory_size().size());
        loads.map(|load| (load.op0_register(), value(load))).collect()
    }

    /// Limit and base of the table that `code` loads first or second: GDT and IDT.
    fn table(&self, code: &[Instruction], index: usize) -> (u64, u64) {
        let tables = [Code::Lgdt_m1632, Code::Lgdt_m1664, Code::Lidt_m1632, Code::Lidt_m1664];
        let mut loads = code.iter().filter(|load| tables.contains(&load.code()));
        let at = loads.nth(index).unwrap().memory_displacement64();
        (self.read(at, 2), self.read(at + 2, 8))
    }
}

#[test]
fn control_registers_are_loaded_before_the_way_parts() {
    let state = state(x86_64::State::long_mode(0x1234_5678_9abc, 0x9000, 0x500));
    let rom = Rom::of(&state);
    let code = rom.protected();
    let parts = code.iter().position(|i| i.flow_control() == FlowControl::ConditionalBranch);
    let loads = rom.loads(&code[..parts.unwrap()]);
    let expected = [
        (Register::EAX, 0x21),
        (Register::EAX, 0x9000),
        (Register::EAX, state.cr4),
        (Register::EAX, state.efer),
        (Register::EDX, 0),
        (Register::EBX, state.cr0),
    ];
    assert_eq!(loads, expected);
}

#[test]
fn long_mode_gets_every_register_and_ends_with_the_frame_of_an_iretq() {
    let state = state(x86_64::State::long_mode(0x1234_5678_9abc, 0x9000, 0x500));
    let rom = Rom::of(&state);
    let code = rom.protected();
    let parts = code.iter().find(|i| i.flow_control() == FlowControl::ConditionalBranch);
    let compatibility = rom.code(32, parts.unwrap().near_branch32().into());
    let jump = compatibility.last().unwrap();
    assert_eq!((jump.code(), jump.far_branch_selector()), (Code::Jmp_ptr1632, 0x18));
    let long = rom.code(64, jump.far_branch32().into());
    let registers = [
        (Register::DS, 0x20),
        (Register::ES, 0x28),
        (Register::FS, 0x30),
        (Register::GS, 0x38),
        (Register::RAX, 0x21), // on its way to CR2
        (Register::RAX, 0x11),
        (Register::RBX, 0x12),
        (Register::RCX, 0x13),
        (Register::RDX, 0x14),
        (Register::RSI, 0x15),
        (Register::RDI, 0x16),
        (Register::RBP, 0x18),
        (Register::R8, 0x19),
        (Register::R9, 0x1a),
        (Register::R10, 0x1b),
        (Register::R11, 0x1c),
        (Register::R12, 0x1d),
        (Register::R13, 0x1e),
        (Register::R14, 0x1f),
        (Register::R15, 0x2222_3333_4444_5555),
    ];
    assert_eq!(rom.loads(&long), registers);
    assert_eq!((rom.table(&long, 0), rom.table(&long, 1)), ((0x27, 0x500), (0x2f, 0x600)));
    let [.., stack, end] = &long[..] else { panic!("too short") };
    assert_eq!((stack.code(), stack.op0_register()), (Code::Lea_r64_m, Register::RSP));
    assert_eq!(end.code(), Code::Iretq);
    let frame = [0, 8, 16, 24, 32].map(|at| rom.read(stack.memory_displacement64() + at, 8));
    assert_eq!(frame, [0x1234_5678_9abc, 0x10, 2, 0x17, 0x40]);
}

#[test]
fn protected_mode_gets_every_register_and_ends_with_a_far_jump() {
    let rom = Rom::of(&state(x86_64::State::protected_mode(0x10_0000, 0x500)));
    let code = rom.protected();
    let parts = code.iter().position(|i| i.flow_control() == FlowControl::ConditionalBranch);
    let rest = &code[parts.unwrap()..];
    let registers = [
        (Register::DS, 0x20),
        (Register::ES, 0x28),
        (Register::FS, 0x30),
        (Register::GS, 0x38),
        (Register::SS, 0x40),
        (Register::ESP, 0x17),
        (Register::EAX, 0x11),
        (Register::EBX, 0x12),
        (Register::ECX, 0x13),
        (Register::EDX, 0x14),
        (Register::ESI, 0x15),
        (Register::EDI, 0x16),
        (Register::EBP, 0x18),
    ];
    assert_eq!(rom.loads(rest), registers);
    assert_eq!((rom.table(rest, 0), rom.table(rest, 1)), ((0x27, 0x500), (0x2f, 0x600)));
    let flags = rest.iter().position(|i| i.code() == Code::Popfd).unwrap();
    assert_eq!(rom.read(rest[flags - 1].immediate(1), 4), 2);
    let jump = rest.last().unwrap();
    assert_eq!(jump.code(), Code::Jmp_m1632);
    let at = jump.memory_displacement64();
    assert_eq!((rom.read(at, 4), rom.read(at + 4, 2)), (0x10_0000, 0x8));
}

#[test]
fn what_the_way_in_cannot_set_is_refused_by_name() {
    let long = x86_64::State::long_mode(0x10_0000, 1 << 32, 0x500);
    let error = rom(&long).unwrap_err();
    assert!(error.contains("CR3 = 0x100000000"), "{error}");
    let protected = x86_64::State::protected_mode(1 << 32, 0x500);
    assert!(rom(&protected).unwrap_err().contains("EIP"));
}
