//! Many connections for a long time: mixed traffic, faults and reconnects. At the end every client has got exactly what
//! it was to get, nothing is left, and memory has not grown.
//!
//! `SOAK_TIME=5m SOAK_CONNECTIONS=2000 cargo test --release --test soak -- --ignored --nocapture`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use net::frames::{BINARY, ENDS, GOES_ON, PING, TEXT_BEGINS, close, event, frame, masked};
use net::program::Running;
use net::{Cuts, Gateway, Peer, eventually, handshake, noise, open_files_of, page, random, resident_of};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Between two looks at memory.
const LOOK: Duration = Duration::from_secs(2);
/// Of the time, what is left out of the slope: the table of every connection fills first.
const WARM_UP: f64 = 0.25;
/// What memory may grow by within a minute behind that, in bytes: less than a connection costs.
const FLAT: f64 = 1024.0 * 1024.0;
/// Looks at memory below which a slope says nothing.
const ENOUGH: usize = 30;

/// What is checked of all connections together.
#[derive(Default)]
struct Totals {
    lives: AtomicU64,
    requests: AtomicU64,
    repeats: AtomicU64,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Close,
    ClientDies,
    GatewayDies,
    /// In the middle of a frame.
    GatewayDiesTalking,
}

/// One connection's life, the same for gateway and client: both make it from its number.
struct Life {
    fate: Fate,
    /// What the gateway sends, and what of it is to arrive.
    rounds: Vec<(Vec<u8>, Vec<u8>)>,
    repeats: u64,
    pause: Duration,
    cuts: Cuts,
}

impl Life {
    fn new(number: u64) -> Self {
        let mut state = number;
        let mut dice = |n: u64| random(&mut state) % n;
        let fate = match dice(8) {
            0 => Fate::ClientDies,
            1 => Fate::GatewayDies,
            2 => Fate::GatewayDiesTalking,
            _ => Fate::Close,
        };
        let cuts = if dice(8) == 0 { Cuts::Random(number, 200) } else { Cuts::Whole };
        let pause = Duration::from_millis(200 + dice(1500));
        let (mut rounds, mut repeats, mut seq, mut outer, mut gone) = (Vec::new(), 0, 0, 0, 0);
        for _ in 0..3 + dice(8) {
            let (mut sent, mut wanted) = (Vec::new(), Vec::new());
            for _ in 0..1 + dice(6) {
                match dice(12) {
                    0 => both(&mut sent, &mut wanted, &frame(PING, b"are you there?")),
                    1 => both(&mut sent, &mut wanted, &frame(BINARY, &noise(number, 3000))),
                    2 => {
                        // Fragments of no event, with a ping among them.
                        let [begin, ping] = [frame(TEXT_BEGINS, b"{\"type\":"), frame(PING, b"")];
                        let [middle, end] = [frame(GOES_ON, b"\"tick\""), frame(ENDS, b"}")];
                        both(&mut sent, &mut wanted, &[begin, ping, middle, end].concat());
                    }
                    _ => {
                        seq += 1;
                        outer += 1;
                        let run = format!("run {number} {}", seq / 20);
                        let json = |n| event(&run, "assistant", seq, 1_769_900_000_000 + seq, Some(n));
                        sent.extend(frame(0x81, json(outer).as_bytes()));
                        wanted.extend(frame(0x81, moved(&json(outer), outer, gone).as_bytes()));
                        if dice(3) == 0 {
                            // The same again, with a number of its own, which is missed by nobody.
                            outer += 1;
                            gone += 1;
                            repeats += 1;
                            sent.extend(frame(0x81, json(outer).as_bytes()));
                        }
                    }
                }
            }
            rounds.push((sent, wanted));
        }
        Self { fate, rounds, repeats, pause, cuts }
    }
}

fn both(sent: &mut Vec<u8>, wanted: &mut Vec<u8>, bytes: &[u8]) {
    sent.extend(bytes);
    wanted.extend(bytes);
}

