//! JSON text (RFC 8259), read where it lies, as strictly as `JSON.parse` reads it in the clients.
//!
//! The law of [`Reader`]: what is read without an error is a document that every client reads alike, except
//! that strict decoders refuse escaped lone surrogates. Nothing is copied, nothing recurses.

pub mod words;

use self::words::special;

/// The text is not JSON, or not all of it was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// The largest integer that every client holds exactly: 2^53 - 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Bytes of decoded escapes, and of plain text between them, that are handed out at once.
const GATHERED: usize = 256;

/// A string as it stands between its quotes.
#[derive(Clone, Copy, Debug)]
pub struct Str<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Str<'a> {
    /// A string whose raw form holds no backslash.
    #[must_use]
    pub fn unescaped(raw: &'a [u8]) -> Self {
        Self { raw, escaped: false }
    }

    /// Hands out the decoded string, piece by piece. Lone surrogates, which JSON may hold and UTF-8 may not,
    /// come as the three bytes that UTF-8 would use for them if it did, so that different strings never meet.
    pub fn decode(&self, mut piece: impl FnMut(&[u8])) {
        if !self.escaped {
            return piece(self.raw);
        }
        // Decoded escapes are gathered: a call for each costs far more than its bytes.
        let mut gathered = [0; GATHERED];
        let mut len = 0;
        let mut rest = self.raw;
        while let Some(slash) = memchr::memchr(b'\\', rest) {
            let plain = &rest[..slash];
            rest = &rest[slash + 1..];
            let (&kind, behind) = rest.split_first().unwrap_or((&b'\\', &[]));
            rest = behind;
            let point = match kind {
                b'u' => {
                    let mut unit = hex4(rest).unwrap_or_default();
                    rest = &rest[4.min(rest.len())..];
                    if (0xd800..0xdc00).contains(&unit)
                        && let Some(low @ 0xdc00..0xe000) = rest.strip_prefix(b"\\u").and_then(hex4)
                    {
                        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        rest = &rest[6..];
                    }
                    unit
                }
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => 0x0a,
                b'r' => 0x0d,
                b't' => 0x09,
                same => u32::from(same),
            };
            let (bytes, n) = generalized_utf8(point);
            if len + plain.len() + n > GATHERED {
                piece(&gathered[..len]);
                len = 0;
            }
            if plain.len() + n > GATHERED {
                piece(plain);
            } else {
                gathered[len..len + plain.len()].copy_from_slice(plain);
                len += plain.len();
            }
            gathered[len..len + n].copy_from_slice(&bytes[..n]);
            len += n;
        }
        piece(&gathered[..len]);
        piece(rest);
    }

    /// Bytes of the decoded string.
    #[must_use]
    pub fn length(&self) -> usize {
        let mut length = 0;
        self.decode(|piece| length += piece.len());
        length
    }

    /// The decoded string, if it has no more bytes than the buffer; else as it stands in the text, which then
    /// holds a backslash.
    #[inline]
    pub fn short<'b, const N: usize>(&'b self, buffer: &'b mut [u8; N]) -> &'b [u8] {
        if !self.escaped {
            return self.raw;
        }
        let mut len = 0;
        self.decode(|piece| {
            if let Some(room) = buffer.get_mut(len..len + piece.len()) {
                room.copy_from_slice(piece);
            }
            len += piece.len();
        });
        buffer.get(..len).unwrap_or(self.raw)
    }

    /// Whether the decoded string is this one.
    #[must_use]
    #[inline]
    pub fn is(&self, other: &str) -> bool {
        if !self.escaped {
            return self.raw == other.as_bytes();
        }
        let mut rest = Some(other.as_bytes());
        self.decode(|piece| rest = rest.and_then(|r| r.strip_prefix(piece)));
        rest.is_some_and(<[u8]>::is_empty)
    }
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits
        .first_chunk::<4>()?
        .iter()
        .try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

/// UTF-8 for any code point, surrogates included.
fn generalized_utf8(point: u32) -> ([u8; 4], usize) {
    let tail = |shift: u32| 0x80 | (point >> shift & 0x3f) as u8;
    match point {
        0..0x80 => ([point as u8, 0, 0, 0], 1),
        0x80..0x800 => ([0xc0 | (point >> 6) as u8, tail(0), 0, 0], 2),
        0x800..0x10000 => ([0xe0 | (point >> 12) as u8, tail(6), tail(0), 0], 3),
        _ => ([0xf0 | (point >> 18) as u8, tail(12), tail(6), tail(0)], 4),
    }
}

/// A value that was walked over.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A string.
    Str(Str<'a>),
    /// A number written as plain digits, `0 ..= MAX_INTEGER`.
    Integer(u64),
    /// Anything else: other numbers, `true`, `false`, `null`, arrays, objects.
    Other,
}

