//! A recording is judged as its stream would have been; each drop is explained by what it was measured against; the
//! recommended size is the smallest that forgets nothing too early.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::io::{BufReader, Read, repeat};

use proptest::prelude::*;
use seqgate::filter::{Order, Verdict};
use seqgate::replay::{LONGEST, Line, Lines, Replay, Report};
use seqgate::sieve::{Mode, Rules, Unjudged};
use serde_json::{Value, json};
use support::captures::connections;
use support::events::{Event, event};
use support::frames;
use support::naive_table::{BoundedTwin, stamp};
use support::pump::{rules, strain};

/// Connections that are followed at one time.
const CONNECTIONS: usize = 9;
const ORDERS: [Order; 3] = [Order::Stream, Order::Run, Order::Any];

fn under(order: Order) -> Rules {
    Rules { order, ..rules(Mode::Enforce) }
}

/// What was dropped, each in a sentence, and what became of all.
fn replay(rules: Rules, recording: &[u8]) -> (Vec<String>, Report) {
    let mut replay = Replay::new(rules, CONNECTIONS);
    let mut lines = Lines::new(recording);
    let mut told = Vec::new();
    while let Some(line) = lines.read_line().unwrap() {
        told.extend(replay.line(&line).map(|dropped| dropped.to_string()));
    }
    (told, replay.report())
}

fn as_lines<T: ToString>(texts: &[T]) -> Vec<u8> {
    texts.iter().map(|text| text.to_string() + "\n").collect::<String>().into_bytes()
}

fn captured(conn: &str, ms: u64, text: &str) -> String {
    json!({ "conn": conn, "dir": "in", "ms": ms, "text": text }).to_string()
}

fn told(order: Order, events: &[Event]) -> Vec<String> {
    replay(under(order), &as_lines(events)).0
}

/// The run "r" as it is shown.
fn r() -> String {
    format!("#{:016x}", stamp(&event("r", 1)).run.short())
}

/// Each text, and behind it again, now and then, what stood some texts before.
fn with_repeats(texts: &[String]) -> Vec<String> {
    let again = |i: usize| (i % 3 == 2).then(|| texts[i - i % 7].clone());
    texts.iter().enumerate().flat_map(|(i, text)| std::iter::once(text.clone()).chain(again(i))).collect()
}

// As on the wire.

#[test]
fn recorded_traffic_gets_the_verdicts_that_the_sieve_gives_it_in_both_formats() {
    let mut drops = 0;
    for (name, texts) in connections() {
        let texts = with_repeats(&texts);
        let bytes: Vec<u8> = texts.iter().flat_map(frames::text).collect();
        let captured: Vec<String> = texts.iter().map(|text| captured("a", 5, text)).collect();
        for order in ORDERS {
            let sieve = strain(under(order), &bytes, &[]);
            for recording in [as_lines(&texts), as_lines(&captured)] {
                let (told, report) = replay(under(order), &recording);
                let total = report.total();
                assert_eq!(total.judged, sieve.tally.judged.map(u64::from), "{name} {order:?}");
                assert_eq!(total.unjudged, sieve.tally.unjudged.map(u64::from), "{name} {order:?}");
                assert_eq!(told.len(), sieve.dropped.len(), "{name} {order:?}");
                assert_eq!((report.unusable, report.lines), (0, texts.len() as u64));
            }
            drops += sieve.dropped.len();
        }
    }
    assert!(drops > 100, "{drops} drops say little");
}

#[test]
fn each_connection_is_judged_for_itself_and_what_clients_say_is_not_judged() {
    let event = event("r", 1).to_string();
    let from_client = json!({ "conn": "a", "dir": "out", "ms": 3, "text": event });
    let lines = [captured("a", 1, &event), captured("b", 2, &event), from_client.to_string(), event.clone()];
    let (told, report) = replay(under(Order::Stream), &as_lines(&lines));
    assert_eq!(told, [""; 0]);
    assert_eq!(report.from_clients, 1);
    let names: Vec<_> = report.connections.iter().map(|(name, _)| name.as_deref()).collect();
    assert_eq!(names, [Some("a"), Some("b"), None]);
    assert!(report.connections.iter().all(|(_, counts)| counts.judged[Verdict::NewRun as usize] == 1));
}

