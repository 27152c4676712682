//! `fuzz::rng::rng` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::rng::rng(data));
