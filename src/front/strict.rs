//! Which requests may pass: those that every HTTP/1.1 parser reads alike (RFC 9112).
//!
//! The law of this file: it reads nothing into a head, it only refuses. What it lets through has one request
//! line, one framing and one host, so that the parsers behind it can't disagree about where it ends or what it
//! asks for.

use std::fmt;
use std::net::Ipv6Addr;
use std::ops::Range;

/// Bytes of a request head, at most: four times what the gateway itself takes by default.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// Header lines of a request, at most; half of what the gateway itself takes by default.
pub(crate) const MAX_LINES: usize = 1000;
/// Digits of a Content-Length or of a chunk's size, at most: far beyond any body, far below an overflow.
const MAX_DIGITS: usize = 15;

/// Bytes of chunk extensions and trailers of a body, at most: half of what hyper takes of each.
const MAX_EXTRA: usize = 8 * 1024;

/// How the body behind a head ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With a chunk of size zero and its trailers.
    Chunked,
    /// No body; what follows may be another protocol.
    Upgrade,
}

/// A whole request head that may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// How its body ends.
    pub(crate) framing: Framing,
    /// The version is HTTP/1.0.
    pub(crate) is_http_1_0: bool,
    /// The place of the request target in the head.
    pub(crate) target: Range<usize>,
    /// hyper accepts the target and writes it as it came.
    pub(crate) is_plain: bool,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400, with what is wrong.
    Bad(&'static str),
    /// 431.
    TooLarge,
    /// 431, for the number of lines.
    TooManyLines,
    /// 408.
    Timeout,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(what) => f.write_str(what),
            Self::TooLarge => {
                write!(
                    f,
                    "the request's head is larger than {MAX_HEAD} bytes, or its trailers than {MAX_EXTRA}"
                )
            }
            Self::TooManyLines => write!(f, "the request has more than {MAX_LINES} header lines"),
            Self::Timeout => f.write_str("the request's head did not arrive in time"),
        }
    }
}

impl std::error::Error for Refusal {}

type Result<T> = std::result::Result<T, Refusal>;

/// Where the head ends that starts with these bytes, of which `seen` were looked at before; `None` while it
/// goes on. Line ends are judged as they come, so that a bare LF is refused and not waited on.
pub(crate) fn head_end(bytes: &[u8], seen: usize) -> Result<Option<usize>> {
    for at in memchr::memchr_iter(b'\n', &bytes[seen..]).map(|at| at + seen) {
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(Refusal::Bad("a line ends with LF alone"));
        }
        if bytes[..=at].ends_with(b"\r\n\r\n") {
            return Ok(Some(at + 1));
        }
    }
    if bytes.len() >= MAX_HEAD { Err(Refusal::TooLarge) } else { Ok(None) }
}

/// Checks a whole head, its empty line included.
pub(crate) fn check(head: &[u8]) -> Result<Head> {
    if head.len() > MAX_HEAD {
        return Err(Refusal::TooLarge);
    }
    let mut lines = Lines(head);
    let request_line = lines.next().unwrap_or_default();
    let (target, version) = check_request_line(request_line)?;
    let mut found = Found::default();
    for (n, line) in lines.enumerate() {
        if line.is_empty() {
            break;
        }
        if n == MAX_LINES {
            return Err(Refusal::TooManyLines);
        }
        let (name, value) = check_line(line)?;
        found.note(name, value)?;
    }
    found.check_host(&target, version)?;
    let end = request_line.len() - SPACE_VERSION.len();
    Ok(Head {
        framing: found.framing(version)?,
        is_http_1_0: version == Version::Http10,
        target: end - target.bytes.len()..end,
        is_plain: target.is_plain(),
    })
}

/// The lines of a head, without their line ends.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', self.0)?;
        let line = &self.0[..end.saturating_sub(1)];
        self.0 = &self.0[end + 1..];
        Some(line)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// What follows the target in a request line of HTTP/1.1; of HTTP/1.0, as many bytes.
pub(crate) const SPACE_VERSION: &[u8] = b" HTTP/1.1";

