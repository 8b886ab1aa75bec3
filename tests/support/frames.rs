//! WebSocket frames, written and read by hand: nothing here leans on the code under test.

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// How a frame's length is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As short as it can be.
    Minimal,
    /// In two bytes, though one may do.
    Two,
    /// In eight bytes, though fewer may do.
    Eight,
}

/// A frame as a server sends it.
pub(crate) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame_as(first, Form::Minimal, None, payload)
}

/// A frame with its length in a given form, and masked if there is a key.
pub(crate) fn frame_as(first: u8, form: Form, key: Option<[u8; 4]>, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = head(first, form, key.is_some(), payload.len() as u64);
    bytes.extend(key.into_iter().flatten());
    let key = key.unwrap_or_default();
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A frame's head up to its length, whatever comes behind it.
pub(crate) fn head(first: u8, form: Form, masked: bool, len: u64) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match form {
        Form::Minimal if len < 126 => bytes.push(mask | len as u8),
        Form::Minimal | Form::Two if len < 1 << 16 => {
            bytes.push(mask | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes
}

pub(crate) fn text(payload: impl ToString) -> Vec<u8> {
    frame(FIN | TEXT, payload.to_string())
}

pub(crate) fn ping(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(FIN | PING, payload)
}

pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(FIN | CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A text message in fragments: one ends at each of these places, which need neither be sorted nor in range.
pub(crate) fn fragments(payload: impl ToString, cuts: &[usize]) -> Vec<Vec<u8>> {
    let text = payload.to_string().into_bytes();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| (*cut).min(text.len())).collect();
    ends.sort_unstable();
    ends.push(text.len());
    let last = ends.len() - 1;
    let starts = std::iter::once(0).chain(ends.clone());
    let pieces = starts.zip(ends).enumerate();
    pieces
        .map(|(i, (start, end))| {
            let opcode = if i == 0 { TEXT } else { CONTINUATION };
            frame(opcode | if i == last { FIN } else { 0 }, &text[start..end])
        })
        .collect()
}

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    /// Still masked, if it was.
    pub(crate) payload: Vec<u8>,
    /// Bytes of the whole frame.
    pub(crate) len: usize,
}

impl Frame {
    pub(crate) fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    pub(crate) fn is_control(&self) -> bool {
        self.opcode() >= 8
    }
}

/// The frame at the start of these bytes, if it is whole.
pub(crate) fn first_frame(bytes: &[u8]) -> Option<Frame> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let width = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let length = bytes.get(2..2 + width)?;
    let length = match width {
        0 => u64::from(second & 0x7f),
        _ => length.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)),
    };
    let start = 2 + width + if second & 0x80 == 0 { 0 } else { 4 };
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    Some(Frame { first, payload: bytes.get(start..end)?.to_vec(), len: end })
}

/// All the frames of a stream and how many bytes are left behind the last whole one.
pub(crate) fn frames(mut bytes: &[u8]) -> (Vec<Frame>, usize) {
    let mut found = Vec::new();
    while let Some(frame) = first_frame(bytes) {
        bytes = &bytes[frame.len..];
        found.push(frame);
    }
    (found, bytes.len())
}

/// A message as a client gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// The messages of a stream of whole frames in the order in which they end, control frames among them.
/// Panics where a client would fail the connection.
pub(crate) fn messages(bytes: &[u8]) -> Vec<Message> {
    let (frames, rest) = frames(bytes);
    assert_eq!(rest, 0, "half a frame at the end");
    let mut found = Vec::new();
    let mut open: Option<Message> = None;
    for frame in frames {
        let (opcode, fin) = (frame.opcode(), frame.first & FIN != 0);
        if frame.is_control() {
            assert!(fin && frame.payload.len() <= 125, "unlawful control frame");
            found.push(Message { opcode, payload: frame.payload });
            continue;
        }
        let mut message = match (opcode, open.take()) {
            (CONTINUATION, Some(open)) => open,
            (TEXT | BINARY, None) => Message { opcode, payload: Vec::new() },
            other => panic!("fragments of different messages: {other:?}"),
        };
        message.payload.extend(frame.payload);
        if fin {
            found.push(message);
        } else {
            open = Some(message);
        }
    }
    assert_eq!(open, None, "half a message at the end");
    found
}

/// The payloads of all text messages, as text.
pub(crate) fn texts(bytes: &[u8]) -> Vec<String> {
    let texts = messages(bytes).into_iter().filter(|message| message.opcode == TEXT);
    texts.map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
}
