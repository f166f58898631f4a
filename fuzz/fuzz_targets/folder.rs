//! Does a queue whose files were changed keep to what it can?
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| backlog_fuzz::run("folder", data));
