//! What has to arrive: each event once, in order, with the right bytes.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::events::{Events, Plan};
use crate::wrong;

/// A plan as a client sees it come true.
pub struct Expected {
    plan: Plan,
    /// The event of which `at` bytes have come, `at < frame length`.
    event: Events,
    at: usize,
    whole: u64,
    /// Nanoseconds that each event was on its way, where events are paced.
    pub delays: Vec<u64>,
}

impl Expected {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self { plan, event: Events::new(plan.size, plan.runs), at: 0, whole: 0, delays: Vec::new() }
    }

    /// All has come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.whole == self.plan.events
    }

    /// Compares what has come, however it is cut.
    ///
    /// # Errors
    /// It is not what should have come next.
    pub fn take(&mut self, mut chunk: &[u8]) -> io::Result<()> {
        while !chunk.is_empty() {
            if self.is_complete() {
                return Err(wrong(format!("{} bytes behind the last event", chunk.len())));
            }
            let left = self.event.frame().len() - self.at;
            let (piece, rest) = chunk.split_at(chunk.len().min(left));
            self.compare(piece)?;
            chunk = rest;
            if piece.len() == left {
                self.next();
            }
        }
        Ok(())
    }

    fn compare(&mut self, piece: &[u8]) -> io::Result<()> {
        let end = self.at + piece.len();
        let stamp = self.event.stamp_place();
        let frame = self.event.frame();
        if self.plan.rate > 0 {
            // When it was sent is the one thing that only the gateway knows.
            let (from, to) = (stamp.start.max(self.at), stamp.end.min(end));
            if from < to {
                frame[from..to].copy_from_slice(&piece[from - self.at..to - self.at]);
            }
        }
        let should = &frame[self.at..end];
        if should != piece {
            let place = piece.iter().zip(should).take_while(|(is, should)| is == should).count();
            let around = place..piece.len().min(place + 40);
            let [is, should] = [piece, should].map(|bytes| String::from_utf8_lossy(&bytes[around.clone()]));
            let (event, byte) = (self.whole + 1, self.at + place);
            return Err(wrong(format!("event {event}, byte {byte}: {is:?} instead of {should:?}")));
        }
        self.at = end;
        Ok(())
    }

    fn next(&mut self) {
        if self.plan.rate > 0 {
            self.delays.push(now().saturating_sub(self.event.stamp()));
        }
        self.whole += 1;
        self.at = 0;
        self.event.advance();
    }
}

/// Nanoseconds on a clock that both ends share.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { size: 300, events: 30, runs: 3, rate: 0 };

    fn frames(plan: Plan) -> Vec<Vec<u8>> {
        let mut events = Events::new(plan.size, plan.runs);
        let mut frames = Vec::new();
        for _ in 0..plan.events {
            if plan.rate > 0 {
                events.set_stamp(now());
            }
            frames.push(events.frame().to_vec());
            events.advance();
        }
        frames
    }

    fn arrives(plan: Plan, frames: &[Vec<u8>], cut: usize) -> bool {
        let mut expected = Expected::new(plan);
        frames.concat().chunks(cut).all(|chunk| expected.take(chunk).is_ok()) && expected.is_complete()
    }

    #[test]
    fn what_was_sent_is_what_is_expected_however_it_is_cut() {
        let paced = Plan { rate: 1, ..PLAN };
        for cut in [1, 7, 300, 100_000] {
            assert!(arrives(PLAN, &frames(PLAN), cut));
            assert!(arrives(paced, &frames(paced), cut));
        }
    }

    #[test]
    fn a_missing_a_repeated_a_late_and_an_altered_event_are_noticed() {
        let wrongs: [fn(&mut Vec<Vec<u8>>); 6] = [
            |frames| drop(frames.remove(12)),
            |frames| drop(frames.pop()),
            |frames| frames.insert(12, frames[11].clone()),
            |frames| frames.push(frames[29].clone()),
            |frames| frames.swap(12, 13),
            |frames| frames[12][100] ^= 1,
        ];
        for (index, wrong) in wrongs.iter().enumerate() {
            let mut frames = frames(PLAN);
            wrong(&mut frames);
            assert!(!arrives(PLAN, &frames, 1000), "wrong {index}");
        }
    }
}
