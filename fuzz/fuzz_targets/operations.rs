//! Do steps in any order keep every promise?
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| backlog_fuzz::run("operations", data));