/// A request target (RFC 9112, section 3.2).
struct Target<'a> {
    bytes: &'a [u8],
    /// Scheme and authority of an absolute URI.
    origin: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Target<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self> {
        if bytes.iter().any(|b| *b <= b' ' || *b == 0x7f || *b == b'#') {
            return Err(Refusal::Bad("the request target holds a control character or a fragment"));
        }
        if bytes.starts_with(b"/") || bytes == b"*" {
            return Ok(Self { bytes, origin: None });
        }
        let Some((scheme, rest)) = split_scheme(bytes) else {
            return Err(Refusal::Bad("the request target is neither a path nor an absolute URI"));
        };
        let authority = &rest[..authority_len(rest)];
        if split_port(authority).is_none_or(|(name, _)| name.is_empty()) {
            return Err(Refusal::Bad("the request target is not a valid URI"));
        }
        Ok(Self { bytes, origin: Some((scheme, authority)) })
    }

    /// hyper refuses some bytes in some places, and writes absolute URIs in its own form.
    fn is_plain(&self) -> bool {
        let is_plain = |b: &u8| b.is_ascii() && !b"\"<>`".contains(b);
        self.origin.is_none() && self.bytes.iter().all(is_plain)
    }
}

/// The path of a request target, without scheme, authority and query.
pub(crate) fn path(target: &[u8]) -> &[u8] {
    let rest = split_scheme(target).map_or(target, |(_, rest)| &rest[authority_len(rest)..]);
    let path = &rest[..memchr::memchr(b'?', rest).unwrap_or(rest.len())];
    if path.is_empty() { b"/" } else { path }
}

/// Scheme and rest of an absolute URI (RFC 3986, section 3.1).
fn split_scheme(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let (scheme, rest) = target.split_at(memchr::memchr(b':', target)?);
    let is_scheme = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
    let starts = scheme.first().is_some_and(u8::is_ascii_alphabetic);
    let rest = rest.strip_prefix(b"://").filter(|_| starts && scheme.iter().all(is_scheme))?;
    Some((scheme, rest))
}

/// The length of the authority with which these bytes start.
fn authority_len(bytes: &[u8]) -> usize {
    memchr::memchr2(b'/', b'?', bytes).unwrap_or(bytes.len())
}

fn check_request_line(line: &[u8]) -> Result<(Target<'_>, Version)> {
    let mut words = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::Bad("the request line is not METHOD TARGET VERSION"));
    };
    if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
        return Err(Refusal::Bad("the method is not a token"));
    }
    if method == b"CONNECT" {
        return Err(Refusal::Bad("seqgate is not a forward proxy: CONNECT has no meaning here"));
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err(Refusal::Bad("the version is neither HTTP/1.1 nor HTTP/1.0")),
    };
    Ok((Target::new(target)?, version))
}

fn check_line(line: &[u8]) -> Result<(&[u8], &[u8])> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(Refusal::Bad("a header line is folded"));
    }
    let colon = memchr::memchr(b':', line).ok_or(Refusal::Bad("a header line has no colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
        return Err(Refusal::Bad("a header name is not a token directly followed by its colon"));
    }
    if value.iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
        return Err(Refusal::Bad("a header value holds a control character"));
    }
    Ok((name, value.trim_ascii()))
}

/// RFC 9110, section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What the header lines say about framing and host.
#[derive(Default)]
struct Found<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    connection_upgrade: bool,
}

