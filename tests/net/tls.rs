//! TLS for both ends of the tests, by tokio-rustls, and certificates that are made when they are needed.
//!
//! The same tests run with TLS and without: `TEST_TLS` says on which sides seqgate speaks it (`clients`, `gateway`,
//! `both`); where it is not set, the tests of `tests/over_tls.rs` do on both, and all others on none.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Who speaks TLS with seqgate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    pub clients: bool,
    pub gateway: bool,
}

pub static SIDES: LazyLock<Sides> = LazyLock::new(|| {
    let asked = std::env::var("TEST_TLS").unwrap_or_default();
    let default = if env!("CARGO_CRATE_NAME") == "over_tls" { "both" } else { "none" };
    let asked = if asked.is_empty() { default } else { &asked };
    assert!(["none", "clients", "gateway", "both"].contains(&asked), "TEST_TLS is {asked:?}");
    Sides { clients: ["clients", "both"].contains(&asked), gateway: ["gateway", "both"].contains(&asked) }
});

/// Whose certificates the clients and seqgates of the tests accept.
pub static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("authority"));

/// A certificate with its key, in files of this test's own.
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub der: Vec<u8>,
}

/// Somebody who makes certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub file: PathBuf,
}

/// A place for a file that no other test uses.
pub fn place(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(module_path!().replace("::", "-"));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = place(&format!("{name}.pem"));
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// A certificate for 127.0.0.1 as it is usual; `change` makes it unusual.
    pub fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair {
            cert: place(&format!("{name}.cert.pem")),
            key: place(&format!("{name}.key.pem")),
            der: certificate.der().to_vec(),
        };
        std::fs::write(&pair.cert, certificate.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}

impl Pair {
    /// As it stands in SEQGATE_UPSTREAM_FINGERPRINT.
    pub fn fingerprint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.der);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The files as settings.
    pub fn settings(&self) -> [(&str, &str); 2] {
        [("tls-cert", self.cert.to_str().unwrap()), ("tls-key", self.key.to_str().unwrap())]
    }

    /// The other end of a seqgate that connects to the gateway.
    pub fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::from_pem_file(&self.key).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        TlsAcceptor::from(Arc::new(config.with_single_cert(vec![self.der.clone().into()], key).unwrap()))
    }
}

/// A certificate that everybody accepts.
pub static GOOD: LazyLock<Pair> = LazyLock::new(|| AUTHORITY.issue("good", |_| {}));

/// How a usual client speaks.
pub fn client_config() -> ClientConfig {
    client_config_of(ClientConfig::builder())
}

/// The same by these versions of TLS.
pub fn client_config_of(builder: ConfigBuilder<ClientConfig, WantsVerifier>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.issuer.der().clone()).unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| Arc::new(client_config()));

/// What a seqgate before this gateway is told.
pub fn settings(gateway: SocketAddr) -> Vec<(&'static str, String)> {
    let scheme = if SIDES.gateway { "https" } else { "http" };
    let mut settings = vec![
        ("upstream", format!("{scheme}://{gateway}")),
        ("listen", "127.0.0.1:0".to_owned()),
        ("admin-listen", "127.0.0.1:0".to_owned()),
    ];
    if SIDES.gateway {
        settings.push(("upstream-ca", AUTHORITY.file.display().to_string()));
    }
    if SIDES.clients {
        settings.push(("tls-cert", GOOD.cert.display().to_string()));
        settings.push(("tls-key", GOOD.key.display().to_string()));
    }
    settings
}

/// Addresses where TLS is spoken.
static SPEAKERS: LazyLock<Mutex<HashSet<SocketAddr>>> = LazyLock::new(Mutex::default);

/// Notes whether TLS is spoken at an address; it may have been another's before.
pub fn note(address: SocketAddr, speaks: bool) {
    let mut speakers = SPEAKERS.lock().unwrap();
    if speaks {
        speakers.insert(address);
    } else {
        speakers.remove(&address);
    }
}

/// A client's side of a connection, as it is spoken there.
pub async fn client(tcp: TcpStream) -> io::Result<Wire> {
    let speaks = SPEAKERS.lock().unwrap().contains(&tcp.peer_addr()?);
    if !speaks {
        return Ok(Wire::Plain(tcp));
    }
    client_with(tcp, &CONFIG).await
}

/// A client's side with TLS.
pub async fn client_with(tcp: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Wire> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    Ok(Wire::Tls(Box::new(TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?.into())))
}

/// The gateway's side of a connection. Who comes without TLS does so past seqgate, and is spoken with as well.
pub async fn accept(tcp: TcpStream, acceptor: Option<&TlsAcceptor>) -> io::Result<Wire> {
    const HANDSHAKE: u8 = 22;
    let Some(acceptor) = acceptor else { return Ok(Wire::Plain(tcp)) };
    let mut first = [0];
    if tcp.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        return Ok(Wire::Plain(tcp));
    }
    Ok(Wire::Tls(Box::new(acceptor.accept(tcp).await?.into())))
}

/// A connection of raw bytes.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// What was shown at the other end.
    pub fn certificate(&self) -> Vec<u8> {
        let Self::Tls(tls) = self else { panic!("there is no TLS") };
        tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// The protocol that was agreed on.
    pub fn protocol(&self) -> Option<&[u8]> {
        let Self::Tls(tls) = self else { panic!("there is no TLS") };
        tls.get_ref().1.alpn_protocol()
    }

    pub fn into_split(self) -> (ReadHalf<Self>, WriteHalf<Self>) {
        tokio::io::split(self)
    }
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Wire::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Wire::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, out))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
