//! The filter over a recording, as if seqgate had stood before its clients.
//!
//! The law of [`Replay`]: an event is judged by the same reading and the same ledger as on the wire, each connection for
//! itself; whatever the recording holds, memory stays below named bounds, and what they cut off is said.

mod connection;
mod drop;
mod forgotten;
mod lines;
mod need;
mod progress;
mod record;
mod report;
mod run;
mod trail;

use std::hash::RandomState;

use lru::LruCache;

use self::connection::Connection;
pub use self::connection::Counts;
pub use self::drop::Drop;
pub use self::lines::{LONGEST, Line, Lines};
use self::record::Record;
pub use self::report::{Advice, Named, Report};
pub use self::run::{Error, Job, help};
use self::trail::Trails;
use crate::filter::Verdict;
use crate::json::Str;
use crate::sieve::{Rules, Seen, Unjudged};
use crate::stamp::{RunKey, Stamp};

/// Runs of one connection that are followed to find out how large its ledger should be, if the setting is not larger. Should
/// one come back after so many others, the answer is rough.
const WIDE: usize = 16_384;
/// Connections that can have as many at one time. Where there is no room left, a connection gets a rough answer.
const WIDE_CONNECTIONS: usize = 8;
/// Lines that could not be used and are named.
const NAMED: usize = 5;
/// Characters of a connection's name that are shown.
const NAME: usize = 24;

/// Why a line could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Not JSON, or not UTF-8.
    NotJson,
    /// Neither a frame nor a line of a capture.
    Neither,
    /// Longer than [`LONGEST`].
    TooLong,
}

impl Unusable {
    /// In words, behind "line 7 ".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NotJson => "is not JSON",
            Self::Neither => {
                "is neither a frame (no \"type\") nor a line of a capture (no \"dir\" and \"text\")"
            }
            Self::TooLong => "has more than 32 MiB",
        }
    }
}

/// A recording, line by line.
pub struct Replay {
    rules: Rules,
    /// The connections that are followed, the least recently used first.
    connections: LruCache<RunKey, Connection, RandomState>,
    most_connections: usize,
    /// What became of those that are followed no more.
    closed: Counts,
    closed_count: u64,
    opened: u64,
    /// All runs of [`Connection::wide_runs`].
    wide_runs: usize,
    trails: Trails,
    lines: u64,
    from_clients: u64,
    unusable: u64,
    named: Vec<(u64, Unusable)>,
    /// The text of a frame in a capture.
    text: Vec<u8>,
}