impl<'a> Found<'a> {
    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<()> {
        if name.eq_ignore_ascii_case(b"host") {
            if self.host.replace(value).is_some() {
                return Err(Refusal::Bad("more than one Host"));
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(number(value)?).is_some() {
                return Err(Refusal::Bad("more than one Content-Length"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::Bad("Transfer-Encoding is not chunked, once"));
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade |= !names_only_http_2(value);
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.connection_upgrade |= items(value).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
        }
        Ok(())
    }

    fn check_host(&self, target: &Target<'_>, version: Version) -> Result<()> {
        let Some(host) = self.host else {
            return if version == Version::Http11 { Err(Refusal::Bad("no Host")) } else { Ok(()) };
        };
        if split_port(host).is_none() {
            return Err(Refusal::Bad("Host is not a host"));
        }
        match target.origin {
            Some((scheme, authority)) if !is_same_host(scheme, authority, host) => {
                Err(Refusal::Bad("the request target names another host than Host"))
            }
            _ => Ok(()),
        }
    }

    fn framing(&self, version: Version) -> Result<Framing> {
        if self.chunked {
            if self.length.is_some() {
                return Err(Refusal::Bad("both Content-Length and Transfer-Encoding"));
            }
            if version == Version::Http10 {
                return Err(Refusal::Bad("Transfer-Encoding in HTTP/1.0"));
            }
        }
        let upgrades = self.upgrade && self.connection_upgrade;
        let has_body = self.chunked || self.length.is_some_and(|n| n > 0);
        match (upgrades, has_body) {
            (true, true) => Err(Refusal::Bad("an upgrade with a body")),
            (true, false) => Ok(Framing::Upgrade),
            (false, _) if self.chunked => Ok(Framing::Chunked),
            (false, _) => Ok(Framing::Length(self.length.unwrap_or(0))),
        }
    }
}

/// A name or an IPv4 address, or an IPv6 address in brackets; and the digits of a port, which may be missing (RFC 9110,
/// section 7.2).
fn split_port(host: &[u8]) -> Option<(&[u8], &[u8])> {
    let in_brackets = host.strip_prefix(b"[").and_then(|rest| {
        let end = memchr::memchr(b']', rest).filter(|end| *end > 0)?;
        let is_address = |b: &u8| b.is_ascii_alphanumeric() || b":.".contains(b);
        rest[..end].iter().all(is_address).then_some(&rest[end + 1..])
    });
    let port = in_brackets.or_else(|| {
        let end = memchr::memchr(b':', host).unwrap_or(host.len());
        let is_name = |b: &u8| b.is_ascii_graphic() && !b"/?#@\\,\"<>{}|^`[]".contains(b);
        host[..end].iter().all(is_name).then_some(&host[end..])
    });
    let port = port?;
    let name = &host[..host.len() - port.len()];
    match port.split_first() {
        Some((b':', digits)) => digits.iter().all(u8::is_ascii_digit).then_some((name, digits)),
        Some(_) => None,
        None => Some((name, port)),
    }
}

/// Whether an authority and a Host, written differently or not, are the same host and port (RFC 9110, section 4.2.3).
fn is_same_host(scheme: &[u8], authority: &[u8], host: &[u8]) -> bool {
    let (Some((name, port)), Some((other_name, other_port))) = (split_port(authority), split_port(host))
    else {
        return false;
    };
    let is_same_name = name.eq_ignore_ascii_case(other_name)
        || ipv6(name).is_some_and(|address| Some(address) == ipv6(other_name));
    is_same_name && port_number(scheme, port) == port_number(scheme, other_port)
}

fn ipv6(name: &[u8]) -> Option<Ipv6Addr> {
    let address = name.strip_prefix(b"[")?.strip_suffix(b"]")?;
    std::str::from_utf8(address).ok()?.parse().ok()
}

/// The digits of a port without leading zeros, or of the scheme's default port; `None` where there is neither.
fn port_number<'a>(scheme: &[u8], port: &'a [u8]) -> Option<&'a [u8]> {
    if !port.is_empty() {
        let zeros = port.iter().take_while(|digit| **digit == b'0').count();
        return Some(&port[zeros..]);
    }
    let is = |name: &str| scheme.eq_ignore_ascii_case(name.as_bytes());
    if is("http") || is("ws") {
        Some(b"80")
    } else if is("https") || is("wss") {
        Some(b"443")
    } else {
        None
    }
}

/// The items of a list in a header's value (RFC 9110, section 5.6.1), for lists without quotes.
pub(super) fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

/// Whether a line of `Upgrade` names HTTP/2 and nothing else. HTTP/2 never passes, because it would carry requests past
/// every rule of this front; a request that asks for nothing else is served as if it had not asked (RFC 9110, section
/// 7.8).
pub(super) fn names_only_http_2(upgrade: &[u8]) -> bool {
    let mut protocols = items(upgrade).filter(|protocol| !protocol.is_empty()).peekable();
    protocols.peek().is_some() && protocols.all(is_http_2)
}

/// Whether an item of `Upgrade` is HTTP/2.
pub(super) fn is_http_2(protocol: &[u8]) -> bool {
    let name = protocol.split(|b| *b == b'/').next().unwrap_or_default().trim_ascii();
    name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"h2")
}

