//! The outer `seq` of a connection, without a hole of our making.

use std::ops::Range;

use crate::event::Outer;

/// How the numbers of a connection have moved.
#[derive(Default)]
pub(super) struct Numbering {
    /// The highest outer seq that the gateway has used.
    highest: Option<u64>,
    /// Numbers that were left out: what is taken from every later outer seq.
    shift: u64,
}

impl Numbering {
    /// Numbers have been left out: every later number changes.
    pub(super) fn is_shifted(&self) -> bool {
        self.shift > 0
    }

    /// Takes note of a frame's number, and says what it becomes if it changes. A frame that is left out takes its
    /// number with it if nobody has used that number yet, and all later numbers move up.
    pub(super) fn next(&mut self, outer: Outer, left_out: bool) -> Option<Renumber> {
        let unused = self.highest.is_none_or(|highest| outer.value > highest);
        self.highest = self.highest.max(Some(outer.value));
        if left_out {
            self.shift += u64::from(unused);
            return None;
        }
        // A number smaller than the shift is none that we moved: it stays.
        let value = outer.value.checked_sub(self.shift).filter(|_| self.shift > 0)?;
        Some(Renumber::new(outer.at, value))
    }
}

/// New digits for the outer `seq`, padded with leading spaces to the width of the old ones.
pub(super) struct Renumber {
    /// `at.len() <= 16`, the digits of the largest integer.
    pub(super) at: Range<usize>,
    right_aligned: [u8; 16],
}

impl Renumber {
    /// `value` must not have more digits than the place is wide.
    fn new(at: Range<usize>, mut value: u64) -> Self {
        let mut right_aligned = [b' '; 16];
        for (i, byte) in right_aligned.iter_mut().rev().enumerate() {
            if value > 0 || i == 0 {
                *byte = b'0' + (value % 10) as u8;
                value /= 10;
            }
        }
        Self { at, right_aligned }
    }

    /// Overwrites the old digits, which may be spread over fragments: `text` is made of these parts of the window.
    pub(super) fn write(&self, window: &mut [u8], text: Vec<Range<usize>>) {
        let places = text.into_iter().flatten().skip(self.at.start).take(self.at.len());
        for (place, digit) in places.zip(self.digits()) {
            window[place] = *digit;
        }
    }

    /// As many as the place is wide.
    pub(super) fn digits(&self) -> &[u8] {
        &self.right_aligned[16 - self.at.len()..]
    }
}
