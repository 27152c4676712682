//! `fuzz::vsock::vsock` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::vsock::vsock(data));
