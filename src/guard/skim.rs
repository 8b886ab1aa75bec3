//! What a message too large to be held says, read as it streams.
//!
//! The law of this file: of text that is JSON, the structure is followed exactly; of other text anything may be said, for
//! the gateway makes nothing of it. If the beginning decides, the rest is watched: a key that comes again would change
//! what the gateway understands. If it does not, the message is read up to the brace that ends it.

use std::mem::replace;

use memchr::memchr2;

use super::start::{Id, Key, Kind, MAX_ID, MAX_METHOD, Start, event_starts, kind};
use crate::json::{Reader, Str};
use crate::stamp::Secret;

/// A byte of a decoded string takes so many in the text at most, as an escape.
const ESCAPE: usize = "\\u0000".len();
/// Bytes of the longest key that means something.
const LONGEST_KEY: usize = "idempotencyKey".len();

/// What is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nothing: the message is only read.
    Nothing,
    /// Another `method`.
    Method,
    /// Another `method` or `params`, another key or event in these, a key that is too long.
    Everything,
    /// The byte that ends the message's object.
    End,
}

/// What the beginning of a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gist {
    /// It starts nothing.
    Other(Watch),
    /// It starts a run, and all that is needed to admit it is known.
    Start(Start),
    /// Something that decides may still follow.
    Unknown,
}

/// Which string it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A key of the message.
    Outer,
    /// A key of its `params`.
    Inner,
    Id,
    Method,
    Event,
    IdempotencyKey,
    Wake,
    Other,
}

/// A text that is read in pieces.
pub(super) struct Skim {
    /// Bytes of the longest run id.
    max_run_id: usize,
    /// Arrays and objects that are open.
    depth: u64,
    /// The message is an object.
    is_object: bool,
    /// At depth 2: in the object `params`.
    in_params: bool,
    /// At depth 1, or in `params`: the next string is a key.
    key_next: bool,
    /// What a string at depth 1 is, and what is one in `params`; `Inner` stands for `params` itself.
    outer: Role,
    inner: Role,
    /// In a string, and of it a byte behind a backslash is due.
    string: Option<Role>,
    escape_due: bool,
    token: Token,
    seen: Seen,
    id: Option<Box<[u8]>>,
    method: Option<Box<[u8]>>,
    event: Option<Box<[u8]>>,
    key: Option<RunId>,
    has_message: bool,
    wakes: bool,
}

/// The beginning of a string, as it stands in the text.
#[derive(Default)]
struct Token {
    bytes: Vec<u8>,
    escaped: bool,
    /// Longer than what is of use.
    overlong: bool,
}

#[derive(Default)]
struct Seen {
    method: bool,
    params: bool,
    event: bool,
    key: bool,
}

enum RunId {
    Raw(Box<[u8]>),
    TooLong,
}

impl Skim {
    pub(super) fn new(max_run_id: usize) -> Self {
        Self {
            max_run_id,
            depth: 0,
            is_object: false,
            in_params: false,
            key_next: false,
            outer: Role::Other,
            inner: Role::Other,
            string: None,
            escape_due: false,
            token: Token::default(),
            seen: Seen::default(),
            id: None,
            method: None,
            event: None,
            key: None,
            has_message: false,
            wakes: false,
        }
    }

    /// Reads on. An error: behind so many bytes stands what was watched for.
    pub(super) fn read(&mut self, bytes: &[u8], watch: Watch) -> Result<(), usize> {
        let mut at = 0;
        while at < bytes.len() {
            let Some(role) = self.string else {
                if watch == Watch::End && self.depth == 1 && matches!(bytes[at], b'}' | b']') {
                    return Err(at);
                }
                self.structure(bytes[at]);
                at += 1;
                continue;
            };
            if self.escape_due {
                self.escape_due = false;
                self.token.push(bytes[at], self.most(role));
                at += 1;
                continue;
            }
            let end = memchr2(b'"', b'\\', &bytes[at..]).map_or(bytes.len(), |n| at + n);
            if role != Role::Other {
                for (i, byte) in bytes[at..end].iter().enumerate() {
                    self.token.push(*byte, self.most(role));
                    if self.is_too_long(role, watch) {
                        return Err(at + i);
                    }
                }
            }
            match bytes.get(end) {
                Some(b'"') if !self.finish(role, watch) => return Err(end),
                Some(b'\\') => {
                    self.token.escaped = true;
                    self.token.push(b'\\', self.most(role));
                    self.escape_due = true;
                }
                _ => {}
            }
            at = end + 1;
        }
        Ok(())
    }