impl Replay {
    /// A replay that follows so many connections at one time.
    #[must_use]
    pub fn new(rules: Rules, most_connections: usize) -> Self {
        Self {
            rules,
            connections: LruCache::unbounded_with_hasher(RandomState::new()),
            most_connections: most_connections.max(1),
            closed: Counts::default(),
            closed_count: 0,
            opened: 0,
            wide_runs: 0,
            trails: Trails::new(),
            lines: 0,
            from_clients: 0,
            unusable: 0,
            named: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Takes the next line; the event in it, if that is dropped.
    pub fn line(&mut self, line: &Line<'_>) -> Option<Drop> {
        self.lines += 1;
        let Line::Text(line) = *line else { return self.unusable(Unusable::TooLong) };
        let line = line.trim_ascii();
        if line.is_empty() {
            return None;
        }
        match Record::read(line) {
            Ok(Record::Frame) => self.frame(None, None, line),
            Ok(Record::In { conn, ms, text }) => {
                let mut decoded = std::mem::take(&mut self.text);
                decoded.clear();
                text.decode(|piece| decoded.extend_from_slice(piece));
                let dropped = self.frame(conn, ms, &decoded);
                self.text = decoded;
                dropped
            }
            Ok(Record::Out) => {
                self.from_clients += 1;
                None
            }
            Ok(Record::Neither) => self.unusable(Unusable::Neither),
            Err(_) => self.unusable(Unusable::NotJson),
        }
    }

    fn unusable(&mut self, why: Unusable) -> Option<Drop> {
        self.unusable += 1;
        if self.named.len() < NAMED {
            self.named.push((self.lines, why));
        }
        None
    }

    /// A frame from the gateway.
    fn frame(&mut self, conn: Option<Str<'_>>, ms: Option<u64>, text: &[u8]) -> Option<Drop> {
        let subject = if text.len() > self.rules.inspect_limit {
            Err(Unjudged::Oversized)
        } else {
            Seen::wholly(text, &self.rules).subject
        };
        let line = self.lines;
        self.open(conn);
        let (_, connection) = self.connections.iter_mut().next()?;
        connection.now = connection.now.max(ms.unwrap_or_default());
        let stamp = match subject {
            Ok(stamp) => stamp,
            Err(reason) => {
                connection.counts.unjudged[reason as usize] += 1;
                return None;
            }
        };
        if ms.is_none() {
            connection.now = connection.now.max(stamp.ts.unwrap_or_default());
        }
        let silence = connection.ledger.known(stamp.run).map(|run| connection.now - run.seen());
        let wide_before = connection.wide_runs();
        let verdict = connection.judge(&stamp, line, &mut self.trails);
        self.wide_runs = self.wide_runs + connection.wide_runs() - wide_before;
        if self.wide_runs > WIDE_CONNECTIONS * WIDE.max(self.rules.runs) {
            self.wide_runs -= connection.wide_runs();
            connection.give_up_on_size();
        }
        if verdict == Verdict::NewRun {
            self.rules.distinct.add(stamp.run.id());
        }
        verdict
            .drops()
            .then(|| explain(connection, &self.trails, &self.rules, &stamp, verdict, (line, ms, silence)))
    }

    /// Makes a connection the last used one.
    fn open(&mut self, conn: Option<Str<'_>>) {
        let key = self.rules.secret.run(conn.unwrap_or(Str::unescaped(b"")));
        if self.connections.peek_mru().is_some_and(|(last, _)| *last == key) || self.connections.promote(&key)
        {
            return;
        }
        if self.connections.len() == self.most_connections
            && let Some((_, mut closed)) = self.connections.pop_lru()
        {
            closed.take_stock();
            self.wide_runs -= closed.wide_runs();
            self.closed.add(&closed.counts);
            self.closed_count += 1;
        }
        self.opened += 1;
        let most_runs = WIDE.max(self.rules.runs);
        let connection = Connection::new(self.opened, conn.map(shown), &self.rules, most_runs);
        self.connections.push(key, connection);
    }

    /// What has become of all lines.
    #[must_use]
    pub fn report(mut self) -> Report {
        let mut connections = Vec::new();
        while let Some((_, mut connection)) = self.connections.pop_lru() {
            connection.take_stock();
            connections.push((connection.number, connection.name, connection.counts));
        }
        connections.sort_by_key(|(number, ..)| *number);
        Report {
            runs: self.rules.runs as u64,
            lines: self.lines,
            from_clients: self.from_clients,
            unusable: self.unusable,
            named: self.named,
            connections: connections.into_iter().map(|(_, name, counts)| (name, counts)).collect(),
            closed: (self.closed_count, self.closed),
            distinct_runs: self.rules.distinct.estimate(),
        }
    }
}

/// A connection's name as it can be shown: its first characters, none of which a terminal would obey.
fn shown(name: Str<'_>) -> String {
    let mut bytes = Vec::new();
    name.decode(|piece| bytes.extend_from_slice(&piece[..piece.len().min(4 * NAME - bytes.len())]));
    String::from_utf8_lossy(&bytes).chars().take(NAME).flat_map(char::escape_debug).collect()
}

fn explain(
    connection: &Connection,
    trails: &Trails,
    rules: &Rules,
    stamp: &Stamp,
    verdict: Verdict,
    (line, ms, silence): (u64, Option<u64>, Option<u64>),
) -> Drop {
    let known = connection.ledger.known(stamp.run);
    let line_of = |seq, stream| trails.line_of_seq(connection.number, stamp.run, seq, stream);
    let age = known.and_then(|run| run.age(stamp.mark)).filter(|_| verdict == Verdict::Duplicate);
    let run_high = known.map_or(stamp.seq, |run| run.high());
    let stream_high = known.and_then(|run| run.stream_high(stamp.stream));
    Drop {
        line,
        conn: connection.name.clone(),
        ms,
        verdict,
        stream: rules.secret.stream_name(stamp.stream),
        seq: stamp.seq,
        ts: stamp.ts,
        run: stamp.run.short(),
        same: age.map(|age| (trails.line_of_age(connection.number, stamp.run, age), age)),
        stream_high: stream_high.map(|high| (high, line_of(high, Some(stamp.stream)))),
        run_high: (run_high, line_of(run_high, None)),
        newest: known.and_then(|run| run.newest()),
        ended: known.is_some_and(|run| run.has_ended()),
        silence: silence.unwrap_or_default(),
    }
}
