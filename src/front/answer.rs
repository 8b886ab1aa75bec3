//! Answers of seqgate's own: JSON that says why, never what anybody sent.

use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, timeout};

use super::body::Body;
use super::strict::Refusal;
use crate::metrics::{Label, Rejection};
use crate::socket::Conn;
use crate::upstream::Unreachable;

/// How long a client that was turned away may take to read why.
const LINGER: Duration = Duration::from_secs(1);
/// What it may still send meanwhile, in bytes.
const LINGER_BYTES: u64 = 1024 * 1024;
/// Seconds after which a client that met a limit may try again.
const RETRY_SECONDS: u32 = 1;

/// Why seqgate answers itself.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) status: StatusCode,
    pub(super) rejection: Rejection,
    pub(super) message: String,
    /// Seconds.
    pub(super) retry_after: Option<u32>,
}

impl Own {
    pub(super) fn refusal(refusal: Refusal) -> Self {
        let (status, rejection) = match refusal {
            Refusal::Bad(_) => (StatusCode::BAD_REQUEST, Rejection::BadRequest),
            Refusal::TooLarge | Refusal::TooManyLines => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Rejection::HeaderTooLarge)
            }
            Refusal::Timeout => (StatusCode::REQUEST_TIMEOUT, Rejection::HeaderTimeout),
        };
        Self { status, rejection, message: refusal.to_string(), retry_after: None }
    }

    pub(super) fn bad_gateway(message: &str) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            rejection: Rejection::BadGateway,
            message: message.to_owned(),
            retry_after: None,
        }
    }

    pub(super) fn broken_off() -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            rejection: Rejection::BadRequest,
            message: "the request broke off in its body".to_owned(),
            retry_after: None,
        }
    }

    pub(super) fn unreachable(why: &Unreachable) -> Self {
        let rejection = match why {
            Unreachable::Timeout(_) | Unreachable::NameTimeout(..) => Rejection::ConnectTimeout,
            Unreachable::Failed(_) | Unreachable::Name(..) => Rejection::Unreachable,
            Unreachable::Handshake(_) => Rejection::UpstreamTls,
        };
        Self { status: StatusCode::BAD_GATEWAY, rejection, message: why.to_string(), retry_after: None }
    }

    pub(super) fn limit() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            rejection: Rejection::Limit,
            message: "all connections are in use (SEQGATE_MAX_CONNECTIONS)".to_owned(),
            retry_after: Some(RETRY_SECONDS),
        }
    }

    fn json(&self) -> String {
        // The messages are seqgate's own, but a system's error text is among them.
        let message = serde_json::Value::from(self.message.as_str());
        format!(
            "{{\"error\":{{\"source\":\"seqgate\",\"code\":\"{}\",\"message\":{message}}}}}\n",
            self.rejection.name()
        )
    }

    /// As an answer of hyper's.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Either::Left(Full::new(Bytes::from(self.json()))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status.is_client_error() {
            // What was refused can't be told from what follows it.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    /// As the last bytes on a connection without hyper.
    pub(super) async fn write(&self, stream: &mut Conn) {
        let body = self.json();
        let retry = self.retry_after.map(|s| format!("retry-after: {s}\r\n")).unwrap_or_default();
        let text = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n{retry}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.status.as_u16(),
            self.status.canonical_reason().unwrap_or_default(),
            body.len(),
        );
        let told = async {
            stream.handshake().await?;
            stream.write_all(text.as_bytes()).await?;
            stream.flush().await
        };
        // A client that does not take it is left.
        let _ = timeout(LINGER, told).await;
        linger(stream).await;
    }
}

/// Ends a connection behind its last answer: closing with unread bytes would reset it, and the reset overtake
/// the answer.
pub(super) async fn linger(stream: &mut Conn) {
    let rest = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    let _ = timeout(LINGER, rest).await;
}
