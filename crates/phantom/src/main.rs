//! Makes a synthetic chest X-ray dataset in NIH's own on-disk shape.

fn main() {}
