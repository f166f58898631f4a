//! Does a batch of any bytes decode to what lies there, or to nothing?
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| backlog_fuzz::run("batch", data));
