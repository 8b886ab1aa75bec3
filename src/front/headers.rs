//! What becomes of a request's headers on the way to the gateway.
//!
//! The gateway decides from its socket and from forwarding headers whether a client is local, and trusts local
//! clients more. The law of this file: no remote client reaches the gateway without the one address that
//! seqgate vouches for, and no loopback client gets one.
//!
//! | peer | what the gateway gets |
//! |---|---|
//! | trusted proxy | one X-Forwarded-For: the rightmost address of the chain that is not a trusted proxy; X-Forwarded-Proto and -Host taken over; identity headers as they came |
//! | loopback | everything as it came |
//! | any other | one X-Forwarded-For: the peer; X-Forwarded-Proto and -Host set; no identity headers |
//!
//! For the first and last, all other forwarding headers are removed: Forwarded, X-Forwarded-* and X-Real-IP, in any
//! case and with `_` for `-`. A trusted proxy on loopback that names no chain is a loopback peer. `identity.rs` lists
//! the identity headers.

use std::net::IpAddr;

use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, SEC_WEBSOCKET_EXTENSIONS, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use ipnet::IpNet;

use super::identity::{IdentityHeaders, normalized};
use super::strict::{is_http_2, items};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A client without an address (RFC 7239, section 6.3).
const UNKNOWN: &str = "unknown";

/// Headers of the connection itself (RFC 9110, section 7.6.1), besides those that `Connection` names.
///
/// `Transfer-Encoding` stays: it can only be chunked, which it is again, and of a GET or HEAD without it hyper would send
/// no body.
const HOP_BY_HOP: [HeaderName; 4] =
    [CONNECTION, HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection"), UPGRADE];

/// Headers that `Connection` can't remove, besides forwarding and identity headers: each means something to the gateway
/// that its absence would change.
const END_TO_END: [HeaderName; 10] = [
    AUTHORIZATION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    HOST,
    ORIGIN,
    SEC_WEBSOCKET_EXTENSIONS,
    TRAILER,
    TRANSFER_ENCODING,
];

/// Headers that no operator can declare to be identity headers, in lower case: the gateway's own authentication, HTTP
/// or seqgate depends on them.
pub(super) const RESERVED: [&str; 31] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-real-ip",
    "authorization",
    "cookie",
    "host",
    "origin",
    "connection",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "content-type",
    "content-encoding",
    "expect",
    "accept",
    "range",
    "if-none-match",
    "user-agent",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "x-openclaw-token",
    "x-openclaw-password",
    "x-openclaw-session-key",
];

/// Which peers are believed, and which headers name a user.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// Proxies that are believed about their clients.
    pub(crate) trusted: &'a [IpNet],
    /// Headers that only these proxies may set.
    pub(crate) identity: &'a IdentityHeaders,
    /// How clients reach seqgate.
    pub(crate) scheme: &'static str,
}

/// Sets the forwarding headers for a request of this peer, and removes identity headers unless the peer is a trusted
/// proxy. Returns the client's address, as far as it can be known.
pub(crate) fn attribute(headers: &mut HeaderMap, peer: IpAddr, rules: Rules<'_>) -> IpAddr {
    let Rules { trusted, identity, scheme } = rules;
    let peer = peer.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let names_clients = !peer.is_loopback() || headers.contains_key(&FORWARDED_FOR);
    let from_proxy = is_trusted(&peer) && names_clients;
    if peer.is_loopback() && !from_proxy {
        return peer;
    }
    let (client, proto, host) = if from_proxy {
        let last = |name| headers.get_all(name).iter().next_back().cloned();
        (client_of(headers, peer, is_trusted), last(&FORWARDED_PROTO), last(&FORWARDED_HOST))
    } else {
        (peer, None, None)
    };
    retain(headers, |name| match kind(name, identity) {
        Kind::Forwarding => false,
        Kind::Identity => from_proxy,
        Kind::Other => true,
    });
    // A trusted proxy on loopback whose chain names nobody: never may its client look local.
    let named = if client.is_loopback() { UNKNOWN.to_owned() } else { client.to_string() };
    headers.insert(FORWARDED_FOR, HeaderValue::try_from(named).unwrap_or(HeaderValue::from_static(UNKNOWN)));
    headers.insert(FORWARDED_PROTO, proto.unwrap_or(HeaderValue::from_static(scheme)));
    if let Some(host) = host.or_else(|| headers.get(HOST).cloned()) {
        headers.insert(FORWARDED_HOST, host);
    }
    client
}

