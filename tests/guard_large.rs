//! Honest messages of any size, and any slowness, go on through a gate byte for byte, and as soon as it can be.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use seqgate::sieve::Mode;
use support::frames::{BINARY, FIN, Form, PING, TEXT, frame_as};
use support::guard::{Turnstile, chat, cut, guard, health, masked, rate, said};

const LIMIT: usize = 256 << 10;

/// A node's answer with so much of a file in it.
fn invoke_result(size: usize) -> String {
    let payload = "QUJD".repeat(size / 4);
    format!(
        r#"{{"type":"req","id":"1","method":"node.invoke.result","params":{{"id":"7","nodeId":"n","ok":true,"payloadJSON":"{{\"method\":\"agent\",\"data\":\"{payload}\"}}"}}}}"#
    )
}

fn turnstile() -> Turnstile {
    Turnstile::new(&guard(rate(1, 1)), Mode::Enforce, LIMIT)
}

#[test]
fn an_upload_goes_on_as_it_came() {
    let message = invoke_result(3 << 20);
    for cuts in [&[][..], &[1], &[100, 100_000, 300_000, 1 << 20]] {
        let bytes =
            [cut(BINARY, &message, cuts).join(&masked(FIN | PING, "?")[..]), said(health("2"))].concat();
        let mut pump = turnstile();
        pump.feed_in(&bytes, &[128 << 10, 1, 100_000]);
        assert!(pump.out == bytes, "{cuts:?}");
        assert_eq!((pump.tally.admitted, pump.tally.unclear, pump.tally.deceits), (0, 0, 0));
        assert!(pump.gate.at_boundary());
    }
}

#[test]
fn nothing_of_an_upload_is_held_longer_than_the_limit_says() {
    let message = invoke_result(1 << 20);
    let frame = frame_as(FIN | TEXT, Form::Minimal, Some([1, 2, 3, 4]), &message);
    let mut pump = turnstile();
    let mut fed = 0;
    for chunk in frame.chunks(1000) {
        pump.feed(chunk);
        fed += chunk.len();
        assert!(fed <= LIMIT + 14 || pump.window.is_empty(), "{fed}");
    }
    assert!(pump.out == frame);
}

#[test]
fn a_message_with_attachments_is_known_by_its_key_when_it_is_sent_again() {
    let attachments = format!(r#""attachments":[{{"content":"{}"}}]"#, "QUJD".repeat(1 << 18));
    let message = |id: &str| chat(id, "k").replace(r#""k"}"#, &format!(r#""k",{attachments}}}"#));
    let bytes = [said(message("1")), said(message("2")), said(chat("3", "l"))].concat();
    let mut pump = turnstile();
    pump.feed_in(&bytes, &[100_000]);
    assert!(pump.out == [said(message("1")), said(message("2"))].concat());
    assert_eq!((pump.tally.admitted, pump.tally.repeated, pump.tally.refused), (1, 1, [1, 0, 0]));
}

#[test]
fn a_large_message_with_its_method_last_counts_only_if_it_starts_a_run() {
    let message = format!(r#"{{"params":{{"payload":"{}"}},"method":"health"}}"#, "x".repeat(LIMIT));
    let mut pump = turnstile();
    pump.feed(&[said(&message), said(&message)].concat());
    assert!(pump.out == [said(&message), said(&message)].concat());
    assert_eq!((pump.tally.admitted, pump.tally.refused, pump.tally.unclear), (0, [0; 3], 0));
}

#[test]
fn a_message_that_stops_in_its_middle_goes_on_once_it_is_clear_that_it_starts_nothing() {
    let text = health("1");
    let clear = text.len() - 1;
    let frame = said(&text);
    for at in 1..frame.len() {
        let mut pump = turnstile();
        pump.feed(&frame[..at]);
        pump.give_up();
        let expected = if at >= 6 + clear { at } else { 0 };
        assert_eq!(pump.out.len(), expected, "{at}");
        pump.feed(&frame[at..]);
        assert_eq!(pump.out, frame);
        assert_eq!(pump.tally.admitted, 0);
    }
}

#[test]
fn a_control_frame_does_not_wait_for_a_message_that_has_stopped() {
    let ping = masked(FIN | PING, "?");
    let frames = cut(TEXT, health("1"), &[5]);
    let mut pump = turnstile();
    pump.feed(&[&frames[0][..], &ping].concat());
    assert!(pump.gate.control_waits() && pump.out.is_empty());
    pump.give_up();
    assert!(!pump.gate.control_waits());
    pump.feed(&frames[1]);
    assert_eq!(pump.out, [&frames[0][..], &ping, &frames[1]].concat());
    assert_eq!((pump.tally.admitted, pump.tally.unclear), (0, 0));
}
