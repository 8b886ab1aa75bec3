//! Bytes in, steps out: what of the gateway's stream goes on to the client, and in which form.
//!
//! The law of this file: the sieve cannot fail. What it cannot judge, it forwards as it came; the order of
//! what it forwards is the order of what arrived; no frame changes its length. How the stream is cut into
//! windows changes nothing, except that a gathered message may be given up in time ([`Sieve::give_up`]). How much of
//! a message is read changes nothing either, if it is JSON: of one that is broken in its middle, the outer number may
//! be moved like any other's.

mod numbering;
mod reading;
mod tally;
mod unread;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use self::numbering::{Numbering, Renumber};
pub use self::reading::Seen;
use self::reading::{Glimpse, Reading};
pub use self::tally::{Tally, Unjudged};
pub use self::unread::TAIL;
use self::unread::Unread;

use crate::distinct::Distinct;
use crate::event::{self, Outer};
use crate::filter::{Ledger, Order, Verdict};
use crate::stamp::{RunKey, Secret, Stamp};
use crate::wire::{self, Head, MAX_HEAD, Opcode, Parse};

/// Whether repeats and stale events are left out, or only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Leave them out.
    #[default]
    Enforce,
    /// Forward every byte as it came, count what would have been left out.
    Observe,
}

/// As the setting names it.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        })
    }
}

/// What all sieves of a process share.
pub struct Rules {
    /// Leave out, or only count.
    pub mode: Mode,
    /// How strict the order within a run is.
    pub order: Order,
    /// The names of the events that are judged.
    pub events: Vec<String>,
    /// Runs tracked for one connection.
    pub runs: usize,
    /// Milliseconds after which an idle run is forgotten.
    pub ttl: u64,
    /// Bytes of the largest message that is judged; a fragmented one counts with its heads.
    pub inspect_limit: usize,
    /// The secret of all run keys.
    pub secret: Secret,
    /// Every run that was new to a connection is added here.
    pub distinct: Distinct,
}

/// What to do with the start of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Forward this many bytes (more than zero) as they now stand in the window.
    Pass(usize),
    /// Leave this many bytes (more than zero) out. A message in several frames is reported with its first.
    Drop(usize, Option<Dropped>),
    /// Nothing can be said before the window holds this many bytes: more than it has, and at most the inspect
    /// limit and two heads, or [`TAIL`], a control frame and a head. At the end of the stream, what is in the window is to be forwarded.
    More(usize),
}

/// An event that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Why.
    pub verdict: Verdict,
    /// Of which run.
    pub run: RunKey,
    /// With which number in the run.
    pub seq: u64,
    /// Of which stream, as it can be shown.
    pub stream: &'static str,
}

#[derive(Debug)]
enum State {
    /// The window starts at a frame.
    Boundary,
    /// So many bytes pass as they are: the rest of a frame, or a message that was forwarded.
    Passing(u64),
    /// A fragmented text message is being collected; the window starts at its first frame. The frames in the
    /// first `whole` bytes are complete, `whole <= inspect limit + MAX_HEAD`.
    Gathering { whole: usize, control_waits: bool },
    /// A text message passes unread, and its outer number has to change: the window starts in it, and its last bytes
    /// are held until the number has been read.
    Unread(Unread),
    /// A fragmented message is left out: of so many bytes, only the control frames pass.
    Dropping(usize),
    /// Not frames, or not for us: everything passes.
    Opaque,
}

/// The filter of one client connection, gateway to client.
pub struct Sieve {
    rules: Arc<Rules>,
    judging: bool,
    reading: Reading,
    ledger: Ledger,
    state: State,
    /// Inside a fragmented message that passes unjudged.
    in_unjudged: bool,
    numbering: Numbering,
    close: Option<Option<u16>>,
    tally: Tally,
}

impl Sieve {
    /// What a sieve costs besides its runs, in bytes.
    pub const BASE_BYTES: usize = size_of::<Self>() + Ledger::BASE_BYTES + Reading::BYTES;

    /// The sieve of a connection that is judged.
    #[must_use]
    pub fn judging(rules: Arc<Rules>) -> Self {
        Self::new(rules, true)
    }

    /// The sieve of a WebSocket whose messages are none of our business: it follows the frames, all pass.
    #[must_use]
    pub fn following(rules: Arc<Rules>) -> Self {
        Self::new(rules, false)
    }

