//! Which answers of the gateway may pass: those that every HTTP/1.1 parser reads alike (RFC 9112, section 6).
//!
//! What hyper reads it writes anew, so line ends and spaces can't be read twice in different ways. What is left
//! to refuse is where an answer ends: the client behind must not choose between two lengths.

use hyper::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use hyper::{Response, StatusCode};

use super::answer::Own;
use super::strict::number;

/// Whether the client has asked to leave HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Answer,
    Upgrade,
}

/// Lets an answer through, or says what is wrong with it.
pub(super) fn lawful<B>(response: Response<B>, asked: Asked) -> Result<Response<B>, Own> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && asked == Asked::Answer {
        return Err(Own::bad_gateway("the gateway switched protocols without being asked"));
    }
    match ambiguity(response.headers()) {
        Some(what) => Err(Own::bad_gateway(what)),
        None => Ok(response),
    }
}

fn ambiguity(headers: &HeaderMap) -> Option<&'static str> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() {
        return Some("the gateway's answer has more than one Content-Length");
    }
    if length.is_some_and(|value| number(value.as_bytes()).is_err()) {
        return Some("the gateway's Content-Length is not a number");
    }
    let coding = coding?;
    if length.is_some() {
        return Some("the gateway's answer has both Content-Length and Transfer-Encoding");
    }
    let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    (!is_chunked).then_some("the gateway's Transfer-Encoding is not chunked, once")
}
