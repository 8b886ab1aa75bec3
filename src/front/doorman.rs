//! Stands between a client's socket and hyper: hyper gets to see a request's head only when all of it is there
//! and `strict.rs` has let it through, and never a byte behind a request for an upgrade.
//!
//! What hyper does on its own with a bad, large or slow head is right, but wordless; and it forgives more than a
//! proxy should.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::lock;
use super::strict::{self, Chunks, Framing, Head, Refusal};
use super::target::{Original, Target};
use crate::socket::Conn;

/// Read at once where the bytes are looked at.
const READ: usize = 8 * 1024;
/// Bytes behind a request that are read before it has been answered.
const EARLY: usize = 16 * 1024;
/// How long a connection may be idle between two requests: longer than load balancers keep theirs (AWS ALB: 60 s), so
/// that they do not send a request while the connection is being closed.
const IDLE: Duration = Duration::from_secs(75);

/// What the doorman and the handler of the requests know of each other.
#[derive(Default)]
pub(super) struct Visit {
    /// Requests that were let in and whose answers have not left whole.
    open: AtomicUsize,
    /// Of these, the answers that hyper has been given whole, but may not have written.
    answered: AtomicUsize,
    broken_answer: AtomicBool,
    ends_with_connection: AtomicBool,
    /// A broken answer waits until hyper has written what came before.
    unwritten: AtomicBool,
    broken_body: AtomicWaker,
    upgrading: AtomicBool,
    /// Of the request that hyper was given last.
    original: Mutex<Original>,
    refusal: Mutex<Option<(Refusal, Place)>>,
    /// hyper does not read again by itself when an answer has left: a doorman that waits for that has to be
    /// woken.
    doorman: AtomicWaker,
}

/// Where in a request something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In its head: hyper has not seen it.
    Head,
    /// In its body: the request is being answered.
    Body,
}

impl Visit {
    /// An answer has ended; not whole if the gateway broke it off.
    pub(super) fn answered(&self, whole: bool) {
        self.broken_answer.fetch_or(!whole, SeqCst);
        self.answered.fetch_add(1, SeqCst);
    }

    /// Only the connection's end tells the client where its answer ends.
    pub(super) fn ends_with_connection(&self) {
        self.ends_with_connection.store(true, SeqCst);
    }

    /// An answer was broken off, and would look whole if the connection ended as usual.
    pub(super) fn looks_whole(&self) -> bool {
        self.broken_answer.load(SeqCst) && self.ends_with_connection.load(SeqCst)
    }

    /// hyper may hold something that it was given: see [`Visit::poll_written`].
    pub(super) fn await_written(&self) {
        self.unwritten.store(true, SeqCst);
    }

    /// Resolves when all that hyper was given before [`Visit::await_written`] has been written.
    pub(super) fn poll_written(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.broken_body.register(cx.waker());
        if self.unwritten.load(SeqCst) { Poll::Pending } else { Poll::Ready(()) }
    }

    /// All that hyper was given has been written.
    fn flushed(&self) {
        if self.unwritten.swap(false, SeqCst) {
            self.broken_body.wake();
        }
        let left = self.answered.swap(0, SeqCst);
        if left > 0 {
            self.open.fetch_sub(left, SeqCst);
            self.doorman.wake();
        }
    }

    /// The gateway has refused the upgrade: requests may follow.
    pub(super) fn refuse_upgrade(&self) {
        self.upgrading.store(false, SeqCst);
        self.doorman.wake();
    }

    /// An upgrade was asked for and not refused yet.
    pub(super) fn is_upgrading(&self) -> bool {
        self.upgrading.load(SeqCst)
    }

    /// What the request that hyper hands out was before it was rewritten for hyper.
    pub(super) fn take_original(&self) -> Original {
        std::mem::take(&mut *lock(&self.original))
    }

    /// What was refused on this connection, and where.
    pub(super) fn refusal(&self) -> Option<(Refusal, Place)> {
        *lock(&self.refusal)
    }

    /// The client has got nothing but whole answers: another one may follow.
    pub(super) fn may_be_answered(&self) -> bool {
        !self.broken_answer.load(SeqCst) && !self.is_in_flight()
    }

    fn is_in_flight(&self) -> bool {
        self.open.load(SeqCst) > 0
    }

    fn set_refusal(&self, refusal: Refusal, place: Place) {
        *lock(&self.refusal) = Some((refusal, place));
    }
}

#[derive(Debug)]
enum State {
    /// A head is expected; of `buffer`, so many bytes were looked at.
    Head {
        seen: usize,
    },
    /// So many bytes of a body are to come.
    Length(u64),
    Chunked(Chunks),
    /// An upgrade was asked for: what comes now is kept until the gateway has answered.
    Upgrading,
    Refused(Refusal),
}

