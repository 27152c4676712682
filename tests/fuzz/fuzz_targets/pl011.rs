//! `fuzz::pl011::pl011` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::pl011::pl011(data));
