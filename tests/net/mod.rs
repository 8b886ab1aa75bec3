//! What the network tests share: a gateway and a client of raw bytes, and a seqgate between them, all in this
//! process. Every wait is for a condition and ends with [`PATIENCE`], which no healthy machine needs.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod cable;
pub mod frames;
pub mod http;
pub mod program;
pub mod tls;

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use futures::FutureExt;
use seqgate::app::{Addresses, App};
use seqgate::config::{Config, Values};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use self::tls::{GOOD, SIDES, Wire};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);
/// Nothing being taken for so long is taken for backpressure.
const BLOCKED: Duration = Duration::from_millis(700);

/// Waits for something, but not for ever.
pub async fn patiently<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Looks until a condition holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    patiently(what, async {
        while !holds().await {
            sleep(LOOK).await;
        }
    })
    .await;
}

/// A seqgate in this process.
pub struct Seqgate {
    pub addresses: Addresses,
    pub config: Config,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Seqgate {
    /// Starts one in front of a gateway, with settings as flags.
    pub async fn start(gateway: SocketAddr, settings: &[(&str, &str)]) -> Self {
        let mut values = Values::default();
        let own = tls::settings(gateway);
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in own.chain(settings.iter().copied()) {
            values.flag(name, value.to_owned()).unwrap();
        }
        let config = Config::new(&values).unwrap();
        let app = App::bind(config.clone()).await.unwrap();
        let addresses = app.addresses();
        tls::note(addresses.listen, config.tls.is_some());
        tls::note(addresses.admin, false);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(app.run(async {
            // A test that drops its seqgate without a word leaves it running until the runtime ends.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Self { addresses, config, stop: Some(stop), task }
    }

    /// A new client.
    pub async fn connect(&self) -> Peer {
        Peer::connect(self.addresses.listen).await
    }

    /// Tells it to stop: the drain begins.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap();
        }
    }

    /// `run()` has returned.
    pub async fn ended(self) {
        patiently("run() to return", self.task).await.unwrap();
    }

    /// Status code and body of an admin page.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        page(self.addresses.admin, path).await
    }

    /// The value of a series, named as in the exposition: `seqgate_connections{kind="gateway"}`.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, page) = self.admin("/metrics").await;
        metric_in(&page, series).unwrap_or_else(|| panic!("no series {series}"))
    }

    /// Waits until the bytes from the gateway do not get more, while somebody still sends them.
    pub async fn blocks<T>(&self, sender: &JoinHandle<T>) {
        let mut last = f64::NAN;
        loop {
            sleep(BLOCKED).await;
            assert!(!sender.is_finished(), "somebody took all bytes");
            let now = self.metric(r#"seqgate_bytes_total{direction="to_client"}"#).await;
            if now == last {
                return;
            }
            last = now;
        }
    }

    /// Waits for a series to have a value.
    pub async fn metric_becomes(&self, series: &str, value: f64) {
        let mut last = f64::NAN;
        let seen = timeout(PATIENCE, async {
            while last != value {
                last = self.metric(series).await;
                sleep(LOOK).await;
            }
        });
        let reached = seen.await.is_ok();
        assert!(reached, "{series} is {last}, not {value}");
    }
}

/// Status code and body of an admin page.
pub async fn page(admin: SocketAddr, path: &str) -> (u16, String) {
    let mut peer = Peer::connect(admin).await;
    peer.send(format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")).await;
    let answer = peer.answer().await;
    (answer.status, String::from_utf8(answer.body).unwrap())
}

/// The value of a series on a metrics page, its labels in any order.
pub fn metric_in(page: &str, series: &str) -> Option<f64> {
    let wanted = name_and_labels(series);
    let lines = page.lines().filter_map(|line| line.rsplit_once(' '));
    lines.filter(|(name, _)| name_and_labels(name) == wanted).find_map(|(_, value)| value.parse().ok())
}

fn name_and_labels(series: &str) -> (&str, Vec<&str>) {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let mut labels: Vec<_> = labels.trim_end_matches('}').split(',').collect();
    labels.sort_unstable();
    (name, labels)
}

/// A gateway that does what the test says.
pub struct Gateway {
    listener: TcpListener,
    /// The same socket, to look without waiting.
    look: StdListener,
    pub address: SocketAddr,
    /// What it shows who connects, if it speaks TLS.
    pub tls: Option<TlsAcceptor>,
}

impl Gateway {
    pub async fn bind() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap())
    }

    fn on(std: StdListener) -> Self {
        let look = std.try_clone().unwrap();
        let listener = TcpListener::from_std(std).unwrap();
        let address = listener.local_addr().unwrap();
        let tls = SIDES.gateway.then(|| GOOD.acceptor());
        tls::note(address, false);
        Self { listener, look, address, tls }
    }

