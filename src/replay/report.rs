//! What became of a recording, as tables and as one object.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};

use super::{Counts, Unusable};
use crate::filter::{Ledger, Verdict};
use crate::sieve::Unjudged;

/// Connections that have a line of their own; the others share one.
const CONNECTIONS: usize = 10;
/// A ledger smaller than this is not worth saving on.
const SMALLEST: u64 = 64;

/// A connection's name, where the recording has one, and its counts.
pub type Named = (Option<String>, Counts);

/// What became of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The size of each connection's ledger.
    pub runs: u64,
    /// Lines read.
    pub lines: u64,
    /// Frames from clients, which nobody judges.
    pub from_clients: u64,
    /// Lines that could not be used.
    pub unusable: u64,
    /// The first of them.
    pub named: Vec<(u64, Unusable)>,
    /// Name and counts of the connections that were followed to the end, in the order of their first frames.
    pub connections: Vec<Named>,
    /// How many others there were, and all their counts.
    pub closed: (u64, Counts),
    /// An estimate of the different runs.
    pub distinct_runs: f64,
}

/// What can be said about the size of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// With fewer runs, some would be forgotten before their last event.
    pub least: u64,
    /// The same with head-room: twice as many or more, a power of two. None where there was no run to learn from.
    pub recommended: Option<u64>,
    /// The least may be more than that.
    pub is_rough: bool,
}

impl Report {
    /// The counts of all connections.
    #[must_use]
    pub fn total(&self) -> Counts {
        let mut total = self.closed.1.clone();
        self.connections.iter().for_each(|(_, counts)| total.add(counts));
        total
    }

    /// How large each connection's ledger should be.
    #[must_use]
    pub fn advice(&self) -> Advice {
        let Counts { least, is_rough, .. } = self.total();
        let recommended = (least > 0).then(|| (2 * least).next_power_of_two().max(SMALLEST));
        Advice { least, recommended, is_rough }
    }

    /// As one object.
    #[must_use]
    pub fn json(&self) -> Value {
        let total = self.total();
        let Advice { least, recommended, is_rough } = self.advice();
        let (shown, others) = self.by_drops();
        let shown = shown.iter().map(|(name, counts)| {
            let mut object = of_counts(counts);
            object.insert("conn".into(), json!(name));
            object
        });
        let named = self.named.iter().map(|(line, why)| json!({ "line": line, "why": why.words() }));
        let mut summary = of_counts(&total);
        summary.extend([
            ("type".into(), json!("summary")),
            ("lines".into(), json!(self.lines)),
            ("frames_from_clients".into(), json!(self.from_clients)),
            ("unusable_lines".into(), json!(self.unusable)),
            ("unusable_first".into(), named.collect()),
            ("connections_total".into(), json!(self.connections.len() as u64 + self.closed.0)),
            ("connections".into(), shown.map(Value::Object).collect()),
            ("connections_other".into(), Value::Object(of_counts(&others.1))),
            ("distinct_runs_estimate".into(), json!(self.distinct_runs.round() as u64)),
            ("runs_per_connection".into(), json!(self.runs)),
            ("runs_per_connection_least".into(), json!(least)),
            ("runs_per_connection_least_is_rough".into(), json!(is_rough)),
            ("runs_per_connection_recommended".into(), json!(recommended)),
        ]);
        Value::Object(summary)
    }

    /// The connections that have a line of their own, those with most drops first; and how many others, with their counts.
    fn by_drops(&self) -> (Vec<&Named>, (u64, Counts)) {
        let mut shown: Vec<_> = self.connections.iter().collect();
        // Stable: where all is equal, the first to come.
        shown.sort_by_key(|(_, counts)| std::cmp::Reverse((counts.dropped(), counts.frames())));
        let (mut count, mut counts) = self.closed.clone();
        for (_, other) in shown.drain(CONNECTIONS.min(shown.len())..) {
            count += 1;
            counts.add(other);
        }
        (shown, (count, counts))
    }

