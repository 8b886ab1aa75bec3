//! The sieve as the relay uses it: what arrives goes on, byte for byte and in order, but for the events that
//! are left out and the digits that close the gap; however the stream is cut, whatever the gateway does.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use seqgate::event::{self, Outer, Subject};
use seqgate::filter::Verdict::{Duplicate, InOrder, NewRun, OutOfOrder};
use seqgate::filter::{Departed, Ledger, Order, Verdict};
use seqgate::sieve::Unjudged::{
    self, Binary, Extended, Interrupted, Malformed, NoRun, NoSeq, Other, Oversized,
};
use seqgate::sieve::{Mode, Rules};
use seqgate::stamp::Stamp;
use seqgate::wire::{MAX_HEAD, Opcode};
use serde_json::Value;
use support::captures::connections;
use support::events::{Event, event};
use support::frames::{
    BINARY, CLOSE, CONTINUATION, FIN, Form, PING, PONG, RSV1, TEXT, close, fragments, frame, frame_as,
    frames, head, messages, ping, text, texts,
};
use support::pump::{Pump, rules, strain};

const ONE_CHUNK: &[usize] = &[usize::MAX];
const BYTE_BY_BYTE: &[usize] = &[1];
const LIMIT: usize = 700;

fn enforce() -> Rules {
    rules(Mode::Enforce)
}

fn observe() -> Rules {
    rules(Mode::Observe)
}

