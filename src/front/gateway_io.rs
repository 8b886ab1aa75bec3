//! The gateway's connection under hyper's client: an answer that has arrived takes precedence over a failed write.
//!
//! hyper reports a write error at once, even when the answer is in the socket's receive buffer, and it takes an answer
//! that arrives before the request for an error. A gateway may do both: answer an upload early and close, or answer
//! when it accepts. Linux keeps the received bytes readable after a reset.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::Conn;

pub(super) struct GatewayIo {
    conn: Conn,
    has_written: bool,
    /// A read that waits for the first write.
    reader: Option<Waker>,
    /// The first write error. All later bytes are discarded.
    write_error: Option<io::ErrorKind>,
}

impl GatewayIo {
    pub(super) fn new(conn: Conn) -> Self {
        Self { conn, has_written: false, reader: None, write_error: None }
    }

    pub(super) fn into_inner(self) -> Conn {
        self.conn
    }

    /// Writes with `write` until it fails; from then on every write succeeds with `discarded`.
    fn poll_unless_failed<T>(
        &mut self,
        cx: &mut Context<'_>,
        discarded: T,
        write: impl FnOnce(Pin<&mut Conn>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.write_error.is_none() {
            match ready!(write(Pin::new(&mut self.conn), cx)) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(error) => self.write_error = Some(error.kind()),
            }
        }
        Poll::Ready(Ok(discarded))
    }

    fn note_write(&mut self) {
        self.has_written = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl AsyncRead for GatewayIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.has_written {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut this.conn).poll_read(cx, out))?;
        match this.write_error {
            // The socket reports an error once, and the write has taken it: what follows looks like FIN. It was one only
            // where the peer had closed before the reset (EPIPE, tcp_reset in the kernel).
            Some(kind) if kind != io::ErrorKind::BrokenPipe && out.filled().len() == before => {
                Poll::Ready(Err(kind.into()))
            }
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for GatewayIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.note_write();
        this.poll_unless_failed(cx, bytes.len(), |conn, cx| conn.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.note_write();
        let all = slices.iter().map(|slice| slice.len()).sum();
        this.poll_unless_failed(cx, all, |conn, cx| conn.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.conn.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unless_failed(cx, (), Conn::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unless_failed(cx, (), Conn::poll_shutdown)
    }
}
