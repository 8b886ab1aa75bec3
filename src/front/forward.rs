//! Requests that are no upgrades: streamed to the gateway and back, nothing kept.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures::channel::oneshot;
use http_body_util::Either;
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use hyper::header::EXPECT;
use hyper::{Method, Request, Response, StatusCode};

use super::answer::{Body, Own};
use super::{Front, Guest, headers};
use crate::metrics::{Direction, Metrics};

/// A request's body on its way to the gateway.
pub(super) struct Outgoing {
    /// None where there is none.
    body: Option<Incoming>,
    metrics: Arc<Metrics>,
    /// With `Expect: 100-continue`: nothing is read, and so nothing asked of the client, before the gateway
    /// has said to go on.
    go_on: Option<oneshot::Receiver<()>>,
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(go_on) = &mut self.go_on {
            // Canceled: the gateway has answered without asking for the body; whether it comes is up to the
            // client.
            let _ = ready!(Pin::new(go_on).poll(cx));
            self.go_on = None;
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        count(&self.metrics, Direction::ToGateway, frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// An answer's body on its way to the client. The request is over when it is dropped.
pub(super) struct Relayed {
    body: Incoming,
    guest: Arc<Guest>,
    metrics: Arc<Metrics>,
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.guest.visit.set_in_flight(false);
    }
}

impl hyper::body::Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        count(&self.metrics, Direction::ToClient, frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn count(metrics: &Metrics, direction: Direction, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) {
    if let Some(Ok(frame)) = frame
        && let Some(data) = frame.data_ref()
    {
        metrics.bytes(direction, data.len() as u64);
    }
}

/// The connection to the gateway that a client's requests share, between two of them.
#[derive(Default)]
pub(super) struct Kept(Mutex<Option<SendRequest<Outgoing>>>);

impl Kept {
    fn take(&self) -> Option<SendRequest<Outgoing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().filter(SendRequest::is_ready)
    }

    fn put(&self, sender: SendRequest<Outgoing>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    }
}

/// Sends a request to the gateway and hands out its answer.
pub(super) async fn forward(
    front: &Front,
    guest: &Arc<Guest>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Own> {
    let (mut parts, body) = request.into_parts();
    let body = Some(body).filter(|body| !body.is_end_stream());
    headers::remove_hop_by_hop(&mut parts.headers);
    headers::attribute(&mut parts.headers, guest.peer, &front.settings.trusted_proxies);

    // The gateway may close a kept connection at the moment it is used again. What then was sent for nothing
    // may be sent again only where sending it twice does no harm.
    let repeatable = body.is_none() && matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if repeatable && let Some(mut sender) = guest.kept.take() {
        let request = Request::from_parts(parts.clone(), Outgoing::new(front, None));
        if let Ok(response) = sender.send_request(request).await {
            return Ok(answer(front, guest, Some(sender), response));
        }
    }
    let waits = parts.headers.get(EXPECT).is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut request = Request::from_parts(parts, Outgoing::new(front, body));
    if waits {
        let go_on = on_continue(&mut request);
        request.body_mut().go_on = Some(go_on);
    }
    let mut sender = front.connect_http().await?;
    let response = sender.send_request(request).await.map_err(|error| unanswered(guest, &error))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Own::bad_gateway("the gateway switched protocols without being asked"));
    }
    Ok(answer(front, guest, Some(sender), response))
}

impl Outgoing {
    pub(super) fn new(front: &Front, body: Option<Incoming>) -> Self {
        Self { body, metrics: Arc::clone(&front.relay.metrics), go_on: None }
    }
}

/// Resolves when the gateway has said 100 Continue, or is canceled when it has answered without.
fn on_continue(request: &mut Request<Outgoing>) -> oneshot::Receiver<()> {
    let (send, receive) = oneshot::channel();
    let send = Mutex::new(Some(send));
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE
            && let Some(send) = send.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            // An error says that the body is not waited for any more.
            let _ = send.send(());
        }
    });
    receive
}

/// The gateway closed the connection or sent what is not HTTP; or the client sent a body that is not one, which
/// ends the request to the gateway too.
pub(super) fn unanswered(guest: &Guest, error: &hyper::Error) -> Own {
    match guest.visit.refusal() {
        Some(refusal) => Own::refusal(refusal),
        None => {
            tracing::debug!(%error, "the gateway did not answer");
            Own::bad_gateway(if error.is_parse() {
                "the gateway's answer is not HTTP"
            } else {
                "the gateway closed the connection without an answer"
            })
        }
    }
}

/// The gateway's answer as the client gets it.
pub(super) fn answer(
    front: &Front,
    guest: &Arc<Guest>,
    sender: Option<SendRequest<Outgoing>>,
    response: Response<Incoming>,
) -> Response<Body> {
    let mut response = response.map(|body| {
        let relayed = Relayed { body, guest: Arc::clone(guest), metrics: Arc::clone(&front.relay.metrics) };
        Either::Right(relayed)
    });
    if let Some(sender) = sender {
        headers::remove_connection(response.headers_mut());
        guest.kept.put(sender);
    }
    response
}