    fn write_events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        writeln!(f, "{:<10} {:<12} {:>12}", "verdict", "reason", "events")?;
        for verdict in Verdict::ALL {
            let what = if verdict.drops() { "dropped" } else { "forwarded" };
            writeln!(f, "{what:<10} {:<12} {:>12}", verdict.name(), total.judged[verdict as usize])?;
        }
        for reason in Unjudged::ALL {
            let count = total.unjudged[reason as usize];
            if count > 0 {
                writeln!(f, "{:<10} {:<12} {count:>12}", "unjudged", reason.name())?;
            }
        }
        Ok(())
    }

    fn write_connections(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, (others, of_others)) = self.by_drops();
        if shown.len() as u64 + others < 2 {
            return Ok(());
        }
        writeln!(f, "\n{:<24} {:>12} {:>12} {:>12}", "connection", "frames", "dropped", "runs needed")?;
        let mut row = |name: &str, counts: &Counts| {
            let (frames, dropped, least) = (counts.frames(), counts.dropped(), counts.least);
            writeln!(f, "{name:<24} {frames:>12} {dropped:>12} {least:>12}")
        };
        for (name, counts) in shown {
            row(name.as_deref().unwrap_or("(no name)"), counts)?;
        }
        if others > 0 {
            row(&format!("({others} others)"), &of_others)?;
        }
        Ok(())
    }

    fn write_size(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        let Advice { least, recommended: Some(recommended), is_rough } = self.advice() else {
            return writeln!(
                f,
                "\nNo run was found, so nothing can be said about SEQGATE_RUNS_PER_CONNECTION."
            );
        };
        let [live, ended] = total.evicted;
        writeln!(
            f,
            "\nWith {} runs per connection: at most {} tracked at one time, {} evicted ({live} of them before their end), \
             {} expired, {} seen again after their eviction.",
            self.runs,
            total.tracked,
            live + ended,
            total.expired,
            total.returned
        )?;
        let at_least = if is_rough { "at least " } else { "" };
        writeln!(f, "Needed, so that none is forgotten before its last event: {at_least}{least}.")?;
        let kib = (recommended * Ledger::RUN_BYTES as u64).div_ceil(1 << 10);
        let size = format!("SEQGATE_RUNS_PER_CONNECTION={recommended} (at most {kib} KiB per connection)");
        match self.runs {
            runs if runs < least => writeln!(f, "{runs} are too few. Recommended, with head-room: {size}.")?,
            runs if runs < recommended => {
                writeln!(f, "{runs} are enough, but barely. Recommended, with head-room: {size}.")?;
            }
            runs if runs == recommended => writeln!(f, "{runs} are enough, with head-room.")?,
            runs => writeln!(f, "{runs} are enough; {size} would do, with head-room.")?,
        }
        if is_rough {
            writeln!(
                f,
                "There were more runs than could be followed, so more may be needed than is said here."
            )?;
        }
        Ok(())
    }
}

fn of_counts(counts: &Counts) -> Map<String, Value> {
    let by_verdict = |drops| -> Map<_, _> {
        let of = Verdict::ALL.into_iter().filter(|verdict| verdict.drops() == drops);
        of.map(|verdict| (verdict.name().to_owned(), json!(counts.judged[verdict as usize]))).collect()
    };
    let unjudged = Unjudged::ALL.into_iter();
    let unjudged: Map<_, _> =
        unjudged.map(|reason| (reason.name().to_owned(), json!(counts.unjudged[reason as usize]))).collect();
    Map::from_iter([
        ("forwarded".to_owned(), Value::Object(by_verdict(false))),
        ("dropped".to_owned(), Value::Object(by_verdict(true))),
        ("unjudged".to_owned(), Value::Object(unjudged)),
        ("runs_tracked_most".to_owned(), json!(counts.tracked)),
        ("runs_evicted_live".to_owned(), json!(counts.evicted[0])),
        ("runs_evicted_ended".to_owned(), json!(counts.evicted[1])),
        ("runs_expired".to_owned(), json!(counts.expired)),
        ("runs_evicted_then_seen".to_owned(), json!(counts.returned)),
        ("runs_needed".to_owned(), json!(counts.least)),
    ])
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut notes = String::new();
        if self.from_clients > 0 {
            write!(notes, ", {} of them from clients, not looked at", self.from_clients)?;
        }
        if self.unusable > 0 {
            write!(notes, ", {} of them not usable", self.unusable)?;
        }
        writeln!(f, "{} lines{notes}", self.lines)?;
        for (line, why) in &self.named {
            writeln!(f, "line {line} {}", why.words())?;
        }
        writeln!(f)?;
        self.write_events(f)?;
        self.write_connections(f)?;
        self.write_size(f)
    }
}
