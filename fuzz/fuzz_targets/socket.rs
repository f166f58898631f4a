//! Does an owner bear whatever a guest sends?
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| backlog_fuzz::run("socket", data));
