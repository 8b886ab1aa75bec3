//! A TLS session beside a socket. rustls does no input or output of its own: here its records are carried between
//! the two.
//!
//! What is decrypted is handed out before more is read, and nothing is encrypted before what was has left, so a
//! session never holds more than [`SESSION_BOUND`].

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;

use super::Goodbye;

/// Bytes that are encrypted at once: four records. As long as any of them wait, no more are.
const SEND: usize = 64 * 1024;
/// The largest record as it is sent (RFC 5246, section 6.2.3: 18 KiB and its head), rounded up.
const RECORD: usize = 20 * 1024;
/// Encrypted bytes that are read at once at most.
const READ: usize = 128 * 1024;
/// So many are read where there is little room for them: as many as rustls takes at once beside any part of a record
/// of 16 KiB, out of its 18 KiB. What it does not take at once, it refuses while that record waits to be handed out.
const LEAST: usize = 2000;
/// rustls puts together handshake messages of so much. Only handshakes have such.
const HANDSHAKE: usize = 64 * 1024;
/// Keys, transcripts, certificates, tickets.
const STATE: usize = 32 * 1024;

/// What a session can hold in memory at most, in bytes: what waits to be sent, a handshake's message or a record
/// that is not complete, and a record that is decrypted and not handed out.
pub const SESSION_BOUND: usize = SEND + HANDSHAKE + RECORD + STATE;

thread_local! {
    // As the relay's buffer, shared by all connections of a worker thread, because it is empty between them.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// A session. Its lock is for two directions of one task, and never waited for.
pub(super) struct Tls(Mutex<Session>);

struct Session {
    rustls: Connection,
    goodbye: Goodbye,
    has_said_goodbye: bool,
    has_heard: bool,
}

impl Tls {
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::new(ServerConnection::new(config)?.into()))
    }

    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self::new(ClientConnection::new(config, name)?.into()))
    }

    fn new(mut rustls: Connection) -> Self {
        rustls.set_buffer_limit(Some(SEND));
        Self(Mutex::new(Session {
            rustls,
            goodbye: Goodbye::Said,
            has_said_goodbye: false,
            has_heard: false,
        }))
    }

    /// A panic elsewhere may have left a session half changed, but then nobody uses it any more.
    fn session(&self) -> MutexGuard<'_, Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.session().rustls.is_handshaking()
    }

    pub(super) fn has_heard(&self) -> bool {
        self.session().has_heard
    }

    pub(super) fn is_pending(&self) -> bool {
        self.session().rustls.wants_write()
    }

    pub(super) fn goodbye(&self) -> Goodbye {
        self.session().goodbye
    }

    pub(super) fn say_goodbye(&self) {
        let mut session = self.session();
        if !session.has_said_goodbye {
            session.has_said_goodbye = true;
            session.rustls.send_close_notify();
        }
    }

    pub(super) fn poll_handshake(
        &self,
        tcp: &mut ReadHalf<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(tcp.as_ref(), cx))?;
            if !self.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_fill(tcp, cx, LEAST, &mut ReadBuf::new(&mut [])))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// What the peer says; [`io::ErrorKind::UnexpectedEof`] where it ended without a goodbye.
    pub(super) fn poll_read(
        &self,
        tcp: &mut ReadHalf<'_>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_handshaking() {
            ready!(self.poll_handshake(tcp, cx))?;
        }
        let before = out.filled().len();
        while out.filled().len() == before && out.remaining() > 0 {
            match self.session().fetch(out) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                fetched => return Poll::Ready(fetched),
            }
            // There is room for all that is read, and for a record that was begun before.
            let most = out.remaining().saturating_sub(RECORD).clamp(LEAST, READ);
            ready!(self.poll_fill(tcp, cx, most, out))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the socket once, and decrypts; how much was read, 0 at the end.
    fn poll_fill(
        &self,
        tcp: &mut ReadHalf<'_>,
        cx: &mut Context<'_>,
        most: usize,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[..most]);
            ready!(Pin::new(&mut *tcp).poll_read(cx, &mut buffer))?;
            let mut session = self.session();
            if let Err(error) = session.decrypt(buffer.filled(), out) {
                // The peer is told why, if that is possible at once.
                let _ = session.send(tcp.as_ref());
                return Poll::Ready(Err(error));
            }
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Sends what is encrypted.
    pub(super) fn poll_send(&self, tcp: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.session().send(tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
            ready!(tcp.poll_write_ready(cx))?;
        }
    }

    pub(super) fn poll_write(
        &self,
        tcp: &TcpStream,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(tcp, cx))?;
        let mut session = self.session();
        let n = session.rustls.writer().write_vectored(slices)?;
        match session.send(tcp) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(n)),
        }
    }

    /// Encrypts and sends until the socket takes no more. What was encrypted counts as written.
    pub(super) fn try_write(&self, tcp: &TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.session();
        session.send(tcp)?;
        let mut written = 0;
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let n = session.rustls.writer().write_vectored(slices)?;
            written += n;
            IoSlice::advance_slices(&mut slices, n);
            match session.send(tcp) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

impl Session {
    /// Hands out what was decrypted before.
    fn fetch(&mut self, out: &mut ReadBuf<'_>) -> io::Result<()> {
        let part = out.remaining().min(RECORD);
        match self.rustls.reader().read(out.initialize_unfilled_to(part)) {
            Ok(n) => out.advance(n),
            Err(error) => {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    self.goodbye = Goodbye::Missing;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes what was read, nothing at the end, and hands out what it says as far as there is room.
    fn decrypt(&mut self, mut encrypted: &[u8], out: &mut ReadBuf<'_>) -> io::Result<()> {
        self.has_heard |= !encrypted.is_empty();
        loop {
            let n = self.rustls.read_tls(&mut encrypted)?;
            self.rustls
                .process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            while out.remaining() > 0 {
                let before = out.filled().len();
                match self.fetch(out) {
                    Ok(()) if out.filled().len() > before => {}
                    // The end is reported when it is asked for.
                    Ok(()) | Err(_) => break,
                }
            }
            // Behind a goodbye nothing is taken.
            if n == 0 || encrypted.is_empty() {
                return Ok(());
            }
        }
    }

    fn send(&mut self, tcp: &TcpStream) -> io::Result<()> {
        while self.rustls.wants_write() {
            self.rustls.write_tls(&mut Taking(tcp))?;
        }
        Ok(())
    }
}

/// What a socket takes at once.
struct Taking<'a>(&'a TcpStream);

impl Write for Taking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
