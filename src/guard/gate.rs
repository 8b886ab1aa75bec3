//! A client's bytes in, steps out: refused starts are left out of the stream, whole messages each; everything else goes
//! on as it came.
//!
//! The law of this file: what is left out is a whole message, and no start that was refused goes on, however it is
//! framed. What no server takes for frames passes unread: the gateway ends the connection there. How the stream is cut
//! into windows changes nothing, except that a held message may be given up in time ([`Gate::give_up`]).
//!
//! A message that is larger than the limit is judged by its beginning, and its rest is watched: where it turns out to
//! say something else, the gate breaks, and the connection has to end.

use std::sync::Arc;

use super::answer;
use super::masked::{first_byte, lawful_mask, payload, unmask};
use super::skim::{Gist, Skim, Watch};
use super::start::{self, Start};
use super::{Admitted, Client, Guard, Reason, Refusal};
use crate::sieve::{Mode, Step};
use crate::wire::{self, Head, MAX_HEAD, Opcode, Parse};

/// Bytes of answers that may wait. Beyond that a refused start is left out without one.
const ANSWERS: usize = 16 * 1024;
/// Bytes of a message that are unmasked at once while it streams: whole masking keys.
const PIECE: usize = 4 * 1024;

/// What has happened since the last [`Gate::take_tally`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Starts that went on and counted.
    pub admitted: u32,
    /// Starts that went on and did not count again.
    pub repeated: u32,
    /// Starts that were left out, by `Reason as usize`.
    pub refused: [u32; Reason::ALL.len()],
    /// Starts that would have been, if the guard did not only observe.
    pub would_refuse: [u32; Reason::ALL.len()],
    /// Of all starts, those that were none for sure: not JSON, or too large to see.
    pub unclear: u32,
    /// Refused starts that got no answer: without an id to answer to, or one too many.
    pub unanswered: u32,
    /// Messages whose rest contradicted their beginning, or was not lawful when that had been left out.
    pub deceits: u32,
}

impl Tally {
    /// Counts what became of a start; the refusal, if it is to be refused.
    pub fn count(&mut self, outcome: Result<Admitted, Refusal>, mode: Mode) -> Option<Refusal> {
        let refusal = outcome.err().filter(|_| mode == Mode::Enforce);
        let counter = match outcome {
            Ok(Admitted::New) => &mut self.admitted,
            Ok(Admitted::Repeated) => &mut self.repeated,
            Err(refusal) if mode == Mode::Observe => &mut self.would_refuse[refusal.reason() as usize],
            Err(refusal) => &mut self.refused[refusal.reason() as usize],
        };
        *counter += 1;
        refusal
    }
}

#[derive(Debug)]
enum State {
    /// The window starts at a frame.
    Boundary,
    /// So many bytes pass as they are.
    Passing(u64),
    /// A message is held: the window starts at its first frame.
    Holding(Held),
    /// A whole message is left out: of so many bytes, only the control frames pass.
    LeavingOut(usize),
    /// In the payload of a frame whose message streams.
    Streaming { left: u64, mask: [u8; 4], fin: bool },
    /// Not frames, or behind a Close: everything passes.
    Opaque,
    /// Nothing passes any more.
    Broken,
}

/// How far a held message has been read, so that each of its bytes is read a bounded number of times.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// The frames in the first so many bytes are complete, `whole <= hold`.
    whole: usize,
    control_waits: bool,
    /// In a tunnel: the message's first byte that `JSON.parse` does not skip, which is not in the first `blank` bytes.
    first: Option<u8>,
    blank: usize,
    /// Bytes of the window when [`Gate::give_up`] could not release it.
    kept: usize,
}

impl Held {
    /// Looks for the message's first byte in its frame behind the complete ones.
    fn find_first(&mut self, window: &[u8], head: Head) {
        let start = self.whole + head.len;
        let end = usize::try_from(head.frame()).map_or(window.len(), |n| window.len().min(self.whole + n));
        let from = self.blank.max(start);
        if let (None, Some(mask), Some(masked)) = (self.first, head.mask, window.get(from..end)) {
            self.first = first_byte(masked, mask, from - start);
            self.blank = end;
        }
    }

    /// A tunnel's message is of another protocol.
    fn is_foreign(&self) -> bool {
        self.first.is_some_and(|byte| byte != b'{')
    }
}

/// A message that was judged by its beginning.
struct Streamed {
    leave_out: bool,
    /// Its first frame has begun.
    begun: bool,
    skim: Skim,
    watch: Watch,
}

