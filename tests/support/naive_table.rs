//! The rule table, naively: by name, in vectors and maps, without a bound on anything but what the table bounds. The
//! naive twins of `seqgate::filter`.

use std::collections::HashMap;

use seqgate::event::{self, Claim, Subject};
use seqgate::filter::Verdict::{Duplicate, Gap, InOrder, Late, NewRun, OutOfOrder, Restarted};
use seqgate::filter::{Departed, Order, RECENT, STREAMS, Verdict};
use seqgate::stamp::{Secret, Stamp};

use super::events::Event;

pub(crate) fn with_claim<T>(text: &str, then: impl FnOnce(&Claim<'_>) -> T) -> T {
    match event::peek(text.as_bytes(), &["agent".into()]).unwrap().subject {
        Subject::Event(claim) => then(&claim),
        other => panic!("{text}: {other:?}"),
    }
}

pub(crate) fn stamp_of(text: &str) -> Stamp {
    with_claim(text, |claim| Stamp::new(claim, &Secret::new([7; 16])))
}

pub(crate) fn stamp(event: &Event) -> Stamp {
    stamp_of(&event.to_string())
}

#[derive(Clone, PartialEq)]
enum Body {
    Ts(u64),
    Payload(String),
}

type Mark = (u64, String, Body);

fn mark(event: &Event) -> Mark {
    (event.seq, event.stream.clone(), event.ts.map_or_else(|| Body::Payload(event.payload()), Body::Ts))
}

/// The table for one run.
#[derive(Default)]
pub(crate) struct TwinRun {
    high: Option<u64>,
    newest: Option<u64>,
    ended: bool,
    streams: HashMap<String, u64>,
    recent: Vec<Mark>,
    /// When an event last arrived, dropped or not.
    seen: u64,
}

impl TwinRun {
    pub(crate) fn judge(&mut self, order: Order, event: &Event, now: u64) -> Verdict {
        let verdict = self.verdict(order, event, now);
        if verdict == Restarted {
            *self = Self::default();
        }
        if !verdict.drops() {
            self.pass(event);
        }
        self.seen = now;
        verdict
    }

    /// The rows in the order in which they are numbered.
    fn verdict(&self, order: Order, event: &Event, now: u64) -> Verdict {
        let Some(high) = self.high else { return NewRun };
        if let (Some(ts), Some(newest)) = (event.ts, self.newest)
            && event.seq <= high
            && ts > newest
        {
            return Restarted;
        }
        if self.recent.contains(&mark(event)) {
            return Duplicate;
        }
        let at_its_end = if event.ts.is_some() { event.ts == self.newest } else { event.seq == 1 };
        if event.seq <= high && self.ended && at_its_end {
            return Restarted;
        }
        if event.seq > high {
            return if event.seq == high + 1 { InOrder } else { Gap };
        }
        // A clock that stepped back: a start after the end, or anything unknown after a silence.
        if self.ended && event.starts() || now >= self.seen + 2000 {
            return Restarted;
        }
        let overtaken = self.streams.get(&event.stream).is_none_or(|high| event.seq > *high);
        if order == Order::Any || order == Order::Stream && overtaken { Late } else { OutOfOrder }
    }

    fn pass(&mut self, event: &Event) {
        self.recent.push(mark(event));
        if self.recent.len() > RECENT {
            self.recent.remove(0);
        }
        self.ended |= event.ends();
        if Some(event.seq) > self.high && event.ts.is_some() && event.ts < self.newest {
            return;
        }
        self.high = self.high.max(Some(event.seq));
        self.newest = self.newest.max(event.ts);
        if self.streams.len() < STREAMS || self.streams.contains_key(&event.stream) {
            let high = self.streams.entry(event.stream.clone()).or_default();
            *high = event.seq.max(*high);
        }
    }
}

/// Capacity, TTL and eviction.
pub(crate) struct BoundedTwin {
    order: Order,
    capacity: usize,
    ttl: u64,
    /// Name, when last seen, state; the least recently used first.
    pub(crate) runs: Vec<(String, u64, TwinRun)>,
    /// Names evicted for want of space, until they return; only the last 256 count.
    evicted: Vec<Option<String>>,
    pub(crate) departed: Departed,
}

impl BoundedTwin {
    pub(crate) fn new(order: Order, capacity: usize, ttl: u64) -> Self {
        let (runs, evicted, departed) = (Vec::new(), Vec::new(), Departed::default());
        Self { order, capacity, ttl, runs, evicted, departed }
    }

    pub(crate) fn judge(&mut self, event: &Event, now: u64) -> Verdict {
        let before = self.runs.len();
        self.runs.retain(|(_, seen, _)| seen + self.ttl > now);
        self.departed.expired += (before - self.runs.len()) as u32;
        let mut entry = match self.runs.iter().position(|(name, ..)| *name == event.run) {
            Some(place) => self.runs.remove(place),
            None => {
                self.make_room();
                if let Some(ghost) =
                    self.evicted.iter_mut().rev().take(256).find(|ghost| ghost.as_ref() == Some(&event.run))
                {
                    *ghost = None;
                    self.departed.returned += 1;
                }
                (event.run.clone(), now, TwinRun::default())
            }
        };
        let verdict = entry.2.judge(self.order, event, now);
        entry.1 = now;
        self.runs.push(entry);
        verdict
    }

    fn make_room(&mut self) {
        if self.runs.len() < self.capacity {
            return;
        }
        let ended = self.runs.iter().position(|(.., run)| run.ended);
        let (name, ..) = self.runs.remove(ended.unwrap_or(0));
        self.evicted.push(Some(name));
        match ended {
            Some(_) => self.departed.ended += 1,
            None => self.departed.live += 1,
        }
    }
}
