//! The rule table, row by row; then beside two naive twins that keep everything by name.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::HashMap;

use proptest::prelude::*;
use seqgate::event::{self, Subject};
use seqgate::filter::Verdict::{Duplicate, Gap, InOrder, Late, NewRun, OutOfOrder, Restarted};
use seqgate::filter::{Departed, Ledger, Order, RECENT, SILENCE, STREAMS, Verdict};
use seqgate::stamp::{RunKey, Secret, Stamp};
use support::events::{Event, event};
use support::naive_table::{BoundedTwin, TwinRun, stamp, stamp_of, with_claim};

const FOREVER: u64 = u64::MAX;
const LAST_SEQ: u64 = (1 << 53) - 1;

fn key(run: &str) -> RunKey {
    stamp(&event(run, 1)).run
}

/// What a new ledger says to these events.
fn verdicts(order: Order, events: &[Event]) -> Vec<Verdict> {
    let mut ledger = Ledger::new(order, 100, FOREVER);
    events.iter().map(|event| ledger.judge(&stamp(event), 0)).collect()
}

/// What a new ledger says to the last of these events.
fn last(events: &[Event]) -> Verdict {
    *verdicts(Order::Stream, events).last().unwrap()
}

const ORDERS: [Order; 3] = [Order::Stream, Order::Run, Order::Any];

// The rows.

#[test]
fn the_first_event_of_a_run_goes_on_whatever_its_seq() {
    for seq in [0, 1, 7, LAST_SEQ] {
        for order in ORDERS {
            assert_eq!(verdicts(order, &[event("r", seq)]), [NewRun]);
        }
    }
}

#[test]
fn runs_are_judged_apart() {
    let events = [event("r", 5), event("s", 5), event("R", 4), event("", 3), event("r", 6)];
    assert_eq!(verdicts(Order::Stream, &events), [NewRun, NewRun, NewRun, NewRun, InOrder]);
}

#[test]
fn a_rising_seq_is_in_order_and_a_hole_in_it_a_gap() {
    let events = [1, 2, 3, 5, LAST_SEQ - 1, LAST_SEQ].map(|seq| event("r", seq));
    for order in ORDERS {
        assert_eq!(verdicts(order, &events), [NewRun, InOrder, InOrder, Gap, Gap, InOrder]);
    }
}

#[test]
fn a_higher_seq_goes_on_whatever_its_ts() {
    for ts in [None, Some(1), Some(999), Some(5000)] {
        assert_eq!(last(&[event("r", 1), event("r", 2).ts(ts)]), InOrder);
        assert_eq!(last(&[event("r", 1).phase("end"), event("r", 2).ts(ts)]), InOrder);
    }
}

#[test]
fn a_newer_ts_with_a_used_seq_is_a_restart() {
    for order in ORDERS {
        for seq in [0, 1, 7, 8] {
            let again = event("r", seq).ts(1001);
            assert_eq!(verdicts(order, &[event("r", 8), again]), [NewRun, Restarted]);
        }
    }
}

#[test]
fn a_restart_forgets_the_old_generation() {
    let old = [event("r", 7).ts(1), event("r", 8).stream("tool").ts(2), event("r", 9).phase("end").ts(3)];
    let new = [
        event("r", 1).ts(10),
        event("r", 2).stream("tool").ts(10),
        // Not ended any more, so nothing restarts within the millisecond.
        event("r", 2).ts(10),
        event("r", 1).stream("tool").ts(10),
        // Of the old generation, but its fingerprint and its place are gone.
        event("r", 9).phase("end").ts(3),
    ];
    let expected = [NewRun, InOrder, InOrder, Restarted, InOrder, Late, OutOfOrder, Gap];
    assert_eq!(verdicts(Order::Stream, &[&old[..], &new[..]].concat()), expected);
}

#[test]
fn a_stray_of_an_earlier_generation_makes_nothing_of_this_one_stale() {
    let events = [
        event("r", 8).ts(2),
        event("r", 9).phase("end").ts(3),
        event("r", 1).ts(10),
        // The old one again, and again: it is ahead, and older.
        event("r", 8).ts(2),
        event("r", 8).ts(2),
        event("r", 9).phase("end").ts(3),
        event("r", 2).ts(10),
        event("r", 3).ts(10),
    ];
    let expected = [NewRun, InOrder, Restarted, Gap, Duplicate, Gap, InOrder, InOrder];
    assert_eq!(verdicts(Order::Stream, &events), expected);
}

