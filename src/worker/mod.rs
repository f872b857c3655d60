//! Media threads.
