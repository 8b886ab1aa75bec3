//! The side door: metrics, health and the status page, on a listener of its own.

use std::convert::Infallible;
use std::sync::Arc;
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
use tokio::sync::{Mutex, Semaphore};

use crate::drain::{Drain, Phase};
use crate::metrics::Metrics;
use crate::status::Status;
use crate::upstream::Route;

/// Connections at one time; scrapes and probes need a few.
pub const CONNECTIONS: usize = 64;
/// Time for a request's head, and for the pause between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may last: who does not read must not keep others out.
const LIFETIME: Duration = Duration::from_secs(60);
/// Memory for one connection's head.
const BUFFER: usize = 16 * 1024;
/// How long an answer about the gateway holds, so that probes are no load for it.
const PROBE_HOLDS: Duration = Duration::from_secs(1);
/// Probes of orchestrators give up after a second by default.
const PROBE_TIMEOUT: Duration = Duration::from_millis(800);
/// Pause after an error of accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

const INDEX: &str = "seqgate\n\n/            the status page\n/api/status  the same as JSON\n/metrics     Prometheus metrics\n/livez       is the process alive\n/readyz      does the gateway accept connections, and may clients come\n";

/// What the side door shows.
pub struct Admin {
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    drain: Arc<Drain>,
    upstream: Route,
    connect_timeout: Duration,
    probed: Mutex<Option<(Instant, Result<(), String>)>>,
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
            connect_timeout: connect_timeout.min(PROBE_TIMEOUT),
            probed: Mutex::default(),
        }
    }

    /// Serves until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut server = hyper::server::conn::http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER);
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let admin = Arc::clone(&self);
            let service = service_fn(move |request| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.answer(&request).await) }
            });
            let connection = server.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                if let Ok(Err(error)) = tokio::time::timeout(LIFETIME, connection).await {
                    tracing::debug!(%error, "an admin connection ended with an error");
                }
                drop(permit);
            });
        }
    }

    async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
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
    async fn page(&self) -> Response<Full<Bytes>> {
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
    async fn readiness(&self) -> Result<(), String> {
        match self.drain.phase() {
            Phase::Starting => return Err("starting".to_owned()),
            Phase::Draining | Phase::Closing => return Err("draining".to_owned()),
            Phase::Serving => {}
        }
        self.reachable().await
    }

    /// Whether the gateway accepts connections, and if not, why.
    async fn reachable(&self) -> Result<(), String> {
        // Held while probing: many who ask at once share one probe.
        let mut probed = self.probed.lock().await;
        if let Some((at, result)) = &*probed
            && at.elapsed() < PROBE_HOLDS
        {
            return result.clone();
        }
        let result = match self.upstream.connect(self.connect_timeout).await {
            Ok(_) => Ok(()),
            Err(why) => Err(why.to_string()),
        };
        *probed = Some((Instant::now(), result.clone()));
        result
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
