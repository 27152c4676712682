//! ID registers as the guest shall see them: without what the VM does not have. The same policy for
//! every backend, as plain functions of what the host has.
//!
//! Fields: DDI 0487, `ID_AA64PFR0_EL1`, `ID_AA64PFR1_EL1`, `ID_AA64DFR0_EL1`, `ID_AA64MMFR0_EL1`.

/// EL2, EL3 and SVE absent; the GIC's system registers as `gic` says.
pub fn pfr0(host: u64, gic: bool) -> u64 {
    let host = field(field(field(host, 8, 0), 12, 0), 32, 0);
    field(host, 24, u64::from(gic))
}

/// Whether guests find the GIC's system registers.
pub fn has_gic(pfr0: u64) -> bool {
    pfr0 >> 24 & 0xf != 0
}

/// SME absent.
pub fn pfr1(host: u64) -> u64 {
    field(host, 24, 0)
}

/// Performance monitors absent, or as on the host where the VM has them.
pub fn dfr0(host: u64, monitors: bool) -> u64 {
    if monitors { host } else { field(host, 8, 0) }
}

/// Whether guests find performance monitors that count (`PMUVer`): PMUv3, and none of a maker's own.
pub fn has_monitors(dfr0: u64) -> bool {
    !matches!(dfr0 >> 8 & 0xf, 0 | 0xf)
}

/// PARange no larger than guest physical addresses of `address_bits` bits.
pub fn mmfr0(host: u64, address_bits: u8) -> u64 {
    let most = match address_bits {
        52.. => 6,
        48.. => 5,
        44.. => 4,
        42.. => 3,
        40.. => 2,
        36.. => 1,
        _ => 0,
    };
    field(host, 0, most.min(host & 0xf))
}

/// `register` with the four bits from `shift` replaced by `value`.
fn field(register: u64, shift: u32, value: u64) -> u64 {
    register & !(0xf << shift) | value << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_vm_does_not_have_is_not_announced_and_the_rest_is_kept() {
        assert_eq!(pfr0(0x1111_1111_1111_1111, true), 0x1111_1110_1111_0011);
        assert_eq!(pfr0(0x1111_1111_1111_1111, false), 0x1111_1110_1011_0011);
        assert!(has_gic(pfr0(0, true)) && !has_gic(pfr0(!0, false)));
        assert_eq!(pfr1(0x1121), 0x1121);
        assert_eq!(pfr1(0x0200_0021), 0x21);
        assert_eq!(dfr0(0x1030_5408, false), 0x1030_5008);
        assert_eq!(dfr0(0x1030_5408, true), 0x1030_5408);
        assert!(has_monitors(0x400) && !has_monitors(0xf00) && !has_monitors(0x1030_5008));
    }

    #[test]
    fn the_address_size_is_the_smaller_of_the_cpus_and_the_vms() {
        assert_eq!(mmfr0(0x1122_0005, 40), 0x1122_0002);
        assert_eq!(mmfr0(0x1122_0005, 36), 0x1122_0001);
        assert_eq!(mmfr0(0x1122_0005, 39), 0x1122_0001);
        assert_eq!(mmfr0(0x1122_0005, 52), 0x1122_0005);
        assert_eq!(mmfr0(0x1122_0002, 48), 0x1122_0002);
        assert_eq!(mmfr0(0x1122_0003, 32), 0x1122_0000);
    }
}
