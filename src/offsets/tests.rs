//! Does the offset file keep its promises?
