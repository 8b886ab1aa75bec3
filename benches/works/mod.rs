//! The parts of judging an event, an event a call. Each call asserts its result.

use std::hint::black_box;
use std::sync::Arc;

use bench::events::Events;
use seqgate::distinct::Distinct;
use seqgate::event::{self, Claim, Form, Subject};
use seqgate::filter::{Ledger, Order, Verdict};
use seqgate::sieve::{Mode, Rules, Sieve, Step};
use seqgate::stamp::{Secret, Stamp};

/// Bytes of the events.
pub(crate) const SIZES: [usize; 3] = [300, 1024, 16 * 1024];
/// Runs that the ledger holds.
pub(crate) const RUNS: usize = 1000;

/// The same in each process: what hashing costs must not depend on chance.
const SECRET: [u8; 16] = [7; 16];
const TTL: u64 = 3_600_000;

/// A part of judging.
pub(crate) struct Work {
    /// Its name.
    pub(crate) name: &'static str,
    /// Bytes of the events, or how many runs there are.
    pub(crate) size: usize,
    /// Does it with one event.
    pub(crate) run: Box<dyn FnMut()>,
}

/// All of them.
pub(crate) fn all() -> Vec<Work> {
    let mut works = Vec::new();
    for size in SIZES {
        works.push(Work { name: "peek", size, run: Box::new(peek(size)) });
    }
    for size in SIZES {
        works.push(Work { name: "glance", size, run: Box::new(glance(size)) });
    }
    for size in SIZES {
        works.push(Work { name: "form", size, run: Box::new(form(size)) });
    }
    for size in SIZES {
        works.push(Work { name: "sieve", size, run: Box::new(sieve(size)) });
    }
    works.push(Work { name: "stamp", size: 1024, run: Box::new(stamp()) });
    works.push(Work { name: "ledger", size: RUNS, run: Box::new(ledger()) });
    works
}

/// What an event says of itself.
fn peek(size: usize) -> impl FnMut() {
    let filtered = names();
    let events = Events::new(size, 1);
    move || {
        let sighting = event::peek(black_box(events.text()), &filtered).expect("the event is JSON");
        assert_eq!(sighting.outer.map(|outer| outer.value), Some(1));
        assert!(matches!(sighting.subject, Subject::Event(claim) if claim.seq == 1));
    }
}

/// The same, by its two ends.
fn glance(size: usize) -> impl FnMut() {
    let filtered = names();
    let events = Events::new(size, 1);
    move || {
        let glance = event::glance(black_box(events.text()), &filtered).expect("the ends say all");
        assert_eq!(glance.sighting.outer.map(|outer| outer.value), Some(1));
        assert!(matches!(glance.sighting.subject, Subject::Event(claim) if claim.seq == 1));
    }
}

/// The same, by the form of an earlier event.
fn form(size: usize) -> impl FnMut() {
    let mut events = Events::new(size, 1);
    let layout = event::glance(events.text(), &names()).and_then(|glance| glance.layout);
    let form = Form::of(events.text(), &layout.expect("the usual order")).expect("short ends");
    events.advance();
    move || {
        let filled = form.read(black_box(events.text())).expect("the same form");
        assert_eq!((filled.other_run, filled.seq, filled.outer.value), (None, 2, 2));
    }
}

/// An event in a few words of fixed size.
fn stamp() -> impl FnMut() {
    let claim = claim(Events::new(1024, 1).text().to_vec().leak());
    let secret = Secret::new(SECRET);
    move || assert_eq!(Stamp::new(black_box(&claim), &secret).seq, 1)
}

/// The rule table, in a steady state: all runs are known, and each event is the next of its run.
fn ledger() -> impl FnMut() {
    let secret = Secret::new(SECRET);
    let mut ledger = Ledger::new(Order::Stream, RUNS, TTL);
    let mut events = Events::new(300, RUNS as u64);
    let mut stamps = Vec::new();
    for _ in 0..RUNS {
        stamps.push(Stamp::new(&claim(events.text()), &secret));
        events.advance();
    }
    for stamp in &stamps {
        assert_eq!(ledger.judge(stamp, 0), Verdict::NewRun);
    }
    let mut turn = 0;
    move || {
        let stamp = &mut stamps[turn];
        stamp.seq += 1;
        stamp.ts = stamp.ts.map(|ts| ts + RUNS as u64);
        stamp.mark = stamp.mark.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        assert_eq!(ledger.judge(black_box(stamp), 0), Verdict::InOrder);
        turn = (turn + 1) % RUNS;
    }
}

/// All of it, from the frame's head to the tally.
fn sieve(size: usize) -> impl FnMut() {
    let mut sieve = Sieve::judging(Arc::new(Rules {
        mode: Mode::Enforce,
        order: Order::Stream,
        events: names(),
        runs: 1024,
        ttl: TTL,
        inspect_limit: 256 * 1024,
        secret: Secret::new(SECRET),
        distinct: Distinct::default(),
    }));
    let mut events = Events::new(size, 1);
    // New to the sieve; every later event is in order.
    sieve.step(events.frame(), 0);
    sieve.take_tally();
    move || {
        events.advance();
        let frame = black_box(events.frame());
        assert_eq!(sieve.step(frame, 0), Step::Pass(frame.len()));
        assert_eq!(sieve.take_tally().judged[Verdict::InOrder as usize], 1);
    }
}

fn names() -> Vec<String> {
    vec!["agent".to_owned()]
}

fn claim(text: &[u8]) -> Claim<'_> {
    match event::peek(text, &names()).expect("the event is JSON").subject {
        Subject::Event(claim) => claim,
        other => panic!("{other:?}"),
    }
}
