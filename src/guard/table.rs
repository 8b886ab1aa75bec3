//! What is known of clients: a bounded table of accounts.

use std::collections::VecDeque;
use std::hash::RandomState;

use lru::LruCache;

use super::bucket::{Bucket, Rate};
use super::over::Over;
use super::start::Start;
use super::{Admitted, Client, Limits, Refusal};

/// Starts whose keys are remembered for one client.
const RECENT: usize = 64;
/// How long they are: the gateway answers a repeated key from its own memory for as long.
const RECENT_MS: u64 = 5 * 60 * 1000;
/// How often each may be repeated without counting again. Clients retry a few times; and a gateway may forget a key sooner
/// than it should (2026.1.30 does so for a run that is aborted at once).
const FREE_REPEATS: u8 = 16;
/// After what time a client is told to try again when too many of its runs are going on. A guess: nobody knows when
/// a run will end.
const LIVE_RUNS_RETRY_MS: u64 = 5_000;
/// A full table is looked through for clients to forget this often at most: new clients may come fast.
const SWEEP_MS: u64 = 1_000;

/// The clients of a guard.
pub(super) struct Table {
    limits: Limits,
    capacity: usize,
    /// At most `capacity`, boxed because a table keeps room for entries that are not there.
    clients: LruCache<Client, Box<Account>, RandomState>,
    /// When it was last looked through.
    swept: u64,
    evicted: u64,
}

/// What is known of one client.
#[derive(Default)]
struct Account {
    bucket: Bucket,
    /// The newest starts with a key, oldest first, at most [`RECENT`].
    recent: VecDeque<Recent>,
    /// The runs that go on, at most `max_live_runs`.
    live: Vec<Live>,
}

struct Recent {
    mark: u64,
    at: u64,
    repeats: u8,
}

struct Live {
    /// Half of its key.
    run: Option<u64>,
    request: Option<u64>,
    since: u64,
}

impl Table {
    /// An empty table, which allocates nothing yet.
    pub(super) fn new(limits: Limits, capacity: usize) -> Self {
        let clients = LruCache::unbounded_with_hasher(RandomState::new());
        Self { limits, capacity, clients, swept: 0, evicted: 0 }
    }

    /// What a table can allocate at most, in bytes.
    pub(super) fn bytes(limits: &Limits, capacity: usize) -> usize {
        let live = limits.max_live_runs.map_or(0, |n| n.get() as usize).saturating_mul(size_of::<Live>());
        let lists = live.saturating_add(RECENT * size_of::<Recent>());
        // An account and its entry with two links, both with the allocator's overhead and that of two lists; and its
        // share of a hash table that grows.
        let account = size_of::<Account>()
            + size_of::<(Client, Box<Account>)>()
            + 2 * size_of::<usize>()
            + 4 * 16
            + 4 * 32;
        // A quarter for what an allocator loses between lists that grow.
        let accounts = lists.saturating_add(account).saturating_mul(capacity).saturating_mul(5) / 4;
        // One list at a time may be moved to a larger place.
        accounts.saturating_add(lists).saturating_add(256)
    }

    pub(super) fn admit(&mut self, client: Client, start: &Start, now: u64) -> Result<Admitted, Refusal> {
        if !self.clients.contains(&client) {
            self.make_room(now);
        }
        self.clients.get_or_insert_mut(client, Box::default).admit(start, &self.limits, now)
    }

    pub(super) fn over(&mut self, client: Client, over: &Over) {
        if let Some(account) = self.clients.peek_mut(&client) {
            account.live.retain(|live| !live.is_over(over));
        }
    }

    pub(super) fn give_back(&mut self, client: Client) {
        if let Some(account) = self.clients.peek_mut(&client) {
            account.bucket.give_back();
        }
    }

    pub(super) fn forget(&mut self, client: Client) {
        self.clients.pop(&client);
    }

    /// Clients of which there is something to say.
    pub(super) fn count(&mut self, now: u64) -> usize {
        self.sweep(now);
        self.clients.len()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Makes room for one more client: those of which nothing is left to say go first, then the one that started nothing
    /// for the longest time.
    fn make_room(&mut self, now: u64) {
        if self.clients.len() < self.capacity {
            return;
        }
        if now < self.swept || now - self.swept >= SWEEP_MS {
            self.sweep(now);
        }
        while self.clients.len() >= self.capacity {
            self.clients.pop_lru();
            self.evicted += 1;
        }
    }

    fn sweep(&mut self, now: u64) {
        self.swept = now;
        let mut silent = Vec::new();
        for (client, account) in &mut self.clients {
            account.forget_old(&self.limits, now);
            if account.says_nothing(&self.limits, now) {
                silent.push(*client);
            }
        }
        for client in silent {
            self.clients.pop(&client);
        }
    }
}

impl Account {
    fn admit(&mut self, start: &Start, limits: &Limits, now: u64) -> Result<Admitted, Refusal> {
        self.forget_old(limits, now);
        if let Some(key) = start.key
            && let Some(recent) = self.recent.iter_mut().find(|recent| recent.mark == key.mark)
            && recent.repeats < FREE_REPEATS
        {
            recent.repeats += 1;
            return Ok(Admitted::Repeated);
        }
        let live_runs = limits.max_live_runs.map(|most| most.get() as usize);
        if live_runs.is_some_and(|most| self.live.len() >= most) {
            return Err(Refusal::LiveRuns { retry_after: LIVE_RUNS_RETRY_MS });
        }
        if let Some(rate) = Rate::of(limits) {
            self.bucket.take(rate, now).map_err(|retry_after| Refusal::Rate { retry_after })?;
        }
        if let Some(key) = start.key {
            self.recent.retain(|recent| recent.mark != key.mark);
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(Recent { mark: key.mark, at: now, repeats: 0 });
        }
        if let Some(most) = live_runs {
            if self.live.len() == self.live.capacity() {
                // Doubling, but never beyond what was promised.
                self.live.reserve_exact(self.live.len().max(4).min(most - self.live.len()));
            }
            self.live.push(Live {
                run: start.key.map(|key| key.run.short()),
                request: start.request,
                since: now,
            });
        }
        Ok(Admitted::New)
    }

    fn forget_old(&mut self, limits: &Limits, now: u64) {
        // Of a clock that went back, what it said before is not believed.
        self.recent.iter_mut().for_each(|recent| recent.at = recent.at.min(now));
        self.live.iter_mut().for_each(|live| live.since = live.since.min(now));
        self.recent.retain(|recent| now - recent.at < RECENT_MS);
        self.live.retain(|live| now - live.since < limits.live_run_ttl);
    }

    /// A new account would say the same.
    fn says_nothing(&self, limits: &Limits, now: u64) -> bool {
        let full = Rate::of(limits).is_none_or(|rate| self.bucket.is_full(rate, now));
        full && self.recent.is_empty() && self.live.is_empty()
    }
}

impl Live {
    fn is_over(&self, over: &Over) -> bool {
        match *over {
            Over::Run(run) => self.run == Some(run.short()),
            // Of a run without a key, no other message can be told; so its first answer ends it.
            Over::Answer { request, last } => self.request == Some(request) && (last || self.run.is_none()),
        }
    }
}
