//! What a line of a recording is: a frame of the gateway as it was on the wire, or one in a capture,
//! `{"conn","dir","ms","text"}`, with `dir` "in" from the gateway to a client and "out" back.

use crate::json::{Malformed, Reader, Str};

/// A line.
#[derive(Debug)]
pub(super) enum Record<'a> {
    /// A frame as it is.
    Frame,
    /// A frame from the gateway to a client.
    In {
        /// Which connection it was on.
        conn: Option<Str<'a>>,
        /// When, in milliseconds of the recorder's clock.
        ms: Option<u64>,
        /// The frame.
        text: Str<'a>,
    },
    /// A frame from a client to the gateway.
    Out,
    /// JSON, but neither of these.
    Neither,
}

/// Bytes of the longest key that means something.
const LONGEST_KEY: usize = "conn".len();

impl<'a> Record<'a> {
    /// Reads a line by its structure; the last of equal keys counts.
    pub(super) fn read(line: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(line)?;
        let (mut conn, mut dir, mut ms, mut text, mut kind) = (None, None, None, None, None);
        reader.members(|reader, key| {
            let value = reader.value()?;
            match key.short(&mut [0; LONGEST_KEY]) {
                b"conn" => conn = value.string(),
                b"dir" => dir = value.string(),
                b"ms" => ms = value.integer(),
                b"text" => text = value.string(),
                b"type" => kind = value.string(),
                _ => {}
            }
            Ok(())
        })?;
        reader.end()?;
        Ok(match (dir, text, kind) {
            (Some(dir), Some(text), _) if dir.is("in") => Self::In { conn, ms, text },
            (Some(dir), Some(_), _) if dir.is("out") => Self::Out,
            (None, _, Some(_)) => Self::Frame,
            _ => Self::Neither,
        })
    }
}
