//! Messages that repeat an earlier one but for their run, their text and their numbers: the gateway writes a run's
//! events with the same names in the same order, so most of what stands at their ends is known before it is read.
//!
//! The law of this file: what is read by a form is what [`super::glance`] reads. A form is learned from a
//! glance, and a message has it only if every other byte at its ends is the same.

use std::ops::Range;

use super::Outer;
use crate::json::{MAX_INTEGER, words};

/// Bytes of the ends that a form remembers, at most; messages with longer ends have none.
const MOST: usize = 512;

/// Where things stand in a message that has the usual order: the run's id, the data, the event's number, its time and the
/// frame's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The run's id.
    pub run: Range<usize>,
    /// What stands between the first and the last byte of `data`.
    pub middle: Range<usize>,
    /// The digits of the event's `seq`.
    pub seq: Range<usize>,
    /// The digits of `ts`.
    pub ts: Range<usize>,
    /// The digits of the frame's `seq`.
    pub outer: Range<usize>,
}

/// The ends of a message.
#[derive(Debug)]
pub struct Form {
    /// Up to the first byte of `data`. With `back`, at most [`MOST`] bytes.
    front: Box<[u8]>,
    /// Where in it the run's id stands.
    run: Range<usize>,
    /// From the last byte of `data` on.
    back: Box<[u8]>,
    /// Where in it the digits of `seq`, `ts` and the frame's number stand: what stands there does not matter.
    seq: Range<usize>,
    ts: Range<usize>,
    outer: Range<usize>,
}

/// What a message of a known form says.
#[derive(Debug, PartialEq, Eq)]
pub struct Filled<'a> {
    /// The run, if it is another than that of the last message of this form. It holds no escape.
    pub other_run: Option<&'a [u8]>,
    /// As in [`super::Claim`].
    pub seq: u64,
    /// As in [`super::Claim`].
    pub ts: u64,
    /// As in [`super::Sighting`].
    pub outer: Outer,
}

impl Form {
    /// What a form takes at most besides its own size, in bytes: both ends, with the allocator's overhead.
    pub const BYTES: usize = MOST + 2 * 16;

    /// The form of a message. None where its ends are too long to be remembered.
    #[must_use]
    pub fn of(text: &[u8], layout: &Layout) -> Option<Self> {
        let Layout { run, middle, seq, ts, outer } = layout;
        let behind = |place: &Range<usize>| place.start - middle.end..place.end - middle.end;
        (text.len() - middle.len() <= MOST).then(|| Self {
            front: text[..middle.start].into(),
            run: run.clone(),
            back: text[middle.end..].into(),
            seq: behind(seq),
            ts: behind(ts),
            outer: behind(outer),
        })
    }

    /// Reads a message, if it has this form.
    #[inline]
    #[must_use]
    pub fn read<'a>(&self, text: &'a [u8]) -> Option<Filled<'a>> {
        let other_run = if text.starts_with(&self.front) { None } else { Some(self.other_run(text)?) };
        let run = other_run.map_or(self.run.len(), <[u8]>::len);
        let front = self.front.len() - self.run.len() + run;
        let rest = text[front..].strip_suffix(&self.back[self.outer.end..])?;
        let (outer, rest) = number(rest)?;
        let digits = front + rest.len();
        let rest = rest.strip_suffix(&self.back[self.ts.end..self.outer.start])?;
        let (ts, rest) = number(rest)?;
        let rest = rest.strip_suffix(&self.back[self.seq.end..self.ts.start])?;
        let (seq, rest) = number(rest)?;
        rest.ends_with(&self.back[..self.seq.start]).then(|| {
            let end = text.len() - (self.back.len() - self.outer.end);
            Filled { other_run, seq, ts, outer: Outer { value: outer, at: digits..end } }
        })
    }

    fn other_run<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let start = self.run.start;
        if !text.starts_with(&self.front[..start]) {
            return None;
        }
        let end = words::special(text, start);
        let fits = self.front.len() + self.back.len() - self.run.len() + (end - start) <= MOST;
        // What stands behind an id begins with a quote: it ends where it seems to.
        (fits && text[end..].starts_with(&self.front[self.run.end..])).then(|| &text[start..end])
    }

    /// From now on, `run` is that of the last message; it was read by this form.
    pub fn follow(&mut self, run: &[u8]) {
        let end = self.run.start + run.len();
        if end == self.run.end {
            self.front[self.run.clone()].copy_from_slice(run);
        } else {
            self.front = [&self.front[..self.run.start], run, &self.front[self.run.end..]].concat().into();
            self.run.end = end;
        }
    }
}

/// The number at a text's end, and what stands before it.
#[inline(always)]
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let (value, digits) = words::last_number(text, text.len())?;
    (value <= MAX_INTEGER).then(|| (value, &text[..text.len() - digits]))
}
