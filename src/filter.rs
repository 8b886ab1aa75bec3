//! The rule table: which `agent` events of one client connection go on, and which do not.
//!
//! A run is an event name and a run id. For each run the ledger keeps the highest `seq`, the newest `ts`, whether a
//! terminal lifecycle event was seen, the highest `seq` of each stream, fingerprints of the last [`RECENT`] events that
//! passed, and when an event of it last arrived. For an event (run, stream, seq, ts) the first case that holds decides:
//!
//! | case | verdict |
//! |---|---|
//! | run not tracked | forward, *new run* |
//! | seq > run's highest | forward, *in order*, or *gap* when seq > highest + 1 |
//! | ts newer than the run's newest | forward, *restarted*: the id is used again, the old generation is forgotten |
//! | same fingerprint as a recent event | drop, *duplicate* |
//! | run has ended, ts equal to its newest | forward, *restarted* within the same millisecond |
//! | run has ended, the event is a start | forward, *restarted* after the gateway's clock stepped back |
//! | no event of the run arrived for [`SILENCE`] | forward, *restarted*: the same where the end or the start is missing |
//! | seq > its stream's highest | forward, *late*: overtaken by other streams only |
//! | the run has more streams than are told apart | forward, *late*: whether it is stale can't be known |
//! | otherwise | drop, *out of order*: its own stream has already moved past it |
//!
//! Without a `ts` an event is never newer, its fingerprint covers the payload's bytes instead, and a run that
//! has ended restarts at seq 1. An event that is ahead of the run but older than its newest is a stray of an
//! earlier generation: it goes on once, and only its fingerprint and its end are kept. `ts` is the gateway's wall
//! clock, which can step back by any amount; arrival times are seqgate's own and never go back. Three laws stand above the table: when
//! in doubt, forward; an event that was dropped changes nothing that later events are judged by, except the arrival time; whatever comes,
//! the ledger holds at most as many runs as it was given, each of a fixed size.

mod known;

use std::hash::{BuildHasherDefault, Hasher};

pub use self::known::Known;
use crate::stamp::{RunKey, Stamp};
use lru::LruCache;

/// Events of a run whose fingerprints are kept.
pub const RECENT: usize = 32;
/// Streams of a run that are told apart.
pub const STREAMS: usize = 8;
/// Milliseconds without an event of a run after which an event that is not a known repeat restarts it.
pub const SILENCE: u64 = 2000;
/// Numbers that may be left out for an event to be ordinary still. Gateways leave some out where they join deltas: as
/// many as a fast model says in some 100 ms.
const NEAR: u64 = 256;
/// Runs evicted for want of space whose return is noticed.
const GHOSTS: usize = 256;

/// How strictly the order within a run is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Each stream of a run must rise; streams may overtake each other. The table as it stands.
    #[default]
    Stream,
    /// The run as a whole must rise: *late* events are dropped as *out of order*.
    Run,
    /// Only duplicates are dropped: *out of order* events pass as *late*.
    Any,
}

/// Why an event went on or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the cases of the table above")]
pub enum Verdict {
    NewRun,
    InOrder,
    Gap,
    Restarted,
    Late,
    Duplicate,
    OutOfOrder,
}

impl Verdict {
    /// Every verdict, in the order of their discriminants.
    pub const ALL: [Self; 7] = [
        Self::NewRun,
        Self::InOrder,
        Self::Gap,
        Self::Restarted,
        Self::Late,
        Self::Duplicate,
        Self::OutOfOrder,
    ];

    /// The event is a repeat or stale.
    #[must_use]
    pub fn drops(self) -> bool {
        matches!(self, Self::Duplicate | Self::OutOfOrder)
    }

    /// The name used as a metric label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NewRun => "new_run",
            Self::InOrder => "in_order",
            Self::Gap => "gap",
            Self::Restarted => "restarted",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::OutOfOrder => "out_of_order",
        }
    }
}

/// What is known of a run. Of a fixed size, whatever the run does.
struct Run {
    high: u64,
    newest: Option<u64>,
    ended: bool,
    /// When an event of this run last arrived, dropped or not, in the caller's milliseconds.
    seen: u64,
    /// The first `stream_count` are in use: a stream's hash and its highest seq.
    streams: [(u64, u64); STREAMS],
    stream_count: u8,
    /// A ring; `recent_next` is the oldest once it is full.
    recent: [u64; RECENT],
    recent_count: u8,
    recent_next: u8,
}

impl Run {
    fn starting_with(stamp: &Stamp) -> Self {
        let mut run = Self {
            high: stamp.seq,
            newest: None,
            ended: false,
            seen: 0,
            streams: [(0, 0); STREAMS],
            stream_count: 0,
            recent: [0; RECENT],
            recent_count: 0,
            recent_next: 0,
        };
        run.pass(stamp);
        run
    }

