//! Whoever floods, stalls or never ends: memory and descriptors of the program stay within what it promised, and
//! all of it comes back. The program runs by itself, so that /proc tells of nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::process::{Command, Stdio};
use std::time::Duration;

use net::frames::{BINARY, ENDS, GOES_ON, PING, TEXT_BEGINS, agent, event, frame, masked};
use net::program::{Running, program};
use net::{
    CONSENT, End, Gateway, Peer, Relayed, assert_same, eventually, handshake, open_files_of, patiently,
    peak_of, resident_of, status,
};
use seqgate::config::{Config, Values};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const SMALL: usize = 16 * 1024;
/// More than all buffers between two peers hold.
const MOST: usize = 48 << 20;
/// Frames whose length is beyond all memory.
const ENDLESS: [u8; 10] = [BINARY, 127, 0x7f, 0, 0, 0, 0, 0, 0, 0];
/// Tight enough that a flood is soon larger than the promise.
const TIGHT: [&str; 2] = ["--runs-per-connection=64", "--inspect-limit=16KiB"];

/// A program in front of a gateway, and what it held before it was flooded.
struct Place {
    gateway: Gateway,
    running: Running,
    promise: u64,
    memory: u64,
    files: usize,
}

impl Place {
    async fn new(connections: usize, flags: &[&str]) -> Self {
        Self::before(Gateway::bind().await, connections, flags).await
    }

