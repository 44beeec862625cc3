//! Finds the attended region of every image and crops it.

fn main() {}
