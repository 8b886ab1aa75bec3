//! WebSocket frames (RFC 6455, section 5.2): where one ends, and what its head says.
//!
//! The law of this file: a head is read, never written again. Whoever forwards a frame forwards the bytes
//! that arrived, non-minimal lengths and unknown bits included.

/// The longest head: two bytes, a 64-bit length, a masking key.
pub const MAX_HEAD: usize = 14;

/// The largest payload of a control frame (RFC 6455, section 5.5).
pub const MAX_CONTROL: u64 = 125;

/// The opcodes that RFC 6455 defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    /// Every opcode, in the order of [`Opcode::index`].
    pub const ALL: [Self; 6] =
        [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong];

    fn of(bits: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|o| *o as u8 == bits)
    }

    /// The place in [`Opcode::ALL`], for tables of counters.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 3,
            Self::Ping => 4,
            Self::Pong => 5,
        }
    }

    /// Close, ping and pong may stand between the fragments of a message.
    #[must_use]
    pub fn is_control(self) -> bool {
        self as u8 >= 8
    }

    /// The name used as a metric label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Continuation => "continuation",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
        }
    }
}

/// What the first bytes of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head itself, `2 <= len <= MAX_HEAD`.
    pub len: usize,
    /// Bytes of payload behind it, `payload < 2^63`.
    pub payload: u64,
    /// Last frame of its message.
    pub fin: bool,
    /// One of the three reserved bits is set: the payload is an extension's, not plain text.
    pub extended: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The masking key, which only clients may use.
    pub mask: Option<[u8; 4]>,
}

impl Head {
    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame(&self) -> u64 {
        self.len as u64 + self.payload
    }

    /// A control frame as the RFC allows it: in one piece, with a small payload.
    #[must_use]
    pub fn is_lawful_control(&self) -> bool {
        self.opcode.is_control() && self.fin && self.payload <= MAX_CONTROL
    }
}

/// What can be said of bytes that begin at a frame boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// A whole head.
    Head(Head),
    /// At least this many bytes are needed in all, `0 < needed <= MAX_HEAD`.
    More(usize),
    /// A reserved opcode or a length of 2^63 and more: nothing behind it can be trusted to be frames.
    Broken,
}

/// Reads the head of the frame that starts at the first byte.
#[must_use]
#[inline]
pub fn head(bytes: &[u8]) -> Parse {
    let &[first, second, ref rest @ ..] = bytes else {
        return Parse::More(2);
    };
    let Some(opcode) = Opcode::of(first & 0x0f) else {
        return Parse::Broken;
    };
    let masked = second & 0x80 != 0;
    let length_bytes = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let len = 2 + length_bytes + if masked { 4 } else { 0 };
    if bytes.len() < len {
        return Parse::More(len);
    }
    let payload = match length_bytes {
        0 => u64::from(second & 0x7f),
        n => rest[..n].iter().fold(0, |sum, b| sum << 8 | u64::from(*b)),
    };
    if payload >> 63 != 0 {
        return Parse::Broken;
    }
    let mask = masked.then(|| [0, 1, 2, 3].map(|i| rest[length_bytes + i]));
    Parse::Head(Head { len, payload, fin: first & 0x80 != 0, extended: first & 0x70 != 0, opcode, mask })
}

/// The status code at the start of a Close payload, which may be cut behind it; `None` where it has none
/// (RFC 6455, section 5.5.1).
#[must_use]
pub fn close_code(payload: &[u8], mask: Option<[u8; 4]>) -> Option<u16> {
    let [a, b, ..] = mask.unwrap_or_default();
    payload.first_chunk().map(|[high, low]| u16::from_be_bytes([high ^ a, low ^ b]))
}

/// Follows the frame heads of a direction that nobody looks into, whatever the chunks:
/// whether the last byte ended a frame, and whether a Close has passed.
#[derive(Debug, Default)]
pub struct Follower {
    /// Bytes of the current frame still to come.
    left: u64,
    /// The start of a frame whose head is not complete, with two more bytes for a Close code.
    partial: [u8; MAX_HEAD + 2],
    partial_len: usize,
    /// Broken, or behind a Close: what comes now is not frames.
    blind: bool,
    close: Option<Option<u16>>,
}

