//! What `event::peek` makes of a text, beside two other readers: `serde_json`, and a naive twin that reads
//! as `JSON.parse` does.
//!
//! The promise: a text is judged if and only if `JSON.parse` takes it, by the fields that it finds there.
//! `serde_json` refuses three kinds of text that `JSON.parse` takes: escaped lone surrogates, more than 127
//! levels, and numbers beyond a double. Everywhere else all three agree.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use seqgate::event::Subject;
use seqgate::stamp::{RunKey, Secret, Stamp};
use serde_json::Value;
use support::events::event;
use support::naive_json::{self, Json};
use support::readers::{Fields, Kind, agree, ours, peek};

fn claim_of(text: &str) -> Kind {
    ours(text.as_bytes()).unwrap().subject
}

fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// The kind of an event that says just this.
fn kind(run: &str, seq: u64) -> Kind {
    Kind::Event { run: utf16(run), stream: None, seq, ts: None, ends: false, starts: false }
}

/// An event with these members in its payload.
fn with(payload: &str) -> String {
    format!(r#"{{"type":"event","event":"agent","payload":{{{payload}}},"seq":3}}"#)
}

fn run_key(run_literal: &str) -> RunKey {
    let text = with(&format!(r#""runId":{run_literal},"seq":1"#));
    match peek(text.as_bytes()).unwrap().subject {
        Subject::Event(claim) => Stamp::new(&claim, &Secret::new([7; 16])).run,
        other => panic!("{text}: {other:?}"),
    }
}

// What is promised, by hand.

#[test]
fn the_fields_of_an_event_are_found_in_any_key_order() {
    let expected = Fields { outer: Some(3), subject: kind("r", 2) };
    for text in [
        r#"{"type":"event","event":"agent","payload":{"runId":"r","seq":2},"seq":3}"#,
        r#"{"seq":3,"payload":{"seq":2,"runId":"r"},"event":"agent","type":"event"}"#,
        r#"{"payload":{"data":{},"seq":2,"x":[{}],"runId":"r"},"seq":3,"event":"agent","y":1,"type":"event"}"#,
        "\r\n\t {\n\"type\" :\t\"event\" , \"event\":\"agent\",\"payload\" : { \"runId\" : \"r\" ,\"seq\":\r2\n},\"seq\" : 3 } \n",
    ] {
        assert_eq!(ours(text.as_bytes()), Some(expected.clone()), "{text}");
        agree(text.as_bytes());
    }
}

#[test]
fn nested_keys_of_the_same_name_mislead_nobody() {
    let decoys =
        r#"{"runId":"x","seq":99,"ts":99,"stream":"x","payload":{"seq":98},"type":"res","event":"chat"}"#;
    let text = with(&format!(r#""data":{decoys},"runId":"r","list":[{decoys}],"seq":2,"more":{decoys}"#));
    assert_eq!(claim_of(&text), kind("r", 2));
    agree(text.as_bytes());
    let outside = format!(r#"{{"a":{decoys},"type":"event","event":"agent","payload":{{}},"b":[{decoys}]}}"#);
    assert_eq!(ours(outside.as_bytes()), Some(Fields { outer: None, subject: Kind::NoRun }));
}

#[test]
fn a_seq_inside_a_string_is_text() {
    let text = with(r#""data":{"text":"\",\"seq\":9,\"runId\":\"x"},"runId":"r\",\"seq\":8","seq":2"#);
    assert_eq!(claim_of(&text), kind("r\",\"seq\":8", 2));
    agree(text.as_bytes());
}

#[test]
fn the_last_of_equal_keys_counts() {
    for (payload, expected) in [
        (r#""runId":"a","seq":1,"runId":"b","seq":2"#, kind("b", 2)),
        (r#""runId":"a","seq":1,"seq":null"#, Kind::NoSeq),
        (r#""runId":"a","seq":1,"runId":7"#, Kind::NoRun),
        (r#""runId":"a","seq":1,"\u0073eq":5"#, kind("a", 5)),
        (r#""runId":"a","seq":1,"ts":5,"ts":"5""#, kind("a", 1)),
        (r#""runId":"a","seq":1,"data":{"phase":"end"},"data":{}"#, kind("a", 1)),
    ] {
        let text = with(payload);
        assert_eq!(claim_of(&text), expected, "{text}");
        agree(text.as_bytes());
    }
    for (tail, expected) in [
        (r#","payload":null"#, Fields { outer: Some(3), subject: Kind::NoRun }),
        (r#","payload":{"seq":4,"runId":"b"}"#, Fields { outer: Some(3), subject: kind("b", 4) }),
        (r#","event":"chat""#, Fields { outer: Some(3), subject: Kind::Other }),
        (r#","type":"res""#, Fields { outer: None, subject: Kind::Other }),
        (r#","seq":4"#, Fields { outer: Some(4), subject: kind("a", 1) }),
        (r#","seq":"4""#, Fields { outer: None, subject: kind("a", 1) }),
        (r#","\u0074ype":"res","typ\u0065":"\u0065vent""#, Fields { outer: Some(3), subject: kind("a", 1) }),
    ] {
        let text = with(r#""runId":"a","seq":1"#).replace(",\"seq\":3}", &format!(",\"seq\":3{tail}}}"));
        assert_eq!(ours(text.as_bytes()), Some(expected), "{text}");
        agree(text.as_bytes());
    }
}

#[test]
fn keys_and_names_may_be_escaped() {
    let text = r#"{"\u0074ype":"\u0065vent","e\u0076ent":"a\u0067ent","pay\u006Coad":{"run\u0049d":"\u0072","s\u0065q":2,"stream":"lifec\u0079cle","d\u0061ta":{"ph\u0061se":"\u0065nd"},"t\u0073":5},"\u0073\u0065\u0071":3}"#;
    let subject = Kind::Event {
        run: utf16("r"),
        stream: Some(utf16("lifecycle")),
        seq: 2,
        ts: Some(5),
        ends: true,
        starts: false,
    };
    assert_eq!(ours(text.as_bytes()), Some(Fields { outer: Some(3), subject }));
    agree(text.as_bytes());
    for name in [r#""ägent""#, r#""\u00e4gent""#, r#""\u00E4gent""#] {
        let text = with(r#""runId":"r","seq":2"#).replace("\"agent\"", name);
        assert_eq!(claim_of(&text), kind("r", 2), "{name}");
        agree(text.as_bytes());
    }
}

#[test]
fn names_match_as_a_whole() {
    for name in ["agents", "agen", "", "Agent", "agent ", "agent\\u0000", "a\\u0067ents", "\\u0061"] {
        let text = with(r#""runId":"r","seq":2"#).replace("\"agent\"", &format!("\"{name}\""));
        assert_eq!(claim_of(&text), Kind::Other, "{text}");
        agree(text.as_bytes());
    }
    for key in ["runid", "runId ", "runI", "xrunId", "runId\\u0000"] {
        let text = with(&format!(r#""{key}":"r","seq":2"#));
        assert_eq!(claim_of(&text), Kind::NoRun, "{text}");
    }
}

#[test]
fn only_plain_integers_up_to_2_53_are_numbers_of_events() {
    for (number, expected) in [
        ("0", Some(0)),
        ("1", Some(1)),
        ("9007199254740991", Some((1 << 53) - 1)),
        ("9007199254740992", None),
        ("99999999999999999", None),
        ("18446744073709551617", None),
        ("340282366920938463463374607431768211457", None),
        ("-1", None),
        ("-0", None),
        ("1.0", None),
        ("1e0", None),
        ("1E2", None),
        ("0.5", None),
        ("\"1\"", None),
        ("null", None),
        ("true", None),
        ("[1]", None),
        ("{\"seq\":1}", None),
    ] {
        let text = with(&format!(r#""runId":"r","seq":{number}"#));
        assert_eq!(claim_of(&text), expected.map_or(Kind::NoSeq, |seq| kind("r", seq)), "{text}");
        agree(text.as_bytes());
        let text = with(r#""runId":"r","seq":1"#).replace(":3}", &format!(":{number}}}"));
        assert_eq!(ours(text.as_bytes()).unwrap().outer, expected, "{text}");
        agree(text.as_bytes());
    }
}

#[test]
fn a_text_that_is_not_json_is_malformed() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "{}}",
        "{} {}",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\":1,}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "[}",
        "{]",
        "[1}",
        "{\"a\":1]",
        "01",
        "-",
        "-01",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "1.e1",
        "0x1",
        "1_0",
        "NaN",
        "Infinity",
        "-Infinity",
        "undefined",
        "tru",
        "truee",
        "True",
        "nul",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\u+123\"",
        "\"\\U0041\"",
        "\"\t\"",
        "\"\n\"",
        "\"\0\"",
        "\"\u{1f}\"",
        "\u{feff}{}",
        "\u{a0}{}",
        "\u{c}{}",
        "{}\0",
        "// x\n{}",
        "{}/**/",
    ] {
        assert_eq!(ours(text.as_bytes()), None, "{text:?}");
        agree(text.as_bytes());
        let inside = with(&format!(r#""runId":"r","seq":2,"x":{text}"#));
        agree(inside.as_bytes());
    }
}

#[test]
fn any_json_value_is_a_message_without_a_claim() {
    for text in
        ["0", "-0.0e-0", "\"agent\"", "null", "true", "false", "[]", "[[],{}]", "{}", " {} ", "\"\u{7f}\""]
    {
        assert_eq!(ours(text.as_bytes()), Some(Fields { outer: None, subject: Kind::Other }), "{text}");
        agree(text.as_bytes());
    }
}

#[test]
fn text_that_is_not_utf_8_is_malformed_wherever_it_is_not() {
    let text = with(r#""runId":"r","seq":2,"x":"y""#).into_bytes();
    let bad: [&[u8]; 7] =
        [b"\xff", b"\x80", b"\xc0\x80", b"\xed\xa0\xbd", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xc3"];
    for bad in bad {
        for at in 0..=text.len() {
            let text = [&text[..at], bad, &text[at..]].concat();
            assert_eq!(ours(&text), None, "{bad:02x?} at {at}");
        }
    }
}

#[test]
fn every_cut_of_an_event_is_malformed() {
    let text = with(r#""runId":"r\u00e9","seq":2,"data":{"a":[true,null,-1.5e+3,"x\n"]},"ts":5"#);
    for at in 0..text.len() {
        assert_eq!(ours(&text.as_bytes()[..at]), None, "cut at {at}");
    }
    agree(text.as_bytes());
}

#[test]
fn what_only_serde_json_refuses_is_judged() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for value in [r#""\ud83d""#, r#""\ude00\ud83d""#, "1e999", "-1e999", deep.as_str()] {
        let text = with(&format!(r#""x":{value},"runId":"r","seq":2"#));
        assert_eq!(claim_of(&text), kind("r", 2), "{text:.80}");
        assert!(serde_json::from_str::<Value>(&text).is_err());
    }
}

#[test]
fn an_end_is_a_lifecycle_event_whose_last_phase_is_end_or_error() {
    let ends = |payload: &str| {
        let text = with(&format!(r#""runId":"r","seq":2,{payload}"#));
        agree(text.as_bytes());
        matches!(claim_of(&text), Kind::Event { ends: true, .. })
    };
    assert!(ends(r#""stream":"lifecycle","data":{"phase":"end"}"#));
    assert!(ends(r#""data":{"phase":"start","x":{"phase":"start"},"phase":"error"},"stream":"lifecycle""#));
    assert!(!ends(r#""stream":"lifecycle","data":{"phase":"end","phase":"start"}"#));
    assert!(!ends(r#""stream":"lifecycle","data":{"phase":"end"},"data":null"#));
    assert!(!ends(r#""stream":"lifecycle","data":{"x":{"phase":"end"}}"#));
    assert!(!ends(r#""stream":"lifecycle","data":[{"phase":"end"}]"#));
    assert!(!ends(r#""stream":"lifecycle","phase":"end""#));
    assert!(!ends(r#""stream":"assistant","data":{"phase":"end"}"#));
    assert!(!ends(r#""data":{"phase":"end"}"#));
}

#[test]
fn a_start_is_a_lifecycle_start_or_a_workspace_in_preparation() {
    let starts = |payload: &str| {
        let text = with(&format!(r#""runId":"r","seq":2,{payload}"#));
        agree(text.as_bytes());
        matches!(claim_of(&text), Kind::Event { starts: true, ends: false, .. })
    };
    assert!(starts(r#""stream":"lifecycle","data":{"phase":"start"}"#));
    assert!(starts(r#""data":{"phase":"end","phase":"st\u0061rt"},"stream":"lifecycle""#));
    assert!(starts(r#""stream":"run_status","data":{"x":{"phase":"end"},"phase":"preparing_workspace"}"#));
    assert!(starts(r#""data":{"phase":"\u0070reparing_workspace"},"stream":"run_st\u0061tus""#));
    assert!(!starts(r#""stream":"lifecycle","data":{"phase":"preparing_workspace"}"#));
    assert!(!starts(r#""stream":"run_status","data":{"phase":"start"}"#));
    assert!(!starts(r#""stream":"run_status","data":{"phase":"preparing_workspaces"}"#));
    assert!(!starts(r#""stream":"lifecycle","data":{"phase":"start","phase":"end"}"#));
    assert!(!starts(r#""stream":"lifecycle","data":[{"phase":"start"}]"#));
    assert!(!starts(r#""stream":"lifecycle","phase":"start""#));
}

#[test]
fn a_run_id_has_one_key_however_it_is_escaped() {
    let spellings = [
        r#""a/é😀""#,
        r#""\u0061\/\u00e9\ud83d\ude00""#,
        r#""a\u002f\u00E9\uD83D\uDE00""#,
        r#""\u0061/é😀""#,
    ];
    for spelling in spellings {
        assert_eq!(run_key(spelling), run_key(spellings[0]), "{spelling}");
    }
    let short = r#""\b\t\n\f\r\"\\\/""#;
    assert_eq!(run_key(short), run_key(r#""\u0008\u0009\u000a\u000c\u000d\u0022\u005c\u002f""#));
    let long = "x".repeat(10_000);
    assert_eq!(run_key(&format!("\"{long}\"")), run_key(&format!("\"{}\"", r"\u0078".repeat(10_000))));
}

#[test]
fn different_run_ids_have_different_keys() {
    let ids = [
        r#""""#,
        r#""\u0000""#,
        r#""a""#,
        r#""A""#,
        r#""a\u0000""#,
        r#""\\u0061""#,
        r#""\ud83d""#,
        r#""\ud83e""#,
        r#""\ude00""#,
        r#""\ude00\ud83d""#,
        r#""\ud83d\ude00""#,
        r#""\ud83d\ud83d\ude00""#,
        r#""\ud83dx\ude00""#,
        r#""\ufffd""#,
        r#""\ufffd\ufffd""#,
        r#""\ud7ff""#,
        r#""\ue000""#,
        r#""\u00ed\u00a0\u00bd""#,
        r#""é""#,
        r#""e\u0301""#,
    ];
    for (i, a) in ids.iter().enumerate() {
        for b in &ids[..i] {
            assert_ne!(run_key(a), run_key(b), "{a} and {b}");
        }
    }
}

#[test]
fn every_captured_text_reads_alike() {
    let texts = support::captures::connections().into_iter().flat_map(|(_, texts)| texts);
    let mut events = 0;
    for text in texts {
        agree(text.as_bytes());
        events += usize::from(matches!(claim_of(&text), Kind::Event { .. }));
    }
    assert!(events > 100, "{events} agent events");
}

// Texts by the thousand.

fn space() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![12 => Just(""), 1 => Just(" "), 1 => Just("\n\t"), 1 => Just("\r\n  ")]
}

/// Pieces of a string literal. Together they also make surrogate pairs and cut them.
const PIECES: [&str; 25] = [
    "a",
    "seq",
    "runId",
    "é",
    "😀",
    "\u{7f}",
    "\u{2028}",
    "/",
    "{",
    "]",
    ",",
    ":",
    "\\n",
    "\\\"",
    "\\\\",
    "\\/",
    "\\u0061",
    "\\u00E9",
    "\\u0000",
    "\\ud83d",
    "\\ude00",
    "\\uD800",
    "\\udfff",
    "\\ufffd",
    "0123456789abcdef",
];

fn any_string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![3 => 0..19usize, 1 => 0..PIECES.len()].prop_map(|n| PIECES[n]);
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn any_number() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..100u64).prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| serde_json::Value::from(n).to_string()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        Just("9007199254740991".to_owned()),
        Just("9007199254740992".to_owned()),
    ]
}

/// What may take the place of a value and is none.
fn no_value() -> impl Strategy<Value = String> {
    let words = [
        "",
        "01",
        "+1",
        "1.",
        ".5",
        "-",
        "1e",
        "tru",
        "nulll",
        "NaN",
        "'a'",
        "\"",
        "\"\\x\"",
        "\"\t\"",
        "\"\u{1}\"",
        "\"\\u12g4\"",
        "[1,]",
        "[,]",
        "{\"a\"}",
        "{a:1}",
        "[}",
        "{]",
        "{\"a\":1,}",
        ",",
        ":",
    ];
    proptest::sample::select(words.to_vec()).prop_map(str::to_owned)
}

fn array(items: &[(&str, String, &str)]) -> String {
    let items: Vec<String> = items.iter().map(|(a, item, b)| format!("{a}{item}{b}")).collect();
    format!("[{}]", items.join(","))
}

type Member = ((&'static str, String, &'static str), (&'static str, String, &'static str));

fn object(members: &[Member]) -> String {
    let member = |((a, key, b), (c, value, d)): &Member| format!("{a}{key}{b}:{c}{value}{d}");
    format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
}

/// One of these keys, now and then with a letter escaped, or any string.
fn key(known: &'static [&'static str]) -> impl Strategy<Value = String> {
    let known = proptest::sample::select(known);
    prop_oneof![
        8 => known.clone().prop_map(|key| format!("\"{key}\"")),
        2 => (known, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(key, at, upper)| {
            let at = at.index(key.len());
            let code = u32::from(key.as_bytes()[at]);
            let hex = if upper { format!("{code:04X}") } else { format!("{code:04x}") };
            format!("\"{}\\u{hex}{}\"", &key[..at], &key[at + 1..])
        }),
        1 => any_string(),
    ]
}

fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        30 => any_string(),
        30 => any_number(),
        10 => proptest::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned),
        1 => no_value(),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let item = (space(), inner.clone(), space());
        let name = (space(), key(&["runId", "seq", "ts", "phase", "payload", "__proto__"]), space());
        prop_oneof![
            proptest::collection::vec(item.clone(), 0..4).prop_map(|items: Vec<_>| array(&items)),
            proptest::collection::vec((name, item), 0..4).prop_map(|members| object(&members)),
        ]
    })
}

fn members<V: Strategy<Value = String>>(
    known: &'static [&'static str],
    value: impl Fn(&'static str) -> V + 'static,
) -> BoxedStrategy<Vec<Member>> {
    let fitting = proptest::sample::select(known)
        .prop_flat_map(move |name| (key_of(name), value(name)))
        .prop_map(|(key, value)| (key, value));
    let member = prop_oneof![6 => fitting, 1 => (key(known), any_value())];
    let spaced = (space(), space(), member, space(), space())
        .prop_map(|(a, b, (key, value), c, d)| ((a, key, b), (c, value, d)));
    proptest::collection::vec(spaced, 0..9).boxed()
}

fn key_of(name: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(format!("\"{name}\"")),
        1 => Just(format!("\"\\u{:04x}{}\"", name.as_bytes()[0], &name[1..])),
    ]
}

fn words(list: &'static [&'static str]) -> BoxedStrategy<String> {
    proptest::sample::select(list).prop_map(str::to_owned).boxed()
}

fn payload_value(name: &'static str) -> BoxedStrategy<String> {
    match name {
        "seq" | "ts" => prop_oneof![(0..20u64).prop_map(|n| n.to_string()), any_number()].boxed(),
        "stream" => words(&[r#""assistant""#, r#""lifecycle""#, r#""\u006cifecycle""#]),
        "runId" => any_string().boxed(),
        _ => {
            let phase = words(&[
                r#""end""#,
                r#""preparing_workspace""#,
                r#""error""#,
                r#""\u0065nd""#,
                r#""start""#,
                "null",
                "7",
            ]);
            members(&["phase"], move |_| phase.clone()).prop_map(|members| object(&members)).boxed()
        }
    }
}

fn top_value(name: &'static str) -> BoxedStrategy<String> {
    match name {
        "type" => words(&[r#""event""#, r#""event""#, r#""event""#, r#""\u0065vent""#, r#""res""#]),
        "event" => words(&[r#""agent""#, r#""agent""#, r#""agen\u0074""#, r#""chat""#, r#""ägent""#]),
        "seq" => prop_oneof![(0..2000u64).prop_map(|n| n.to_string()), any_number()].boxed(),
        _ => members(&["runId", "seq", "ts", "stream", "data"], payload_value)
            .prop_map(|members| object(&members))
            .boxed(),
    }
}

/// An object like an event: its members in any order, some missing, some twice, some odd.
fn like_an_event() -> impl Strategy<Value = String> {
    let odd = members(&["type", "event", "payload", "seq"], top_value);
    let whole = ["type", "event", "payload", "seq"].map(|name| (key_of(name), top_value(name)));
    let whole = whole.prop_map(|all| all.map(|(key, value)| (("", key, ""), ("", value, ""))).to_vec());
    let all = prop_oneof![1 => odd.clone(), 4 => (whole, odd.prop_map(|mut odd| {
        odd.truncate(2);
        odd
    })).prop_map(|(whole, odd)| [whole, odd].concat())];
    all.prop_shuffle().prop_map(|members: Vec<Member>| object(&members))
}

/// Changes to a text: at a place, so many bytes go, and others come.
fn mutate(text: &[u8], changes: &[(prop::sample::Index, u8, Vec<u8>)]) -> Vec<u8> {
    let mut text = text.to_vec();
    for (place, gone, new) in changes {
        let at = place.index(text.len() + 1);
        let end = (at + usize::from(*gone)).min(text.len());
        text.splice(at..end, new.iter().copied());
    }
    text
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, Vec<u8>)>> {
    let structural = proptest::sample::select(&b"{}[]\",:\\0123456789.eE+-utfn \n\x00\x1f\x80\xff"[..]);
    let new = prop_oneof![
        2 => Just(Vec::new()),
        4 => proptest::collection::vec(structural, 1..3),
        2 => proptest::collection::vec(any::<u8>(), 1..3),
    ];
    proptest::collection::vec((any::<prop::sample::Index>(), 0..3u8, new), 1..4)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn any_value_reads_alike(before in space(), value in any_value(), after in space()) {
        agree(format!("{before}{value}{after}").as_bytes());
    }

    #[test]
    fn anything_like_an_event_reads_alike(text in like_an_event()) {
        agree(text.as_bytes());
    }

    #[test]
    fn a_spoilt_event_is_refused_or_reads_alike(text in like_an_event(), changes in changes()) {
        agree(&mutate(text.as_bytes(), &changes));
    }

    #[test]
    fn any_bytes_are_refused_or_read_alike(text in proptest::collection::vec(any::<u8>(), 0..40)) {
        agree(&text);
    }

    #[test]
    fn a_value_written_by_serde_json_reads_alike(text in like_an_event(), pretty in any::<bool>()) {
        let Ok(value) = serde_json::from_str::<Value>(&text) else { return Ok(()) };
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        prop_assert!(ours(text.as_bytes()).is_some());
        agree(text.as_bytes());
    }

    /// Arrays and objects in any order, around the places where the nest's words end.
    #[test]
    fn nests_close_as_they_opened(
        kinds in proptest::collection::vec(any::<bool>(), 1..300),
        spoilt in proptest::option::of(any::<prop::sample::Index>()),
        filled in any::<bool>(),
    ) {
        let open: String = kinds.iter().map(|object| if *object { "{\"k\":" } else { "[0," }).collect();
        let mut closers: Vec<u8> = kinds.iter().rev().map(|object| if *object { b'}' } else { b']' }).collect();
        if let Some(at) = spoilt {
            closers[at.index(kinds.len())] ^= b'}' ^ b']';
        }
        // Siblings behind a nested value, so that its kind is asked for after the inner ones have gone.
        let close: String = closers.iter().map(|closer| match (filled, closer) {
            (false, closer) => char::from(*closer).to_string(),
            (true, b'}') => ",\"l\":[{}]}".to_owned(),
            (true, _) => ",{\"m\":[]}]".to_owned(),
        }).collect();
        let nest = format!("{open}1{close}");
        prop_assert_eq!(ours(nest.as_bytes()).is_some(), spoilt.is_none());
        agree(nest.as_bytes());
        agree(with(&format!(r#""data":{nest},"runId":"r","seq":2"#)).as_bytes());
    }

    #[test]
    fn a_run_id_has_the_key_of_its_characters(
        a in any_string(),
        b in any_string(),
        spelling in any::<u64>(),
    ) {
        let of = |literal: &str| match naive_json::parse(literal.as_bytes()) {
            Some(Json::Str(units)) => units,
            other => panic!("{literal}: {other:?}"),
        };
        prop_assert_eq!(run_key(&a) == run_key(&b), of(&a) == of(&b));
        // All in escapes, and with some of them.
        let units = of(&a);
        let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
        prop_assert_eq!(run_key(&format!("\"{escaped}\"")), run_key(&a));
        let mixed: String = char::decode_utf16(units.iter().copied()).enumerate().map(|(i, char)| {
            let escape = spelling >> (i % 64) & 1 == 0;
            match char {
                Ok(char) if !escape && char >= ' ' && char != '"' && char != '\\' => char.to_string(),
                Ok(char) => char.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04X}")).collect(),
                Err(lone) => format!("\\u{:04X}", lone.unpaired_surrogate()),
            }
        }).collect();
        prop_assert_eq!(run_key(&format!("\"{mixed}\"")), run_key(&a));
    }

    /// The fast search for the end of a string, at every distance from the end of a word.
    #[test]
    fn what_ends_a_string_is_found_wherever_it_stands(
        before in "[a-z\u{80}-\u{7ff}😀\u{7f}!#]{0,20}",
        special in proptest::sample::select(&b"\"\\\x00\x01\x1f\x20\x21\x22\x23\x5b\x5c\x5d\x7f"[..]),
        after in "[a-z\u{80}-\u{7ff}!#\\[\\]]{0,20}",
    ) {
        agree(format!("{{\"{before}{}{after}\":1}}", char::from(special)).as_bytes());
    }
}

proptest! {
    #![proptest_config(config(32))]

    #[test]
    fn captured_texts_with_bytes_changed_are_refused_or_read_alike(
        start in 0..50usize,
        changes in proptest::collection::vec(changes(), 12),
    ) {
        let texts = CAPTURED.with(Clone::clone);
        for (text, changes) in texts.iter().skip(start).step_by(50).zip(&changes) {
            agree(&mutate(text.as_bytes(), changes));
        }
    }
}

thread_local! {
    static CAPTURED: std::rc::Rc<Vec<String>> =
        std::rc::Rc::new(support::captures::connections().into_iter().flat_map(|(_, texts)| texts).collect());
}

#[test]
fn a_builder_event_is_what_it_says() {
    let text = event("r", 2).ts(5).phase("end").outer(9).to_string();
    let subject = Kind::Event {
        run: utf16("r"),
        stream: Some(utf16("lifecycle")),
        seq: 2,
        ts: Some(5),
        ends: true,
        starts: false,
    };
    assert_eq!(ours(text.as_bytes()), Some(Fields { outer: Some(9), subject }));
}