    /// One whose connections have kernel buffers of about this size for what they receive.
    pub async fn bind_small(bytes: usize) -> Self {
        let gateway = Self::bind().await;
        socket2::SockRef::from(&gateway.look).set_recv_buffer_size(bytes).unwrap();
        gateway
    }

    /// The next connection.
    pub async fn accept(&self) -> Peer {
        patiently("a connection to the gateway", self.accept_whenever()).await
    }

    /// The next connection, however long it takes to come.
    pub async fn accept_whenever(&self) -> Peer {
        loop {
            let tcp = self.listener.accept().await.unwrap().0;
            // Who left in the handshake is none.
            if let Ok(wire) = tls::accept(tcp, self.tls.as_ref()).await {
                return Peer::new(wire);
            }
        }
    }

    /// Whether nobody has connected since the last one that was accepted.
    pub fn is_untouched(&self) -> bool {
        match self.look.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            other => {
                other.unwrap();
                false
            }
        }
    }
}

/// An address on which nothing listens, and that nobody else can take meanwhile.
pub struct DeadAddress {
    socket: Socket,
    pub address: SocketAddr,
}

impl DeadAddress {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { socket, address }
    }

    /// A gateway begins to listen there.
    pub fn live(self) -> Gateway {
        self.socket.listen(128).unwrap();
        self.socket.set_nonblocking(true).unwrap();
        Gateway::on(self.socket.into())
    }
}

/// Open file descriptors of this process.
pub fn open_files() -> usize {
    open_files_of("self")
}

/// Open file descriptors of a process.
pub fn open_files_of(process: &str) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// Resident memory of this process, in bytes.
pub fn resident() -> u64 {
    resident_of("self")
}

/// Resident memory of a process, in bytes.
pub fn resident_of(process: &str) -> u64 {
    memory_of(process, "VmRSS:")
}

/// The most resident memory that a process ever had, in bytes.
pub fn peak_of(process: &str) -> u64 {
    memory_of(process, "VmHWM:")
}

