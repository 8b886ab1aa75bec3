//! What `event::peek` makes of a text, beside two other readers: `serde_json`, and a naive twin that reads as
//! `JSON.parse` does.

use seqgate::event::{self, Filled, Form, Outer, Sighting, Subject};
use seqgate::json::Str;
use seqgate::stamp::{Secret, Stamp};
use serde_json::Value;

use super::naive_json::{self, Json};

/// What the filter makes of a sighting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) outer: Option<Outer>,
    pub(crate) stamp: Option<Stamp>,
}

impl Said {
    pub(crate) fn of(sighting: &Sighting<'_>) -> Self {
        let stamp = match &sighting.subject {
            Subject::Event(claim) => Some(Stamp::new(claim, &Secret::new([7; 16]))),
            _ => None,
        };
        Self { outer: sighting.outer.clone(), stamp }
    }
}

/// What is seen of a text at its ends, if anything, is what the whole of it says; and so is what its own form reads. Of
/// texts that are not JSON, that have a name twice in one object, or that have an array or object behind the payload, nothing is
/// promised but that they are looked at. Says whether anything was seen.
pub(crate) fn ends_agree(text: &[u8]) -> bool {
    let Some(glance) = event::glance(text, &filtered()) else { return false };
    let said = Said::of(&glance.sighting);
    let form = glance.layout.and_then(|layout| Form::of(text, &layout));
    let filled = form.as_ref().map(|form| form.read(text));
    let lawful =
        naive_json::parse(text).is_some_and(|twin| twin.has_unique_names() && twin.ends_with_payload());
    if !lawful {
        return true;
    }
    let shown = String::from_utf8_lossy(text);
    assert_eq!(said, Said::of(&peek(text).expect("JSON")), "{shown}");
    if let Some(filled) = filled {
        let Some(stamp) = said.stamp else { panic!("a form of no event: {shown}") };
        let (outer, ts) = (said.outer.expect("a number"), stamp.ts.expect("a time"));
        assert_eq!(filled, Some(Filled { other_run: None, seq: stamp.seq, ts, outer }), "{shown}");
    }
    true
}

/// What a text says, with its own strings in UTF-16 as clients hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) outer: Option<u64>,
    pub(crate) subject: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Other,
    NoRun,
    NoSeq,
    Event { run: Vec<u16>, stream: Option<Vec<u16>>, seq: u64, ts: Option<u64>, ends: bool, starts: bool },
}

pub(crate) fn filtered() -> Vec<String> {
    vec!["agent".into(), "ägent".into()]
}

pub(crate) fn peek(text: &[u8]) -> Option<Sighting<'_>> {
    event::peek(text, &filtered()).ok()
}

/// The code units of a string whose decoded form is UTF-8 but for surrogates on their own.
pub(crate) fn units(text: Str<'_>) -> Vec<u16> {
    let mut bytes = Vec::new();
    text.decode(|piece| bytes.extend_from_slice(piece));
    let mut units = Vec::new();
    let mut rest = &bytes[..];
    while let Some(&lead) = rest.first() {
        let len = if lead < 0x80 { 1 } else { lead.leading_ones() as usize };
        let (char, behind) = rest.split_at(len);
        match std::str::from_utf8(char) {
            Ok(char) => units.extend(char.encode_utf16()),
            Err(_) => {
                assert_eq!((len, lead, char[1] & 0xe0), (3, 0xed, 0xa0), "a surrogate: {char:02x?}");
                units.push(0xd000 | u16::from(char[1] & 0x3f) << 6 | u16::from(char[2] & 0x3f));
            }
        }
        rest = behind;
    }
    units
}

pub(crate) fn ours(text: &[u8]) -> Option<Fields> {
    let sighting = peek(text)?;
    let subject = match sighting.subject {
        Subject::Other => Kind::Other,
        Subject::NoRun => Kind::NoRun,
        Subject::NoSeq => Kind::NoSeq,
        Subject::Event(claim) => Kind::Event {
            run: units(claim.run),
            stream: claim.stream.map(units),
            seq: claim.seq,
            ts: claim.ts,
            ends: claim.ends,
            starts: claim.starts,
        },
    };
    Some(Fields { outer: sighting.outer.map(|outer| outer.value), subject })
}

