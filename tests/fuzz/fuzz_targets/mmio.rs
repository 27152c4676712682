//! `fuzz::mmio::mmio` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::mmio::mmio(data));
