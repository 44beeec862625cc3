//! Prints the data dictionary: `cargo run -p tables --example dictionary > docs/data-dictionary.md`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(tables::dictionary::markdown().as_bytes())
}
