//! What is seen at a message's two ends, if anything, is what the whole of it says, whatever `data` holds; and what has the form
//! of a message is read by it as that message.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/mod.rs"]
mod support;

/// An event without its data.
const FRONT: &[u8] = br#"{"type":"event","event":"agent","payload":{"runId":"r","stream":"s","data":"#;
const BACK: &[u8] = br#","sessionKey":"k","seq":4,"ts":1000},"seq":9}"#;

fuzz_target!(|input: &[u8]| {
    support::readers::ends_agree(input);
    let seen = support::readers::ends_agree(&[FRONT, input, BACK].concat());
    assert!(seen || !is_object(input), "an event in the usual order is seen");
});

/// JSON that begins and ends as `JSON.stringify` writes objects.
fn is_object(text: &[u8]) -> bool {
    text.first() == Some(&b'{') && text.last() == Some(&b'}') && support::naive_json::parse(text).is_some()
}