#[test]
fn the_same_event_again_is_a_duplicate() {
    for order in ORDERS {
        let twice = [event("r", 4), event("r", 4), event("r", 5), event("r", 4), event("r", 5)];
        assert_eq!(verdicts(order, &twice), [NewRun, Duplicate, InOrder, Duplicate, Duplicate]);
    }
}

#[test]
fn with_a_ts_only_seq_ts_and_stream_tell_events_apart() {
    assert_eq!(last(&[event("r", 4), event("r", 4).text("other")]), Duplicate);
    assert_eq!(last(&[event("r", 4), event("r", 4).stream("tool")]), Late);
    assert_eq!(last(&[event("r", 4), event("r", 4).ts(999)]), OutOfOrder);
}

#[test]
fn the_last_32_events_are_remembered_as_they_were() {
    let events: Vec<Event> = (1..=RECENT as u64 + 1).map(|seq| event("r", seq)).collect();
    let then = |again: &Event, order| {
        *verdicts(order, &[&events[..], std::slice::from_ref(again)].concat()).last().unwrap()
    };
    for order in ORDERS {
        for again in &events[1..] {
            assert_eq!(then(again, order), Duplicate);
        }
    }
    assert_eq!(then(&events[0], Order::Stream), OutOfOrder);
    assert_eq!(then(&events[0], Order::Run), OutOfOrder);
    assert_eq!(then(&events[0], Order::Any), Late);
}

#[test]
fn a_run_that_has_ended_restarts_in_the_same_millisecond() {
    for phase in ["end", "error"] {
        for order in ORDERS {
            let events = [event("r", 3), event("r", 4).phase(phase), event("r", 1), event("r", 2)];
            assert_eq!(verdicts(order, &events), [NewRun, InOrder, Restarted, InOrder]);
        }
    }
}

#[test]
fn the_end_itself_sent_again_is_a_duplicate() {
    let end = event("r", 4).phase("end");
    assert_eq!(last(&[event("r", 3), end.clone(), end.clone()]), Duplicate);
    assert_eq!(last(&[event("r", 3), end, event("r", 3)]), Duplicate);
}

#[test]
fn nothing_but_a_lifecycle_end_or_error_ends_a_run() {
    let not_ends = [
        event("r", 4).phase("start"),
        event("r", 4).phase("finishing"),
        event("r", 4).phase("END"),
        event("r", 4).phase("end").stream("tool"),
        event("r", 4).stream("lifecycle").text("end"),
    ];
    for not_end in not_ends {
        // On the same stream, so that only a restart could let it pass.
        let lower = event("r", 3).stream(&not_end.stream);
        assert_eq!(last(&[not_end, lower]), OutOfOrder);
    }
}

#[test]
fn a_run_that_has_ended_does_not_restart_at_an_older_millisecond() {
    let end = event("r", 4).stream("lifecycle").phase("end");
    assert_eq!(last(&[end, event("r", 3).stream("lifecycle").ts(999)]), OutOfOrder);
}

#[test]
fn paced_text_overtaken_by_tools_goes_on() {
    // The order in which one connection saw them.
    let events = [
        (1, "lifecycle"),
        (2, "tool"),
        (3, "assistant"),
        (5, "tool"),
        (6, "tool"),
        (4, "assistant"),
        (7, "assistant"),
        (8, "lifecycle"),
    ];
    let events = events.map(|(seq, stream)| event("r", seq).stream(stream));
    let table = [NewRun, InOrder, InOrder, Gap, InOrder, Late, InOrder, InOrder];
    assert_eq!(verdicts(Order::Stream, &events), table);
    assert_eq!(verdicts(Order::Any, &events), table);
    let strict = [NewRun, InOrder, InOrder, Gap, InOrder, OutOfOrder, InOrder, InOrder];
    assert_eq!(verdicts(Order::Run, &events), strict);
}

#[test]
fn an_event_that_its_own_stream_has_moved_past_is_out_of_order() {
    let events = [event("r", 2), event("r", 5), event("r", 4)];
    assert_eq!(verdicts(Order::Stream, &events), [NewRun, Gap, OutOfOrder]);
    assert_eq!(verdicts(Order::Run, &events), [NewRun, Gap, OutOfOrder]);
    assert_eq!(verdicts(Order::Any, &events), [NewRun, Gap, Late]);
}

