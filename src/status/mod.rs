//! What an operator sees at a glance: a report of this moment and the last minutes, as JSON and as a page. Of
//! events it shows numbers, reasons and hashes; never an id, a token or a text.
//!
//! `report.rs` is the data, `outlook.rs` the sentence on top, `page.rs` the page, `chart.rs` its charts.

mod chart;
mod outlook;
mod page;
mod report;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::drain::{Drain, Phase};
use crate::guard::{Limits, Scope};
use crate::journal::Journal;
use crate::metrics::{Metrics, Totals};
use crate::roster::Roster;
use crate::sieve::Mode;
use crate::upstream::Unreachable;

pub use self::outlook::Level;
pub use self::report::Report;

/// Between two samples, and between two updates of the page.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Samples that are kept: ten minutes, 30 KiB, whoever looks on.
const SAMPLES: usize = 300;
/// Connections that a report lists, the oldest first.
const LISTED: usize = 50;

/// What does not change while the process lives.
pub struct Facts {
    /// The gateway's address.
    pub gateway: String,
    /// Whether repeats are dropped or only counted.
    pub mode: Mode,
    /// Runs that one connection can track.
    pub capacity: usize,
    /// Client connections at one time.
    pub max_clients: usize,
    /// What the run guard allows; `None`: it is off.
    pub guard: Option<(Limits, Scope)>,
    /// Name, value and source of each setting.
    pub settings: Vec<[String; 3]>,
}

/// Makes reports.
pub struct Status {
    facts: Facts,
    started: Instant,
    metrics: Arc<Metrics>,
    roster: Arc<Roster>,
    journal: Arc<Journal>,
    drain: Arc<Drain>,
    /// At most [`SAMPLES`], one each [`INTERVAL`], the newest at the end.
    samples: Mutex<VecDeque<Totals>>,
}

impl Status {
    /// Reports about these.
    #[must_use]
    pub fn new(
        facts: Facts,
        metrics: Arc<Metrics>,
        roster: Arc<Roster>,
        journal: Arc<Journal>,
        drain: Arc<Drain>,
    ) -> Self {
        let mut samples = VecDeque::with_capacity(SAMPLES);
        samples.push_back(metrics.totals());
        let samples = Mutex::new(samples);
        Self { facts, started: Instant::now(), metrics, roster, journal, drain, samples }
    }

    /// Takes samples until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
        // A sample stands for its interval: none are made up for a time in which the process was stopped.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let totals = self.metrics.totals();
            let mut samples = self.samples();
            if samples.len() == SAMPLES {
                samples.pop_front();
            }
            samples.push_back(totals);
        }
    }

    /// A report of now; `gateway` says whether the gateway accepts connections, and if not, why.
    #[must_use]
    pub fn report(&self, gateway: Result<(), Arc<Unreachable>>) -> Report<'_> {
        let (listed, upgraded) = self.roster.oldest(LISTED);
        Report {
            facts: &self.facts,
            at: SystemTime::now(),
            uptime: self.started.elapsed(),
            draining: self.drain.phase() >= Phase::Draining,
            gateway,
            now: self.metrics.totals(),
            samples: self.samples().iter().copied().collect(),
            connections: listed.iter().map(|member| report::Connection::of(member)).collect(),
            upgraded,
            drops: self.journal.last(),
        }
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<Totals>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
