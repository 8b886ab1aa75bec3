//! Requests that ask for another protocol: the gateway decides, then hyper leaves and the relay begins.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;

use super::answer::Own;
use super::body::{Body, Outgoing};
use super::forward::{Keep, answer, unanswered};
use super::lawful::{Asked, lawful};
use super::strict::{is_http_2, items, names_only_http_2};
use super::target::{self, Outbound, Target};
use super::{Front, Guest, headers};
use crate::relay::{Caller, Protocol, Side, TraceId};

/// The trace that a request belongs to (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// The upgrade that a request asks for; the doorman has seen the same.
pub(super) fn asks(front: &Front, request: &Request<Incoming>) -> Option<Protocol> {
    let upgrade = upgrade_of(request.headers()).filter(|_| request.version() == Version::HTTP_11)?;
    let mut protocols = items(upgrade).filter(|protocol| !protocol.is_empty() && !is_http_2(protocol));
    let is_websocket = protocols.next().is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
    if request.method() != Method::GET || !is_websocket || protocols.next().is_some() {
        return Some(Protocol::Opaque);
    }
    let path = target::path(request.uri(), request.extensions());
    let tunneled = front.settings.tunnel_paths.iter().any(|prefix| path.starts_with(prefix.as_bytes()));
    Some(if tunneled { Protocol::Followed } else { Protocol::Judged })
}

/// The first value of `Upgrade` that names more than HTTP/2, where `Connection` confirms it.
fn upgrade_of(headers: &HeaderMap) -> Option<&[u8]> {
    let confirmed = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| items(line.as_bytes()))
        .any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let mut lines = headers.get_all(UPGRADE).iter().map(HeaderValue::as_bytes);
    lines.find(|line| confirmed && !names_only_http_2(line))
}

/// Asks the gateway for the upgrade. If it agrees, the relay is left with the guest for when the client has
/// the answer.
pub(super) async fn upgrade(
    front: &Front,
    guest: &Arc<Guest>,
    request: Request<Incoming>,
    protocol: Protocol,
) -> Result<Response<Body>, Own> {
    let result = ask(front, guest, request, protocol).await;
    if !matches!(&result, Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS) {
        guest.visit.refuse_upgrade();
    }
    result
}

async fn ask(
    front: &Front,
    guest: &Arc<Guest>,
    request: Request<Incoming>,
    protocol: Protocol,
) -> Result<Response<Body>, Own> {
    let (mut parts, _) = request.into_parts();
    let rules = front.rules();
    headers::end_hop(&mut parts.headers, headers::Hop::Upgrade, rules.identity);
    let client = headers::attribute(&mut parts.headers, guest.peer, rules);
    let trace = parts.headers.get(TRACEPARENT).and_then(|value| TraceId::of(value.as_bytes()));
    if protocol == Protocol::Judged {
        headers::remove_deflate(&mut parts.headers);
    }
    let mut line = front.connect_http(parts.extensions.remove::<Target>()).await?;
    let request = Request::from_parts(parts, Outgoing::new(front, guest, None));
    let response = line.sender.send_request(request).await.map_err(|error| unanswered(guest, &error))?;
    let mut response = lawful(response, Asked::Upgrade)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        front.relay.metrics.refused(response.status().as_u16());
        return Ok(answer(guest, line, Keep::No, response, None));
    }
    let gateway = hyper::upgrade::on(&mut response).await.map_err(|error| unanswered(guest, &error))?;
    let Ok(gateway) = gateway.downcast::<TokioIo<Outbound>>() else {
        // Not reached: `connect_http` puts nothing else under hyper.
        return Err(Own::bad_gateway("the gateway's connection is not a socket"));
    };
    let side = Side { stream: gateway.io.into_inner().into_inner(), early: gateway.read_buf };
    guest.leave_for_relay(side, protocol, Caller { client, connection: guest.number, trace });
    Ok(answer(guest, line, Keep::No, response, None))
}