#[test]
fn an_event_that_was_dropped_leaves_no_trace_in_what_is_judged() {
    let stale = event("r", 4).ts(7);
    // Were its fingerprint kept, the second would be a duplicate.
    let events = [event("r", 5), stale.clone(), stale];
    assert_eq!(verdicts(Order::Stream, &events), [NewRun, OutOfOrder, OutOfOrder]);
    // Were its phase kept, the run would have ended.
    let stale_end = event("r", 4).phase("end").ts(999);
    let events = [event("r", 5).stream("lifecycle"), stale_end, event("r", 3).stream("lifecycle")];
    assert_eq!(verdicts(Order::Stream, &events), [NewRun, OutOfOrder, OutOfOrder]);
    // Were its stream kept, a lower one of it would be out of order.
    let events = [event("r", 5), event("r", 4).stream("tool"), event("r", 3).stream("tool")];
    assert_eq!(verdicts(Order::Run, &events), [NewRun, OutOfOrder, OutOfOrder]);
}

#[test]
fn a_late_event_counts_like_any_other() {
    let late_end = event("r", 4).phase("end");
    assert_eq!(
        verdicts(Order::Stream, &[event("r", 5), late_end.clone(), late_end, event("r", 1)]),
        [NewRun, Late, Duplicate, Restarted]
    );
}

// A clock that steps back.

/// Verdicts of a new ledger for events and their arrival times.
fn verdicts_at(order: Order, events: &[(Event, u64)]) -> Vec<Verdict> {
    let mut ledger = Ledger::new(order, 100, FOREVER);
    events.iter().map(|(event, now)| ledger.judge(&stamp(event), *now)).collect()
}

fn start(seq: u64) -> Event {
    event("r", seq).phase("start")
}

#[test]
fn an_ended_run_restarts_at_a_start_however_old() {
    let preparing = event("r", 1).phase("preparing_workspace").stream("run_status");
    for order in ORDERS {
        for again in [start(1), start(3), preparing.clone(), start(2).ts(None)] {
            let again = if again.ts.is_some() { again.ts(1) } else { again };
            let events = [start(1), event("r", 2), event("r", 5).phase("end"), again, event("r", 6).ts(2)];
            assert_eq!(verdicts(order, &events)[3..], [Restarted, Gap], "{:?}", events[3]);
        }
    }
}

#[test]
fn only_a_start_restarts_an_ended_run_whose_clock_stepped_back() {
    let end = event("r", 9).phase("end");
    let not_starts = [
        event("r", 1).phase("preparing_workspace").ts(1),
        event("r", 1).phase("START").ts(1),
        event("r", 1).phase("started").ts(1),
        event("r", 1).stream("lifecycle").text("start").ts(1),
    ];
    for not_start in not_starts {
        assert_eq!(last(&[end.clone(), not_start]), OutOfOrder);
    }
    for (stream, phase) in [("run_status", "start"), ("tool", "start"), ("assistant", "preparing_workspace")]
    {
        let of = |seq| event("r", seq).phase(phase).stream(stream);
        assert_eq!(last(&[of(8), end.clone(), of(1).ts(1)]), OutOfOrder, "{stream} {phase}");
    }
}

#[test]
fn a_start_does_not_restart_a_run_that_has_not_ended() {
    assert_eq!(last(&[event("r", 9).stream("lifecycle"), start(1).ts(1)]), OutOfOrder);
}

#[test]
fn a_repeated_start_after_the_end_is_a_duplicate() {
    assert_eq!(last(&[start(1), event("r", 2).phase("end"), start(1)]), Duplicate);
}

#[test]
fn the_end_of_a_stray_ends_the_run() {
    // The clock steps back within the run, so that its end is older than its start.
    let run = [event("r", 1).ts(9000), event("r", 2).ts(10), event("r", 3).phase("end").ts(20)];
    let events = [&run[..], &[start(1).ts(30), event("r", 2).ts(40)]].concat();
    for order in ORDERS {
        assert_eq!(verdicts(order, &events), [NewRun, InOrder, Gap, Restarted, InOrder]);
    }
    let mut ledger = Ledger::new(Order::Stream, 2, FOREVER);
    ledger.judge(&stamp(&event("live", 1)), 0);
    for event in &run {
        ledger.judge(&stamp(event), 0);
    }
    ledger.judge(&stamp(&event("new", 1)), 0);
    assert_eq!(ledger.take_departed(), Departed { ended: 1, ..Departed::default() });
}

#[test]
fn an_unknown_event_after_a_silence_restarts_the_run() {
    for order in ORDERS {
        let of = |pause| verdicts_at(order, &[(event("r", 9), 7), (event("r", 3).ts(1), 7 + pause)])[1];
        assert_eq!(of(SILENCE), Restarted);
        assert_eq!(of(SILENCE - 1), if order == Order::Any { Late } else { OutOfOrder });
        let known = verdicts_at(order, &[(event("r", 9), 0), (event("r", 9), 1_000_000)]);
        assert_eq!(known, [NewRun, Duplicate], "a known repeat stays one");
        let ahead = verdicts_at(order, &[(event("r", 9), 0), (event("r", 10).ts(1), 1_000_000)]);
        assert_eq!(ahead, [NewRun, InOrder]);
    }
    assert_eq!(SILENCE, 2000);
}

