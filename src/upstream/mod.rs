//! Connects to the gateway: `names.rs` resolves its name, `race.rs` tries its addresses, `tls.rs` words TLS
//! errors.

mod names;
mod race;
mod tls;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::names::Names;
use crate::credentials::{Trust, Unusable};
use crate::socket::Conn;

/// Where the gateway listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// A name or an address; names are resolved for each connection.
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
    /// The connection was refused, or the like.
    Failed(io::Error),
    /// The gateway's name does not resolve.
    Name(String, Arc<io::Error>),
    /// The resolver did not answer in time.
    NameTimeout(String, Duration),
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
            Self::Name(host, error) => write!(
                f,
                "the name {host:?} could not be resolved: {error} (check the host in SEQGATE_UPSTREAM and the DNS server)"
            ),
            Self::NameTimeout(host, time) => {
                write!(
                    f,
                    "the name {host:?} could not be resolved within {time:?}: the DNS server does not answer"
                )
            }
            Self::Handshake(error) => f.write_str(&tls::sentence(error)),
        }
    }
}

impl std::error::Error for Unreachable {}

impl Unreachable {
    /// Its name was not resolved, so that nothing is known of the gateway itself.
    #[must_use]
    pub fn is_name(&self) -> bool {
        matches!(self, Self::Name(..) | Self::NameTimeout(..))
    }
}

/// The gateway's address, and whom to expect there.
#[derive(Clone)]
pub struct Route {
    upstream: Upstream,
    /// `None` where the gateway is given by its address.
    names: Option<Arc<Names>>,
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
        let is_name = upstream.host.parse::<IpAddr>().is_err();
        let names = is_name.then(|| Names::new(upstream.host.clone(), upstream.port));
        Ok(Self { upstream, names, tls })
    }

    /// Connects to the gateway; says how long that took.
    ///
    /// # Errors
    /// It was not possible, or not within `limit`.
    pub async fn connect(&self, limit: Duration) -> Result<(Conn, Duration), Unreachable> {
        let start = Instant::now();
        let addresses = match (&self.names, self.upstream.host.parse::<IpAddr>()) {
            (Some(names), _) => race::order(&names.resolve(limit).await?, names.worked()),
            (None, Ok(ip)) => vec![(ip, self.upstream.port).into()],
            (None, Err(_)) => Vec::new(),
        };
        let left = limit.saturating_sub(start.elapsed());
        let connected = match timeout(left, self.attempt(&addresses)).await {
            Ok(connected) => connected,
            Err(_) => Err(Unreachable::Timeout(limit)),
        };
        if let Some(names) = &self.names {
            names.set_worked(connected.as_ref().ok().map(|(_, address)| *address));
        }
        connected.map(|(conn, _)| (conn, start.elapsed()))
    }

    /// Connects to one of these addresses.
    async fn attempt(&self, addresses: &[SocketAddr]) -> Result<(Conn, SocketAddr), Unreachable> {
        let connect = async |address| Ok((TcpStream::connect(address).await?, address));
        let raced = race::race(addresses.iter().copied(), race::STAGGER, connect).await;
        let (tcp, address) = raced.map_err(|error: Option<io::Error>| {
            Unreachable::Failed(error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
        })?;
        let Some((config, name)) = &self.tls else { return Ok((Conn::plain(tcp), address)) };
        let begun = Conn::begun(tcp, Arc::clone(config), name.clone()).map_err(io::Error::other);
        let mut conn = begun.map_err(Unreachable::Handshake)?;
        conn.handshake().await.map_err(Unreachable::Handshake)?;
        Ok((conn, address))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upstream.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn route(addresses: Vec<SocketAddr>) -> Route {
        let resolver: names::Resolver = Box::new(move || {
            let addresses = addresses.clone();
            async move { Ok(addresses) }.boxed()
        });
        let names = Names::with("gw".to_owned(), LIMIT, LIMIT, resolver);
        let upstream = Upstream { tls: false, host: "gw".to_owned(), port: 1 };
        Route { upstream, names: Some(names), tls: None }
    }

    async fn refusing() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next_and_the_one_that_worked_comes_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let route = route(vec![refusing().await, good]);
        route.connect(LIMIT).await.unwrap();
        assert_eq!(route.names.as_ref().unwrap().worked(), Some(good));
        drop(listener);
        let error = route.connect(LIMIT).await.err().unwrap();
        assert!(error.to_string().contains("refused"), "{error}");
        assert_eq!(route.names.as_ref().unwrap().worked(), None);
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_named() {
        let error = route(Vec::new()).connect(LIMIT).await.err().unwrap();
        assert!(error.is_name() && error.to_string().contains("\"gw\""), "{error}");
    }
}