/// An event whose outer number has moved up, in as many bytes.
fn moved(json: &str, outer: u64, gone: u64) -> String {
    let old = format!("\"seq\":{outer}}}");
    let width = outer.to_string().len();
    let (start, _) = json.rsplit_once(&old).unwrap();
    format!("{start}\"seq\":{:>width$}}}", outer - gone)
}

/// The gateway's side: a path names the life to be lived.
async fn serve(mut peer: Peer) {
    let Some(head) = peer.head_or_end().await else { return };
    let path = head.split(' ').nth(1).unwrap();
    if let Some(size) = path.strip_prefix("/http/") {
        let body = noise(1, size.parse().unwrap());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        // The client may have left.
        let _ = peer.try_send([answer.as_bytes(), &body].concat()).await;
        peer.rest().await;
        return;
    }
    let life = Life::new(path.trim_start_matches('/').parse().unwrap());
    peer.send(net::CONSENT).await;
    let last = life.rounds.len() - 1;
    for (n, (sent, _)) in life.rounds.iter().enumerate() {
        match life.fate {
            Fate::GatewayDiesTalking if n == last => {
                peer.send(&sent[..sent.len() / 2]).await;
                return peer.reset();
            }
            Fate::GatewayDies if n == last => return peer.reset(),
            _ => {}
        }
        peer.send_cut(sent, &life.cuts).await;
        // The client answers each round, or dies.
        let word = masked(0x81, format!("round {n}").as_bytes());
        if life.fate == Fate::ClientDies && n == last {
            peer.rest().await;
            return;
        }
        peer.expect(&word).await;
    }
    peer.send(close(1000, "well done")).await;
    peer.expect(&masked(0x88, b"\x03\xe8well done")).await;
    peer.finish().await;
    peer.rest().await;
}

/// The client's side.
async fn live(seqgate: SocketAddr, number: u64, totals: &Totals) {
    let life = Life::new(number);
    let mut peer = Peer::connect(seqgate).await;
    peer.send(handshake(&format!("/{number}"))).await;
    let head = peer.head().await;
    assert_eq!(net::status(&head), 101, "{head}");
    let last = life.rounds.len() - 1;
    for (n, (_, wanted)) in life.rounds.iter().enumerate() {
        if n == last && matches!(life.fate, Fate::GatewayDies | Fate::GatewayDiesTalking) {
            let (rest, _) = peer.rest().await;
            assert!(wanted.starts_with(&rest), "life {number}: more than was sent");
            totals.lives.fetch_add(1, Relaxed);
            return;
        }
        let seen = peer.take(wanted.len()).await;
        net::assert_same(&seen, wanted, &format!("life {number}, round {n}"));
        if n == last && life.fate == Fate::ClientDies {
            totals.lives.fetch_add(1, Relaxed);
            return peer.reset();
        }
        sleep(life.pause).await;
        peer.send(masked(0x81, format!("round {n}").as_bytes())).await;
    }
    peer.expect(&close(1000, "well done")).await;
    peer.send(masked(0x88, b"\x03\xe8well done")).await;
    assert_eq!(peer.end().await, net::End::Fin, "life {number}");
    totals.lives.fetch_add(1, Relaxed);
    totals.repeats.fetch_add(life.repeats, Relaxed);
}