    fn verdict(&self, stamp: &Stamp, order: Order, now: u64) -> Verdict {
        let repeated = || self.recent[..usize::from(self.recent_count)].contains(&stamp.mark);
        if stamp.seq > self.high {
            if self.is_stray(stamp) && repeated() {
                return Verdict::Duplicate;
            }
            return if stamp.seq == self.high + 1 { Verdict::InOrder } else { Verdict::Gap };
        }
        if self.newest.is_some() && stamp.ts > self.newest {
            return Verdict::Restarted;
        }
        if repeated() {
            return Verdict::Duplicate;
        }
        let at_its_end = match stamp.ts {
            Some(_) => stamp.ts == self.newest,
            None => stamp.seq == 1,
        };
        if self.ended && (at_its_end || stamp.starts) {
            return Verdict::Restarted;
        }
        if now.saturating_sub(self.seen) >= SILENCE {
            return Verdict::Restarted;
        }
        let overtaken = match self.stream_high(stamp.stream) {
            Some(high) => stamp.seq > high,
            // Not seen yet, or one of those that are not told apart: nothing says that it is stale.
            None => true,
        };
        match order {
            Order::Any => Verdict::Late,
            Order::Stream if overtaken => Verdict::Late,
            Order::Stream | Order::Run => Verdict::OutOfOrder,
        }
    }

    /// Ahead of the run and yet older than its newest: of an earlier generation.
    fn is_stray(&self, stamp: &Stamp) -> bool {
        stamp.seq > self.high && stamp.ts.is_some() && stamp.ts < self.newest
    }

    fn stream_high(&self, stream: u64) -> Option<u64> {
        let known = &self.streams[..usize::from(self.stream_count)];
        known.iter().find(|(name, _)| *name == stream).map(|(_, high)| *high)
    }

    fn pass(&mut self, stamp: &Stamp) {
        self.recent[usize::from(self.recent_next)] = stamp.mark;
        self.recent_next = (self.recent_next + 1) % RECENT as u8;
        self.recent_count = (self.recent_count + 1).min(RECENT as u8);
        // After the gateway's clock stepped back within a run, all its events look like strays: its end counts.
        self.ended |= stamp.ends;
        if self.is_stray(stamp) {
            // Its seq and ts would make this generation's next events look stale.
            return;
        }
        self.high = self.high.max(stamp.seq);
        self.newest = self.newest.max(stamp.ts);
        let count = usize::from(self.stream_count);
        match self.streams[..count].iter_mut().find(|(name, _)| *name == stamp.stream) {
            Some((_, high)) => *high = (*high).max(stamp.seq),
            None if count < STREAMS => {
                self.streams[count] = (stamp.stream, stamp.seq);
                self.stream_count += 1;
            }
            None => {}
        }
    }
}

/// The keys are hashes already: their bits are taken as they are.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

/// A map keeps two entries that hold nothing: boxed, these are small.
type Runs = LruCache<RunKey, Box<Run>, BuildHasherDefault<AsItIs>>;

/// The state of one client connection: a bounded LRU of runs.
pub struct Ledger {
    order: Order,
    capacity: usize,
    /// Idle entries expire after this many of the caller's milliseconds.
    ttl: u64,
    /// `live.len() + ended.len() <= capacity`; an entry is in `ended` once its run is.
    live: Runs,
    ended: Runs,
    ghosts: Ghosts,
    departed: Departed,
    /// When runs were last looked through for those whose time is over.
    expired_at: u64,
}

/// Runs that left the ledger, counted since the last [`Ledger::take_departed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departed {
    /// Evicted for want of space while they went on.
    pub live: u32,
    /// Evicted for want of space after their end.
    pub ended: u32,
    /// Not heard of for the TTL.
    pub expired: u32,
    /// Came back soon after an eviction for want of space.
    pub returned: u32,
}

impl Ledger {
    /// What one tracked run costs at most, in bytes: what is known of it, and its entry with its links, both with the
    /// allocator's overhead; and its share of two hash tables while they grow.
    pub const RUN_BYTES: usize =
        size_of::<Run>() + size_of::<(RunKey, Box<Run>)>() + 2 * size_of::<usize>() + 2 * 16 + 4 * 32;
    /// What a ledger costs besides its runs, in bytes.
    pub const BASE_BYTES: usize = size_of::<Self>() + GHOSTS * 8 + 256;

    /// An empty ledger for at most `capacity` runs, which allocates nothing yet. `ttl` is in milliseconds.
    #[must_use]
    pub fn new(order: Order, capacity: usize, ttl: u64) -> Self {
        Self {
            order,
            capacity: capacity.max(1),
            ttl,
            live: LruCache::unbounded_with_hasher(BuildHasherDefault::default()),
            ended: LruCache::unbounded_with_hasher(BuildHasherDefault::default()),
            ghosts: Ghosts::default(),
            departed: Departed::default(),
            expired_at: 0,
        }
    }

