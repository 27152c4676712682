//! What guests find on KVM alone, beside the contract: its signature and its clock.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use hv::arch::x86_64::{State, write_gdt, write_identity_map};
use hv::{Address, Exit, GuestRam, Hypervisor, Resume, Vcpu, VcpuSeed, Vm, VmConfig};
use hv_kvm::Kvm;
use vm_memory::{Bytes, GuestAddress};

const LOAD: u64 = 0x1_0000;
const GDT: u64 = 0x500;
const TABLES: u64 = 0x1000;
const RESULT: Address = Address::Port(0xe0);

/// Runs `guest` and returns what it sent to the result port, up to its HLT.
fn results(kvm: &Kvm, guest: &[u8]) -> Vec<u64> {
    let memory = hv::mem::memory([(0, GuestRam::new(1 << 20).unwrap())]).unwrap();
    memory.write_slice(guest, GuestAddress(LOAD)).unwrap();
    write_gdt(&memory, GDT).unwrap();
    let cr3 = write_identity_map(&memory, TABLES).unwrap();
    let (vm, mut seeds) = kvm.create(VmConfig::new().memory(&memory)).unwrap();
    let mut vcpu = seeds.remove(0).bind().unwrap();
    vcpu.set_state(&State::long_mode(LOAD, cr3, GDT).into()).unwrap();
    vm.ready().unwrap();
    let mut results = Vec::new();
    loop {
        match vcpu.run(Resume::Go).unwrap() {
            Exit::Write { at: RESULT, value, .. } => results.push(value),
            Exit::Halted => return results,
            other => panic!("{other:?} after {results:x?}"),
        }
    }
}

#[test]
fn a_guest_sees_kvms_signature_and_a_clock_that_the_host_fills_in() {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return println!("skipped: {error}"),
    };
    let results = results(&kvm, guests::x86_64::kvm::PVCLOCK);
    let [ebx, ecx, edx, features, version, multiplier] = results[..] else {
        panic!("six results, not {results:x?}");
    };
    let signature: Vec<u8> = [ebx, ecx, edx]
        .into_iter()
        .flat_map(|word| word.to_le_bytes().into_iter().take(4))
        .collect();
    assert_eq!(&signature, b"KVMKVMKVM\0\0\0");
    assert_eq!(features >> 3 & 1, 1, "the clock source at the new MSRs: {features:#x}");
    assert!(version != 0 && version % 2 == 0, "a filled page has an even version: {version}");
    assert_ne!(multiplier, 0);
}