fn naive(json: &Json) -> Fields {
    let is_event = json.get("type").is_some_and(|name| name.is("event"));
    let named = |name: &Json| filtered().iter().any(|word| name.is(word));
    let outer = json.get("seq").and_then(Json::integer).filter(|_| is_event);
    if !is_event || !json.get("event").is_some_and(named) {
        return Fields { outer, subject: Kind::Other };
    }
    let payload = json.get("payload");
    let inner = |key| payload.and_then(|payload| payload.get(key));
    let string = |key| match inner(key) {
        Some(Json::Str(units)) => Some(units.clone()),
        _ => None,
    };
    let integer = |key| inner(key).and_then(Json::integer);
    let phase = |name| inner("data").and_then(|data| data.get("phase")).is_some_and(|p| p.is(name));
    let stream = |name| inner("stream").is_some_and(|stream| stream.is(name));
    let last = phase("end") || phase("error");
    let subject = match (string("runId"), integer("seq")) {
        (None, _) => Kind::NoRun,
        (Some(_), None) => Kind::NoSeq,
        (Some(run), Some(seq)) => Kind::Event {
            run,
            stream: string("stream"),
            seq,
            ts: integer("ts"),
            ends: last && stream("lifecycle"),
            starts: stream("lifecycle") && phase("start")
                || stream("run_status") && phase("preparing_workspace"),
        },
    };
    Fields { outer, subject }
}

fn serde(json: &Value) -> Fields {
    let is_event = json["type"] == "event";
    let integer = |value: &Value| value.as_u64().filter(|n| *n < 1 << 53);
    let string = |value: &Value| value.as_str().map(|s| s.encode_utf16().collect::<Vec<_>>());
    let outer = integer(&json["seq"]).filter(|_| is_event);
    if !is_event || !filtered().iter().any(|name| json["event"] == **name) {
        return Fields { outer, subject: Kind::Other };
    }
    let payload = &json["payload"];
    let phase = &payload["data"]["phase"];
    let subject = match (string(&payload["runId"]), integer(&payload["seq"])) {
        (None, _) => Kind::NoRun,
        (Some(_), None) => Kind::NoSeq,
        (Some(run), Some(seq)) => Kind::Event {
            run,
            stream: string(&payload["stream"]),
            seq,
            ts: integer(&payload["ts"]),
            ends: payload["stream"] == "lifecycle" && (phase == "end" || phase == "error"),
            starts: payload["stream"] == "lifecycle" && phase == "start"
                || payload["stream"] == "run_status" && phase == "preparing_workspace",
        },
    };
    Fields { outer, subject }
}

/// serde_json's limit: a value inside 127 others is the deepest it reads.
const SERDE_DEPTH: usize = 127;

/// All three readers agree on this text, the documented differences aside.
pub(crate) fn agree(text: &[u8]) {
    let shown = String::from_utf8_lossy(text);
    let twin = naive_json::parse(text);
    assert_eq!(ours(text), twin.as_ref().map(naive), "the naive twin: {shown}");
    match (serde_json::from_slice::<Value>(text), &twin) {
        (Ok(value), Some(_)) => assert_eq!(ours(text), Some(serde(&value)), "serde_json: {shown}"),
        (Ok(_), None) => panic!("only serde_json takes this: {shown}"),
        (Err(_), None) => {}
        (Err(error), Some(twin)) => assert!(
            twin.has_lone_surrogate() || twin.has_infinite_number() || twin.depth() > SERDE_DEPTH,
            "serde_json says {error}: {shown}"
        ),
    }
    places_are_true(text);
}

/// Where the outer seq and the payload are said to stand, they stand.
fn places_are_true(text: &[u8]) {
    let Some(sighting) = peek(text) else { return };
    let twin = naive_json::parse(text).unwrap();
    match sighting.subject {
        Subject::Event(claim) if claim.ts.is_none() => {
            assert_eq!(naive_json::parse(claim.payload).as_ref(), twin.get("payload"));
            assert_eq!((claim.payload.first(), claim.payload.last()), (Some(&b'{'), Some(&b'}')));
        }
        Subject::Event(claim) => assert_eq!(claim.payload, b"", "not needed beside a ts"),
        _ => {}
    }
    let Some(Outer { value, at }) = sighting.outer else { return };
    assert_eq!(text[at.clone()], *value.to_string().as_bytes());
    // Another number there is the outer seq, with the same rest.
    let blank = vec![b' '; at.len() - 1];
    let renumbered = [&text[..at.start], &blank, b"7", &text[at.end..]].concat();
    let mut expected = naive(&twin);
    expected.outer = Some(7);
    assert_eq!(ours(&renumbered), Some(expected));
}