impl Follower {
    /// Takes the next bytes of the direction.
    pub fn follow(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() && !self.blind {
            if self.left > 0 {
                let skip = usize::try_from(self.left).map_or(chunk.len(), |n| n.min(chunk.len()));
                self.left -= skip as u64;
                chunk = &chunk[skip..];
                continue;
            }
            // The common case reads the head where it lies; `partial` is for heads cut by a chunk's end.
            let cut = self.partial_len > 0;
            if cut {
                self.partial[self.partial_len] = chunk[0];
                self.partial_len += 1;
                chunk = &chunk[1..];
            }
            let bytes = if cut { &self.partial[..self.partial_len] } else { chunk };
            let code_bytes = |head: &Head| match head.opcode {
                Opcode::Close => head.payload.min(2) as usize,
                _ => 0,
            };
            let (head, wanted) = match head(bytes) {
                Parse::Head(head) if bytes.len() >= head.len + code_bytes(&head) => {
                    (head, head.len + code_bytes(&head))
                }
                Parse::Broken => {
                    self.blind = true;
                    continue;
                }
                Parse::Head(_) | Parse::More(_) if cut => continue,
                Parse::Head(_) | Parse::More(_) => return self.keep(chunk),
            };
            if head.opcode == Opcode::Close {
                self.close = Some(close_code(&bytes[head.len..wanted], head.mask));
                self.blind = true;
            }
            self.left = head.frame() - wanted as u64;
            self.partial_len = 0;
            if !cut {
                chunk = &chunk[wanted..];
            }
        }
    }

    fn keep(&mut self, start: &[u8]) {
        self.partial[..start.len()].copy_from_slice(start);
        self.partial_len = start.len();
    }

    /// The bytes so far are whole frames, none of them a Close: a frame of one's own may follow.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        !self.blind && self.left == 0 && self.partial_len == 0
    }

    /// `Some` once a Close has been seen, with its code where it had one.
    #[must_use]
    pub fn close(&self) -> Option<Option<u16>> {
        self.close
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

    /// The naive twin: tungstenite's parser, which differs only where it refuses reserved opcodes with
    /// an error and lets the top bit of a 64-bit length through.
    #[test]
    fn a_head_reads_as_in_tungstenite() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                for fill in [0x00, 0x01, 0x7f, 0xff] {
                    let mut bytes = [fill; MAX_HEAD];
                    bytes[..2].copy_from_slice(&[first, second]);
                    for cut in 0..=MAX_HEAD {
                        let bytes = &bytes[..cut];
                        let mut cursor = Cursor::new(bytes);
                        match (head(bytes), FrameHeader::parse(&mut cursor)) {
                            (Parse::Head(ours), Ok(Some((theirs, length)))) => {
                                assert_eq!(ours.len as u64, cursor.position());
                                assert_eq!(ours.payload, length);
                                assert_eq!(ours.fin, theirs.is_final);
                                assert_eq!(ours.extended, theirs.rsv1 || theirs.rsv2 || theirs.rsv3);
                                assert_eq!(ours.opcode as u8, u8::from(theirs.opcode));
                                assert_eq!(ours.mask, theirs.mask);
                            }
                            (Parse::More(needed), Ok(None)) => assert!(cut < needed && needed <= MAX_HEAD),
                            (Parse::Broken, Err(_)) => assert!(Opcode::of(first & 15).is_none()),
                            (Parse::Broken, Ok(Some((_, length)))) => assert!(length >> 63 == 1),
                            // tungstenite reads the whole head before it looks at the opcode.
                            (Parse::Broken, Ok(None)) => assert!(Opcode::of(first & 15).is_none()),
                            other => panic!("{bytes:02x?}: {other:?}"),
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_follower_finds_boundaries_and_the_close_code_whatever_the_chunks() {
        let mut stream = vec![0x81, 0x85, 1, 2, 3, 4, 9, 9, 9, 9, 9];
        stream.extend([0x82, 0xfe, 0x01, 0x00, 7, 7, 7, 7]);
        stream.extend([0xee; 256]);
        stream.extend([0x89, 0x80, 0, 0, 0, 0]);
        let boundaries = [0, 11, 11 + 8 + 256, stream.len()];
        let close = [0x88, 0x84, 0x10, 0x20, 0x30, 0x40, 0x03 ^ 0x10, 0xf4 ^ 0x20, 0, 0];
        for size in 1..40 {
            let mut follower = Follower::default();
            let mut at = 0;
            for chunk in stream.chunks(size) {
                follower.follow(chunk);
                at += chunk.len();
                assert_eq!(follower.at_boundary(), boundaries.contains(&at), "at {at}, size {size}");
            }
            for chunk in close.chunks(size) {
                assert_eq!(follower.close(), None);
                follower.follow(&chunk[..1]);
                follower.follow(&chunk[1..]);
                if follower.close().is_some() {
                    break;
                }
            }
            assert_eq!(follower.close(), Some(Some(1012)));
            assert!(!follower.at_boundary());
        }
    }
}
