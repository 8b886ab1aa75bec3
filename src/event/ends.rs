//! The two ends of a message, read without its middle: what an event says of itself stands before its text and
//! behind it, and the cost does not grow with the text.
//!
//! The law of this file: a glance may say nothing, and then the text has to be read wholly. Where it says something,
//! that is what [`super::peek`] says, provided that the text is JSON, that no object in it has two members of one name
//! (both hold for whatever `JSON.stringify` has written), and that no array or object stands behind the payload.
//!
//! Why: going right from the start of JSON text, every token is known for what it is. Going left from its end too: a
//! document ends outside of any string, and a string that is closed was opened by the nearest quote that no backslash
//! escapes. What can't be known is whether the object whose end is met first is the payload. Its [`Shape`] makes
//! that likely once it is known of a message that was read wholly; whoever glances sees to that, and checks.

use std::ops::Range;

use super::form::Layout;
use super::{Claim, Outer, Sighting, Subject};
use crate::json::words::{self, Name};
use crate::json::{MAX_INTEGER, Str};

/// How an event begins.
const EVENT: &[u8] = br#"{"type":"event","event":""#;
/// What stands between an event's name and the members of its payload.
const PAYLOAD: &[u8] = br#","payload":{"#;
/// How the answer to a request begins.
const RESPONSE: &[u8] = br#"{"type":"res","#;

/// What a message seems to say.
#[derive(Debug)]
pub struct Glance<'a> {
    /// As by [`super::peek`].
    pub sighting: Sighting<'a>,
    /// The names that were read on the way to it.
    pub shape: Shape,
    /// Where it stands, if it is an event whose parts stand in the usual order.
    pub layout: Option<Layout>,
}

impl Glance<'_> {
    fn other(outer: Option<Outer>, shape: Shape) -> Self {
        Self { sighting: Sighting { outer, subject: Subject::Other }, shape, layout: None }
    }
}

/// A hash of the keys at a message's ends, and of where the middle begins and ends among them. Of a longer key it
/// takes eight bytes and the length: no key that is looked for is longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape(u64);

impl Shape {
    #[inline]
    fn add(&mut self, key: Name) {
        let word = key.word ^ (key.len as u64) << 56;
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn mark(&mut self, byte: u8) {
        self.add(Name { word: u64::from(byte), len: 0 });
    }
}

const TYPE: Name = Name::of(b"type");
const EVENT_NAME: Name = Name::of(b"event");
const PAYLOAD_NAME: Name = Name::of(b"payload");
const DATA: Name = Name::of(b"data");
const RUN: Name = Name::of(b"runId");
const STREAM: Name = Name::of(b"stream");
const SEQ: Name = Name::of(b"seq");
const TS: Name = Name::of(b"ts");

/// The streams whose `data.phase` starts or ends a run.
const WITH_PHASE: [&[u8]; 2] = [b"lifecycle", b"run_status"];

/// Reads both ends of a message; `filtered` names the events that are judged. `None` where these do not hold all that is
/// needed, and for events of the streams `lifecycle` and `run_status`, because the phase is in the middle.
#[must_use]
pub fn glance<'a>(text: &'a [u8], filtered: &[String]) -> Option<Glance<'a>> {
    let mut shape = Shape::default();
    if text.starts_with(RESPONSE) {
        return Some(Glance::other(None, shape));
    }
    let mut front = Front { text, at: EVENT.len() };
    let mut back = Back { text, at: text.len() };
    let name = text.strip_prefix(EVENT).and_then(|_| front.string())?;
    let outer = back.frame(&mut shape)?;
    let Some(event) = filtered.iter().position(|known| known.as_bytes() == name) else {
        // Where there is no number to be seen, there may be one further in.
        return Some(Glance::other(Some(outer?), shape));
    };
    if !text[front.at..].starts_with(PAYLOAD) {
        return None;
    }
    front.at += PAYLOAD.len();
    let before = front.payload(&mut shape)?;
    let behind = back.payload(&mut shape)?;
    // An array or object: two bytes at least.
    if back.at < front.at + 2 {
        return None;
    }
    let stream = behind.stream.or(before.stream).filter(|(name, _)| !WITH_PHASE.contains(name))?;
    let (run, seq, ts) = (behind.run.or(before.run)?, behind.seq.or(before.seq)?, behind.ts.or(before.ts)?);
    // Behind its opening byte, before its closing one.
    let middle = front.at + 1..back.at - 1;
    let in_order = |outer: &Outer| {
        let places = [&run.1, &middle, &seq.1, &ts.1, &outer.at];
        places.is_sorted_by(|a, b| a.end <= b.start)
    };
    let layout = outer.as_ref().filter(|outer| in_order(outer)).map(|outer| Layout {
        run: run.1.clone(),
        middle: middle.clone(),
        seq: seq.1.clone(),
        ts: ts.1.clone(),
        outer: outer.at.clone(),
    });
    let claim = Claim {
        event,
        run: Str::unescaped(run.0),
        stream: Some(Str::unescaped(stream.0)),
        seq: seq.0,
        ts: Some(ts.0),
        ends: false,
        starts: false,
        payload: &[],
    };
    Some(Glance { sighting: Sighting { outer, subject: Subject::Event(claim) }, shape, layout })
}