/// What the clock waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    Nothing,
    FirstRequest,
    NextRequest,
    RestOfHead,
}

pub(super) struct Doorman {
    stream: Conn,
    visit: Arc<Visit>,
    state: State,
    /// Read from the socket and not handed on; the first `cleared` bytes may be.
    buffer: BytesMut,
    cleared: usize,
    header_timeout: Duration,
    awaiting: Awaiting,
    clock: Pin<Box<Sleep>>,
    first: bool,
}

impl Doorman {
    pub(super) fn new(stream: Conn, visit: Arc<Visit>, header_timeout: Duration) -> Self {
        Self {
            stream,
            visit,
            state: State::Head { seen: 0 },
            buffer: BytesMut::new(),
            cleared: 0,
            header_timeout,
            awaiting: Awaiting::FirstRequest,
            clock: Box::pin(sleep(header_timeout)),
            first: true,
        }
    }

    /// The socket, and what was read from it and not handed on.
    pub(super) fn into_parts(self) -> (Conn, Bytes) {
        // A buffer keeps its memory as long as any part of it is held: nobody is to hold an empty part.
        let rest = if self.buffer.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&self.buffer) };
        (self.stream, rest)
    }

    /// Requests say themselves where they end: a client that ends without TLS's goodbye, as many do, takes nothing
    /// away from them.
    fn poll_socket(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (mut reader, _) = self.stream.split();
        Pin::new(&mut reader).poll_read(cx, out)
    }

    /// Reads what is there into the buffer; the number of bytes, 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [0; READ];
        let mut read = ReadBuf::new(&mut chunk);
        ready!(self.poll_socket(cx, &mut read))?;
        self.buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Looks for a whole head in the buffer.
    fn examine(&mut self, seen: usize) -> Result<Option<State>, Refusal> {
        let mut seen = seen;
        while self.buffer.starts_with(b"\r\n") {
            // RFC 9112, section 2.2: an empty line before a request line is to be ignored.
            self.buffer.advance(2);
            seen = 0;
        }
        let Some(end) = strict::head_end(&self.buffer, seen)? else {
            self.state = State::Head { seen: self.buffer.len() };
            return Ok(None);
        };
        let head = strict::check(&self.buffer[..end])?;
        self.cleared = end;
        self.rewrite(&head);
        Ok(Some(match head.framing {
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Chunked(Chunks::new()),
            Framing::Upgrade => State::Upgrading,
        }))
    }

    /// Replaces what hyper would not take as it is: a target, by a path of the same length, and the version of an upgrade
    /// in HTTP/1.0, which hyper would serve as a request without one.
    fn rewrite(&mut self, head: &Head) {
        let is_old_upgrade = head.is_http_1_0 && head.framing == Framing::Upgrade;
        if head.is_plain && !is_old_upgrade {
            return;
        }
        let mut original = Original { target: None, is_http_1_0: is_old_upgrade };
        if !head.is_plain {
            let target = &mut self.buffer[head.target.clone()];
            original.target = Some(Target::new(target));
            target.fill(b'/');
        }
        if is_old_upgrade {
            self.buffer[head.target.end..][..strict::SPACE_VERSION.len()]
                .copy_from_slice(strict::SPACE_VERSION);
        }
        *lock(&self.visit.original) = original;
    }

    fn refuse(&mut self, refusal: Refusal, place: Place) {
        self.visit.set_refusal(refusal, place);
        self.state = State::Refused(refusal);
    }

    /// Sets the clock for what is awaited, if that has changed; `Ready` when it has run out.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Empty lines before a head are part of it: they win no time.
        let awaiting = if !self.buffer.is_empty() || self.awaiting == Awaiting::RestOfHead {
            Awaiting::RestOfHead
        } else if self.first {
            Awaiting::FirstRequest
        } else {
            Awaiting::NextRequest
        };
        if awaiting != self.awaiting {
            // The first head's time began with the connection.
            if self.awaiting != Awaiting::FirstRequest {
                let time = if awaiting == Awaiting::NextRequest { IDLE } else { self.header_timeout };
                self.clock.as_mut().reset(Instant::now() + time);
            }
            self.awaiting = awaiting;
        }
        self.clock.as_mut().poll(cx)
    }

    /// Moves on to where bytes may be handed to hyper, or to the end.
    fn poll_head(&mut self, cx: &mut Context<'_>, seen: usize) -> Poll<io::Result<Flow>> {
        if self.visit.is_in_flight() {
            return self.poll_in_flight(cx);
        }
        match self.examine(seen) {
            Ok(Some(next)) => {
                self.state = next;
                self.first = false;
                self.awaiting = Awaiting::Nothing;
                self.visit.open.fetch_add(1, SeqCst);
                self.visit.upgrading.store(matches!(self.state, State::Upgrading), SeqCst);
                return Poll::Ready(Ok(Flow::Again));
            }
            Ok(None) => {}
            Err(refusal) => {
                self.refuse(refusal, Place::Head);
                return Poll::Ready(Ok(Flow::Again));
            }
        }
        if self.poll_clock(cx).is_ready() {
            if self.buffer.is_empty() {
                return Poll::Ready(Ok(Flow::End));
            }
            self.refuse(Refusal::Timeout, Place::Head);
            return Poll::Ready(Ok(Flow::Again));
        }
        let n = ready!(self.poll_fill(cx))?;
        Poll::Ready(Ok(if n == 0 { Flow::End } else { Flow::Again }))
    }

    /// The next request waits until the answer has left. hyper would not notice a client that leaves once it had
    /// been given a part of it.
    fn poll_in_flight(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Flow>> {
        while self.buffer.len() < EARLY {
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(Flow::End));
            }
        }
        Poll::Pending
    }

    fn poll_chunked(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Flow>> {
        if self.buffer.is_empty() {
            let n = ready!(self.poll_fill(cx))?;
            return Poll::Ready(Ok(if n == 0 { Flow::End } else { Flow::Again }));
        }
        let State::Chunked(chunks) = &mut self.state else { return Poll::Ready(Ok(Flow::Again)) };
        match chunks.follow(&self.buffer) {
            Ok((n, done)) => {
                self.cleared = n;
                if done {
                    self.state = State::Head { seen: 0 };
                }
                Poll::Ready(Ok(Flow::Again))
            }
            Err(refusal) => {
                // In the middle of a request: it can't be answered as if it had been one.
                self.refuse(refusal, Place::Body);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)))
            }
        }
    }

    fn poll_upgrading(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Flow>> {
        if !self.visit.is_upgrading() {
            self.state = State::Head { seen: 0 };
            return Poll::Ready(Ok(Flow::Again));
        }
        while self.buffer.len() < EARLY {
            // A client that leaves is noticed here; one that has said something first is heard to the end.
            if ready!(self.poll_fill(cx))? == 0 {
                return if self.buffer.is_empty() { Poll::Ready(Ok(Flow::End)) } else { Poll::Pending };
            }
        }
        Poll::Pending
    }

    /// The answer to an earlier request goes out first. Nothing more is heard, but a client that leaves is noticed.
    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Flow>> {
        loop {
            self.buffer.clear();
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(Flow::End));
            }
        }
    }

    /// A part of a body, straight into hyper's buffer.
    fn poll_body(&mut self, cx: &mut Context<'_>, left: u64, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = usize::try_from(left).map_or(out.remaining(), |left| left.min(out.remaining()));
        let mut part = ReadBuf::new(out.initialize_unfilled_to(most));
        ready!(self.poll_socket(cx, &mut part))?;
        let n = part.filled().len();
        out.advance(n);
        self.state = State::Length(left - n as u64);
        Poll::Ready(Ok(()))
    }
}

