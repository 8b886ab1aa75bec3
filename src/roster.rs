//! The live relays, for what is asked of all of them at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::filter::Verdict;
use crate::sieve::Tally;

/// All live relays.
#[derive(Default)]
pub struct Roster {
    next: AtomicU64,
    members: Mutex<HashMap<u64, Arc<Member>>>,
}

/// What a relay says about itself.
pub struct Member {
    /// Its messages are judged.
    pub judged: bool,
    /// When it began.
    pub since: Instant,
    /// Runs tracked now.
    pub runs: AtomicUsize,
    /// Events so far, by `Verdict as usize`.
    events: [AtomicU64; Verdict::ALL.len()],
    unjudged: AtomicU64,
}

impl Member {
    fn new(judged: bool) -> Self {
        Self {
            judged,
            since: Instant::now(),
            runs: AtomicUsize::default(),
            events: Default::default(),
            unjudged: AtomicU64::default(),
        }
    }

    /// Adds what the relay's sieve has seen.
    pub fn add(&self, tally: &Tally) {
        let judged = self.events.iter().zip(&tally.judged);
        let unjudged = tally.unjudged.iter().map(|n| (&self.unjudged, n));
        for (counter, n) in judged.chain(unjudged).filter(|(_, n)| **n > 0) {
            counter.fetch_add(u64::from(*n), Relaxed);
        }
    }

    /// Events with this verdict so far.
    #[must_use]
    pub fn events(&self, verdict: Verdict) -> u64 {
        self.events[verdict as usize].load(Relaxed)
    }

    /// Events so far that were judged and are no repeats.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        Verdict::ALL.iter().filter(|verdict| !verdict.drops()).map(|verdict| self.events(*verdict)).sum()
    }

    /// Messages so far that passed without a verdict.
    #[must_use]
    pub fn unjudged(&self) -> u64 {
        self.unjudged.load(Relaxed)
    }
}

/// A relay's place in the roster, until it is dropped.
pub struct Membership {
    /// Counts the relays of this process.
    pub id: u64,
    /// What the others can see.
    pub member: Arc<Member>,
    roster: Arc<Roster>,
}

impl Roster {
    /// A place for a relay that begins.
    #[must_use]
    pub fn join(self: &Arc<Self>, judged: bool) -> Membership {
        let id = self.next.fetch_add(1, Relaxed);
        let member = Arc::new(Member::new(judged));
        self.members().insert(id, Arc::clone(&member));
        Membership { id, member, roster: Arc::clone(self) }
    }

    /// Runs tracked by all relays, and by the one that tracks most.
    #[must_use]
    pub fn runs(&self) -> (usize, usize) {
        let members = self.members();
        let runs = members.values().map(|member| member.runs.load(Relaxed));
        runs.fold((0, 0), |(sum, most), n| (sum + n, most.max(n)))
    }

    /// The relays that began first, at most so many, and how many there are.
    #[must_use]
    pub fn oldest(&self, most: usize) -> (Vec<Arc<Member>>, usize) {
        let members = self.members();
        let mut ids: Vec<u64> = members.keys().copied().collect();
        ids.sort_unstable();
        let first = ids.iter().take(most).filter_map(|id| members.get(id)).map(Arc::clone).collect();
        (first, ids.len())
    }

    fn members(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.roster.members().remove(&self.id);
    }
}
