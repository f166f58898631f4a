//! Does a half of an offset file, and does it give a sound state?
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| backlog_fuzz::run("offsets", data));
