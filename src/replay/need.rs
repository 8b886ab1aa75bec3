//! How many runs one connection's ledger has to hold so that none is forgotten before its last event.
//!
//! A ledger evicts by rank: runs that have ended before live ones, each least recently used first. So what a ledger
//! of size n holds is also in one of size n + 1, and all sizes together are one stack: the first n runs of it
//! are what a ledger of size n holds. A run that is used again at a place of the stack needs a ledger of that size; the
//! largest such place is the answer.
//!
//! When a run is used it goes on top. What stood there sinks and takes the place of the next run of lower rank, which
//! sinks on in turn, until the place that was left, an empty one, or the end. So live runs stand in their places in
//! the order of their use, runs that have ended in theirs, and it is enough to know which places are whose.

use std::collections::{HashMap, VecDeque};

use super::forgotten::Forgotten;
use crate::stamp::RunKey;

/// A run's last use.
struct Use {
    /// Counts uses; unique.
    tick: u64,
    /// When, in the caller's milliseconds.
    seen: u64,
    run: RunKey,
}

/// The stack of one connection. Places count from 1; those that are neither in `ended_places` nor in `empty_places`
/// are those of live runs.
pub(super) struct Need {
    most: usize,
    ttl: u64,
    /// The tick of each run's last use, and whether it has ended.
    runs: HashMap<RunKey, (u64, bool)>,
    /// The least recently used first.
    live: VecDeque<Use>,
    ended: VecDeque<Use>,
    /// Rising.
    ended_places: VecDeque<usize>,
    /// Rising: where runs stood that have expired.
    empty_places: VecDeque<usize>,
    tick: u64,
    /// The size that was needed so far.
    pub(super) least: usize,
    /// Those that there was no room for.
    forgotten: Forgotten,
    /// One of these may have come back: more may have been needed.
    pub(super) is_rough: bool,
}

impl Need {
    /// An empty stack of at most so many runs, which expire after `ttl` of the caller's milliseconds.
    pub(super) fn new(most: usize, ttl: u64) -> Self {
        Self {
            most,
            ttl,
            runs: HashMap::new(),
            live: VecDeque::new(),
            ended: VecDeque::new(),
            ended_places: VecDeque::new(),
            empty_places: VecDeque::new(),
            tick: 0,
            least: 0,
            forgotten: Forgotten::default(),
            is_rough: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// A run is used, and whether it has ended by now; true if it was in the stack.
    pub(super) fn touch(&mut self, run: RunKey, has_ended: bool, now: u64) -> bool {
        self.expire(now);
        let before = self.runs.get(&run).copied();
        if before == Some((self.tick, has_ended)) {
            // On top already.
            if let Some(last) = self.side(has_ended).back_mut() {
                last.seen = now;
            }
            return true;
        }
        let place = before.map(|(tick, had_ended)| self.take(tick, had_ended));
        self.least = self.least.max(place.unwrap_or(1));
        self.is_rough |= place.is_none() && self.forgotten.may_hold(run);
        self.sink(place);
        if has_ended {
            self.ended_places.push_front(1);
        }
        self.tick += 1;
        self.runs.insert(run, (self.tick, has_ended));
        let last = Use { tick: self.tick, seen: now, run };
        self.side(has_ended).push_back(last);
        place.is_some()
    }

    /// Makes room on top: what is there sinks, to the place that was left at most.
    fn sink(&mut self, left: Option<usize>) {
        // The run that is used is in no list now, but still in the map where it was in the stack.
        let end = left.unwrap_or(self.runs.len() + self.empty_places.len() + 1);
        let empty = self.empty_places.pop_front_if(|empty| *empty < end);
        if let (Some(_), Some(left)) = (empty, left) {
            insert(&mut self.empty_places, left);
        }
        let bottom = empty.unwrap_or(end);
        let ended_sinks = self.ended_places.pop_front_if(|place| *place < bottom).is_some();
        if bottom > self.most {
            if let Some(lost) = self.side(ended_sinks).pop_front() {
                self.runs.remove(&lost.run);
                self.forgotten.add(lost.run);
            }
        } else if ended_sinks {
            insert(&mut self.ended_places, bottom);
        }
    }

    /// Takes a run out of its place.
    fn take(&mut self, tick: u64, has_ended: bool) -> usize {
        let side = self.side(has_ended);
        let index = side.partition_point(|earlier| earlier.tick < tick);
        let rank = side.len() - index;
        side.remove(index);
        if has_ended { self.ended_places.remove(rank - 1).unwrap_or_default() } else { self.live_place(rank) }
    }

    /// Where the live run stands that so many, itself included, were used since.
    fn live_place(&self, rank: usize) -> usize {
        let upto = |places: &VecDeque<usize>, place: usize| places.partition_point(|p| *p <= place);
        let others = self.ended_places.len() + self.empty_places.len();
        let (mut low, mut high) = (rank, rank + others);
        while low < high {
            let middle = low.midpoint(high);
            let live = middle - upto(&self.ended_places, middle) - upto(&self.empty_places, middle);
            if live < rank {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// As [`crate::filter::Ledger::expire`].
    fn expire(&mut self, now: u64) {
        for has_ended in [false, true] {
            let ttl = self.ttl;
            while let Some(old) =
                self.side(has_ended).front().filter(|old| old.seen.saturating_add(ttl) <= now)
            {
                let (tick, run) = (old.tick, old.run);
                let place = self.take(tick, has_ended);
                self.runs.remove(&run);
                insert(&mut self.empty_places, place);
            }
        }
        if self.runs.is_empty() {
            self.empty_places.clear();
        }
    }

    fn side(&mut self, ended: bool) -> &mut VecDeque<Use> {
        if ended { &mut self.ended } else { &mut self.live }
    }
}

/// Keeps the places rising.
fn insert(places: &mut VecDeque<usize>, place: usize) {
    places.insert(places.partition_point(|p| *p < place), place);
}
