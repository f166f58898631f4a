//! Does a manifest?
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| backlog_fuzz::run("manifest", data));