impl<'a> Value<'a> {
    /// The string, if it is one.
    #[must_use]
    pub fn string(self) -> Option<Str<'a>> {
        match self {
            Self::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn integer(self) -> Option<u64> {
        match self {
            Self::Integer(n) => Some(n),
            _ => None,
        }
    }

    /// The integer that plain digits are, without leading zeros.
    fn of_digits(digits: &[u8]) -> Self {
        // More digits than the largest integer has could overflow.
        if digits.len() > 16 {
            return Self::Other;
        }
        let number = digits.iter().fold(0, |sum, d| sum * 10 + u64::from(d - b'0'));
        if number > MAX_INTEGER { Self::Other } else { Self::Integer(number) }
    }
}

/// A place in a JSON text, moving forwards.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of a text. Fails where the text is not UTF-8: no client takes that for JSON.
    pub fn new(text: &'a [u8]) -> Result<Self> {
        std::str::from_utf8(text).map_err(|_| Malformed)?;
        Ok(Self { text, at: 0 })
    }

    /// Bytes read so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next byte that is not whitespace, not yet taken.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Result<()> {
        if self.peek() != Some(byte) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Only whitespace is left.
    pub fn end(&mut self) -> Result<()> {
        if self.peek().is_some() { Err(Malformed) } else { Ok(()) }
    }

    /// Walks over an object and calls `member` with each key; it must walk over the value.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, Str<'a>) -> Result<()>) -> Result<()> {
        self.take(b'{')?;
        if self.peek() == Some(b'}') {
            return self.take(b'}');
        }
        loop {
            let key = self.key()?;
            member(self, key)?;
            if self.peek() != Some(b',') {
                return self.take(b'}');
            }
            self.at += 1;
        }
    }

    /// The same; any other value is walked over and has no members.
    pub fn members(&mut self, member: impl FnMut(&mut Self, Str<'a>) -> Result<()>) -> Result<()> {
        if self.peek() == Some(b'{') { self.object(member) } else { self.value().map(drop) }
    }

    fn key(&mut self) -> Result<Str<'a>> {
        self.peek();
        let key = self.string()?;
        self.take(b':')?;
        Ok(key)
    }

    /// Walks over any value, however deep.
    pub fn value(&mut self) -> Result<Value<'a>> {
        match self.peek().ok_or(Malformed)? {
            b'"' => self.string().map(Value::Str),
            b'{' | b'[' => self.nested(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number(),
        }
    }

    /// Walks over an array or object without recursion.
    fn nested(&mut self) -> Result<Value<'a>> {
        let mut open = Nest::default();
        loop {
            let opening = self.peek().ok_or(Malformed)?;
            if let b'{' | b'[' = opening {
                self.at += 1;
                let object = opening == b'{';
                if self.peek() == Some(opening + 2) {
                    self.at += 1;
                } else {
                    open.push(object);
                    if object {
                        self.key()?;
                    }
                    continue;
                }
            } else {
                self.value()?;
            }
            // A value has ended: what holds it ends too, or goes on.
            loop {
                let Some(object) = open.top() else {
                    return Ok(Value::Other);
                };
                let closing = if object { b'}' } else { b']' };
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(byte) if byte == closing => {
                        self.at += 1;
                        open.pop();
                    }
                    _ => return Err(Malformed),
                }
            }
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<Value<'a>> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(Value::Other)
    }

    fn digits(&mut self) -> Result<&'a [u8]> {
        let rest = &self.text[self.at..];
        let n = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += n;
        if n == 0 { Err(Malformed) } else { Ok(&rest[..n]) }
    }

    fn number(&mut self) -> Result<Value<'a>> {
        let negative = self.text[self.at] == b'-';
        self.at += usize::from(negative);
        let whole = self.digits()?;
        if whole.len() > 1 && whole[0] == b'0' {
            return Err(Malformed);
        }
        let mut plain = !negative;
        if self.text.get(self.at) == Some(&b'.') {
            plain = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            plain = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(if plain { Value::of_digits(whole) } else { Value::Other })
    }

    fn string(&mut self) -> Result<Str<'a>> {
        if self.text.get(self.at) != Some(&b'"') {
            return Err(Malformed);
        }
        let start = self.at + 1;
        let mut escaped = false;
        let mut at = start;
        loop {
            at = special(self.text, at);
            match self.text.get(at) {
                Some(b'"') => break,
                Some(b'\\') => escaped = true,
                _ => return Err(Malformed),
            }
            at += match self.text.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                Some(b'u') if hex4(&self.text[at + 2..]).is_some() => 6,
                _ => return Err(Malformed),
            };
        }
        self.at = at + 1;
        Ok(Str { raw: &self.text[start..at], escaped })
    }
}

/// The kinds of the open arrays and objects, a bit each: no memory up to a depth of 64, and never more than
/// an eighth of a byte for a byte of text.
#[derive(Default)]
struct Nest {
    top: u64,
    depth: usize,
    deeper: Vec<u64>,
}

impl Nest {
    fn push(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.deeper.push(self.top);
        }
        self.top = self.top << 1 | u64::from(object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.top >>= 1;
        if self.depth.is_multiple_of(64) {
            self.top = self.deeper.pop().unwrap_or_default();
        }
    }

    fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.top & 1 == 1)
    }
}
