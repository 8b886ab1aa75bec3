//! A sieve at work, as the relay uses it: a window that grows by chunks and shrinks by steps.

use std::sync::Arc;

use seqgate::distinct::Distinct;
use seqgate::filter::{Departed, Order, Verdict};
use seqgate::sieve::{Dropped, Mode, Rules, Sieve, Step, TAIL, Tally, Unjudged};
use seqgate::stamp::Secret;
use seqgate::wire::MAX_HEAD;

/// Rules with the defaults of the settings, but few runs.
pub(crate) fn rules(mode: Mode) -> Rules {
    Rules {
        mode,
        order: Order::Stream,
        events: vec!["agent".into()],
        runs: 64,
        ttl: 3_600_000,
        inspect_limit: 256 * 1024,
        secret: Secret::new([7; 16]),
        distinct: Distinct::default(),
    }
}

/// One connection.
pub(crate) struct Pump {
    pub(crate) sieve: Sieve,
    /// What the window may grow to while nothing can be said.
    bound: usize,
    pub(crate) now: u64,
    pub(crate) window: Vec<u8>,
    pub(crate) out: Vec<u8>,
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) tally: Tally,
    /// The most bytes that the sieve asked to have before it would say anything.
    pub(crate) asked: usize,
    /// After each step: the bytes that had passed, and whether a frame of our own could have followed.
    pub(crate) boundaries: Vec<(usize, bool)>,
}

impl Pump {
    pub(crate) fn new(rules: Rules) -> Self {
        let bound = rules.inspect_limit + 2 * MAX_HEAD;
        // Control frames and the ends of messages are waited for whatever the limit.
        let bound = bound.max(TAIL + 125 + 2 * MAX_HEAD);
        let sieve = Sieve::judging(Arc::new(rules));
        let tally = Tally::default();
        Self {
            boundaries: vec![(0, sieve.at_boundary())],
            sieve,
            bound,
            now: 0,
            window: Vec::new(),
            out: Vec::new(),
            dropped: Vec::new(),
            tally,
            asked: 0,
        }
    }

    /// What is undecided has waited long enough.
    /// False if it has to wait on.
    pub(crate) fn give_up(&mut self) -> bool {
        self.sieve.give_up(&self.window)
    }

    /// Bytes arrive; every step that can be taken is taken.
    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        self.window.extend(chunk);
        while !self.window.is_empty() {
            let held = self.window.len();
            let n = match self.sieve.step(&mut self.window, self.now) {
                Step::Pass(n) => {
                    self.out.extend(&self.window[..n]);
                    n
                }
                Step::Drop(n, dropped) => {
                    self.dropped.extend(dropped);
                    n
                }
                Step::More(needed) => {
                    assert!(needed > held, "{held} bytes are there, {needed} are asked for");
                    assert!(needed <= self.bound, "{needed} bytes are asked for");
                    self.asked = self.asked.max(needed);
                    break;
                }
            };
            assert!(0 < n && n <= held, "a step of {n} bytes in a window of {held}");
            self.window.drain(..n);
            self.boundaries.push((self.out.len(), self.sieve.at_boundary()));
        }
        add(&mut self.tally, &self.sieve.take_tally());
    }

    /// All these bytes in chunks of these sizes, over and over.
    pub(crate) fn feed_in(&mut self, bytes: &[u8], sizes: &[usize]) {
        chunks(bytes, sizes).for_each(|chunk| self.feed(chunk));
    }

    /// The stream ends: what is held goes out.
    pub(crate) fn end(&mut self) {
        self.out.append(&mut self.window);
    }

    pub(crate) fn judged(&self, verdict: Verdict) -> u32 {
        self.tally.judged[verdict as usize]
    }

    pub(crate) fn unjudged(&self, reason: Unjudged) -> u32 {
        self.tally.unjudged[reason as usize]
    }
}

/// Bytes in chunks of these sizes, over and over; no sizes: in one chunk.
pub(crate) fn chunks<'a>(bytes: &'a [u8], sizes: &[usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len().max(1)));
        let chunk;
        (chunk, rest) = rest.split_at_checked(size)?;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// A whole stream through a new sieve in chunks of these sizes; no sizes: in one chunk.
pub(crate) fn strain(rules: Rules, bytes: &[u8], sizes: &[usize]) -> Pump {
    let mut pump = Pump::new(rules);
    pump.feed_in(bytes, sizes);
    pump.end();
    pump
}

fn add(sum: &mut Tally, more: &Tally) {
    let Tally { judged, unjudged, frames, rewritten, read_whole, read_ends, disagreed, unreadable, departed } =
        more;
    let counters = |sum: &mut [u32], more: &[u32]| sum.iter_mut().zip(more).for_each(|(s, m)| *s += m);
    counters(&mut sum.judged, judged);
    counters(&mut sum.unjudged, unjudged);
    counters(&mut sum.frames, frames);
    sum.rewritten += rewritten;
    sum.read_whole += read_whole;
    sum.read_ends += read_ends;
    sum.disagreed += disagreed;
    sum.unreadable += unreadable;
    sum.departed = Departed {
        live: sum.departed.live + departed.live,
        ended: sum.departed.ended + departed.ended,
        expired: sum.departed.expired + departed.expired,
        returned: sum.departed.returned + departed.returned,
    };
}
