//! How a connection's messages are read: wholly, until reading their two ends only has earned trust.
//!
//! The law of this file: a shape of message is read both ways [`PROOFS`] times before it is read at a glance, and at one
//! glance in [`PERIOD`] again; if the two ever differ, everything on the connection is read wholly from then on. What
//! has the form of an earlier message that was read at a glance is read by that. Nothing is left out, nor any run begun, on the word of a
//! glance: see [`super::Sieve`].

use super::Rules;
use super::tally::Unjudged;
use crate::event::{self, Form, Layout, Outer, Shape, Sighting, Subject};
use crate::json::Str;
use crate::stamp::{Secret, Stamp};

/// Times that both readings must have agreed about a shape.
const PROOFS: u8 = 4;
/// A prime, so that what recurs in a connection's messages does not recur at the glances that are checked.
const PERIOD: u8 = 251;
/// Shapes that are told apart. Recorded gateways use about six.
const SHAPES: usize = 12;
/// Forms that are remembered: of the streams of the runs that go on at one time.
const FORMS: usize = 4;
/// Once there are so many, one in so many messages of another form displaces the one that was used least lately.
const RELUCTANCE: u8 = 16;

/// What a message says, without a word of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The frame's own number.
    pub outer: Option<Outer>,
    /// The event, or why it can't be judged.
    pub subject: Result<Stamp, Unjudged>,
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

    /// What all of a text says.
    #[must_use]
    pub fn wholly(text: &[u8], rules: &Rules) -> Self {
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
    /// Glances since one was checked, `0 <= unchecked < PERIOD`.
    unchecked: u8,
    /// The two readings have differed.
    disproved: bool,
    forms: Forms,
}

/// What the two ends of a text say.
pub(super) struct Glimpse {
    pub(super) seen: Seen,
    /// It may be believed this time.
    pub(super) trusted: bool,
    /// The shape, where it is still to be proved.
    unproved: Option<Shape>,
}

impl Reading {
    /// What it takes at most besides its own size, in bytes.
    pub(super) const BYTES: usize = FORMS * (size_of::<(Form, Stamp)>() + Form::BYTES) + 16;

    /// Reads the two ends of a text, if they are all that is needed.
    pub(super) fn glimpse(&mut self, text: &[u8], rules: &Rules) -> Option<Glimpse> {
        if self.disproved {
            return None;
        }
        if let Some((stamp, outer)) = self.forms.read(text, &rules.secret) {
            let seen = Seen { outer: Some(outer), subject: Ok(stamp) };
            return Some(Glimpse { seen, trusted: self.is_trusted(), unproved: None });
        }
        let glance = event::glance(text, &rules.events)?;
        let seen = Seen::new(glance.sighting, rules);
        if !self.shapes[..usize::from(self.known)].contains(&(glance.shape, PROOFS)) {
            return Some(Glimpse { seen, trusted: false, unproved: Some(glance.shape) });
        }
        if let (Some(layout), Ok(stamp)) = (glance.layout, seen.subject) {
            self.forms.learn(text, &layout, stamp);
        }
        Some(Glimpse { seen, trusted: self.is_trusted(), unproved: None })
    }

    /// Takes note of what all of a text says of which a glimpse was caught; whether it is the same.
    pub(super) fn check(&mut self, glimpse: Glimpse, whole: &Seen) -> bool {
        if glimpse.seen != *whole {
            *self = Self { disproved: true, ..Self::default() };
            return false;
        }
        if let Some(shape) = glimpse.unproved {
            self.prove(shape);
        }
        true
    }

    /// Gives back the memory that only messages of known forms are worth.
    pub(super) fn forget_forms(&mut self) {
        self.forms = Forms::default();
    }

    fn is_trusted(&mut self) -> bool {
        self.unchecked = (self.unchecked + 1) % PERIOD;
        self.unchecked != 0
    }

    fn prove(&mut self, shape: Shape) {
        let known = usize::from(self.known);
        if let Some((_, proofs)) = self.shapes[..known].iter_mut().find(|(of, _)| *of == shape) {
            *proofs += 1;
        } else if known < SHAPES {
            self.shapes[known] = (shape, 1);
            self.known += 1;
        } else if let Some(least) = self.shapes.iter_mut().min_by_key(|(_, proofs)| *proofs) {
            *least = (shape, 1);
        }
    }
}

/// The forms of messages that were read at a glance, the last used first, each with the stamp of a message that had it. Run and
/// stream of that are its last message's.
#[derive(Default)]
struct Forms {
    known: Vec<(Form, Stamp)>,
    passed_over: u8,
}

impl Forms {
    fn read(&mut self, text: &[u8], secret: &Secret) -> Option<(Stamp, Outer)> {
        let (place, filled) =
            self.known.iter().enumerate().find_map(|(i, (form, _))| Some((i, form.read(text)?)))?;
        if place > 0 {
            self.known[..=place].rotate_right(1);
        }
        let (form, last) = &mut self.known[0];
        if let Some(id) = filled.other_run {
            form.follow(id);
            last.run = secret.run(Str::unescaped(id)).in_events(last.event);
        }
        Some((last.with(filled.seq, filled.ts, secret), filled.outer))
    }

    fn learn(&mut self, text: &[u8], layout: &Layout, stamp: Stamp) {
        if self.known.len() == FORMS {
            self.passed_over = (self.passed_over + 1) % RELUCTANCE;
            if self.passed_over != 0 {
                return;
            }
        }
        let Some(form) = Form::of(text, layout) else { return };
        self.known.truncate(FORMS - 1);
        self.known.reserve_exact(1);
        self.known.insert(0, (form, stamp));
    }
}