    fn new(rules: Arc<Rules>, judging: bool) -> Self {
        Self {
            reading: Reading::default(),
            ledger: Ledger::new(rules.order, rules.runs, rules.ttl),
            rules,
            judging,
            state: State::Boundary,
            in_unjudged: false,
            numbering: Numbering::default(),
            close: None,
            tally: Tally::default(),
        }
    }

    /// Says what is to be done with the start of the window, which must not be empty and must start where the
    /// last step ended. Digits of the outer `seq` may be overwritten in it. `now` is in milliseconds of any
    /// clock that does not go backwards.
    pub fn step(&mut self, window: &mut [u8], now: u64) -> Step {
        loop {
            match self.state {
                State::Opaque => return Step::Pass(window.len()),
                State::Passing(left) => {
                    let n = usize::try_from(left).map_or(window.len(), |left| left.min(window.len()));
                    let left = left - n as u64;
                    self.state = if left == 0 { State::Boundary } else { State::Passing(left) };
                    return Step::Pass(n);
                }
                State::Dropping(left) => return self.drop_frame(window, left, None),
                State::Boundary => {
                    if let Some(step) = self.begin(window, now) {
                        return step;
                    }
                }
                State::Gathering { whole, control_waits } => {
                    if let Some(step) = self.gather(window, now, whole, control_waits) {
                        return step;
                    }
                }
                State::Unread(message) => {
                    if let Some(step) = self.pass_unread(window, message) {
                        return step;
                    }
                }
            }
        }
    }

