//! How a connection's messages are read: wholly, until reading their two ends only has earned trust.
//!
//! The law of this file: a shape of message is read both ways [`PROOFS`] times before it is read at a glance, and
//! again at one glance in [`SAMPLE`]; if the two ever differ, everything on the connection is read wholly from then on.
//! Whoever leaves a message out reads it wholly first ([`Reading::confirm`]).

use super::Rules;
use super::tally::{Tally, Unjudged};
use crate::event::{self, Outer, Shape, Sighting, Subject};
use crate::stamp::Stamp;

/// Times that both readings must have agreed about a shape.
const PROOFS: u8 = 4;
/// One in so many messages that could be read at a glance is read both ways.
const SAMPLE: u8 = 255;
/// Shapes that are told apart; messages of any other are read wholly. Recorded gateways use about six.
const SHAPES: usize = 12;

/// What a message says, without a word of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) outer: Option<Outer>,
    pub(super) subject: Result<Stamp, Unjudged>,
}

impl Seen {
    fn new(sighting: Sighting<'_>, rules: &Rules) -> Self {
        let subject = match sighting.subject {
            Subject::Other => Err(Unjudged::Other),
            Subject::NoRun => Err(Unjudged::NoRun),
            Subject::NoSeq => Err(Unjudged::NoSeq),
            Subject::Event(claim) => Ok(Stamp::new(&claim, &rules.secret)),
        };
        Self { outer: sighting.outer, subject }
    }

    fn wholly(text: &[u8], rules: &Rules) -> Self {
        match event::peek(text, &rules.events) {
            Ok(sighting) => Self::new(sighting, rules),
            Err(_) => Self { outer: None, subject: Err(Unjudged::Malformed) },
        }
    }
}

/// What is known of the readings of one connection.
#[derive(Default)]
pub(super) struct Reading {
    /// The first `known` are in use: how often a shape was proved, at most [`PROOFS`].
    shapes: [(Shape, u8); SHAPES],
    known: u8,
    since_sample: u8,
    /// The two readings have differed.
    disproved: bool,
}

/// What was seen of a text.
pub(super) struct Look {
    pub(super) seen: Seen,
    /// Of its two ends only.
    pub(super) at_a_glance: bool,
}

impl Reading {
    /// Reads a text as far as it takes.
    pub(super) fn look(&mut self, text: &[u8], rules: &Rules, tally: &mut Tally) -> Look {
        let glance = if self.disproved { None } else { event::glance(text, &rules.events) };
        let Some(glance) = glance else {
            tally.read_whole += 1;
            return Look { seen: Seen::wholly(text, rules), at_a_glance: false };
        };
        let seen = Seen::new(glance.sighting, rules);
        if self.is_proved(glance.shape) {
            tally.read_ends += 1;
            return Look { seen, at_a_glance: true };
        }
        let whole = self.confirm(&seen, text, rules, tally);
        if whole == seen {
            self.prove(glance.shape);
        }
        Look { seen: whole, at_a_glance: false }
    }

    /// Reads a text wholly, of which something was seen at a glance.
    pub(super) fn confirm(&mut self, seen: &Seen, text: &[u8], rules: &Rules, tally: &mut Tally) -> Seen {
        tally.read_whole += 1;
        let whole = Seen::wholly(text, rules);
        if whole != *seen {
            self.disproved = true;
            tally.disagreed += 1;
        }
        whole
    }

    /// Whether a message of this shape may be read at a glance this time.
    fn is_proved(&mut self, shape: Shape) -> bool {
        let known = &self.shapes[..usize::from(self.known)];
        if !known.iter().any(|(of, proofs)| *of == shape && *proofs >= PROOFS) {
            return false;
        }
        let sampled = self.since_sample == SAMPLE;
        self.since_sample = if sampled { 0 } else { self.since_sample + 1 };
        !sampled
    }

    fn prove(&mut self, shape: Shape) {
        let known = usize::from(self.known);
        if let Some((_, proofs)) = self.shapes[..known].iter_mut().find(|(of, _)| *of == shape) {
            *proofs = (*proofs + 1).min(PROOFS);
        } else if known < SHAPES {
            self.shapes[known] = (shape, 1);
            self.known += 1;
        }
    }
}