#[test]
fn a_frame_beyond_the_inspect_limit_is_not_judged() {
    let event = event("r", 1).text(&"x".repeat(300)).to_string();
    let small = || Rules { inspect_limit: event.len() - 1, ..under(Order::Stream) };
    for line in [event.clone(), captured("a", 1, &event)] {
        let (told, report) = replay(small(), &as_lines(&[&line, &line]));
        assert_eq!(told, [""; 0]);
        assert_eq!(report.total().unjudged[Unjudged::Oversized as usize], 2);
    }
}

#[test]
fn runs_expire_by_the_time_of_the_recorder_or_else_by_that_of_the_events() {
    let [first, late] = [event("r", 1).ts(10_000), event("r", 1).ts(10_000)].map(|e| e.to_string());
    let other = event("s", 1).ts(20_000).to_string();
    let short = || Rules { ttl: 5_000, ..under(Order::Stream) };
    let recorded = [captured("a", 0, &first), captured("a", 4_999, &late), captured("a", 9_999, &late)];
    let (told, report) = replay(short(), &as_lines(&recorded));
    assert_eq!((told.len(), report.total().expired), (1, 1));
    let (told, report) = replay(short(), &as_lines(&[&first, &late, &other, &late]));
    assert_eq!((told.len(), report.total().expired), (1, 1));
}

// Explanations.

#[test]
fn a_duplicate_is_explained_by_the_line_that_it_repeats() {
    let r = r();
    let [one, two, three] = [1, 2, 3].map(|seq| event("r", seq));
    assert_eq!(
        told(Order::Stream, &[one.clone(), one.clone(), two.clone(), three, one, two]),
        [
            format!(
                "line 2: dropped as duplicate: assistant event 1 of run {r}: same seq, ts and stream as line 1, \
                 the event before"
            ),
            format!(
                "line 5: dropped as duplicate: assistant event 1 of run {r}: same seq, ts and stream as line 1, \
                 2 events of the run between"
            ),
            format!(
                "line 6: dropped as duplicate: assistant event 2 of run {r}: same seq, ts and stream as line 3, \
                 1 event of the run between"
            ),
        ]
    );
    let without = event("r", 1).ts(None);
    assert_eq!(
        told(Order::Stream, &[without.clone(), without]),
        [format!(
            "line 2: dropped as duplicate: assistant event 1 of run {r}: same payload and stream as line 1, \
             the event before"
        )]
    );
}

#[test]
fn an_event_out_of_order_is_explained_by_what_its_stream_and_run_had_reached() {
    let r = r();
    let events = [event("r", 9), event("r", 12).stream("tool"), event("r", 7).ts(900)];
    assert_eq!(
        told(Order::Stream, &events),
        [format!(
            "line 3: dropped as out of order: assistant event 7 of run {r}: its stream had reached 9 (line 1), \
             the run 12 (line 2); its ts 900 is not newer than 1000; the run had not ended, and its last event arrived 0 ms \
             before"
        )]
    );
    let reached = "its stream had reached 9 (line 1), the run 9 (line 1)";
    assert_eq!(
        told(Order::Stream, &[event("r", 9), event("r", 7).ts(None)]),
        [format!(
            "line 2: dropped as out of order: assistant event 7 of run {r}: {reached}; it has no ts that could show \
             a new start; the run had not ended, and its last event arrived 0 ms before"
        )]
    );
    assert_eq!(
        told(Order::Stream, &[event("r", 9).ts(None), event("r", 7)]),
        [format!(
            "line 2: dropped as out of order: assistant event 7 of run {r}: {reached}; no event of the run had a ts \
             to compare with its own; the run had not ended, and its last event arrived 1000 ms before"
        )]
    );
}

#[test]
fn under_the_order_of_runs_what_was_overtaken_is_dropped_and_the_sentence_says_by_what() {
    let events = [event("r", 1), event("r", 3).stream("tool"), event("r", 2)];
    assert_eq!(told(Order::Stream, &events), [""; 0]);
    assert_eq!(told(Order::Any, &events), [""; 0]);
    assert_eq!(
        told(Order::Run, &events),
        [format!(
            "line 3: dropped as out of order: assistant event 2 of run {}: the run had reached 3 (line 2), and must \
             rise as a whole; its ts 1000 is not newer than 1000; the run had not ended, and its last event arrived \
             0 ms before",
            r()
        )]
    );
}

