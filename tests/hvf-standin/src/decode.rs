//! Which load or store an instruction is, for the syndrome that hardware gives and a host's KVM keeps
//! to itself (Arm ARM DDI 0487, C4.1 "Loads and Stores").
//!
//! Only what has a syndrome is known (DDI 0487, "ISS encoding for an exception from a Data Abort",
//! ISV): one general-purpose register, no write-back, not exclusive.

use crate::{Width, esr};

/// A load or store of one general-purpose register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) width: Width,
    pub(crate) rt: u8,
    pub(crate) kind: Kind,
    pub(crate) from: From,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Store,
    Load,
    /// Into X (64 bits) or W.
    LoadSigned {
        sixty_four: bool,
    },
}

/// What the address is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The program counter and this.
    Literal(i64),
    /// X`base`, or the stack pointer for 31, and this.
    Base(u8, i64),
    /// X`base`, or the stack pointer for 31, and X`index`, extended as its option says and shifted.
    Index { base: u8, index: u8, option: u64, shift: u64 },
}

impl Access {
    /// What `word` accesses, if it is one of these.
    pub(crate) fn of(word: u32) -> Option<Self> {
        let word = u64::from(word);
        match (bits(word, 27, 3), bits(word, 26, 1), bits(word, 24, 2)) {
            (0b111, 0, 0b01) => unsigned_offset(word),
            (0b111, 0, 0b00) => other_offset(word),
            (0b011, 0, 0b00) => literal(word),
            (0b011, 0, 0b01) => ordered_offset(word),
            (0b001, 0, 0b00) => ordered(word),
            _ => None,
        }
    }

    pub(crate) fn bytes(self) -> u32 {
        match self.width {
            Width::W1 => 1,
            Width::W2 => 2,
            Width::W4 => 4,
            Width::W8 => 8,
        }
    }

    /// `ESR_EL2` where nothing is mapped.
    pub(crate) fn syndrome(self) -> u64 {
        match self.kind {
            Kind::Store => esr::store(self.width, self.rt),
            Kind::Load => esr::load(self.width, self.rt),
            Kind::LoadSigned { sixty_four } => esr::load_signed(self.width, self.rt, sixty_four),
        }
    }

    /// What the register holds after a load of `value`.
    pub(crate) fn loaded(self, value: u64) -> u64 {
        let spare = 64 - 8 * self.bytes();
        match self.kind {
            Kind::LoadSigned { sixty_four: true } => {
                ((value << spare).cast_signed() >> spare).cast_unsigned()
            }
            Kind::LoadSigned { sixty_four: false } => {
                ((value << spare).cast_signed() >> spare).cast_unsigned() & 0xffff_ffff
            }
            _ => value << spare >> spare,
        }
    }

    /// The address, with the program counter and the values of registers (31 is the stack pointer).
    pub(crate) fn address(self, pc: u64, get: impl Fn(u8) -> u64) -> u64 {
        match self.from {
            From::Literal(offset) => pc.wrapping_add_signed(offset),
            From::Base(base, offset) => get(base).wrapping_add_signed(offset),
            From::Index { base, index, option, shift } => {
                // The index can be XZR, which nobody asks for as a base.
                let index = if index == 31 { 0 } else { get(index) };
                let index = match option {
                    0b010 => index & 0xffff_ffff,
                    0b110 => ((index << 32).cast_signed() >> 32).cast_unsigned(),
                    _ => index,
                };
                get(base).wrapping_add(index << shift)
            }
        }
    }
}

fn access(word: u64, kind: Kind, from: From) -> Access {
    let width = match bits(word, 30, 2) {
        0 => Width::W1,
        1 => Width::W2,
        2 => Width::W4,
        _ => Width::W8,
    };
    Access { width, rt: register(word, 0), kind, from }
}

/// The fields size and opc, which are one for most forms.
fn kind(word: u64) -> Option<Kind> {
    match (bits(word, 22, 2), bits(word, 30, 2)) {
        (0, _) => Some(Kind::Store),
        (1, _) => Some(Kind::Load),
        (2, 0..=2) => Some(Kind::LoadSigned { sixty_four: true }),
        (3, 0..=1) => Some(Kind::LoadSigned { sixty_four: false }),
        // PRFM and what is not allocated.
        _ => None,
    }
}