    /// Bytes of a string that are of use.
    fn most(&self, role: Role) -> usize {
        match role {
            Role::Outer | Role::Inner => LONGEST_KEY * ESCAPE,
            Role::Id => MAX_ID,
            Role::Method | Role::Event => MAX_METHOD * ESCAPE,
            Role::IdempotencyKey => self.max_run_id.saturating_mul(ESCAPE),
            Role::Wake | Role::Other => 0,
        }
    }

    fn is_too_long(&self, role: Role, watch: Watch) -> bool {
        role == Role::IdempotencyKey && watch == Watch::Everything && self.token.overlong
    }

    /// A byte outside of strings.
    fn structure(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.token = Token::default();
                self.string = Some(match self.depth {
                    1 if self.key_next => Role::Outer,
                    1 if self.outer != Role::Inner => self.outer,
                    2 if self.in_params && self.key_next => Role::Inner,
                    2 if self.in_params => self.inner,
                    _ => Role::Other,
                });
            }
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth == 1 {
                    self.is_object = byte == b'{';
                    self.key_next = self.is_object;
                } else if self.depth == 2 {
                    self.in_params = byte == b'{' && self.is_object && self.outer == Role::Inner;
                    self.key_next = self.in_params;
                }
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 1 {
                    self.in_params = false;
                    self.key_next = false;
                }
            }
            b',' if self.depth == 1 => self.key_next = self.is_object,
            b',' if self.depth == 2 => self.key_next = self.in_params,
            b':' if self.depth <= 2 => self.key_next = false,
            // Of all values, only `true` begins so.
            b't' if self.depth == 2 && self.in_params && !self.key_next && self.inner == Role::Wake => {
                self.wakes = true;
            }
            _ => {}
        }
    }

    /// A string has ended. Whether nothing speaks against it.
    fn finish(&mut self, role: Role, watch: Watch) -> bool {
        self.string = None;
        let token = std::mem::take(&mut self.token);
        match role {
            Role::Outer => return self.outer_key(&token.decoded().unwrap_or_default(), watch),
            Role::Inner => return self.inner_key(&token.decoded().unwrap_or_default(), watch),
            Role::Id => self.id = (!token.overlong).then(|| token.bytes.into_boxed_slice()),
            Role::Method => self.method = token.decoded(),
            Role::Event => self.event = token.decoded(),
            Role::IdempotencyKey => {
                let raw = token.bytes.into_boxed_slice();
                self.key = Some(if token.overlong { RunId::TooLong } else { RunId::Raw(raw) });
                return watch != Watch::Everything || !self.key_is_too_long();
            }
            Role::Wake => {}
            Role::Other => {}
        }
        true
    }

    /// A key of the message has ended: what was said under it before counts no more.
    fn outer_key(&mut self, name: &[u8], watch: Watch) -> bool {
        self.outer = match name {
            b"id" => Role::Id,
            b"method" => Role::Method,
            b"params" => Role::Inner,
            _ => Role::Other,
        };
        match self.outer {
            Role::Id => self.id = None,
            Role::Method => {
                self.method = None;
                return !replace(&mut self.seen.method, true)
                    || !matches!(watch, Watch::Method | Watch::Everything);
            }
            Role::Inner => {
                (self.event, self.key) = (None, None);
                (self.has_message, self.wakes) = (false, false);
                return !replace(&mut self.seen.params, true) || watch != Watch::Everything;
            }
            _ => {}
        }
        true
    }

    /// As `outer_key`, of `params`.
    fn inner_key(&mut self, name: &[u8], watch: Watch) -> bool {
        let seen = match name {
            b"event" => {
                self.inner = Role::Event;
                self.event = None;
                &mut self.seen.event
            }
            b"idempotencyKey" => {
                self.inner = Role::IdempotencyKey;
                self.key = None;
                &mut self.seen.key
            }
            b"wake" => {
                self.inner = Role::Wake;
                self.wakes = false;
                return true;
            }
            _ => {
                self.inner = Role::Other;
                self.has_message |= matches!(name, b"attachments" | b"message" | b"task");
                return true;
            }
        };
        !replace(seen, true) || watch != Watch::Everything
    }

    fn key_is_too_long(&self) -> bool {
        match &self.key {
            None => false,
            Some(RunId::TooLong) => true,
            Some(RunId::Raw(raw)) => {
                decoded(raw, |id| id.string.length()).is_none_or(|n| n > self.max_run_id)
            }
        }
    }

    /// What has been read says.
    pub(super) fn gist(&self, secret: &Secret, connection: u64) -> Gist {
        let Some(method) = self.method.as_deref() else { return Gist::Unknown };
        let Some(kind) = kind(Str::unescaped(method)) else { return Gist::Other(Watch::Method) };
        let is_known = match kind {
            Kind::Event if self.event.is_some() && !self.starts(kind) => {
                return Gist::Other(Watch::Everything);
            }
            Kind::Keyed(_) => self.key.is_some(),
            _ => self.starts(kind),
        };
        if is_known && self.id.is_some() {
            Gist::Start(self.start(kind, secret, connection))
        } else {
            Gist::Unknown
        }
    }

    /// The start that the whole message is, if it is one. Only its last brace may be missing.
    pub(super) fn whole(&self, secret: &Secret, connection: u64) -> Option<Start> {
        let kind = kind(Str::unescaped(self.method.as_deref()?))?;
        self.starts(kind).then(|| self.start(kind, secret, connection))
    }

    fn starts(&self, kind: Kind) -> bool {
        match kind {
            Kind::Keyed(_) | Kind::Unkeyed => true,
            Kind::Session => self.has_message,
            Kind::Wake => self.wakes,
            Kind::Event => self.event.as_deref().is_some_and(|event| event_starts(Str::unescaped(event))),
        }
    }

    fn start(&self, kind: Kind, secret: &Secret, connection: u64) -> Start {
        let key = match kind {
            Kind::Keyed(method) => self.run_key(method, secret),
            _ => None,
        };
        let raw = self.id.as_deref();
        raw.and_then(|raw| decoded(raw, |id| Start::new(Some(id), key, secret, connection)))
            .unwrap_or_else(|| Start::new(None, key, secret, connection))
    }

    fn run_key(&self, method: u64, secret: &Secret) -> Option<Key> {
        match self.key.as_ref()? {
            RunId::Raw(raw) => decoded(raw, |id| Key::new(id.string, method, secret)),
            RunId::TooLong => {
                let key = Key::new(Str::unescaped(b""), method, secret);
                Some(Key { length: usize::MAX, ..key })
            }
        }
    }
}

impl Token {
    fn push(&mut self, byte: u8, most: usize) {
        if self.bytes.len() < most {
            self.bytes.push(byte);
        } else {
            self.overlong = true;
        }
    }

    /// The string, as the gateway would decode it; `None` if it is longer than what is of use.
    fn decoded(self) -> Option<Box<[u8]>> {
        if self.overlong {
            return None;
        }
        if !self.escaped {
            return Some(self.bytes.into_boxed_slice());
        }
        let mut bytes = Vec::new();
        decoded(&self.bytes, |id| id.string.decode(|piece| bytes.extend_from_slice(piece)))?;
        Some(bytes.into_boxed_slice())
    }
}

/// A string by what stands between its quotes, as the gateway would decode it; `None` where it would not.
fn decoded<T>(raw: &[u8], with: impl FnOnce(Id<'_>) -> T) -> Option<T> {
    let token = format!("\"{}\"", String::from_utf8_lossy(raw));
    let string = Reader::new(token.as_bytes()).ok()?.value().ok()?.string()?;
    Some(with(Id { token: &token, string }))
}
