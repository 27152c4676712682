//! `fuzz::image::mbr` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::image::mbr(data));
