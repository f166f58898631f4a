//! All tests from the outside, in one binary; this list is their table of contents.

/// The bytes on disk, read by a program that knows only `docs/FORMAT.md`.
mod format;
/// What an opening leaves behind that wrote nothing.
mod reopen;
/// Reads Rust as far as `tidy` needs it.
mod rust_text;
/// The architecture, as rules that are checked.
mod smoke;
mod tidy;