/// "Load/store register (unsigned immediate)".
fn unsigned_offset(word: u64) -> Option<Access> {
    let offset = (bits(word, 10, 12) << bits(word, 30, 2)).cast_signed();
    Some(access(word, kind(word)?, From::Base(register(word, 5), offset)))
}

/// "Load/store register" with an unscaled or a register's offset, unprivileged, and LDAPR; not with
/// write-back, and no atomic operation.
fn other_offset(word: u64) -> Option<Access> {
    let base = register(word, 5);
    match (bits(word, 21, 1), bits(word, 10, 2)) {
        (0, 0b00 | 0b10) => {
            Some(access(word, kind(word)?, From::Base(base, signed(bits(word, 12, 9), 9))))
        }
        (1, 0b10) => {
            let shift = bits(word, 12, 1) * bits(word, 30, 2);
            let (index, option) = (register(word, 16), bits(word, 13, 3));
            Some(access(word, kind(word)?, From::Index { base, index, option, shift }))
        }
        (1, 0b00) if bits(word, 22, 2) == 0b10 && bits(word, 12, 4) == 0b1100 => {
            Some(access(word, Kind::Load, From::Base(base, 0)))
        }
        _ => None,
    }
}

/// "Load register (literal)", whose opc is where others have their size.
fn literal(word: u64) -> Option<Access> {
    let (width, kind) = match bits(word, 30, 2) {
        0 => (Width::W4, Kind::Load),
        1 => (Width::W8, Kind::Load),
        2 => (Width::W4, Kind::LoadSigned { sixty_four: true }),
        _ => return None,
    };
    let offset = signed(bits(word, 5, 19), 19) * 4;
    Some(Access { width, rt: register(word, 0), kind, from: From::Literal(offset) })
}

/// "LDAPR/STLR (unscaled immediate)".
fn ordered_offset(word: u64) -> Option<Access> {
    let plain = bits(word, 21, 1) == 0 && bits(word, 10, 2) == 0;
    let from = From::Base(register(word, 5), signed(bits(word, 12, 9), 9));
    plain.then_some(()).and_then(|()| Some(access(word, kind(word)?, from)))
}

/// "Load/store ordered": LDAR, STLR, LDLAR, STLLR; not exclusive, not compare and swap.
fn ordered(word: u64) -> Option<Access> {
    let kind = if bits(word, 22, 1) == 1 { Kind::Load } else { Kind::Store };
    let ordered = bits(word, 23, 1) == 1 && bits(word, 21, 1) == 0;
    ordered.then(|| access(word, kind, From::Base(register(word, 5), 0)))
}

/// The register number in bits `at..at + 5`.
fn register(word: u64, at: u32) -> u8 {
    bits(word, at, 5).to_le_bytes()[0]
}

fn bits(word: u64, at: u32, count: u32) -> u64 {
    (word >> at) & ((1 << count) - 1)
}

