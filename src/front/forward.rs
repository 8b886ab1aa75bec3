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
use tokio::task::AbortHandle;
use tokio::time::{Duration, Sleep, sleep};

use super::answer::{Body, Own};
use super::{Front, Guest, headers};
use crate::metrics::{Direction, Metrics};

/// How long a client's body waits for the gateway's 100.
const UNASKED: Duration = Duration::from_secs(3);

/// A request's body on its way to the gateway.
pub(super) struct Outgoing {
    /// None where there is none.
    body: Option<Incoming>,
    metrics: Arc<Metrics>,
    /// With `Expect: 100-continue`: nothing is read, and so nothing asked of the client, before the gateway
    /// has said to go on.
    permission: Option<Permission>,
}

struct Permission {
    go_on: oneshot::Receiver<()>,
    /// A client need not wait for ever (RFC 9110, section 10.1.1), nor has a gateway to say 100: then the body is
    /// sent unasked.
    patience: Pin<Box<Sleep>>,
}

impl Permission {
    /// Whether the body is to be sent.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match Pin::new(&mut self.go_on).poll(cx) {
            Poll::Ready(asked) => Poll::Ready(asked.is_ok()),
            Poll::Pending => self.patience.as_mut().poll(cx).map(|()| true),
        }
    }
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(permission) = &mut self.permission {
            if !ready!(permission.poll(cx)) {
                // The gateway has answered without asking for the body: it is not read, so the client is not
                // told to send it, and both connections end with the answer.
                self.body = None;
                return Poll::Pending;
            }
            self.permission = None;
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
    has_ended: bool,
    guest: Arc<Guest>,
    metrics: Arc<Metrics>,
    /// Where it comes from; kept for the next request if it may be.
    line: Option<Line>,
    keep: Keep,
}

impl Drop for Relayed {
    fn drop(&mut self) {
        let whole = self.is_end_stream();
        if let Some(line) = self.line.take().filter(|_| whole && self.keep == Keep::Yes) {
            self.guest.kept.put(line);
        }
        self.guest.visit.answered(whole);
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
        self.has_ended |= frame.is_none();
        count(&self.metrics, Direction::ToClient, frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
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

/// A connection to the gateway. It ends when this is dropped, whatever it was doing.
pub(super) struct Line {
    pub(super) sender: SendRequest<Outgoing>,
    pub(super) task: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a connection to the gateway may serve another request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Yes,
    No,
}

/// The connection to the gateway that a client's requests share, between two of them.
#[derive(Default)]
pub(super) struct Kept(Mutex<Option<Line>>);

impl Kept {
    fn take(&self) -> Option<Line> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.filter(|line| line.sender.is_ready())
    }

    fn put(&self, line: Line) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
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
    headers::end_hop(&mut parts.headers, headers::Hop::Request);
    headers::attribute(&mut parts.headers, guest.peer, &front.settings.trusted_proxies);

    // The gateway may close a kept connection at the moment it is used again. What then was sent for nothing
    // may be sent again only where sending it twice does no harm.
    let repeatable = body.is_none() && matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if repeatable && let Some(mut line) = guest.kept.take() {
        let request = Request::from_parts(parts.clone(), Outgoing::new(front, None));
        if let Ok(response) = line.sender.send_request(request).await {
            return unforced(response).map(|response| answer(front, guest, line, Keep::Yes, response));
        }
    }
    let waits = parts.headers.get(EXPECT).is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut request = Request::from_parts(parts, Outgoing::new(front, body));
    if waits {
        let go_on = on_continue(&mut request);
        let patience = Box::pin(sleep(UNASKED));
        request.body_mut().permission = Some(Permission { go_on, patience });
    }
    let mut line = front.connect_http().await?;
    let response = line.sender.send_request(request).await.map_err(|error| unanswered(guest, &error))?;
    unforced(response).map(|response| answer(front, guest, line, Keep::Yes, response))
}

/// A gateway can't switch protocols on a client that has not asked for it.
fn unforced(response: Response<Incoming>) -> Result<Response<Incoming>, Own> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Own::bad_gateway("the gateway switched protocols without being asked"));
    }
    Ok(response)
}

impl Outgoing {
    pub(super) fn new(front: &Front, body: Option<Incoming>) -> Self {
        Self { body, metrics: Arc::clone(&front.relay.metrics), permission: None }
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
        Some((refusal, _)) => Own::refusal(refusal),
        // Of the two bodies, this is the request's.
        None if error.is_user() => Own::broken_off(),
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
    line: Line,
    keep: Keep,
    response: Response<Incoming>,
) -> Response<Body> {
    let mut response = response.map(|body| {
        Either::Right(Relayed {
            body,
            has_ended: false,
            guest: Arc::clone(guest),
            metrics: Arc::clone(&front.relay.metrics),
            line: Some(line),
            keep,
        })
    });
    if keep == Keep::Yes {
        headers::remove_connection(response.headers_mut());
    }
    response
}
