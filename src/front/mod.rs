//! The door to clients: connections are accepted, requests checked, attributed and passed on, upgrades handed
//! to the relay.
//!
//! One client connection is one task. `doorman.rs` lets whole, unambiguous requests through to hyper, `lawful.rs` such
//! answers to the client; `headers.rs` decides which headers the gateway gets, `identity.rs` lists headers that name
//! users, `target.rs` keeps request targets as they came; `forward.rs` streams requests (`body.rs`: their bodies and
//! those of the answers; `gateway_io.rs`: the connection under hyper's client), `start.rs` holds back those that start
//! too many runs, `upgrade.rs` asks for
//! upgrades; `answer.rs` is what seqgate says itself; `traffic.rs` counts.

mod answer;
mod body;
mod doorman;
mod forward;
mod gateway_io;
mod headers;
mod identity;
mod lawful;
mod start;
mod strict;
mod target;
mod traffic;
mod upgrade;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::answer::Own;
use self::body::Body;
use self::doorman::{Doorman, Place, Visit};
use self::forward::{Kept, Line, Task};
pub use self::identity::{HeaderPattern, IdentityHeaders};
use self::target::{Outbound, Target};
use self::traffic::Traffic;
use crate::credentials::Identity;
use crate::drain::{Draining, Phase};
use crate::metrics::{Class, Rejection};
use crate::relay::{Caller, Context, Protocol, Relay, Side};
use crate::socket::Conn;
use crate::telemetry::Seldom;
use crate::upstream::{Route, Unreachable};

/// Buffer of hyper for one direction of a connection; a head of 64 KiB has to fit.
const HTTP_BUFFER: usize = 128 * 1024;
/// Clients that are told at one time that there is no room; more are closed without a word.
pub const TURNED_AWAY: usize = 64;
/// The longest pause after an error of accept, for instance when there are no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What a header line costs at most besides its bytes, in bytes: its place in hyper's tables while it is read, and
/// in the request's map, its copy for a second try and the answer's.
const LINE_BYTES: usize = 384;

/// What a connection can hold in memory at most while it speaks HTTP, in bytes: a head, the original of its target, its
/// lines, and hyper's buffers for both directions on both sides.
pub const HTTP_BOUND: usize =
    4 * HTTP_BUFFER + 2 * strict::MAX_HEAD + strict::MAX_LINES * LINE_BYTES + 32 * 1024;

/// What the front needs to know.
pub struct Settings {
    /// Where the gateway is.
    pub upstream: Route,
    /// Who clients are to find here, if they speak TLS.
    pub identity: Option<Arc<Identity>>,
    /// Connections at one time.
    pub max_connections: usize,
    /// Time for a connection to the gateway.
    pub connect_timeout: Duration,
    /// Time for a request's head.
    pub header_timeout: Duration,
    /// Proxies that are believed about their clients.
    pub trusted_proxies: Vec<IpNet>,
    /// Headers that name users, which only those proxies may set.
    pub identity_headers: Arc<IdentityHeaders>,
    /// Path prefixes of WebSockets that are not judged.
    pub tunnel_paths: Vec<String>,
}

/// The front: what all its connections share.
pub struct Front {
    settings: Settings,
    relay: Arc<Context>,
    room: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    unreachable: Seldom,
    unaccepted: Seldom,
    /// Connections so far.
    arrivals: AtomicU64,
    server: hyper::server::conn::http1::Builder,
    client: hyper::client::conn::http1::Builder,
}

/// One client connection.
struct Guest {
    /// No other connection has had it.
    number: u64,
    peer: IpAddr,
    visit: Arc<Visit>,
    kept: Kept,
    traffic: Arc<Traffic>,
    relay: Mutex<Option<(Side, Protocol, Caller)>>,
}

impl Guest {
    fn leave_for_relay(&self, gateway: Side, protocol: Protocol, caller: Caller) {
        self.traffic.is_relayed();
        *lock(&self.relay) = Some((gateway, protocol, caller));
    }

    fn take_relay(&self) -> Option<(Side, Protocol, Caller)> {
        lock(&self.relay).take()
    }
}

