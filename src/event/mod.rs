//! What a text message of the gateway says about itself, as far as the filter asks.
//!
//! The law of this file: keys count where they stand in the structure, the last of equal keys counts (as in
//! the clients' `JSON.parse`), and what is not certain is `Malformed` or has no claim.
//!
//! [`peek`] reads a text wholly; [`glance`] reads its two ends only, and has to earn the trust that this needs; a
//! [`Form`] saves the glance at what is like an earlier one. [`outer_at_end`] finds the number of a message that passes
//! unread.

mod ends;
mod form;
mod tail;

use std::ops::Range;

pub use self::ends::{Glance, Shape, glance};
pub use self::form::{Filled, Form, Layout};
pub use self::tail::{EVENT_START, outer_at_end};

use crate::json::{Malformed, Reader, Str, Value};

/// Bytes of the longest key that means something.
const LONGEST_KEY: usize = "payload".len();

/// A text message as the filter sees it.
#[derive(Debug)]
pub struct Sighting<'a> {
    /// The frame's own number on its connection: the top-level `seq` of an event.
    pub outer: Option<Outer>,
    /// What it reports.
    pub subject: Subject<'a>,
}

/// The outer `seq`, an integer, and where its digits stand in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// `0 <= value <= 2^53 - 1`.
    pub value: u64,
    /// Byte range of the digits.
    pub at: Range<usize>,
}

/// What kind of message it is.
#[derive(Debug)]
pub enum Subject<'a> {
    /// Not one of the filtered events.
    Other,
    /// A filtered event without a string `runId`.
    NoRun,
    /// A filtered event without an integer `seq` in its payload.
    NoSeq,
    /// An event of a run.
    Event(Claim<'a>),
}

/// What an event says of its place in a run.
#[derive(Debug)]
pub struct Claim<'a> {
    /// The event's name, as its index in the list of filtered names.
    pub event: usize,
    /// Chosen by clients: any content, any length.
    pub run: Str<'a>,
    /// An open set of names; events without one have a stream of their own.
    pub stream: Option<Str<'a>>,
    /// Counts within the run.
    pub seq: u64,
    /// Emission time in milliseconds.
    pub ts: Option<u64>,
    /// A lifecycle event of phase `end` or `error`: the run is over.
    pub ends: bool,
    /// A lifecycle event of phase `start` or a `run_status` event of phase `preparing_workspace`: a run begins.
    pub starts: bool,
    /// The bytes of the payload object where there is no `ts`, else none.
    pub payload: &'a [u8],
}

/// Reads a message; `filtered` names the events that are judged.
///
/// # Errors
/// The text is not JSON.
pub fn peek<'a>(text: &'a [u8], filtered: &[String]) -> Result<Sighting<'a>, Malformed> {
    let mut reader = Reader::new(text)?;
    if reader.peek() != Some(b'{') {
        reader.value()?;
        reader.end()?;
        return Ok(Sighting { outer: None, subject: Subject::Other });
    }
    let mut is_event = false;
    let mut filtered_as = None;
    let mut payload = None;
    let mut outer = None;
    reader.object(|reader, key| {
        match key.short(&mut [0; LONGEST_KEY]) {
            b"type" => is_event = matches!(reader.value()?, Value::Str(s) if s.is("event")),
            b"event" => {
                let name = reader.value()?.string();
                filtered_as = name.and_then(|s| filtered.iter().position(|name| s.is(name)));
            }
            b"payload" => payload = Payload::read(reader, text)?,
            b"seq" => {
                reader.peek();
                let start = reader.position();
                outer = reader.value()?.integer().map(|value| Outer { value, at: start..reader.position() });
            }
            _ => drop(reader.value()?),
        }
        Ok(())
    })?;
    reader.end()?;
    let subject = match filtered_as {
        Some(event) if is_event => payload.map_or(Subject::NoRun, |payload| payload.subject(event)),
        _ => Subject::Other,
    };
    Ok(Sighting { outer: outer.filter(|_| is_event), subject })
}

/// What stands in a payload object, the last of equal keys each.
#[derive(Default)]
struct Payload<'a> {
    run: Option<Str<'a>>,
    stream: Option<Str<'a>>,
    seq: Option<u64>,
    ts: Option<u64>,
    phase: Option<Phase>,
    bytes: &'a [u8],
}

impl<'a> Payload<'a> {
    /// `None` where the payload is not an object.
    fn read(reader: &mut Reader<'a>, text: &'a [u8]) -> Result<Option<Self>, Malformed> {
        if reader.peek() != Some(b'{') {
            reader.value()?;
            return Ok(None);
        }
        let start = reader.position();
        let mut found = Self::default();
        reader.object(|reader, key| {
            match key.short(&mut [0; LONGEST_KEY]) {
                b"data" => found.phase = phase(reader)?,
                b"runId" => found.run = reader.value()?.string(),
                b"stream" => found.stream = reader.value()?.string(),
                b"seq" => found.seq = reader.value()?.integer(),
                b"ts" => found.ts = reader.value()?.integer(),
                _ => drop(reader.value()?),
            }
            Ok(())
        })?;
        found.bytes = &text[start..reader.position()];
        Ok(Some(found))
    }

    fn subject(self, event: usize) -> Subject<'a> {
        let Some(run) = self.run else { return Subject::NoRun };
        let Some(seq) = self.seq else { return Subject::NoSeq };
        let is_on = |name| self.stream.is_some_and(|s| s.is(name));
        let (starts, ends) = match self.phase {
            None => (false, false),
            Some(Phase::Start) => (is_on("lifecycle"), false),
            Some(Phase::PreparingWorkspace) => (is_on("run_status"), false),
            Some(Phase::Last) => (false, is_on("lifecycle")),
        };
        let payload = if self.ts.is_none() { self.bytes } else { &[] };
        Subject::Event(Claim { event, run, stream: self.stream, seq, ts: self.ts, ends, starts, payload })
    }
}

/// A value of `data.phase` that matters to the filter or the guard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `start`.
    Start,
    /// `preparing_workspace`.
    PreparingWorkspace,
    /// `end` or `error`.
    Last,
}

impl Phase {
    fn of(name: Str<'_>) -> Option<Self> {
        match name.short(&mut [0; "preparing_workspace".len()]) {
            b"start" => Some(Self::Start),
            b"preparing_workspace" => Some(Self::PreparingWorkspace),
            b"end" | b"error" => Some(Self::Last),
            _ => None,
        }
    }
}

/// Reads `data` and returns its `phase`, the last one if there are several.
pub(crate) fn phase(reader: &mut Reader<'_>) -> Result<Option<Phase>, Malformed> {
    let mut phase = None;
    reader.members(|reader, key| {
        let value = reader.value()?;
        if key.is("phase") {
            phase = value.string().and_then(Phase::of);
        }
        Ok(())
    })?;
    Ok(phase)
}