/// The client of a chain of proxies: its rightmost address that is not a trusted proxy, or its leftmost if all
/// are. An entry that is no address, or a loopback address (which would be somebody else's loopback, and look
/// like the gateway's own), can't be the client: then it is the proxy that named it.
fn client_of(headers: &HeaderMap, peer: IpAddr, is_trusted: impl Fn(&IpAddr) -> bool) -> IpAddr {
    let mut client = peer;
    for line in headers.get_all(&FORWARDED_FOR).iter().rev() {
        for entry in line.as_bytes().rsplit(|b| *b == b',') {
            let Some(address) = address(entry.trim_ascii()) else { return client };
            if address.is_loopback() || address.is_unspecified() {
                return client;
            }
            client = address;
            if !is_trusted(&address) {
                return client;
            }
        }
    }
    client
}

/// An address, with or without a port, as proxies write it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
/// `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => host,
            _ => text,
        },
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// What a header contains about a client behind the sender.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its address, or how it reached the sender.
    Forwarding,
    /// The user's name or rights.
    Identity,
    Other,
}

/// The kind of a header, for any reader that takes `_` for `-`.
fn kind(name: &HeaderName, identity: &IdentityHeaders) -> Kind {
    let name = normalized(name.as_str());
    if identity.contains(&name) {
        Kind::Identity
    } else if name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-") {
        Kind::Forwarding
    } else {
        Kind::Other
    }
}

/// Removes forwarding and identity headers from trailers, because some readers add trailers to the headers. No proxy
/// sets them there: they can only be its client's.
pub(crate) fn anonymize(trailers: &mut HeaderMap, identity: &IdentityHeaders) {
    retain(trailers, |name| kind(name, identity) == Kind::Other);
}

/// Changes or removes values, and leaves the headers in their order (which `HeaderMap::remove` does not).
fn rebuild(headers: &mut HeaderMap, change: impl Fn(&HeaderName, HeaderValue) -> Option<HeaderValue>) {
    let mut last = None;
    for (name, value) in std::mem::take(headers) {
        // Further values of a name come without it.
        last = name.or(last);
        if let Some(name) = &last
            && let Some(value) = change(name, value)
        {
            headers.append(name, value);
        }
    }
}

/// Removes headers, and leaves the others in their order.
fn retain(headers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    rebuild(headers, |name, value| Some(value).filter(|_| keep(name)));
}

/// What a request is, for the headers that belong to its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    /// One that is answered.
    Request,
    /// One for another protocol: what asks for it stays.
    Upgrade,
}

/// Removes what belongs to the client's connection and not to the request. `TE: trailers` stays, because
/// trailers pass.
pub(crate) fn end_hop(headers: &mut HeaderMap, hop: Hop, identity: &IdentityHeaders) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| items(line.as_bytes()))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| *name != TE && kind(name, identity) == Kind::Other && !END_TO_END.contains(name))
        .filter(|name| !name.as_str().starts_with("sec-websocket-"))
        .collect();
    let only_trailers = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"trailers");
    let te_passes = headers.get_all(TE).iter().all(only_trailers);
    if hop == Hop::Upgrade {
        let connection = upgrade_connection(headers);
        headers.insert(CONNECTION, connection);
        remove_http_2(headers);
    }
    retain(headers, |name| {
        if hop == Hop::Upgrade && (*name == CONNECTION || *name == UPGRADE) {
            return true;
        }
        !named.contains(name) && !HOP_BY_HOP.contains(name) && (*name != TE || te_passes)
    });
}

/// Removes HTTP/2 from the protocols that `Upgrade` offers; the others stay, in their order.
fn remove_http_2(headers: &mut HeaderMap) {
    let offers_http_2 = |line: &HeaderValue| items(line.as_bytes()).any(is_http_2);
    if !headers.get_all(UPGRADE).iter().any(offers_http_2) {
        return;
    }
    rebuild(headers, |name, value| {
        if *name != UPGRADE || !offers_http_2(&value) {
            return Some(value);
        }
        let is_kept = |protocol: &&[u8]| !protocol.is_empty() && !is_http_2(protocol);
        let kept: Vec<&[u8]> = items(value.as_bytes()).filter(is_kept).collect();
        HeaderValue::from_bytes(&kept.join(&b", "[..])).ok().filter(|value| !value.is_empty())
    });
}

