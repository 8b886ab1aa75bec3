//! Bodies on their way through: requests to the gateway, answers to the client.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::channel::oneshot;
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use hyper::{Request, StatusCode};
use tokio::time::{Sleep, sleep};

use super::doorman::Visit;
use super::traffic::Traffic;
use super::{Front, Guest, IdentityHeaders, headers, lock};
use crate::metrics::Direction;

/// The body of an answer to a client: seqgate's own, or the gateway's.
pub(super) type Body = Either<Full<Bytes>, Relayed>;

/// How long a client's body waits for the gateway's 100.
const UNASKED: Duration = Duration::from_secs(3);

/// A request's body on its way to the gateway.
pub(super) struct Outgoing {
    /// None where there is none.
    body: Option<Incoming>,
    traffic: Arc<Traffic>,
    /// Not to pass in trailers.
    identity: Arc<IdentityHeaders>,
    /// With `Expect: 100-continue`: nothing is read, and so nothing asked of the client, before the gateway
    /// has said to go on.
    permission: Option<Permission>,
}

impl Outgoing {
    pub(super) fn new(front: &Front, guest: &Guest, body: Option<Incoming>) -> Self {
        let identity = Arc::clone(&front.settings.identity_headers);
        Self { body, traffic: Arc::clone(&guest.traffic), identity, permission: None }
    }
}

/// Lets a request's body wait for the gateway's 100 Continue. The receiver gets a value if the gateway answers without
/// one.
pub(super) fn await_continue(request: &mut Request<Outgoing>) -> oneshot::Receiver<()> {
    let (send, go_on) = oneshot::channel();
    let send = Mutex::new(Some(send));
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE
            && let Some(send) = lock(&send).take()
        {
            // An error says that the body is not waited for any more.
            let _ = send.send(());
        }
    });
    let (unwanted, is_unwanted) = oneshot::channel();
    let patience = Box::pin(sleep(UNASKED));
    request.body_mut().permission = Some(Permission { go_on, patience, unwanted: Some(unwanted) });
    is_unwanted
}

/// Resolved by the gateway's 100, canceled when it has answered without.
struct Permission {
    go_on: oneshot::Receiver<()>,
    /// A client need not wait for ever (RFC 9110, section 10.1.1), nor has a gateway to say 100: then the body is
    /// sent unasked.
    patience: Pin<Box<Sleep>>,
    unwanted: Option<oneshot::Sender<()>>,
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
                if let Some(unwanted) = permission.unwanted.take() {
                    // An error: nothing waits for the connection any more.
                    let _ = unwanted.send(());
                }
                self.body = None;
                return Poll::Pending;
            }
            self.permission = None;
        }
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let mut frame = ready!(Pin::new(body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            headers::anonymize(trailers, &this.identity);
        }
        count(&this.traffic, Direction::ToGateway, frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// An answer's body on its way to the client.
pub(super) struct Relayed {
    body: Incoming,
    traffic: Arc<Traffic>,
    visit: Arc<Visit>,
    /// The gateway has broken off. Said when all that it sent before has left, because hyper forgets
    /// then what waits.
    broken: Option<hyper::Error>,
    has_ended: bool,
    /// Told at the end whether the body was whole.
    at_end: Option<AtEnd>,
}

type AtEnd = Box<dyn FnOnce(bool) + Send>;

impl Relayed {
    pub(super) fn new(guest: &Guest, body: Incoming, at_end: impl FnOnce(bool) + Send + 'static) -> Self {
        let traffic = Arc::clone(&guest.traffic);
        let visit = Arc::clone(&guest.visit);
        Self { body, traffic, visit, broken: None, has_ended: false, at_end: Some(Box::new(at_end)) }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        let whole = self.is_end_stream();
        if let Some(at_end) = self.at_end.take() {
            at_end(whole);
        }
    }
}

impl hyper::body::Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if this.broken.is_none() {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
            // Trailers are the last frame; hyper does not ask for more where it can't pass them on.
            this.has_ended |= frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
            count(&this.traffic, Direction::ToClient, frame.as_ref());
            match frame {
                Some(Err(error)) => this.broken = Some(error),
                frame => return Poll::Ready(frame),
            }
            this.visit.await_written();
        }
        ready!(this.visit.poll_written(cx));
        Poll::Ready(this.broken.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn count(traffic: &Traffic, direction: Direction, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) {
    if let Some(Ok(frame)) = frame
        && let Some(data) = frame.data_ref()
    {
        traffic.carried(direction, data.len());
    }
}
