//! Requests that are no upgrades: streamed to the gateway and back, nothing kept.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::channel::oneshot;
use http_body_util::Either;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::EXPECT;
use hyper::{Method, Request, Response};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::answer::Own;
use super::body::{Body, Outgoing, Relayed, await_continue};
use super::lawful::{Asked, lawful};
use super::start::{self, Run};
use super::target::Target;
use super::{Front, Guest, headers, lock};
use crate::drain::{Draining, Phase};

/// Time for a gateway to take the end of an upload that it has answered, after its client has left.
const UPLOAD_END: Duration = Duration::from_secs(30);

/// A connection to the gateway. It ends when this is dropped, whatever it was doing.
pub(super) struct Line {
    pub(super) sender: SendRequest<Outgoing>,
    pub(super) task: Task,
    /// Resolved with a value when the gateway has answered without a 100, so that the body is never sent.
    pub(super) unwanted: Option<oneshot::Receiver<()>>,
}

/// The task of a [`Line`]; aborted when this is dropped.
pub(super) struct Task(pub(super) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Line {
    /// Resolves when the gateway has taken the last request; whether the connection may serve another one.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some(unwanted) = &mut self.unwanted {
            match Pin::new(unwanted).poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(false),
                Poll::Ready(Err(_)) => self.unwanted = None,
                Poll::Pending => {}
            }
        }
        self.sender.poll_ready(cx).map(|ready| ready.is_ok())
    }

    /// Closes the connection after all that hyper holds for it has been sent.
    async fn finish(self) {
        let Self { sender, mut task, .. } = self;
        drop(sender);
        // An error is a panic or an abort: the task has ended.
        let _ = (&mut task.0).await;
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
        let kept = lock(&self.0).take();
        kept.filter(|line| line.sender.is_ready())
    }

    fn put(&self, line: Line) {
        *lock(&self.0) = Some(line);
    }

    /// Resolves when the gateway has taken the whole request before, which it may have answered early: like the
    /// gateway itself, the next request waits for that.
    pub(super) async fn settled(&self) {
        poll_fn(|cx| {
            let mut kept = lock(&self.0);
            if let Some(line) = kept.as_mut()
                && !ready!(line.poll_settled(cx))
            {
                *kept = None;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Sends the rest of an upload whose client has left after the early answer.
    pub(super) async fn finish(&self, mut draining: Draining) {
        let rest = async {
            self.settled().await;
            if let Some(line) = self.take() {
                line.finish().await;
            }
        };
        tokio::select! {
            _ = timeout(UPLOAD_END, rest) => {}
            () = draining.reached(Phase::Closing) => {}
        }
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
    let rules = front.rules();
    headers::end_hop(&mut parts.headers, headers::Hop::Request, rules.identity);
    let client = headers::attribute(&mut parts.headers, guest.peer, rules);
    let run = start::admit(front, guest, &parts, client)?;
    let target = parts.extensions.remove::<Target>();

    // The gateway may close a kept connection at the moment it is used again. What then was sent for nothing
    // may be sent again only where sending it twice does no harm.
    let repeatable = body.is_none() && matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if repeatable
        && target.is_none()
        && let Some(mut line) = guest.kept.take()
    {
        let request = Request::from_parts(parts.clone(), Outgoing::new(front, guest, None));
        if let Ok(response) = line.sender.send_request(request).await {
            let response = lawful(response, Asked::Answer)?;
            return Ok(answer(guest, line, Keep::Yes, response, run));
        }
    }
    if let Some(line) = guest.kept.take() {
        line.finish().await;
    }
    let waits = parts.headers.get(EXPECT).is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut request = Request::from_parts(parts, Outgoing::new(front, guest, body));
    let unwanted = waits.then(|| await_continue(&mut request));
    let mut line = front.connect_http(target).await?;
    line.unwanted = unwanted;
    let response = line.sender.send_request(request).await.map_err(|error| unanswered(guest, &error))?;
    let response = lawful(response, Asked::Answer)?;
    if let Some(run) = &run {
        run.answered(&response);
    }
    Ok(answer(guest, line, Keep::Yes, response, run))
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

/// The gateway's answer as the client gets it. With it ends the run that the request has started.
pub(super) fn answer(
    guest: &Arc<Guest>,
    line: Line,
    keep: Keep,
    response: Response<Incoming>,
    run: Option<Run>,
) -> Response<Body> {
    let mut response = response.map(|body| {
        let at_end = {
            let guest = Arc::clone(guest);
            move |whole| {
                drop(run);
                if whole && keep == Keep::Yes {
                    guest.kept.put(line);
                }
                guest.visit.answered(whole);
            }
        };
        Either::Right(Relayed::new(guest, body, at_end))
    });
    if keep == Keep::Yes {
        headers::remove_connection(response.headers_mut());
    }
    response
}