/// Removes from an answer what belongs to the gateway's connection.
pub(crate) fn remove_connection(headers: &mut HeaderMap) {
    let ends_here =
        [CONNECTION, HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection")];
    if ends_here.iter().any(|name| headers.contains_key(name)) {
        retain(headers, |name| !ends_here.contains(name));
    }
}

/// The value of `Connection` that asks for an upgrade and nothing else. What the client wrote stays if it is
/// no more than that, or `keep-alive` beside it, which changes nothing.
fn upgrade_connection(headers: &HeaderMap) -> HeaderValue {
    let mut lines = headers.get_all(CONNECTION).iter();
    if let (Some(line), None) = (lines.next(), lines.next()) {
        let harmless = |token: &[u8]| {
            token.eq_ignore_ascii_case(b"upgrade") || token.eq_ignore_ascii_case(b"keep-alive")
        };
        if items(line.as_bytes()).all(harmless) {
            return line.clone();
        }
    }
    HeaderValue::from_static("Upgrade")
}

/// Takes permessage-deflate out of the offer (RFC 6455, section 9.1): no gateway accepts it, and what is
/// compressed can't be judged. Other extensions stay as they are.
pub(crate) fn remove_deflate(headers: &mut HeaderMap) {
    let is_deflate = |offer: &[u8]| {
        let name = offer.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"permessage-deflate")
    };
    if !headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().any(|line| offers(line.as_bytes()).any(is_deflate)) {
        return;
    }
    rebuild(headers, |name, value| {
        if *name != SEC_WEBSOCKET_EXTENSIONS {
            return Some(value);
        }
        let kept: Vec<&[u8]> = offers(value.as_bytes()).filter(|offer| !is_deflate(offer)).collect();
        HeaderValue::from_bytes(&kept.join(&b", "[..])).ok().filter(|value| !value.is_empty())
    });
}

