//! How series are made: named alike, registered at once.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::labels::Label;

pub(super) fn each<L: Label, T>(make: impl Fn(&'static str) -> T) -> Vec<T> {
    L::ALL.iter().map(|label| make(label.name())).collect()
}

pub(super) fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("seqgate_{name}"), help)
}

/// Makes series and registers them.
pub(super) struct Maker<'a>(pub(super) &'a Registry);

impl Maker<'_> {
    pub(super) fn register(&self, collector: impl Collector + 'static) -> prometheus::Result<()> {
        self.0.register(Box::new(collector))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let gauge = IntGauge::with_opts(options(name, help))?;
        self.register(gauge.clone())?;
        Ok(gauge)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        let gauges = IntGaugeVec::new(options(name, help), labels)?;
        self.register(gauges.clone())?;
        Ok(gauges)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let counter = IntCounter::with_opts(options(name, help))?;
        self.register(counter.clone())?;
        Ok(counter)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(options(name, help), labels)?;
        self.register(counters.clone())?;
        Ok(counters)
    }

    /// A counter for each value of a label.
    pub(super) fn family<L: Label>(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> prometheus::Result<Vec<IntCounter>> {
        let counters = self.counters(name, help, &[label])?;
        Ok(each::<L, _>(|value| counters.with_label_values(&[value])))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let common = options(name, help);
        let histogram = Histogram::with_opts(HistogramOpts::from(common).buckets(buckets.to_vec()))?;
        self.register(histogram.clone())?;
        Ok(histogram)
    }
}
