//! What the run guard did.

use prometheus::{IntCounter, IntGauge};

use super::maker::Maker;
use crate::guard::Reason;
use crate::guard::gate::Tally;

/// The label of a message that was let in by its beginning and turned out to say something else.
const DECEIT: &str = "deceit";

pub(super) struct Series {
    admitted: IntCounter,
    /// By `Reason as usize`.
    refused: [IntCounter; Reason::ALL.len()],
    deceits: IntCounter,
    would_refuse: [IntCounter; Reason::ALL.len()],
    pub(super) buckets: IntGauge,
}

impl Series {
    pub(super) fn new(make: &Maker<'_>) -> prometheus::Result<Self> {
        let refused = make.counters(
            "guard_refused_total",
            "Requests to start a run that did not reach the gateway, by reason.",
            &["reason"],
        )?;
        let would_refuse = make.counters(
            "guard_would_refuse_total",
            "Requests to start a run that reached the gateway only because seqgate observes, by reason.",
            &["reason"],
        )?;
        Ok(Self {
            admitted: make.counter(
                "guard_admitted_total",
                "Requests to start a run that were within the limits, repeated ones included.",
            )?,
            refused: Reason::ALL.map(|reason| refused.with_label_values(&[reason.name()])),
            deceits: refused.with_label_values(&[DECEIT]),
            would_refuse: Reason::ALL.map(|reason| would_refuse.with_label_values(&[reason.name()])),
            buckets: make.gauge("guard_buckets", "Clients of which the guard knows something now.")?,
        })
    }

    pub(super) fn add(&self, tally: &Tally) {
        let refused = self.refused.iter().zip(tally.refused);
        let would_refuse = self.would_refuse.iter().zip(tally.would_refuse);
        let singles = [(&self.admitted, tally.admitted + tally.repeated), (&self.deceits, tally.deceits)];
        for (counter, n) in refused.chain(would_refuse).chain(singles).filter(|(_, n)| *n > 0) {
            counter.inc_by(n.into());
        }
    }

    /// Admitted, refused or nearly so.
    pub(super) fn totals(&self) -> (u64, u64) {
        let refused = self.refused.iter().chain(&self.would_refuse).map(IntCounter::get).sum::<u64>();
        (self.admitted.get(), refused + self.deceits.get())
    }
}