/// The offers of a line: separated by commas outside quotes.
fn offers(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
    .filter(|offer| !offer.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
        let mut lines: Vec<_> =
            headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
        lines.sort();
        lines
    }

    const FORGED: [(&str, &str); 10] = [
        ("forwarded", "for=127.0.0.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x_forwarded_for", "127.0.0.1"),
        ("x-forwarded-for", "::1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-port", "1"),
        ("x-real-ip", "127.0.0.1"),
        ("tailscale-user-login", "root"),
        ("x-real_ip", "127.0.0.1"),
    ];

    fn attributed(lines_in: &[(&str, &str)], peer: &str, trusted: &[&str]) -> Vec<(String, String)> {
        let mut headers = map(lines_in);
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let identity = IdentityHeaders::new([]);
        let rules = Rules { trusted: &trusted, identity: &identity, scheme: "http" };
        attribute(&mut headers, peer.parse().unwrap(), rules);
        lines(&headers)
    }

    fn strings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut strings: Vec<_> = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        strings.sort();
        strings
    }

    #[test]
    fn a_remote_peer_is_named_by_its_own_address_whatever_it_says() {
        for (peer, name) in
            [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", "2001:db8::7"), ("::ffff:192.0.2.7", "192.0.2.7")]
        {
            let mut sent = FORGED.to_vec();
            sent.push(("host", "gw:18900"));
            let expected = strings(&[
                ("host", "gw:18900"),
                ("x-forwarded-for", name),
                ("x-forwarded-host", "gw:18900"),
                ("x-forwarded-proto", "http"),
            ]);
            assert_eq!(attributed(&sent, peer, &[]), expected);
            assert_eq!(attributed(&sent, peer, &["10.0.0.0/8"]), expected);
        }
    }

    #[test]
    fn the_scheme_is_that_of_the_listener_unless_a_trusted_proxy_says_otherwise() {
        let trusted: [IpNet; 1] = ["10.0.0.0/8".parse().unwrap()];
        let proto = |peer: &str, sent: &[(&str, &str)]| {
            let mut headers = map(sent);
            let identity = IdentityHeaders::new([]);
            let rules = Rules { trusted: &trusted, identity: &identity, scheme: "https" };
            attribute(&mut headers, peer.parse().unwrap(), rules);
            headers.get(&FORWARDED_PROTO).map(|proto| proto.to_str().unwrap().to_owned())
        };
        let said = [("x-forwarded-proto", "http"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(proto("192.0.2.7", &said).unwrap(), "https");
        assert_eq!(proto("10.0.0.1", &said).unwrap(), "http");
        assert_eq!(proto("10.0.0.1", &said[1..]).unwrap(), "https");
        assert_eq!(proto("127.0.0.1", &[]), None);
    }

    #[test]
    fn a_loopback_peer_passes_as_it_came() {
        for peer in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(attributed(&FORGED, peer, &["10.0.0.0/8"]), lines(&map(&FORGED)));
            assert_eq!(
                attributed(&[("host", "x")], peer, &["127.0.0.0/8", "::1/128"]),
                strings(&[("host", "x")])
            );
        }
    }

    #[test]
    fn a_trusted_proxy_names_the_rightmost_address_that_is_not_a_proxy() {
        let trusted = ["10.0.0.0/8", "2001:db8:f::/48", "127.0.0.1/32"];
        for (chain, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.9, 192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
            ("192.0.2.1:5000, 10.0.0.2:80", "192.0.2.1"),
            ("[2001:db8::1]:443, [2001:db8:f::2]", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("127.0.0.1", "10.0.0.1"),
            ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1, ::1, 10.0.0.2", "10.0.0.2"),
            ("", "10.0.0.1"),
        ] {
            let sent = [
                ("host", "gw"),
                ("x-forwarded-for", chain),
                ("x-real-ip", "127.0.0.1"),
                ("x-forwarded-proto", "https"),
            ];
            let expected = strings(&[
                ("host", "gw"),
                ("x-forwarded-for", client),
                ("x-forwarded-host", "gw"),
                ("x-forwarded-proto", "https"),
            ]);
            assert_eq!(attributed(&sent, "10.0.0.1", &trusted), expected, "{chain:?}");
        }
        // A proxy on loopback can't make its clients local by not knowing them.
        for chain in ["192.0.2.1, unknown", "127.0.0.1", "10.0.0.2, ::1"] {
            let named = attributed(&[("x-forwarded-for", chain)], "127.0.0.1", &trusted);
            assert!(named.contains(&("x-forwarded-for".to_owned(), "unknown".to_owned())), "{named:?}");
        }
        // The chain may come in several lines, and the proxy may be on loopback.
        let sent =
            [("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "192.0.2.1"), ("x-forwarded-host", "pub")];
        let expected = strings(&[
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-host", "pub"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(attributed(&sent, "127.0.0.1", &trusted), expected);
    }

    #[test]
    fn connection_removes_what_it_names_but_nothing_that_the_gateway_decides_by() {
        let mut headers = map(&[
            ("connection", "close, X-Forwarded-For, X_Real_IP, te, authorization"),
            ("connection", "Host,x-mine, tailscale-user-login, Sec-WebSocket-Key, transfer-encoding"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x_real_ip", "192.0.2.1"),
            ("tailscale-user-login", "a"),
            ("authorization", "Bearer x"),
            ("host", "gw"),
            ("x-mine", "gone"),
            ("keep-alive", "gone"),
            ("te", "trailers"),
            ("sec-websocket-key", "k"),
            ("transfer-encoding", "chunked"),
        ]);
        end_hop(&mut headers, Hop::Request, &IdentityHeaders::new([]));
        let expected = strings(&[
            ("authorization", "Bearer x"),
            ("host", "gw"),
            ("sec-websocket-key", "k"),
            ("tailscale-user-login", "a"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x_real_ip", "192.0.2.1"),
        ]);
        assert_eq!(lines(&headers), expected);
    }

    #[test]
    fn deflate_leaves_the_offer_and_nothing_else_does() {
        for (sent, kept) in [
            ("permessage-deflate; client_max_window_bits", vec![]),
            ("PerMessage-Deflate", vec![]),
            (
                "foo; a=\"x, permessage-deflate\", permessage-deflate, bar",
                vec!["foo; a=\"x, permessage-deflate\", bar"],
            ),
            ("foo,bar;  x", vec!["foo,bar;  x"]),
            ("permessage-deflate-not", vec!["permessage-deflate-not"]),
        ] {
            let mut headers = map(&[("sec-websocket-extensions", sent)]);
            remove_deflate(&mut headers);
            let left: Vec<_> =
                headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().map(|v| v.to_str().unwrap()).collect();
            assert_eq!(left, kept);
        }
    }
}
