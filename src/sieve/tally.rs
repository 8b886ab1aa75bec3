//! What a sieve has seen, in numbers.

use crate::filter::{Departed, Verdict};
use crate::wire::Opcode;

/// Why a message passed without a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unjudged {
    /// Not one of the filtered events.
    Other,
    /// No string `runId`.
    NoRun,
    /// No integer `seq` in `0 ..= 2^53 - 1`.
    NoSeq,
    /// Not JSON, or not UTF-8.
    Malformed,
    /// Larger than the inspect limit.
    Oversized,
    /// A binary message.
    Binary,
    /// A reserved bit was set (a compressed message, for instance), or the frame was masked.
    Extended,
    /// Its rest did not come in time, or something came between its fragments.
    Interrupted,
}

impl Unjudged {
    /// Every reason, in the order of their discriminants.
    pub const ALL: [Self; 8] = [
        Self::Other,
        Self::NoRun,
        Self::NoSeq,
        Self::Malformed,
        Self::Oversized,
        Self::Binary,
        Self::Extended,
        Self::Interrupted,
    ];

    /// The name used as a metric label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::NoRun => "no_run",
            Self::NoSeq => "no_seq",
            Self::Malformed => "malformed",
            Self::Oversized => "oversized",
            Self::Binary => "binary",
            Self::Extended => "extended",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What has happened since the last [`super::Sieve::take_tally`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Judged events, by `Verdict as usize`.
    pub judged: [u32; Verdict::ALL.len()],
    /// Messages that passed without a verdict, by `Unjudged as usize`.
    pub unjudged: [u32; Unjudged::ALL.len()],
    /// Frames by [`Opcode::index`].
    pub frames: [u32; Opcode::ALL.len()],
    /// Frames whose outer `seq` was rewritten.
    pub rewritten: u32,
    /// Messages that were read wholly; with `read_ends`, all that were read.
    pub read_whole: u32,
    /// Messages of which only the two ends were read.
    pub read_ends: u32,
    /// Messages of which both were read, and differed.
    pub disagreed: u32,
    /// The gateway sent what no client reads as frames; everything after it passes unread. At most 1 for a connection.
    pub unreadable: u32,
    /// Runs that left the ledger.
    pub departed: Departed,
}
