//! On the path of another protocol, the run guard lets that protocol alone, and is no easier to get around.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use seqgate::sieve::Mode;
use support::frames::{BINARY, FIN, PING, TEXT};
use support::guard::{Turnstile, chat, cut, guard, hear, masked, rate, said};
use support::requests::{Meaning, meaning};

const LIMIT: usize = 512;

/// A connection of a client that has spent all it had.
fn spent() -> Turnstile {
    let mut pump = Turnstile::new(&guard(rate(1, 1)), Mode::Enforce, LIMIT);
    pump.gate = pump.gate.in_tunnel();
    pump.feed(&said(chat("first", "first")));
    assert_eq!(pump.tally.admitted, 1);
    pump.out.clear();
    pump
}

#[test]
fn what_is_no_object_passes_at_its_first_byte() {
    for message in [&b"\x04\x01\x00\x00"[..], b"audio", b"[{}]", b" \r\n\t7", b"\xef\xbb\xbf{}", b""] {
        for size in [message.len(), 4 * LIMIT] {
            let mut message = message.to_vec();
            message.resize(size.max(message.len()), b'x');
            let first = masked(BINARY, &message);
            let mut pump = spent();
            for (i, byte) in first.iter().enumerate() {
                pump.feed(&[*byte]);
                // A head, and spaces.
                assert!(i < 8 + 4 || pump.out.len() == i + 1, "{i} of {message:?}");
            }
            let rest = [masked(FIN | PING, "p"), masked(FIN, "end")].concat();
            pump.feed(&rest);
            let frames = [first, rest].concat();
            assert_eq!(pump.out, frames, "{message:?}");
            assert_eq!(pump.tally.refused, [0; 3]);
        }
    }
}

#[test]
fn what_begins_as_an_object_is_judged_as_elsewhere() {
    let spaces = " ".repeat(4 * LIMIT);
    for text in [
        chat("1", "k"),
        format!("\n {}", chat("1", "k")),
        // The method stands behind what can be held.
        chat("1", "k").replacen('{', &format!(r#"{{"x":"{spaces}","#), 1),
        format!("{spaces}{}", chat("1", "k")),
        // No JSON for sure.
        "{no".into(),
    ] {
        for opcode in [TEXT, BINARY] {
            let mut pump = spent();
            pump.feed(&masked(FIN | opcode, &text));
            // A message whose beginning does not decide reaches the gateway, but not as JSON.
            let passed = hear(&pump.out, |_| true).messages;
            assert!(passed.iter().all(|message| meaning(message) == Meaning::Unreadable), "{text}");
            assert!(passed.is_empty() || text.len() > LIMIT, "{text}");
            assert_eq!(pump.tally.refused, [1, 0, 0], "{text}");
        }
    }
}

proptest! {
    #[test]
    fn however_it_is_cut_nothing_that_starts_a_run_passes(
        before in "[ \r\n\t\0x]{0,4}",
        cuts in prop::collection::vec(0usize..200, 0..4),
        chunk in 1usize..64,
    ) {
        let text = format!("{before}{}", chat("1", "k"));
        let mut pump = spent();
        for part in cut(TEXT, &text, &cuts).concat().chunks(chunk) {
            pump.feed(part);
        }
        let passed = hear(&pump.out, |_| true).messages;
        // With anything but spaces before it, it is not JSON.
        let is_json = before.trim().is_empty();
        prop_assert_eq!(passed.len(), usize::from(!is_json));
    }
}
