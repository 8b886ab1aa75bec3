//! The run guard: how many runs a client may start.
//!
//! The law of this file: a start that is refused costs nothing and is not remembered; no client can spend what is
//! another's; and whatever the clients do, memory stays within [`Guard::bytes`].
//!
//! [`start`] says whether a client's message starts a run, [`gate`] leaves refused ones out of a connection's stream,
//! [`over`] says which messages of the gateway end a run.

mod answer;
mod bucket;
pub mod gate;
pub mod over;
mod skim;
pub mod start;

use std::collections::VecDeque;
use std::hash::RandomState;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use core::net::{IpAddr, Ipv4Addr};
use lru::LruCache;

use self::bucket::{Bucket, Rate};
use self::over::Over;
use self::start::Start;
use crate::stamp::Secret;

/// Starts whose keys are remembered for one client.
const RECENT: usize = 64;
/// How long they are: the gateway answers a repeated key from its own memory for as long.
const RECENT_MS: u64 = 5 * 60 * 1000;
/// After what time a client is told to try again when too many of its runs are going on. A guess: nobody knows when
/// a run will end.
const LIVE_RUNS_RETRY_MS: u64 = 5_000;
/// A full table is looked through for clients to forget this often at most: new clients may come fast.
const SWEEP_MS: u64 = 1_000;

/// What each client may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Runs that may be started in a minute, evenly, behind the first burst. None: any number.
    pub runs_per_minute: Option<NonZeroU32>,
    /// Runs that may be started at once.
    pub burst: NonZeroU32,
    /// Bytes (UTF-8) of the longest run id.
    pub max_run_id: usize,
    /// Runs that may go on at once. None: any number.
    pub max_live_runs: Option<NonZeroU32>,
    /// Milliseconds after which a run whose end was not seen counts as over.
    pub live_run_ttl: u64,
}

/// Who shares the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All connections from an address.
    #[default]
    Address,
    /// One connection. Whoever may open many of them may start as many runs.
    Connection,
}

impl Scope {
    /// The setting's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Connection => "connection",
        }
    }

    /// Who a connection counts as.
    #[must_use]
    pub fn client(self, address: IpAddr, connection: u64) -> Client {
        match self {
            Self::Address => Client::address(address),
            Self::Connection => Client::connection(connection),
        }
    }
}

/// Who is counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(Place);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    V4(Ipv4Addr),
    /// The first 64 bits: what is behind them, a host chooses itself.
    V6(u64),
    Connection(u64),
}

impl Client {
    /// All connections from an address; of IPv6, from its /64.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => Place::V4(address),
            IpAddr::V6(address) => Place::V6((address.to_bits() >> 64) as u64),
        })
    }

    /// One connection, by a number that no other has had.
    #[must_use]
    pub fn connection(number: u64) -> Self {
        Self(Place::Connection(number))
    }
}

/// A start that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It counts.
    New,
    /// The client has sent its key a short time ago: the gateway starts nothing, so it does not count again.
    Repeated,
}

/// A start that may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many in too short a time. After so many milliseconds, and not before, there is room for one.
    Rate {
        /// Milliseconds.
        retry_after: u64,
    },
    /// Too many go on.
    LiveRuns {
        /// Milliseconds; a guess.
        retry_after: u64,
    },
    /// The run's id is longer than this.
    RunId {
        /// Bytes.
        limit: usize,
    },
}

/// Why a start was refused, without the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Refusal")]
pub enum Reason {
    Rate,
    LiveRuns,
    RunId,
}

impl Reason {
    /// Every reason, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Rate, Self::LiveRuns, Self::RunId];

    /// The name used as a metric label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::LiveRuns => "live_runs",
            Self::RunId => "run_id",
        }
    }
}

impl Refusal {
    /// Why.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Rate { .. } => Reason::Rate,
            Self::LiveRuns { .. } => Reason::LiveRuns,
            Self::RunId { .. } => Reason::RunId,
        }
    }
}

/// What is known of the clients that started runs lately. All connections share it.
pub struct Guard {
    limits: Limits,
    secret: Secret,
    capacity: usize,
    /// One lock: it is taken for a start, an end and a look at the numbers, and held for less than a microsecond, but
    /// for a sweep.
    table: Mutex<Table>,
}

struct Table {
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
}

struct Live {
    /// Half of its key.
    run: Option<u64>,
    request: Option<u64>,
    since: u64,
}

