//! What Prometheus is told: every series exists from the start, every label is from a closed set, and no run
//! id is ever among them.

mod guard;
mod labels;
mod maker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Counter, CounterVec, Encoder, Gauge, Histogram, IntCounter, IntGauge, Registry, TextEncoder,
};

pub use self::labels::{Class, Direction, Initiator, Kind, Label, Refused, Rejection, Reload};
use self::maker::{Maker, each, options};

use crate::filter::{Ledger, Verdict};
use crate::guard::{self as run_guard, Guard};
use crate::roster::Roster;
use crate::sieve::{Mode, Rules, Tally, Unjudged};
use crate::wire::Opcode;

/// Close codes with a label of their own; `other` stands for the rest.
const CLOSE_CODES: [u16; 17] =
    [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 4000, 4001, 0];

fn close_label(code: u16) -> String {
    if code == 0 { "other".to_owned() } else { code.to_string() }
}

/// A Close without a code (RFC 6455, section 7.1.5).
pub const CLOSE_NO_CODE: u16 = 1005;
/// An end without a Close (RFC 6455, section 7.1.5).
pub const CLOSE_ABNORMAL: u16 = 1006;

/// All handles.
pub struct Metrics {
    registry: Registry,
    rules: Arc<Rules>,
    roster: Arc<Roster>,
    runs_tracked: IntGauge,
    runs_tracked_largest: IntGauge,
    run_table_bytes: IntGauge,
    distinct_runs: Gauge,
    evicted: [IntCounter; 3],
    returned: IntCounter,
    started: IntCounter,
    restarted: IntCounter,
    judged: Vec<IntCounter>,
    would_drop: Vec<Option<IntCounter>>,
    unjudged: Vec<IntCounter>,
    rewritten: IntCounter,
    /// Wholly, and at both ends only.
    read: [IntCounter; 2],
    disagreed: IntCounter,
    unreadable: IntCounter,
    connections: Vec<IntGauge>,
    connections_total: Vec<IntCounter>,
    rejected: Vec<IntCounter>,
    refused: Vec<IntCounter>,
    reloads: Vec<IntCounter>,
    certificate_stale: IntGauge,
    clients: IntGauge,
    draining: IntGauge,
    closes: Vec<Vec<IntCounter>>,
    frames: Vec<IntCounter>,
    bytes: Vec<IntCounter>,
    backpressure: Vec<Counter>,
    http_requests: Vec<IntCounter>,
    /// Seconds from the first SYN to an established connection, TLS included.
    pub upstream_connect: Histogram,
    connection_duration: Histogram,
    guard: guard::Series,
    /// The guard, and the zero of its clock.
    guarding: Option<(Arc<Guard>, Instant)>,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Two series of one name: a mistake in this file.
    pub fn new(
        rules: Arc<Rules>,
        roster: Arc<Roster>,
        max_clients: usize,
        guarding: Option<(Arc<Guard>, Instant)>,
    ) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let make = Maker(&registry);
        let events = make.counters(
            "events_total",
            "Messages from the gateway, by verdict and reason.",
            &["verdict", "reason"],
        )?;
        let forwarded = |reason| events.with_label_values(&["forwarded", reason]);
        let judged = Verdict::ALL.map(|v| {
            if v.drops() { events.with_label_values(&["dropped", v.name()]) } else { forwarded(v.name()) }
        });
        let would_drop =
            Verdict::ALL.map(|v| v.drops().then(|| events.with_label_values(&["would_drop", v.name()])));
        let evicted = make.counters(
            "runs_evicted_total",
            "Runs that were forgotten: for want of space while they went on or after their end, or after the TTL.",
            &["reason"],
        )?;
        let closes = make.counters(
            "closes_total",
            "WebSockets that ended, by who closed first and with which code (1005: none given, 1006: no Close at all).",
            &["initiator", "code"],
        )?;
        let build = make.gauges("build_info", "Always 1; the version is in the label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        make.gauge("runs_capacity_per_connection", "Runs that one connection can track at most.")?
            .set(clamp(rules.runs));
        make.gauge("clients_limit", "Client connections that may be open at one time.")?
            .set(clamp(max_clients));
        make.register(ProcessCollector::for_self())?;
        Ok(Self {
            runs_tracked: make.gauge("runs_tracked", "Runs tracked now, all connections together.")?,
            runs_tracked_largest: make.gauge(
                "runs_tracked_largest_connection",
                "Runs tracked now by the connection that tracks most.",
            )?,
            run_table_bytes: make.gauge(
                "run_table_bytes",
                "Memory that the tracked runs take at most, all connections together.",
            )?,
            distinct_runs: {
                let gauge = Gauge::with_opts(options(
                    "gateway_distinct_runs",
                    "Estimate of the different run ids that the gateway has emitted since seqgate started.",
                ))?;
                make.register(gauge.clone())?;
                gauge
            },
            evicted: ["capacity_live", "capacity_ended", "expired"].map(|r| evicted.with_label_values(&[r])),
            returned: make.counter(
                "runs_evicted_then_seen_total",
                "Runs that came back soon after they were evicted for want of space: the table is too small.",
            )?,
            started: make.counter("runs_started_total", "Runs that were new to a connection.")?,
            restarted: make
                .counter("runs_restarted_total", "Run ids that were used again on a connection.")?,
            judged: judged.into(),
            would_drop: would_drop.into(),
            unjudged: Unjudged::ALL.map(|u| forwarded(u.name())).into(),
            rewritten: make.counter(
                "outer_seq_rewritten_total",
                "Frames whose outer seq was moved up to close a hole that a dropped frame left.",
            )?,
            read: {
                let read = make.counters(
                    "messages_read_total",
                    "Text messages that were looked into: wholly, or at their two ends only.",
                    &["extent"],
                )?;
                ["whole", "ends"].map(|extent| read.with_label_values(&[extent]))
            },
            disagreed: make.counter(
                "readings_disagreed_total",
                "Connections on which the two readings of a message differed, and that have been read wholly since.",
            )?,
            unreadable: make.counter(
                "unreadable_streams_total",
                "Connections on which the gateway sent bytes that no client can read as WebSocket messages; the rest passed unjudged.",
            )?,
            connections: {
                let gauges =
                    make.gauges("connections", "Upgraded connections that are open now.", &["kind"])?;
                each::<Kind, _>(|kind| gauges.with_label_values(&[kind]))
            },
            connections_total: make.family::<Kind>("connections_total", "Upgraded connections.", "kind")?,
            rejected: make.family::<Rejection>(
                "connections_rejected_total",
                "Clients that seqgate itself turned away, by reason.",
                "reason",
            )?,
            refused: make.family::<Refused>(
                "upgrades_refused_total",
                "Upgrades that the gateway refused, by its status.",
                "code",
            )?,
            reloads: make.family::<Reload>(
                "tls_reloads_total",
                "Changes of the listener's certificate, by whether it could be used.",
                "result",
            )?,
            certificate_stale: make.gauge(
                "tls_certificate_stale",
                "1 while the listener's certificate has changed and can't be used, so that the one before is shown.",
            )?,
            clients: make.gauge("clients", "Client connections of all kinds that are open now.")?,
            draining: make.gauge("draining", "1 from the signal to stop on, otherwise 0.")?,
            closes: Initiator::ALL
                .iter()
                .map(|who| {
                    let label = |code| closes.with_label_values(&[who.name(), &close_label(code)]);
                    CLOSE_CODES.iter().map(|code| label(*code)).collect()
                })
                .collect(),
            frames: {
                let frames =
                    make.counters("frames_total", "WebSocket frames from the gateway.", &["opcode"])?;
                Opcode::ALL.map(|opcode| frames.with_label_values(&[opcode.name()])).into()
            },
            bytes: make.family::<Direction>(
                "bytes_total",
                "Bytes relayed: what upgraded connections carry, and HTTP bodies.",
                "direction",
            )?,
            backpressure: {
                let opts = options(
                    "backpressure_seconds_total",
                    "Time in which a side was not read because the other did not take what was sent.",
                );
                let seconds = CounterVec::new(opts, &["direction"])?;
                make.register(seconds.clone())?;
                each::<Direction, _>(|direction| seconds.with_label_values(&[direction]))
            },
            http_requests: make.family::<Class>(
                "http_requests_total",
                "HTTP requests, upgrades included, by the class of the status that the client got.",
                "code",
            )?,
            upstream_connect: make.histogram(
                "upstream_connect_seconds",
                "Time until there was a connection to the gateway, TLS handshake included.",
                &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0],
            )?,
            connection_duration: make.histogram(
                "connection_duration_seconds",
                "Time that an upgraded connection was open.",
                &[0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0],
            )?,
            guard: guard::Series::new(&make)?,
            registry,
            rules,
            roster,
            guarding,
        })
    }

    /// The text exposition format, with gauges as of now.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let (runs, most) = self.roster.runs();
        self.runs_tracked.set(clamp(runs));
        self.runs_tracked_largest.set(clamp(most));
        self.run_table_bytes.set(clamp(runs.saturating_mul(Ledger::RUN_BYTES)));
        self.distinct_runs.set(self.rules.distinct.estimate().round());
        if let Some((guard, epoch)) = &self.guarding {
            self.guard.buckets.set(clamp(guard.clients(epoch.elapsed().as_millis() as u64)));
        }
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics could not be rendered");
        }
        text
    }

    /// Adds what a sieve has seen.
    pub fn add(&self, tally: &Tally) {
        let observing = self.rules.mode == Mode::Observe;
        for (i, n) in seen(&tally.judged) {
            match &self.would_drop[i] {
                Some(would_drop) if observing => would_drop.inc_by(n),
                _ => self.judged[i].inc_by(n),
            }
        }
        for (counters, counts) in [(&self.unjudged, &tally.unjudged[..]), (&self.frames, &tally.frames[..])] {
            for (i, n) in seen(counts) {
                counters[i].inc_by(n);
            }
        }
        let departed = tally.departed;
        let singles = [
            (&self.started, tally.judged[Verdict::NewRun as usize]),
            (&self.restarted, tally.judged[Verdict::Restarted as usize]),
            (&self.rewritten, tally.rewritten),
            (&self.read[0], tally.read_whole),
            (&self.read[1], tally.read_ends),
            (&self.disagreed, tally.disagreed),
            (&self.unreadable, tally.unreadable),
            (&self.evicted[0], departed.live),
            (&self.evicted[1], departed.ended),
            (&self.evicted[2], departed.expired),
            (&self.returned, departed.returned),
        ];
        for (counter, n) in singles.into_iter().filter(|(_, n)| *n > 0) {
            counter.inc_by(n.into());
        }
    }

    /// Adds what a guarded connection did.
    pub fn guarded(&self, tally: &run_guard::gate::Tally) {
        self.guard.add(tally);
    }

    /// What has been counted so far, for whoever looks on.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let counted = |verdict: Verdict| {
            let would = self.would_drop[verdict as usize].as_ref().map_or(0, IntCounter::get);
            self.judged[verdict as usize].get() + would
        };
        let (runs, largest) = self.roster.runs();
        let (guard_admitted, guard_refused) = self.guard.totals();
        Totals {
            forwarded: Verdict::ALL.iter().filter(|v| !v.drops()).map(|v| counted(*v)).sum(),
            unjudged: self.unjudged.iter().map(IntCounter::get).sum(),
            duplicate: counted(Verdict::Duplicate),
            out_of_order: counted(Verdict::OutOfOrder),
            evicted_live: self.evicted[0].get(),
            returned: self.returned.get(),
            forbidden: self.refused[Refused::Forbidden.index()].get(),
            turned_away: self.rejected[Rejection::Limit.index()].get(),
            certificate_stale: self.certificate_stale.get() == 1,
            clients: self.clients.get().unsigned_abs(),
            runs: runs as u64,
            largest: largest as u64,
            distinct: self.rules.distinct.estimate().round() as u64,
            guard_admitted,
            guard_refused,
        }
    }

    /// Bytes that were read from a side.
    pub fn bytes(&self, direction: Direction, n: u64) {
        self.bytes[direction.index()].inc_by(n);
    }

    /// A side did not take what was sent for so long.
    pub fn blocked(&self, direction: Direction, time: Duration) {
        self.backpressure[direction.index()].inc_by(time.as_secs_f64());
    }

    /// A client was turned away.
    pub fn reject(&self, reason: Rejection) {
        self.rejected[reason.index()].inc();
    }

    /// The gateway refused an upgrade.
    pub fn refused(&self, status: u16) {
        self.refused[Refused::with(status).index()].inc();
    }

    /// The listener's certificate has changed.
    pub fn reloaded(&self, result: Reload) {
        self.certificate_stale.set(i64::from(result == Reload::Failed));
        self.reloads[result.index()].inc();
    }

    /// A client has come; it is counted until the seat is dropped.
    #[must_use]
    pub fn seat(&self) -> Seat {
        self.clients.inc();
        Seat(self.clients.clone())
    }

    /// The process drains from now on.
    pub fn drains(&self) {
        self.draining.set(1);
    }

    /// A request was answered.
    pub fn answered(&self, class: Class) {
        self.http_requests[class.index()].inc();
    }

    /// A relay has begun.
    pub fn opened(&self, kind: Kind) {
        self.connections[kind.index()].inc();
        self.connections_total[kind.index()].inc();
    }

    /// A relay has ended.
    pub fn ended(&self, kind: Kind, after: Duration) {
        self.connections[kind.index()].dec();
        self.connection_duration.observe(after.as_secs_f64());
    }

    /// A WebSocket was closed first by somebody, with a code.
    pub fn closed(&self, by: Initiator, code: u16) {
        let place = CLOSE_CODES.iter().position(|known| *known == code).unwrap_or(CLOSE_CODES.len() - 1);
        self.closes[by.index()][place].inc();
    }
}

/// Some of the series at one moment. Repeats count as such whether they were dropped or, while observing, passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named like their series")]
pub struct Totals {
    /// Judged and passed on as new.
    pub forwarded: u64,
    pub unjudged: u64,
    pub duplicate: u64,
    pub out_of_order: u64,
    pub evicted_live: u64,
    pub returned: u64,
    /// Upgrades that the gateway refused with 403.
    pub forbidden: u64,
    /// Clients for which there was no room.
    pub turned_away: u64,
    pub certificate_stale: bool,
    pub clients: u64,
    pub runs: u64,
    /// Runs of the connection that tracks most.
    pub largest: u64,
    pub distinct: u64,
    pub guard_admitted: u64,
    /// Or would have been, if seqgate did not only observe.
    pub guard_refused: u64,
}

/// A client's place among those that are open now.
pub struct Seat(IntGauge);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn clamp(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn seen(counts: &[u32]) -> impl Iterator<Item = (usize, u64)> {
    counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| (i, u64::from(*n)))
}
