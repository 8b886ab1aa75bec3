//! The data of a report, and its JSON.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Facts, INTERVAL};
use crate::filter::{Ledger, Verdict};
use crate::metrics::{Kind, Label, Totals};
use crate::roster::Member;
use crate::sieve::{Dropped, Mode};
use crate::upstream::Unreachable;

/// This moment and the last minutes.
pub struct Report<'a> {
    pub(super) facts: &'a Facts,
    pub(super) at: SystemTime,
    pub(super) uptime: Duration,
    pub(super) draining: bool,
    pub(super) gateway: Result<(), Arc<Unreachable>>,
    pub(super) now: Totals,
    /// The oldest first.
    pub(super) samples: Vec<Totals>,
    /// The oldest first; not all of them, if there are many.
    pub(super) connections: Vec<Connection>,
    /// How many there are.
    pub(super) upgraded: usize,
    /// The newest first.
    pub(super) drops: Vec<(SystemTime, Dropped)>,
}

/// An upgraded connection.
pub(super) struct Connection {
    pub(super) kind: &'static str,
    pub(super) age: Duration,
    pub(super) runs: usize,
    pub(super) forwarded: u64,
    pub(super) duplicate: u64,
    pub(super) out_of_order: u64,
    pub(super) unjudged: u64,
}

impl Connection {
    pub(super) fn of(member: &Member) -> Self {
        Self {
            kind: Kind::of(member.judged).name(),
            age: member.since.elapsed(),
            runs: member.runs.load(Relaxed),
            forwarded: member.forwarded(),
            duplicate: member.events(Verdict::Duplicate),
            out_of_order: member.events(Verdict::OutOfOrder),
            unjudged: member.unjudged(),
        }
    }
}

impl Report<'_> {
    /// What became of repeats: the verdict's name in the metrics.
    pub(super) fn fate(&self) -> &'static str {
        if self.facts.mode == Mode::Observe { "would_drop" } else { "dropped" }
    }

    /// What became of starts over a limit.
    fn refused(&self) -> &'static str {
        if self.facts.mode == Mode::Observe { "would_refuse" } else { "refused" }
    }

    /// Bytes that the tracked runs take at most.
    pub(super) fn table_bytes(&self) -> u64 {
        self.now.runs * Ledger::RUN_BYTES as u64
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let outlook = self.outlook();
        let events = |totals: &Totals| {
            json!({
                "forwarded": totals.forwarded,
                "unjudged": totals.unjudged,
                self.fate(): { "duplicate": totals.duplicate, "out_of_order": totals.out_of_order },
            })
        };
        let sample = |totals: &Totals| {
            json!({
                "events": events(totals),
                "clients": totals.clients,
                "runs": totals.runs,
                "runs_largest_connection": totals.largest,
            })
        };
        let connection = |c: &Connection| {
            json!({
                "kind": c.kind,
                "age_seconds": c.age.as_secs(),
                "runs": c.runs,
                "forwarded": c.forwarded,
                "unjudged": c.unjudged,
                self.fate(): { "duplicate": c.duplicate, "out_of_order": c.out_of_order },
            })
        };
        let drop = |(at, dropped): &(SystemTime, Dropped)| {
            json!({
                "at_ms": since_epoch(*at).as_millis() as u64,
                "reason": dropped.verdict.name(),
                "stream": dropped.stream,
                "run_hash": hash(dropped),
            })
        };
        let setting =
            |[name, value, source]: &[String; 3]| json!({ "name": name, "value": value, "source": source });
        let guard = self.facts.guard.map(|(limits, scope)| {
            json!({
                "runs_per_minute": limits.runs_per_minute,
                "burst": limits.runs_per_minute.map(|_| limits.burst),
                "max_live_runs": limits.max_live_runs,
                "max_run_id_bytes": limits.max_run_id,
                "scope": scope.name(),
                "admitted": self.now.guard_admitted,
                self.refused(): self.now.guard_refused,
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "at_ms": since_epoch(self.at).as_millis() as u64,
            "uptime_seconds": self.uptime.as_secs(),
            "state": { "level": outlook.level.name(), "sentence": outlook.sentence, "advice": outlook.advice },
            "draining": self.draining,
            "gateway": {
                "address": self.facts.gateway,
                "reachable": self.gateway.is_ok(),
                "reason": self.gateway.as_ref().err().map(ToString::to_string),
                "distinct_runs": self.now.distinct,
            },
            "runs": {
                "tracked": self.now.runs,
                "largest_connection": self.now.largest,
                "capacity_per_connection": self.facts.capacity,
                "table_bytes": self.table_bytes(),
                "evicted_live": self.now.evicted_live,
                "evicted_then_seen": self.now.returned,
            },
            "clients": { "now": self.now.clients, "limit": self.facts.max_clients },
            "events": events(&self.now),
            "guard": guard,
            "connections": {
                "upgraded": self.upgraded,
                "oldest": self.connections.iter().map(connection).collect::<Vec<_>>(),
            },
            "last_drops": self.drops.iter().map(drop).collect::<Vec<_>>(),
            "history": {
                "interval_seconds": INTERVAL.as_secs(),
                "samples": self.samples.iter().map(sample).collect::<Vec<_>>(),
            },
            "settings": self.facts.settings.iter().map(setting).collect::<Vec<_>>(),
        })
    }
}

pub(super) fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The run as it stands in the log too: half of a hash under a key that dies with the process.
pub(super) fn hash(dropped: &Dropped) -> String {
    format!("{:016x}", dropped.run.short())
}