fn memory_of(process: &str, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// One end of a connection, with what was read and not looked at.
pub struct Peer {
    pub stream: Wire,
    buffer: Vec<u8>,
    /// It has ended, with TLS, and without saying so: as whoever drops a connection does.
    pub is_cut: bool,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// With its empty line.
    pub head: String,
    /// Without the framing.
    pub body: Vec<u8>,
    pub trailers: String,
}

impl Peer {
    pub fn new(stream: Wire) -> Self {
        stream.tcp().set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new(), is_cut: false }
    }

    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    /// Connects, and does not mind if nobody wants that.
    pub async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        patiently("a connection", async { tls::client(TcpStream::connect(address).await?).await })
            .await
            .map(Self::new)
    }

    /// Connects with a kernel buffer of about this size for what it receives, so that backpressure shows early.
    pub async fn connect_small(address: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let tcp = TcpStream::from_std(socket.into()).unwrap();
        Self::new(patiently("a handshake", tls::client(tcp)).await.unwrap())
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends, and does not mind if the other side has gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        patiently("bytes to be taken", async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        })
        .await
    }

    /// Sends in segments that end at these places.
    pub async fn send_cut(&mut self, bytes: &[u8], cuts: &Cuts) {
        for piece in cuts.pieces(bytes) {
            self.send(piece).await;
        }
    }

    /// No more bytes come from here (FIN); the other direction stays open.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Resets the connection (RST).
    pub fn reset(self) {
        self.stream.tcp().set_zero_linger().unwrap();
    }

    /// Reads once; 0 at the end.
    async fn fill(&mut self, what: &str) -> io::Result<usize> {
        match timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await {
            Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                self.is_cut = true;
                Ok(0)
            }
            Ok(read) => read,
            Err(_) => panic!("waited in vain for {what}; so far {:?}", show(&self.buffer)),
        }
    }

    /// All up to and with a mark.
    pub async fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.buffer[seen..].windows(mark.len()).position(|window| window == mark) {
                return self.buffer.drain(..seen + at + mark.len()).collect();
            }
            seen = self.buffer.len().saturating_sub(mark.len());
            let what = String::from_utf8_lossy(mark).into_owned();
            if self.fill(&what).await.unwrap() == 0 {
                panic!("the connection ended before {what:?}; it had {:?}", show(&self.buffer));
            }
        }
    }

    /// A head with its empty line.
    pub async fn head(&mut self) -> String {
        String::from_utf8_lossy(&self.until(b"\r\n\r\n").await).into_owned()
    }

    /// A head, or none where the connection ends first.
    pub async fn head_or_end(&mut self) -> Option<String> {
        while !self.buffer.windows(4).any(|window| window == b"\r\n\r\n") {
            if self.fill("a head or the end").await.unwrap_or(0) == 0 {
                return None;
            }
        }
        Some(self.head().await)
    }

    /// An answer, with or without a 100 before it.
    pub async fn answer_behind_continue(&mut self) -> Answer {
        while !self.buffer.starts_with(b"HTTP/1.1 100") && self.buffer.len() < 12 {
            assert!(self.fill("an answer").await.unwrap() > 0);
        }
        if self.buffer.starts_with(b"HTTP/1.1 100") {
            self.head().await;
        }
        self.answer().await
    }

    /// Sends [`pattern`] until nothing has been taken for a while; how much was. A slow machine makes this
    /// number smaller, never larger.
    pub async fn push_until_blocked(&mut self, most: usize) -> usize {
        let mut sent = 0;
        while sent < most {
            let end = (sent + 64 * 1024).min(most);
            match timeout(BLOCKED, self.stream.write(&pattern(sent, end))).await {
                Ok(n) => sent += n.unwrap(),
                Err(_) => break,
            }
        }
        sent
    }

    /// So many bytes.
    pub async fn take(&mut self, n: usize) -> Vec<u8> {
        self.buffer.reserve(n.saturating_sub(self.buffer.len()));
        while self.buffer.len() < n {
            if self.fill(&format!("{n} bytes")).await.unwrap() == 0 {
                panic!("the connection ended before {n} bytes; it had {:?}", show(&self.buffer));
            }
        }
        self.buffer.drain(..n).collect()
    }

    /// Reads these bytes and no others.
    pub async fn expect(&mut self, bytes: &[u8]) {
        let seen = self.take(bytes.len()).await;
        assert_same(&seen, bytes, "");
    }

    /// All that comes before the end, and which end it is.
    pub async fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            match self.fill("the end").await {
                Ok(0) => return (std::mem::take(&mut self.buffer), End::Fin),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return (std::mem::take(&mut self.buffer), End::Reset);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Both directions by themselves.
    pub fn into_split(self) -> (Reader, WriteHalf<Wire>) {
        assert!(self.buffer.is_empty());
        let (reader, writer) = self.stream.into_split();
        (Reader(reader), writer)
    }

    /// The end, before which nothing may come.
    pub async fn end(&mut self) -> End {
        let (rest, end) = self.rest().await;
        assert!(rest.is_empty(), "{:?} came before the end", show(&rest));
        end
    }

    /// Waits for a reset that can come behind a FIN, where reading only says FIN again.
    pub async fn becomes_reset(&mut self, what: &str) {
        use tokio::io::Interest;
        let reset = timeout(PATIENCE, async {
            loop {
                let tcp = self.stream.tcp();
                if tcp.ready(Interest::ERROR).await.unwrap().is_error() {
                    return tcp.take_error().unwrap();
                }
            }
        });
        let error = reset.await.unwrap_or_else(|_| panic!("{what}: waited in vain for a reset"));
        let kind = error.map(|error| error.kind());
        assert!(matches!(kind, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)), "{what}: {kind:?}");
    }

    /// Whether nothing has arrived so far.
    pub fn is_silent(&mut self) -> bool {
        match self.stream.read_buf(&mut self.buffer).now_or_never() {
            None => self.buffer.is_empty(),
            Some(read) => {
                read.unwrap();
                false
            }
        }
    }

    /// An answer with its body.
    pub async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let status = status(&head);
        let mut trailers = String::new();
        let body = if value(&head, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            let mut body = Vec::new();
            loop {
                let chunk = self.chunk().await;
                if chunk.is_empty() {
                    break;
                }
                body.extend(chunk);
            }
            loop {
                let line = self.until(b"\r\n").await;
                if line == b"\r\n" {
                    break;
                }
                trailers.push_str(&String::from_utf8_lossy(&line));
            }
            body
        } else if let Some(length) = value(&head, "content-length") {
            self.take(length.parse().unwrap()).await
        } else {
            self.rest().await.0
        };
        Answer { status, head, body, trailers }
    }

    /// The next chunk of a chunked body, empty for the last, whose trailers are left to read.
    pub async fn chunk(&mut self) -> Vec<u8> {
        let line = self.until(b"\r\n").await;
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim_end(), 16).unwrap();
        if size == 0 {
            return Vec::new();
        }
        let mut chunk = self.take(size + 2).await;
        assert_eq!(chunk.split_off(size), b"\r\n");
        chunk
    }
}