    /// At a frame's head. `None`: the state has changed, look again.
    fn begin(&mut self, window: &mut [u8], now: u64) -> Option<Step> {
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
            self.count_frame(head);
            if head.opcode == Opcode::Close {
                self.close = Some(wire::close_code(&window[head.len..frame], head.mask));
                self.state = State::Opaque;
            }
            return Some(Step::Pass(frame));
        }
        let starts_message = matches!(head.opcode, Opcode::Text | Opcode::Binary);
        if starts_message && self.in_unjudged {
            // A message inside another: every client fails the connection here.
            return self.blind();
        }
        if starts_message && self.judging {
            match self.inspectable(head) {
                Ok(payload) if head.fin => return Some(self.whole_message(window, now, head, payload)),
                Ok(_) => {
                    self.state = State::Gathering { whole: 0, control_waits: false };
                    return None;
                }
                Err(reason) => self.count_unjudged(reason),
            }
        }
        self.count_frame(head);
        self.pass_frame(head);
        None
    }

    /// Passes the frame at the start of the window as it comes, with its message. Where the message has a number that
    /// must change, its end is held back.
    fn pass_frame(&mut self, head: Head) {
        let is_plain_text = head.opcode == Opcode::Text && !head.extended && head.mask.is_none();
        if self.judging && is_plain_text && self.numbering.is_shifted() {
            self.in_unjudged = true;
            self.state = State::Unread(Unread::starting_with(head));
            return;
        }
        if !head.opcode.is_control() {
            self.in_unjudged = !head.fin;
        }
        self.state = State::Passing(head.frame());
    }

    /// The payload's size, if the message that begins here can be judged.
    fn inspectable(&self, head: Head) -> Result<usize, Unjudged> {
        if head.extended || head.mask.is_some() {
            return Err(Unjudged::Extended);
        }
        if head.opcode == Opcode::Binary {
            return Err(Unjudged::Binary);
        }
        usize::try_from(head.payload)
            .ok()
            .filter(|payload| *payload <= self.rules.inspect_limit)
            .ok_or(Unjudged::Oversized)
    }

    fn whole_message(&mut self, window: &mut [u8], now: u64, head: Head, payload: usize) -> Step {
        let frame = head.len + payload;
        if window.len() < frame {
            return Step::More(frame);
        }
        self.count_frame(head);
        let text = &mut window[head.len..frame];
        let ruling = self.judge(text, now);
        if let Some(new) = ruling.renumber {
            text[new.at.clone()].copy_from_slice(new.digits());
        }
        match ruling.dropped {
            Some(dropped) => Step::Drop(frame, Some(dropped)),
            None => Step::Pass(frame),
        }
    }

    /// Collects a fragmented message until its last frame. `None`: the state has changed, look again.
    fn gather(
        &mut self,
        window: &mut [u8],
        now: u64,
        mut whole: usize,
        mut control_waits: bool,
    ) -> Option<Step> {
        loop {
            let needed = match wire::head(&window[whole..]) {
                Parse::Broken => return self.lose(),
                Parse::More(needed) => needed as u64,
                Parse::Head(head) => {
                    let first = whole == 0;
                    if head.is_lawful_control() {
                        if head.opcode == Opcode::Close {
                            return self.release(whole, Unjudged::Interrupted);
                        }
                    } else if !first && (head.opcode != Opcode::Continuation) {
                        return self.lose();
                    } else if head.extended || head.mask.is_some() {
                        return self.release(whole, Unjudged::Extended);
                    }
                    if whole as u64 + head.frame() > (self.rules.inspect_limit + MAX_HEAD) as u64 {
                        return self.release(whole, Unjudged::Oversized);
                    }
                    if window.len() as u64 >= whole as u64 + head.frame() {
                        self.count_frame(head);
                        whole += head.frame() as usize;
                        control_waits |= head.opcode.is_control();
                        if head.fin && !head.opcode.is_control() {
                            return Some(self.gathered(window, now, whole));
                        }
                        continue;
                    }
                    head.frame()
                }
            };
            self.state = State::Gathering { whole, control_waits };
            return Some(Step::More(whole + needed as usize));
        }
    }

    /// Judges a fragmented message, whose frames and the control frames between them are `window[..whole]`.
    fn gathered(&mut self, window: &mut [u8], now: u64, whole: usize) -> Step {
        let mut text = Vec::with_capacity(whole);
        Fragments::of(&window[..whole]).for_each(|at| text.extend_from_slice(&window[at]));
        let ruling = self.judge(&text, now);
        if let Some(new) = ruling.renumber {
            let fragments: Vec<_> = Fragments::of(&window[..whole]).collect();
            new.write(window, fragments);
        }
        match ruling.dropped {
            Some(dropped) => self.drop_frame(window, whole, Some(dropped)),
            None => {
                self.state = State::Boundary;
                Step::Pass(whole)
            }
        }
    }

    /// One frame of a message that is left out, or a control frame within it, of `left` bytes in all.
    fn drop_frame(&mut self, window: &[u8], left: usize, dropped: Option<Dropped>) -> Step {
        let Parse::Head(head) = wire::head(window) else {
            // Heads that were read once can be read again.
            self.state = State::Opaque;
            return Step::Pass(window.len());
        };
        let frame = (head.frame() as usize).min(left);
        self.state = if left == frame { State::Boundary } else { State::Dropping(left - frame) };
        if head.opcode.is_control() { Step::Pass(frame) } else { Step::Drop(frame, dropped) }
    }

    /// Forwards what was gathered of a message, and its rest as it comes.
    fn release(&mut self, whole: usize, reason: Unjudged) -> Option<Step> {
        if whole == 0 {
            // Not reached: `begin` has looked at the first frame.
            return self.blind();
        }
        self.count_unjudged(reason);
        self.in_unjudged = true;
        self.state = if self.numbering.is_shifted() {
            State::Unread(Unread::gathered(whole))
        } else {
            State::Passing(whole as u64)
        };
        None
    }

    /// Passes a message whose number must change. `None`: the state has changed, look again.
    fn pass_unread(&mut self, window: &mut [u8], mut message: Unread) -> Option<Step> {
        loop {
            message.scan(window);
            let missing = if message.left > 0 {
                usize::try_from(message.left).map_or(TAIL, |left| left.min(TAIL))
            } else if message.fin {
                return Some(self.end_unread(window, message));
            } else {
                match wire::head(&window[message.scanned..]) {
                    Parse::More(needed) => needed - (window.len() - message.scanned),
                    Parse::Head(head) if head.is_lawful_control() && head.opcode != Opcode::Close => {
                        let there = window.len() - message.scanned;
                        match (head.frame() as usize).checked_sub(there) {
                            Some(missing @ 1..) => missing,
                            _ => {
                                self.count_frame(head);
                                message.add_control(head);
                                continue;
                            }
                        }
                    }
                    Parse::Head(head) if is_plain_continuation(head) => {
                        self.count_frame(head);
                        message.add_fragment(head);
                        continue;
                    }
                    // A Close, or what ends the message in another way: the frame's own state decides about it.
                    Parse::Head(_) | Parse::Broken => {
                        self.release_unread(message);
                        return None;
                    }
                }
            };
            let released = message.release(window);
            self.state = State::Unread(message);
            return Some(if released > 0 {
                Step::Pass(released)
            } else {
                Step::More(window.len() + missing)
            });
        }
    }

    /// All of a message that passes unread is there: gives it its number.
    fn end_unread(&mut self, window: &mut [u8], mut message: Unread) -> Step {
        let frames = &window[..message.scanned];
        let is_event = message.is_event(frames);
        let (tail, places) = message.tail(frames);
        let outer = event::outer_at_end(&tail, is_event);
        if let Some(new) = outer.and_then(|outer| self.numbering.next(outer, false)) {
            new.write(window, places);
            self.tally.rewritten += 1;
        }
        self.in_unjudged = false;
        self.state = State::Boundary;
        Step::Pass(message.scanned)
    }

    /// Lets go of what is held of a message that passes unread, and of the rest of its frame.
    fn release_unread(&mut self, message: Unread) {
        let bytes = message.scanned as u64 + message.left;
        self.in_unjudged = !message.fin;
        self.state = if bytes == 0 { State::Boundary } else { State::Passing(bytes) };
    }

    /// A gathered message is followed by what no client accepts.
    fn lose(&mut self) -> Option<Step> {
        self.count_unjudged(Unjudged::Interrupted);
        self.blind()
    }

    /// What comes now is not frames as anybody would read them: it passes, unread.
    fn blind(&mut self) -> Option<Step> {
        self.tally.unreadable += 1;
        self.state = State::Opaque;
        None
    }

    fn judge(&mut self, text: &[u8], now: u64) -> Ruling {
        let glimpse = self.reading.glimpse(text, &self.rules);
        if let Some(Glimpse { seen, trusted: true, .. }) = &glimpse
            && let Some(judged) = self.judge_ordinary(seen, now)
        {
            self.tally.read_ends += 1;
            return self.rule(seen.outer.clone(), judged);
        }
        let whole = Seen::wholly(text, &self.rules);
        self.tally.read_whole += 1;
        if let Some(glimpse) = glimpse
            && !self.reading.check(glimpse, &whole)
        {
            self.tally.disagreed += 1;
            // It may rest on what was misread before; without it, at worst repeats pass.
            self.ledger.forget();
        }
        let judged = whole.subject.map(|stamp| (stamp, self.ledger.judge(&stamp, now)));
        let mut outer = whole.outer;
        if judged.is_err_and(|reason| reason == Unjudged::Malformed) && self.numbering.is_shifted() {
            // A client that reads it nevertheless must not find a number that another message has, too.
            outer = event::outer_at_end(text, text.starts_with(event::EVENT_START));
        }
        self.rule(outer, judged)
    }

    /// Judges what was seen at a glance, if that is to be believed: nothing is left out on its word, no run begins or
    /// begins again, and none jumps ahead.
    fn judge_ordinary(&mut self, seen: &Seen, now: u64) -> Option<Judged> {
        match seen.subject {
            Ok(stamp) => self.ledger.judge_ordinary(&stamp, now).map(|verdict| Ok((stamp, verdict))),
            Err(reason) => Some(Err(reason)),
        }
    }

    fn rule(&mut self, outer: Option<Outer>, judged: Judged) -> Ruling {
        let mut dropped = None;
        match judged {
            Ok((stamp, verdict)) => {
                self.tally.judged[verdict as usize] += 1;
                if verdict == Verdict::NewRun {
                    self.rules.distinct.add(stamp.run.id());
                }
                if verdict.drops() && self.rules.mode == Mode::Enforce {
                    let stream = self.rules.secret.stream_name(stamp.stream);
                    dropped = Some(Dropped { verdict, run: stamp.run, seq: stamp.seq, stream });
                }
            }
            Err(reason) => self.count_unjudged(reason),
        }
        let renumber = outer.and_then(|outer| self.numbering.next(outer, dropped.is_some()));
        self.tally.rewritten += u32::from(renumber.is_some());
        Ruling { dropped, renumber }
    }

    fn count_frame(&mut self, head: Head) {
        self.tally.frames[head.opcode.index()] += 1;
    }

    fn count_unjudged(&mut self, reason: Unjudged) {
        self.tally.unjudged[reason as usize] += 1;
    }

    /// A whole control frame waits behind fragments that are held.
    #[must_use]
    pub fn control_waits(&self) -> bool {
        match self.state {
            State::Gathering { control_waits, .. } => control_waits,
            State::Unread(message) => message.control_waits(),
            _ => false,
        }
    }

    /// For when the undecided bytes in the window have waited long enough: they go on unjudged, with the rest of
    /// their message. False if they have to wait on: a part of a head, and the end of a message whose number must
    /// change. Neither is of use to a client before its rest has come.
    pub fn give_up(&mut self, window: &[u8]) -> bool {
        if window.is_empty() {
            return true;
        }
        match self.state {
            State::Unread(message) if message.control_waits() => {
                self.state = State::Unread(message.without_holding());
            }
            State::Unread(_) => return false,
            State::Gathering { whole, control_waits: true } if self.numbering.is_shifted() => {
                self.count_unjudged(Unjudged::Interrupted);
                self.in_unjudged = true;
                self.state = State::Unread(Unread::gathered(whole).without_holding());
            }
            State::Gathering { whole, .. } if whole > 0 => {
                let _ = self.release(whole, Unjudged::Interrupted);
            }
            State::Boundary | State::Gathering { .. } => match wire::head(window) {
                Parse::Head(head) => {
                    self.count_frame(head);
                    if !head.opcode.is_control() {
                        self.count_unjudged(Unjudged::Interrupted);
                    }
                    self.pass_frame(head);
                }
                Parse::More(_) => return false,
                Parse::Broken => self.state = State::Opaque,
            },
            State::Passing(_) | State::Dropping(_) | State::Opaque => {}
        }
        true
    }

    /// Forgets the runs whose time is over; see [`Ledger::expire`].
    pub fn expire(&mut self, now: u64) {
        self.ledger.expire(now);
        if self.ledger.is_empty() {
            self.reading.forget_forms();
        }
    }

    /// When the next run expires; see [`Ledger::next_expiry`].
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        self.ledger.next_expiry()
    }

    /// Runs tracked now.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.ledger.len()
    }

    /// What has passed so far are whole frames, none of them a Close: a frame of our own may follow. What is
    /// in the window but not decided has not passed.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        match self.state {
            State::Passing(_) | State::Opaque => false,
            State::Unread(message) => message.at_frame(),
            State::Boundary | State::Gathering { .. } | State::Dropping(_) => true,
        }
    }

    /// The same for a message of our own: none of the gateway's is under way.
    #[must_use]
    pub fn at_message_boundary(&self) -> bool {
        self.at_boundary() && !self.in_unjudged
    }

    /// Nothing is read any more, for good: behind a Close, or what are no frames. No frame of our own may ever follow.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        matches!(self.state, State::Opaque)
    }

    /// `Some` once a Close has passed, with its code where it had one.
    #[must_use]
    pub fn close(&self) -> Option<Option<u16>> {
        self.close
    }

    /// What has happened since the last call.
    pub fn take_tally(&mut self) -> Tally {
        let mut tally = std::mem::take(&mut self.tally);
        tally.departed = self.ledger.take_departed();
        tally
    }
}