impl Front {
    /// A front for a gateway.
    #[must_use]
    pub fn new(settings: Settings, relay: Arc<Context>) -> Self {
        let mut server = hyper::server::conn::http1::Builder::new();
        server
            .preserve_header_case(true)
            .auto_date_header(false)
            .header_read_timeout(None)
            .max_headers(strict::MAX_LINES)
            .max_buf_size(HTTP_BUFFER);
        let mut client = hyper::client::conn::http1::Builder::new();
        client.preserve_header_case(true).max_headers(strict::MAX_LINES).max_buf_size(HTTP_BUFFER);
        Self {
            room: Arc::new(Semaphore::new(settings.max_connections)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
            unreachable: Seldom::default(),
            unaccepted: Seldom::default(),
            arrivals: AtomicU64::default(),
            settings,
            relay,
            server,
            client,
        }
    }

    /// Accepts clients until the drain begins.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, draining: Draining) {
        let mut pause = Duration::ZERO;
        let mut end = draining.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = end.reached(Phase::Draining) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = Duration::ZERO;
                    self.welcome(stream, peer, &draining);
                }
                Err(error) if is_about_one_client(&error) => {}
                Err(error) => {
                    pause = (pause * 2).clamp(Duration::from_millis(10), ACCEPT_PAUSE);
                    if let Some(unsaid) = self.unaccepted.ask() {
                        tracing::warn!(%error, unsaid, "no connection could be accepted");
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn welcome(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, draining: &Draining) {
        let conn = match &self.settings.identity {
            None => Ok(Conn::plain(stream)),
            Some(identity) => Conn::accepted(stream, identity.current()),
        };
        // Not reached: what was loaded makes sessions.
        let Ok(mut conn) = conn else { return };
        if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
            tokio::spawn(Arc::clone(self).connection(conn, peer, draining.clone(), permit));
            return;
        }
        let answer = Own::limit();
        self.relay.metrics.reject(answer.rejection);
        if let Ok(permit) = Arc::clone(&self.turned_away).try_acquire_owned() {
            tokio::spawn(async move {
                answer.write(&mut conn).await;
                drop(permit);
            });
        }
    }

    async fn connection(
        self: Arc<Self>,
        conn: Conn,
        peer: SocketAddr,
        draining: Draining,
        _permit: OwnedSemaphorePermit,
    ) {
        let _seat = self.relay.metrics.seat();
        let visit = Arc::new(Visit::default());
        let number = self.arrivals.fetch_add(1, Relaxed);
        let guest = Arc::new(Guest {
            number,
            peer: peer.ip(),
            visit: Arc::clone(&visit),
            kept: Kept::default(),
            traffic: Arc::new(Traffic::new(&self.relay.metrics, peer.ip())),
            relay: Mutex::default(),
        });
        let doorman = Doorman::new(conn, visit, self.settings.header_timeout);
        // In memory of its own, which the relay does not need.
        let http = Box::pin(self.serve_http(doorman, &guest, draining.clone()));
        let Some(client) = http.await else { return };
        if client.stream.is_handshaking() {
            if client.stream.has_heard() {
                self.relay.metrics.reject(Rejection::Handshake);
            }
            return;
        }
        if let Some((gateway, protocol, caller)) = guest.take_relay() {
            // What belongs to HTTP only is not kept for the time of the relay.
            drop(guest);
            let mut relay = Relay::new(&self.relay, client, gateway, protocol, caller);
            relay.run(draining).await;
        } else {
            self.end(&guest, client.stream).await;
            guest.kept.finish(draining).await;
        }
        self.relay.forget(number);
    }

    /// Ends a client's connection that no relay takes over.
    async fn end(&self, guest: &Guest, mut stream: Conn) {
        if let Some((refusal, Place::Head)) = guest.visit.refusal()
            && guest.visit.may_be_answered()
        {
            let answer = Own::refusal(refusal);
            tracing::debug!(peer = %guest.peer, reason = %answer.message, "a request was refused");
            self.relay.metrics.reject(answer.rejection);
            guest.traffic.answered(Class::ClientError);
            answer.write(&mut stream).await;
        } else if guest.visit.looks_whole() {
            stream.reset();
        } else {
            answer::linger(&mut stream).await;
        }
    }

    /// Serves requests until the connection ends, leaves HTTP, or brings one that is refused; then hands back
    /// the socket. `None` when the process ends.
    async fn serve_http(
        self: &Arc<Self>,
        doorman: Doorman,
        guest: &Arc<Guest>,
        mut draining: Draining,
    ) -> Option<Side> {
        let service = service_fn(|request| {
            let (front, guest) = (Arc::clone(self), Arc::clone(guest));
            Box::pin(async move { Ok::<_, io::Error>(front.request(&guest, request).await) })
        });
        let mut connection = self.server.serve_connection(TokioIo::new(doorman), service);
        let mut closing = draining.clone();
        let closing = closing.reached(Phase::Closing);
        let draining = draining.reached(Phase::Draining);
        tokio::pin!(closing, draining);
        let mut is_draining = false;
        loop {
            tokio::select! {
                biased;
                // Not without shutdown: only a shutdown makes hyper flush an answer given before its request had ended.
                result = &mut connection => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection ended with an error");
                    }
                    break;
                }
                () = &mut draining, if !is_draining => {
                    is_draining = true;
                    // It would put a word of its own into the answer to an upgrade.
                    if !guest.visit.is_upgrading() {
                        Pin::new(&mut connection).graceful_shutdown();
                    }
                }
                () = &mut closing => return None,
            }
        }
        let parts = connection.into_parts();
        let (stream, kept) = parts.io.into_inner().into_parts();
        Some(Side { stream, early: join(&parts.read_buf, &kept) })
    }

    /// How requests are attributed to clients.
    fn rules(&self) -> headers::Rules<'_> {
        headers::Rules {
            trusted: &self.settings.trusted_proxies,
            identity: &self.settings.identity_headers,
            scheme: if self.settings.identity.is_some() { "https" } else { "http" },
        }
    }

    async fn request(&self, guest: &Arc<Guest>, mut request: Request<Incoming>) -> Response<Body> {
        let mut outcome = Outcome { traffic: &guest.traffic, class: Class::Canceled };
        let original = guest.visit.take_original();
        if let Some(target) = original.target {
            request.extensions_mut().insert(target);
        }
        let asked = upgrade::asks(self, &request);
        if original.is_http_1_0 {
            *request.version_mut() = Version::HTTP_10;
        }
        let is_old = request.version() == Version::HTTP_10;
        guest.kept.settled().await;
        let result = match asked {
            Some(protocol) => upgrade::upgrade(self, guest, request, protocol).await,
            None => forward::forward(self, guest, request).await,
        };
        let mut response = result.unwrap_or_else(|own| {
            self.relay.metrics.reject(own.rejection);
            guest.visit.answered(true);
            own.response()
        });
        if is_old && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let is_sized = response.body().size_hint().exact().is_some();
            if !is_sized {
                guest.visit.ends_with_connection();
            }
            if !is_sized || original.is_http_1_0 || response.headers().contains_key(CONNECTION) {
                // Of another version, hyper would promise to keep the connection, or send chunks.
                *response.version_mut() = Version::HTTP_10;
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        outcome.class = class(&response);
        response
    }

    /// Says in the log that the gateway can't be reached, but not for every client that finds out.
    fn complain(&self, why: &Unreachable) {
        if let Some(unsaid) = self.unreachable.ask() {
            tracing::warn!(upstream = %self.settings.upstream, unsaid, "{why}");
        }
    }

    /// A connection to the gateway that speaks HTTP. Its first request is written with the target that is given, if one
    /// is.
    async fn connect_http(&self, target: Option<Target>) -> Result<Line, Own> {
        let connected = self.settings.upstream.connect(self.settings.connect_timeout).await;
        let (stream, time) = connected.map_err(|why| {
            self.complain(&why);
            Own::unreachable(&why)
        })?;
        self.relay.metrics.upstream_connect.observe(time.as_secs_f64());
        let handshake = self.client.handshake(TokioIo::new(Outbound::new(stream, target))).await;
        let (sender, connection) =
            handshake.map_err(|_| Own::bad_gateway("the gateway closed the connection at once"))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the gateway ended with an error");
            }
        });
        Ok(Line { sender, task: Task(task), unwanted: None })
    }
}

/// Counts a request when its handling ends, also where the client left and it was dropped.
struct Outcome<'a> {
    traffic: &'a Traffic,
    class: Class,
}

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        self.traffic.answered(self.class);
    }
}

fn class(response: &Response<Body>) -> Class {
    match response.status().as_u16() / 100 {
        1 => Class::Informational,
        2 => Class::Success,
        3 => Class::Redirection,
        4 => Class::ClientError,
        _ => Class::ServerError,
    }
}

/// Takes a lock. What these protect is whole at every moment, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of their own, which keep no larger buffer alive.
fn join(first: &[u8], second: &[u8]) -> Bytes {
    [first, second].concat().into()
}

/// A client that left before it was accepted says nothing about the next one (accept(2)).
fn is_about_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