/// A request, sometimes left before its answer is whole.
async fn ask(seqgate: SocketAddr, number: u64, totals: &Totals) {
    let mut state = number;
    let size = random(&mut state) as usize % 20_000;
    let mut peer = Peer::connect(seqgate).await;
    peer.send(format!("GET /http/{size} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
    if number.is_multiple_of(16) {
        return peer.reset();
    }
    let answer = peer.answer().await;
    net::assert_same(&answer.body, &noise(1, size), "an answer");
    totals.requests.fetch_add(1, Relaxed);
}

/// As in `90s`, `5m`.
fn time(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().expect("SOAK_TIME is a time as in 90s, 5m or 1h");
    Duration::from_secs(
        number
            * match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => panic!("SOAK_TIME is {text:?}: expected a time as in 90s, 5m or 1h"),
            },
    )
}

/// The slope of a line through these points (least squares), per minute.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (mx, my) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let (up, down) = points
        .iter()
        .fold((0.0, 0.0), |(up, down), (x, y)| (up + (x - mx) * (y - my), down + (x - mx) * (x - mx)));
    60.0 * up / down
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "as long as SOAK_TIME says"]
async fn two_thousand_connections_live_and_die_and_nothing_is_lost_or_left() {
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let end = Instant::now() + time(&setting("SOAK_TIME", "2m"));
    let connections: u64 = setting("SOAK_CONNECTIONS", "2000").parse().unwrap();
    let gateway = Gateway::bind().await;
    // A connection that has ended keeps its place until both its ends have noticed.
    let places = format!("--max-connections={}", 2 * connections + 64);
    let running = Running::start(gateway.address, &[&places, "--runs-per-connection=64"]).await;
    let (listen, process) = (running.listen, running.id());
    page(running.admin, "/metrics").await;
    let (files, memory) = (open_files_of(&process), resident_of(&process));
    let gatekeeper = tokio::spawn(async move {
        let mut lives = JoinSet::new();
        loop {
            let peer = gateway.accept_whenever().await;
            lives.spawn(serve(peer));
            while let Some(life) = lives.try_join_next() {
                life.unwrap();
            }
        }
    });

    let start = Instant::now();
    let totals = Arc::new(Totals::default());
    let mut clients = JoinSet::new();
    for place in 0..connections {
        let totals = Arc::clone(&totals);
        clients.spawn(async move {
            // They do not all come at once.
            sleep(Duration::from_millis(place * 2)).await;
            let mut number = place << 32;
            while Instant::now() < end {
                number += 1;
                if number.is_multiple_of(5) {
                    ask(listen, number, &totals).await;
                } else {
                    live(listen, number, &totals).await;
                }
            }
        });
    }
    let mut points = Vec::new();
    let mut most = 0.0_f64;
    while !clients.is_empty() {
        let look = sleep(LOOK);
        tokio::pin!(look);
        loop {
            tokio::select! {
                () = &mut look => break,
                Some(client) = clients.join_next() => client.unwrap(),
            }
        }
        if Instant::now() < end {
            points.push((start.elapsed().as_secs_f64(), resident_of(&process) as f64));
            most = most.max(running.metric(r#"seqgate_connections{kind="gateway"}"#).await);
        }
    }
    assert!(!gatekeeper.is_finished(), "a life at the gateway went wrong");
    gatekeeper.abort();

    for gauge in [r#"seqgate_connections{kind="gateway"}"#, "seqgate_runs_tracked", "seqgate_run_table_bytes"]
    {
        eventually(gauge, async || running.metric(gauge).await == 0.0).await;
    }
    eventually("all descriptors to be closed", async || open_files_of(&process) <= files + 1).await;
    let dropped = running.metric(r#"seqgate_events_total{verdict="dropped",reason="duplicate"}"#).await;
    assert!(dropped >= totals.repeats.load(Relaxed) as f64);
    assert_eq!(running.metric(r#"seqgate_events_total{verdict="dropped",reason="out_of_order"}"#).await, 0.0);
    assert_eq!(running.metric(r#"seqgate_connections_rejected_total{reason="limit"}"#).await, 0.0);
    let skip = (points.len() as f64 * WARM_UP) as usize;
    let per_minute = slope(&points[skip..]);
    let peak = points.iter().map(|(_, bytes)| *bytes).fold(0.0, f64::max);
    println!(
        "{} lives and {} requests in {:.0} s, at most {most} connections at once; {dropped} repeats were left out; \
         memory {} KiB at first, {:.0} KiB at most, {:.0} KiB a minute",
        totals.lives.load(Relaxed),
        totals.requests.load(Relaxed),
        start.elapsed().as_secs_f64(),
        memory >> 10,
        peak / 1024.0,
        per_minute / 1024.0,
    );
    assert!(per_minute < FLAT || points.len() < ENOUGH, "{per_minute} bytes a minute");
}