/// What arrives at one end of a connection.
pub struct Reader(ReadHalf<Wire>);

impl Reader {
    /// All that comes before the end, and which end it is.
    pub async fn rest(mut self) -> (Vec<u8>, End) {
        let mut seen = Vec::new();
        match self.0.read_to_end(&mut seen).await {
            Ok(_) => (seen, End::Fin),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => (seen, End::Fin),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (seen, End::Reset),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The status code of a head.
pub fn status(head: &str) -> u16 {
    head.split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("no status in {head:?}"))
}

/// The value of a header line, its name in any case.
pub fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The first line of a head, and its header lines in an order of their own: two lines of one name keep theirs.
pub fn lines(head: &str) -> (String, Vec<String>) {
    let mut lines = head.trim_end_matches("\r\n").split("\r\n").map(str::to_owned);
    let first = lines.next().unwrap();
    let mut rest: Vec<String> = lines.collect();
    rest.sort_by_key(|line| line.split(':').next().unwrap().to_ascii_lowercase());
    (first, rest)
}

/// Compares without flooding the terminal.
#[track_caller]
pub fn assert_same(seen: &[u8], sent: &[u8], what: &str) {
    if seen != sent {
        let at = seen.iter().zip(sent).position(|(a, b)| a != b).unwrap_or(seen.len().min(sent.len()));
        panic!(
            "{what}: {} bytes arrived of {}; from {at} on they are {:?}, not {:?}",
            seen.len(),
            sent.len(),
            show(&seen[at..]),
            show(&sent[at..])
        );
    }
}

fn show(bytes: &[u8]) -> String {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    if bytes.len() > 300 { format!("{start}… ({} bytes)", bytes.len()) } else { start }
}

/// Bytes that tell their place, from one place to another.
pub fn pattern(from: usize, to: usize) -> Vec<u8> {
    (from..to).map(|n| (n % 251) as u8).collect()
}

/// How bytes are cut into segments.
#[derive(Clone, Copy, Debug)]
pub enum Cuts {
    Whole,
    EachByte,
    /// Pieces of changing size below the second number, from a seed.
    Random(u64, usize),
}

impl Cuts {
    pub fn pieces<'a>(&self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let (mut state, most) = match *self {
            Self::Whole => return vec![bytes],
            Self::EachByte => return bytes.chunks(1).collect(),
            Self::Random(seed, most) => (seed, most as u64),
        };
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = (random(&mut state) % most + 1).min(rest.len() as u64) as usize;
            let (piece, behind) = rest.split_at(n);
            pieces.push(piece);
            rest = behind;
        }
        pieces
    }
}

/// The same numbers from the same seed (splitmix64).
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Bytes without a pattern.
pub fn noise(seed: u64, n: usize) -> Vec<u8> {
    let mut state = seed;
    (0..n.div_ceil(8)).flat_map(|_| random(&mut state).to_le_bytes()).take(n).collect()
}

/// A request for a WebSocket (RFC 6455, section 1.3).
pub fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test:18900\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// The gateway's consent to [`handshake`].
pub const CONSENT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                           Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A client and a gateway that have a WebSocket between them, through a seqgate.
pub struct Relayed {
    pub client: Peer,
    pub gateway: Peer,
}

/// Opens a WebSocket.
pub async fn websocket(seqgate: &Seqgate, gateway: &Gateway, path: &str) -> Relayed {
    let client = seqgate.connect().await;
    open(client, gateway, &handshake(path), CONSENT).await
}

/// Opens a tunnel for a protocol that nobody knows.
pub async fn tunnel(seqgate: &Seqgate, gateway: &Gateway) -> Relayed {
    let client = seqgate.connect().await;
    let request = "GET /t HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: foo/1\r\nConnection: Upgrade\r\n\r\n";
    let consent = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo/1\r\nConnection: Upgrade\r\n\r\n";
    open(client, gateway, request, consent).await
}

/// Lets a client ask for an upgrade and the gateway agree.
pub async fn open(mut client: Peer, gateway: &Gateway, request: &str, consent: &str) -> Relayed {
    client.send(request).await;
    let mut gateway = gateway.accept().await;
    gateway.head().await;
    gateway.send(consent).await;
    let head = client.head().await;
    assert_eq!(status(&head), 101, "{head}");
    Relayed { client, gateway }
}

/// A gateway and a seqgate in front of it.
pub async fn house(settings: &[(&str, &str)]) -> (Gateway, Seqgate) {
    let gateway = Gateway::bind().await;
    let seqgate = Seqgate::start(gateway.address, settings).await;
    (gateway, seqgate)
}
