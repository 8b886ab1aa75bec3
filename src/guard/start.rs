//! Whether a client's message starts a run.
//!
//! The law of this file: what the gateway would understand, is understood here; else it would be a way around. The
//! gateway decodes text and binary messages alike, with U+FFFD for what is not UTF-8, and gives them to `JSON.parse`:
//! any key order, escapes, the last of equal keys, any depth. What is not JSON it does not answer, and nobody sends it;
//! so what can't be read for sure counts as a start, whose key nobody knows.

use crate::json::{Malformed, Reader, Str};
use crate::stamp::{RunKey, Secret};

/// Bytes of the longest request id, as it stands in the text, that is repeated in an answer. Clients use UUIDs.
pub const MAX_ID: usize = 1024;

/// A message that starts a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The request's id as a JSON string, quotes included; none if there is no such string of at most [`MAX_ID`]
    /// bytes. The gateway starts nothing for a request without one, so nobody waits for an answer.
    pub id: Option<Box<str>>,
    /// The request's hash, by which its answer is known; see [`Secret::request`].
    pub request: Option<u64>,
    /// The key that the client has chosen for the run.
    pub key: Option<Key>,
    /// Else it only was not seen that it starts none.
    pub certain: bool,
}

/// An idempotency key. It becomes the run's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// As [`Secret::run`].
    pub run: RunKey,
    /// The same, different for each method: the gateway knows a key again only behind the method that brought it.
    pub mark: u64,
    /// Bytes of the key, in UTF-8.
    pub length: usize,
}

/// How a method starts runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Under the client's `idempotencyKey`; the number is the method's own.
    Keyed(u64),
    /// Under an id that the gateway chooses.
    Unkeyed,
    /// Under such an id, if there is a first message.
    Session,
    /// Under such an id, if the session is to be woken.
    Wake,
    /// The events of nodes, of which two start a run.
    Event,
}

/// The methods that start runs, of all versions of the gateway: each leads to its agent or its chat. Methods of
/// plugins are not known.
const METHODS: [(&str, Kind); 17] = [
    ("agent", Kind::Keyed(1)),
    ("chat.send", Kind::Keyed(2)),
    ("sessions.send", Kind::Keyed(3)),
    ("sessions.steer", Kind::Keyed(4)),
    ("skills.proposals.requestRevision", Kind::Keyed(5)),
    ("node.event", Kind::Event),
    ("sessions.create", Kind::Session),
    ("system-event", Kind::Wake),
    ("cron.run", Kind::Unkeyed),
    ("wake", Kind::Unkeyed),
    ("progressCard.refresh", Kind::Unkeyed),
    ("session.suggestions.resolve", Kind::Unkeyed),
    ("sessions.goal.update", Kind::Unkeyed),
    ("sessions.providerReview.continue", Kind::Unkeyed),
    ("sessions.recover", Kind::Unkeyed),
    ("talk.client.toolCall", Kind::Unkeyed),
    ("taskSuggestions.accept", Kind::Unkeyed),
];

/// Bytes of the longest method, and more than the longest event has.
pub(super) const MAX_METHOD: usize = "skills.proposals.requestRevision".len();

/// How a method starts runs, if it does.
pub(super) fn kind(method: Str<'_>) -> Option<Kind> {
    METHODS.iter().find(|(name, _)| method.is(name)).map(|(_, kind)| *kind)
}

/// Whether a node's event starts a run.
pub(super) fn event_starts(event: Str<'_>) -> bool {
    event.is("agent.request") || event.is("voice.transcript")
}

/// Reads a whole message of the connection of this number. `None`: it starts nothing.
#[must_use]
pub fn read(message: &[u8], secret: &Secret, connection: u64) -> Option<Start> {
    let text = String::from_utf8_lossy(message);
    match Request::read(&text) {
        Ok(request) => request.starts().then(|| request.start(secret, connection)),
        Err(Malformed) => Some(Start { id: None, request: None, key: None, certain: false }),
    }
}

/// What matters of a request, the last of equal keys each.
#[derive(Default)]
struct Request<'a> {
    id: Option<Id<'a>>,
    kind: Option<Kind>,
    params: Params<'a>,
}

#[derive(Default)]
struct Params<'a> {
    key: Option<Str<'a>>,
    event_starts: bool,
    has_message: bool,
    wakes: bool,
}

/// A request's id.
#[derive(Clone, Copy)]
pub(super) struct Id<'a> {
    /// As it stands in the text, quotes included.
    pub(super) token: &'a str,
    pub(super) string: Str<'a>,
}

impl<'a> Request<'a> {
    fn read(text: &'a str) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut reader = Reader::new(text.as_bytes())?;
        reader.members(|reader, key| {
            match key.short(&mut [0; "method".len()]) {
                b"id" => {
                    reader.peek();
                    let at = reader.position();
                    let string = reader.value()?.string();
                    found.id = string.map(|string| Id { token: &text[at..reader.position()], string });
                }
                b"method" => found.kind = reader.value()?.string().and_then(kind),
                b"params" => found.params = Params::read(reader)?,
                _ => drop(reader.value()?),
            }
            Ok(())
        })?;
        reader.end()?;
        Ok(found)
    }

    fn starts(&self) -> bool {
        match self.kind {
            None => false,
            Some(Kind::Keyed(_) | Kind::Unkeyed) => true,
            Some(Kind::Session) => self.params.has_message,
            Some(Kind::Wake) => self.params.wakes,
            Some(Kind::Event) => self.params.event_starts,
        }
    }

    fn start(&self, secret: &Secret, connection: u64) -> Start {
        let key = match self.kind {
            Some(Kind::Keyed(method)) => self.params.key.map(|key| Key::new(key, method, secret)),
            _ => None,
        };
        Start::new(self.id, key, secret, connection)
    }
}

impl<'a> Params<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let mut found = Self::default();
        reader.members(|reader, key| {
            let is_true = reader.peek() == Some(b't');
            let value = reader.value()?.string();
            match key.short(&mut [0; "idempotencyKey".len()]) {
                b"idempotencyKey" => found.key = value,
                b"event" => found.event_starts = value.is_some_and(event_starts),
                b"attachments" | b"message" | b"task" => found.has_message = true,
                b"wake" => found.wakes = is_true,
                _ => {}
            }
            Ok(())
        })?;
        Ok(found)
    }
}

impl Start {
    pub(super) fn new(id: Option<Id<'_>>, key: Option<Key>, secret: &Secret, connection: u64) -> Self {
        Self {
            id: id.filter(|id| id.token.len() <= MAX_ID).map(|id| id.token.into()),
            request: id.map(|id| secret.request(connection, id.string)),
            key,
            certain: true,
        }
    }
}

impl Key {
    pub(super) fn new(key: Str<'_>, method: u64, secret: &Secret) -> Self {
        let run = secret.run(key);
        Self { run, mark: run.short().wrapping_add(method), length: key.length() }
    }
}
