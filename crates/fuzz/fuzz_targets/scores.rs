//! See [`fuzz::TARGETS`].
#![no_main]

const NAME: &str = env!("CARGO_BIN_NAME");

libfuzzer_sys::fuzz_target!(init: fuzz::plant(NAME), |bytes: &[u8]| fuzz::run(NAME, bytes));
