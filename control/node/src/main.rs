//! mizzen
fn main() {}
