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
mod masked;
pub mod over;
mod skim;
pub mod start;
mod table;

use core::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::over::Over;
use self::start::Start;
use self::table::Table;
use crate::stamp::Secret;

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
    /// The client has sent its key a short time ago, so it does not count again: the gateway starts nothing, or at most
    /// (2026.1.30, as long as it has not answered the first) the same run once more.
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
    /// One lock, not many: it is taken for a start, an end and a look at the numbers only, and held for well below a
    /// microsecond (with thousands of live runs for some, because those are in a list); for a sweep, 50 ns for each client.
    table: Mutex<Table>,
}

impl Guard {
    /// A guard that knows at most so many clients, and allocates nothing yet.
    #[must_use]
    pub fn new(limits: Limits, secret: Secret, clients: usize) -> Self {
        Self { limits, secret, table: Mutex::new(Table::new(limits, clients.max(1))) }
    }

    /// What a guard can hold in memory at most, in bytes.
    #[must_use]
    pub fn bytes(limits: &Limits, clients: usize) -> usize {
        Table::bytes(limits, clients.max(1)).saturating_add(size_of::<Self>())
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
        self.table().admit(client, start, now)
    }

    /// A message of the gateway to this client says that a run is over.
    pub fn over(&self, client: Client, over: &Over) {
        if self.limits.max_live_runs.is_some() {
            self.table().over(client, over);
        }
    }

    /// A start that was admitted has started nothing.
    pub fn give_back(&self, client: Client) {
        self.table().give_back(client);
    }

    /// Forgets a client that will not come again: a connection that has ended.
    pub fn forget(&self, client: Client) {
        self.table().forget(client);
    }

    /// Clients of which something is known now; those of which nothing is left to say are forgotten.
    pub fn clients(&self, now: u64) -> usize {
        self.table().count(now)
    }

    /// Clients that were forgotten for want of space though there was something to say of them.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.table().evicted()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Whoever panicked with it has left nothing half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