#[test]
fn a_dropped_event_ends_the_silence() {
    let stale = event("r", 3).ts(1);
    let events = [
        (event("r", 9), 0),
        (stale.clone(), 1999),
        (event("r", 9), 3998),
        (stale.clone(), 5997),
        (stale, 7997),
    ];
    let expected = [NewRun, OutOfOrder, Duplicate, OutOfOrder, Restarted];
    assert_eq!(verdicts_at(Order::Stream, &events), expected);
}

// Ordinary events.

#[test]
fn an_ordinary_event_refreshes_the_ttl_and_ends_the_silence() {
    let mut ledger = Ledger::new(Order::Stream, 10, 5000);
    ledger.judge(&stamp(&event("r", 5)), 0);
    assert_eq!(ledger.judge_ordinary(&stamp(&event("r", 6)), 4000), Some(InOrder));
    assert_eq!(ledger.next_expiry(), Some(9000));
    assert_eq!(ledger.judge(&stamp(&event("r", 2).ts(1)), 5999), OutOfOrder);
    ledger.expire(10_998);
    assert_eq!(ledger.len(), 1);
}

#[test]
fn no_event_that_restarts_a_run_is_ordinary() {
    let mut ledger = Ledger::new(Order::Any, 10, FOREVER);
    ledger.judge(&stamp(&event("r", 5)), 0);
    assert_eq!(ledger.judge_ordinary(&stamp(&event("r", 4).ts(1)), SILENCE), None);
    assert_eq!(ledger.judge(&stamp(&event("r", 4).ts(1)), SILENCE), Restarted);
    ledger.judge(&stamp(&event("r", 5).phase("end")), SILENCE);
    assert_eq!(ledger.judge_ordinary(&stamp(&start(1).ts(0)), SILENCE), None);
}

// Event names.

