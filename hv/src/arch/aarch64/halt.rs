//! Whether a processor can still do anything: kernels end in a loop of WFI, WFE or nothing with interrupts
//! masked when they give up.
//!
//! That a processor waits in a WFI says little. Linux idles in one with interrupts masked, and what comes
//! wakes it although it is not taken (DDI 0487, "Wait for Interrupt mechanism"). So the code it goes on with is
//! looked at: where that leads back to itself with nothing in between, no wake leads out of it.

/// `PSTATE`: IRQs and FIQs are masked.
const MASKED: u64 = 0b11 << 6;

/// Instructions that are looked at, which is more than such loops have.
const MOST: usize = 16;

/// Whether a processor at `pc` with `pstate` stays in a loop for good that does nothing. `word` gives the
/// instruction at a virtual address, as far as it is RAM.
///
/// What another processor may change of the code, or of the tables that lead to it, is not foreseen.
pub fn is_halted(pc: u64, pstate: u64, word: impl Fn(u64) -> Option<u32>) -> bool {
    if pstate & MASKED != MASKED {
        return false;
    }
    let mut seen = [u64::MAX; MOST];
    let mut at = pc;
    for index in 0..MOST {
        let (before, rest) = seen.split_at_mut(index);
        if before.contains(&at) {
            return true;
        }
        if let Some(place) = rest.first_mut() {
            *place = at;
        }
        match word(at).map(Instruction::from) {
            Some(Instruction::Nothing) => at = at.wrapping_add(4),
            Some(Instruction::Branch(offset)) => at = at.wrapping_add(offset),
            Some(Instruction::Other) | None => return false,
        }
    }
    false
}

/// An instruction (DDI 0487, C4.1 "A64 instruction set encoding"), as far as it matters here.
enum Instruction {
    /// NOP, YIELD, WFE, WFI, SEV, SEVL; DSB, DMB, ISB.
    Nothing,
    /// B, to so many bytes from itself.
    Branch(u64),
    /// Anything else.
    Other,
}

impl From<u32> for Instruction {
    fn from(word: u32) -> Self {
        // HINT has CRm and op2 in bits 11 to 5; those of 6 and more do other things.
        let hint = word & 0xffff_f01f == 0xd503_201f && word >> 5 & 0x7f < 6;
        // Of barriers op2 is 4, 5 or 6; CRm is whom they concern.
        let barrier = word & 0xffff_f01f == 0xd503_301f && (4..=6).contains(&(word >> 5 & 7));
        match word >> 26 {
            _ if hint || barrier => Self::Nothing,
            0b00_0101 => {
                // 26 bits with a sign, in words.
                let offset = i64::from((word << 6).cast_signed() >> 6) * 4;
                Self::Branch(offset.cast_unsigned())
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOP: u32 = 0xd503_201f;
    const WFE: u32 = 0xd503_205f;
    const WFI: u32 = 0xd503_207f;
    const DSB_SY: u32 = 0xd503_3f9f;
    const ISB: u32 = 0xd503_3fdf;
    const BASE: u64 = 0xffff_8000_1000_0000;
    const OFF: u64 = 0x3c5;

    /// `B` to so many instructions from itself.
    fn b(words: i32) -> u32 {
        0x1400_0000 | words.cast_unsigned() & 0x03ff_ffff
    }

    /// Whether a processor is halted at instruction `at` of `code`.
    fn halted(code: &[u32], at: u64, pstate: u64) -> bool {
        is_halted(BASE + 4 * at, pstate, |address| {
            let index = usize::try_from(address.checked_sub(BASE)? / 4).ok()?;
            code.get(index).copied()
        })
    }

    #[test]
    fn loops_that_do_nothing_are_halts_wherever_they_are_found() {
        // Nanos and micro-guests; Linux's `machine_halt`; its `cpu_park_loop`; one with barriers.
        for code in [
            &[WFI, b(-1)][..],
            &[b(0)],
            &[WFE, WFI, b(-2)],
            &[DSB_SY, WFI, ISB, NOP, b(-4)],
            &[b(2), b(1), WFI, b(-2)],
        ] {
            for at in 0..code.len() as u64 {
                assert!(halted(code, at, OFF), "{code:x?} at {at}");
            }
        }
    }

    #[test]
    fn with_irqs_or_fiqs_let_in_there_is_no_halt() {
        for pstate in [0, 0x3c5 & !(1 << 7), 0x3c5 & !(1 << 6), 0x305] {
            assert!(!halted(&[WFI, b(-1)], 0, pstate), "{pstate:#x}");
        }
        assert!(halted(&[WFI, b(-1)], 0, 1 << 6 | 1 << 7 | 5));
    }

    #[test]
    fn what_leads_out_of_the_loop_or_does_something_is_no_halt() {
        let ret = 0xd65f_03c0;
        // Linux's `cpu_do_idle`; a load, a conditional branch, BL, a call of the firmware, PACIASP, ESB.
        assert!(!halted(&[DSB_SY, WFI, ret], 1, OFF));
        for other in [0xf940_0000, 0x5400_0000, 0x9400_0000, 0xd400_0002, 0xd503_233f, 0xd503_221f]
        {
            assert!(!halted(&[WFI, other, b(-2)], 0, OFF), "{other:#x}");
        }
        // The loop's end is beyond what is known, or its way is long.
        assert!(!halted(&[WFI, b(1)], 0, OFF));
        assert!(!halted(&[NOP; 64], 0, OFF));
        assert!(!is_halted(u64::MAX - 3, OFF, |_| Some(NOP)));
    }

    #[test]
    fn branches_reach_as_far_as_their_26_bits_in_both_directions() {
        for (word, target) in [(0x15ff_ffff, 0x07ff_fffc), (0x1600_0000, 0xffff_ffff_f800_0000)] {
            let asked = std::cell::RefCell::new(Vec::new());
            let first = |address| {
                asked.borrow_mut().push(address);
                (address == 0).then_some(word)
            };
            assert!(!is_halted(0, OFF, first));
            assert_eq!(*asked.borrow(), [0, target]);
        }
    }
}