/// Rules under which a message is soon oversized and the ledger soon full.
fn tight(mode: Mode) -> Rules {
    Rules { inspect_limit: LIMIT, runs: 3, ..rules(mode) }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn outers(bytes: &[u8]) -> Vec<u64> {
    texts(bytes).iter().filter_map(|text| json(text)["seq"].as_u64()).collect()
}

fn outer_of(text: &str) -> Option<Outer> {
    event::peek(text.as_bytes(), &["agent".into()]).unwrap().outer
}

fn is_judged(text: &str) -> bool {
    matches!(event::peek(text.as_bytes(), &["agent".into()]).unwrap().subject, Subject::Event(_))
}

/// Only this one message passed unjudged, and so many were judged.
fn assert_unjudged(pump: &Pump, reason: Unjudged, judged: u32) {
    for other in Unjudged::ALL {
        assert_eq!(pump.unjudged(other), u32::from(other == reason), "{other:?}");
    }
    assert_eq!(pump.tally.judged.iter().sum::<u32>(), judged);
}

// Leaving out.

#[test]
fn a_repeat_is_left_out_and_all_else_passes_byte_for_byte() {
    let event = text(event("r", 1));
    let others = [
        text(r#"{"type":"res","id":"1","ok":true,"payload":{"runId":"r","seq":1}}"#),
        frame(FIN | BINARY, [0, 255]),
        ping("p"),
        frame(FIN | PONG, ""),
        text(""),
        text("no json"),
        frame(FIN | TEXT, [0xff]),
        text(r#"{"type":"event","event":"chat","payload":{"runId":"r","seq":1}}"#),
        text(r#"{"type":"event","event":"agent","payload":{"stream":"error"}}"#),
        text(r#"{"type":"event","event":"agent","payload":{"runId":"r","stream":"error"}}"#),
    ]
    .concat();
    let bytes = [&event[..], &others, &event, &others, &event].concat();
    let pump = strain(enforce(), &bytes, ONE_CHUNK);
    assert_eq!(pump.out, [&event[..], &others, &others].concat());
    assert_eq!(pump.dropped.len(), 2);
    assert!(pump.dropped.iter().all(|dropped| dropped.verdict == Duplicate && dropped.seq == 1));
    assert_eq!((pump.judged(NewRun), pump.judged(Duplicate)), (1, 2));
    let counted = [Other, NoRun, NoSeq, Malformed, Binary].map(|reason| pump.unjudged(reason));
    assert_eq!(counted, [4, 2, 2, 6, 2]);
    let frames = [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong, Opcode::Close];
    assert_eq!(frames.map(|opcode| pump.tally.frames[opcode.index()]), [17, 2, 2, 2, 0]);
}

#[test]
fn observe_counts_what_enforce_would_drop_and_leaves_every_byte() {
    let events = [event("r", 1), event("r", 1), event("r", 3), event("r", 2), event("r", 4)];
    let numbered = events.into_iter().zip(1..).map(|(event, outer)| text(event.outer(outer)));
    let bytes: Vec<u8> = numbered.flatten().collect();
    let observed = strain(observe(), &bytes, ONE_CHUNK);
    let enforced = strain(enforce(), &bytes, ONE_CHUNK);
    assert_eq!(observed.out, bytes);
    assert_eq!((observed.dropped.len(), observed.tally.rewritten), (0, 0));
    assert_eq!(observed.tally.judged, enforced.tally.judged);
    assert_eq!((observed.judged(Duplicate), observed.judged(OutOfOrder)), (1, 1));
    assert_eq!((enforced.dropped.len(), enforced.tally.rewritten), (2, 2));
}

#[test]
fn a_sieve_that_only_follows_leaves_every_byte_and_knows_the_frames() {
    let event = text(event("r", 1).outer(1));
    let bytes = [&event[..], &event, &ping("p"), &close(1012, "service restart"), b"behind"].concat();
    for sizes in [ONE_CHUNK, BYTE_BY_BYTE] {
        let mut pump = Pump::new(enforce());
        pump.sieve = seqgate::sieve::Sieve::following(std::sync::Arc::new(enforce()));
        pump.feed_in(&bytes, sizes);
        assert_eq!(pump.out, bytes);
        assert_eq!(pump.sieve.close(), Some(Some(1012)));
        assert_eq!(pump.tally.frames, [0, 2, 0, 1, 1, 0]);
        assert_eq!((pump.tally.judged, pump.tally.unjudged), Default::default());
        assert_eq!(pump.sieve.runs(), 0);
        assert_eq!(pump.asked, if sizes == ONE_CHUNK { 0 } else { close(1012, "service restart").len() });
    }
}

// Renumbering.

/// A message that is no agent event, with an outer seq.
fn tick(outer: u64) -> String {
    format!(r#"{{"type":"event","event":"tick","payload":{{"seq":5}},"seq":{outer}}}"#)
}

#[test]
fn before_the_first_drop_no_byte_changes() {
    let bytes = [text(tick(9)), text(event("r", 1).outer(10)), text(tick(3)), text(tick(10))].concat();
    let pump = strain(enforce(), &bytes, ONE_CHUNK);
    assert_eq!((pump.out, pump.tally.rewritten), (bytes, 0));
}

#[test]
fn a_number_that_was_left_out_is_taken_by_the_next_frame_in_the_same_space() {
    let again = event("r", 1).outer(98);
    let bytes =
        [text(event("r", 1).outer(97)), text(again), text(tick(99)), text(tick(100)), text(tick(101))]
            .concat();
    let pump = strain(enforce(), &bytes, ONE_CHUNK);
    let expected = [
        text(event("r", 1).outer(97)),
        text(tick(98)),
        text(tick(100).replace("\"seq\":100", "\"seq\": 99")),
        text(tick(100)),
    ];
    assert_eq!(String::from_utf8_lossy(&pump.out), String::from_utf8_lossy(&expected.concat()));
    assert_eq!(outers(&pump.out), [97, 98, 99, 100]);
    assert_eq!(pump.tally.rewritten, 3);
}

#[test]
fn the_gateways_own_holes_stay_as_wide_as_they_were() {
    let events = [(1, 10), (1, 11), (2, 15), (2, 20), (3, 21)];
    let bytes: Vec<u8> =
        events.into_iter().flat_map(|(seq, outer)| text(event("r", seq).outer(outer))).collect();
    let pump = strain(enforce(), &bytes, ONE_CHUNK);
    assert_eq!(pump.dropped.len(), 2);
    // 20 - 15 in the original, of which one was left out; 21 - 20 in the original.
    assert_eq!(outers(&pump.out), [10, 14, 19]);
}

#[test]
fn a_copy_with_a_used_number_or_none_moves_nothing() {
    for outer in [None, Some(1), Some(2)] {
        let copy = event("r", 1).outer(outer);
        let bytes = [text(tick(1)), text(event("r", 1).outer(2)), text(copy), text(tick(3))].concat();
        let pump = strain(enforce(), &bytes, ONE_CHUNK);
        assert_eq!(pump.out, [text(tick(1)), text(event("r", 1).outer(2)), text(tick(3))].concat());
        assert_eq!((pump.dropped.len(), pump.tally.rewritten), (1, 0));
    }
}

#[test]
fn a_frame_without_an_outer_seq_never_gets_one() {
    let unnumbered = [
        text(event("r", 2)),
        text(r#"{"type":"res","id":"1","ok":true,"seq":77}"#),
        text(r#"{"type":"event","event":"tick","seq":"77"}"#),
        text(r#"{"type":"event","event":"tick","payload":{"seq":77},"seq":77.0}"#),
        text("[{\"type\":\"event\",\"seq\":77}]"),
    ]
    .concat();
    let bytes = [text(event("r", 1).outer(1)), text(event("r", 1).outer(2)), unnumbered.clone()].concat();
    let pump = strain(enforce(), &bytes, ONE_CHUNK);
    assert_eq!(pump.out, [text(event("r", 1).outer(1)), unnumbered].concat());
    assert_eq!((pump.dropped.len(), pump.tally.rewritten), (1, 0));
}

#[test]
fn the_last_of_two_outer_seqs_is_the_one_that_moves() {
    let two = |a: u64, b: u64| format!(r#"{{"seq":{a},"type":"event","s\u0065q" : {b} ,"event":"x"}}"#);
    let bytes = [text(event("r", 1).outer(1)), text(event("r", 1).outer(2)), text(two(5, 10))].concat();
    let pump = strain(enforce(), &bytes, ONE_CHUNK);
    let moved = text(two(5, 10).replace(" : 10 ", " :  9 "));
    assert_eq!(pump.out, [text(event("r", 1).outer(1)), moved].concat());
}

#[test]
fn the_largest_number_is_renumbered_and_a_larger_one_is_not_ours() {
    let largest = (1u64 << 53) - 1;
    let [kept, again] = [1, 2].map(|outer| text(event("r", 1).outer(outer)));
    let bytes = [kept.clone(), again, text(tick(largest)), text(tick(largest + 1))].concat();
    let pump = strain(enforce(), &bytes, ONE_CHUNK);
    assert_eq!(pump.out, [kept, text(tick(largest - 1)), text(tick(largest + 1))].concat());
}

#[test]
fn the_outer_seq_moves_whatever_its_fragments() {
    let [kept, again] = [1234, 1235].map(|outer| text(event("r", 1).outer(outer)));
    let message = tick(1236);
    for a in 0..=message.len() {
        for b in [a, a + 1, a + 2, message.len()] {
            let pieces = fragments(&message, &[a, b]);
            let bytes =
                [&kept[..], &again, &pieces[0], &ping("1"), &pieces[1], &ping("2"), &pieces[2]].concat();
            let pump = strain(enforce(), &bytes, ONE_CHUNK);
            let moved = fragments(tick(1235), &[a, b]);
            let expected = [&kept[..], &moved[0], &ping("1"), &moved[1], &ping("2"), &moved[2]].concat();
            assert_eq!(pump.out, expected, "cut at {a} and {b}");
        }
    }
}

// Captured traffic.

fn stream(texts: impl IntoIterator<Item = impl ToString>) -> Vec<u8> {
    texts.into_iter().flat_map(text).collect()
}

#[test]
fn not_one_captured_event_is_dropped() {
    let mut judged = 0;
    for (name, texts) in connections() {
        let bytes = stream(&texts);
        let pump = strain(enforce(), &bytes, ONE_CHUNK);
        assert_eq!(pump.dropped, [], "{name}");
        assert_eq!(pump.out, bytes, "{name}");
        judged += pump.tally.judged.iter().sum::<u32>();
    }
    assert!(judged > 100, "{judged} events");
}

/// How a gateway sends an event a second time.
#[derive(Clone, Copy, Debug)]
enum Copying {
    Exact,
    Unnumbered,
    /// With a number of its own: all later numbers move up.
    Renumbered,
}

fn with_outer(text: &str, to: u64) -> String {
    match outer_of(text) {
        Some(Outer { at, .. }) => format!("{}{to}{}", &text[..at.start], &text[at.end..]),
        None => text.to_owned(),
    }
}

fn without_outer(text: &str) -> String {
    let Some(Outer { at, .. }) = outer_of(text) else { return text.to_owned() };
    let before = text[..at.start].strip_suffix(",\"seq\":").expect("the outer seq comes last but one");
    format!("{before}{}", &text[at.end..])
}

/// Every judged event twice, and how many copies there are.
fn doubled(texts: &[String], how: Copying) -> (Vec<String>, usize) {
    let mut doubled = Vec::new();
    let mut copies = 0;
    let mut moved = 0;
    for text in texts {
        let outer = outer_of(text).map(|outer| outer.value);
        doubled.push(outer.map_or_else(|| text.clone(), |outer| with_outer(text, outer + moved)));
        if !is_judged(text) {
            continue;
        }
        copies += 1;
        doubled.push(match (how, outer) {
            (Copying::Exact, _) => text.clone(),
            (Copying::Unnumbered, _) => without_outer(text),
            (Copying::Renumbered, None) => text.clone(),
            (Copying::Renumbered, Some(outer)) => {
                moved += 1;
                with_outer(text, outer + moved)
            }
        });
    }
    (doubled, copies)
}

#[test]
fn of_every_captured_event_sent_twice_exactly_the_second_is_dropped() {
    for (name, originals) in connections() {
        for how in [Copying::Exact, Copying::Unnumbered, Copying::Renumbered] {
            let (twice, copies) = doubled(&originals, how);
            for sizes in [ONE_CHUNK, &[1000, 3, 77]] {
                let pump = strain(enforce(), &stream(&twice), sizes);
                assert_eq!(pump.dropped.len(), copies, "{name} {how:?}");
                assert!(pump.dropped.iter().all(|dropped| dropped.verdict == Duplicate), "{name} {how:?}");
                let got: Vec<Value> = texts(&pump.out).iter().map(|text| json(text)).collect();
                let sent: Vec<Value> = originals.iter().map(|text| json(text)).collect();
                assert_eq!(got, sent, "{name} {how:?}");
                if !matches!(how, Copying::Renumbered) {
                    assert_eq!(pump.out, stream(&originals), "{name} {how:?}");
                }
            }
        }
    }
}

#[test]
fn captured_events_sent_twice_in_fragments_are_judged_as_wholes() {
    for (name, originals) in connections() {
        let (twice, copies) = doubled(&originals, Copying::Renumbered);
        let cut = |(i, text): (usize, &String)| {
            let cuts = [i % 7, text.len().saturating_sub(i % 5), text.len() / 2];
            fragments(text, &cuts).join(&ping([i as u8])[..])
        };
        let bytes: Vec<u8> = twice.iter().enumerate().flat_map(cut).collect();
        let pump = strain(enforce(), &bytes, &[500, 1]);
        assert_eq!(pump.dropped.len(), copies, "{name}");
        let got: Vec<Value> = texts(&pump.out).iter().map(|text| json(text)).collect();
        assert_eq!(got, originals.iter().map(|text| json(text)).collect::<Vec<_>>(), "{name}");
        let pings = messages(&pump.out).iter().filter(|message| message.opcode == PING).count();
        assert_eq!(pings, 3 * twice.len(), "{name}");
    }
}

// Fragments.

#[test]
fn a_fragmented_repeat_is_left_out_wherever_it_was_cut() {
    let first = event("r", 1).to_string();
    for cut in 0..=first.len() {
        let repeat = fragments(&first, &[cut]).concat();
        for bytes in [[text(&first), repeat.clone()].concat(), [repeat.clone(), text(&first)].concat()] {
            let pump = strain(enforce(), &bytes, &[64, 1]);
            assert_eq!(pump.dropped.len(), 1, "cut at {cut}");
            assert_eq!(texts(&pump.out).concat(), first);
        }
    }
}

#[test]
fn fragments_that_pass_leave_as_they_came() {
    let pieces = fragments(event("r", 1), &[0, 0, 5, 5, 1000]).concat();
    assert_eq!(frames(&pieces).0.len(), 6);
    let pump = strain(enforce(), &pieces, BYTE_BY_BYTE);
    assert_eq!((pump.out, pump.tally.judged), (pieces, [1, 0, 0, 0, 0, 0, 0]));
}

#[test]
fn a_ping_between_fragments_keeps_its_place() {
    let pieces = fragments(event("r", 1), &[0, 30]);
    let message =
        [&pieces[0][..], &ping("1"), &ping("2"), &pieces[1], &frame(FIN | PONG, "3"), &pieces[2]].concat();
    let controls = [ping("1"), ping("2"), frame(FIN | PONG, "3")].concat();
    let bytes = [&message[..], &message, &text(tick(1))].concat();
    for sizes in [ONE_CHUNK, BYTE_BY_BYTE] {
        let pump = strain(enforce(), &bytes, sizes);
        assert_eq!(pump.out, [&message[..], &controls, &text(tick(1))].concat());
        assert_eq!(pump.dropped.len(), 1);
        assert_eq!(pump.tally.frames, [4, 3, 0, 0, 4, 2]);
    }
}

#[test]
fn a_control_frame_among_gathered_fragments_is_said_to_wait() {
    let pieces = fragments(event("r", 1), &[20, 40]);
    let mut pump = Pump::new(enforce());
    pump.feed(&pieces[0]);
    assert!(!pump.sieve.control_waits());
    pump.feed(&ping("p")[..2]);
    assert!(!pump.sieve.control_waits(), "half a ping");
    pump.feed(&ping("p")[2..]);
    assert!(pump.sieve.control_waits());
    pump.feed(&pieces[1]);
    assert!(pump.sieve.control_waits());
    assert!(pump.out.is_empty());
    pump.feed(&pieces[2]);
    assert!(!pump.sieve.control_waits());
    assert_eq!(pump.out, [&pieces[0][..], &ping("p"), &pieces[1], &pieces[2]].concat());
    assert_eq!(pump.judged(NewRun), 1);
}

#[test]
fn what_is_given_up_passes_unjudged_with_its_pings_in_place() {
    let first = text(event("r", 1));
    let pieces = fragments(event("r", 1), &[20, 40]);
    let message = [&pieces[0][..], &ping("p"), &pieces[1], &ping("q"), &pieces[2]].concat();
    let given_up_at = [pieces[0].len(), pieces[0].len() + 1, pieces[0].len() + 3, message.len() - 1];
    for at in given_up_at {
        let mut pump = Pump::new(enforce());
        pump.feed(&first);
        pump.feed(&message[..at]);
        pump.give_up();
        assert!(!pump.sieve.control_waits());
        // What is held already goes on at the next step.
        pump.feed(&message[at..at + 1]);
        assert!(pump.out.len() > first.len() + pieces[0].len() - 1);
        pump.feed(&message[at + 1..]);
        assert_eq!(pump.out, [&first[..], &message].concat(), "given up at {at}");
        assert_unjudged(&pump, Interrupted, 1);
        // The next message is judged again.
        pump.feed(&first);
        assert_eq!(pump.dropped.len(), 1);
    }
}

#[test]
fn a_message_that_was_given_up_is_still_open() {
    let event = text(event("r", 1));
    let bytes = [&event[..], &fragments(tick(1), &[5])[0]].concat();
    let mut pump = Pump::new(enforce());
    pump.feed(&bytes);
    pump.give_up();
    // A message inside a message: every client fails the connection here, so all of it passes.
    pump.feed(&event);
    assert_eq!(pump.out, [&bytes[..], &event].concat());
    assert!(!pump.sieve.at_boundary());
}

#[test]
fn giving_up_when_nothing_waits_changes_nothing() {
    let event = text(event("r", 1));
    let mut pump = Pump::new(enforce());
    for _ in 0..2 {
        pump.give_up();
        pump.feed(&event);
        pump.give_up();
    }
    assert_eq!((pump.out, pump.dropped.len()), (event, 1));
}

#[test]
fn a_frame_that_was_given_up_passes_and_the_next_is_judged() {
    let event = text(event("r", 1));
    let pieces = fragments(tick(1), &[20]);
    for frame in [&event[..], &ping("halfway"), &pieces.concat()] {
        // The head is there, and the first byte of the payload.
        for at in [4 + 1, frame.len() - 1] {
            let mut pump = Pump::new(enforce());
            pump.feed(&event);
            pump.feed(&frame[..at]);
            pump.give_up();
            pump.feed(&frame[at..]);
            assert_eq!(pump.out, [&event[..], frame].concat(), "given up at {at}");
            pump.feed(&event);
            assert_eq!(pump.dropped.len(), 1, "given up at {at}");
        }
    }
}

#[test]
fn a_part_of_a_head_waits_as_long_as_needed() {
    let event = text(event("r", 1));
    let large = text(with_data(&"x".repeat(70_000), 2));
    for (frame, head) in [(&event, 2), (&large, 10), (&ping("p"), 2), (&close(1000, ""), 2)] {
        for cut in 1..head.min(frame.len()) {
            let mut pump = Pump::new(enforce());
            pump.feed(&event);
            pump.feed(&event);
            pump.feed(&frame[..cut]);
            assert!(!pump.give_up(), "{cut} bytes of a head were given up");
            assert_eq!(pump.out, event);
            pump.feed(&frame[cut..]);
            assert_eq!(pump.sieve.is_opaque(), pump.sieve.close().is_some());
            if !pump.sieve.is_opaque() {
                pump.feed(&event);
                assert_eq!(
                    pump.judged(Verdict::Duplicate),
                    if *frame == event { 3 } else { 2 },
                    "cut at {cut}"
                );
            }
        }
    }
}

/// An event of a run with this text, this `seq`, and an outer number that is ten times that.
fn with_data(data: &str, seq: u64) -> String {
    let text = event("r", seq).text(data).to_string();
    assert!(outer_of(&text).is_none());
    format!(
        "{},\"seq\":{},\"stateVersion\":{{\"presence\":1,\"health\":[2]}}}}",
        &text[..text.len() - 1],
        seq * 10
    )
}

/// A pump whose numbers have moved by one: it has dropped an event with the number 9.
fn shifted(rules: Rules) -> Pump {
    let mut pump = Pump::new(rules);
    for outer in [8, 9] {
        pump.feed(&text(event("r", 1).outer(outer)));
    }
    assert_eq!(pump.judged(Verdict::Duplicate), 1);
    pump.out.clear();
    pump
}

#[test]
fn a_message_that_passes_unread_gets_its_number_whatever_its_size_chunks_and_fragments() {
    for size in [300, 1000, 1024, 1025, 3000, 200_000] {
        let message = with_data(&"x\\\"}".repeat(size / 4), 2);
        let expected = message.replace("\"seq\":20,", "\"seq\":19,");
        assert_ne!(message, expected);
        let len = message.len();
        let tiny: Vec<usize> = (1..len.min(2000)).collect();
        let ends: Vec<usize> = (len - 90..len).collect();
        for cuts in [&[][..], &[0], &[1, len - 1], &[len], &[len - 60, len - 55, len - 55], &tiny, &ends] {
            for between in [&b""[..], &ping("between")] {
                let frames = |text: &str| fragments(text, cuts).join(between);
                for sizes in [ONE_CHUNK, BYTE_BY_BYTE, &[700, 1, 5000]] {
                    let mut pump = shifted(Rules { inspect_limit: 250, ..enforce() });
                    pump.feed_in(&frames(&message), sizes);
                    assert_eq!(pump.out.len(), frames(&expected).len());
                    assert!(
                        pump.out == frames(&expected),
                        "size {size}, {} cuts, chunks {sizes:?}",
                        cuts.len()
                    );
                    assert_eq!(pump.unjudged(Oversized), 1);
                    assert!(pump.sieve.at_message_boundary());
                    pump.out.clear();
                    pump.feed(&text(tick(21)));
                    assert_eq!(outers(&pump.out), [20]);
                }
            }
        }
    }
}

#[test]
fn a_message_that_was_given_up_gets_its_number_wherever_it_stalls() {
    let message = with_data(&"x".repeat(2500), 2);
    let expected = message.replace("\"seq\":20,", "\"seq\":19,");
    for cuts in [&[][..], &[5, 1500, message.len() - 62]] {
        let frames = |text: &str| fragments(text, cuts).concat();
        let bytes = frames(&message);
        for stall in 1..bytes.len() {
            let mut pump = shifted(enforce());
            pump.feed(&bytes[..stall]);
            pump.give_up();
            pump.feed(&[]);
            // The end is held, all else has left.
            assert!(
                pump.window.len() <= seqgate::sieve::TAIL + MAX_HEAD,
                "{} bytes are held",
                pump.window.len()
            );
            pump.give_up();
            pump.feed(&bytes[stall..]);
            assert!(pump.out == frames(&expected), "stalled at {stall} of {}", bytes.len());
            assert_eq!(pump.dropped.len(), 1);
        }
    }
}

#[test]
fn a_ping_leaves_in_time_while_the_end_of_a_message_is_held() {
    let message = with_data(&"x".repeat(900), 2);
    let expected = message.replace("\"seq\":20,", "\"seq\":19,");
    let frames = |text: &str| fragments(text, &[500]);
    for limit in [250, 100_000] {
        let mut pump = shifted(Rules { inspect_limit: limit, ..enforce() });
        pump.feed(&frames(&message)[0]);
        pump.feed(&ping("now"));
        assert!(pump.sieve.control_waits());
        assert!(pump.give_up());
        pump.feed(&[]);
        let expected = frames(&expected);
        assert_eq!(pump.out, [&expected[0][..], &ping("now")].concat());
        assert!(!pump.sieve.control_waits());
        pump.feed_in(&frames(&message)[1], BYTE_BY_BYTE);
        assert_eq!(pump.out, [&expected[0][..], &ping("now"), &expected[1]].concat());
    }
}

#[test]
fn text_that_is_no_json_gets_its_number_too() {
    let mut pump = shifted(enforce());
    pump.feed(&text(r#"{"type":"event",nonsense},"seq":20}"#));
    pump.feed(&text(tick(21)));
    assert_eq!(pump.unjudged(Malformed), 1);
    assert_eq!(
        pump.out,
        [text(r#"{"type":"event",nonsense},"seq":19}"#), text(tick(21).replace("21", "20"))].concat()
    );
}

#[test]
fn a_response_that_passes_unread_stays_as_it_is() {
    let mut pump = shifted(Rules { inspect_limit: 250, ..enforce() });
    let message = text(format!(r#"{{"type":"res","id":"1","payload":"{}","seq":20}}"#, "x".repeat(3000)));
    pump.feed_in(&message, &[500]);
    assert_eq!(pump.out, message);
}

#[test]
fn a_masked_close_is_reported_with_its_code() {
    let mut pump = Pump::new(enforce());
    pump.feed(&[0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2]);
    assert_eq!(pump.sieve.close(), Some(Some(1000)));
}

#[test]
fn fragments_that_no_message_follows_are_counted() {
    let mut pump = Pump::new(enforce());
    pump.feed(&fragments(event("r", 1), &[5])[0]);
    pump.feed(&text(event("r", 2)));
    assert_unjudged(&pump, Interrupted, 0);
}

// What is not judged.

/// A message that would be a repeat, were it judged, between two that are judged.
fn passes_unjudged(rules: fn() -> Rules, message: &[u8], reason: Unjudged) {
    let [before, after] = [1, 2].map(|seq| text(event("r", seq)));
    let bytes = [&before, message, &after].concat();
    for sizes in [ONE_CHUNK, BYTE_BY_BYTE, &[7]] {
        let pump = strain(rules(), &bytes, sizes);
        assert_eq!(pump.out, bytes);
        assert_unjudged(&pump, reason, 2);
        assert_eq!(pump.judged(InOrder), 1);
    }
}

#[test]
fn messages_that_cannot_be_judged_pass_as_they_came() {
    let repeat = event("r", 1).to_string();
    let key = Some([1, 2, 3, 4]);
    for rsv in [0x10, 0x20, RSV1] {
        passes_unjudged(enforce, &frame(FIN | rsv | TEXT, &repeat), Extended);
    }
    passes_unjudged(enforce, &frame_as(FIN | TEXT, Form::Minimal, key, &repeat), Extended);
    passes_unjudged(enforce, &frame(FIN | BINARY, &repeat), Binary);
    let pieces = fragments(&repeat, &[20]);
    let compressed = frame(RSV1 | TEXT, &repeat[..20]);
    passes_unjudged(enforce, &[&compressed[..], &pieces[1]].concat(), Extended);
    let late_bit = frame(FIN | RSV1 | CONTINUATION, &repeat[20..]);
    passes_unjudged(enforce, &[&pieces[0][..], &ping(""), &late_bit].concat(), Extended);
    let masked = frame_as(FIN | CONTINUATION, Form::Minimal, key, &repeat[20..]);
    passes_unjudged(enforce, &[&pieces[0][..], &masked].concat(), Extended);
    let binary = frame(BINARY, &repeat[..20]);
    passes_unjudged(enforce, &[&binary[..], &ping(""), &pieces[1]].concat(), Binary);
}

#[test]
fn a_repeat_is_judged_whatever_the_form_of_its_length() {
    let first = text(event("r", 1));
    for form in [Form::Minimal, Form::Two, Form::Eight] {
        let again = frame_as(FIN | TEXT, form, None, event("r", 1).to_string());
        let pump = strain(enforce(), &[&first[..], &again, &first].concat(), BYTE_BY_BYTE);
        assert_eq!((pump.out, pump.dropped.len()), (first.clone(), 2));
        let pump = strain(enforce(), &again, BYTE_BY_BYTE);
        assert_eq!(pump.out, again);
    }
}

#[test]
fn a_message_beyond_the_limit_passes_unjudged_and_streaming() {
    let size = event("r", 1).to_string().len();
    let of = |len: usize| event("r", 1).text(&"x".repeat(len - size + 3)).to_string();
    let tight = || tight(Mode::Enforce);
    for form in [Form::Two, Form::Eight] {
        let judged = frame_as(FIN | TEXT, form, None, of(LIMIT));
        let pump = strain(tight(), &[&judged[..], &judged].concat(), BYTE_BY_BYTE);
        assert_eq!((pump.out, pump.dropped.len()), (judged, 1));
        passes_unjudged(tight, &frame_as(FIN | TEXT, form, None, of(LIMIT + 1)), Oversized);
    }
    // Not one byte is held once the head has been read.
    let mut pump = Pump::new(tight());
    let large = text(of(LIMIT + 1));
    for byte in &large {
        pump.feed(&[*byte]);
        assert!(pump.window.len() < 4);
    }
    assert_eq!(pump.out, large);
    // In fragments, from the one on that is too much.
    let pieces = fragments(of(2 * LIMIT), &[100, LIMIT]);
    passes_unjudged(
        tight,
        &[&pieces[0][..], &ping(""), &pieces[1], &ping("p"), &pieces[2]].concat(),
        Oversized,
    );
}

#[test]
fn a_fragmented_message_is_judged_up_to_the_limit_and_a_head_with_its_heads() {
    let size = event("r", 1).to_string().len();
    let of = |len: usize| event("r", 1).text(&"x".repeat(len - size + 3)).to_string();
    // Two fragments with heads of 2 and 4 bytes.
    let whole = |len: usize| fragments(of(len), &[100]).concat();
    let most = LIMIT + MAX_HEAD - 6;
    assert_eq!(whole(most).len(), LIMIT + MAX_HEAD);
    for sizes in [ONE_CHUNK, BYTE_BY_BYTE] {
        let pump = strain(tight(Mode::Enforce), &whole(most).repeat(2), sizes);
        assert_eq!((pump.out, pump.dropped.len()), (whole(most), 1));
        let pump = strain(tight(Mode::Enforce), &whole(most + 1).repeat(2), sizes);
        assert_eq!((pump.out, pump.dropped.len()), (whole(most + 1).repeat(2), 0));
        assert_eq!(pump.tally.unjudged[Oversized as usize], 2);
    }
}

#[test]
fn a_control_frame_of_125_bytes_between_fragments_is_one_and_a_longer_one_is_none() {
    let message = event("r", 1).to_string();
    let [first, last] = [0, 1].map(|i| fragments(&message, &[20])[i].clone());
    for (len, dropped, unreadable) in [(125, 1, 0), (126, 0, 1)] {
        let pinged = [&text(&message)[..], &first, &ping(vec![7; len]), &last].concat();
        let pump = strain(enforce(), &pinged, ONE_CHUNK);
        assert_eq!((pump.dropped.len(), pump.tally.unreadable), (dropped, unreadable), "{len} bytes");
    }
}

#[test]
fn endless_fragments_are_not_gathered_forever() {
    let pieces = [frame(TEXT, ""), frame(CONTINUATION, "").repeat(LIMIT), frame(FIN | CONTINUATION, "{}")];
    passes_unjudged(|| tight(Mode::Enforce), &pieces.concat(), Oversized);
    let pinged = [frame(TEXT, ""), ping([7; 100]).repeat(20), frame(FIN | CONTINUATION, "{}")];
    passes_unjudged(|| tight(Mode::Enforce), &pinged.concat(), Oversized);
}

#[test]
fn a_length_that_no_memory_holds_is_streamed() {
    for len in [1 << 32, u64::MAX >> 1] {
        for first in [FIN | TEXT, TEXT, FIN | BINARY, FIN | PING, CONTINUATION] {
            let bytes = [&head(first, Form::Eight, false, len)[..], &text(event("r", 1)).repeat(3)].concat();
            let pump = strain(enforce(), &bytes, &[3]);
            assert_eq!((pump.out, pump.tally.judged), (bytes, [0; 7]));
        }
    }
}

#[test]
fn behind_what_is_not_frames_every_byte_passes() {
    let event = text(event("r", 1));
    let [opening, closing] = [0, 1].map(|i| fragments(tick(1), &[5])[i].clone());
    let nonsense = [
        frame(FIN | 3, "x"),
        frame(FIN | 7, "x"),
        frame(FIN | 11, "x"),
        frame(FIN | 15, ""),
        head(FIN | TEXT, Form::Eight, false, 1 << 63),
        head(FIN | TEXT, Form::Eight, false, u64::MAX),
        // A message inside another, judged, unjudged or binary.
        [&opening[..], &event].concat(),
        [&opening[..], &frame(FIN | BINARY, "")].concat(),
        [&frame(BINARY, "")[..], &event].concat(),
        [&frame(RSV1 | TEXT, "")[..], &event].concat(),
        [&opening[..], &frame(FIN | 3, "")].concat(),
        // Control frames that are none, inside a message.
        [&opening[..], &frame(PING, "")].concat(),
        [&opening[..], &frame(FIN | PING, [0; 126])].concat(),
    ];
    for nonsense in nonsense {
        let bytes = [&event[..], &nonsense, &event, &closing, &event, &close(1000, "")].concat();
        for sizes in [ONE_CHUNK, BYTE_BY_BYTE] {
            let pump = strain(enforce(), &bytes, sizes);
            assert_eq!(pump.out, bytes, "{nonsense:02x?}");
            assert!(!pump.sieve.at_boundary());
            assert_eq!(pump.tally.unreadable, 1);
        }
    }
}

#[test]
fn control_frames_that_break_their_rules_pass_as_they_came() {
    let events = [1, 2].map(|seq| text(event("r", seq)));
    for first in [CLOSE, PING, PONG, FIN | RSV1 | PING] {
        for len in [0, 125, 126, 1000] {
            for form in [Form::Minimal, Form::Eight] {
                let odd = frame_as(first, form, None, vec![b'x'; len]);
                let bytes = [&events[0][..], &odd, &events[1]].concat();
                for sizes in [ONE_CHUNK, BYTE_BY_BYTE] {
                    let pump = strain(enforce(), &bytes, sizes);
                    assert_eq!(pump.out, bytes);
                    // The next message is judged: a Close in fragments is none.
                    assert_eq!((pump.judged(InOrder), pump.sieve.close()), (1, None));
                }
            }
        }
    }
}

#[test]
fn a_continuation_of_nothing_passes_as_it_came() {
    let stray = frame(FIN | CONTINUATION, event("r", 1).to_string());
    let bytes = [text(event("r", 1)), stray, text(event("r", 2))].concat();
    let pump = strain(enforce(), &bytes, BYTE_BY_BYTE);
    assert_eq!((pump.judged(InOrder), pump.out), (1, bytes));
}

#[test]
fn what_is_half_there_when_the_stream_ends_goes_out() {
    let bytes =
        [text(event("r", 1)), fragments(event("r", 1), &[10, 30]).concat(), text(event("r", 1))].concat();
    let whole = strain(enforce(), &bytes, ONE_CHUNK).out.len();
    assert_eq!(whole, text(event("r", 1)).len());
    for cut in 0..whole {
        assert_eq!(strain(enforce(), &bytes[..cut], ONE_CHUNK).out, bytes[..cut]);
    }
    // Behind the first event nothing is left out that is not whole.
    for cut in whole..bytes.len() {
        let pump = strain(enforce(), &bytes[..cut], ONE_CHUNK);
        assert_eq!(pump.out.len() + pump.dropped.len() * (bytes.len() - 2 * whole), cut);
    }
}

// Close.

#[test]
fn a_close_is_reported_with_its_code_and_what_follows_passes() {
    for (payload, code) in [
        (vec![], None),
        (vec![3], None),
        (1000u16.to_be_bytes().to_vec(), Some(1000)),
        ([&1012u16.to_be_bytes()[..], b"service restart"].concat(), Some(1012)),
        ([&4001u16.to_be_bytes()[..], &[0xff; 123]].concat(), Some(4001)),
        (vec![0, 0], Some(0)),
    ] {
        let event = text(event("r", 1));
        let before = [&event[..], &frame(FIN | CLOSE, &payload)].concat();
        let bytes = [&before[..], &event, &event, &[0xff; 9], &close(1002, "")].concat();
        for sizes in [ONE_CHUNK, BYTE_BY_BYTE] {
            let mut pump = Pump::new(enforce());
            pump.feed_in(&before[..before.len() - 1], sizes);
            assert_eq!(pump.sieve.close(), None);
            assert!(pump.sieve.at_boundary());
            pump.feed_in(&bytes[before.len() - 1..], sizes);
            assert_eq!(pump.out, bytes);
            assert_eq!(pump.sieve.close(), Some(code));
            assert!(!pump.sieve.at_boundary());
            assert_eq!(pump.tally.frames[Opcode::Close.index()], 1);
        }
    }
}

#[test]
fn a_close_among_fragments_lets_them_go_and_is_reported() {
    let pieces = fragments(event("r", 1), &[20]);
    let bytes = [&pieces[0][..], &ping("p"), &close(1001, "going away"), &pieces[1]].concat();
    for sizes in [ONE_CHUNK, BYTE_BY_BYTE] {
        let pump = strain(enforce(), &bytes, sizes);
        assert_eq!(pump.out, bytes);
        assert_eq!(pump.sieve.close(), Some(Some(1001)));
        assert_unjudged(&pump, Interrupted, 0);
    }
}

// Bounds.

#[test]
fn a_flood_of_runs_with_large_ids_stays_within_the_capacity() {
    let capacity = 100;
    let flood = 20_000;
    let mut pump = Pump::new(Rules { runs: capacity, ..enforce() });
    let id = "x".repeat(1024);
    let mut passed = 0;
    for n in 0..flood {
        let bytes = text(event(&format!("{n}{id}"), 1));
        pump.feed(&bytes);
        passed += bytes.len();
        assert!(pump.sieve.runs() <= capacity);
    }
    assert_eq!((pump.out.len(), pump.sieve.runs()), (passed, capacity));
    let live = flood - capacity as u32;
    assert_eq!(pump.tally.departed, Departed { live, ..Departed::default() });
    pump.sieve.expire(3_600_000);
    assert_eq!((pump.sieve.runs(), pump.sieve.next_expiry()), (0, None));
}

#[test]
fn idle_runs_expire_on_the_clock_of_the_caller() {
    let event = text(event("r", 1));
    let mut pump = Pump::new(Rules { ttl: 100, ..enforce() });
    pump.feed(&event);
    assert_eq!(pump.sieve.next_expiry(), Some(100));
    pump.now = 99;
    pump.feed(&event);
    pump.now = 199;
    pump.feed(&event);
    assert_eq!((pump.dropped.len(), pump.judged(NewRun), pump.tally.departed.expired), (1, 2, 1));
    assert_eq!(pump.out, event.repeat(2));
}

#[test]
fn runs_that_are_new_are_counted_for_the_process() {
    let rules = std::sync::Arc::new(enforce());
    for _ in 0..2 {
        let mut sieve = seqgate::sieve::Sieve::judging(rules.clone());
        for n in 0..100 {
            let mut bytes = text(event(&n.to_string(), 1));
            sieve.step(&mut bytes, 0);
        }
    }
    let estimate = rules.distinct.estimate();
    assert!((95.0..105.0).contains(&estimate), "{estimate}");
}

// Streams by the thousand.

/// An event from a small world, with some of its text to fill it up.
fn any_event() -> impl Strategy<Value = Event> {
    let stream = proptest::sample::select(vec!["assistant", "tool", "lifecycle"]);
    let phase = proptest::option::weighted(0.1, Just("end".to_owned()));
    let outer = proptest::option::weighted(0.8, 0..30u64);
    let text = prop_oneof![6 => Just(2), 1 => 0..2 * LIMIT].prop_map(|len| "x".repeat(len));
    (0..5u8, stream, phase, 0..8u64, proptest::option::weighted(0.9, 0..3u64), text, outer).prop_map(
        |(run, stream, phase, seq, ts, text, outer)| {
            let (run, stream) = (run.to_string(), stream.to_owned());
            Event { run, stream, phase, text, seq, ts, outer }
        },
    )
}

fn any_form() -> impl Strategy<Value = Form> {
    prop_oneof![6 => Just(Form::Minimal), 1 => Just(Form::Two), 1 => Just(Form::Eight)]
}

fn any_control() -> impl Strategy<Value = Vec<u8>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..126);
    let opcode = prop_oneof![Just(PING), Just(PONG)];
    (opcode, any_form(), payload)
        .prop_map(|(opcode, form, payload)| frame_as(FIN | opcode, form, None, payload))
}

/// A text in one frame or several, with control frames between.
fn in_frames(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let fragmented = (
        proptest::collection::vec(0..400usize, 1..4),
        proptest::collection::vec(proptest::option::weighted(0.4, any_control()), 4),
    );
    let form = prop_oneof![Just(None), fragmented.prop_map(Some)];
    (text, any_form(), form).prop_map(|(text, length, form)| match form {
        None => frame_as(FIN | TEXT, length, None, text),
        Some((cuts, controls)) => {
            let pieces = fragments(text, &cuts);
            let last = pieces.len() - 1;
            let between =
                |i: usize| if i < last { controls[i].clone().unwrap_or_default() } else { Vec::new() };
            pieces.into_iter().enumerate().flat_map(|(i, piece)| [piece, between(i)].concat()).collect()
        }
    })
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        10 => any_event().prop_map(|event| event.to_string()),
        2 => (0..30u64).prop_map(tick),
        1 => Just("{\"type\":\"res\",\"id\":1}".to_owned()),
        1 => Just("nothing".to_owned()),
        1 => Just(String::new()),
    ]
}

/// A stream that a client takes without complaint.
fn lawful() -> impl Strategy<Value = Vec<u8>> {
    let binary =
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|payload| frame(FIN | BINARY, payload));
    let piece = prop_oneof![12 => in_frames(any_text()), 1 => any_control(), 1 => binary];
    proptest::collection::vec(piece, 0..25).prop_map(|pieces| pieces.concat())
}

/// Every event of a run of its own.
fn without_repeats() -> impl Strategy<Value = String> {
    let unique = any::<u64>().no_shrink().prop_map(|run| run.to_string());
    let event = (any_event(), unique).prop_map(|(event, run)| Event { run, ..event }.to_string());
    prop_oneof![5 => event, 1 => (0..30u64).prop_map(tick), 1 => Just("nothing".to_owned())]
}

/// Anything that begins like a frame.
fn any_frame(text: BoxedStrategy<String>) -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        8 => Just(TEXT), 8 => Just(CONTINUATION), 2 => Just(BINARY), 2 => Just(PING), 1 => Just(CLOSE),
        1 => 0..16u8,
    ];
    let bits = prop_oneof![8 => Just(FIN), 6 => Just(0), 1 => (0..16u8).prop_map(|bits| bits << 4)];
    let key = proptest::option::weighted(0.05, any::<[u8; 4]>());
    let payload = prop_oneof![
        text.prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..40),
        (120..130usize).prop_map(|len| vec![b' '; len]),
    ];
    (opcode, bits, any_form(), key, payload)
        .prop_map(|(opcode, bits, form, key, payload)| frame_as(opcode | bits, form, key, payload))
}

/// Frames in any order, lawful messages among them, and perhaps cut off.
fn stream_of(text: impl Fn() -> BoxedStrategy<String>) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![4 => in_frames(text()), 2 => any_frame(text()), 1 => any_control()];
    let cut = proptest::option::weighted(0.3, any::<prop::sample::Index>());
    (proptest::collection::vec(piece, 0..20), cut).prop_map(|(pieces, cut)| {
        let mut bytes = pieces.concat();
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len() + 1)));
        bytes
    })
}

fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    stream_of(|| any_text().boxed())
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![3 => Just(Mode::Enforce), 1 => Just(Mode::Observe)]
}

fn any_sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![3 => 1..20usize, 2 => 1..600usize];
    proptest::collection::vec(size, 1..20)
}

/// What the client is to get of these texts: the ledger judges each, arithmetic on parsed JSON does the rest.
fn naive_sieve(rules: &Rules, texts: &[String]) -> Vec<String> {
    let mut ledger = Ledger::new(rules.order, rules.runs, rules.ttl);
    let mut highest = None;
    let mut gone = 0;
    let mut passed = Vec::new();
    for text in texts {
        let Ok(mut value) = serde_json::from_str::<Value>(text) else {
            passed.push(text.clone());
            continue;
        };
        let drops = match event::peek(text.as_bytes(), &rules.events).unwrap().subject {
            Subject::Event(claim) if text.len() <= rules.inspect_limit => {
                ledger.judge(&Stamp::new(&claim, &rules.secret), 0).drops()
            }
            _ => false,
        };
        let outer = value["seq"].as_u64().filter(|_| value["type"] == "event");
        if drops && outer.is_some() && outer > highest {
            gone += 1;
        }
        highest = highest.max(outer);
        if let Some(number) = outer.and_then(|outer| outer.checked_sub(gone)) {
            value["seq"] = number.into();
        }
        if !drops {
            passed.push(value.to_string());
        }
    }
    passed
}

fn normal(text: &str) -> String {
    serde_json::from_str::<Value>(text).map_or_else(|_| text.to_owned(), |value| value.to_string())
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(config(192))]

    #[test]
    fn in_observe_mode_no_byte_of_anything_changes(
        bytes in prop_oneof![any_stream(), proptest::collection::vec(any::<u8>(), 0..2000)],
        sizes in any_sizes(),
    ) {
        let pump = strain(tight(Mode::Observe), &bytes, &sizes);
        prop_assert_eq!(pump.out, bytes);
        prop_assert_eq!(pump.dropped.len(), 0);
    }

    #[test]
    fn arbitrary_bytes_pass_unchanged(bytes in proptest::collection::vec(any::<u8>(), 0..2000), sizes in any_sizes()) {
        prop_assert_eq!(strain(tight(Mode::Enforce), &bytes, &sizes).out, bytes);
    }

    #[test]
    fn without_repeats_no_byte_changes_whoever_gives_up(
        pieces in proptest::collection::vec((stream_of(|| without_repeats().boxed()), any::<bool>()), 1..4),
        sizes in any_sizes(),
    ) {
        let mut pump = Pump::new(tight(Mode::Enforce));
        for (bytes, give_up) in &pieces {
            pump.feed_in(bytes, &sizes);
            if *give_up {
                pump.give_up();
            }
        }
        pump.end();
        prop_assert_eq!(pump.dropped.len(), 0);
        prop_assert_eq!(pump.out, pieces.into_iter().flat_map(|(bytes, _)| bytes).collect::<Vec<u8>>());
    }

    #[test]
    fn chunking_does_not_matter(mode in any_mode(), bytes in any_stream(), sizes in any_sizes()) {
        let whole = strain(tight(mode), &bytes, ONE_CHUNK);
        for sizes in [BYTE_BY_BYTE, &sizes] {
            let cut = strain(tight(mode), &bytes, sizes);
            prop_assert_eq!(&cut.out, &whole.out);
            prop_assert_eq!(&cut.dropped, &whole.dropped);
            prop_assert_eq!(&cut.tally, &whole.tally);
            prop_assert_eq!(cut.sieve.close(), whole.sieve.close());
            prop_assert_eq!(cut.sieve.at_boundary(), whole.sieve.at_boundary());
            prop_assert_eq!(cut.sieve.control_waits(), whole.sieve.control_waits());
            prop_assert!(cut.sieve.runs() <= 3);
        }
    }

    #[test]
    fn frames_leave_in_their_order_with_their_lengths(bytes in lawful(), sizes in any_sizes()) {
        let pump = strain(tight(Mode::Enforce), &bytes, &sizes);
        let (sent, _) = frames(&bytes);
        let (got, rest) = frames(&pump.out);
        prop_assert_eq!(rest, 0);
        let mut sent = sent.iter();
        for got in &got {
            let same = |sent: &&support::frames::Frame| {
                (sent.first, sent.len, sent.is_control().then_some(&sent.payload))
                    == (got.first, got.len, got.is_control().then_some(&got.payload))
            };
            prop_assert!(sent.any(|sent| same(&sent)));
        }
        let controls = |bytes: &[u8]| frames(bytes).0.into_iter().filter(|frame| frame.is_control()).collect::<Vec<_>>();
        prop_assert_eq!(controls(&pump.out), controls(&bytes));
    }

    #[test]
    fn the_client_gets_what_the_naive_sieve_gives(
        list in proptest::collection::vec(any_text(), 1..30),
        cuts in proptest::collection::vec(proptest::option::of(proptest::collection::vec(0..300usize, 1..4)), 30),
        order in proptest::sample::select(vec![Order::Stream, Order::Run, Order::Any]),
        sizes in any_sizes(),
    ) {
        let rules = || Rules { order, inspect_limit: 100_000, ..tight(Mode::Enforce) };
        let bytes: Vec<u8> = list.iter().zip(&cuts).flat_map(|(message, cuts)| match cuts {
            None => text(message),
            Some(cuts) => fragments(message, cuts).join(&ping("between")[..]),
        }).collect();
        let pump = strain(rules(), &bytes, &sizes);
        let got: Vec<String> = texts(&pump.out).iter().map(|text| normal(text)).collect();
        let expected: Vec<String> = naive_sieve(&rules(), &list).iter().map(|text| normal(text)).collect();
        prop_assert_eq!(got, expected);
    }

    /// Messages over the limit are never judged, and numbered as all others.
    #[test]
    fn numbers_have_no_hole_and_no_repeat_whatever_passes_unread(
        list in proptest::collection::vec((1..6u64, any::<bool>(), proptest::option::of(proptest::collection::vec(0..3000usize, 1..6))), 1..40),
        sizes in any_sizes(),
    ) {
        let rules = || Rules { inspect_limit: 800, ..rules(Mode::Enforce) };
        let messages: Vec<String> = list.iter().zip(1..).map(|((seq, is_large, _), outer)| {
            let data = if *is_large { "\\\"}".repeat(700) } else { String::from("x") };
            event("r", *seq).text(&data).outer(outer).to_string()
        }).collect();
        let bytes: Vec<u8> = list.iter().zip(&messages).flat_map(|((_, _, cuts), message)| match cuts {
            None => text(message),
            Some(cuts) => fragments(message, cuts).join(&ping("between")[..]),
        }).collect();
        let pump = strain(rules(), &bytes, &sizes);
        let got: Vec<String> = texts(&pump.out).iter().map(|text| normal(text)).collect();
        let expected: Vec<String> = naive_sieve(&rules(), &messages).iter().map(|text| normal(text)).collect();
        prop_assert_eq!(got, expected);
        prop_assert_eq!(outers(&pump.out), (1..=messages.len() as u64 - pump.dropped.len() as u64).collect::<Vec<_>>());
    }

    /// A frame of our own may follow exactly what is whole frames, but not a Close.
    #[test]
    fn a_boundary_is_where_a_frame_of_our_own_may_stand(
        lawful in lawful(),
        closed in any::<bool>(),
        sizes in any_sizes(),
    ) {
        let bytes = if closed { [lawful, close(1012, "")].concat() } else { lawful };
        let pump = strain(tight(Mode::Enforce), &bytes, &sizes);
        let (whole, rest) = frames(&pump.out);
        prop_assert_eq!(rest, 0);
        let ends: Vec<usize> = whole.iter().scan(0, |at, frame| { *at += frame.len; Some(*at) }).collect();
        for (at, boundary) in &pump.boundaries {
            let is_end = *at == 0 || ends.contains(at);
            let behind_close = closed && *at == pump.out.len();
            prop_assert_eq!(*boundary, is_end && !behind_close, "at {} of {:?}", at, ends);
        }
        // Our own pings at every one of them: the same messages, and the pings.
        let mut places: Vec<usize> = pump.boundaries.iter().filter(|(_, boundary)| *boundary).map(|(at, _)| *at).collect();
        places.dedup();
        let mut spliced = pump.out.clone();
        for at in places.iter().rev() {
            spliced.splice(*at..*at, ping("our own"));
        }
        let mut with_ours = messages(&spliced);
        let count = with_ours.len();
        with_ours.retain(|message| message.payload != b"our own");
        prop_assert_eq!(count - with_ours.len(), places.len());
        prop_assert_eq!(with_ours, messages(&pump.out));
    }

    /// The window is bounded, and so are the runs; the pump asserts it at every step.
    #[test]
    fn the_window_never_exceeds_the_limit_and_two_heads(bytes in any_stream(), mode in any_mode(), give_up in 0..64u8) {
        let mut pump = Pump::new(tight(mode));
        for (i, byte) in bytes.iter().enumerate() {
            pump.feed(&[*byte]);
            prop_assert!(pump.window.len() <= LIMIT.max(seqgate::sieve::TAIL + 125) + 2 * MAX_HEAD);
            prop_assert!(pump.sieve.runs() <= 3);
            if i % 64 == usize::from(give_up) && pump.sieve.control_waits() {
                pump.give_up();
            }
        }
    }
}
