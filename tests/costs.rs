//! The time for a byte does not depend on how many bytes there are, however they are framed and cut.
//!
//! A quadratic path takes eight times as long for each byte of a message eight times as large. A measurement that
//! a busy machine disturbed is repeated.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;
mod support;

use std::time::{Duration, Instant};

use net::frames::{agent, frame};
use net::program::Running;
use net::{CONSENT, Gateway, Peer, Relayed, handshake};
use seqgate::guard::gate::Gate;
use seqgate::json::Reader;
use seqgate::sieve::{Mode, Step};
use support::frames::{BINARY, CONTINUATION, FIN, PING, TEXT, frames};
use support::guard::{CONNECTION, chat, client, cut, guard, masked, rate, secret};

const SMALL: usize = 32 << 10;
const LARGE: usize = 8 * SMALL;
/// How much more a byte of the large message may take. A quadratic path reaches 8.
const RATIO: f64 = 3.0;

/// Runs both sizes until a byte of the large one takes about as long as one of the small one.
fn is_linear(what: &str, mut run: impl FnMut(usize) -> Duration) {
    let mut each = |size: usize| run(size).as_secs_f64() / size as f64;
    let (mut small, mut large) = (f64::MAX, f64::MAX);
    for _ in 0..20 {
        small = small.min(each(SMALL));
        large = large.min(each(LARGE));
        if large < RATIO * small {
            return;
        }
    }
    panic!("{what}: {:.0} ns per byte of {SMALL}, {:.0} of {LARGE}", small * 1e9, large * 1e9);
}

/// One-byte frames of a message of so many bytes.
fn fragments(size: usize, text: &str) -> Vec<u8> {
    let text = text.replace('?', &" ".repeat(size));
    let cuts: Vec<usize> = (1..text.len()).collect();
    cut(TEXT, text, &cuts).concat()
}

/// A new gate takes this stream in such chunks, and the undecided bytes are given up after each where that is asked for.
fn gate_takes(bytes: &[u8], chunk: usize, gives_up: bool, tunnel: bool) -> Duration {
    let mut gate = Gate::new(guard(rate(1, 1)), Mode::Enforce, client(), CONNECTION, 2 * bytes.len());
    if tunnel {
        gate = gate.in_tunnel();
    }

    let (mut at, mut there) = (0, 0);
    let begin = Instant::now();
    while there < bytes.len() {
        there = bytes.len().min(there + chunk);
        while at < there {
            match gate.step(&bytes[at..there], 0) {
                Step::Pass(n) | Step::Drop(n, _) => at += n,
                Step::More(_) => break,
            }
        }
        if gives_up && at < there {
            gate.give_up(&bytes[at..there], 0);
        }
    }
    begin.elapsed()
}

#[test]
fn a_gate_reads_held_bytes_a_bounded_number_of_times() {
    let start = chat("1", "k").replace("\"hi\"", "\"?\"");
    for text in ["?{}", &start, "{\"x\":?1}"] {
        for tunnel in [false, true] {
            is_linear("one-byte fragments", |size| gate_takes(&fragments(size, text), 7, false, tunnel));
            is_linear("one frame by bytes", |size| {
                let text = text.replace('?', &" ".repeat(size));
                gate_takes(&masked(FIN | BINARY, text), 1, false, tunnel)
            });
        }
    }
    is_linear("a message that is given up again and again", |size| {
        let frame = masked(TEXT, format!("{{\"x\":\"{}\"", "x".repeat(size)));
        gate_takes(&frame, 16, true, false)
    });
}

#[test]
fn an_escaped_id_is_hashed_at_the_cost_of_its_bytes() {
    // Escapes of 6 bytes for one; without gathering they take more than fifty times as long as plain bytes.
    let hash = |text: String| {
        let text = format!("\"{text}\"");
        let begin = Instant::now();
        for _ in 0..20 {
            let _ = secret().run(Reader::new(text.as_bytes()).unwrap().value().unwrap().string().unwrap());
        }
        begin.elapsed()
    };
    is_linear("an escaped id", |size| hash(r"\u0061".repeat(size / 6)));
    let pieces = |text: &str| {
        let mut pieces = 0;
        let text = format!("\"{text}\"");
        let string = Reader::new(text.as_bytes()).unwrap().value().unwrap().string().unwrap();
        string.decode(|_| pieces += 1);
        pieces
    };
    for escaped in [r"\u0061", r"\n", r"a\n", r"\ud83e\udd80", r"xyz\/"] {
        let text = escaped.repeat(10_000);
        assert!(pieces(&text) <= text.len() / 200 + 2, "{escaped}: {}", pieces(&text));
    }
}

/// Processor time that all threads of a process have taken.
fn processor_time(process: &str) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        let times = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        times.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    Duration::from_nanos(threads.map(of_thread).sum())
}

/// Runs both sizes through the program, as `is_linear`. `send` sends a message of a size that is left out, with a mark
/// behind it, and waits for the mark.
async fn relay_is_linear(what: &str, mut send: impl AsyncFnMut(&mut Relayed, usize)) {
    let gateway = Gateway::bind().await;
    let running = Running::start(
        gateway.address,
        &["--guard-runs-per-minute=1", "--guard-burst=1", "--inspect-limit=4MiB"],
    )
    .await;
    let mut relayed =
        net::open(Peer::connect(running.listen).await, &gateway, &handshake("/"), CONSENT).await;
    let (mut small, mut large) = (f64::MAX, f64::MAX);
    for _ in 0..10 {
        for (size, least) in [(SMALL, &mut small), (LARGE, &mut large)] {
            let before = processor_time(&running.id());
            send(&mut relayed, size).await;
            let time = processor_time(&running.id()) - before;
            *least = least.min(time.as_secs_f64() / size as f64);
        }
        if large < RATIO * small {
            return;
        }
    }
    panic!("{what}: {:.0} ns per byte of {SMALL}, {:.0} of {LARGE}", small * 1e9, large * 1e9);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_out_a_fragmented_request_is_linear() {
    let start = chat("1", "k").replace("\"hi\"", "\"?\"");
    // Before the gateway has accepted the client, all starts are left out.
    relay_is_linear("a request", async |relayed, size| {
        let mark = masked(FIN | PING, size.to_string());
        relayed.client.send([fragments(size, &start), mark.clone()].concat()).await;
        relayed.gateway.expect(&mark).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_fragmented_event_is_linear() {
    let mut seq = 0;
    relay_is_linear("an event", async |relayed, size| {
        seq += 1;
        let event = agent("r", seq, seq);
        relayed.gateway.send(&event).await;
        relayed.client.expect(&event).await;
        let text = String::from_utf8(frames(&event).0[0].payload.clone()).unwrap() + &" ".repeat(size);
        let last = text.len() - 1;
        let fragment = |(i, byte)| {
            let opcode = if i == 0 { TEXT } else { CONTINUATION };
            frame(if i == last { FIN } else { 0 } | opcode, &[byte])
        };
        let fragments: Vec<u8> = text.bytes().enumerate().flat_map(fragment).collect();
        let mark = frame(FIN | PING, b"mark");
        relayed.gateway.send([fragments, mark.clone()].concat()).await;
        relayed.client.expect(&mark).await;
    })
    .await;
}
