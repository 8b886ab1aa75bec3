//! A gate at work, as the relay uses it, and frames as clients send them.

use std::num::NonZeroU32;
use std::sync::Arc;

use seqgate::guard::gate::{Gate, Tally};
use seqgate::guard::{Client, Guard, Limits};
use seqgate::sieve::{Mode, Step};
use seqgate::stamp::Secret;
use seqgate::wire::MAX_HEAD;

use super::frames::{
    BINARY, CLOSE, CONTINUATION, FIN, Form, Frame, PING, PONG, RSV1, TEXT, first_frame, frame_as,
};
use super::pump::chunks;
use super::requests::message;

pub(crate) const CONNECTION: u64 = 5;

pub(crate) fn secret() -> Secret {
    Secret::new([7; 16])
}

/// So many at once, then so many a minute, and nothing else.
pub(crate) fn rate(burst: u32, per_minute: u32) -> Limits {
    Limits {
        runs_per_minute: NonZeroU32::new(per_minute),
        burst: NonZeroU32::new(burst).unwrap(),
        max_run_id: 64,
        max_live_runs: None,
        live_run_ttl: 3_600_000,
    }
}

/// So many going on, and nothing else.
pub(crate) fn live_runs(most: u32) -> Limits {
    Limits { max_live_runs: NonZeroU32::new(most), ..rate(1, 0) }
}

pub(crate) fn guard(limits: Limits) -> Arc<Guard> {
    Arc::new(Guard::new(limits, secret(), 8))
}

pub(crate) fn client() -> Client {
    Client::connection(CONNECTION)
}

/// A frame as a client sends it.
pub(crate) fn masked(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame_as(first, Form::Minimal, Some([0x12, 0x34, 0xab, 0xcd]), payload)
}

/// A text message in one frame.
pub(crate) fn said(text: impl AsRef<[u8]>) -> Vec<u8> {
    masked(FIN | TEXT, text)
}

/// A message in frames that end at these places, which need neither be sorted nor in range.
pub(crate) fn cut(opcode: u8, message: impl AsRef<[u8]>, cuts: &[usize]) -> Vec<Vec<u8>> {
    let message = message.as_ref();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| (*cut).min(message.len())).collect();
    ends.sort_unstable();
    ends.push(message.len());
    let last = ends.len() - 1;
    let mut start = 0;
    let mut frames = Vec::new();
    for (i, end) in ends.into_iter().enumerate() {
        let first = if i == 0 { opcode } else { CONTINUATION } | if i == last { FIN } else { 0 };
        let key = [i as u8, 0x55, 0xaa, end as u8];
        frames.push(frame_as(first, Form::Minimal, Some(key), &message[start..end]));
        start = end;
    }
    frames
}

/// A request that starts a run under this key.
pub(crate) fn chat(id: &str, key: &str) -> String {
    format!(
        r#"{{"type":"req","id":"{id}","method":"chat.send","params":{{"sessionKey":"main","message":"hi","idempotencyKey":"{key}"}}}}"#
    )
}

/// A request that starts nothing.
pub(crate) fn health(id: &str) -> String {
    format!(r#"{{"type":"req","id":"{id}","method":"health"}}"#)
}

/// One connection.
pub(crate) struct Turnstile {
    pub(crate) gate: Gate,
    bound: usize,
    pub(crate) now: u64,
    pub(crate) window: Vec<u8>,
    /// What went on to the gateway.
    pub(crate) out: Vec<u8>,
    /// What came back from the gate.
    pub(crate) answers: Vec<u8>,
    pub(crate) tally: Tally,
    /// The most bytes that the gate asked to have before it would say anything.
    pub(crate) asked: usize,
    /// After each step: the bytes that had passed, and whether a frame of our own could have followed.
    pub(crate) boundaries: Vec<(usize, bool)>,
}

impl Turnstile {
    pub(crate) fn new(guard: &Arc<Guard>, mode: Mode, limit: usize) -> Self {
        Self {
            gate: Gate::new(Arc::clone(guard), mode, client(), CONNECTION, limit),
            // Control frames are waited for whatever the limit.
            bound: (limit + MAX_HEAD).max(125 + MAX_HEAD),
            now: 0,
            window: Vec::new(),
            out: Vec::new(),
            answers: Vec::new(),
            tally: Tally::default(),
            asked: 0,
            boundaries: vec![(0, true)],
        }
    }

    /// Bytes arrive; every step that can be taken is taken.
    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        self.window.extend(chunk);
        let mut at = 0;
        while at < self.window.len() {
            let window = &mut self.window[at..];
            match self.gate.step(window, self.now) {
                Step::Pass(n) => {
                    assert!(0 < n && n <= window.len(), "{n} of {}", window.len());
                    self.out.extend(&window[..n]);
                    at += n;
                }
                Step::Drop(n, reported) => {
                    assert!(0 < n && n <= window.len() && reported.is_none());
                    at += n;
                }
                Step::More(needed) => {
                    assert!(
                        needed > window.len(),
                        "{} bytes are there, {needed} are asked for",
                        window.len()
                    );
                    assert!(needed <= self.bound, "{needed} bytes are asked for");
                    self.asked = self.asked.max(needed);
                    break;
                }
            }
            self.boundaries.push((self.out.len(), self.gate.at_boundary()));
            self.answers.extend(self.gate.take_answers());
        }
        self.window.drain(..at);
        self.add_tally();
    }

    /// All these bytes in chunks of these sizes, over and over; no sizes: in one chunk.
    pub(crate) fn feed_in(&mut self, bytes: &[u8], sizes: &[usize]) {
        chunks(bytes, sizes).for_each(|chunk| self.feed(chunk));
    }

    /// What is held has waited long enough.
    pub(crate) fn give_up(&mut self) {
        self.gate.give_up(&self.window, self.now);
        self.feed(&[]);
    }

    fn add_tally(&mut self) {
        let Tally { admitted, repeated, refused, would_refuse, unclear, unanswered, deceits } =
            self.gate.take_tally();
        let sum = &mut self.tally;
        sum.admitted += admitted;
        sum.repeated += repeated;
        sum.refused.iter_mut().zip(refused).for_each(|(sum, n)| *sum += n);
        sum.would_refuse.iter_mut().zip(would_refuse).for_each(|(sum, n)| *sum += n);
        sum.unclear += unclear;
        sum.unanswered += unanswered;
        sum.deceits += deceits;
    }
}