#[test]
fn connection_and_time_are_told_where_the_recording_has_them_and_names_cannot_command_a_terminal() {
    let event = event("r", 1).to_string();
    let name = "\u{1b}[31m".to_owned() + &"x".repeat(1000);
    let (told, report) =
        replay(under(Order::Stream), &as_lines(&[captured(&name, 4, &event), captured(&name, 5, &event)]));
    let shown = format!("\\u{{1b}}[31m{}", "x".repeat(19));
    let start = format!("line 2, connection {shown}, 5 ms: dropped as duplicate: ");
    assert!(told[0].starts_with(&start), "{told:?}");
    assert!(!report.to_string().contains('\u{1b}'));
}

#[test]
fn neither_sentences_nor_reports_hold_a_run_id_a_text_or_an_unknown_stream() {
    let event = event("run-id-of-a-user", 1).text("what was said").stream("own-stream");
    let (told, report) = replay(under(Order::Stream), &as_lines(&[&event, &event]));
    let all = format!("{told:?} {report} {}", report.json());
    for secret in ["run-id-of-a-user", "what was said", "own-stream"] {
        assert!(!all.contains(secret), "{all}");
    }
    assert!(told[0].contains("other event 1"), "{told:?}");
}

// A clock that steps back.

#[test]
fn a_run_id_used_again_after_the_clock_stepped_back_loses_nothing() {
    let turn = |ts: u64, text: &str| {
        let events = [event("r", 1).phase("start"), event("r", 2).text(text), event("r", 3).phase("end")];
        events.into_iter().zip(ts..).map(|(event, ts)| event.ts(ts)).collect::<Vec<_>>()
    };
    let events = [turn(9_000_000, "a"), turn(8_000_000, "b"), turn(5_000_000, "c")].concat();
    let (told, report) = replay(under(Order::Stream), &as_lines(&events));
    assert_eq!(told, [""; 0]);
    assert_eq!(report.total().judged[Verdict::Restarted as usize], 2);
}

#[test]
fn a_silence_is_measured_by_the_recorder() {
    let [first, stale] = [event("r", 9), event("r", 3).ts(1)].map(|event| event.to_string());
    let at = |ms| [captured("a", 0, &first), captured("a", ms, &stale)];
    assert_eq!(replay(under(Order::Stream), &as_lines(&at(2000))).0, [""; 0]);
    let (told, _) = replay(under(Order::Stream), &as_lines(&at(1999)));
    let end = "; the run had not ended, and its last event arrived 1999 ms before";
    assert!(told[0].ends_with(end), "{told:?}");
}

// Lines.

#[test]
fn lines_that_cannot_be_used_are_counted_and_named_and_the_others_judged_all_the_same() {
    let event = event("r", 1).to_string();
    let recording = [
        event.as_bytes(),
        b"no json",
        b"",
        b"{\"type\":\"event\xff\"}",
        b"{}\r",
        b"[1]",
        b"{\"conn\":\"a\",\"dir\":\"sideways\",\"text\":\"{}\"}",
        b" \t\r",
        b"{\"conn\":\"a\",\"dir\":\"in\"}",
        event.as_bytes(),
    ]
    .join(&b'\n');
    let (told, report) = replay(under(Order::Stream), &recording);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("line 10: "), "{told:?}");
    assert_eq!((report.lines, report.unusable), (10, 6));
    assert_eq!(
        report.named.iter().map(|(line, why)| format!("{line} {}", why.words())).collect::<Vec<_>>(),
        [
            "2 is not JSON",
            "4 is not JSON",
            "5 is neither a frame (no \"type\") nor a line of a capture (no \"dir\" and \"text\")",
            "6 is neither a frame (no \"type\") nor a line of a capture (no \"dir\" and \"text\")",
            "7 is neither a frame (no \"type\") nor a line of a capture (no \"dir\" and \"text\")",
        ]
    );
}

