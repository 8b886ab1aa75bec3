//! What a client hears of a refused start, byte by byte.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use seqgate::guard::Reason;
use seqgate::sieve::Mode;
use support::frames::{messages, text};
use support::guard::{Turnstile, chat, guard, health, live_runs, masked, rate, said, through};

const LIMIT: usize = 4096;

#[test]
fn too_many_in_a_minute_are_answered_with_the_time_to_wait() {
    let bytes = [said(chat("1", "a")), said(chat("2", "b")), said(health("3"))].concat();
    let pump = through(rate(1, 7), LIMIT, &bytes, &[]);
    let answer = r#"{"type":"res","id":"2","ok":false,"error":{"code":"UNAVAILABLE","message":"too many runs: at most 7 a minute (SEQGATE_GUARD_RUNS_PER_MINUTE)","retryable":true,"retryAfterMs":8572}}"#;
    assert_eq!(String::from_utf8_lossy(&pump.answers), String::from_utf8_lossy(&text(answer)));
    assert_eq!(pump.answers, text(answer));
    assert_eq!(pump.out, [said(chat("1", "a")), said(health("3"))].concat());
    assert_eq!((pump.tally.admitted, pump.tally.refused), (1, [1, 0, 0]));
}

#[test]
fn too_many_at_once_are_answered_with_a_guess() {
    let bytes = [said(chat("1", "a")), said(chat("2", "b"))].concat();
    let pump = through(live_runs(1), LIMIT, &bytes, &[]);
    let answer = r#"{"type":"res","id":"2","ok":false,"error":{"code":"UNAVAILABLE","message":"too many runs at once: at most 1 (SEQGATE_GUARD_MAX_LIVE_RUNS)","retryable":true,"retryAfterMs":5000}}"#;
    assert_eq!(pump.answers, text(answer));
    assert_eq!((pump.tally.admitted, pump.tally.refused), (1, [0, 1, 0]));
}

#[test]
fn a_run_id_that_is_too_long_is_answered_with_the_limit() {
    let pump = through(rate(1, 1), LIMIT, &said(chat("1", &"k".repeat(65))), &[]);
    let answer = r#"{"type":"res","id":"1","ok":false,"error":{"code":"INVALID_REQUEST","message":"run id longer than 64 bytes (SEQGATE_GUARD_MAX_RUN_ID)","retryable":false}}"#;
    assert_eq!(pump.answers, text(answer));
    assert_eq!((pump.out.len(), pump.tally.refused), (0, [0, 0, 1]));
}

#[test]
fn the_id_is_repeated_as_it_was_written() {
    let id = r#"\u0041\n\ud83d\"é"#;
    let pump = through(rate(1, 1), LIMIT, &said(chat(id, &"k".repeat(65))), &[]);
    let answer = String::from_utf8(messages(&pump.answers)[0].payload.clone()).unwrap();
    assert!(answer.starts_with(&format!(r#"{{"type":"res","id":"{id}","ok":false,"#)), "{answer}");
}

#[test]
fn an_id_that_is_not_utf8_is_repeated_as_the_gateway_would_have_read_it() {
    let request = chat("?", &"k".repeat(65)).into_bytes();
    let place = request.iter().position(|byte| *byte == b'?').unwrap();
    let request = [&request[..place], b"\xff\xc3", &request[place + 1..]].concat();
    let pump = through(rate(1, 1), LIMIT, &masked(0x82, request), &[]);
    let answer = String::from_utf8(messages(&pump.answers)[0].payload.clone()).unwrap();
    assert!(answer.starts_with("{\"type\":\"res\",\"id\":\"\u{fffd}\u{fffd}\",\"ok\":false,"), "{answer}");
}

#[test]
fn who_cannot_be_answered_is_left_out_without_an_answer() {
    let no_id = chat("1", "b").replace(r#""id":"1","#, "");
    let bytes =
        [said(chat("1", "a")), said(no_id), said("no json"), said(chat(&"i".repeat(2000), "c"))].concat();
    let pump = through(rate(1, 1), LIMIT, &bytes, &[]);
    assert_eq!(pump.out, said(chat("1", "a")));
    assert!(pump.answers.is_empty());
    assert_eq!((pump.tally.refused, pump.tally.unanswered, pump.tally.unclear), ([3, 0, 0], 3, 1));
}

#[test]
fn answers_that_nobody_takes_stay_within_their_bound() {
    let guard = guard(rate(1, 1));
    let mut pump = Turnstile::new(&guard, Mode::Enforce, LIMIT);
    pump.feed(&said(chat("0", "first")));
    let mut frame = said(chat(&"i".repeat(1000), "k"));
    for _ in 0..100 {
        assert_eq!(pump.gate.step(&mut frame, 0), seqgate::sieve::Step::Drop(frame.len(), None));
    }
    assert!(pump.gate.is_full());
    let answers = pump.gate.take_answers();
    let answered = messages(&answers).len();
    assert!(answers.len() < 16 * 1024 + 1300, "{}", answers.len());
    assert!(!pump.gate.is_full());
    let tally = pump.gate.take_tally();
    assert_eq!((tally.refused[Reason::Rate as usize], tally.unanswered as usize), (100, 100 - answered));
    assert!(pump.gate.take_answers().is_empty());
}
