//! Request targets that hyper refuses, or writes in another form. hyper gets a path of the same length in their place
//! (`doorman.rs`); here the connection to the gateway puts the original bytes back.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::Uri;
use hyper::http::Extensions;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::gateway_io::GatewayIo;
use super::strict;
use crate::socket::Conn;

/// The original target of a request: an extension of the request that hyper hands out.
#[derive(Clone)]
pub(super) struct Target(Bytes);

impl Target {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

/// What was replaced in the head of a request.
#[derive(Default)]
pub(super) struct Original {
    /// The target, where it was replaced.
    pub(super) target: Option<Target>,
    /// The version was HTTP/1.0 and is HTTP/1.1 now.
    pub(super) is_http_1_0: bool,
}

/// The path of a request as the client has written it.
pub(super) fn path<'a>(uri: &'a Uri, extensions: &'a Extensions) -> &'a [u8] {
    match extensions.get::<Target>() {
        Some(Target(target)) => strict::path(target),
        None => uri.path().as_bytes(),
    }
}

/// A connection to the gateway.
pub(super) struct Outbound {
    conn: GatewayIo,
    state: State,
}

enum State {
    /// Nothing has been written; the first request gets this target.
    Start(Bytes),
    /// So many bytes of the first request, then the target in place of as many bytes of hyper's.
    Target(usize, Bytes),
    Passing,
}

impl Outbound {
    pub(super) fn new(conn: Conn, target: Option<Target>) -> Self {
        Self {
            conn: GatewayIo::new(conn),
            state: target.map_or(State::Passing, |Target(target)| State::Start(target)),
        }
    }

    pub(super) fn into_inner(self) -> Conn {
        self.conn.into_inner()
    }

    /// Writes the first request up to the end of its target. hyper hands out a head in one piece.
    fn poll_write_target(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let State::Start(target) = &self.state
            && let Some(space) = memchr::memchr(b' ', bytes)
        {
            self.state = State::Target(space + 1, target.clone());
        }
        let State::Target(before, target) = &mut self.state else {
            return Pin::new(&mut self.conn).poll_write(cx, bytes);
        };
        if *before > 0 {
            let n = ready!(Pin::new(&mut self.conn).poll_write(cx, &bytes[..bytes.len().min(*before)]))?;
            *before -= n;
            return Poll::Ready(Ok(n));
        }
        let n = ready!(Pin::new(&mut self.conn).poll_write(cx, &target[..bytes.len().min(target.len())]))?;
        target.advance(n);
        if target.is_empty() {
            self.state = State::Passing;
        }
        Poll::Ready(Ok(n))
    }
}

impl AsyncRead for Outbound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_read(cx, out)
    }
}

impl AsyncWrite for Outbound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.state {
            State::Passing => Pin::new(&mut self.conn).poll_write(cx, bytes),
            _ => self.poll_write_target(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.state {
            State::Passing => Pin::new(&mut self.conn).poll_write_vectored(cx, slices),
            _ => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                self.poll_write_target(cx, first.map_or(&[], |slice| slice))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.conn.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_shutdown(cx)
    }
}
