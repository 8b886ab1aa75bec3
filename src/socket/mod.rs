//! Every connection of a client or to the gateway: a TCP socket, and a TLS session beside it where there is one.
//!
//! Without TLS a connection is its socket and nothing more: no memory, no lock, no call between. `tls.rs` is the
//! session; it never holds back what it could send, so that backpressure is what it was: whoever sends waits
//! until what is encrypted has left.

mod tls;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

pub use self::tls::SESSION_BOUND;
use self::tls::Tls;

/// A peer that vanished is noticed after 90 s: of silence (keepalive: `IDLE + RETRIES * INTERVAL`), or since the first
/// byte that it did not acknowledge (`UNACKNOWLEDGED`). Both are the same time, because Linux applies the second limit to
/// keepalive probes, too. It also applies to a peer that is there and has taken nothing for this time, although data
/// waits for it.
const IDLE: Duration = Duration::from_secs(45);
const INTERVAL: Duration = Duration::from_secs(15);
const RETRIES: u32 = 3;
const UNACKNOWLEDGED: Duration = IDLE.saturating_add(INTERVAL.saturating_mul(RETRIES));

/// A connection.
pub struct Conn {
    tcp: TcpStream,
    tls: Option<Box<Tls>>,
}

/// Where the bytes of a peer end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// The peer said so: close_notify, or FIN where there is no TLS.
    Said,
    /// TLS, and FIN without close_notify: somebody on the way may have cut it.
    Missing,
}

impl Conn {
    /// A client's or the gateway's, without TLS.
    #[must_use]
    pub fn plain(tcp: TcpStream) -> Self {
        tune(&tcp);
        Self { tcp, tls: None }
    }

    /// A client's. The handshake takes place when it is first read from.
    ///
    /// # Errors
    /// The session can't be made.
    pub fn accepted(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        tune(&tcp);
        Ok(Self { tcp, tls: Some(Box::new(Tls::server(config)?)) })
    }

    /// To the gateway, as far as the TCP connection.
    ///
    /// # Errors
    /// The session can't be made.
    pub fn begun(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        tune(&tcp);
        Ok(Self { tcp, tls: Some(Box::new(Tls::client(config, name)?)) })
    }

    /// Completes the TLS handshake, if there is one.
    ///
    /// # Errors
    /// The connection broke, or one of the two does not accept the other ([`io::ErrorKind::InvalidData`] around a
    /// [`rustls::Error`]).
    pub async fn handshake(&mut self) -> io::Result<()> {
        let Self { tcp, tls } = self;
        let Some(tls) = tls else { return Ok(()) };
        let (mut tcp, _) = tcp.split();
        std::future::poll_fn(|cx| tls.poll_handshake(&mut tcp, cx)).await
    }

    /// There is TLS, and its handshake has not come to its end.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Anything has come, even if it was only a part of a handshake; without TLS, nobody looks.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_heard())
    }

    /// Both directions, for one task.
    pub fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let tls = self.tls.as_deref();
        let (from, to) = self.tcp.split();
        (Reader { tcp: from, tls }, Writer { tcp: to, tls })
    }

    /// When this is dropped, the peer sees a reset.
    pub fn reset(&self) {
        // On a connection that is gone already there is nothing to reset.
        let _ = self.tcp.set_zero_linger();
    }
}

/// What comes from a peer. Its end is an end, whether the peer said goodbye or not: see [`Reader::goodbye`].
pub struct Reader<'a> {
    tcp: ReadHalf<'a>,
    tls: Option<&'a Tls>,
}

impl Reader<'_> {
    /// Resolves when the connection is reset.
    pub async fn broke(&self) {
        // An error of the watching itself would say no less.
        let _ = self.tcp.as_ref().ready(Interest::ERROR).await;
    }

    /// How a peer that has ended did so.
    #[must_use]
    pub fn goodbye(&self) -> Goodbye {
        self.tls.map_or(Goodbye::Said, Tls::goodbye)
    }
}

impl AsyncRead for Reader<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, tls } = self.get_mut();
        match tls {
            None => Pin::new(tcp).poll_read(cx, out),
            Some(tls) => tls.poll_read(tcp, cx, out).map(|read| match read {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                read => read,
            }),
        }
    }
}

/// What goes to a peer.
pub struct Writer<'a> {
    tcp: WriteHalf<'a>,
    tls: Option<&'a Tls>,
}

impl Writer<'_> {
    /// Sends as much as is taken at once; nothing, while something encrypted is still waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where nothing is taken; otherwise the connection is broken.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.tls {
            None => self.tcp.try_write(bytes),
            Some(tls) => tls.try_write(self.tcp.as_ref(), &mut [IoSlice::new(bytes)]),
        }
    }

    /// The same for two pieces.
    ///
    /// # Errors
    /// See [`Writer::try_write`].
    pub fn try_write_both(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let mut slices = [IoSlice::new(first), IoSlice::new(second)];
        match self.tls {
            None => self.tcp.try_write_vectored(&slices),
            Some(tls) => tls.try_write(self.tcp.as_ref(), &mut slices),
        }
    }

    /// Something that was taken is encrypted and has not left; an empty [`Writer::try_write`] sends it.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.tls.is_some_and(Tls::is_pending)
    }

    /// Resolves when more may be taken.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() || self.is_pending() {
            match self.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Box::pin(self.writable()).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says TLS's goodbye behind all that was taken; it may be [pending](Self::is_pending) then, and nothing more is
    /// taken. Where the goodbye of what is relayed was missing, none is said here either: a peer with TLS sees that
    /// something may be missing, as it would have seen it before.
    pub fn say_goodbye(&self, goodbye: Goodbye) {
        if let Some(tls) = self.tls
            && goodbye == Goodbye::Said
        {
            tls.say_goodbye();
        }
    }

    /// Ends this direction; nothing may be pending.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn end(&mut self) -> io::Result<()> {
        self.tcp.shutdown().await
    }
}

/// For HTTP, where an end without a goodbye is an error: it may be all that says where a body ends.
impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, tls } = self.get_mut();
        match tls {
            None => Pin::new(tcp).poll_read(cx, out),
            Some(tls) => tls.poll_read(&mut tcp.split().0, cx, out),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { tcp, tls } = self.get_mut();
        match tls {
            None => Pin::new(tcp).poll_write(cx, bytes),
            Some(tls) => tls.poll_write(tcp, cx, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { tcp, tls } = self.get_mut();
        match tls {
            None => Pin::new(tcp).poll_write_vectored(cx, slices),
            Some(tls) => tls.poll_write(tcp, cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, tls } = self.get_mut();
        match tls {
            None => Pin::new(tcp).poll_flush(cx),
            Some(tls) => tls.poll_send(tcp, cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, tls } = self.get_mut();
        if let Some(tls) = tls {
            tls.say_goodbye();
            std::task::ready!(tls.poll_send(tcp, cx))?;
        }
        Pin::new(tcp).poll_shutdown(cx)
    }
}

/// Small frames do not wait for each other's acknowledgement, and peers that are gone do not keep their place.
fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(RETRIES);
    // Where these fail, the connection is gone already, and reading will say so.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux", target_os = "cygwin"))]
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn both_sides_notice_a_peer_that_vanished_within_two_minutes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to_gateway = Conn::plain(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let of_client = Conn::plain(listener.accept().await.unwrap().0);
        for conn in [to_gateway, of_client] {
            let socket = SockRef::from(&conn.tcp);
            let silent = socket.tcp_keepalive_time().unwrap()
                + socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
            assert!(socket.keepalive().unwrap() && silent <= Duration::from_secs(120));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(silent));
        }
    }
}