fn signed(value: u64, bits: u32) -> i64 {
    (value << (64 - bits)).cast_signed() >> (64 - bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the words of an assembler's listing access.
    #[track_caller]
    fn is(word: u32, width: Width, rt: u8, kind: Kind, from: From) {
        assert_eq!(Access::of(word), Some(Access { width, rt, kind, from }), "{word:#010x}");
    }

    const SIGNED: Kind = Kind::LoadSigned { sixty_four: true };
    const SIGNED_W: Kind = Kind::LoadSigned { sixty_four: false };

    #[test]
    fn every_width_and_sign_is_told_apart() {
        is(0x3900_0022, Width::W1, 2, Kind::Store, From::Base(1, 0)); // strb w2, [x1]
        is(0x7900_0422, Width::W2, 2, Kind::Store, From::Base(1, 2)); // strh w2, [x1, #2]
        is(0xb900_0422, Width::W4, 2, Kind::Store, From::Base(1, 4)); // str w2, [x1, #4]
        is(0xf900_0422, Width::W8, 2, Kind::Store, From::Base(1, 8)); // str x2, [x1, #8]
        is(0x3940_0022, Width::W1, 2, Kind::Load, From::Base(1, 0)); // ldrb w2, [x1]
        is(0x3980_0022, Width::W1, 2, SIGNED, From::Base(1, 0)); // ldrsb x2, [x1]
        is(0x39c0_0022, Width::W1, 2, SIGNED_W, From::Base(1, 0)); // ldrsb w2, [x1]
        is(0xb980_0022, Width::W4, 2, SIGNED, From::Base(1, 0)); // ldrsw x2, [x1]
        is(0xf940_003f, Width::W8, 31, Kind::Load, From::Base(1, 0)); // ldr xzr, [x1]
    }

    #[test]
    fn every_way_to_address_without_write_back_is_known() {
        is(0xf85f_8022, Width::W8, 2, Kind::Load, From::Base(1, -8)); // ldur x2, [x1, #-8]
        is(0xb800_4822, Width::W4, 2, Kind::Store, From::Base(1, 4)); // sttr w2, [x1, #4]
        is(0x5800_0042, Width::W8, 2, Kind::Load, From::Literal(8)); // ldr x2, .+8
        is(0x98ff_ffe2, Width::W4, 2, SIGNED, From::Literal(-4)); // ldrsw x2, .-4
        let by = |option, shift| From::Index { base: 1, index: 3, option, shift };
        is(0xf863_7822, Width::W8, 2, Kind::Load, by(0b011, 3)); // ldr x2, [x1, x3, lsl #3]
        is(0xb823_c822, Width::W4, 2, Kind::Store, by(0b110, 0)); // str w2, [x1, w3, sxtw]
        is(0x88df_fc22, Width::W4, 2, Kind::Load, From::Base(1, 0)); // ldar w2, [x1]
        is(0x089f_fc22, Width::W1, 2, Kind::Store, From::Base(1, 0)); // stlrb w2, [x1]
        is(0xb8bf_c022, Width::W4, 2, Kind::Load, From::Base(1, 0)); // ldapr w2, [x1]
        is(0xd95f_8022, Width::W8, 2, Kind::Load, From::Base(1, -8)); // ldapur x2, [x1, #-8]
    }

    #[test]
    fn what_has_no_syndrome_is_not_known() {
        for word in [
            0xf840_8422, // ldr x2, [x1], #8
            0xf840_8c22, // ldr x2, [x1, #8]!
            0xa940_0c22, // ldp x2, x3, [x1]
            0x3dc0_0022, // ldr q2, [x1]
            0x885f_7c22, // ldxr w2, [x1]
            0xb823_0022, // ldadd w3, w2, [x1]
            0x88a3_7c22, // cas w3, w2, [x1]
            0xf980_0022, // prfm #2, [x1]
            0xd503_201f, // nop
        ] {
            assert_eq!(Access::of(word), None, "{word:#010x}");
        }
    }

    #[test]
    fn addresses_are_those_that_the_instruction_makes() {
        let get = |register: u8| match register {
            1 => 0x1000,
            3 => 0xffff_fffe,
            31 => 0x8000,
            _ => 0,
        };
        let at = |word| Access::of(word).unwrap().address(0x100, get);
        assert_eq!(at(0xf85f_8022), 0xff8); // ldur x2, [x1, #-8]
        assert_eq!(at(0xb823_c822), 0xffe); // str w2, [x1, w3, sxtw]
        assert_eq!(at(0xb823_4822), 0x1_0000_0ffe); // str w2, [x1, w3, uxtw]
        assert_eq!(at(0xf940_03e2), 0x8000); // ldr x2, [sp]
        assert_eq!(at(0xf87f_6822), 0x1000); // ldr x2, [x1, xzr]
        assert_eq!(at(0x5800_0042), 0x108); // ldr x2, .+8
    }

    #[test]
    fn a_load_extends_as_its_form_says() {
        let loaded = |word| Access::of(word).unwrap().loaded(0xffff_ff80);
        assert_eq!(loaded(0x3940_0022), 0x80); // ldrb w2
        assert_eq!(loaded(0x3980_0022), 0xffff_ffff_ffff_ff80); // ldrsb x2
        assert_eq!(loaded(0x39c0_0022), 0xffff_ff80); // ldrsb w2
        assert_eq!(loaded(0xf940_0022), 0xffff_ff80); // ldr x2
    }
}