/// The guard of one connection, client to gateway.
pub struct Gate {
    guard: Arc<Guard>,
    mode: Mode,
    client: Client,
    connection: u64,
    /// Bytes of a message that are held at most, its heads included.
    hold: usize,
    /// See [`Gate::in_tunnel`].
    tunnel: bool,
    /// See [`Gate::before_hello`].
    is_greeted: bool,
    state: State,
    /// The message that streams, from its judgement to its last frame.
    streamed: Option<Box<Streamed>>,
    close: Option<Option<u16>>,
    answers: Vec<u8>,
    tally: Tally,
}

impl Gate {
    /// What a gate costs at most besides the window, in bytes: with the answers that wait, a message that streams, and,
    /// while it is judged, a held message unmasked and decoded (of one byte that is not UTF-8 become three).
    #[must_use]
    pub fn bytes(inspect_limit: usize, max_run_id: usize) -> usize {
        let streamed = size_of::<Streamed>() + start::MAX_ID + 2 * 6 * max_run_id + 256;
        size_of::<Self>() + 2 * ANSWERS + streamed + 5 * (inspect_limit + MAX_HEAD)
    }

    /// The gate of a client's connection, which no other has had the number of. A message of more bytes than the limit,
    /// with its heads, is judged by its beginning.
    #[must_use]
    pub fn new(guard: Arc<Guard>, mode: Mode, client: Client, connection: u64, inspect_limit: usize) -> Self {
        Self {
            guard,
            mode,
            client,
            connection,
            hold: inspect_limit + MAX_HEAD,
            tunnel: false,
            is_greeted: true,
            state: State::Boundary,
            streamed: None,
            close: None,
            answers: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// The same for a path on which the gateway may speak another protocol, and its own where that is not installed:
    /// what does not begin as an object of JSON is of the other.
    #[must_use]
    pub fn in_tunnel(self) -> Self {
        Self { tunnel: true, ..self }
    }

    /// The same for a client that the gateway has not welcomed yet: until it has, it starts nothing for it, whatever it
    /// says. So nothing counts, and nobody spends what belongs to an address without having been let in; a start is left
    /// out nevertheless, for the welcome may be on its way; and what does not say yet whether it is one must not turn out
    /// to be one when the client has been welcomed.
    #[must_use]
    pub fn before_hello(self) -> Self {
        Self { is_greeted: false, ..self }
    }

    /// The gateway has welcomed the client.
    pub fn greet(&mut self) {
        self.is_greeted = true;
    }

    /// Says what is to be done with the start of the window, which must not be empty and must start where the last step
    /// ended. `now` is in milliseconds of the clock that all callers of the guard share.
    pub fn step(&mut self, window: &[u8], now: u64) -> Step {
        loop {
            let step = match self.state {
                State::Opaque => Some(Step::Pass(window.len())),
                State::Broken => Some(Step::Drop(window.len(), None)),
                State::Passing(left) => Some(self.pass(window, left)),
                State::LeavingOut(left) => Some(self.leave_out_frame(window, left)),
                State::Streaming { left, mask, fin } => self.stream(window, left, mask, fin),
                State::Boundary => self.begin(window),
                State::Holding(held) => self.hold(window, now, held),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn pass(&mut self, window: &[u8], left: u64) -> Step {
        let n = usize::try_from(left).map_or(window.len(), |left| left.min(window.len()));
        let left = left - n as u64;
        self.state = if left == 0 { State::Boundary } else { State::Passing(left) };
        Step::Pass(n)
    }

    /// At a frame's head. `None`: the state has changed, look again.
    fn begin(&mut self, window: &[u8]) -> Option<Step> {
        let head = match wire::head(window) {
            Parse::Head(head) => head,
            Parse::More(needed) => return Some(Step::More(needed)),
            Parse::Broken => return self.blind(),
        };
        if head.is_lawful_control() {
            let frame = head.frame() as usize;
            if window.len() < frame {
                return Some(Step::More(frame));
            }
            if head.opcode == Opcode::Close {
                self.close = Some(wire::close_code(&window[head.len..frame], head.mask));
                self.state = State::Opaque;
            }
            return Some(Step::Pass(frame));
        }
        let first = self.streamed.as_ref().is_none_or(|streamed| !streamed.begun);
        let Some(mask) = lawful_mask(head, first) else { return self.blind() };
        let Some(streamed) = &mut self.streamed else {
            self.state = State::Holding(Held::default());
            return None;
        };
        streamed.begun = true;
        let leave_out = streamed.leave_out;
        self.enter(head.payload, mask, head.fin);
        Some(if leave_out { Step::Drop(head.len, None) } else { Step::Pass(head.len) })
    }

    /// Collects a message until it is whole or there is more than can be held. `None`: the state has changed, look
    /// again.
    fn hold(&mut self, window: &[u8], now: u64, mut held: Held) -> Option<Step> {
        // However much is there, only this is looked at.
        let window = &window[..window.len().min(self.hold)];
        loop {
            let whole = held.whole;
            let (end, head) = match wire::head(&window[whole..]) {
                Parse::Broken => return self.blind(),
                Parse::More(needed) => ((whole + needed) as u64, None),
                Parse::Head(head) => (whole as u64 + head.frame(), Some(head)),
            };
            if let Some(head) = head {
                if head.is_lawful_control() {
                    if head.opcode == Opcode::Close {
                        // The message will not end: of what came before, the gateway makes nothing.
                        self.state = State::Passing(whole as u64);
                        return None;
                    }
                } else if lawful_mask(head, whole == 0).is_none() {
                    return self.blind();
                } else if self.tunnel {
                    held.find_first(window, head);
                }
            }
            let Some(head) = head.filter(|_| end <= window.len() as u64) else {
                self.state = State::Holding(held);
                if window.len() == self.hold || held.is_foreign() {
                    let gist = self.gist(window, held);
                    self.release(gist, now);
                    return None;
                }
                return Some(Step::More(usize::try_from(end).map_or(self.hold, |end| end.min(self.hold))));
            };
            held.whole = end as usize;
            held.control_waits |= head.opcode.is_control();
            if head.fin && !head.opcode.is_control() {
                return Some(self.judge_whole(&window[..held.whole], held, now));
            }
        }
    }

    fn judge_whole(&mut self, frames: &[u8], held: Held, now: u64) -> Step {
        if !held.is_foreign()
            && let Some(start) = start::read(&payload(frames), self.guard.secret(), self.connection)
            && self.refuses(&start, now)
        {
            return self.leave_out_frame(frames, frames.len());
        }
        self.state = State::Boundary;
        Step::Pass(frames.len())
    }

    /// One frame of a message that is left out, or a control frame within it, of `left` bytes in all.
    fn leave_out_frame(&mut self, window: &[u8], left: usize) -> Step {
        let Parse::Head(head) = wire::head(window) else {
            // Not reached: heads that were read once can be read again.
            self.state = State::Broken;
            return Step::Drop(window.len(), None);
        };
        let frame = (head.frame() as usize).min(left);
        self.state = if left == frame { State::Boundary } else { State::LeavingOut(left - frame) };
        if head.opcode.is_control() { Step::Pass(frame) } else { Step::Drop(frame, None) }
    }

    /// What there is of a message says.
    fn gist(&self, window: &[u8], held: Held) -> Gist {
        if held.is_foreign() {
            return Gist::Other(Watch::Nothing);
        }
        let mut skim = Skim::new(self.guard.limits().max_run_id);
        // Nothing is watched for.
        let _ = skim.read(&payload(window), Watch::Nothing);
        skim.gist(self.guard.secret(), self.connection)
    }

    /// Judges a message by what there is of it. It streams from its first byte on, for the window still starts there.
    fn release(&mut self, gist: Gist, now: u64) {
        let (leave_out, watch) = match gist {
            Gist::Other(watch) => (false, watch),
            Gist::Start(start) => {
                // It has not been counted.
                let watch = if self.is_greeted { Watch::Everything } else { Watch::Starting };
                (self.refuses(&start, now), watch)
            }
        };
        let watch = if leave_out || self.mode == Mode::Observe { Watch::Nothing } else { watch };
        let skim = Skim::new(self.guard.limits().max_run_id);
        self.streamed = Some(Box::new(Streamed { leave_out, begun: false, skim, watch }));
        self.state = State::Boundary;
    }

    /// Asks the guard about a start, counts what it says, and answers for it where it refuses. Whether the message is to
    /// be left out.
    fn refuses(&mut self, start: &Start, now: u64) -> bool {
        self.tally.unclear += u32::from(!start.certain);
        if !self.is_greeted {
            let leaves_out = start.certain && self.mode == Mode::Enforce;
            self.tally.unanswered += u32::from(leaves_out);
            return leaves_out;
        }
        let outcome = self.guard.admit(self.client, start, now);
        let Some(refusal) = self.tally.count(outcome, self.mode) else { return false };
        self.answer(start, refusal);
        true
    }

    fn answer(&mut self, start: &Start, refusal: Refusal) {
        match &start.id {
            Some(id) if !self.is_full() => {
                self.answers.extend(answer::frame(id, refusal, self.guard.limits()));
            }
            _ => self.tally.unanswered += 1,
        }
    }

    /// A frame of the message that streams begins.
    fn enter(&mut self, left: u64, mask: [u8; 4], fin: bool) {
        if left > 0 {
            self.state = State::Streaming { left, mask, fin };
            return;
        }
        self.state = State::Boundary;
        if fin {
            self.streamed = None;
        }
    }

    /// In a frame of the message that streams. `None`: the state has changed, look again.
    fn stream(&mut self, window: &[u8], left: u64, mut mask: [u8; 4], fin: bool) -> Option<Step> {
        let n = usize::try_from(left).map_or(window.len(), |left| left.min(window.len()));
        let Some(streamed) = &mut self.streamed else { return self.blind() };
        if streamed.watch != Watch::Nothing
            && let Err(lawful) = streamed.watch(&window[..n], mask)
        {
            self.tally.deceits += 1;
            self.state = State::Broken;
            return (lawful > 0).then_some(Step::Pass(lawful));
        }
        let leave_out = streamed.leave_out;
        mask.rotate_left(n % 4);
        self.enter(left - n as u64, mask, fin);
        Some(if leave_out { Step::Drop(n, None) } else { Step::Pass(n) })
    }

    /// What comes now is not frames as any server would read them: it passes, unread. But not in the middle of a message
    /// that is left out: the gateway, which knows nothing of that one, might take it for the next.
    fn blind(&mut self) -> Option<Step> {
        if self.streamed.as_ref().is_some_and(|streamed| streamed.leave_out) {
            self.tally.deceits += 1;
            self.state = State::Broken;
        } else {
            self.state = State::Opaque;
        }
        None
    }

    /// For when the undecided bytes in the window have waited long enough: a held message goes on, judged by what there
    /// is of it. One that does not say yet whether it starts a run waits on, for it starts none before it is whole;
    /// unless a control frame waits behind it, or the guard only observes. Whether there was something to give up.
    pub fn give_up(&mut self, window: &[u8], now: u64) -> bool {
        let State::Holding(held) = self.state else {
            return false;
        };
        let window = &window[..window.len().min(self.hold)];
        // A long message is read again only once a fixed part of it is new.
        if !held.control_waits && window.len() < held.kept + held.kept / 8 && held.kept > PIECE {
            return false;
        }
        let gist = self.gist(window, held);
        let certain = !matches!(&gist, Gist::Start(start) if !start.certain);
        let gives_up = certain || held.control_waits || self.mode == Mode::Observe;
        if gives_up {
            self.release(gist, now);
        } else {
            self.state = State::Holding(Held { kept: window.len(), ..held });
        }
        gives_up
    }

    /// A whole control frame waits behind a message that is held.
    #[must_use]
    pub fn control_waits(&self) -> bool {
        matches!(self.state, State::Holding(Held { control_waits: true, .. }))
    }

    /// What the client is to be told: whole frames, to be sent between two of the gateway's.
    pub fn take_answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answers)
    }

    /// So many answers wait that refused starts get none any more. Who wants none to be lost, takes them first.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.answers.len() >= ANSWERS
    }

    /// A message was not what its beginning said. Nothing passes any more: the connection has to end.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken)
    }

    /// What has passed so far are whole frames, none of them a Close: a frame of our own may follow. What is in the
    /// window but not decided has not passed.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        match self.state {
            State::Boundary | State::Holding(_) | State::LeavingOut(_) => true,
            State::Streaming { .. } => self.streamed.as_ref().is_some_and(|streamed| streamed.leave_out),
            State::Passing(_) | State::Opaque | State::Broken => false,
        }
    }

    /// `Some` once a Close has passed, with its code where it had one.
    #[must_use]
    pub fn close(&self) -> Option<Option<u16>> {
        self.close
    }

    /// What has happened since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }
}

impl Streamed {
    /// Reads on, where the mask's first byte belongs to the first of these. An error: behind so many bytes stands what
    /// was watched for.
    fn watch(&mut self, masked: &[u8], mask: [u8; 4]) -> Result<(), usize> {
        for (i, piece) in masked.chunks(PIECE).enumerate() {
            let plain = &mut [0; PIECE][..piece.len()];
            plain.copy_from_slice(piece);
            unmask(plain, mask);
            self.skim.read(plain, self.watch).map_err(|n| i * PIECE + n)?;
        }
        Ok(())
    }
}
