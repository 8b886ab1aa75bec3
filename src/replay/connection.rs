//! One recorded connection: its ledger, and beside it one that is as large as it gets.

use super::need::Need;
use super::trail::Trails;
use crate::filter::{Departed, Ledger, Verdict};
use crate::sieve::{Rules, Unjudged};
use crate::stamp::Stamp;

/// What became of the events of one or more connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Judged events, by `Verdict as usize`.
    pub judged: [u64; Verdict::ALL.len()],
    /// Frames without a verdict, by `Unjudged as usize`.
    pub unjudged: [u64; Unjudged::ALL.len()],
    /// Runs tracked at one time in one connection, at most.
    pub tracked: u64,
    /// Runs evicted for want of space: while they went on, and after their end.
    pub evicted: [u64; 2],
    /// Runs not heard of for the TTL.
    pub expired: u64,
    /// Runs that came back after they were evicted.
    pub returned: u64,
    /// The smallest ledger with which none would have.
    pub least: u64,
    /// That may be too small: there were more runs than could be followed.
    pub is_rough: bool,
}

impl Counts {
    /// Events that were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        Verdict::ALL.into_iter().filter(|verdict| verdict.drops()).map(|v| self.judged[v as usize]).sum()
    }

    /// All frames.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.judged.iter().chain(&self.unjudged).sum()
    }

    /// Adds those of another connection.
    pub fn add(&mut self, other: &Self) {
        let sum = |into: &mut [u64], from: &[u64]| into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        sum(&mut self.judged, &other.judged);
        sum(&mut self.unjudged, &other.unjudged);
        sum(&mut self.evicted, &other.evicted);
        self.expired += other.expired;
        self.returned += other.returned;
        self.tracked = self.tracked.max(other.tracked);
        self.least = self.least.max(other.least);
        self.is_rough |= other.is_rough;
    }

    fn depart(&mut self, departed: Departed) {
        self.evicted[0] += u64::from(departed.live);
        self.evicted[1] += u64::from(departed.ended);
        self.expired += u64::from(departed.expired);
    }
}

/// A connection as the recording shows it.
pub(super) struct Connection {
    /// Unique in a replay.
    pub(super) number: u64,
    pub(super) name: Option<String>,
    /// The newest time of the connection, in milliseconds of the recorder's clock, or of the events' `ts` where a line
    /// has no other. It never goes back: while the gateway's clock is behind an earlier `ts`, it does not advance, so
    /// no run expires and no silence is seen.
    pub(super) now: u64,
    pub(super) ledger: Ledger,
    /// A ledger in which next to nothing is forgotten, and how large it would have had to be. None once that became too much.
    wide: Option<(Ledger, Need)>,
    pub(super) counts: Counts,
}

impl Connection {
    pub(super) fn new(number: u64, name: Option<String>, rules: &Rules, most_runs: usize) -> Self {
        let ledger = |runs| Ledger::new(rules.order, runs, rules.ttl);
        Self {
            number,
            name,
            now: 0,
            ledger: ledger(rules.runs),
            wide: Some((ledger(most_runs), Need::new(most_runs, rules.ttl))),
            counts: Counts::default(),
        }
    }

    /// Runs that are followed besides those of the ledger.
    pub(super) fn wide_runs(&self) -> usize {
        self.wide.as_ref().map_or(0, |(_, need)| need.len())
    }

    /// Judges an event.
    pub(super) fn judge(&mut self, stamp: &Stamp, line: u64, trails: &mut Trails) -> Verdict {
        let verdict = self.ledger.judge(stamp, self.now);
        self.counts.judged[verdict as usize] += 1;
        if !verdict.drops() {
            trails.pass(self.number, stamp, line);
        }
        if let Some((wide, need)) = &mut self.wide {
            wide.judge(stamp, self.now);
            let has_ended = wide.known(stamp.run).is_some_and(|run| run.has_ended());
            let was_known = need.touch(stamp.run, has_ended, self.now);
            self.counts.returned += u64::from(was_known && verdict == Verdict::NewRun);
            self.counts.least = need.least as u64;
            self.counts.is_rough |= need.is_rough;
        }
        if verdict == Verdict::NewRun {
            self.take_stock();
        }
        verdict
    }

    /// Brings the counts of runs up to date.
    pub(super) fn take_stock(&mut self) {
        self.counts.depart(self.ledger.take_departed());
        self.counts.tracked = self.counts.tracked.max(self.ledger.len() as u64);
    }

    /// Stops asking how large the ledger would have to be.
    pub(super) fn give_up_on_size(&mut self) {
        self.wide = None;
        self.counts.is_rough = true;
    }
}
