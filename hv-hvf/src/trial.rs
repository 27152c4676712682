//! A few instructions in a VM of their own, by the way that every guest goes: with an interrupt controller,
//! on a thread that is the vCPU's.

use std::sync::mpsc;
use std::time::Duration;

use hv::arch::aarch64;
use hv::{
    Address, Error, Exit, GuestRam, Hypervisor, IrqChip, Kind, Result, Resume, Vcpu, VcpuSeed, Vm,
    VmConfig,
};
use vm_memory::{Bytes, GuestAddress};

use crate::Hvf;

/// A trial takes milliseconds. After this long nothing will come of it.
const PATIENCE: Duration = Duration::from_secs(10);

const RAM: u64 = 0x4000_0000;
const RAM_SIZE: u64 = 64 << 10;
/// Where nothing is.
const DEVICE: u64 = 0x1000_0000;

/// `movz x0, #42`, `movz x1, #0x1000, lsl #16`, `str w0, [x1]` (Arm ARM DDI 0487, A64).
const CODE: [u32; 3] = [0xd280_0540, 0xd2a2_0001, 0xb900_0020];

/// Makes a VM, and runs it until it has written the answer to a device.
pub(crate) fn trial() -> Result<()> {
    let (done, result) = mpsc::channel();
    // A framework that hangs is left behind on its thread; it ends with the process.
    let thread = std::thread::Builder::new().name("probe".into()).spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = done.send(attempt());
    });
    let failed = |kind, why: &str| Error::new("run a guest", kind, why).remedy("report it");
    thread.map_err(|error| failed(Kind::Exhausted, &error.to_string()))?;
    match result.recv_timeout(PATIENCE) {
        Ok(Ok(Exit::Write { at: Address::Mmio(DEVICE), value: 42, .. })) => Ok(()),
        Ok(Ok(other)) => Err(failed(Kind::Host, &format!("it did something else: {other:?}"))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(failed(Kind::Host, "it does not end")),
    }
}

fn attempt() -> Result<Exit> {
    let memory = hv::mem::memory([(RAM, GuestRam::new(RAM_SIZE)?)])?;
    let code: Vec<u8> = CODE.iter().flat_map(|word| word.to_le_bytes()).collect();
    let unwritten = |error| Error::new("load a guest", Kind::Host, format!("{error}"));
    memory.write_slice(&code, GuestAddress(RAM)).map_err(unwritten)?;
    let config = VmConfig::new().memory(&memory).irqchip(IrqChip::InKernel);
    let (vm, mut seeds) = Hvf::open()?.create(config)?;
    let Some(seed) = seeds.pop() else {
        return Err(Error::new("run a guest", Kind::Host, "no vCPU"));
    };
    let mut vcpu = seed.bind()?;
    vcpu.set_state(&aarch64::State::el1(RAM, 0).into())?;
    vm.ready()?;
    vcpu.run(Resume::Go)
}
