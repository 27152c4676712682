//! `fuzz::pci::pci` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::pci::pci(data));