impl Guard {
    /// A guard that knows at most so many clients, and allocates nothing yet.
    #[must_use]
    pub fn new(limits: Limits, secret: Secret, clients: usize) -> Self {
        let clients_known = LruCache::unbounded_with_hasher(RandomState::new());
        let table = Table { clients: clients_known, swept: 0, evicted: 0 };
        Self { limits, secret, capacity: clients.max(1), table: Mutex::new(table) }
    }

    /// What a guard can hold in memory at most, in bytes.
    #[must_use]
    pub fn bytes(limits: &Limits, clients: usize) -> usize {
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
        let accounts = lists.saturating_add(account).saturating_mul(clients.max(1)).saturating_mul(5) / 4;
        // One list at a time may be moved to a larger place.
        accounts.saturating_add(lists).saturating_add(size_of::<Self>() + 256)
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The secret of all keys.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Lets a start go on, or says why not. `now` is in milliseconds of a clock that all callers share.
    pub fn admit(&self, client: Client, start: &Start, now: u64) -> Result<Admitted, Refusal> {
        let limit = self.limits.max_run_id;
        if start.key.is_some_and(|key| key.length > limit) {
            return Err(Refusal::RunId { limit });
        }
        let mut table = self.table();
        table.account(client, self, now).admit(start, self, now)
    }

    /// A message of the gateway to this client says that a run is over.
    pub fn over(&self, client: Client, over: &Over) {
        if self.limits.max_live_runs.is_none() {
            return;
        }
        if let Some(account) = self.table().clients.peek_mut(&client) {
            account.live.retain(|live| !live.is_over(over));
        }
    }

    /// Forgets a client that will not come again: a connection that has ended.
    pub fn forget(&self, client: Client) {
        self.table().clients.pop(&client);
    }

    /// Clients of which something is known now; those of which nothing is left to say are forgotten.
    pub fn clients(&self, now: u64) -> usize {
        let mut table = self.table();
        table.sweep(self, now);
        table.clients.len()
    }

    /// Clients that were forgotten for want of space though there was something to say of them.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.table().evicted
    }

    fn rate(&self) -> Option<Rate> {
        self.limits.runs_per_minute.map(|per_minute| Rate { per_minute, burst: self.limits.burst })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn account(&mut self, client: Client, guard: &Guard, now: u64) -> &mut Account {
        if !self.clients.contains(&client) {
            self.make_room(guard, now);
        }
        self.clients.get_or_insert_mut(client, Box::default)
    }

    /// Makes room for one more client: those of which nothing is left to say go first, then the one that started nothing
    /// for the longest time.
    fn make_room(&mut self, guard: &Guard, now: u64) {
        if self.clients.len() < guard.capacity {
            return;
        }
        if now < self.swept || now - self.swept >= SWEEP_MS {
            self.sweep(guard, now);
        }
        while self.clients.len() >= guard.capacity {
            self.clients.pop_lru();
            self.evicted += 1;
        }
    }

    fn sweep(&mut self, guard: &Guard, now: u64) {
        self.swept = now;
        let mut silent = Vec::new();
        for (client, account) in &mut self.clients {
            account.forget_old(guard, now);
            if account.says_nothing(guard, now) {
                silent.push(*client);
            }
        }
        for client in silent {
            self.clients.pop(&client);
        }
    }
}

impl Account {
    fn admit(&mut self, start: &Start, guard: &Guard, now: u64) -> Result<Admitted, Refusal> {
        self.forget_old(guard, now);
        if let Some(key) = start.key
            && self.recent.iter().any(|recent| recent.mark == key.mark)
        {
            return Ok(Admitted::Repeated);
        }
        let live_runs = guard.limits.max_live_runs.map(|most| most.get() as usize);
        if live_runs.is_some_and(|most| self.live.len() >= most) {
            return Err(Refusal::LiveRuns { retry_after: LIVE_RUNS_RETRY_MS });
        }
        if let Some(rate) = guard.rate() {
            self.bucket.take(rate, now).map_err(|retry_after| Refusal::Rate { retry_after })?;
        }
        if let Some(key) = start.key {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(Recent { mark: key.mark, at: now });
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

    fn forget_old(&mut self, guard: &Guard, now: u64) {
        // Of a clock that went back, what it said before is not believed.
        self.recent.iter_mut().for_each(|recent| recent.at = recent.at.min(now));
        self.live.iter_mut().for_each(|live| live.since = live.since.min(now));
        self.recent.retain(|recent| now - recent.at < RECENT_MS);
        self.live.retain(|live| now - live.since < guard.limits.live_run_ttl);
    }

    /// A new account would say the same.
    fn says_nothing(&self, guard: &Guard, now: u64) -> bool {
        let full = guard.rate().is_none_or(|rate| self.bucket.is_full(rate, now));
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
