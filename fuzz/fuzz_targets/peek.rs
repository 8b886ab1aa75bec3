//! Whatever the scanner judges, `serde_json` and a naive reader judge equally: the same texts are JSON, and say the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/mod.rs"]
mod support;

fuzz_target!(|text: &[u8]| support::readers::agree(text));