#[test]
fn line_ends_of_either_kind_and_a_last_line_without_one_change_nothing() {
    let event = event("r", 1).to_string();
    for recording in [
        format!("{event}\n{event}\n"),
        format!("{event}\r\n{event}"),
        format!("\n{event}\n\n{event}\r\n\r\n"),
    ] {
        let (told, report) = replay(under(Order::Stream), recording.as_bytes());
        assert_eq!((told.len(), report.total().frames(), report.unusable), (1, 2, 0), "{recording:?}");
    }
}

#[test]
fn lines_are_the_same_however_the_input_is_cut() {
    let input = b"one\r\n\ntwo\n\rthree\r\r\nlast";
    let read = |capacity| {
        let mut lines = Lines::new(BufReader::with_capacity(capacity, &input[..]));
        let mut found = Vec::new();
        while let Some(line) = lines.read_line().unwrap() {
            let Line::Text(text) = line else { panic!("{line:?}") };
            found.push(text.to_vec());
        }
        assert_eq!(lines.read, input.len() as u64);
        found
    };
    assert_eq!(read(1000), [&b"one"[..], b"", b"two", b"\rthree\r", b"last"]);
    for capacity in 1..input.len() {
        assert_eq!(read(capacity), read(1000));
    }
}

#[test]
fn a_line_of_any_length_is_passed_over_and_those_around_it_are_read() {
    let longest = LONGEST as u64;
    let input = (&b"a\n"[..]).chain(repeat(b'x').take(longest)).chain(&b"\n"[..]);
    let input = input
        .chain(repeat(b'y').take(longest + 1))
        .chain(&b"\nb\n"[..])
        .chain(repeat(b'z').take(3 * longest));
    let mut lines = Lines::new(BufReader::new(input));
    assert_eq!(lines.read_line().unwrap(), Some(Line::Text(b"a")));
    assert!(matches!(lines.read_line().unwrap(), Some(Line::Text(text)) if text.len() == LONGEST));
    assert_eq!(lines.read_line().unwrap(), Some(Line::TooLong));
    assert_eq!(lines.read_line().unwrap(), Some(Line::Text(b"b")));
    assert_eq!(lines.read_line().unwrap(), Some(Line::TooLong));
    assert_eq!(lines.read_line().unwrap(), None);
}

// Bounds.

#[test]
fn connections_beyond_those_that_are_followed_are_summed_and_begin_anew_when_they_return() {
    let event = event("r", 1).to_string();
    let names: Vec<String> = (0..20).map(|i| format!("c{i}")).collect();
    let lines: Vec<String> = names.iter().chain(&names[..1]).map(|name| captured(name, 1, &event)).collect();
    let (told, report) = replay(under(Order::Stream), &as_lines(&lines));
    assert_eq!(told, [""; 0]);
    assert_eq!((report.connections.len(), report.closed.0), (CONNECTIONS, 12));
    assert_eq!(report.total().judged[Verdict::NewRun as usize], 21);
    assert!(report.to_string().contains("\n(12 others)  "), "{report}");
}

#[test]
fn a_size_is_said_to_be_rough_where_more_runs_came_back_than_are_followed() {
    let runs = |connection: usize, count: usize| -> Vec<String> {
        (0..count)
            .map(|run| captured(&connection.to_string(), 1, &event(&run.to_string(), 1).to_string()))
            .collect()
    };
    let is_rough = |lines: &[String]| replay(under(Order::Stream), &as_lines(lines)).1.advice().is_rough;
    let most = 16_384;
    let mut one_too_many = runs(0, most + 1);
    assert!(!is_rough(&one_too_many));
    one_too_many.push(one_too_many[1].clone());
    assert!(!is_rough(&one_too_many));
    // The first one had no room any more.
    one_too_many.push(one_too_many[0].clone());
    assert!(is_rough(&one_too_many));
    // All connections together have room for eight times as many.
    let mut many: Vec<String> = (0..8).flat_map(|connection| runs(connection, most)).collect();
    many.extend(runs(8, 1));
    assert!(is_rough(&many));
}

// The object for machines.

