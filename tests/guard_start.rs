//! Whether a message starts a run is read as the gateway reads it, whoever wrote it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use seqgate::guard::start::{self, MAX_ID, Start};
use seqgate::json::Str;
use support::guard::{CONNECTION, chat, secret};
use support::naive_json::{self, Json};
use support::requests::{Meaning, generalized_utf8, meaning, message};

fn read(message: impl AsRef<[u8]>) -> Option<Start> {
    start::read(message.as_ref(), &secret(), CONNECTION)
}

/// The key of a start is this one.
fn has_key(start: &Start, key: &[u8]) -> bool {
    start.key.is_some_and(|found| (found.run, found.length) == (secret().run(Str::unescaped(key)), key.len()))
}

fn check(message: &[u8]) -> Result<(), TestCaseError> {
    let start = read(message);
    match meaning(message) {
        Meaning::Other => prop_assert_eq!(start, None),
        Meaning::Unreadable => {
            let start = start.unwrap();
            prop_assert_eq!(start, Start { id: None, request: None, key: None, certain: false });
        }
        Meaning::Start { id, key, .. } => {
            let start = start.unwrap();
            prop_assert!(start.certain);
            match key {
                Some(key) => prop_assert!(has_key(&start, &generalized_utf8(&key))),
                None => prop_assert_eq!(start.key, None),
            }
            let echoed = start.id.map(|token| naive_json::parse(token.as_bytes()).unwrap());
            prop_assert_eq!(echoed, id.clone().map(Json::Str));
            let bytes = id.map(|id| generalized_utf8(&id));
            let request = bytes.map(|id| secret().request(CONNECTION, Str::unescaped(&id)));
            prop_assert_eq!(start.request, request);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_starts_a_run_is_what_the_gateway_would_start(script in prop::collection::vec(any::<u8>(), 0..160)) {
        check(&message(&script))?;
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        check(&bytes)?;
    }
}

#[test]
fn these_methods_start_runs() {
    for method in ["agent", "chat.send", "sessions.send", "sessions.steer"] {
        let start = read(chat("1", "k").replace("chat.send", method)).unwrap();
        assert!(has_key(&start, b"k"), "{method}");
        assert_eq!(start.id.as_deref(), Some("\"1\""));
    }
    for (method, params) in [
        ("node.event", r#"{"event":"agent.request","payloadJSON":"{}"}"#),
        ("node.event", r#"{"event":"voice.transcript","payload":{"text":"hi"}}"#),
        ("sessions.create", r#"{"message":"hi"}"#),
        ("sessions.create", r#"{"task":"hi"}"#),
        ("system-event", r#"{"text":"hi","wake":true}"#),
        ("system-event", r#"{"text":"hi","wake":false,"w\u0061ke": true}"#),
        ("cron.run", r#"{"id":"daily"}"#),
        ("taskSuggestions.accept", r#"{"taskId":"1"}"#),
        ("agent", "null"),
    ] {
        let request = format!(r#"{{"type":"req","id":"1","method":"{method}","params":{params}}}"#);
        assert_eq!(read(request).map(|start| start.key), Some(None), "{method}");
    }
}

#[test]
fn what_starts_nothing_is_let_be() {
    for text in [
        r#"{"type":"req","id":"1","method":"health"}"#,
        r#"{"type":"req","id":"1","method":"agent.wait","params":{"runId":"agent"}}"#,
        r#"{"type":"req","id":"1","method":"chat.abort","params":{"method":"chat.send","idempotencyKey":"k"}}"#,
        r#"{"type":"req","id":"1","method":"node.event","params":{"event":"exec.finished","payloadJSON":"{\"event\":\"agent.request\"}"}}"#,
        r#"{"type":"req","id":"1","method":"sessions.create","params":{"label":"message"}}"#,
        r#"{"type":"req","id":"1","method":"system-event","params":{"text":"hi","wake":false}}"#,
        r#"{"type":"req","id":"1","method":"connect","params":{"client":{"id":"agent"}}}"#,
        r#"[{"method":"agent"}]"#,
        "\"agent\"",
        "7",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn what_cannot_be_read_for_sure_counts_as_a_start_that_nobody_knows() {
    let bom = format!("\u{feff}{}", chat("1", "k"));
    for text in ["", "{", "hello", r#"{"method":"health""#, r#"{"method":"health",}"#, &bom] {
        let start = read(text).unwrap();
        assert_eq!(start, Start { id: None, request: None, key: None, certain: false }, "{text}");
    }
}

#[test]
fn a_request_id_too_long_to_repeat_is_not_repeated() {
    let longest = "x".repeat(MAX_ID - 2);
    assert_eq!(read(chat(&longest, "k")).unwrap().id.unwrap().len(), MAX_ID);
    let start = read(chat(&format!("{longest}x"), "k")).unwrap();
    assert_eq!(start.id, None);
    assert!(start.request.is_some());
    for id in ["7", "null", "{}"] {
        let text = chat("?", "k").replace("\"?\"", id);
        assert_eq!(read(&text).map(|start| (start.id, start.request)), Some((None, None)), "{text}");
    }
}

#[test]
fn depth_is_no_way_around() {
    let depth = 100_000;
    let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let text = format!(r#"{{"x":{nested},"method":"agent","id":"1","params":{{"idempotencyKey":"k"}}}}"#);
    assert!(has_key(&read(text).unwrap(), b"k"));
}
