//! Requests that ask for another protocol: the gateway decides, then hyper leaves and the relay begins.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::answer::{Body, Own};
use super::forward::{Outgoing, answer, unanswered};
use super::{Front, Guest, headers};
use crate::relay::{Protocol, Side};

/// What a request asks for.
pub(super) enum Asks {
    /// An answer.
    ForNothing,
    /// An upgrade that does not pass: it is answered as if it asked for nothing.
    InVain,
    /// An upgrade.
    For(Protocol),
}

/// What a request asks for.
pub(super) fn asks(front: &Front, request: &Request<Incoming>) -> Asks {
    let Some(upgrade) = upgrade_of(request.headers()).filter(|_| request.version() == Version::HTTP_11)
    else {
        return Asks::ForNothing;
    };
    if upgrade.eq_ignore_ascii_case(b"h2c") {
        // It would carry requests past every rule of this front.
        return Asks::InVain;
    }
    if request.method() != Method::GET || !upgrade.eq_ignore_ascii_case(b"websocket") {
        return Asks::For(Protocol::Opaque);
    }
    let path = request.uri().path();
    let tunneled = front.settings.tunnel_paths.iter().any(|prefix| path.starts_with(prefix.as_str()));
    Asks::For(if tunneled { Protocol::Followed } else { Protocol::Judged })
}

/// The value of `Upgrade`, where `Connection` confirms it.
fn upgrade_of(headers: &HeaderMap) -> Option<&[u8]> {
    let confirmed = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    headers.get(UPGRADE).filter(|_| confirmed).map(|value| value.as_bytes().trim_ascii())
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
        guest.visit.set_upgrade_refused();
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
    let connection = headers::upgrade_connection(&parts.headers);
    let asked = parts.headers.get(UPGRADE).cloned().unwrap_or(HeaderValue::from_static("websocket"));
    headers::remove_hop_by_hop(&mut parts.headers);
    parts.headers.insert(CONNECTION, connection);
    parts.headers.insert(UPGRADE, asked);
    headers::attribute(&mut parts.headers, guest.peer, &front.settings.trusted_proxies);
    if protocol == Protocol::Judged {
        headers::remove_deflate(&mut parts.headers);
    }
    let mut sender = front.connect_http().await?;
    let request = Request::from_parts(parts, Outgoing::new(front, None));
    let mut response = sender.send_request(request).await.map_err(|error| unanswered(guest, &error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer(front, guest, None, response));
    }
    let gateway = hyper::upgrade::on(&mut response).await.map_err(|error| unanswered(guest, &error))?;
    let Ok(gateway) = gateway.downcast::<TokioIo<TcpStream>>() else {
        // Not reached: `connect_http` puts nothing else under hyper.
        return Err(Own::bad_gateway("the gateway's connection is not a socket"));
    };
    let side = Side { stream: gateway.io.into_inner(), early: gateway.read_buf };
    guest.leave_for_relay(side, protocol);
    Ok(answer(front, guest, None, response))
}
