//! Lines of any input, of which no more than one is in memory, and none that is longer than [`LONGEST`].

use std::io::{self, BufRead, ErrorKind};

/// Bytes of the longest line that is read: a frame of the gateway has 25 MiB at most.
pub const LONGEST: usize = 32 << 20;
/// What the room for lines may keep once a long one has been read.
const KEPT: usize = 1 << 20;

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// What stands in it.
    Text(&'a [u8]),
    /// It has more than [`LONGEST`] bytes, which were passed over.
    TooLong,
}

/// Reads lines.
pub struct Lines<R> {
    input: R,
    line: Vec<u8>,
    /// Bytes read so far.
    pub read: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of an input.
    pub fn new(input: R) -> Self {
        Self { input, line: Vec::new(), read: 0 }
    }

    /// The next line; the last one need not end.
    ///
    /// # Errors
    /// The input can't be read.
    pub fn read_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        self.line.shrink_to(KEPT);
        let before = self.read;
        let mut too_long = false;
        loop {
            let bytes = match self.input.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                bytes => bytes?,
            };
            let end = memchr::memchr(b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let taken = part.len() + usize::from(end.is_some());
            too_long |= self.line.len() + part.len() > LONGEST;
            if too_long {
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(part);
            }
            self.input.consume(taken);
            self.read += taken as u64;
            if end.is_some() || taken == 0 {
                break;
            }
        }
        Ok(match () {
            () if self.read == before => None,
            () if too_long => Some(Line::TooLong),
            () => Some(Line::Text(self.line.strip_suffix(b"\r").unwrap_or(&self.line))),
        })
    }
}
