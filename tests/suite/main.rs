//! All tests from the outside, in one binary; this list is their table of contents.

/// How the command line is run.
mod cli;
/// Bad input: one clear line, a code, nothing changed.
mod cli_bad_input;
/// `stats` and `verify`, which change nothing.
mod cli_look;
/// `push`: what goes in, and what is told.
mod cli_push;
/// `work`: a command for each message.
mod cli_work;
/// The programs in `examples`, killed and run again.
mod examples;
/// The bytes on disk, read by a program that knows only `docs/FORMAT.md`.
mod format;
/// Reads Rust as far as `tidy` needs it.
mod rust_text;
/// The architecture, as rules that are checked.
mod tidy;
