//! What would be left after a crash?
