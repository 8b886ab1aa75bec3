//! What a ledger knows of a run, for whoever wants to explain a verdict.

use super::{Ledger, RECENT, Run};
use crate::stamp::RunKey;

/// A tracked run. A dropped event changes only [`Known::seen`], so the rest still shows what a drop was measured against.
#[derive(Clone, Copy)]
pub struct Known<'a>(&'a Run);

impl Ledger {
    /// What is known of a run; asking does not count as using it.
    #[must_use]
    pub fn known(&self, run: RunKey) -> Option<Known<'_>> {
        self.live.peek(&run).or_else(|| self.ended.peek(&run)).map(|run| Known(run))
    }
}

impl Known<'_> {
    /// The highest seq.
    #[must_use]
    pub fn high(&self) -> u64 {
        self.0.high
    }

    /// The newest ts, in milliseconds.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.0.newest
    }

    /// A terminal lifecycle event was seen.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.ended
    }

    /// When its last event arrived, dropped or not, in the ledger's milliseconds.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.0.seen
    }

    /// The highest seq of a stream, if it is among those that are told apart.
    #[must_use]
    pub fn stream_high(&self, stream: u64) -> Option<u64> {
        self.0.stream_high(stream)
    }

    /// How many events ago one with this fingerprint passed: 0 is the last one that did, `0 <= age < RECENT`.
    #[must_use]
    pub fn age(&self, mark: u64) -> Option<usize> {
        let newest = usize::from(self.0.recent_next) + RECENT - 1;
        (0..usize::from(self.0.recent_count)).find(|age| self.0.recent[(newest - age) % RECENT] == mark)
    }
}
