//! All tests from the outside, in one binary; this list is their table of contents.

/// The programs in `examples`, killed and run again.
mod examples;
/// The bytes on disk, read by a program that knows only `docs/FORMAT.md`.
mod format;
/// Reads Rust as far as `tidy` needs it.
mod rust_text;
/// The architecture, as rules that are checked.
mod tidy;
