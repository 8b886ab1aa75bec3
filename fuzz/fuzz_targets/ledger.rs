//! Whatever the events, the ledger says what its naive twin says, event by event; and it never holds more runs than it
//! was given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seqgate::filter::{Ledger, Order};
use support::events::{Event, event};
use support::naive_table::{BoundedTwin, stamp};

#[path = "../../tests/support/mod.rs"]
mod support;

const STREAMS: [&str; 12] = [
    "lifecycle",
    "assistant",
    "run_status",
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

fuzz_target!(|input: &[u8]| {
    let Some((&[order, capacity, ttl], script)) = input.split_first_chunk() else { return };
    let order = [Order::Stream, Order::Run, Order::Any][usize::from(order % 3)];
    let capacity = usize::from(capacity % 6) + 1;
    let ttl = if ttl % 4 == 0 { 20 } else { 100_000 };
    let mut ledger = Ledger::new(order, capacity, ttl);
    let mut twin = BoundedTwin::new(order, capacity, ttl);
    let mut now = 0;
    for &[who, seq, when, what] in script.as_chunks().0 {
        // Up to 15 ms, and sometimes more than the silence after which a run restarts.
        now += u64::from(when >> 4) * if what >> 4 == 0 { 200 } else { 1 };
        let event = read(who, seq, when, what);
        assert_eq!(ledger.judge(&stamp(&event), now), twin.judge(&event, now), "{event} at {now}");
        assert!(ledger.len() <= capacity);
        assert_eq!(ledger.len(), twin.runs.len());
    }
    assert_eq!(ledger.take_departed(), twin.departed);
});

/// An event from a world so small that everything collides.
fn read(who: u8, seq: u8, when: u8, what: u8) -> Event {
    let mut event = event(&format!("run-{}", who % 9), u64::from(seq))
        .stream(STREAMS[usize::from(who >> 4) % STREAMS.len()])
        .text(if what & 1 == 0 { "a" } else { "b" })
        .ts((when & 7 > 0).then_some(u64::from(when & 7)));
    event.phase = ["start", "end", "error", "preparing_workspace"]
        .get(usize::from(what >> 1 & 7))
        .map(|phase| (*phase).to_owned());
    event
}
