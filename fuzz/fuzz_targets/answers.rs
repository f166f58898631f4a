//! Does a guest bear whatever an owner answers?
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| backlog_fuzz::run("answers", data));
