//! What the two directions do with their bytes: gateway to client goes through the sieve; client to gateway is
//! not read beyond its frame heads, unless the run guard is on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};

use super::Context;
use super::guarded::Guarded;
use super::pump::Sift;
use super::record::Ending;
use crate::guard::gate::Gate;
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

/// How long undecided bytes may wait for what follows them.
#[derive(Default)]
struct Patience {
    /// When they have waited long enough.
    end: Option<Instant>,
    control_waits: bool,
    /// They have, in vain: only more bytes can decide.
    is_endless: bool,
}

impl Patience {
    /// Bytes have come: whether there are undecided ones, and a control frame behind them.
    fn settle(&mut self, undecided: bool, control_waits: bool, context: &Context, now: u64) {
        if !undecided || self.is_endless {
            self.end = None;
        } else if !control_waits {
            self.end = context.instant(now + SILENCE);
        } else if !self.control_waits {
            self.end = context.instant(now + CONTROL_WAIT);
        }
        self.control_waits = control_waits;
    }

    fn has_ended(&self) -> bool {
        self.end.is_some_and(|end| end <= Instant::now())
    }
}

/// What of the client's bytes is read.
enum Hearing {
    /// Nothing: they are not frames, or none of our business.
    Opaque,
    /// Their frame heads.
    Heads(Follower),
    /// The requests in them: the run guard is on.
    Requests(Box<Gate>, Arc<Guarded>),
}

/// Client to gateway.
pub(super) struct Heard {
    context: Arc<Context>,
    hearing: Hearing,
    ending: Arc<Ending>,
    /// Milliseconds since the process began, as of the newest bytes.
    now: u64,
    patience: Patience,
}

impl Heard {
    pub(super) fn new(
        context: &Arc<Context>,
        frames: bool,
        guarded: Option<&Arc<Guarded>>,
        ending: &Arc<Ending>,
    ) -> Self {
        let hearing = match guarded {
            Some(guarded) => {
                let gate = guarded.gate(context.rules.mode);
                Hearing::Requests(Box::new(gate), Arc::clone(guarded))
            }
            None if frames => Hearing::Heads(Follower::default()),
            None => Hearing::Opaque,
        };
        Self {
            context: Arc::clone(context),
            hearing,
            ending: Arc::clone(ending),
            now: 0,
            patience: Patience::default(),
        }
    }

    pub(super) fn has_closed(&self) -> bool {
        self.close().is_some()
    }

    fn close(&self) -> Option<Option<u16>> {
        match &self.hearing {
            Hearing::Opaque => None,
            Hearing::Heads(frames) => frames.close(),
            Hearing::Requests(gate, _) => gate.close(),
        }
    }

    pub(super) fn at_boundary(&self) -> bool {
        match &self.hearing {
            Hearing::Opaque => false,
            Hearing::Heads(frames) => frames.at_boundary(),
            Hearing::Requests(gate, _) => gate.at_boundary(),
        }
    }
}

impl Sift for Heard {
    fn tick(&mut self, read: usize) {
        self.context.metrics.bytes(Direction::ToGateway, read as u64);
        self.ending.came(Direction::ToGateway, read);
        self.patience.is_endless &= read == 0;
        if let Hearing::Requests(..) = self.hearing {
            self.now = self.context.now();
        }
    }

    fn step(&mut self, window: &mut [u8]) -> Step {
        let step = match &mut self.hearing {
            Hearing::Opaque => return Step::Pass(window.len()),
            Hearing::Heads(frames) => {
                frames.follow(window);
                Step::Pass(window.len())
            }
            Hearing::Requests(gate, guarded) => guarded.at(gate, |gate| gate.step(window, self.now)),
        };
        self.ending.note_close(Initiator::Client, self.close());
        step
    }

    fn settle(&mut self, undecided: bool) {
        if let Hearing::Requests(gate, _) = &mut self.hearing {
            self.context.metrics.guarded(&gate.take_tally());
            self.patience.settle(undecided, gate.control_waits(), &self.context, self.now);
        }
    }

    fn end(&mut self) {
        self.ending.note(Initiator::Client, CLOSE_ABNORMAL);
    }

    fn blocked(&mut self, time: Duration) {
        self.context.metrics.blocked(Direction::ToGateway, time);
    }

