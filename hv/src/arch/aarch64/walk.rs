//! Stage 1 translation at EL1, for reports: where a guest virtual address lies (Arm ARM DDI 0487,
//! D8.2 "Address translation", VMSAv8-64 with the 4 KiB granule and 48-bit addresses).
//!
//! The tables are the guest's and may hold anything: four descriptors are read at most.

/// `SCTLR_EL1.M`: translation is on.
const SCTLR_M: u64 = 1 << 0;
/// `TCR_EL1.DS`: descriptors of 52-bit addresses, in another format.
const TCR_DS: u64 = 1 << 59;
/// Bits 47 to 12 of a descriptor or address.
const ADDRESS: u64 = 0xffff_ffff_f000;
/// Bits of an address within a page, and those that one level of tables resolves.
const PAGE_BITS: u32 = 12;
const LEVEL_BITS: u32 = 9;

/// The registers that say how EL1 translates addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the architecture's")]
pub struct Translation {
    pub sctlr_el1: u64,
    pub tcr_el1: u64,
    pub ttbr0_el1: u64,
    pub ttbr1_el1: u64,
}

/// One of the two halves of the virtual address space.
struct Half {
    /// Where its tables begin.
    table: u64,
    /// How many bits of an address the tables resolve, those within a page included.
    input_bits: u32,
    /// Whether bits 63 to 56 of an address count.
    top_byte: bool,
}

impl Translation {
    /// The guest physical address of `address`; nothing where it has none, or where another granule
    /// or larger addresses are in use. `read` gives the 8 bytes at a guest physical address, as far as
    /// they are RAM.
    pub fn translate(&self, address: u64, read: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        if self.sctlr_el1 & SCTLR_M == 0 {
            return Some(address);
        }
        let half = self.half(address)?;
        let levels = (half.input_bits.checked_sub(PAGE_BITS)?).div_ceil(LEVEL_BITS);
        let mut shift = PAGE_BITS + LEVEL_BITS * levels.checked_sub(1)?;
        // The first table may be smaller than a page.
        let mut table = half.table & !((8 << (half.input_bits - shift)) - 1);
        let mut index = address & low_bits(half.input_bits);
        loop {
            let entry = read(table | (index >> shift) << 3)?;
            let last = shift == PAGE_BITS;
            match (entry & 0b11, last) {
                (0b11, false) => table = entry & ADDRESS,
                // A page, or a block of 2 MiB or 1 GiB.
                (0b11, true) | (0b01, false) if shift <= PAGE_BITS + 2 * LEVEL_BITS => {
                    let offset = low_bits(shift);
                    return Some(entry & ADDRESS & !offset | address & offset);
                }
                _ => return None,
            }
            index &= low_bits(shift);
            shift -= LEVEL_BITS;
        }
    }

    /// The half that `address` belongs to, if it does.
    fn half(&self, address: u64) -> Option<Half> {
        let tcr = self.tcr_el1;
        let upper = address >> 55 & 1 == 1;
        // TxSZ, EPDx, TGx with its value for 4 KiB, TBIx.
        let (size, disabled, granule, top_byte_ignored) = match upper {
            false => (tcr & 0x3f, tcr >> 7 & 1, tcr >> 14 & 0b11 == 0b00, tcr >> 37 & 1),
            true => (tcr >> 16 & 0x3f, tcr >> 23 & 1, tcr >> 30 & 0b11 == 0b10, tcr >> 38 & 1),
        };
        if disabled == 1 || !granule || tcr & TCR_DS != 0 || !(16..=39).contains(&size) {
            return None;
        }
        let table = if upper { self.ttbr1_el1 } else { self.ttbr0_el1 };
        let half = Half {
            table: table & 0xffff_ffff_ffc0,
            input_bits: 64 - u32::try_from(size).ok()?,
            top_byte: top_byte_ignored == 0,
        };
        half.holds(address, upper).then_some(half)
    }
}

impl Half {
    /// Whether the bits that no table resolves are all 0, or all 1 in the upper half.
    fn holds(&self, address: u64, upper: bool) -> bool {
        let counted =
            if self.top_byte { u64::MAX } else { low_bits(56) } & !low_bits(self.input_bits);
        address & counted == if upper { counted } else { 0 }
    }
}

/// The lowest `count` bits, of 0 to 63.
fn low_bits(count: u32) -> u64 {
    (1 << count) - 1
}

#[cfg(test)]
mod tests;
