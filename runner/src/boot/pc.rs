//! What a guest of the x86_64 machine finds beside itself: descriptor table and page tables, command
//! line, ACPI tables, and what its boot protocol hands over.

use hv::State;
use hv::arch::x86_64::{GDT_SIZE, IDENTITY_MAP_SIZE, write_gdt, write_identity_map};

use super::acpi::RESET_CODE;
use super::layout::{BIOS_DATA, BOOT_DATA, GDT, PAGE_TABLES, RESET_VECTOR, RSDP, ZERO_PAGE};
use super::load::{Loading, does_not_fit};
use super::{BootPlan, Error, Gpas, Platform, linux, mp, multiboot, pvh};

/// What a boot protocol hands over is about these.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) ram: &'a [Gpas],
    pub(super) initrd: Option<&'a Gpas>,
    pub(super) platform: Platform,
}

impl BootPlan {
    /// Linux's 64-bit entry: writes the boot data, and returns the boot vCPU's registers.
    pub(super) fn load_linux64(
        &self,
        machine: &Machine<'_>,
        loading: &mut Loading<'_>,
    ) -> Result<State, Error> {
        let rsdp = self.load_pc(machine, loading)?;
        write_identity_map(loading.memory, PAGE_TABLES)?;
        loading.ranges.push(PAGE_TABLES..PAGE_TABLES + IDENTITY_MAP_SIZE);
        loading.write(ZERO_PAGE, &self.zero_page(machine, rsdp))?;
        Ok(linux::state64(self.entry))
    }

    /// Linux's 32-bit entry.
    pub(super) fn load_linux32(
        &self,
        machine: &Machine<'_>,
        loading: &mut Loading<'_>,
    ) -> Result<State, Error> {
        let rsdp = self.load_pc(machine, loading)?;
        let (gpa, descriptor) = linux::boot_cs32();
        loading.put(gpa, &descriptor)?;
        loading.write(ZERO_PAGE, &self.zero_page(machine, rsdp))?;
        Ok(linux::state32(self.entry))
    }

    /// Xen's PVH entry.
    pub(super) fn load_pvh(
        &self,
        machine: &Machine<'_>,
        loading: &mut Loading<'_>,
    ) -> Result<State, Error> {
        let rsdp = self.load_pc(machine, loading)?;
        if let Some(cpus) = self.mp {
            self.load_mp(cpus, machine, loading)?;
        }
        for (gpa, bytes) in pvh::start_info(machine.ram, machine.initrd, rsdp) {
            loading.write(gpa, &bytes)?;
        }
        Ok(pvh::state(self.entry))
    }

    /// Multiboot's entry.
    pub(super) fn load_multiboot(
        &self,
        machine: &Machine<'_>,
        loading: &mut Loading<'_>,
    ) -> Result<State, Error> {
        // ACPI tables are found where a BIOS has them: this version has no way to tell of them.
        self.load_pc(machine, loading)?;
        load_bios_data(loading)?;
        let command_line = self.command_line_place();
        for (gpa, bytes) in multiboot::info(machine.ram, command_line, machine.initrd) {
            loading.write(gpa, &bytes)?;
        }
        Ok(multiboot::state(self.entry))
    }

    /// What all of them have in common. Tells where the ACPI tables begin; 0 without.
    fn load_pc(&self, machine: &Machine<'_>, loading: &mut Loading<'_>) -> Result<u64, Error> {
        self.fits(&BOOT_DATA, machine.ram, || "boot data".to_owned())?;
        write_gdt(loading.memory, GDT)?;
        loading.ranges.push(GDT..GDT + u64::from(GDT_SIZE));
        let (at, line) = (self.command_line_place(), self.command_line.terminated());
        let range = at..at.saturating_add(line.len() as u64);
        self.fits(&range, machine.ram, || "the command line".into())?;
        loading.write(at, &line)?;
        self.load_acpi(machine, loading)
    }

    /// Writes Intel's MP table, and how it is found.
    fn load_mp(
        &self,
        cpus: u32,
        machine: &Machine<'_>,
        loading: &mut Loading<'_>,
    ) -> Result<(), Error> {
        let what = || format!("the MP table for {cpus} CPUs");
        if cpus > mp::MOST {
            let why = format!("it has names for {} CPUs", mp::MOST);
            return Err(does_not_fit(what(), &(RSDP..RSDP), why, "ask for fewer CPUs"));
        }
        load_bios_data(loading)?;
        for (gpa, bytes) in mp::tables(cpus, machine.platform) {
            self.fits(&(gpa..gpa.saturating_add(bytes.len() as u64)), machine.ram, what)?;
            loading.write(gpa, &bytes)?;
        }
        Ok(())
    }

    fn zero_page(&self, machine: &Machine<'_>, rsdp: u64) -> Vec<u8> {
        let Machine { ram, initrd, .. } = *machine;
        let command_line = self.command_line.len() + usize::from(self.is_hermit_loader());
        linux::zero_page(ram, self.kernel.setup(), command_line, initrd, rsdp)
    }

    /// Writes the ACPI tables, if the guest gets some, and tells where they begin; 0 without.
    fn load_acpi(&self, machine: &Machine<'_>, loading: &mut Loading<'_>) -> Result<u64, Error> {
        let Some(acpi) = &self.acpi else { return Ok(0) };
        let tables = acpi.bytes(machine.platform);
        let range = RSDP..RSDP.saturating_add(tables.len() as u64);
        let what = || format!("the ACPI tables for {} CPUs", acpi.cpus);
        self.fits(&range, machine.ram, what)?;
        if range.end > RESET_VECTOR {
            let why = format!("their place ends at {RESET_VECTOR:#x}");
            return Err(does_not_fit(what(), &range, why, "ask for fewer CPUs"));
        }
        loading.write(RSDP, &tables)?;
        // QEMU has its firmware there.
        if machine.platform == Platform::Hypervisor {
            loading.write(RESET_VECTOR, &RESET_CODE)?;
        }
        Ok(RSDP)
    }
}

/// What a BIOS leaves about memory.
fn load_bios_data(loading: &mut Loading<'_>) -> Result<(), Error> {
    BIOS_DATA.iter().try_for_each(|(gpa, bytes)| loading.write(*gpa, bytes))
}