    async fn before(gateway: Gateway, connections: usize, flags: &[&str]) -> Self {
        let connections = format!("--max-connections={connections}");
        let flags: Vec<&str> = flags.iter().copied().chain(TIGHT).chain([connections.as_str()]).collect();
        let running = Running::start(gateway.address, &flags).await;
        let place = Self { promise: promise(&gateway, &flags), gateway, running, memory: 0, files: 0 };
        // What is made once for all connections is there behind the first one.
        let mut first = place.websocket().await;
        first.gateway.send(agent("first", 1, 1)).await;
        first.client.expect(&agent("first", 1, 1)).await;
        first.client.reset();
        first.gateway.end().await;
        place.metric_becomes(r#"seqgate_connections{kind="gateway"}"#, 0.0).await;
        let process = place.running.id();
        Self { memory: resident_of(&process), files: open_files_of(&process), ..place }
    }

    async fn connect(&self) -> Peer {
        Peer::connect(self.running.listen).await
    }

    async fn websocket(&self) -> Relayed {
        net::open(self.connect().await, &self.gateway, &handshake("/"), CONSENT).await
    }

    /// A WebSocket whose client has kernel buffers of a few kilobytes.
    async fn narrow(&self) -> Relayed {
        let client = Peer::connect_small(self.running.listen, SMALL).await;
        net::open(client, &self.gateway, &handshake("/"), CONSENT).await
    }

    async fn metric_becomes(&self, series: &str, value: f64) {
        eventually(series, async || self.running.metric(series).await == value).await;
    }

    /// The most that the process ever had has grown by less than was promised.
    fn kept_its_promise(&self, what: &str) {
        let growth = peak_of(&self.running.id()).saturating_sub(self.memory);
        println!("{what}: {} KiB more, {} KiB promised", growth >> 10, self.promise >> 10);
        assert!(growth < self.promise, "{what}: {growth} bytes more, {} promised", self.promise);
    }

    /// All that connections had is given back.
    async fn is_as_before(&self) {
        for kind in ["gateway", "tunnel"] {
            self.metric_becomes(&format!("seqgate_connections{{kind=\"{kind}\"}}"), 0.0).await;
        }
        self.metric_becomes("seqgate_runs_tracked", 0.0).await;
        let process = self.running.id();
        // The admin page that was just read may still be closing.
        eventually("all descriptors to be closed", async || open_files_of(&process) <= self.files + 1).await;
    }
}

fn promise(gateway: &Gateway, flags: &[&str]) -> u64 {
    let mut values = Values::default();
    for (name, value) in net::tls::settings(gateway.address) {
        values.flag(name, value).unwrap();
    }
    for flag in flags {
        let (name, value) = flag.trim_start_matches('-').split_once('=').unwrap();
        values.flag(name, value.to_owned()).unwrap();
    }
    Config::new(&values).unwrap().memory_bound().total()
}

/// Sends a piece so often that all are many times the promise, while the other side takes all of it.
async fn floods(place: &Place, mut from: Peer, to: Peer, piece: impl Fn(u64) -> Vec<u8>) -> (Peer, Peer) {
    let enough = 4 * place.promise;
    let mut reader = to.stream;
    let taking = tokio::spawn(async move {
        let mut buffer = vec![0; 256 << 10];
        let mut left = enough;
        while left > 0 {
            left = left.saturating_sub(reader.read(&mut buffer).await.unwrap() as u64);
        }
        reader
    });
    let mut sent = 0;
    let mut n = 0;
    while sent < enough {
        let pieces: Vec<u8> = (n..n + 32).flat_map(&piece).collect();
        n += 32;
        sent += pieces.len() as u64;
        from.send(&pieces).await;
    }
    (from, Peer::new(patiently("the flood", taking).await.unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_runs_through_many_connections() {
    let place = Place::new(6, &[]).await;
    let padding = "-".repeat(2 << 10);
    let mut open = Vec::new();
    for n in 0..6 {
        let Relayed { client, gateway } = place.websocket().await;
        // Each connection takes its share of the flood, and keeps its place.
        open.push(
            floods(&place, gateway, client, |seq| agent(&format!("{n} {seq} {padding}"), 1, seq)).await,
        );
    }
    place.metric_becomes("seqgate_runs_tracked", 6.0 * 64.0).await;
    place.kept_its_promise("runs");
    drop(open);
    place.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_streams_within_a_run() {
    let place = Place::new(2, &[]).await;
    let Relayed { client, gateway } = place.websocket().await;
    let padding = "-".repeat(2 << 10);
    let stream = |n: u64| {
        let json = event("run", &format!("{n} {padding}"), n + 1, 1_769_900_000_000 + n, Some(n));
        frame(0x81, json.as_bytes())
    };
    let open = floods(&place, gateway, client, stream).await;
    assert_eq!(place.running.metric("seqgate_runs_tracked").await, 1.0);
    place.kept_its_promise("streams");
    drop(open);
    place.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_and_fragments_without_an_end() {
    let place = Place::new(2, &[]).await;
    for (what, begin, piece) in [
        ("a frame", ENDLESS.to_vec(), vec![0; 1 << 10]),
        ("a text", [&[0x81], &ENDLESS[1..]].concat(), vec![b' '; 1 << 10]),
        ("fragments", frame(TEXT_BEGINS, b"{"), frame(GOES_ON, &[b' '; 1 << 10])),
        ("empty fragments", frame(TEXT_BEGINS, b"{"), frame(GOES_ON, b"").repeat(512)),
        ("pings among fragments", frame(TEXT_BEGINS, b"{"), frame(PING, &[b'p'; 125]).repeat(8)),
        ("ends of nothing", Vec::new(), frame(ENDS, &[b'x'; 1 << 10])),
    ] {
        for to_client in [true, false] {
            let Relayed { client, gateway } = place.websocket().await;
            let (mut from, to) = if to_client { (gateway, client) } else { (client, gateway) };
            from.send(&begin).await;
            let open = floods(&place, from, to, |_| piece.clone()).await;
            place.kept_its_promise(what);
            drop(open);
        }
    }
    place.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_stop_before_their_end() {
    let place = Place::new(8, &[]).await;
    let mut open = Vec::new();
    for n in 0..8 {
        let mut relayed = place.websocket().await;
        let whole = if n % 2 == 0 {
            frame(0x81, &vec![b' '; 16_000])
        } else {
            [frame(TEXT_BEGINS, b"{"), frame(GOES_ON, &vec![b' '; 15_000]), vec![0; 1]].concat()
        };
        relayed.gateway.send(&whole[..whole.len() - 1]).await;
        relayed.client.send(&masked(0x81, &vec![b' '; 16_000])[..15_000]).await;
        open.push(relayed);
    }
    place.metric_becomes(r#"seqgate_bytes_total{direction="to_gateway"}"#, 8.0 * 15_000.0).await;
    place.kept_its_promise("stopped messages");
    drop(open);
    place.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_header_lines_in_both_directions() {
    let place = Place::new(8, &[]).await;
    // As many lines as may be, as long as they may be together.
    let lines = |n: usize| format!("X-{n:03}: {}\r\n", "v".repeat(50));
    let fields: String = (0..990).map(lines).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: g\r\n{fields}\r\n");
    assert!(request.len() > 55 << 10 && request.len() < 64 << 10);
    for _ in 0..3 {
        let mut unfinished = Vec::new();
        for _ in 0..4 {
            let mut client = place.connect().await;
            client.send(&request[..request.len() - 2]).await;
            unfinished.push(client);
        }
        let mut answered = Vec::new();
        for _ in 0..4 {
            // The client takes nothing, so that all of the answer waits.
            let mut client = Peer::connect_small(place.running.listen, 1024).await;
            client.send(&request).await;
            let mut server = place.gateway.accept().await;
            server.head().await;
            let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{fields}\r\n");
            server.send(answer).await;
            server.send(format!("{:x}\r\n", MOST)).await;
            assert!(server.push_until_blocked(MOST).await < MOST);
            answered.push((client, server));
        }
        place.kept_its_promise("header lines");
        drop((unfinished, answered));
        place.is_as_before().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_beyond_the_limit() {
    const AT_ONCE: usize = 300;
    /// Connections that are told that there is no room, and a few that are just being accepted.
    const TOLD: usize = 64 + 16;
    let place = Place::new(8, &[]).await;
    let mut live = place.websocket().await;
    let mut taken = Vec::new();
    for _ in 0..7 {
        taken.push(place.connect().await);
    }
    let process = place.running.id();
    let listen = place.running.listen;
    for round in 0..5 {
        let mut flood = JoinSet::new();
        for _ in 0..AT_ONCE {
            flood.spawn(async move {
                // Told, or closed without a word, of TLS neither; but not let in.
                let Ok(mut client) = Peer::try_connect(listen).await else { return 0 };
                client.try_send(handshake("/")).await.ok();
                let mut seen = Vec::new();
                patiently("to be turned away", client.stream.read_to_end(&mut seen)).await.ok();
                assert!(seen.is_empty() || seen.starts_with(b"HTTP/1.1 503 "), "{seen:?}");
                usize::from(!seen.is_empty())
            });
        }
        let mut told = 0;
        while let Some(one) = flood.join_next().await {
            told += one.unwrap();
            let open = open_files_of(&process);
            assert!(open <= place.files + 2 * 8 + TOLD, "{open} descriptors, {} at first", place.files);
        }
        assert!(told > 0, "nobody was told");
        // Those who are in go on.
        live.gateway.send(agent("r", round + 1, round)).await;
        live.client.expect(&agent("r", round + 1, round)).await;
    }
    assert!(place.gateway.is_untouched());
    place.metric_becomes(r#"seqgate_connections_rejected_total{reason="limit"}"#, 5.0 * AT_ONCE as f64).await;
    place.kept_its_promise("connections");
    drop((live, taken));
    place.is_as_before().await;
    place.websocket().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_read() {
    let place = Place::new(6, &[]).await;
    let mut open = Vec::new();
    for n in 0..6 {
        let (client, mut gateway) = if n % 2 == 0 {
            let mut relayed = place.narrow().await;
            relayed.gateway.send(ENDLESS).await;
            (relayed.client, relayed.gateway)
        } else {
            let mut client = Peer::connect_small(place.running.listen, SMALL).await;
            client.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
            let mut server = place.gateway.accept().await;
            server.head().await;
            server.send("HTTP/1.1 200 OK\r\n\r\n").await;
            (client, server)
        };
        // The gateway feels it.
        assert!(gateway.push_until_blocked(MOST).await < MOST);
        open.push((client, gateway));
    }
    place.kept_its_promise("unread");
    // It closes them by a rule of its own, as one does with a consumer that is too slow; their places are free again.
    let clients: Vec<Peer> = open
        .into_iter()
        .map(|(client, gateway)| {
            gateway.reset();
            client
        })
        .collect();
    place.metric_becomes(r#"seqgate_closes_total{initiator="gateway",code="1006"}"#, 3.0).await;
    place.metric_becomes(r#"seqgate_connections{kind="gateway"}"#, 0.0).await;
    drop(clients);
    place.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_never_read() {
    let place = Place::before(Gateway::bind_small(SMALL).await, 6, &[]).await;
    let mut open = Vec::new();
    for n in 0..6 {
        let (mut client, gateway) = if n % 2 == 0 {
            let mut relayed = place.websocket().await;
            relayed.client.send(ENDLESS).await;
            (relayed.client, relayed.gateway)
        } else {
            let mut client = place.connect().await;
            client.send(format!("POST / HTTP/1.1\r\nHost: g\r\nContent-Length: {MOST}\r\n\r\n")).await;
            (client, place.gateway.accept().await)
        };
        assert!(client.push_until_blocked(MOST).await < MOST);
        open.push((client, gateway));
    }
    place.kept_its_promise("unread");
    for (client, mut gateway) in open {
        client.reset();
        gateway.rest().await;
    }
    place.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_give_their_places_back() {
    let place = Place::new(4, &["--header-timeout=1s"]).await;
    let mut slow = Vec::new();
    for start in ["", "G", "GET / HTTP/1.1\r\nHost: g\r\nX: ", "\r\n\r"] {
        let mut client = place.connect().await;
        client.send(start).await;
        slow.push(client);
    }
    // There is no room for anybody else, until their time has run out.
    eventually("a free place", async || {
        let mut client = place.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        tokio::select! {
            head = client.head() => { assert_eq!(status(&head), 503); false }
            mut server = place.gateway.accept() => { server.head().await; true }
        }
    })
    .await;
    drop(slow);
    place.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_may_have_vanished_are_asked_for() {
    let place = Place::new(4, &[]).await;
    let relayed = place.websocket().await;
    let mut http = place.connect().await;
    http.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut server = place.gateway.accept().await;
    server.head().await;
    let peers = [&relayed.client, &relayed.gateway, &http, &server];
    let peers = peers.map(|peer| peer.stream.tcp().local_addr().unwrap().port());
    eventually("a keepalive timer for each", async || peers.iter().all(|port| asks_for(*port))).await;
}

/// Whether the other end of the connection that has this port here has a keepalive timer (proc_net_tcp: 2).
fn asks_for(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Remote address, state (1 is established), timer.
        words[2].ends_with(&remote) && words[3] == "01" && words[5].starts_with("02:")
    })
}

/// Both limits of the descriptors that a process may have open: soft and hard.
fn descriptors_of(process: &str) -> [String; 2] {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    [words.next().unwrap(), words.next().unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_soft_limit_of_descriptors_is_what_the_settings_need_and_a_lower_hard_one_is_said() {
    // Two for each connection, 64 clients that are turned away, 64 operators, 32 of its own.
    const NEEDED: &str = "360";
    for (limit, allowed, complains) in [
        ("-Sn 64", [NEEDED, "400"], false),
        ("-Sn 380", ["380", "400"], false),
        ("-n 64", ["64", "64"], true),
    ] {
        let gateway = Gateway::bind().await;
        let mut shell = Command::new("sh");
        let limited = format!("ulimit -n 400 && ulimit {limit} && exec \"$0\" \"$@\"");
        shell.env_clear().stdin(Stdio::null()).args(["-c", &limited]).arg(program().get_program());
        let running =
            Running::start_as(&mut shell, gateway.address, &["--max-connections=100"]).await.unwrap();
        assert_eq!(descriptors_of(&running.id()), allowed, "ulimit {limit}");
        // Said before it is up.
        let log = running.logged();
        assert_eq!(log.contains("fewer descriptors"), complains, "{log}");
        assert_eq!(log.contains(NEEDED) && log.contains("SEQGATE_MAX_CONNECTIONS"), complains, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_live_connections_live_on_and_new_ones_come_in_later() {
    const DESCRIPTORS: usize = 40;
    let gateway = Gateway::bind().await;
    let mut shell = Command::new("sh");
    let limited = format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"");
    shell.env_clear().stdin(Stdio::null()).args(["-c", &limited]).arg(program().get_program());
    let running = Running::start_as(&mut shell, gateway.address, &["--header-timeout=1h"]).await.unwrap();
    let mut live = net::open(Peer::connect(running.listen).await, &gateway, &handshake("/"), CONSENT).await;
    let mut first = Peer::connect(running.listen).await;
    let mut idle = Vec::new();
    for _ in 0..DESCRIPTORS + 10 {
        idle.push(patiently("a connection", TcpStream::connect(running.listen)).await.unwrap());
    }
    running.logs("no connection could be accepted").await;
    // Those who are in do not notice.
    for seq in 1..20 {
        let event = agent("r", seq, seq);
        live.gateway.send([&event[..], &event].concat()).await;
        live.client.expect(&event).await;
        live.client.send(masked(0x81, b"still here")).await;
        live.gateway.expect(&masked(0x81, b"still here")).await;
    }
    // Accept waits longer each time, up to a second: it does not spin, and does not fill the log.
    let complaints = || running.logged().matches("no connection could be accepted").count();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!((1..50).contains(&complaints()), "{} complaints", complaints());
    // Who was let in but can't be connected with the gateway is told so.
    first.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let head = first.head().await;
    assert_eq!(status(&head), 502, "{head}");
    // They go, and there is room again.
    drop((first, idle));
    let mut told = 0;
    let (_next, mut server) = loop {
        let mut next = Peer::connect(running.listen).await;
        next.send("GET /next HTTP/1.1\r\nHost: g\r\n\r\n").await;
        tokio::select! {
            server = gateway.accept() => break (next, server),
            // Those who went may not all have been noticed.
            head = next.head() => assert_eq!(status(&head), 502, "{head}"),
        }
        told += 1;
        assert!(told < 100, "there is no room again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(server.head().await.starts_with("GET /next "));
    let event = agent("r", 100, 100);
    live.gateway.send(&event).await;
    assert_same(&live.client.take(event.len()).await, &event, "the live one");
    live.client.finish().await;
    assert_eq!(live.gateway.end().await, End::Fin);
}

/// What an idle connection takes in the program's memory, for the README: `TEST_TLS` says with TLS where.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure, not a promise"]
async fn idle_connections() {
    const MANY: usize = 400;
    let place = Place::new(MANY + 10, &[]).await;
    let mut idle = Vec::new();
    for _ in 0..MANY {
        let mut relayed = place.websocket().await;
        for seq in 1..=20 {
            relayed.gateway.send(agent("run", seq, seq)).await;
            relayed.client.expect(&agent("run", seq, seq)).await;
        }
        idle.push(relayed);
    }
    let growth = resident_of(&place.running.id()) - place.memory;
    println!(
        "an idle connection takes {:.1} KiB, {:?}",
        growth as f64 / 1024.0 / MANY as f64,
        *net::tls::SIDES
    );
}
