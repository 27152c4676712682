//! `fuzz::image::arm64` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::image::arm64(data));
