//! What is read at a message's two ends, beside the whole reading: the same, or nothing, or found out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use seqgate::event::{self, Filled, Form, Outer, Shape, Subject};
use seqgate::filter::{Ledger, Order, Verdict};
use seqgate::sieve::{Mode, Unjudged};
use seqgate::stamp::{Secret, Stamp};
use support::events::event;
use support::frames::{text, texts};
use support::pump::{Pump, rules, strain};
use support::readers::{Said, ends_agree};

fn filtered() -> Vec<String> {
    vec!["agent".into()]
}

fn glance(text: &str) -> Option<(Said, Shape)> {
    event::glance(text.as_bytes(), &filtered()).map(|glance| (Said::of(&glance.sighting), glance.shape))
}

fn whole(text: &str) -> Said {
    Said::of(&event::peek(text.as_bytes(), &filtered()).unwrap())
}

fn agree(text: &str) -> Shape {
    let (said, shape) = glance(text).unwrap_or_else(|| panic!("nothing seen of {text}"));
    assert_eq!(said, whole(text), "{text}");
    shape
}

/// An event with this between `"data":` and the rest, as `JSON.stringify` would write it.
fn with_data(data: &str) -> String {
    format!(
        r#"{{"type":"event","event":"agent","payload":{{"runId":"r","stream":"assistant","data":{data},"sessionKey":"agent:main:main","seq":4,"ts":1000}},"seq":9}}"#
    )
}

#[test]
fn of_captured_traffic_nearly_all_is_seen_at_a_glance_and_all_of_that_is_true() {
    let (mut events, mut seen, mut lifecycle) = (0, 0, 0);
    let connections = support::captures::connections();
    for text in connections.iter().flat_map(|(_, texts)| texts) {
        let glance = glance(text);
        if let Some((said, _)) = &glance {
            assert_eq!(*said, whole(text), "{text}");
        }
        if let Subject::Event(claim) = event::peek(text.as_bytes(), &filtered()).unwrap().subject {
            events += 1;
            seen += usize::from(glance.is_some());
            let stream = claim.stream.unwrap();
            let is_lifecycle = stream.is("lifecycle") || stream.is("run_status");
            lifecycle += usize::from(is_lifecycle);
            assert!(!is_lifecycle || glance.is_none(), "the phase stands in the middle: {text}");
        }
    }
    // The rest are tool events with a session behind their numbers.
    let others = events - lifecycle - seen;
    assert!(seen > 150 && others * 20 < events, "{seen} of {events}, {lifecycle} lifecycle");
}

