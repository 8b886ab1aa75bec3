//! The guard learns of a run's end from what the gateway says, and of nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use seqgate::guard::over::{self, Over};
use seqgate::json::Str;
use serde_json::Value;
use support::captures::connections;
use support::events::event;
use support::guard::{CONNECTION, secret};

fn read(text: impl ToString) -> Option<Over> {
    over::read(text.to_string().as_bytes(), &secret(), CONNECTION)
}

fn run(id: &str) -> Option<Over> {
    Some(Over::Run(secret().run(Str::unescaped(id.as_bytes()))))
}

fn answer(id: &str, last: bool) -> Option<Over> {
    Some(Over::Answer { request: secret().request(CONNECTION, Str::unescaped(id.as_bytes())), last })
}

#[test]
fn a_lifecycle_event_of_phase_end_or_error_ends_its_run() {
    for phase in ["end", "error"] {
        assert_eq!(read(event("r", 9).phase(phase).outer(7)), run("r"), "{phase}");
    }
    for phase in ["start", "finishing", "fallback"] {
        assert_eq!(read(event("r", 9).phase(phase)), None, "{phase}");
    }
    assert_eq!(read(event("r", 9).phase("end").stream("tool")), None);
    assert_eq!(read(event("r", 9)), None);
}

#[test]
fn the_last_state_of_a_chat_ends_its_run() {
    let chat = |state: &str| {
        format!(
            r#"{{"type":"event","event":"chat","payload":{{"runId":"r","sessionKey":"main","seq":3,"state":"{state}"}},"seq":4}}"#
        )
    };
    for state in ["final", "aborted", "error"] {
        assert_eq!(read(chat(state)), run("r"), "{state}");
    }
    assert_eq!(read(chat("delta")), None);
    assert_eq!(read(chat("final").replace("\"chat\"", "\"session.message\"")), None);
    assert_eq!(read(chat("final").replace("\"r\"", "7")), None);
}

#[test]
fn an_answer_is_the_last_if_it_is_an_error_or_its_status_is_final() {
    let answer_with = |rest: &str| format!(r#"{{"type":"res","id":"1",{rest}}}"#);
    for (rest, last) in [
        (r#""ok":true,"payload":{"runId":"r","status":"accepted","acceptedAt":1}"#, false),
        (r#""ok":true,"payload":{"runId":"r","status":"started"}"#, false),
        (r#""ok":true,"payload":{"runId":"r","status":"in_flight"}"#, false),
        (r#""ok":true,"payload":{"ok":true}"#, false),
        (r#""ok":true"#, false),
        (r#""ok":true,"payload":{"runId":"r","status":"ok","result":{"status":"started"}}"#, true),
        (r#""ok":true,"payload":{"runId":"r","status":"error"}"#, true),
        (r#""ok":true,"payload":{"runId":"r","status":"timeout"}"#, true),
        (r#""ok":true,"payload":{"runId":"r","status":"aborted"}"#, true),
        (r#""ok":false,"payload":{"runId":"r","status":"accepted"},"error":{"code":"UNAVAILABLE"}"#, true),
        (r#""ok":false,"error":{"code":"INVALID_REQUEST","message":"x"}"#, true),
    ] {
        assert_eq!(read(answer_with(rest)), answer("1", last), "{rest}");
    }
    assert_eq!(read(r#"{"type":"res","id":7,"ok":true}"#), None);
}

#[test]
fn an_answer_belongs_to_its_connection() {
    let text = r#"{"type":"res","id":"1","ok":false}"#;
    assert_ne!(over::read(text.as_bytes(), &secret(), 1), over::read(text.as_bytes(), &secret(), 2));
}

#[test]
fn what_cannot_be_read_ends_nothing() {
    let end = event("r", 9).phase("end").to_string();
    for text in [&end[..end.len() - 1], &format!("{end}x"), "", "[]", "7", &format!("[{end}]")] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn what_real_gateways_sent_is_read_as_a_naive_reader_reads_it() {
    let mut runs = 0;
    let mut answers = 0;
    for (_, texts) in connections() {
        for text in texts {
            let message: Value = serde_json::from_str(&text).unwrap();
            let payload = &message["payload"];
            let is = |value: &Value, words: &[&str]| value.as_str().is_some_and(|word| words.contains(&word));
            let ends = is(&message["event"], &["agent"])
                && is(&payload["stream"], &["lifecycle"])
                && is(&payload["data"]["phase"], &["end", "error"])
                || is(&message["event"], &["chat"]) && is(&payload["state"], &["final", "aborted", "error"]);
            let expected = if is(&message["type"], &["res"]) {
                answers += 1;
                let last =
                    message["ok"] == false || is(&payload["status"], &["ok", "error", "timeout", "aborted"]);
                answer(message["id"].as_str().unwrap(), last)
            } else if ends {
                runs += 1;
                run(payload["runId"].as_str().unwrap())
            } else {
                None
            };
            assert_eq!(read(&text), expected, "{text}");
        }
    }
    assert!(runs > 10 && answers > 10, "{runs} ends, {answers} answers");
}
