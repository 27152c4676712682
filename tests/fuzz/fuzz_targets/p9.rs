//! `fuzz::p9::p9` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::p9::p9(data));
