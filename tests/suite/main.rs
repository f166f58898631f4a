//! All tests from the outside, in one binary; this list is their table of contents.

/// Every promise, at a crash after and a failure of every operation.
mod crash;
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
/// What must, may and must not be there: the model.
mod ledger;
/// Planted bugs, which the crash tests find.
mod plants;
/// Random steps, reopening, kills and power cuts among them.
mod random;
/// What an opening leaves behind that wrote nothing.
mod reopen;
/// Reads Rust as far as `tidy` needs it.
mod rust_text;
/// Steps on a queue, each answer noted in the ledger.
mod script;
/// The architecture, as rules that are checked.
mod tidy;
/// What the crash tests do before the crash.
mod workloads;
