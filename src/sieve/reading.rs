//! How a connection's messages are read: wholly, until reading their two ends only has earned trust.
//!
//! The law of this file: a shape of message is read both ways [`PROOFS`] times before it is read at a glance, and
//! at one glance in 256 again; if the two ever differ, everything on the connection is read wholly from then on.
//! Whoever leaves a message out reads it wholly first ([`Reading::confirm`]). What has the form of an earlier message that
//! was read at a glance is read by that.

use super::Rules;
use super::tally::{Tally, Unjudged};
use crate::event::{self, Form, Layout, Outer, Shape, Sighting, Subject};
use crate::json::Str;
use crate::stamp::{Secret, Stamp};

/// Times that both readings must have agreed about a shape.
const PROOFS: u8 = 4;
/// Shapes that are told apart; messages of any other are read wholly. Recorded gateways use about six.
const SHAPES: usize = 12;

/// Forms that are remembered: of the streams of the runs that go on at one time.
const FORMS: usize = 4;
/// Once there are so many, one in so many messages of another form displaces the one that was used least lately.
const RELUCTANCE: u8 = 16;

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
    forms: Forms,
}

/// What was seen of a text.
pub(super) struct Look {
    pub(super) seen: Seen,
    /// Of its two ends only.
    pub(super) at_a_glance: bool,
}

impl Reading {
    /// What it takes at most besides its own size, in bytes.
    pub(super) const BYTES: usize = FORMS * (size_of::<(Form, Stamp)>() + Form::BYTES) + 16;

    /// Reads a text as far as it takes.
    pub(super) fn look(&mut self, text: &[u8], rules: &Rules, tally: &mut Tally) -> Look {
        let glance = if self.disproved { None } else { self.glance(text, rules) };
        let seen = match glance {
            None => {
                tally.read_whole += 1;
                Seen::wholly(text, rules)
            }
            Some((seen, None)) if !self.is_sampled() => {
                tally.read_ends += 1;
                return Look { seen, at_a_glance: true };
            }
            Some((seen, unproved)) => {
                let whole = self.confirm(&seen, text, rules, tally);
                if let Some(shape) = unproved.filter(|_| whole == seen) {
                    self.prove(shape);
                }
                whole
            }
        };
        Look { seen, at_a_glance: false }
    }

    /// Reads a text wholly, of which something was seen at a glance.
    pub(super) fn confirm(&mut self, seen: &Seen, text: &[u8], rules: &Rules, tally: &mut Tally) -> Seen {
        tally.read_whole += 1;
        let whole = Seen::wholly(text, rules);
        if whole != *seen {
            *self = Self { disproved: true, ..Self::default() };
            tally.disagreed += 1;
        }
        whole
    }

    /// Gives back the memory that only messages of known forms are worth.
    pub(super) fn forget_forms(&mut self) {
        self.forms = Forms::default();
    }

    /// What the ends of a text say, and its shape if that is still to be proved.
    fn glance(&mut self, text: &[u8], rules: &Rules) -> Option<(Seen, Option<Shape>)> {
        if let Some(seen) = self.forms.read(text, &rules.secret) {
            return Some((seen, None));
        }
        let glance = event::glance(text, &rules.events)?;
        let seen = Seen::new(glance.sighting, rules);
        if !self.is_proved(glance.shape) {
            return Some((seen, Some(glance.shape)));
        }
        if let (Some(layout), Ok(stamp)) = (glance.layout, seen.subject) {
            self.forms.learn(text, &layout, stamp);
        }
        Some((seen, None))
    }

    fn is_sampled(&mut self) -> bool {
        self.since_sample = self.since_sample.wrapping_add(1);
        self.since_sample == 0
    }

    fn is_proved(&self, shape: Shape) -> bool {
        self.shapes[..usize::from(self.known)].contains(&(shape, PROOFS))
    }

    fn prove(&mut self, shape: Shape) {
        let known = usize::from(self.known);
        if let Some((_, proofs)) = self.shapes[..known].iter_mut().find(|(of, _)| *of == shape) {
            *proofs += 1;
        } else if known < SHAPES {
            self.shapes[known] = (shape, 1);
            self.known += 1;
        }
    }
}

/// The forms of messages that were read at a glance, the last used first, with the last message of each.
#[derive(Default)]
struct Forms {
    known: Vec<(Form, Stamp)>,
    displaced: u8,
}

impl Forms {
    #[inline]
    fn read(&mut self, text: &[u8], secret: &Secret) -> Option<Seen> {
        let (place, filled) =
            self.known.iter().enumerate().find_map(|(i, (form, _))| Some((i, form.read(text)?)))?;
        if place > 0 {
            self.known[..=place].rotate_right(1);
        }
        let (form, like) = &mut self.known[0];
        if let Some(id) = filled.other_run {
            form.follow(id);
            like.run = secret.run(Str::unescaped(id));
        }
        let stamp = like.with(filled.seq, filled.ts, secret);
        Some(Seen { outer: Some(filled.outer), subject: Ok(stamp) })
    }

    fn learn(&mut self, text: &[u8], layout: &Layout, stamp: Stamp) {
        if self.known.len() == FORMS {
            self.displaced = (self.displaced + 1) % RELUCTANCE;
            if self.displaced != 0 {
                return;
            }
            self.known.pop();
        }
        if let Some(form) = Form::of(text, layout) {
            self.known.reserve_exact(1);
            self.known.insert(0, (form, stamp));
        }
    }
}
