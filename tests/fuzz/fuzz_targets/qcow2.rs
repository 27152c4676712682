//! `fuzz::qcow2::qcow2` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::qcow2::qcow2(data));
