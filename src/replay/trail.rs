//! In which lines the last events of runs stood. The ledger knows what it judges by, and nothing of lines.

use std::collections::VecDeque;
use std::hash::RandomState;

use lru::LruCache;

use crate::filter::RECENT;
use crate::stamp::{RunKey, Stamp};

/// Runs whose lines are remembered, of all connections together. Others are explained without lines.
const RUNS: usize = 16_384;

/// An event that went on.
struct Passed {
    line: u64,
    stream: u64,
    seq: u64,
}

/// The last [`RECENT`] events of each run that went on, the newest at the end: those whose fingerprints the ledger has.
type Trail = VecDeque<Passed>;

/// The trails of all connections, by the connection's number and the run.
pub(super) struct Trails(LruCache<(u64, RunKey), Trail, RandomState>);

impl Trails {
    pub(super) fn new() -> Self {
        Self(LruCache::unbounded_with_hasher(RandomState::new()))
    }

    /// An event went on.
    pub(super) fn pass(&mut self, connection: u64, stamp: &Stamp, line: u64) {
        if self.0.len() == RUNS && !self.0.contains(&(connection, stamp.run)) {
            self.0.pop_lru();
        }
        let trail = self.0.get_or_insert_mut((connection, stamp.run), Trail::new);
        if trail.len() == RECENT {
            trail.pop_front();
        }
        trail.push_back(Passed { line, stream: stamp.stream, seq: stamp.seq });
    }

    /// The line of the event that passed so many events ago, 0 for the last one.
    pub(super) fn line_of_age(&self, connection: u64, run: RunKey, age: usize) -> Option<u64> {
        self.0.peek(&(connection, run))?.iter().rev().nth(age).map(|passed| passed.line)
    }

    /// The line of the event with this seq, of this stream or of any.
    pub(super) fn line_of_seq(
        &self,
        connection: u64,
        run: RunKey,
        seq: u64,
        stream: Option<u64>,
    ) -> Option<u64> {
        let trail = self.0.peek(&(connection, run))?;
        let is_it = |p: &&Passed| p.seq == seq && stream.is_none_or(|stream| stream == p.stream);
        trail.iter().rev().find(is_it).map(|passed| passed.line)
    }
}