    fn alarm(&self) -> Option<Instant> {
        self.patience.end
    }

    fn ring(&mut self, undecided: &[u8]) {
        if let Hearing::Requests(gate, guarded) = &mut self.hearing
            && self.patience.has_ended()
        {
            let now = self.context.now();
            self.patience.is_endless = !guarded.at(gate, |gate| gate.give_up(undecided, now));
        }
    }

    fn is_paused(&self) -> bool {
        matches!(&self.hearing, Hearing::Requests(_, guarded) if guarded.is_full())
    }

    fn poll_resume(&mut self, cx: &mut Task<'_>) -> Poll<()> {
        match &self.hearing {
            Hearing::Requests(_, guarded) => guarded.poll_room(cx),
            _ => Poll::Ready(()),
        }
    }

    fn is_broken(&self) -> bool {
        matches!(&self.hearing, Hearing::Requests(gate, _) if gate.is_broken())
    }
}

/// Gateway to client.
pub(super) struct Strained {
    context: Arc<Context>,
    /// None where the bytes are not frames.
    pub(super) sieve: Option<Sieve>,
    member: Arc<Member>,
    ending: Arc<Ending>,
    guarded: Option<Arc<Guarded>>,
    /// Milliseconds since the process began, as of the newest bytes.
    now: u64,
    runs: usize,
    expiry: Option<Instant>,
    patience: Patience,
}

impl Strained {
    pub(super) fn new(
        context: &Arc<Context>,
        sieve: Option<Sieve>,
        member: &Arc<Member>,
        ending: &Arc<Ending>,
        guarded: Option<Arc<Guarded>>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            sieve,
            member: Arc::clone(member),
            ending: Arc::clone(ending),
            guarded,
            now: 0,
            runs: 0,
            expiry: None,
            patience: Patience::default(),
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
        self.patience.is_endless &= read == 0;
        self.context.metrics.bytes(Direction::ToClient, read as u64);
        self.ending.came(Direction::ToClient, read);
    }

    fn step(&mut self, window: &mut [u8]) -> Step {
        let Some(sieve) = &mut self.sieve else {
            return Step::Pass(window.len());
        };
        if let Some(guarded) = &self.guarded
            && sieve.at_message_boundary()
        {
            guarded.hear(window);
        }
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
        if tally.unreadable > 0
            && let Some(unsaid) = self.context.unreadable.ask()
        {
            tracing::warn!(
                unsaid,
                "the gateway sent bytes that are not WebSocket messages: the rest of the connection passes unjudged"
            );
        }
        self.ending.note_close(Initiator::Gateway, sieve.close());
        if let Some(guarded) = &self.guarded
            && sieve.is_opaque()
        {
            guarded.hush();
        }
        if sieve.runs() != self.runs {
            self.runs = sieve.runs();
            self.member.runs.store(self.runs, Relaxed);
        }
        // A run that is heard of expires later: one look when the first would have expired is enough.
        if self.expiry.is_none() {
            self.expiry = sieve.next_expiry().and_then(|at| self.context.instant(at));
        }
        self.patience.settle(undecided, sieve.control_waits(), &self.context, self.now);
    }

    fn end(&mut self) {
        self.ending.note(Initiator::Gateway, CLOSE_ABNORMAL);
        if let Some(guarded) = &self.guarded {
            guarded.hush();
        }
    }

    fn blocked(&mut self, time: Duration) {
        self.context.metrics.blocked(Direction::ToClient, time);
    }

    fn alarm(&self) -> Option<Instant> {
        [self.expiry, self.patience.end].into_iter().flatten().min()
    }

    fn ring(&mut self, undecided: &[u8]) {
        let Some(sieve) = &mut self.sieve else { return };
        if self.patience.has_ended() {
            self.patience.is_endless = !sieve.give_up(undecided);
        }
        if self.expiry.is_some_and(|at| at <= Instant::now()) {
            sieve.expire(self.context.now());
            self.expiry = None;
        }
    }

    fn poll_interjection(&mut self, cx: &mut Task<'_>) -> Poll<Vec<u8>> {
        match (&self.guarded, &self.sieve) {
            (Some(guarded), Some(sieve)) if sieve.at_message_boundary() => guarded.poll_answers(cx),
            _ => Poll::Pending,
        }
    }
}