/// The value of a Content-Length.
pub(super) fn number(digits: &[u8]) -> Result<u64> {
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Bad("Content-Length is not a number"));
    }
    Ok(digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Follows a chunked body (RFC 9112, section 7.1), a byte at a time where it is not chunk data.
#[derive(Debug)]
pub(crate) struct Chunks {
    place: Place,
    /// Bytes of extensions and trailers so far.
    extra: usize,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the line of a chunk's size: its value and digits so far.
    Size { value: u64, digits: usize },
    /// Behind the digits, in the chunk's extension.
    Extension { value: u64 },
    /// So many bytes of data are to come.
    Data(u64),
    /// In the trailers; at the start of a line or within it.
    Trailer { line_start: bool },
    /// CR was seen: LF must follow, then this.
    LineEnd(After),
}

/// What follows a line end in a chunked body.
#[derive(Clone, Copy, Debug)]
enum After {
    Data(u64),
    Size,
    Trailer,
    Done,
}

impl Chunks {
    pub(crate) fn new() -> Self {
        Self { place: Place::Size { value: 0, digits: 0 }, extra: 0 }
    }

    /// Takes bytes of the body; says how many belong to it, and whether it has ended with them.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<(usize, bool)> {
        let mut at = 0;
        while at < bytes.len() {
            match self.place {
                Place::Data(left) if left > 0 => {
                    let rest = bytes.len() - at;
                    let n = usize::try_from(left).map_or(rest, |left| left.min(rest));
                    self.place = Place::Data(left - n as u64);
                    at += n;
                }
                _ => {
                    at += 1;
                    match self.next(bytes[at - 1])? {
                        Some(place) => self.place = place,
                        None => return Ok((at, true)),
                    }
                }
            }
        }
        Ok((at, false))
    }

    /// One byte that is not chunk data; `None` at the end of the body.
    fn next(&mut self, byte: u8) -> Result<Option<Place>> {
        let is_text = byte >= b' ' || byte == b'\t';
        Ok(Some(match (self.place, byte) {
            (Place::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < MAX_DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Place::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Place::Size { digits: 0, .. }, _) => return Err(Refusal::Bad("a chunk has no size")),
            (Place::Size { value, .. } | Place::Extension { value }, b'\r') => {
                Place::LineEnd(if value == 0 { After::Trailer } else { After::Data(value) })
            }
            (Place::Size { value, .. }, b';') => Place::Extension { value },
            (Place::Extension { value }, _) if is_text => {
                self.count_extra()?;
                Place::Extension { value }
            }
            (Place::Size { .. } | Place::Extension { .. }, _) => {
                return Err(Refusal::Bad("the line of a chunk's size is malformed"));
            }
            (Place::Trailer { line_start }, b'\r') => {
                Place::LineEnd(if line_start { After::Done } else { After::Trailer })
            }
            (Place::Trailer { line_start: true }, b' ' | b'\t') => {
                return Err(Refusal::Bad("a trailer line is folded"));
            }
            (Place::Trailer { .. }, _) if is_text => {
                self.count_extra()?;
                Place::Trailer { line_start: false }
            }
            (Place::Trailer { .. }, _) => return Err(Refusal::Bad("a trailer holds a control character")),
            (Place::LineEnd(after), b'\n') => match after {
                After::Data(n) => Place::Data(n),
                After::Size => Place::Size { value: 0, digits: 0 },
                After::Trailer => Place::Trailer { line_start: true },
                After::Done => return Ok(None),
            },
            (Place::LineEnd(_), _) => {
                return Err(Refusal::Bad("a line of a chunked body ends with CR alone"));
            }
            (Place::Data(_), b'\r') => Place::LineEnd(After::Size),
            (Place::Data(_), _) => return Err(Refusal::Bad("a chunk is longer than its size")),
        }))
    }

    fn count_extra(&mut self) -> Result<()> {
        self.extra += 1;
        if self.extra > MAX_EXTRA { Err(Refusal::TooLarge) } else { Ok(()) }
    }
}