/// An event and its verdict, or why there is none.
type Judged = Result<(Stamp, Verdict), Unjudged>;

/// What is done with a message that was read.
struct Ruling {
    dropped: Option<Dropped>,
    renumber: Option<Renumber>,
}

/// A fragment that continues a message as it began: without an extension, and not masked.
fn is_plain_continuation(head: Head) -> bool {
    head.opcode == Opcode::Continuation && !head.extended && head.mask.is_none()
}

/// Where the payloads of a message's own frames are among its frames and the control frames between them.
struct Fragments<'a> {
    /// The last frame may be cut.
    frames: &'a [u8],
    at: usize,
    /// Payload bytes at `at`, before the next head.
    left: u64,
}

impl<'a> Fragments<'a> {
    fn of(frames: &'a [u8]) -> Self {
        Self::within(frames, 0)
    }

    /// The same where the frames begin with so many bytes of a payload.
    fn within(frames: &'a [u8], left: u64) -> Self {
        Self { frames, at: 0, left }
    }
}

impl Iterator for Fragments<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            if self.left > 0 {
                let there = self.frames.len() - self.at;
                let n = usize::try_from(self.left).map_or(there, |left| left.min(there));
                self.left = 0;
                self.at += n;
                return (n > 0).then(|| self.at - n..self.at);
            }
            let Parse::Head(head) = wire::head(&self.frames[self.at..]) else { return None };
            self.at += head.len;
            if head.opcode.is_control() {
                self.at = (self.at + head.payload as usize).min(self.frames.len());
            } else {
                self.left = head.payload;
            }
        }
    }
}
