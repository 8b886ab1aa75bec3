//! A message that passes unread although its outer number must change: all of it is forwarded as it comes, but for its
//! last bytes, in which the number is.
//!
//! Invariants: at most [`TAIL`] bytes of frames are held, a control frame and a head aside; every byte is scanned once
//! when it arrives and once when it leaves, whatever the chunks and fragments.

use std::ops::Range;

use super::Fragments;
use crate::event::EVENT_START;
use crate::wire::{self, Head, Parse};

/// Bytes at the end of a message that are held. Behind the payload there are a number, versions and an id: some 150 bytes
/// in recorded gateways.
pub const TAIL: usize = 1024;

/// How far such a message has come. Offsets are into the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unread {
    /// Payload bytes before the first head in the window: their own head has left. 0 if the window starts at a frame.
    within: u64,
    /// Bytes of the window that are known: heads, payloads, whole control frames.
    pub(super) scanned: usize,
    /// Payload bytes of the newest frame behind these.
    pub(super) left: u64,
    /// The newest frame is the last one of its message.
    pub(super) fin: bool,
    /// Whether the message starts as an event, once its first bytes are there.
    is_event: Option<bool>,
    /// The end of the last control frame that is held; 0 if there is none.
    control_end: usize,
    /// What is held now leaves.
    releases: bool,
}

impl Unread {
    /// The window starts with this head.
    pub(super) fn starting_with(head: Head) -> Self {
        Self { scanned: head.len, left: head.payload, fin: head.fin, ..Self::gathered(0) }
    }

    /// The window starts with so many bytes of fragments, and control frames between them; the last fragment is not
    /// among them.
    pub(super) fn gathered(whole: usize) -> Self {
        Self {
            within: 0,
            scanned: whole,
            left: 0,
            fin: false,
            is_event: None,
            control_end: 0,
            releases: false,
        }
    }

    /// What is held leaves at once, for the control frame in it; the rest of the message is held back as before.
    pub(super) fn without_holding(self) -> Self {
        Self { releases: true, ..self }
    }

    pub(super) fn control_waits(&self) -> bool {
        self.control_end > 0
    }

    /// All that has left are whole frames.
    pub(super) fn at_frame(&self) -> bool {
        self.within == 0
    }

    /// Takes the payload of the newest frame that is in the window.
    pub(super) fn scan(&mut self, window: &[u8]) {
        let there = window.len() - self.scanned;
        let n = usize::try_from(self.left).map_or(there, |left| left.min(there));
        self.scanned += n;
        self.left -= n as u64;
    }

    pub(super) fn add_fragment(&mut self, head: Head) {
        self.scanned += head.len;
        self.left = head.payload;
        self.fin = head.fin;
    }

    /// All of the frame is in the window.
    pub(super) fn add_control(&mut self, head: Head) {
        self.scanned += head.frame() as usize;
        self.control_end = self.scanned;
    }

    /// Returns how many bytes at the start of the window may leave: all that cannot be among the last bytes of the
    /// message. A head or a control frame leaves as a whole.
    pub(super) fn release(&mut self, window: &[u8]) -> usize {
        let window = &window[..self.scanned];
        if self.is_event.is_none() {
            self.is_event = self.starts_as_event(window);
        }
        let coming = usize::try_from(self.left).unwrap_or(TAIL);
        let hold = if self.releases { 0 } else { TAIL.saturating_sub(coming) };
        if self.is_event.is_none() {
            if !self.releases && self.scanned <= TAIL {
                return 0;
            }
            self.is_event = Some(false);
        }
        self.releases = false;
        let most = self.scanned.saturating_sub(hold);
        let mut at = 0;
        while at < most {
            if self.within > 0 {
                let n = usize::try_from(self.within).map_or(most - at, |within| within.min(most - at));
                self.within -= n as u64;
                at += n;
                continue;
            }
            let Parse::Head(head) = wire::head(&window[at..]) else { break };
            let whole = if head.opcode.is_control() { head.frame() as usize } else { head.len };
            if at + whole > most {
                break;
            }
            at += whole;
            if !head.opcode.is_control() {
                self.within = head.payload;
            }
        }
        self.scanned -= at;
        self.control_end = self.control_end.saturating_sub(at);
        at
    }

    /// Whether the message starts as an event. All that is known of it is in the window, or was when it was asked before.
    pub(super) fn is_event(&mut self, window: &[u8]) -> bool {
        self.is_event.or_else(|| self.starts_as_event(window)).unwrap_or_default()
    }

    fn starts_as_event(&self, window: &[u8]) -> Option<bool> {
        let text = Fragments::within(window, self.within).flatten();
        let mut start = text.take(EVENT_START.len()).map(|place| window[place]);
        for byte in EVENT_START {
            if start.next()? != *byte {
                return Some(false);
            }
        }
        Some(true)
    }

    /// The last bytes of the text, and where they are in the window, which is all of what was scanned.
    pub(super) fn tail(&self, window: &[u8]) -> (Vec<u8>, Vec<Range<usize>>) {
        let from = window.len().saturating_sub(TAIL);
        let fragments = Fragments::within(window, self.within).filter(|fragment| fragment.end > from);
        let places: Vec<_> = fragments.map(|fragment| fragment.start.max(from)..fragment.end).collect();
        (places.iter().flat_map(|place| &window[place.clone()]).copied().collect(), places)
    }
}
