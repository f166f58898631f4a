//! How does the real disk do it?