#[test]
fn the_summary_counts_every_line_once() {
    let (name, texts) = &connections()[0];
    let texts = with_repeats(texts);
    let mut lines: Vec<String> = texts.iter().map(|text| captured(name, 1, text)).collect();
    lines.push("no json".into());
    lines.push(json!({ "conn": "a", "dir": "out", "ms": 1, "text": "{}" }).to_string());
    let (told, report) = replay(under(Order::Stream), &as_lines(&lines));
    let summary = report.json();
    let sum = |of: &Value| of.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
    let frames = |of: &Value| sum(&of["forwarded"]) + sum(&of["dropped"]) + sum(&of["unjudged"]);
    assert_eq!(sum(&summary["dropped"]), told.len() as u64);
    assert!(!told.is_empty());
    assert_eq!(frames(&summary), texts.len() as u64);
    assert_eq!(frames(&summary["connections"][0]), texts.len() as u64);
    assert_eq!(frames(&summary["connections_other"]), 0);
    assert_eq!((&summary["frames_from_clients"], &summary["unusable_lines"]), (&json!(1), &json!(1)));
    assert_eq!(summary["lines"], json!(lines.len()));
}

// The size of the ledger.

fn size(events: &[(Event, u64)], runs: usize, ttl: u64) -> (u64, u64) {
    let rules = Rules { runs, ttl, ..under(Order::Stream) };
    let lines: Vec<String> =
        events.iter().map(|(event, now)| captured("a", *now, &event.to_string())).collect();
    let (_, report) = replay(rules, &as_lines(&lines));
    assert!(!report.advice().is_rough);
    (report.advice().least, report.total().returned)
}

/// Events at which a ledger of this size does not know a run that one without limits knows: by naive twins of both.
fn forgotten(events: &[(Event, u64)], runs: usize, ttl: u64) -> usize {
    let mut twins = [runs, usize::MAX].map(|runs| BoundedTwin::new(Order::Stream, runs, ttl));
    let mut is_new = |(event, now): &&(Event, u64)| {
        let [small, large] = twins.each_mut().map(|twin| twin.judge(event, *now) == Verdict::NewRun);
        small && !large
    };
    events.iter().filter(|use_| is_new(use_)).count()
}

#[test]
fn runs_that_have_ended_give_way_and_need_no_room() {
    let run = |name: &str| [event(name, 1), event(name, 2).phase("end")];
    let with_one_that_goes_on: Vec<(Event, u64)> = ["a", "b", "c", "d"]
        .iter()
        .zip(1..)
        .flat_map(|(name, seq)| run(name).into_iter().chain([event("long", seq)]))
        .map(|event| (event, 0))
        .collect();
    assert_eq!(size(&with_one_that_goes_on, 64, 100), (2, 0));
}

fn any_use() -> impl Strategy<Value = (Event, u64)> {
    let pause = prop_oneof![8 => Just(0u64), 4 => 0..4u64, 1 => 0..40u64];
    (0..9u8, 1..9u64, 0..5u8, 0..6u64, pause).prop_map(|(run, seq, kind, ts, pause)| {
        let event = event(&run.to_string(), seq).ts(1000 + ts);
        (if kind == 0 { event.phase("end") } else { event }, pause)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn the_size_that_is_needed_is_the_smallest_with_which_nothing_comes_back(
        uses in proptest::collection::vec(any_use(), 1..150),
        ttl in prop_oneof![Just(10u64), Just(40), Just(100_000)],
        tried in 1..12usize,
    ) {
        let mut now = 0;
        let uses: Vec<(Event, u64)> = uses.into_iter().map(|(event, pause)| { now += pause; (event, now) }).collect();
        let (least, came_back) = size(&uses, tried, ttl);
        prop_assert_eq!(came_back > 0, (tried as u64) < least);
        let least = least as usize;
        prop_assert_eq!(forgotten(&uses, least, ttl), 0);
        prop_assert_eq!(size(&uses, least, ttl), (least as u64, 0));
        if least > 1 {
            prop_assert!(forgotten(&uses, least - 1, ttl) > 0);
            prop_assert!(size(&uses, least - 1, ttl).1 > 0);
        }
    }
}
