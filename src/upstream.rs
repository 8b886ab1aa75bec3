//! The way to the gateway.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;

use crate::credentials::{Trust, Unusable};
use crate::socket::Conn;

/// Where the gateway listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// A name or an address; names are looked up for each connection.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Why there is no connection to the gateway.
#[derive(Debug)]
pub enum Unreachable {
    /// It was not accepted in time.
    Timeout(Duration),
    /// The name could not be looked up, or the connection was refused, or the like.
    Failed(io::Error),
    /// There was a connection, but the TLS handshake failed.
    Handshake(io::Error),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(time) => write!(f, "the gateway did not accept a connection within {time:?}"),
            Self::Failed(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                f.write_str("the gateway refused the connection: nothing listens on its port")
            }
            Self::Failed(error) => write!(f, "the gateway could not be reached: {error}"),
            Self::Handshake(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(error)) => {
                    write!(f, "the gateway's certificate is not accepted: {}", objection(error))
                }
                Some(rustls::Error::InvalidMessage(_)) => {
                    f.write_str("the gateway does not speak TLS on its port: try http:// in SEQGATE_UPSTREAM")
                }
                _ if error.kind() == io::ErrorKind::UnexpectedEof => {
                    f.write_str("the gateway closed the connection in the TLS handshake")
                }
                _ => write!(f, "the TLS handshake with the gateway failed: {error}"),
            },
        }
    }
}

/// What is wrong with a certificate.
fn objection(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "it is not from an authority that is trusted here".to_owned(),
        CertificateError::ApplicationVerificationFailure => {
            "its fingerprint is not that of SEQGATE_UPSTREAM_FINGERPRINT".to_owned()
        }
        error => error.to_string(),
    }
}

impl std::error::Error for Unreachable {}

/// The gateway's address, and whom to expect there.
#[derive(Clone)]
pub struct Route {
    upstream: Upstream,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Route {
    /// A route to a gateway; `trust` does not matter to one without TLS.
    ///
    /// # Errors
    /// There is nobody to trust, or no certificate could have the gateway's name.
    pub fn new(upstream: Upstream, trust: &Trust) -> Result<Self, Unusable> {
        let mut tls = None;
        if upstream.tls {
            let name = ServerName::try_from(upstream.host.clone()).map_err(|_| {
                Unusable::new("SEQGATE_UPSTREAM", &upstream.host, "no certificate can have this name")
            })?;
            tls = Some((Arc::new(trust.config()?), name));
        }
        Ok(Self { upstream, tls })
    }

    /// Connects to the gateway; says how long that took.
    ///
    /// # Errors
    /// It was not possible, or not within `limit`.
    pub async fn connect(&self, limit: Duration) -> Result<(Conn, Duration), Unreachable> {
        let start = Instant::now();
        match tokio::time::timeout(limit, self.attempt()).await {
            Ok(Ok(conn)) => Ok((conn, start.elapsed())),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(Unreachable::Timeout(limit)),
        }
    }

    async fn attempt(&self) -> Result<Conn, Unreachable> {
        let address = (self.upstream.host.as_str(), self.upstream.port);
        let tcp = TcpStream::connect(address).await.map_err(Unreachable::Failed)?;
        let Some((config, name)) = &self.tls else { return Ok(Conn::plain(tcp)) };
        let begun = Conn::begun(tcp, Arc::clone(config), name.clone()).map_err(io::Error::other);
        let mut conn = begun.map_err(Unreachable::Handshake)?;
        conn.handshake().await.map_err(Unreachable::Handshake)?;
        Ok(conn)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upstream.fmt(f)
    }
}
