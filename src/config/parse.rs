//! Values out of their text.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use crate::front::{HeaderPattern, IdentityHeaders};
use crate::upstream::Upstream;

/// Networks that together hold every public client: unicast IPv4, and global unicast IPv6.
const EVERY_CLIENT: [&[&str]; 2] = [&["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"], &["2000::/3"]];

/// As in `http://127.0.0.1:18789`, `ws://gateway:18789`, `https://[::1]:18789`.
pub(super) fn upstream(text: &str) -> Option<Upstream> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme {
        "http" | "ws" => false,
        "https" | "wss" => true,
        _ => return None,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = rest.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').filter(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    // A colon stands in IPv6 addresses only, which are in brackets.
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_v6 = rest.starts_with('[');
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (is_v6 || !host.is_empty() && host.chars().all(is_host)).then(|| Upstream {
        tls,
        host: host.to_owned(),
        port,
    })
}

/// Items between commas; empty ones are none.
pub(super) fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
}

/// A network, or an address as a network of one. IPv4 addresses in IPv6 (`::ffff:0:0/96`) are IPv4.
fn network(text: &str) -> Option<IpNet> {
    let net = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    let IpNet::V6(v6) = net else { return Some(net) };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    Some(mapped.and_then(|(v4, length)| Ipv4Net::new(v4, length).ok()).map_or(net, IpNet::V4))
}

/// Addresses and networks of proxies. Not accepted: networks that hold every client, and networks with bits set after
/// their prefix.
pub(super) fn trusted_proxies(text: &str) -> Result<Vec<IpNet>, String> {
    let nets = list(text, network).ok_or_else(String::new)?;
    let union = IpNet::aggregate(&nets.iter().map(IpNet::trunc).collect());
    let holds =
        |part: &&str| part.parse().is_ok_and(|part: IpNet| union.iter().any(|net| net.contains(&part)));
    if EVERY_CLIENT.iter().any(|parts| parts.iter().all(&holds)) {
        return Err(
            "the proxies' own addresses and networks: with this, every client would be trusted".to_owned()
        );
    }
    match nets.iter().find(|net| **net != net.trunc()) {
        Some(net) => Err(format!(
            "{} for the whole network or {} for the one address: {net} has bits set after its prefix",
            net.trunc(),
            IpNet::from(net.addr())
        )),
        None => Ok(nets),
    }
}

/// The well-known identity headers and those in this list.
pub(super) fn identity_headers(text: &str) -> Result<IdentityHeaders, String> {
    let patterns = list(text, HeaderPattern::parse).ok_or_else(String::new)?;
    match patterns.iter().find_map(HeaderPattern::reserved) {
        Some(name) => Err(format!("names that do not cover {name}: it is needed for another purpose")),
        None => Ok(IdentityHeaders::new(patterns)),
    }
}

/// A number and its unit, without a space: `500ms`, `1h`.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

/// As in `500ms`, `30s`, `10m`, `1h`, `7d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// As in `4096B`, `64KiB`, `1MiB`; a bare number is bytes.
pub(super) fn size(text: &str) -> Option<usize> {
    let (number, unit) = split_unit(text)?;
    let bytes = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.checked_mul(bytes)?.try_into().ok()
}
