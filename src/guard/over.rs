//! Whether a message of the gateway says that a run is over.
//!
//! The law of this file: nothing is over that is not said to be; what can't be read says nothing.

use crate::event::{Phase, phase};
use crate::json::{Malformed, Reader, Str};
use crate::stamp::{RunKey, Secret};

/// What is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A run, by its key.
    Run(RunKey),
    /// A request was answered, by its hash; it gets a second answer unless this is the last.
    Answer {
        /// As [`Secret::request`].
        request: u64,
        /// The run that it started, if any, is over.
        last: bool,
    },
}

/// The values of a `res` payload's `status` behind which nothing comes. Others (`accepted`, `started`, `in_flight`,
/// `pending`) say that the run goes on.
const LAST: [&str; 4] = ["ok", "error", "timeout", "aborted"];

/// Reads a whole text message that the gateway sends on a connection of this number.
#[must_use]
pub fn read(text: &[u8], secret: &Secret, connection: u64) -> Option<Over> {
    Message::read(text).ok()?.over(secret, connection)
}

/// Whether a text message says that the gateway has let its client in: before, it sends a challenge and refusals. What
/// can't be read does, so that nobody is kept out by mistake.
#[must_use]
pub fn welcomes(text: &[u8]) -> bool {
    Message::read(text)
        .map_or(true, |found| found.is_res && !found.refused || found.is_agent || found.is_chat)
}

/// What matters of a message, the last of equal keys each.
#[derive(Default)]
struct Message<'a> {
    is_res: bool,
    is_agent: bool,
    is_chat: bool,
    id: Option<Str<'a>>,
    refused: bool,
    payload: Payload<'a>,
}

#[derive(Default)]
struct Payload<'a> {
    run: Option<Str<'a>>,
    is_lifecycle: bool,
    phase_is_last: bool,
    state_is_last: bool,
    status_is_last: bool,
}

impl<'a> Message<'a> {
    fn read(text: &'a [u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut reader = Reader::new(text)?;
        reader.object(|reader, key| {
            match key.short(&mut [0; "payload".len()]) {
                b"type" => found.is_res = reader.value()?.string().is_some_and(|s| s.is("res")),
                b"event" => {
                    let event = reader.value()?.string();
                    found.is_agent = event.is_some_and(|s| s.is("agent"));
                    found.is_chat = event.is_some_and(|s| s.is("chat"));
                }
                b"id" => found.id = reader.value()?.string(),
                b"ok" => {
                    found.refused = reader.peek() == Some(b'f');
                    reader.value()?;
                }
                b"payload" => found.payload = Payload::read(reader)?,
                _ => drop(reader.value()?),
            }
            Ok(())
        })?;
        reader.end()?;
        Ok(found)
    }

    fn over(self, secret: &Secret, connection: u64) -> Option<Over> {
        if self.is_res {
            let last = self.refused || self.payload.status_is_last;
            return self.id.map(|id| Over::Answer { request: secret.request(connection, id), last });
        }
        let payload = self.payload;
        let ends = self.is_agent && payload.is_lifecycle && payload.phase_is_last
            || self.is_chat && payload.state_is_last;
        payload.run.filter(|_| ends).map(|id| Over::Run(secret.run(id)))
    }
}

impl<'a> Payload<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let mut found = Self::default();
        reader.members(|reader, key| {
            match key.short(&mut [0; "runId".len() + 1]) {
                b"runId" => found.run = reader.value()?.string(),
                b"stream" => found.is_lifecycle = is_one_of(reader, &["lifecycle"])?,
                b"data" => found.phase_is_last = phase(reader)? == Some(Phase::Last),
                b"state" => found.state_is_last = is_one_of(reader, &["final", "aborted", "error"])?,
                b"status" => found.status_is_last = is_one_of(reader, &LAST)?,
                _ => drop(reader.value()?),
            }
            Ok(())
        })?;
        Ok(found)
    }
}

fn is_one_of(reader: &mut Reader<'_>, words: &[&str]) -> Result<bool, Malformed> {
    Ok(reader.value()?.string().is_some_and(|s| words.iter().any(|word| s.is(word))))
}
