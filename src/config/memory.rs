//! What seqgate can hold at most: the memory promised at start, and descriptors.

use std::fmt;

use super::Config;
use crate::admin;
use crate::filter::Ledger;
use crate::front::{HTTP_BOUND, TURNED_AWAY};
use crate::guard::Guard;
use crate::relay;
use crate::sieve::Sieve;
use crate::socket::SESSION_BOUND;

/// Descriptors of the process itself: listeners, standard streams, the runtime's own, files that are read.
const OWN_DESCRIPTORS: usize = 32;

/// What memory is made of.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBound {
    connections: usize,
    runs: usize,
    run_bytes: usize,
    buffers: usize,
    /// What the run guard knows of its clients; 0 without one.
    guard: usize,
    /// TLS with those for whom there is no room; 0 without TLS.
    turned_away: usize,
}

impl Config {
    /// The memory that connections can take together at most, in bytes.
    #[must_use]
    pub fn memory_bound(&self) -> MemoryBound {
        let (mut relay, mut guard) = (relay::buffer_bound(self.inspect_limit), 0);
        if let Some(settings) = &self.guard {
            let limits = &settings.limits;
            relay += relay::guarded_bound(self.inspect_limit, limits.max_run_id);
            guard = Guard::bytes(limits, self.guarded_clients());
        }
        let sessions = usize::from(self.tls.is_some()) + usize::from(self.upstream.tls);
        MemoryBound {
            connections: self.max_connections,
            runs: self.runs_per_connection,
            run_bytes: Ledger::RUN_BYTES,
            buffers: Sieve::BASE_BYTES + relay.max(HTTP_BOUND) + sessions * SESSION_BOUND,
            guard,
            turned_away: if self.tls.is_some() { TURNED_AWAY * SESSION_BOUND } else { 0 },
        }
    }

    /// Descriptors that can be open at one time: a socket for each side of each connection, one for each client that is
    /// turned away and for each operator.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        let sockets = 2 * self.max_connections + TURNED_AWAY + admin::CONNECTIONS;
        (sockets + OWN_DESCRIPTORS) as u64
    }

    /// Clients that the run guard knows at one time: more than can be connected, because those that left are not to be
    /// forgotten at once.
    #[must_use]
    pub fn guarded_clients(&self) -> usize {
        (4 * self.max_connections).max(1024)
    }
}

impl MemoryBound {
    /// In bytes, all together.
    #[must_use]
    pub fn total(&self) -> u64 {
        let connection = self.runs as u64 * self.run_bytes as u64 + self.buffers as u64;
        connection
            .saturating_mul(self.connections as u64)
            .saturating_add((self.guard + self.turned_away) as u64)
    }
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(
            f,
            "at most {} MiB for connections: {} connections x ({} runs x {} B + {} KiB of buffers)",
            mib(self.total()),
            self.connections,
            self.runs,
            self.run_bytes,
            self.buffers.div_ceil(1 << 10),
        )?;
        if self.guard > 0 {
            write!(f, " + {} MiB of what the guard knows of clients", mib(self.guard as u64))?;
        }
        if self.turned_away > 0 {
            write!(f, " + {} MiB of TLS with clients that are turned away", mib(self.turned_away as u64))?;
        }
        Ok(())
    }
}
