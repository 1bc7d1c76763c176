//! See `tests::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests::fuzz::qcow2(data));
