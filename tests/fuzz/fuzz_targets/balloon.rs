//! `fuzz::balloon::balloon` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::balloon::balloon(data));