#[test]
fn hostile_data_changes_nothing() {
    let shape = agree(&with_data(r#"{"text":"Hel"}"#));
    for data in [
        "{}",
        r#"{"seq":7,"ts":7,"runId":"x"}"#,
        r#"{"a":{"seq":7,"ts":7},"seq":8}"#,
        r#"{"text":"\",\"seq\":7,\"ts\":7}},\"seq\":7}"}"#,
        r#"{"text":"\\","b":"\\\\\"}"}"#,
        r#"{"text":"}},\\\"seq\\\":7}"}"#,
        r#"{"text":"{{{[[[\\\\"}"#,
        r#"{"a":[{"b":[[]]}],"c":[]}"#,
    ] {
        assert_eq!(agree(&with_data(data)), shape, "{data}");
    }
}

#[test]
fn keys_on_either_side_of_the_data_are_seen() {
    let texts = [
        r#"{"type":"event","event":"agent","payload":{"seq":4,"ts":1000,"runId":"r","stream":"s","data":{}}}"#,
        r#"{"type":"event","event":"agent","payload":{"data":{},"seq":4,"ts":1000,"runId":"r","stream":"s"},"seq":1}"#,
        r#"{"type":"event","event":"agent","payload":{"runId":"","stream":"","x":null,"y":true,"data":[],"z":false,"seq":0,"w":"","ts":0},"x":"y","seq":9007199254740991}"#,
        r#"{"type":"event","event":"agent","payload":{"a name longer than a word":1,"runId":"ä€😀","stream":"s","data":{},"seq":4,"ts":1000,"another such name":"x"},"seq":1}"#,
    ];
    let mut shapes: Vec<Shape> = texts.iter().map(|text| agree(text)).collect();
    shapes.dedup();
    assert_eq!(shapes.len(), texts.len(), "different names, different shapes");
    // Only the usual order makes a form: run, data, seq, ts, outer seq.
    let has_layout = |text: &&str| event::glance(text.as_bytes(), &filtered()).unwrap().layout.is_some();
    assert_eq!(texts.iter().map(has_layout).collect::<Vec<_>>(), [false, false, true, true]);
    let ts_first = r#"{"type":"event","event":"agent","payload":{"runId":"r","stream":"s","data":{},"ts":1,"seq":2},"seq":3}"#;
    agree(ts_first);
    assert!(!has_layout(&ts_first));
}

#[test]
fn where_an_object_begins_or_ends_is_part_of_the_shape() {
    let event = |data: &str, behind: &str| {
        format!(
            r#"{{"type":"event","event":"agent","payload":{{"runId":"r","stream":"s","data":{data}{behind}"seq":4,"ts":1000}},"seq":9}}"#
        )
    };
    let shapes = [
        event("{}", ","),
        event("[]", ","),
        event("{}", r#","a":[],"#),
        event("[]", r#","a":{},"#),
        event(r#"{},"a":1"#, ","),
    ];
    for (i, one) in shapes.iter().enumerate() {
        for other in &shapes[..i] {
            assert_ne!(agree(one), agree(other), "{one} {other}");
        }
    }
}

#[test]
fn broken_text_whose_ends_meet_is_looked_at() {
    for data in ["{", "}", "[", "]", "", "{]", r#"""#, r#"{"}"#] {
        ends_agree(with_data(data).as_bytes());
    }
}

#[test]
fn messages_that_are_not_judged_are_seen_at_a_glance() {
    for text in [
        r#"{"type":"res","id":"1","ok":true,"payload":{"seq":1}}"#,
        r#"{"type":"event","event":"chat","payload":{"runId":"r","seq":1},"seq":12}"#,
        r#"{"type":"event","event":"agent2","payload":{},"seq":12}"#,
        r#"{"type":"event","event":"","payload":{"seq":1},"seq":0}"#,
    ] {
        agree(text);
    }
}

#[test]
fn where_the_ends_do_not_say_enough_nothing_is_said() {
    let event = event("r", 4).outer(9).to_string();
    assert!(glance(&event).is_some());
    for (what, with) in [
        ("assistant", "lifecycle"),
        ("assistant", "run_status"),
        ("assistant", r"\u0061ssistant"),
        (r#""runId":"r""#, r#""runId":"\"r""#),
        (r#""runId":"r","#, ""),
        (r#""stream":"assistant","#, ""),
        (r#","ts":1000"#, ""),
        (r#""seq":4,"#, ""),
        (r#""seq":4"#, r#""seq":4.5"#),
        (r#""seq":4"#, r#""seq":-4"#),
        (r#""seq":4"#, r#""seq":4e2"#),
        (r#""seq":4"#, r#""seq":9007199254740992"#),
        (r#""seq":4"#, r#""seq":10000000000000004"#),
        (r#""seq":4"#, r#""seq":"4""#),
        (r#""ts":1000"#, r#""ts":1000,"session":{"key":"x"}"#),
        (r#""seq":9"#, r#""seq":9,"stateVersion":{"presence":1}"#),
        (r#""seq":9"#, r#""seq": 9"#),
        (r#""seq":9"#, r#""seq":"9""#),
        (r#""seq":9"#, r#""seq":9,"type":"event""#),
        (r#"{"text":"Hel"}"#, r#""Hel""#),
        (r#","data":{"text":"Hel"}"#, ""),
        (r#"{"type":"event","#, r#"{ "type":"event","#),
        (r#"{"type":"event","#, r#"{"seq":1,"type":"event","#),
        (r#""payload":{"#, r#""payload":[{"#),
        (r#""payload":{"#, r#""payload":{"seq":-4,"#),
        (r#""payload":{"#, r#""payload":{"seq":4.5,"#),
        (r#""payload":{"#, r#""payload":{"ts":"1","#),
        (r#""payload":{"#, r#""payload":{"x":{},"#),
    ] {
        let other = event.replacen(what, with, 1);
        assert_ne!(other, event, "{what}");
        assert!(glance(&other).is_none(), "{other}");
    }
    for cut in 0..event.len() {
        assert!(glance(&event[..cut]).is_none(), "{}", &event[..cut]);
    }
    assert!(glance(r#"{"type":"event","event":"chat","payload":{"seq":3}}"#).is_none());
}

/// So many events of one run, in order, that the connection reads their like at a glance.
fn trusting() -> Pump {
    let mut pump = Pump::new(rules(Mode::Enforce));
    for seq in 1..=10 {
        pump.feed(&text(event("trusted", seq).outer(seq)));
    }
    assert_eq!((pump.tally.read_whole, pump.tally.read_ends), (4, 6), "a shape is proved four times");
    pump
}

/// A message that says `seq` of the trusted run at a glance, and is no event of a run: the object behind the payload is
/// not the payload.
fn lie(seq: u64, outer: u64) -> String {
    format!(
        r#"{{"type":"event","event":"agent","payload":{{"runId":"trusted","stream":"assistant","data":{{}}}},"other":{{"data":{{}},"seq":{seq},"ts":1000}},"seq":{outer}}}"#
    )
}

#[test]
fn no_glance_is_believed_that_says_more_than_that_a_run_goes_on() {
    // A repeat, stale, far ahead.
    for seq in [10, 3, 1000] {
        let mut pump = trusting();
        let lie = lie(seq, 11);
        assert!(whole(&lie).stamp.is_none() && glance(&lie).unwrap().0.stamp.is_some());
        pump.feed(&text(&lie));
        assert_eq!(texts(&pump.out).last().unwrap(), &lie);
        assert_eq!((pump.tally.disagreed, pump.tally.unjudged[Unjudged::NoSeq as usize]), (1, 1));
        // From here on all is read wholly, and judged as by a sieve that has seen nothing before.
        for seq in [11, 12, 12] {
            pump.feed(&text(event("trusted", seq).outer(seq)));
        }
        assert_eq!((pump.tally.read_whole, pump.tally.read_ends), (8, 6));
        assert_eq!(pump.tally.judged[Verdict::NewRun as usize], 2);
        assert_eq!(pump.dropped.len(), 1);
    }
}

#[test]
fn what_a_glance_says_of_anything_but_a_run_that_goes_on_is_read_wholly() {
    for (event, verdict) in [
        (event("trusted", 10).outer(10), Verdict::Duplicate),
        (event("trusted", 3).ts(999).outer(11), Verdict::OutOfOrder),
        (event("new", 1).outer(11), Verdict::NewRun),
        (event("trusted", 1000).outer(11), Verdict::Gap),
        (event("trusted", 1).ts(2000).outer(11), Verdict::Restarted),
    ] {
        let mut pump = trusting();
        let before = pump.tally.judged[verdict as usize];
        pump.feed(&text(&event));
        assert_eq!(pump.tally.judged[verdict as usize], before + 1, "{event}");
        assert_eq!((pump.tally.read_whole, pump.tally.read_ends, pump.tally.disagreed), (5, 6, 0), "{event}");
    }
}

#[test]
fn one_glance_in_251_is_checked() {
    let mut pump = trusting();
    for seq in 11..=20_000 {
        pump.feed(&text(event("trusted", seq).outer(seq)));
    }
    assert_eq!(pump.tally.read_whole, 4 + (20_000 - 4) / 251);
    let mut pump = trusting();
    // Each the next of its run, so that it is believed.
    for n in 11..300 {
        pump.feed(&text(lie(n, n)));
    }
    assert_eq!(pump.tally.disagreed, 1, "found out");
    assert!(pump.tally.read_ends <= 251);
    // What was misread makes nothing look stale.
    for seq in 11..20 {
        pump.feed(&text(event("trusted", seq).outer(300 + seq)));
    }
    assert_eq!(pump.dropped.len(), 0);
}

#[test]
fn many_shapes_do_not_keep_later_ones_from_being_trusted() {
    let odd = |n: usize| {
        let name = format!(r#""odd{n}":{n},"stream""#);
        event("odd", 1).outer(1).to_string().replacen(r#""stream""#, &name, 1)
    };
    let mut pump = Pump::new(rules(Mode::Enforce));
    (0..40).for_each(|n| pump.feed(&text(odd(n))));
    for seq in 1..=10 {
        pump.feed(&text(event("usual", seq).outer(seq)));
    }
    assert_eq!(pump.tally.read_ends, 6);
}

#[test]
fn runs_whose_ids_no_form_remembers_are_told_apart() {
    let mut pump = trusting();
    let long = "x".repeat(600);
    let of = |run: &str, seqs: std::ops::RangeInclusive<u64>| {
        seqs.map(|seq| text(event(run, seq).outer(0))).collect::<Vec<_>>().concat()
    };
    for events in [of(&long, 1..=1), of("trusted", 11..=20), of(&long, 2..=9), of("trusted", 21..=21)] {
        pump.feed(&events);
    }
    assert_eq!(pump.dropped.len(), 0);
}

#[test]
fn a_shape_that_lies_at_first_sight_is_never_trusted() {
    let mut pump = Pump::new(rules(Mode::Enforce));
    pump.feed(&text(lie(1, 1)));
    assert_eq!(pump.tally.disagreed, 1);
    for seq in 1..=10 {
        pump.feed(&text(event("run", seq).outer(seq)));
    }
    assert_eq!(pump.tally.read_ends, 0);
}

#[test]
fn most_of_what_was_captured_is_read_at_a_glance() {
    let (mut ends, mut all) = (0, 0);
    for (name, messages) in support::captures::connections() {
        let bytes: Vec<u8> = messages.iter().flat_map(text).collect();
        let tally = strain(rules(Mode::Enforce), &bytes, &[usize::MAX]).tally;
        assert_eq!(tally.disagreed, 0, "{name}");
        assert_eq!((tally.read_whole + tally.read_ends) as usize, messages.len(), "{name}");
        ends += tally.read_ends as usize;
        // Events whose phase is in the middle are always read wholly.
        all += messages.iter().filter(|text| glance(text).is_some()).count();
    }
    // Short connections: each has to prove its shapes first.
    assert!(ends * 2 > all, "{ends} of {all}");
}

/// The form of a message that is read at a glance.
fn form(text: &str) -> Form {
    let layout = event::glance(text.as_bytes(), &filtered()).unwrap().layout.expect("the usual order");
    Form::of(text.as_bytes(), &layout).expect("short ends")
}

#[test]
fn a_form_reads_what_differs_in_run_text_and_numbers_only() {
    let form = form(&with_data(r#"{"text":"Hel"}"#));
    let like = |run: &str, data: &str, seq: u64, ts: u64, outer: u64| {
        format!(
            r#"{{"type":"event","event":"agent","payload":{{"runId":"{run}","stream":"assistant","data":{data},"sessionKey":"agent:main:main","seq":{seq},"ts":{ts}}},"seq":{outer}}}"#
        )
    };
    for (run, other_run) in
        [("r", None), ("s", Some("s")), ("", Some("")), ("a longer one", Some("a longer one"))]
    {
        for data in ["{}", r#"{"text":"\"},\"seq\":3}"}"#, r#"{"a":[{}],"b":{}}"#] {
            for (seq, ts, outer) in [(0, 0, 0), (4, 1000, 9), (9_007_199_254_740_991, 1_769_900_000_000, 10)]
            {
                let text = like(run, data, seq, ts, outer);
                let at = text.len() - 1 - outer.to_string().len()..text.len() - 1;
                let filled = Filled {
                    other_run: other_run.map(str::as_bytes),
                    seq,
                    ts,
                    outer: Outer { value: outer, at },
                };
                assert_eq!(form.read(text.as_bytes()), Some(filled), "{text}");
            }
        }
    }
    let text = like("r", "{}", 4, 1000, 9);
    for (what, with) in [
        ("assistant", "thinking"),
        (r#""runId":"r""#, r#""runId":"r\n""#),
        ("agent:main:main", "agent:main:other"),
        (r#""data":{"#, r#""data":["#),
        (r#"{}"#, r#"{}]"#),
        (r#""ts":1000"#, r#""ts":-1000"#),
        (r#""ts":1000"#, r#""ts":1000.5"#),
        (r#""ts":1000"#, r#""ts":9007199254740992"#),
        (r#""ts":1000"#, r#""ts":10000000000000000"#),
        (r#""ts":1000"#, r#""ts":"#),
        (r#""seq":9"#, r#""seq":"9""#),
        (r#""seq":9"#, r#""seq":9,"x":1"#),
        (r#""event":"agent""#, r#""event":"chat""#),
    ] {
        let other = text.replacen(what, with, 1);
        assert_ne!(other, text, "{what}");
        assert_eq!(form.read(other.as_bytes()), None, "{other}");
    }
    for cut in 0..text.len() {
        assert_eq!(form.read(&text.as_bytes()[..cut]), None);
        assert_eq!(form.read(&text.as_bytes()[cut + 1..]), None);
    }
}

#[test]
fn a_form_follows_its_run() {
    let event = |run: &str| event(run, 1).outer(1).to_string();
    let mut form = form(&event("first"));
    for run in ["second", "x", "", "something longer than those before"] {
        assert_eq!(form.read(event(run).as_bytes()).unwrap().other_run, Some(run.as_bytes()));
        form.follow(run.as_bytes());
        assert_eq!(form.read(event(run).as_bytes()).unwrap().other_run, None);
        assert!(form.read(event("first").as_bytes()).unwrap().other_run.is_some());
    }
    // It does not grow with what clients choose.
    assert_eq!(form.read(event(&"x".repeat(600)).as_bytes()), None);
}

#[test]
fn long_ends_have_no_form() {
    let long = event(&"x".repeat(600), 1).outer(1).to_string();
    let layout = event::glance(long.as_bytes(), &filtered()).unwrap().layout.unwrap();
    assert!(Form::of(long.as_bytes(), &layout).is_none());
}

/// Any string as `JSON.stringify` writes it.
fn written() -> impl Strategy<Value = String> {
    let nasty = proptest::collection::vec(
        prop::sample::select(vec!["\"", "\\", "}", "{", ",", ":", "seq", "\n", "ä", "😀", "]", "\u{1}", "x"]),
        0..12,
    );
    prop_oneof![nasty.prop_map(|pieces| pieces.concat()), any::<String>()]
        .prop_map(|s| serde_json::Value::from(s).to_string())
}

fn name() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec!["runId", "stream", "seq", "ts", "data", "phase", "payload"]);
    prop_oneof![known.prop_map(|name| format!("\"{name}\"")), written()]
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        written(),
        any::<u64>().prop_map(|n| n.to_string()),
        (-1000i64..1000).prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(|n| serde_json::Value::from(n).to_string()),
        prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned),
    ]
}

/// Any value as `JSON.stringify` writes it, but for equal names.
fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        let members = proptest::collection::vec((name(), inner.clone()), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            members.prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A gateway's event: the known members in any order, others between them, each name once.
fn gateway_event() -> impl Strategy<Value = String> {
    let others = proptest::collection::vec(value(), 3);
    let known = (written(), written(), value(), any::<u32>(), 0..1u64 << 53);
    let order = Just((0..8).collect::<Vec<usize>>()).prop_shuffle();
    (known, others, order, 0..9usize, proptest::option::of(0..1u64 << 53)).prop_map(
        |((run, stream, data, seq, ts), others, order, count, outer)| {
            let members = [
                format!(r#""runId":{run}"#),
                format!(r#""stream":{stream}"#),
                format!(r#""data":{data}"#),
                format!(r#""seq":{seq}"#),
                format!(r#""ts":{ts}"#),
                format!(r#""sessionKey":{}"#, others[0]),
                format!(r#""isHeartbeat":{}"#, others[1]),
                format!(r#""lane":{}"#, others[2]),
            ];
            let members: Vec<&str> = order.iter().take(count).map(|i| &members[*i][..]).collect();
            let outer = outer.map(|n| format!(",\"seq\":{n}")).unwrap_or_default();
            format!(r#"{{"type":"event","event":"agent","payload":{{{}}}{outer}}}"#, members.join(","))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    /// Whatever a gateway puts into an event: as long as nothing but scalars stands behind the payload, there is nothing to
    /// find out.
    #[test]
    fn what_json_stringify_writes_reads_alike_at_its_ends(text in gateway_event()) {
        ends_agree(text.as_bytes());
    }

    #[test]
    fn an_event_in_the_gateways_order_is_always_seen(
        run in any::<u64>(),
        data in value().prop_filter("an object", |data| data.starts_with('{')),
        seq in 0..1u64 << 53,
        ts in 0..1u64 << 53,
        outer in 0..1u64 << 53,
    ) {
        let text = format!(
            r#"{{"type":"event","event":"agent","payload":{{"runId":"{run}","stream":"tool","data":{data},"sessionKey":"k","seq":{seq},"ts":{ts}}},"seq":{outer}}}"#
        );
        agree(&text);
    }

    /// The whole of it against the ledger alone, on a connection that trusts its glances: many runs and streams, each a form of
    /// its own, repeats among them.
    #[test]
    fn a_connection_that_trusts_judges_as_one_that_reads_all(
        picks in proptest::collection::vec((0..4u8, 0..6usize, 0..40u64, written()), 0..200),
    ) {
        let long = "x".repeat(600);
        let mut pump = trusting();
        let (before, judged) = (pump.dropped.len(), pump.tally.judged);
        let mut ledger = Ledger::new(Order::Stream, 64, u64::MAX);
        let secret = Secret::new([7; 16]);
        let mut expected = judged;
        for seq in 1..=10 {
            ledger.judge(&whole(&event("trusted", seq).to_string()).stamp.unwrap(), 0);
        }
        for (run, stream, seq, said) in &picks {
            let run = ["trusted", "other", "a longer id", &long][usize::from(*run)];
            let stream = ["assistant", "tool", "thinking", "item", "usage", "plan"][*stream];
            let text = event(run, *seq).stream(stream).text(said).outer(*seq).to_string();
            let Subject::Event(claim) = event::peek(text.as_bytes(), &filtered()).unwrap().subject else { panic!() };
            expected[ledger.judge(&Stamp::new(&claim, &secret), 0) as usize] += 1;
            pump.feed(&support::frames::text(&text));
        }
        prop_assert_eq!(pump.tally.judged, expected);
        prop_assert_eq!(pump.tally.disagreed, 0);
        prop_assert!(pump.dropped.len() >= before);
    }

    /// No bytes at all make it panic, and no cut.
    #[test]
    fn any_bytes_are_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in gateway_event(), at in any::<prop::sample::Index>()) {
        ends_agree(&bytes);
        let mut text = text.into_bytes();
        text.splice(at.index(text.len()).., bytes.iter().copied());
        ends_agree(&text);
    }
}
