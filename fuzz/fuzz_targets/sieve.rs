//! However the stream is cut, the same leaves, within the same window; what leaves is what arrived, but for whole
//! frames that were left out and digits that were overwritten in place; and a message that was JSON still is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seqgate::sieve::{Mode, Rules};
use support::frames::{Frame, frames};
use support::pump::{Pump, rules, strain};

#[path = "../../tests/support/mod.rs"]
mod support;

fuzz_target!(|input: &[u8]| {
    let Some((&[mode, first, second], bytes)) = input.split_first_chunk() else { return };
    let mode = if mode % 4 == 0 { Mode::Observe } else { Mode::Enforce };
    let tight = || Rules { inspect_limit: 700, runs: 3, ..rules(mode) };
    let whole = strain(tight(), bytes, &[usize::MAX]);
    for sizes in [&[1][..], &[usize::from(first) + 1, usize::from(second) + 1]] {
        let cut = strain(tight(), bytes, sizes);
        assert_eq!(cut.out, whole.out);
        assert_eq!(cut.dropped, whole.dropped);
        assert_eq!(cut.tally, whole.tally);
        assert_eq!(cut.sieve.close(), whole.sieve.close());
        assert_eq!(cut.sieve.at_boundary(), whole.sieve.at_boundary());
    }
    if whole.dropped.is_empty() || mode == Mode::Observe {
        assert_eq!(whole.out, bytes);
    } else {
        only_frames_are_missing(bytes, &whole);
    }
});

/// What left is a part of what arrived: frames in their order, each with its length; those that changed are JSON.
fn only_frames_are_missing(bytes: &[u8], pump: &Pump) {
    let (sent, sent_rest) = frames(bytes);
    let (got, got_rest) = frames(&pump.out);
    assert!(got_rest >= sent_rest.min(got_rest), "half a frame at the end stays half a frame");
    let mut sent = sent.iter();
    for frame in &got {
        let original = sent.find(|sent| is_from(frame, sent)).expect("a frame that arrived");
        if frame.payload != original.payload && frame.first == 0x81 {
            let json = serde_json::from_slice::<serde_json::Value>(&frame.payload);
            assert!(json.is_ok() || serde_json::from_slice::<serde_json::Value>(&original.payload).is_err());
        }
    }
}

/// The same frame, perhaps with another number in it.
fn is_from(frame: &Frame, sent: &Frame) -> bool {
    let digits = |byte: &u8| byte.is_ascii_digit() || *byte == b' ';
    (frame.first, frame.len) == (sent.first, sent.len)
        && frame
            .payload
            .iter()
            .zip(&sent.payload)
            .all(|(now, then)| now == then || digits(now) && digits(then))
}
