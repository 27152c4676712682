//! `fuzz::image::bzimage` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::image::bzimage(data));
