//! The side door: metrics, health and the status page, on a listener of its own.

mod places;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::places::Places;
use crate::drain::{Drain, Phase};
use crate::metrics::Metrics;
use crate::status::Status;
use crate::upstream::{Route, Unreachable};

/// Connections at one time; a further one replaces the connection that has been idle for the longest time.
pub const CONNECTIONS: usize = 64;
/// Time for a request's head, and for the pause between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the peer to read an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory for one connection's head.
const BUFFER: usize = 16 * 1024;
/// How long the result of a probe of the gateway is used, so that probes are no load for it.
const PROBE_HOLDS: Duration = Duration::from_secs(1);
/// How long an answer waits for a probe while the result of the one before is known: orchestrators give up after a second
/// by default. The probe itself has as much time as a client's connection.
const PROBE_WAIT: Duration = Duration::from_millis(800);
/// Pause after an error of accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

const INDEX: &str = "seqgate\n\n/            the status page\n/api/status  the same as JSON\n/metrics     Prometheus metrics\n/livez       is the process alive\n/readyz      does the gateway accept connections, and may clients come\n";

/// Whether the gateway accepts connections, and if not, why.
type Probed = Result<(), Arc<Unreachable>>;

/// What the side door shows.
pub struct Admin {
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    drain: Arc<Drain>,
    upstream: Route,
    connect_timeout: Duration,
    /// The last result of a probe of the gateway.
    probed: watch::Sender<Option<(Instant, Probed)>>,
    is_probing: AtomicBool,
}

impl Admin {
    /// An admin server for these.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        status: Arc<Status>,
        drain: Arc<Drain>,
        upstream: Route,
        connect_timeout: Duration,
    ) -> Self {
        Self {
            metrics,
            status,
            drain,
            upstream,
            connect_timeout,
            probed: watch::Sender::default(),
            is_probing: AtomicBool::new(false),
        }
    }

    /// Serves until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let places = Places::new(CONNECTIONS);
        let mut server = hyper::server::conn::http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER);
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let place = Arc::new(places.take().await);
            let (admin, answering) = (Arc::clone(&self), Arc::clone(&place));
            let service = service_fn(move |request| {
                let (admin, busy) = (Arc::clone(&admin), answering.busy());
                async move {
                    let response = admin.answer(&request).await;
                    drop(busy);
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = server.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                tokio::select! {
                    result = connection => if let Err(error) = result {
                        tracing::debug!(%error, "an admin connection ended with an error");
                    },
                    () = place.expired(HEADER_TIMEOUT + ANSWER_TIMEOUT) => {
                        tracing::debug!("an admin connection was closed: idle, slow, or replaced by a new one");
                    }
                }
            });
        }
    }

    async fn answer<B>(self: &Arc<Self>, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/" => self.page().await,
            "/api/status" => {
                let report = self.status.report(self.reachable().await).json();
                text(StatusCode::OK, JSON, format!("{report}\n"))
            }
            "/metrics" => text(StatusCode::OK, prometheus::TEXT_FORMAT, self.metrics.render()),
            "/livez" => text(StatusCode::OK, JSON, "{\"alive\":true}\n"),
            "/readyz" => match self.readiness().await {
                Ok(()) => text(StatusCode::OK, JSON, "{\"ready\":true}\n"),
                Err(reason) => {
                    let reason = serde_json::Value::from(reason);
                    let body = format!("{{\"ready\":false,\"reason\":{reason}}}\n");
                    text(StatusCode::SERVICE_UNAVAILABLE, JSON, body)
                }
            },
            _ => text(StatusCode::NOT_FOUND, TEXT, INDEX),
        }
    }

    /// The status page: what it brings along may run and nothing else, and it may ask nobody but this server.
    async fn page(self: &Arc<Self>) -> Response<Full<Bytes>> {
        let mut random = [0; 16];
        if let Err(error) = getrandom::fill(&mut random) {
            let line = format!("the system gives no random numbers: {error}\n");
            return text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, line);
        }
        let nonce = format!("{:032x}", u128::from_ne_bytes(random));
        let page = self.status.report(self.reachable().await).html(&nonce);
        let mut response = text(StatusCode::OK, HTML, page);
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let headers = response.headers_mut();
        // Hex digits are always a lawful value.
        if let Ok(policy) = HeaderValue::try_from(policy) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }

    /// Whether clients may come, and if not, why.
    async fn readiness(self: &Arc<Self>) -> Result<(), String> {
        match self.drain.phase() {
            Phase::Starting => return Err("starting".to_owned()),
            Phase::Draining | Phase::Closing => return Err("draining".to_owned()),
            Phase::Serving => {}
        }
        // A probe may take as long as a client's connection; a drain that begins meanwhile is reported at once.
        let mut draining = self.drain.subscribe();
        tokio::select! {
            biased;
            () = draining.reached(Phase::Draining) => Err("draining".to_owned()),
            reachable = self.reachable() => reachable.map_err(|why| why.to_string()),
        }
    }

    /// Whether the gateway accepts connections, and if not, why. All requests share one probe. Until a probe that takes
    /// long is over, the last result holds, as clients would be waiting too.
    async fn reachable(self: &Arc<Self>) -> Probed {
        let mut probed = self.probed.subscribe();
        let mut last = probed.borrow_and_update().clone();
        if last.as_ref().is_none_or(|(at, _)| at.elapsed() >= PROBE_HOLDS) {
            if !self.is_probing.swap(true, AcqRel) {
                tokio::spawn(Arc::clone(self).probe());
            }
            let wait = if last.is_some() { PROBE_WAIT } else { Duration::MAX };
            // The sender is in `self`: it is not closed.
            if let Ok(Ok(())) = timeout(wait, probed.changed()).await {
                last = probed.borrow().clone();
            }
        }
        last.map_or(Ok(()), |(_, result)| result)
    }

    /// Connects to the gateway with the same time limit as for clients.
    async fn probe(self: Arc<Self>) {
        let connected = self.upstream.connect(self.connect_timeout).await;
        let result = connected.map(drop).map_err(Arc::new);
        self.probed.send_replace(Some((Instant::now(), result)));
        self.is_probing.store(false, Release);
    }
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
