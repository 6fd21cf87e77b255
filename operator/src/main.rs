//! The `weir-operator` binary.
fn main() {}