/// A whole stream through a new gate of a new guard.
pub(crate) fn through(limits: Limits, limit: usize, bytes: &[u8], sizes: &[usize]) -> Turnstile {
    let mut turnstile = Turnstile::new(&guard(limits), Mode::Enforce, limit);
    turnstile.feed_in(bytes, sizes);
    turnstile
}

/// What a server makes of a client's bytes, up to where it would fail the connection or was told to close it.
#[derive(Default)]
pub(crate) struct Heard {
    /// The whole messages, in the order in which they end.
    pub(crate) messages: Vec<Vec<u8>>,
    /// The stream without the frames of those messages that were not wanted.
    pub(crate) wanted: Vec<u8>,
}

/// Hears a stream; `wants` is asked about each whole message.
pub(crate) fn hear(mut bytes: &[u8], mut wants: impl FnMut(&[u8]) -> bool) -> Heard {
    let mut heard = Heard::default();
    let mut message: Option<Vec<u8>> = None;
    // The frames since the message's first, and which of them are its own.
    let mut frames: Vec<(&[u8], bool)> = Vec::new();
    while let Some(frame) = first_frame(bytes) {
        let (raw, rest) = bytes.split_at(frame.len);
        let lawful = raw[1] & 0x80 != 0 && frame.first & 0x70 == 0;
        let (opcode, fin) = (frame.opcode(), frame.first & FIN != 0);
        match (opcode, &mut message) {
            (CLOSE, _) => break,
            (PING | PONG, _) if lawful && fin && frame.payload.len() <= 125 => frames.push((raw, false)),
            (TEXT | BINARY, None) if lawful => {
                message = Some(frame.unmasked(raw));
                frames.push((raw, true));
            }
            (CONTINUATION, Some(message)) if lawful => {
                message.extend(frame.unmasked(raw));
                frames.push((raw, true));
            }
            _ => break,
        }
        bytes = rest;
        if fin && opcode < CLOSE {
            let message = message.take().unwrap();
            let wanted = wants(&message);
            frames.retain(|(_, own)| wanted || !own);
            heard.messages.push(message);
        }
        if message.is_none() {
            heard.wanted.extend(frames.drain(..).flat_map(|(raw, _)| raw));
        }
    }
    heard.wanted.extend(frames.into_iter().flat_map(|(raw, _)| raw));
    heard.wanted.extend(bytes);
    heard
}

impl Frame {
    /// The payload as it was before it was masked.
    fn unmasked(&self, raw: &[u8]) -> Vec<u8> {
        let key = &raw[raw.len() - self.payload.len() - 4..][..4];
        self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    }
}

/// A client's stream as these bytes have it: messages in any number of frames, control frames between them, and now and
/// then something that is not lawful.
pub(crate) fn stream(script: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in script.chunks(90) {
        let (shape, script) = part.split_at(part.len().min(5));
        let at = |i: usize| shape.get(i).copied().unwrap_or_default();
        let opcode = if at(0) % 3 == 0 { BINARY } else { TEXT };
        let cuts: &[usize] = match at(1) % 4 {
            0 | 1 => &[],
            2 => &[usize::from(at(2))],
            _ => &[usize::from(at(2)), usize::from(at(3)), usize::from(at(2) / 2)],
        };
        let between = match at(4) {
            0..40 => masked(FIN | PING, b"?"),
            40..80 => masked(FIN | PONG, b""),
            80 => masked(FIN | CLOSE, [3, 232]),
            81..88 => said(chat("9", "inside")),
            88 => masked(FIN | PING, [0; 126]),
            89 => masked(FIN | RSV1 | TEXT, b"squeezed"),
            90 => frame_as(FIN | TEXT, Form::Minimal, None, b"bare"),
            91 => masked(FIN | 3, b"reserved"),
            92 => masked(CONTINUATION, b""),
            _ => Vec::new(),
        };
        let frames = cut(opcode, message(script), cuts);
        bytes.extend(frames.join(&between[..]));
        if at(4) % 2 == 0 {
            bytes.extend(between);
        }
    }
    bytes
}