/// What follows a look at the state.
enum Flow {
    Again,
    End,
}

impl AsyncRead for Doorman {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.visit.doorman.register(cx.waker());
        loop {
            if this.cleared > 0 {
                let n = this.cleared.min(out.remaining());
                out.put_slice(&this.buffer[..n]);
                this.buffer.advance(n);
                this.cleared -= n;
                return Poll::Ready(Ok(()));
            }
            let flow = match &this.state {
                State::Head { seen } => {
                    let seen = *seen;
                    ready!(this.poll_head(cx, seen))?
                }
                State::Length(0) => {
                    this.state = State::Head { seen: 0 };
                    Flow::Again
                }
                State::Length(left) if this.buffer.is_empty() => {
                    let left = *left;
                    return this.poll_body(cx, left, out);
                }
                State::Length(left) => {
                    this.cleared =
                        usize::try_from(*left).map_or(this.buffer.len(), |n| n.min(this.buffer.len()));
                    this.state = State::Length(left - this.cleared as u64);
                    Flow::Again
                }
                State::Chunked(_) => ready!(this.poll_chunked(cx))?,
                State::Upgrading => ready!(this.poll_upgrading(cx))?,
                State::Refused(_) if this.visit.is_in_flight() => ready!(this.poll_refused(cx))?,
                State::Refused(refusal) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, *refusal)));
                }
            };
            if let Flow::End = flow {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Doorman {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // hyper comes here only when its own buffer is empty.
        self.visit.flushed();
        Poll::Ready(Ok(()))
    }

    /// Only flushes: something may follow, and whoever takes the socket back ends it.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
