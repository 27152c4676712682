//! RAM that changes and RAM that must not.

// UNSAFETY: the framework is a C library.
#![allow(unsafe_code)]

use std::sync::mpsc;

use applevisor_sys as hvf;

use crate::machine::{CANCELED, EXCEPTION, MORE, Machine, RAM_SIZE, SOON, SUCCESS, code, exit};

/// `movz x0, #0x5000, lsl #16`, `str w1, [x0]`, `b .`
const STORE: [u32; 3] = [0xd2aa_0000, 0xb900_0001, 0x1400_0000];
/// `b .`
const LOOP: [u32; 1] = [0x1400_0000];

#[test]
fn assumption_6_a_store_to_read_only_ram_is_an_abort_with_its_syndrome() {
    let Some(mut machine) = Machine::new(&STORE) else { return };
    machine.map(MORE, &[], hvf::HV_MEMORY_READ | hvf::HV_MEMORY_EXEC);
    let exit = machine.vcpu().run(SOON);
    assert_eq!((exit.reason, exit.class(), exit.ipa), (EXCEPTION, 0x24, MORE), "{exit:x?}");
    // ISV and WnR; DFSC 0b0011xx is a permission fault.
    assert_eq!(exit.esr & (1 << 24 | 1 << 6 | 0x3c), 1 << 24 | 1 << 6 | 0x0c, "{exit:x?}");
}

#[test]
fn assumption_18_ram_is_unmapped_while_a_vcpu_runs() {
    let Some(mut machine) = Machine::new(&LOOP) else { return };
    machine.map(MORE, &[], hvf::HV_MEMORY_READ | hvf::HV_MEMORY_WRITE);
    let (send, id) = mpsc::channel();
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let vcpu = machine.vcpu();
            send.send(vcpu.id).unwrap();
            vcpu.run(SOON).reason
        });
        let id = id.recv().unwrap();
        let len = usize::try_from(RAM_SIZE).unwrap();
        // SAFETY: no guest uses it, and the host's pages stay.
        assert_eq!(code(unsafe { hvf::hv_vm_unmap(MORE, len) }), SUCCESS);
        exit(id);
        assert_eq!(guest.join().unwrap(), CANCELED);
    });
}
