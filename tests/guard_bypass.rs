//! No start that was refused reaches the gateway: attempts one by one, and whatever chance finds.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use seqgate::guard::Limits;
use seqgate::sieve::Mode;
use support::frames::{BINARY, FIN, PING, TEXT, texts};
use support::guard::{Turnstile, chat, cut, guard, health, hear, masked, rate, said, stream};
use support::requests::{Meaning, meaning};

const LIMIT: usize = 512;

/// A connection of a client that has spent all it had.
fn spent(limit: usize) -> Turnstile {
    let mut pump = Turnstile::new(&guard(rate(1, 1)), Mode::Enforce, limit);
    pump.feed(&said(chat("first", "first")));
    assert_eq!(pump.tally.admitted, 1);
    pump.out.clear();
    pump
}

/// No whole message that reached the gateway starts a run.
fn starts_nothing(pump: &Turnstile) -> bool {
    let starts = |message: &Vec<u8>| matches!(meaning(message), Meaning::Start { .. });
    !hear(&pump.out, |_| true).messages.iter().any(starts)
}

/// So much text that the message is larger than the limit.
fn padding() -> String {
    "x".repeat(4 * LIMIT)
}

#[test]
fn no_disguise_of_a_small_message_helps() {
    let key = r#""params":{"sessionKey":"main","message":"hi","idempotencyKey":"k"}"#;
    for text in [
        format!(r#"{{"type":"req","id":"1","method":"chat.send",{key}}}"#),
        // Key order, whitespace, escapes.
        format!(r#"{{{key},"method":"chat.send","id":"1","type":"req"}}"#),
        format!("\r\n\t {{\n\"method\"\t:\r\"chat.send\" , \"id\":\"1\",\"type\":\"req\",{key}}}\n"),
        format!(r#"{{"\u0074ype":"req","id":"1","\u006dethod":"chat\u002Esend",{key}}}"#),
        format!(r#"{{"type":"req","id":"1","m\u0065thod":"\u0063\u0068\u0061\u0074.send",{key}}}"#),
        // The last of equal keys counts.
        format!(r#"{{"type":"req","id":"1","method":"health","method":"chat.send",{key}}}"#),
        format!(r#"{{"type":"req","id":"1","method":"health",{key},"\u006dethod":"chat.send"}}"#),
        r#"{"id":"1","method":"node.event","params":{"event":"exec.finished","event":"agent.request"}}"#
            .into(),
        r#"{"id":"1","method":"node.event","params":{"event":"x"},"params":{"event":"agent.request"}}"#
            .into(),
        r#"{"id":"1","method":"node.event","params":{"\u0065vent":"voice.transcript"}}"#.into(),
        // A key that was admitted, and then another.
        format!(r#"{{"id":"1","method":"chat.send","params":{{"idempotencyKey":"first"}},{key}}}"#),
        r#"{"id":"1","method":"chat.send","params":{"idempotencyKey":"first","idempotencyKey":"k"}}"#.into(),
        r#"{"id":"1","method":"chat.send","params":{"idempotencyKey":"first","idempotencyKe\u0079":"k"}}"#
            .into(),
        // The same key under another method.
        r#"{"id":"1","method":"agent","params":{"idempotencyKey":"first"}}"#.into(),
        // Keys that are not strings.
        r#"{"id":"1","method":"chat.send","params":{"idempotencyKey":["first"]}}"#.into(),
        r#"{"id":"1","method":"chat.send","params":["idempotencyKey","first"]}"#.into(),
        // Lone surrogates, depth.
        format!(r#"{{"x":"\ud83d","method":"chat.send","id":"1",{key}}}"#),
        format!(r#"{{"x":{}{},"method":"chat.send","id":"1",{key}}}"#, "[".repeat(60), "]".repeat(60)),
    ] {
        assert!(matches!(meaning(text.as_bytes()), Meaning::Start { .. }), "{text}");
        for opcode in [TEXT, BINARY] {
            for cuts in [&[][..], &[1], &[9, 30, 31]] {
                let mut pump = spent(LIMIT);
                pump.feed(&cut(opcode, &text, cuts).concat());
                assert!(pump.out.is_empty() && pump.window.is_empty(), "{text}");
                assert_eq!(pump.tally.refused, [1, 0, 0], "{text}");
            }
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_hide_nothing() {
    let request = chat("1", "k").into_bytes();
    for junk in
        [&b"\xff"[..], b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\xa6", b"\xc0\xaf", b"\xf8\x88"]
    {
        // In the message, before the quote that ends it.
        let place = request.windows(3).position(|three| three == b"hi\"").unwrap() + 2;
        let text = [&request[..place], junk, &request[place..]].concat();
        assert!(matches!(meaning(&text), Meaning::Start { .. }));
        let mut pump = spent(LIMIT);
        pump.feed(&masked(FIN | BINARY, &text));
        assert!(pump.out.is_empty());
        assert_eq!(pump.tally.refused, [1, 0, 0]);
    }
}

#[test]
fn a_message_that_is_too_large_to_hold_is_left_out_if_its_beginning_decides() {
    let text = format!(
        r#"{{"type":"req","id":"1","method":"chat.send","params":{{"idempotencyKey":"k","message":"{}"}}}}"#,
        padding()
    );
    for cuts in [&[][..], &[1], &[700, 800, 1500]] {
        let mut pump = spent(LIMIT);
        let frames = cut(TEXT, &text, cuts);
        pump.feed(&frames.join(&masked(FIN | PING, "?")[..]));
        let pings = masked(FIN | PING, "?").repeat(frames.len() - 1);
        assert_eq!(pump.out, pings);
        assert_eq!(pump.tally.refused, [1, 0, 0]);
        // What comes behind it is judged again.
        pump.feed(&[said(health("2")), said(chat("3", "l"))].concat());
        assert_eq!(pump.out, [pings, said(health("2"))].concat());
    }
}

/// Requests with the same four members in all 24 orders, and the members of `params` in both.
fn orders(method: &str, params: [&str; 2]) -> Vec<String> {
    let mut texts = Vec::new();
    for params in [params, [params[1], params[0]]] {
        let members = [
            r#""type":"req""#.to_owned(),
            r#""id":"1""#.to_owned(),
            format!(r#""method":"{method}""#),
            format!(r#""params":{{{}}}"#, params.join(",")),
        ];
        for n in 0..24 {
            let mut rest: Vec<&str> = members.iter().map(String::as_str).collect();
            let order = [n / 6, n / 2 % 3, n % 2, 0].map(|place| rest.remove(place));
            texts.push(format!("{{{}}}", order.join(",")));
        }
    }
    texts
}

#[test]
fn a_large_start_counts_once_and_is_answered_if_refused_in_any_key_order() {
    let photo = format!(r#""attachments":[{{"content":"{}","method":"health"}}]"#, padding());
    for key in ["idempotencyKey", r"idempotency\u004bey"] {
        for method in ["chat.send", r"ch\u0061t\u002esend"] {
            for text in orders(method, [&photo, &format!(r#""{key}":"k""#)]) {
                for cuts in [&[][..], &[1], &[700, 800, 2100], &[text.len() - 1]] {
                    let bytes = cut(BINARY, &text, cuts).concat();
                    let guard = guard(rate(1, 1));
                    // Its key is known again; then another client's start is refused.
                    let mut pump = Turnstile::new(&guard, Mode::Enforce, LIMIT);
                    pump.feed(&[&bytes[..], &bytes].concat());
                    assert_eq!(pump.out, [&bytes[..], &bytes].concat(), "{text}");
                    assert_eq!((pump.tally.admitted, pump.tally.repeated), (1, 1), "{text}");

                    let mut pump = spent(LIMIT);
                    pump.feed(&[&bytes[..], &said(health("2"))].concat());
                    assert!(starts_nothing(&pump) && !pump.gate.is_broken(), "{text}");
                    assert!(pump.out.ends_with(&said(health("2"))), "{text}");
                    assert_eq!((pump.tally.refused, pump.tally.unanswered), ([1, 0, 0], 0), "{text}");
                    let answers = texts(&pump.answers);
                    assert_eq!(answers.len(), 1, "{text}");
                    assert!(answers[0].starts_with(r#"{"type":"res","id":"1","ok":false,"#), "{answers:?}");
                }
            }
        }
    }
}

#[test]
fn a_large_request_that_starts_nothing_does_not_count_in_any_key_order() {
    let large = format!(r#""payload":[{{"method":"chat.send","x":"{}"}}]"#, padding());
    for (method, other) in [
        ("node.invoke.result", r#""ok":true"#),
        ("node.event", r#""event":"exec.finished""#),
        ("sessions.create", r#""label":"message""#),
        ("system-event", r#""wake":false"#),
        ("h\\u0065alth", r#""method":"agent""#),
    ] {
        for text in orders(method, [&large, other]) {
            for limit in [LIMIT, 8] {
                let bytes = cut(BINARY, &text, &[1, 900]).concat();
                let mut pump = spent(limit);
                pump.feed(&bytes);
                assert!(pump.out == bytes, "{text}");
                assert_eq!(pump.tally, spent(limit).tally, "{text}");
            }
        }
    }
}

#[test]
fn large_starts_without_a_key_count_in_any_key_order() {
    let large = format!(r#""x":"{}""#, padding());
    for (method, other) in [
        ("node.event", r#""event":"agent.request""#),
        ("sessions.create", r#""task":"hi""#),
        ("system-event", r#""wake":true"#),
        ("cron.run", r#""id":"daily""#),
    ] {
        for text in orders(method, [&large, other]) {
            let mut pump = spent(LIMIT);
            pump.feed(&masked(FIN | BINARY, &text));
            assert!(starts_nothing(&pump), "{text}");
            assert_eq!((pump.tally.refused, pump.tally.unanswered), ([1, 0, 0], 0), "{text}");
        }
    }
}

#[test]
fn of_equal_keys_in_a_large_request_the_last_counts() {
    let photo = format!(r#""attachments":"{}""#, padding());
    let params = format!(r#""params":{{{photo},"idempotencyKey":"first","idempotencyKey":"k"}}"#);
    let text = format!(r#"{{{params},"method":"health","id":"0","method":"chat.send","id":"1"}}"#);
    let mut pump = spent(LIMIT);
    pump.feed(&said(&text));
    assert!(starts_nothing(&pump));
    assert_eq!(pump.tally.refused, [1, 0, 0]);
    assert!(texts(&pump.answers)[0].contains(r#""id":"1""#));
}

#[test]
fn a_rest_that_contradicts_its_beginning_breaks_the_gate() {
    let p = padding();
    let deceits = [
        format!(r#"{{"type":"req","id":"1","method":"health","x":"{p}","method":"chat.send"}}"#),
        format!(r#"{{"type":"req","id":"1","method":"health","x":"{p}","\u006dethod":"chat.send"}}"#),
        format!(r#"{{"type":"req","id":"1","method":"health","x":"{p}", "metho\u0064" : "agent"}}"#),
        format!(
            r#"{{"id":"1","method":"node.event","params":{{"event":"x","y":"{p}","event":"agent.request"}}}}"#
        ),
        format!(
            r#"{{"id":"1","method":"node.event","params":{{"event":"x","y":"{p}","\u0065vent":"agent.request"}}}}"#
        ),
        format!(
            r#"{{"id":"1","method":"node.event","params":{{"event":"x","y":"{p}"}},"params":{{"event":"agent.request"}}}}"#
        ),
        // With a key that was admitted before, the start itself goes on.
        format!(
            r#"{{"id":"1","method":"chat.send","params":{{"idempotencyKey":"first","y":"{p}","idempotencyKey":"k"}}}}"#
        ),
        format!(
            r#"{{"id":"1","method":"chat.send","params":{{"idempotencyKey":"first","y":"{p}","idempotencyKe\u0079":"k"}}}}"#
        ),
        format!(
            r#"{{"id":"1","method":"chat.send","params":{{"idempotencyKey":"first","y":"{p}"}},"params":{{"idempotencyKey":"k"}}}}"#
        ),
        format!(
            r#"{{"id":"1","method":"chat.send","params":{{"idempotencyKey":"first","y":"{p}"}},"method":"agent"}}"#
        ),
        format!(
            r#"{{"id":"1","method":"chat.send","params":{{"idempotencyKey":"first","y":"{p}"}},"\u0070arams":{{}}}}"#
        ),
    ];
    for text in deceits {
        for cuts in [&[][..], &[1500, 1700]] {
            let mut pump = spent(LIMIT);
            pump.feed(&[cut(TEXT, &text, cuts).concat(), said(health("2"))].concat());
            assert!(pump.gate.is_broken(), "{text}");
            assert_eq!(pump.tally.deceits, 1);
            assert!(hear(&pump.out, |_| true).messages.is_empty(), "{text}");
            assert!(!pump.gate.at_boundary());
        }
    }
}

#[test]
fn a_message_inside_one_that_is_left_out_does_not_go_on_in_its_place() {
    // The gateway has not seen the message's first frame, and would take the next for one.
    let large = format!(
        r#"{{"id":"1","method":"chat.send","params":{{"idempotencyKey":"k","message":"{}"}}}}"#,
        padding()
    );
    for inside in [said(chat("2", "l")), said(health("2")), masked(0x83, "reserved")] {
        let mut pump = spent(LIMIT);
        pump.feed(&[&cut(TEXT, &large, &[large.len() - 9])[0][..], &inside, &said(chat("3", "m"))].concat());
        assert!(pump.out.is_empty());
        assert!(pump.gate.is_broken());
    }
}

#[test]
fn a_run_id_cannot_hide_behind_the_limit() {
    let long = "k".repeat(3 * 64);
    let guard = || guard(Limits { max_run_id: 64, ..rate(9, 9) });
    let behind = format!(
        r#"{{"id":"1","method":"chat.send","params":{{"message":"{}","idempotencyKey":"{long}"}}}}"#,
        padding()
    );
    let huge = format!(r#"{{"id":"1","method":"chat.send","params":{{"idempotencyKey":"{}"}}}}"#, padding());
    let method_late = format!(
        r#"{{"id":"1","params":{{"idempotencyKey":"k","message":"{}","idempotencyKey":"{long}"}},"method":"agent"}}"#,
        padding()
    );
    for text in [behind, huge, method_late] {
        let mut pump = Turnstile::new(&guard(), Mode::Enforce, LIMIT);
        pump.feed(&said(&text));
        assert!(starts_nothing(&pump), "{text}");
        assert_eq!(pump.tally.deceits + pump.tally.refused[2], 1, "{text}");
    }
}

#[test]
fn giving_up_on_a_message_is_no_way_around() {
    let text = chat("1", "k");
    for control in [&b""[..], &masked(FIN | PING, "?")] {
        for at in 1..text.len() {
            let frames = cut(TEXT, &text, &[at]);
            let mut pump = spent(LIMIT);
            pump.feed(&[&frames[0][..], control].concat());
            pump.give_up();
            assert_eq!(pump.out.is_empty(), control.is_empty());
            assert!(!pump.gate.control_waits());
            pump.feed(&frames[1]);
            assert!(starts_nothing(&pump), "{at}");
            assert_eq!((pump.tally.refused, pump.tally.unanswered), ([1, 0, 0], 0), "{at}");
        }
    }
}

#[test]
fn what_begins_before_the_welcome_is_no_start_behind_it() {
    let late = r#"{"params":{"idempotencyKey":"k"},"type":"req","id":"1","method":"chat.send"}"#;
    let event = r#"{"id":"1","method":"node.event","params":{"event":"agent.request"}}"#;
    let disguised = r#"{"id":"1","m\u0065thod":"chat.send","params":{"idempotencyKey":"k"}}"#;
    let twice = r#"{"id":"1","x":"","method":"health","method":"agent"}"#;
    let odd = r#"{"id":"1","method":7,"method":"agent"}"#;
    for text in [late, event, disguised, twice, odd] {
        for at in 1..text.len() {
            let frames = cut(TEXT, text, &[at]);
            let mut pump = Turnstile::new(&guard(rate(1, 1)), Mode::Enforce, LIMIT);
            pump.gate = pump.gate.before_hello();
            // The ping lets the message be given up before it is whole.
            pump.feed(&[&frames[0][..], &masked(FIN | PING, "?")].concat());
            pump.give_up();
            pump.gate.greet();
            pump.feed(&frames[1]);
            let admitted = pump.tally.admitted;
            assert!(admitted == 1 || starts_nothing(&pump), "{text} {at}");
        }
    }
}

#[test]
fn what_begins_before_the_welcome_and_starts_nothing_goes_on() {
    let text = r#"{"type":"req","id":"1","params":{"client":{"id":"agent"}},"method":"connect"}"#;
    for at in 1..text.len() {
        let frames = cut(TEXT, text, &[at]).join(&masked(FIN | PING, "?")[..]);
        let mut pump = Turnstile::new(&guard(rate(1, 1)), Mode::Enforce, LIMIT);
        pump.gate = pump.gate.before_hello();
        for byte in &frames {
            pump.feed(&[*byte]);
            pump.give_up();
        }
        assert_eq!(pump.out, frames, "{at}");
        assert_eq!(pump.tally.admitted, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn who_has_spent_all_starts_nothing_whatever_they_send(
        script in prop::collection::vec(any::<u8>(), 0..700),
        sizes in prop::collection::vec(1..300usize, 1..6),
        limit in 0..200usize,
        impatient in any::<bool>(),
    ) {
        let bytes = stream(&script);
        let mut pump = spent(limit);
        let mut rest = &bytes[..];
        for size in sizes.iter().cycle() {
            let (chunk, behind) = rest.split_at((*size).min(rest.len()));
            pump.feed(chunk);
            if impatient {
                pump.give_up();
            }
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(starts_nothing(&pump));
    }

    #[test]
    fn no_run_begins_under_an_id_that_is_too_long(
        script in prop::collection::vec(any::<u8>(), 0..700),
        limit in 0..200usize,
    ) {
        let limits = Limits { max_run_id: 3, ..rate(1, 0) };
        let mut pump = Turnstile::new(&guard(limits), Mode::Enforce, limit);
        pump.feed(&stream(&script));
        for message in hear(&pump.out, |_| true).messages {
            if let Meaning::Start { key: Some(key), .. } = meaning(&message) {
                prop_assert!(key.len() <= 3);
            }
        }
    }
}
