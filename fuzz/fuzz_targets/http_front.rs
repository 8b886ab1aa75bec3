//! What the front lets through, another parser reads alike: the same lines, one host, one framing. A head or a chunked
//! body is judged the same however it is cut. And whatever its headers say, a remote client arrives at the gateway
//! under its own address and no other, with nothing removed that the gateway decides by.
#![no_main]
#![allow(dead_code, reason = "the rest of these files")]

use std::net::IpAddr;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use strict::{Chunks, Framing, MAX_LINES};

#[path = "../../src/front/headers.rs"]
mod headers;
#[path = "../../src/front/identity.rs"]
mod identity;
#[path = "../../src/front/strict.rs"]
mod strict;

fuzz_target!(|bytes: &[u8]| {
    let whole = strict::head_end(bytes, 0);
    assert_eq!(in_pieces(bytes), whole, "cut byte by byte");
    if let Ok(Some(end)) = whole
        && let Ok(found) = strict::check(&bytes[..end])
    {
        read_alike(&as_hyper_gets_it(&bytes[..end], &found), found.framing);
        follow_alike(&bytes[end..]);
    }
    follow_alike(bytes);
});

fn in_pieces(bytes: &[u8]) -> Result<Option<usize>, strict::Refusal> {
    for end in 1..=bytes.len() {
        let found = strict::head_end(&bytes[..end], end - 1)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// A head with a target that hyper accepts and writes as it came: its own, or a path of the same length.
fn as_hyper_gets_it(head: &[u8], found: &strict::Head) -> Vec<u8> {
    let mut head = head.to_vec();
    let target = &mut head[found.target.clone()];
    assert!(!strict::path(target).is_empty());
    if !found.is_plain {
        target.fill(b'/');
    }
    let uri = hyper::Uri::try_from(&*target).expect("a target that hyper accepts");
    assert_eq!(uri.to_string().as_bytes(), target);
    head
}

/// httparse reads the same lines, and they say what the front has read.
fn read_alike(head: &[u8], framing: Framing) {
    let mut lines = vec![httparse::EMPTY_HEADER; MAX_LINES];
    let mut request = httparse::Request::new(&mut lines);
    let parsed = request.parse(head).expect("a head that may pass is one");
    assert_eq!(parsed, httparse::Status::Complete(head.len()));
    let count = head.split(|byte| *byte == b'\n').count() - 3;
    assert_eq!(request.headers.len(), count, "a line of a header each");
    let all = |name: &str| {
        let named = request.headers.iter().filter(|line| line.name.eq_ignore_ascii_case(name));
        named.map(|line| line.value).collect::<Vec<_>>()
    };
    let (hosts, lengths, codings) = (all("host"), all("content-length"), all("transfer-encoding"));
    assert!(hosts.len() == 1 || hosts.is_empty() && request.version == Some(0));
    assert!(lengths.len() + codings.len() <= 1, "one framing");
    match framing {
        Framing::Chunked => assert!(codings[0].eq_ignore_ascii_case(b"chunked")),
        Framing::Length(0) if lengths.is_empty() => assert!(codings.is_empty()),
        Framing::Length(n) => assert_eq!(std::str::from_utf8(lengths[0]).unwrap().parse(), Ok(n)),
        Framing::Upgrade => assert!(codings.is_empty() && !all("upgrade").is_empty()),
    }
    let mut map = HeaderMap::new();
    for line in request.headers {
        map.append(
            HeaderName::from_bytes(line.name.as_bytes()).expect("a token"),
            HeaderValue::from_bytes(line.value).expect("no control character"),
        );
    }
    arrives_as_itself(&map, framing);
}

/// No header makes a remote client look like another one, or strips it of what counts.
fn arrives_as_itself(sent: &HeaderMap, framing: Framing) {
    let peer: IpAddr = [192, 0, 2, 7].into();
    let hop = if framing == Framing::Upgrade { headers::Hop::Upgrade } else { headers::Hop::Request };
    let mut map = sent.clone();
    let identity = identity::IdentityHeaders::new([]);
    let rules = headers::Rules { trusted: &[], identity: &identity, scheme: "http" };
    headers::end_hop(&mut map, hop, rules.identity);
    headers::attribute(&mut map, peer, rules);
    headers::remove_deflate(&mut map);
    let says_who = |name: &HeaderName| {
        let name = name.as_str().replace('_', "-");
        ["forwarded", "x-real-ip", "remote-user"].contains(&name.as_str())
            || ["x-forwarded-", "tailscale-", "x-auth-request-", "x-authentik-"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
    };
    let mut names: Vec<_> = map.iter().filter(|(name, _)| says_who(name)).collect();
    names.sort_by_key(|(name, _)| name.as_str());
    assert_eq!((names[0].0.as_str(), names[0].1.as_bytes()), ("x-forwarded-for", &b"192.0.2.7"[..]));
    assert!(
        names[1..].iter().all(|(name, _)| ["x-forwarded-host", "x-forwarded-proto"].contains(&name.as_str()))
    );
    assert!(names.len() == 2 + usize::from(sent.contains_key("host")));
    let kept = ["host", "origin", "authorization", "cookie", "content-type", "expect"];
    let framing = ["content-length", "transfer-encoding"];
    for name in kept.into_iter().chain(framing) {
        assert!(sent.get_all(name).iter().eq(map.get_all(name)), "{name}");
    }
    assert!(hop == headers::Hop::Upgrade || !map.contains_key("upgrade") && !map.contains_key("connection"));
    assert!(!map.contains_key("keep-alive"));
}

/// A chunked body ends in one place, or is refused in one place, however it is cut.
fn follow_alike(bytes: &[u8]) {
    let mut chunks = Chunks::new();
    let whole = chunks.follow(bytes);
    for size in [1, 2, 5] {
        let mut chunks = Chunks::new();
        let mut taken = 0;
        let mut end = Ok((bytes.len(), false));
        for piece in bytes.chunks(size) {
            match chunks.follow(piece) {
                Ok((n, done)) => {
                    taken += n;
                    if done {
                        end = Ok((taken, true));
                        break;
                    }
                }
                Err(refusal) => {
                    end = Err(refusal);
                    break;
                }
            }
        }
        assert_eq!(end, whole);
    }
    if let Ok((end, true)) = whole {
        assert!(naive_chunks(&bytes[..end]).is_some(), "{:?}", String::from_utf8_lossy(&bytes[..end]));
    }
}

/// The data of a chunked body, by RFC 9112, section 7.1, line by line; `None` if it is none.
fn naive_chunks(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let first = line(&mut body)?;
        let digits = first.split(|byte| *byte == b';').next()?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        data.extend(body.get(..size)?);
        body = body[size..].strip_prefix(b"\r\n")?;
    }
    while !line(&mut body)?.is_empty() {}
    body.is_empty().then_some(data)
}

/// The next line of a body, without its end.
fn line<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = body.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = (&body[..end], &body[end + 2..]);
    *body = rest;
    (!line.iter().any(|byte| *byte < b' ' && *byte != b'\t')).then_some(line)
}
