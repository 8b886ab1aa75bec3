//! The way to the gateway.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::socket;

/// Where the gateway listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// A name or an address; names are looked up for each connection.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "http://{}:{}", self.host, self.port)
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
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(time) => write!(f, "the gateway did not accept a connection within {time:?}"),
            Self::Failed(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                f.write_str("the gateway refused the connection: nothing listens on its port")
            }
            Self::Failed(error) => write!(f, "the gateway could not be reached: {error}"),
        }
    }
}

impl std::error::Error for Unreachable {}

/// Connects to the gateway; says how long that took.
///
/// # Errors
/// It was not possible, or not within `limit`.
pub async fn connect(upstream: &Upstream, limit: Duration) -> Result<(TcpStream, Duration), Unreachable> {
    let start = Instant::now();
    let attempt = async {
        let stream = TcpStream::connect((upstream.host.as_str(), upstream.port)).await?;
        socket::tune(&stream);
        Ok(stream)
    };
    match tokio::time::timeout(limit, attempt).await {
        Ok(Ok(stream)) => Ok((stream, start.elapsed())),
        Ok(Err(error)) => Err(Unreachable::Failed(error)),
        Err(_) => Err(Unreachable::Timeout(limit)),
    }
}
