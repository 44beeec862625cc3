//! Speed of the three convolution passes.
fn main() {}