    /// Judges an event, and remembers it if it goes on. `now` is its arrival time in milliseconds and must not go
    /// backwards.
    pub fn judge(&mut self, stamp: &Stamp, now: u64) -> Verdict {
        let order = self.order;
        let Some((run, was_ended)) = self.find(stamp.run, now) else {
            self.departed.returned += u32::from(self.ghosts.lay(stamp.run));
            self.insert(stamp.run, Box::new(Run { seen: now, ..Run::starting_with(stamp) }));
            return Verdict::NewRun;
        };
        let verdict = run.verdict(stamp, order, now);
        match verdict {
            Verdict::Restarted => *run = Run::starting_with(stamp),
            Verdict::Duplicate | Verdict::OutOfOrder => {}
            _ => run.pass(stamp),
        }
        run.seen = now;
        if run.ended != was_ended {
            self.change_sides(stamp.run, was_ended);
        }
        verdict
    }

    /// Judges an event that neither starts nor ends its run, if nothing can be lost by that: a known run goes on, not far from
    /// where it is. `None` for any other event, of which nothing is remembered.
    pub fn judge_ordinary(&mut self, stamp: &Stamp, now: u64) -> Option<Verdict> {
        let order = self.order;
        let (run, _) = self.find(stamp.run, now)?;
        let verdict = run.verdict(stamp, order, now);
        let ordinary = match verdict {
            Verdict::InOrder | Verdict::Late => true,
            Verdict::Gap => stamp.seq - run.high <= NEAR,
            _ => false,
        };
        ordinary.then(|| {
            run.pass(stamp);
            run.seen = now;
            verdict
        })
    }

    /// A tracked run, and whether it has ended. It counts as just used.
    fn find(&mut self, key: RunKey, now: u64) -> Option<(&mut Run, bool)> {
        if self.expired_at != now {
            self.expire(now);
        }
        // Most events are of the run that the last one was of, which stands first already.
        if self.live.peek_mru().is_some_and(|(last, _)| *last == key) {
            return self.live.iter_mut().next().map(|(_, run)| (&mut **run, false));
        }
        let live = self.live.get_mut(&key).map(|run| (&mut **run, false));
        live.or_else(|| self.ended.get_mut(&key).map(|run| (&mut **run, true)))
    }

    /// Forgets every run. Repeats of what they were may pass.
    pub fn forget(&mut self) {
        self.live.clear();
        self.ended.clear();
    }

    /// A run has ended, or has begun again.
    fn change_sides(&mut self, key: RunKey, was_ended: bool) {
        let (from, to) =
            if was_ended { (&mut self.ended, &mut self.live) } else { (&mut self.live, &mut self.ended) };
        if let Some(run) = from.pop(&key) {
            to.push(key, run);
        }
    }

    /// Makes room first: runs that have ended go before live ones, each least recently used first.
    fn insert(&mut self, key: RunKey, run: Box<Run>) {
        if self.len() >= self.capacity {
            let evicted = match self.ended.pop_lru() {
                Some((key, _)) => {
                    self.departed.ended += 1;
                    Some(key)
                }
                None => self.live.pop_lru().map(|(key, _)| {
                    self.departed.live += 1;
                    key
                }),
            };
            if let Some(key) = evicted {
                self.ghosts.remember(key);
            }
        }
        let side = if run.ended { &mut self.ended } else { &mut self.live };
        side.push(key, run);
    }

    /// Forgets the runs that were last heard of a TTL ago or longer.
    pub fn expire(&mut self, now: u64) {
        self.expired_at = now;
        for side in [&mut self.live, &mut self.ended] {
            while side.peek_lru().is_some_and(|(_, run)| run.seen.saturating_add(self.ttl) <= now) {
                side.pop_lru();
                self.departed.expired += 1;
                if side.is_empty() {
                    // The table of a map keeps its size; an idle connection should not hold it.
                    *side = LruCache::unbounded_with_hasher(BuildHasherDefault::default());
                }
            }
        }
    }

    /// When the next run expires, if there is one, in the caller's milliseconds.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        let oldest = |side: &Runs| side.peek_lru().map(|(_, run)| run.seen.saturating_add(self.ttl));
        [oldest(&self.live), oldest(&self.ended)].into_iter().flatten().min()
    }

    /// Runs tracked, `0 <= len <= capacity`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len() + self.ended.len()
    }

    /// No run is tracked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The runs that left since the last call.
    pub fn take_departed(&mut self) -> Departed {
        std::mem::take(&mut self.departed)
    }
}

/// The last [`GHOSTS`] runs that were evicted for want of space.
#[derive(Default)]
struct Ghosts {
    ring: Vec<u64>,
    next: usize,
}

impl Ghosts {
    fn remember(&mut self, key: RunKey) {
        if self.ring.len() < GHOSTS {
            self.ring.reserve_exact(GHOSTS - self.ring.len());
            self.ring.push(key.short());
        } else {
            self.ring[self.next] = key.short();
            self.next = (self.next + 1) % GHOSTS;
        }
    }

    /// Whether this run was among them; it is not any more.
    fn lay(&mut self, key: RunKey) -> bool {
        let found = self.ring.iter().position(|ghost| *ghost == key.short());
        if let Some(place) = found {
            // Zero is no run's key, as far as 64 random bits can promise.
            self.ring[place] = 0;
        }
        found.is_some()
    }
}
