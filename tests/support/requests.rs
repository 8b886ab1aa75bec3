//! What clients may send, honest or not, and what the gateway would understand of it: the naive twin of
//! `seqgate::guard::start`.

use super::naive_json::{self, Json};

/// What the gateway would make of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nothing: it is not JSON.
    Unreadable,
    /// Something else than a run.
    Other,
    /// A run, under this key if the client has chosen one.
    Start { id: Option<Vec<u16>>, method: String, key: Option<Vec<u16>> },
}

const KEYED: [&str; 5] =
    ["agent", "chat.send", "sessions.send", "sessions.steer", "skills.proposals.requestRevision"];
const UNKEYED: [&str; 8] = [
    "cron.run",
    "progressCard.refresh",
    "session.suggestions.resolve",
    "sessions.goal.update",
    "sessions.providerReview.continue",
    "sessions.recover",
    "talk.client.toolCall",
    "taskSuggestions.accept",
];

pub(crate) fn meaning(message: &[u8]) -> Meaning {
    let text = String::from_utf8_lossy(message);
    let Some(request) = naive_json::parse(text.as_bytes()) else { return Meaning::Unreadable };
    let string = |value: Option<&Json>| match value {
        Some(Json::Str(units)) => Some(units.clone()),
        _ => None,
    };
    let params = request.get("params");
    let param = |key: &str| params.and_then(|params| params.get(key));
    let method = string(request.get("method")).unwrap_or_default();
    let method = String::from_utf16_lossy(&method);
    let key = string(param("idempotencyKey")).filter(|_| KEYED.contains(&&*method));
    let starts = match &*method {
        "sessions.create" => ["message", "task", "attachments"].iter().any(|key| param(key).is_some()),
        "system-event" => param("wake") == Some(&Json::Word("true")),
        "node.event" => {
            param("event").is_some_and(|event| event.is("agent.request") || event.is("voice.transcript"))
        }
        method => KEYED.contains(&method) || UNKEYED.contains(&method),
    };
    if starts { Meaning::Start { id: string(request.get("id")), method, key } } else { Meaning::Other }
}

/// A string's bytes as UTF-8 would have them, lone surrogates in three bytes each.
pub(crate) fn generalized_utf8(units: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok(char) => bytes.extend(char.encode_utf8(&mut [0; 4]).bytes()),
            Err(lone) => {
                let unit = lone.unpaired_surrogate();
                bytes.extend([0xe0 | (unit >> 12) as u8, 0x80 | (unit >> 6 & 0x3f) as u8]);
                bytes.push(0x80 | (unit & 0x3f) as u8);
            }
        }
    }
    bytes
}

/// A message from a world so small that everything collides, as these bytes have it.
pub(crate) fn message(script: &[u8]) -> Vec<u8> {
    let mut dice = Dice { script, at: 0 };
    let mut text = Vec::new();
    object(&mut dice, &mut text, outer);
    for _ in 0..dice.pick(8).saturating_sub(5) {
        let place = dice.pick(256) * text.len() / 256;
        match dice.pick(4) {
            0 => text.truncate(place),
            1 => drop(text.splice(place..place, [dice.next() | 0x80])),
            2 => drop(text.splice(place..place, [b"{}[]\",:\\ a1\0"[dice.pick(12)]])),
            _ => drop(text.splice(place..(place + 1).min(text.len()), [])),
        }
    }
    text
}

/// Choices, one byte each; zeros when there are no more.
struct Dice<'a> {
    script: &'a [u8],
    at: usize,
}

impl Dice<'_> {
    fn next(&mut self) -> u8 {
        self.at += 1;
        self.script.get(self.at - 1).copied().unwrap_or_default()
    }

    fn pick(&mut self, sides: usize) -> usize {
        usize::from(self.next()) % sides
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.pick(words.len())]
    }
}

type Member = fn(&mut Dice<'_>, &mut Vec<u8>);

fn object(dice: &mut Dice<'_>, text: &mut Vec<u8>, member: Member) {
    text.push(b'{');
    for i in 0..dice.pick(6) {
        if i > 0 {
            text.push(b',');
        }
        space(dice, text);
        member(dice, text);
        space(dice, text);
    }
    text.push(b'}');
}

fn outer(dice: &mut Dice<'_>, text: &mut Vec<u8>) {
    let key = dice.of(&["id", "method", "params", "method", "params", "type", "payload"]);
    string(dice, text, key);
    text.push(b':');
    match (key, dice.pick(8)) {
        (_, 0) => anything(dice, text),
        ("id", n) => string(dice, text, ["a", "b", "", "\u{1f980}"][n % 4]),
        ("params", _) => object(dice, text, inner),
        _ => {
            let methods = [
                "agent",
                "chat.send",
                "node.event",
                "sessions.create",
                "system-event",
                "cron.run",
                "health",
                "agent.wait",
            ];
            let method = dice.of(&methods);
            string(dice, text, method);
        }
    }
}

fn inner(dice: &mut Dice<'_>, text: &mut Vec<u8>) {
    let keys = ["idempotencyKey", "event", "message", "idempotencyKey", "event", "task", "wake", "method"];
    let key = dice.of(&keys);
    string(dice, text, key);
    text.push(b':');
    match dice.pick(8) {
        0 => anything(dice, text),
        1..4 if key == "wake" => text.extend(b"true"),
        _ => {
            let value =
                dice.of(&["k", "agent.request", "voice.transcript", "l", "", "\u{1f980}", "a-longer-key"]);
            string(dice, text, value);
        }
    }
}

fn anything(dice: &mut Dice<'_>, text: &mut Vec<u8>) {
    match dice.pick(8) {
        0 => text.extend(b"null"),
        1 => text.extend(b"-1.5e3"),
        2 => text.extend(br#""\ud83d""#),
        3 => text.extend(br#"[{"method":"agent"},"method"]"#),
        4 => text.extend(br#"{"method":"agent","idempotencyKey":"n"}"#),
        5 => text.extend(b"[]"),
        6 => text.extend(b"{}"),
        _ => text.extend(b"\"\xff\xc3\""),
    }
}

fn string(dice: &mut Dice<'_>, text: &mut Vec<u8>, string: &str) {
    let escapes = dice.pick(6);
    text.push(b'"');
    for unit in string.encode_utf16() {
        match u8::try_from(unit) {
            Ok(plain @ 0..0x80) if escapes != 0 && (escapes != 1 || dice.pick(2) == 0) => text.push(plain),
            _ => text.extend(format!("\\u{unit:04x}").bytes()),
        }
    }
    text.push(b'"');
}

fn space(dice: &mut Dice<'_>, text: &mut Vec<u8>) {
    if dice.pick(5) == 0 {
        text.push(b" \n\r\t"[dice.pick(4)]);
    }
}
