//! Whether the framework's interrupt controller fits where guests look for it
//! ([`hv::arch::aarch64::gic`]).

use hv::arch::aarch64::gic::{DISTRIBUTOR, END, FIRST_MSI, MSI_FRAME, MSIS, REDISTRIBUTORS};
use hv::{Error, Kind, Result};

/// What the framework asks of one region: bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// How large it is.
    pub size: u64,
    /// What its base is a multiple of.
    pub alignment: u64,
}

/// The framework's demands, and its interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demands {
    /// For the distributor.
    pub distributor: Demand,
    /// For the redistributors of all vCPUs there can be.
    pub redistributors: Demand,
    /// For the MSI frame.
    pub msi: Demand,
    /// The lowest INTID of a shared peripheral interrupt (SPI).
    pub first_spi: u32,
    /// How many SPIs there are.
    pub spis: u32,
}

impl Demands {
    /// Checks that our addresses meet the demands.
    ///
    /// # Errors
    /// `Unsupported`, naming the region that does not fit.
    pub fn check(&self) -> Result<()> {
        let regions = [
            ("distributor", DISTRIBUTOR, MSI_FRAME, self.distributor),
            ("MSI frame", MSI_FRAME, REDISTRIBUTORS, self.msi),
            ("redistributors", REDISTRIBUTORS, END, self.redistributors),
        ];
        for (name, base, end, Demand { size, alignment }) in regions {
            let fits = base.checked_add(size).is_some_and(|last| last <= end);
            if !fits || alignment == 0 || !base.is_multiple_of(alignment) {
                return Err(refuse(format!(
                    "{name} of {size:#x} bytes, aligned to {alignment:#x}, at GPA {base:#x}"
                )));
            }
        }
        let (last, last_spi) = (FIRST_MSI + MSIS, self.first_spi.saturating_add(self.spis));
        if self.first_spi > FIRST_MSI || last_spi < last {
            let first = self.first_spi;
            return Err(refuse(format!("INTIDs {first} to {last_spi}, where we use {FIRST_MSI}")));
        }
        Ok(())
    }

    /// Checks that `line` is an SPI that lines can use.
    ///
    /// # Errors
    /// `Invalid` otherwise.
    pub fn check_line(&self, line: u32) -> Result<()> {
        let spi = line.checked_sub(self.first_spi).is_some_and(|index| index < self.spis);
        let message = line.checked_sub(FIRST_MSI).is_some_and(|index| index < MSIS);
        if spi && !message {
            return Ok(());
        }
        let why = if message { "it is message-signalled" } else { "there is no such SPI" };
        Err(Error::new("take an interrupt line", Kind::Invalid, format!("INTID {line}: {why}")))
    }
}

fn refuse(why: String) -> Error {
    Error::new("place the GIC", Kind::Unsupported, why)
        .remedy("this version of macOS wants another layout: please report it")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two 64 KiB frames a vCPU for 64 vCPUs.
    const USUAL: Demands = Demands {
        distributor: Demand { size: 0x1_0000, alignment: 0x1_0000 },
        redistributors: Demand { size: 0x80_0000, alignment: 0x1_0000 },
        msi: Demand { size: 0x1_0000, alignment: 0x1_0000 },
        first_spi: 32,
        spis: 988,
    };

    #[test]
    fn our_addresses_meet_usual_demands() {
        USUAL.check().unwrap();
    }

    #[test]
    fn a_region_that_does_not_fit_is_named() {
        let too_large = Demand { size: 0x100_0000, alignment: 0x1_0000 };
        let too_coarse = Demand { size: 0x1_0000, alignment: 0x4_0000 };
        let cases = [
            (Demands { distributor: too_large, ..USUAL }, "distributor"),
            (Demands { redistributors: too_large, ..USUAL }, "redistributors"),
            (Demands { msi: too_coarse, ..USUAL }, "MSI frame"),
            (Demands { msi: Demand { size: u64::MAX, alignment: 1 }, ..USUAL }, "MSI frame"),
            (Demands { msi: Demand { size: 1, alignment: 0 }, ..USUAL }, "MSI frame"),
            (Demands { spis: 64, ..USUAL }, "INTIDs 32 to 96"),
            (Demands { first_spi: 96, ..USUAL }, "INTIDs 96"),
        ];
        for (demands, name) in cases {
            let error = demands.check().unwrap_err();
            assert_eq!(error.kind, Kind::Unsupported);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn lines_are_the_spis_that_no_message_uses() {
        for line in [32, 79, 144, 1019] {
            USUAL.check_line(line).unwrap();
        }
        for line in [0, 31, 80, 143, 1020, u32::MAX] {
            assert_eq!(USUAL.check_line(line).unwrap_err().kind, Kind::Invalid, "{line}");
        }
    }
}
