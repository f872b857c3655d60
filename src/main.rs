//! Ringback
fn main() {}
