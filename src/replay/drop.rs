//! A dropped event, with what it was measured against, for people and for machines.

use std::fmt;

use serde_json::{Value, json};

use crate::filter::Verdict;

/// An event that seqgate would not have forwarded. Lines are those of the recording; where they are not
/// remembered any more there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// Where the event stands.
    pub line: u64,
    /// The connection's name, where the recording has one.
    pub conn: Option<String>,
    /// The recorder's time, in milliseconds.
    pub ms: Option<u64>,
    /// Why it was dropped.
    pub verdict: Verdict,
    /// Its stream, as it can be shown.
    pub stream: &'static str,
    /// Its number in the run.
    pub seq: u64,
    /// Its emission time in milliseconds.
    pub ts: Option<u64>,
    /// Its run, hashed.
    pub run: u64,
    /// Where the same event passed, and how many events of the run before: of a duplicate.
    pub same: Option<(Option<u64>, usize)>,
    /// The highest number of its stream so far, and where it passed.
    pub stream_high: Option<(u64, Option<u64>)>,
    /// The highest number of its run so far, and where it passed.
    pub run_high: (u64, Option<u64>),
    /// The newest emission time of its run so far.
    pub newest: Option<u64>,
    /// Its run had ended.
    pub ended: bool,
    /// Milliseconds since the run's event before it, dropped or not.
    pub silence: u64,
}

fn at(line: Option<u64>) -> String {
    line.map(|line| format!(" (line {line})")).unwrap_or_default()
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(conn) = &self.conn {
            write!(f, ", connection {conn}")?;
        }
        if let Some(ms) = self.ms {
            write!(f, ", {ms} ms")?;
        }
        let event = format!("{} event {} of run #{:016x}", self.stream, self.seq, self.run);
        if let Some((line, age)) = self.same {
            let place = line.map_or_else(|| "an event".to_owned(), |line| format!("line {line}"));
            let what = if self.ts.is_some() { "seq, ts and stream" } else { "payload and stream" };
            let between = match age {
                0 => ", the event before".to_owned(),
                1 => ", 1 event of the run between".to_owned(),
                _ => format!(", {age} events of the run between"),
            };
            return write!(f, ": dropped as duplicate: {event}: same {what} as {place}{between}");
        }
        write!(f, ": dropped as out of order: {event}: ")?;
        let (run_high, run_line) = self.run_high;
        match self.stream_high {
            Some((high, line)) if high >= self.seq => {
                write!(f, "its stream had reached {high}{}, the run {run_high}{}", at(line), at(run_line))?;
            }
            _ => write!(f, "the run had reached {run_high}{}, and must rise as a whole", at(run_line))?,
        }
        match (self.ts, self.newest) {
            (Some(ts), Some(newest)) => write!(f, "; its ts {ts} is not newer than {newest}")?,
            (Some(_), None) => f.write_str("; no event of the run had a ts to compare with its own")?,
            (None, _) => f.write_str("; it has no ts that could show a new start")?,
        }
        let ended = if self.ended { "had ended, but this is no start" } else { "had not ended" };
        write!(f, "; the run {ended}, and its last event arrived {} ms before", self.silence)
    }
}

impl Drop {
    /// As one object.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "type": "drop",
            "line": self.line,
            "conn": self.conn,
            "ms": self.ms,
            "reason": self.verdict.name(),
            "stream": self.stream,
            "seq": self.seq,
            "ts": self.ts,
            "run": format!("{:016x}", self.run),
            "same_line": self.same.and_then(|(line, _)| line),
            "same_events_between": self.same.map(|(_, age)| age),
            "stream_high": self.stream_high.map(|(high, _)| high),
            "stream_high_line": self.stream_high.and_then(|(_, line)| line),
            "run_high": self.run_high.0,
            "run_high_line": self.run_high.1,
            "run_newest_ts": self.newest,
            "run_ended": self.ended,
            "run_silence_ms": self.silence,
            "why": self.to_string(),
        })
    }
}
