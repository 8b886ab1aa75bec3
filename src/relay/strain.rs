//! What the two directions do with their bytes: gateway to client goes through the sieve, client to gateway is
//! not read beyond its frame heads.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::Context;
use super::pump::Sift;
use super::record::Ending;
use crate::metrics::{CLOSE_ABNORMAL, Direction, Initiator};
use crate::roster::Member;
use crate::sieve::{Sieve, Step};
use crate::wire::Follower;

/// How long a control frame waits behind fragments that are gathered, at most. Long enough for a message that
/// is on its way, and nothing beside the 25 s in which a gateway wants its pong.
const CONTROL_WAIT: u64 = 100;
/// How long other bytes are kept while nothing comes behind them, in milliseconds: longer than a gateway is
/// busy between two writes of one frame, and less than the second after which clients and test suites expect to have
/// seen a part of a message that they would refuse.
const SILENCE: u64 = 800;

/// Client to gateway.
pub(super) struct Unread {
    context: Arc<Context>,
    /// None where the bytes are not frames.
    pub(super) frames: Option<Follower>,
    ending: Arc<Ending>,
}

impl Unread {
    pub(super) fn new(context: &Arc<Context>, frames: bool, ending: &Arc<Ending>) -> Self {
        Self {
            context: Arc::clone(context),
            frames: frames.then(Follower::default),
            ending: Arc::clone(ending),
        }
    }

    pub(super) fn has_closed(&self) -> bool {
        self.frames.as_ref().is_some_and(|frames| frames.close().is_some())
    }

    pub(super) fn at_boundary(&self) -> bool {
        self.frames.as_ref().is_some_and(Follower::at_boundary)
    }
}

impl Sift for Unread {
    fn tick(&mut self, read: usize) {
        self.context.metrics.bytes(Direction::ToGateway, read as u64);
        self.ending.came(Direction::ToGateway, read);
    }

    fn step(&mut self, window: &mut [u8]) -> Step {
        if let Some(frames) = &mut self.frames {
            frames.follow(window);
            self.ending.note_close(Initiator::Client, frames.close());
        }
        Step::Pass(window.len())
    }

    fn settle(&mut self, _: bool) {}

    fn end(&mut self) {
        self.ending.note(Initiator::Client, CLOSE_ABNORMAL);
    }

    fn blocked(&mut self, time: Duration) {
        self.context.metrics.blocked(Direction::ToGateway, time);
    }

    fn alarm(&self) -> Option<Instant> {
        None
    }

    fn ring(&mut self, _: &[u8]) {}
}

/// Gateway to client.
pub(super) struct Strained {
    context: Arc<Context>,
    /// None where the bytes are not frames.
    pub(super) sieve: Option<Sieve>,
    member: Arc<Member>,
    ending: Arc<Ending>,
    /// Milliseconds since the process began, as of the newest bytes.
    now: u64,
    runs: usize,
    expiry: Option<Instant>,
    /// When undecided bytes have waited long enough.
    patience: Option<Instant>,
    control_waits: bool,
}

impl Strained {
    pub(super) fn new(
        context: &Arc<Context>,
        sieve: Option<Sieve>,
        member: &Arc<Member>,
        ending: &Arc<Ending>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            sieve,
            member: Arc::clone(member),
            ending: Arc::clone(ending),
            now: 0,
            runs: 0,
            expiry: None,
            patience: None,
            control_waits: false,
        }
    }

    pub(super) fn at_boundary(&self) -> bool {
        self.sieve.as_ref().is_some_and(Sieve::at_boundary)
    }

    pub(super) fn has_closed(&self) -> bool {
        self.sieve.as_ref().is_some_and(|sieve| sieve.close().is_some())
    }
}

impl Sift for Strained {
    fn tick(&mut self, read: usize) {
        self.now = self.context.now();
        self.context.metrics.bytes(Direction::ToClient, read as u64);
        self.ending.came(Direction::ToClient, read);
    }

    fn step(&mut self, window: &mut [u8]) -> Step {
        let Some(sieve) = &mut self.sieve else {
            return Step::Pass(window.len());
        };
        let step = sieve.step(window, self.now);
        if let Step::Drop(_, Some(dropped)) = step {
            tracing::debug!(
                run = format_args!("{:016x}", dropped.run.short()),
                seq = dropped.seq,
                reason = dropped.verdict.name(),
                "dropped"
            );
            self.context.journal.report(dropped);
        }
        step
    }

    fn settle(&mut self, undecided: bool) {
        let Some(sieve) = &mut self.sieve else { return };
        let tally = sieve.take_tally();
        self.context.metrics.add(&tally);
        self.member.add(&tally);
        if tally.disagreed > 0
            && let Some(unsaid) = self.context.disagreements.ask()
        {
            tracing::warn!(
                unsaid,
                "the ends of a message did not say what all of it says: its connection is read wholly from now on"
            );
        }
        self.ending.note_close(Initiator::Gateway, sieve.close());
        if sieve.runs() != self.runs {
            self.runs = sieve.runs();
            self.member.runs.store(self.runs, Relaxed);
        }
        // A run that is heard of expires later: one look when the first would have expired is enough.
        if self.expiry.is_none() {
            self.expiry = sieve.next_expiry().and_then(|at| self.context.instant(at));
        }
        let control_waits = sieve.control_waits();
        if !undecided {
            self.patience = None;
        } else if !control_waits {
            self.patience = self.context.instant(self.now + SILENCE);
        } else if !self.control_waits {
            self.patience = self.context.instant(self.now + CONTROL_WAIT);
        }
        self.control_waits = control_waits;
    }

    fn end(&mut self) {
        self.ending.note(Initiator::Gateway, CLOSE_ABNORMAL);
    }

    fn blocked(&mut self, time: Duration) {
        self.context.metrics.blocked(Direction::ToClient, time);
    }

    fn alarm(&self) -> Option<Instant> {
        [self.expiry, self.patience].into_iter().flatten().min()
    }

    fn ring(&mut self, undecided: &[u8]) {
        let Some(sieve) = &mut self.sieve else { return };
        let now = Instant::now();
        if self.patience.is_some_and(|at| at <= now) {
            sieve.give_up(undecided);
        }
        if self.expiry.is_some_and(|at| at <= now) {
            sieve.expire(self.context.now());
            self.expiry = None;
        }
    }
}