/// What stands on one side of a payload's `data`.
#[derive(Default)]
struct Fields<'a> {
    run: Option<(&'a [u8], Range<usize>)>,
    stream: Option<(&'a [u8], Range<usize>)>,
    seq: Option<(u64, Range<usize>)>,
    ts: Option<(u64, Range<usize>)>,
}

/// A value without members, and its place; that of a string is between its quotes.
enum Scalar<'a> {
    /// A string without a backslash.
    Text(&'a [u8], Range<usize>),
    Integer(u64, Range<usize>),
    Word,
}

impl<'a> Scalar<'a> {
    fn text(self) -> Option<(&'a [u8], Range<usize>)> {
        if let Self::Text(text, at) = self { Some((text, at)) } else { None }
    }

    fn integer(self) -> Option<(u64, Range<usize>)> {
        if let Self::Integer(n, at) = self { Some((n, at)) } else { None }
    }
}

/// Reading forwards.
struct Front<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Front<'a> {
    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (*self.text.get(self.at)? == byte).then(|| self.at += 1)
    }

    /// The rest of a string and its closing quote.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        let close = words::special(self.text, self.at);
        let string = self.text.get(self.at..close)?;
        self.at = close;
        self.take(b'"')?;
        Some(string)
    }

    #[inline]
    fn key(&mut self) -> Option<Name> {
        self.take(b'"')?;
        let name = words::name_from(self.text, self.at)?;
        self.at += name.len + 1;
        self.take(b':')?;
        Some(name)
    }

    fn scalar(&mut self) -> Option<Scalar<'a>> {
        if self.take(b'"').is_some() {
            let start = self.at;
            return self.string().map(|text| Scalar::Text(text, start..start + text.len()));
        }
        let start = self.at;
        let rest = &self.text[start..];
        if let Some(b'{' | b'[') = rest.first() {
            return None;
        }
        let len = rest.iter().position(|byte| *byte == b',')?;
        self.at += len;
        if let Some((value, digits)) = words::last_number(rest, len)
            && digits == len
        {
            return (value <= MAX_INTEGER).then_some(Scalar::Integer(value, start..self.at));
        }
        matches!(&rest[..len], b"true" | b"false" | b"null").then_some(Scalar::Word)
    }

    /// The members of a payload before `data`; stops at its value.
    #[inline]
    fn payload(&mut self, shape: &mut Shape) -> Option<Fields<'a>> {
        let mut found = Fields::default();
        loop {
            let key = self.key()?;
            shape.add(key);
            match key {
                DATA => {
                    shape.mark(*self.text.get(self.at)?);
                    return Some(found);
                }
                RUN => found.run = Some(self.scalar()?.text()?),
                STREAM => found.stream = Some(self.scalar()?.text()?),
                SEQ => found.seq = Some(self.scalar()?.integer()?),
                TS => found.ts = Some(self.scalar()?.integer()?),
                _ => {
                    self.scalar()?;
                }
            }
            self.take(b',')?;
        }
    }
}

/// Reading backwards; `at` bytes are not yet read.
struct Back<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Back<'a> {
    #[inline]
    fn last(&self) -> Option<u8> {
        self.text[..self.at].last().copied()
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.last()? == byte).then(|| self.at -= 1)
    }

    /// A string whose closing quote was taken, and its opening quote.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        let close = self.at;
        let open = words::last_quote_or_slash(self.text, close)?;
        self.at = open;
        // A quote with a backslash before it is part of the string; but that is not what is taken next.
        (self.text[open] == b'"').then(|| &self.text[open + 1..close])
    }

    #[inline]
    fn key(&mut self) -> Option<Name> {
        self.take(b':')?;
        self.take(b'"')?;
        let name = words::name_before(self.text, self.at)?;
        self.at -= name.len + 1;
        Some(name)
    }

    #[inline]
    fn scalar(&mut self) -> Option<Scalar<'a>> {
        if self.take(b'"').is_some() {
            let end = self.at;
            return self.string().map(|text| Scalar::Text(text, end - text.len()..end));
        }
        let end = self.at;
        if let Some((value, digits)) = words::last_number(self.text, self.at) {
            self.at -= digits;
            // Anything but a key before them (a sign, a point, an exponent): no plain integer.
            let plain = self.last()? == b':' && value <= MAX_INTEGER;
            return plain.then_some(Scalar::Integer(value, self.at..end));
        }
        let word = [&b"true"[..], b"false", b"null"]
            .into_iter()
            .find(|word| self.text[..self.at].ends_with(word))?;
        self.at -= word.len();
        Some(Scalar::Word)
    }

    /// The frame's own members behind an object, which the payload is if no other stands there. That object's end is
    /// taken too.
    #[inline]
    fn frame(&mut self, shape: &mut Shape) -> Option<Option<Outer>> {
        self.take(b'}')?;
        let mut outer = None;
        while self.take(b'}').is_none() {
            let value = self.scalar()?;
            let key = self.key()?;
            shape.add(key);
            match key {
                SEQ => {
                    let (value, at) = value.integer()?;
                    outer = Some(Outer { value, at });
                }
                TYPE | EVENT_NAME | PAYLOAD_NAME => return None,
                _ => {}
            }
            self.take(b',')?;
        }
        shape.mark(b'}');
        Some(outer)
    }

    /// The members of a payload behind an array or object, which `data` is if no other stands there.
    #[inline]
    fn payload(&mut self, shape: &mut Shape) -> Option<Fields<'a>> {
        let mut found = Fields::default();
        loop {
            if let Some(end @ (b'}' | b']')) = self.last() {
                shape.mark(end);
                return Some(found);
            }
            let value = self.scalar()?;
            let key = self.key()?;
            shape.add(key);
            match key {
                RUN => found.run = Some(value.text()?),
                STREAM => found.stream = Some(value.text()?),
                SEQ => found.seq = Some(value.integer()?),
                TS => found.ts = Some(value.integer()?),
                _ => {}
            }
            self.take(b',')?;
        }
    }
}