fn named(names: &[String], name: &str, event: &Event) -> Stamp {
    let text = event.to_string().replacen("\"agent\"", &format!("\"{name}\""), 1);
    match event::peek(text.as_bytes(), names).unwrap().subject {
        Subject::Event(claim) => Stamp::new(&claim, &Secret::new([7; 16])),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn events_of_different_names_are_different_runs() {
    let names = ["agent".to_owned(), "other".to_owned()];
    let mut ledger = Ledger::new(Order::Stream, 10, FOREVER);
    for (seq, expected) in [(1, NewRun), (2, InOrder), (2, Duplicate)] {
        for name in &names {
            assert_eq!(ledger.judge(&named(&names, name, &event("r", seq)), 0), expected, "{name} {seq}");
        }
    }
    assert_eq!(ledger.len(), 2);
    let keys = ["agent", "other"].map(|name| named(&names, name, &event("r", 1)).run);
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[0].id(), keys[1].id(), "one run id for the estimate");
}

// Missing ts.

#[test]
fn without_a_ts_nothing_is_newer() {
    assert_eq!(last(&[event("r", 5), event("r", 4).ts(None)]), OutOfOrder);
    // Nor is anything newer than nothing.
    assert_eq!(last(&[event("r", 5).ts(None), event("r", 4).ts(9)]), OutOfOrder);
}

#[test]
fn without_a_ts_the_payload_is_the_fingerprint() {
    let event = event("r", 5).ts(None);
    assert_eq!(last(&[event.clone(), event.clone()]), Duplicate);
    assert_eq!(last(&[event.clone(), event.clone().outer(3)]), Duplicate);
    assert_eq!(last(&[event.clone(), event.clone().text("other")]), OutOfOrder);
    assert_eq!(verdicts(Order::Any, &[event.clone(), event.text("other")]), [NewRun, Late]);
}

#[test]
fn without_a_ts_a_run_that_has_ended_restarts_at_seq_1_only() {
    let end = event("r", 4).phase("end").ts(None);
    assert_eq!(last(&[end.clone(), event("r", 1).stream("lifecycle").ts(None)]), Restarted);
    assert_eq!(last(&[end.clone(), event("r", 2).stream("lifecycle").ts(None)]), OutOfOrder);
    assert_eq!(last(&[end.clone(), event("r", 0).stream("lifecycle").ts(None)]), OutOfOrder);
    assert_eq!(last(&[end.clone(), end.clone()]), Duplicate);
    // Its newest ts is none: no ts equals it.
    assert_eq!(last(&[end, event("r", 1).stream("lifecycle").ts(5)]), OutOfOrder);
    // Not ended: seq 1 alone says nothing.
    assert_eq!(last(&[event("r", 4).ts(None), event("r", 1).ts(None)]), OutOfOrder);
}

#[test]
fn a_ts_that_is_no_integer_counts_as_missing() {
    for ts in ["null", "\"5000\"", "5000.5", "5e3", "-5000", "9007199254740992", "true", "[5000]"] {
        let text = event("r", 4).ts(5000).to_string().replace("5000", ts);
        let mut ledger = Ledger::new(Order::Stream, 10, FOREVER);
        ledger.judge(&stamp(&event("r", 5)), 0);
        assert_eq!(ledger.judge(&stamp_of(&text), 0), OutOfOrder, "{ts}");
    }
}

// Streams.

#[test]
fn a_ninth_stream_is_dropped_only_as_a_duplicate() {
    let mut events: Vec<Event> = (1..=8).map(|n| event("r", n).stream(&format!("s{n}"))).collect();
    let mut expected = vec![NewRun];
    expected.extend([InOrder; STREAMS - 1]);
    events.extend([
        event("r", 20).stream("s9"),
        event("r", 15).stream("s9"),
        event("r", 15).stream("s9"),
        event("r", 14).stream("s10"),
        event("r", 15).stream("s10"),
        // The first eight are told apart as before.
        event("r", 16).stream("s8"),
        event("r", 16).stream("s7"),
        event("r", 15).stream("s8"),
    ]);
    expected.extend([Gap, Late, Duplicate, Late, Late, Late, Late, OutOfOrder]);
    assert_eq!(verdicts(Order::Stream, &events), expected);
}

#[test]
fn an_event_without_a_stream_has_one_of_its_own() {
    let text = |seq| event("r", seq).to_string().replace("\"stream\":\"assistant\",", "");
    let mut ledger = Ledger::new(Order::Stream, 10, FOREVER);
    let mut judge = |text: &str| ledger.judge(&stamp_of(text), 0);
    assert_eq!(judge(&event("r", 5).to_string()), NewRun);
    assert_eq!(judge(&text(4)), Late);
    assert_eq!(judge(&text(4)), Duplicate);
    assert_eq!(judge(&text(3)), OutOfOrder);
}

// Bounds.

#[test]
fn the_least_recently_used_run_goes_first() {
    let mut ledger = Ledger::new(Order::Stream, 2, FOREVER);
    ledger.judge(&stamp(&event("a", 1)), 0);
    ledger.judge(&stamp(&event("b", 1)), 0);
    ledger.judge(&stamp(&event("a", 2)), 0);
    ledger.judge(&stamp(&event("c", 1)), 0);
    assert_eq!(ledger.take_departed(), Departed { live: 1, ..Departed::default() });
    assert_eq!(ledger.judge(&stamp(&event("a", 2)), 0), Duplicate);
    assert_eq!(ledger.judge(&stamp(&event("c", 1)), 0), Duplicate);
    assert_eq!(ledger.judge(&stamp(&event("b", 1)), 0), NewRun);
}

#[test]
fn an_event_that_was_dropped_counts_as_use() {
    let mut ledger = Ledger::new(Order::Stream, 2, FOREVER);
    for run in ["a", "b", "a", "c"] {
        ledger.judge(&stamp(&event(run, 1)), 0);
    }
    assert_eq!(ledger.judge(&stamp(&event("a", 1)), 0), Duplicate);
}

#[test]
fn runs_that_have_ended_go_before_live_ones_oldest_first() {
    let mut ledger = Ledger::new(Order::Stream, 4, FOREVER);
    ledger.judge(&stamp(&event("live", 1)), 0);
    for run in ["e1", "e2", "e3"] {
        ledger.judge(&stamp(&event(run, 1).phase("end")), 0);
    }
    // Used again, so not the oldest any more.
    ledger.judge(&stamp(&event("e1", 1).phase("end")), 0);
    ledger.judge(&stamp(&event("new", 1)), 0);
    ledger.judge(&stamp(&event("newer", 1)), 0);
    assert_eq!(ledger.take_departed(), Departed { ended: 2, ..Departed::default() });
    for (run, verdict) in [("live", Duplicate), ("new", Duplicate), ("newer", Duplicate)] {
        assert_eq!(ledger.judge(&stamp(&event(run, 1)), 0), verdict, "{run}");
    }
    assert_eq!(ledger.judge(&stamp(&event("e1", 1).phase("end")), 0), Duplicate);
    assert_eq!(ledger.judge(&stamp(&event("e2", 1).phase("end")), 0), NewRun);
}

#[test]
fn a_run_that_restarted_is_live_again() {
    let mut ledger = Ledger::new(Order::Stream, 2, FOREVER);
    ledger.judge(&stamp(&event("again", 1).phase("end")), 0);
    ledger.judge(&stamp(&event("over", 1).phase("end")), 0);
    assert_eq!(ledger.judge(&stamp(&event("again", 1).ts(1001)), 0), Restarted);
    ledger.judge(&stamp(&event("new", 1)), 0);
    assert_eq!(ledger.take_departed(), Departed { ended: 1, ..Departed::default() });
    assert_eq!(ledger.judge(&stamp(&event("again", 1).ts(1001)), 0), Duplicate);
}

#[test]
fn a_run_of_one_event_that_ends_it_goes_first() {
    let mut ledger = Ledger::new(Order::Stream, 2, FOREVER);
    ledger.judge(&stamp(&event("live", 1)), 0);
    ledger.judge(&stamp(&event("over", 1).phase("error")), 0);
    ledger.judge(&stamp(&event("new", 1)), 0);
    assert_eq!(ledger.judge(&stamp(&event("live", 1)), 0), Duplicate);
}

#[test]
fn a_run_expires_when_it_was_idle_for_the_ttl() {
    let mut ledger = Ledger::new(Order::Stream, 10, 100);
    assert_eq!(ledger.next_expiry(), None);
    ledger.judge(&stamp(&event("a", 5)), 0);
    ledger.judge(&stamp(&event("b", 5).phase("end")), 10);
    assert_eq!(ledger.next_expiry(), Some(100));
    // A dropped event counts as well.
    assert_eq!(ledger.judge(&stamp(&event("a", 5)), 50), Duplicate);
    assert_eq!(ledger.next_expiry(), Some(110));
    ledger.expire(109);
    assert_eq!(ledger.len(), 2);
    ledger.expire(110);
    assert_eq!(ledger.len(), 1);
    assert_eq!(ledger.judge(&stamp(&event("a", 5)), 149), Duplicate);
    assert_eq!(ledger.judge(&stamp(&event("a", 5)), 249), NewRun);
    assert_eq!(ledger.take_departed(), Departed { expired: 2, ..Departed::default() });
}

#[test]
fn expiry_makes_room_before_anything_is_evicted() {
    let mut ledger = Ledger::new(Order::Stream, 1, 100);
    ledger.judge(&stamp(&event("a", 1)), 0);
    ledger.judge(&stamp(&event("b", 1)), 100);
    assert_eq!(ledger.take_departed(), Departed { expired: 1, ..Departed::default() });
    assert_eq!(ledger.len(), 1);
}

#[test]
fn a_run_that_comes_back_after_its_eviction_is_counted_once() {
    let mut ledger = Ledger::new(Order::Stream, 1, 100);
    for run in ["a", "b", "a", "a"] {
        ledger.judge(&stamp(&event(run, 1)), 0);
    }
    assert_eq!(ledger.take_departed(), Departed { live: 2, returned: 1, ..Departed::default() });
    // What has expired is not missed.
    ledger.expire(100);
    ledger.judge(&stamp(&event("a", 1)), 100);
    assert_eq!(ledger.take_departed(), Departed { expired: 1, ..Departed::default() });
    assert_eq!(ledger.take_departed(), Departed::default());
}

#[test]
fn the_last_256_evicted_runs_are_known_to_return() {
    let mut ledger = Ledger::new(Order::Stream, 1, FOREVER);
    let mut judge = |run: usize| {
        ledger.judge(&stamp(&event(&run.to_string(), 1)), 0);
        ledger.take_departed().returned
    };
    // Run 300 is tracked, 44 to 299 are the last 256 that were evicted.
    (0..=300).for_each(|run| assert_eq!(judge(run), 0));
    assert_eq!(judge(44), 1);
    // Each return evicts another run, whose key replaces the oldest: 45 to 47 are no longer known after that.
    assert_eq!([judge(300), judge(44), judge(299), judge(47), judge(49)], [1, 1, 1, 0, 1]);
}

#[test]
fn a_forgetful_ledger_holds_neither_live_nor_ended_runs() {
    let mut ledger = Ledger::new(Order::Stream, 10, FOREVER);
    let events = [event("live", 1), event("ended", 1).phase("end")];
    for _ in 0..2 {
        for event in &events {
            assert_eq!(ledger.judge(&stamp(event), 0), NewRun);
        }
        ledger.forget();
        assert_eq!((ledger.len(), ledger.next_expiry()), (0, None));
    }
}

#[test]
fn a_ledger_for_no_runs_holds_one() {
    let mut ledger = Ledger::new(Order::Stream, 0, FOREVER);
    assert_eq!(ledger.judge(&stamp(&event("a", 1)), 0), NewRun);
    assert_eq!(ledger.judge(&stamp(&event("a", 1)), 0), Duplicate);
    assert_eq!(ledger.len(), 1);
}

#[test]
fn keys_differ_by_id_and_by_secret() {
    assert_eq!(key("a"), key("a"));
    assert_ne!(key("a"), key("b"));
    let other = with_claim(&event("a", 1).to_string(), |claim| Stamp::new(claim, &Secret::new([8; 16])).run);
    assert_ne!(key("a"), other);
}

fn any_order() -> impl Strategy<Value = Order> {
    proptest::sample::select(&ORDERS[..])
}

const STREAM_NAMES: [&str; 12] = [
    "lifecycle",
    "run_status",
    "assistant",
    "tool",
    "item",
    "plan",
    "patch",
    "usage",
    "acp",
    "error",
    "notice",
    "",
];

/// An event from domains so small that everything collides.
fn any_event(runs: usize, seqs: u64) -> impl Strategy<Value = Event> {
    let run = (0..runs).prop_map(|n| format!("run-{n}"));
    let stream = prop_oneof![2 => 0..3usize, 1 => 0..STREAM_NAMES.len()].prop_map(|n| STREAM_NAMES[n]);
    let phase = prop_oneof![6 => Just(None), 1 => Just(Some("start")), 1 => Just(Some("preparing_workspace")), 2 => Just(Some("end")), 1 => Just(Some("error"))];
    let ts = prop_oneof![1 => Just(None), 4 => (0..4u64).prop_map(Some)];
    let text = prop_oneof![Just("a"), Just("b")];
    (run, stream, phase, 0..seqs, ts, text).prop_map(|(run, stream, phase, seq, ts, text)| {
        let phase = phase.map(str::to_owned);
        Event { run, stream: stream.into(), phase, text: text.into(), seq, ts, outer: None }
    })
}

/// A run: of each event the clock's step, the pause before it and its stream; whether it begins with a preparation, and
/// whether its end is sent.
fn a_turn() -> impl Strategy<Value = (Vec<(i64, i64, usize)>, bool, bool)> {
    const HOUR: i64 = 3_600_000;
    let step = prop_oneof![8 => Just(0), 1 => 1000..=HOUR, 1 => -HOUR..=-1000];
    let pause = prop_oneof![8 => 1..300i64, 1 => 1500..4000i64];
    let events = proptest::collection::vec((step, pause, 0..3usize), 2..40);
    (events, any::<bool>(), prop_oneof![4 => Just(true), 1 => Just(false)])
}

/// A long run whose seq rises on the whole, with steps back that reach beyond the fingerprints.
fn a_long_run() -> impl Strategy<Value = Vec<Event>> {
    let step = prop_oneof![4 => 0..3i64, 1 => -45..0i64];
    let stream = 0..STREAM_NAMES.len();
    let ts = prop_oneof![6 => Just(Some(0)), 1 => Just(None), 1 => (0..3u64).prop_map(Some)];
    proptest::collection::vec((step, stream, ts), 40..160).prop_map(|steps| {
        let place = |(i, (step, stream, ts)): (usize, (i64, usize, Option<u64>))| {
            // Now and then the clock moves on for all.
            let ts = ts.map(|ts| ts + i as u64 / 60);
            event("r", (i as i64 + step).max(0) as u64).stream(STREAM_NAMES[stream]).ts(ts)
        };
        steps.into_iter().enumerate().map(place).collect()
    })
}

fn agrees_with_the_unbounded_twin(order: Order, events: &[Event]) -> Result<(), TestCaseError> {
    let mut ledger = Ledger::new(order, 1000, FOREVER);
    let mut twin: HashMap<&str, TwinRun> = HashMap::new();
    for (i, event) in events.iter().enumerate() {
        let expected = twin.entry(&event.run).or_default().judge(order, event, 0);
        prop_assert_eq!(ledger.judge(&stamp(event), 0), expected, "event {} of {:#?}", i, events);
    }
    prop_assert_eq!(ledger.len(), twin.len());
    prop_assert_eq!(ledger.take_departed(), Departed::default());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_ledger_with_room_agrees_with_the_naive_table(
        order in any_order(),
        events in proptest::collection::vec(any_event(3, 9), 1..120),
    ) {
        agrees_with_the_unbounded_twin(order, &events)?;
    }

    #[test]
    fn a_long_run_agrees_with_the_naive_table(order in any_order(), events in a_long_run()) {
        agrees_with_the_unbounded_twin(order, &events)?;
    }

    #[test]
    fn a_bounded_ledger_agrees_with_the_naive_one_and_never_exceeds_its_capacity(
        order in any_order(),
        capacity in 1..6usize,
        ttl in prop_oneof![Just(20u64), Just(100_000)],
        events in proptest::collection::vec((any_event(9, 5), prop_oneof![8 => 0..3u64, 2 => 0..30u64, 1 => 1990..2010u64]), 1..120),
    ) {
        let mut ledger = Ledger::new(order, capacity, ttl);
        let mut twin = BoundedTwin::new(order, capacity, ttl);
        let mut now = 0;
        for (event, pause) in &events {
            now += pause;
            prop_assert_eq!(ledger.judge(&stamp(event), now), twin.judge(event, now), "{:?} at {}", event, now);
            prop_assert!(ledger.len() <= capacity);
            prop_assert_eq!(ledger.len(), twin.runs.len());
            let oldest = twin.runs.iter().map(|(_, seen, _)| seen + ttl).min();
            prop_assert_eq!(ledger.next_expiry(), oldest);
        }
        prop_assert_eq!(ledger.take_departed(), twin.departed);
    }

    /// Runs of one id, one after the other, on a clock that steps by up to an hour either way between and within them. Each
    /// begins with a start, and ends unless the next comes after a silence.
    #[test]
    fn no_event_of_a_real_run_is_lost_however_the_clock_steps(
        turns in proptest::collection::vec(a_turn(), 1..8),
        order in any_order(),
    ) {
        let (mut clock, mut now) = (100_000_000i64, 0);
        let mut ledger = Ledger::new(order, 10, FOREVER);
        let mut sent = Vec::new();
        for (steps, is_prepared, ends) in turns {
            let count = steps.len();
            for (i, (step, pause, stream)) in steps.into_iter().enumerate() {
                clock = (clock + pause + step).max(0);
                now += pause as u64;
                let event = event("r", i as u64 + 1).ts(clock as u64);
                let event = match i {
                    0 if is_prepared => event.phase("preparing_workspace").stream("run_status"),
                    0 => event.phase("start"),
                    _ if i + 1 == count && ends => event.phase("end"),
                    _ => event.stream(["assistant", "tool", "item"][stream]),
                };
                // An event with the number, stream and time of another is a repeat by definition.
                let mark = (event.seq, event.stream.clone(), event.ts);
                let is_repeat = sent.contains(&mark);
                sent.push(mark);
                let verdict = ledger.judge(&stamp(&event), now);
                prop_assert!(is_repeat || !verdict.drops(), "{:?} of {} at {}", verdict, event, now);
            }
            now += if ends { 1 } else { SILENCE };
            clock += if ends { 1 } else { SILENCE as i64 };
        }
    }

    /// Two names beside a ledger for each.
    #[test]
    fn events_of_two_names_are_judged_as_on_two_connections(
        order in any_order(),
        events in proptest::collection::vec((any_event(3, 9), any::<bool>()), 1..120),
    ) {
        let names = ["agent".to_owned(), "other".to_owned()];
        let mut both = Ledger::new(order, 100, FOREVER);
        let mut apart = [(); 2].map(|()| Ledger::new(order, 100, FOREVER));
        for (event, is_other) in &events {
            let stamp_of_both = named(&names, &names[usize::from(*is_other)], event);
            let expected = apart[usize::from(*is_other)].judge(&stamp(event), 0);
            prop_assert_eq!(both.judge(&stamp_of_both, 0), expected);
        }
    }

    /// Behind the first difference they know different things, and may differ either way.
    #[test]
    fn where_two_orders_first_differ_the_stricter_drops_what_the_laxer_calls_late(
        events in proptest::collection::vec(any_event(1, 9), 1..40),
    ) {
        let [stream, run, any] = ORDERS.map(|order| verdicts(order, &events));
        let first = |strict: &[Verdict], lax: &[Verdict]| {
            strict.iter().zip(lax).find(|(a, b)| a != b).map(|(a, b)| (*a, *b))
        };
        for pair in [first(&run, &stream), first(&stream, &any), first(&run, &any)].into_iter().flatten() {
            prop_assert_eq!(pair, (OutOfOrder, Late));
        }
    }
}
