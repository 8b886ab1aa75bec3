//! What it costs to judge an event, without sockets: `cargo bench --bench sieve`.
//!
//! A stream of events in order, as the gateway shapes them, goes through a sieve in windows as large as a read.
//! Each round asserts that every event was judged and none dropped.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that meets an error has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use seqgate::distinct::Distinct;
use seqgate::filter::{Order, Verdict};
use seqgate::sieve::{Mode, Rules, Sieve, Step};
use seqgate::stamp::Secret;

const WINDOW: usize = 128 * 1024;
const ROUNDS: usize = 101;
/// Little enough for the processor's cache, where bytes are that were just read from a socket.
const BYTES_A_ROUND: usize = 512 << 10;

fn main() {
    println!("{:>10} {:>12} {:>10}", "event", "ns an event", "GB/s");
    for size in [300, 1024, 4096, 16 * 1024] {
        let (stream, events) = stream(size);
        let mut times: Vec<Duration> = (0..ROUNDS).map(|_| round(stream.clone(), events)).collect();
        times.sort();
        let median = times[ROUNDS / 2];
        let nanos = median.as_nanos() as f64;
        println!("{size:>8} B {:>12.0} {:>10.2}", nanos / events as f64, stream.len() as f64 / nanos);
    }
}

/// Frames of one run whose text makes each about `size` bytes.
fn stream(size: usize) -> (Vec<u8>, u32) {
    // A line of prose, with a quotation and a line end.
    let words = "The gateway said \\\"go on\\\" and went on with the next paragraph of its reply.\\n";
    let text = words.repeat(size.saturating_sub(230) / words.len());
    let mut stream = Vec::new();
    let mut events = 0;
    while stream.len() < BYTES_A_ROUND {
        events += 1;
        let event = format!(
            r#"{{"type":"event","event":"agent","payload":{{"runId":"00000000-0000-4000-8000-000000000003","stream":"assistant","data":{{"text":"{text}","delta":"w2"}},"sessionKey":"agent:main:main","seq":{events},"ts":{}}},"seq":{events}}}"#,
            1_769_900_000_000u64 + u64::from(events),
        );
        stream.extend([0x81, 0x7e]);
        stream.extend((event.len() as u16).to_be_bytes());
        stream.extend(event.bytes());
    }
    (stream, events)
}

fn round(mut stream: Vec<u8>, events: u32) -> Duration {
    let mut sieve = Sieve::judging(Arc::new(Rules {
        mode: Mode::Enforce,
        order: Order::Stream,
        events: vec!["agent".to_owned()],
        runs: 1024,
        ttl: 3_600_000,
        inspect_limit: 256 * 1024,
        secret: Secret::new([7; 16]),
        distinct: Distinct::default(),
    }));
    let mut passed = 0;
    let start = Instant::now();
    let mut at = 0;
    while at < stream.len() {
        let end = (at + WINDOW).min(stream.len());
        while at < end {
            match sieve.step(&mut stream[at..end], 0) {
                Step::Pass(n) => {
                    passed += n;
                    at += n;
                }
                Step::Drop(..) => panic!("an event in order was dropped"),
                Step::More(_) => break,
            }
        }
        assert!(end < stream.len() || at == end, "the stream ends with a whole frame");
    }
    let time = start.elapsed();
    let tally = sieve.take_tally();
    assert_eq!(passed, stream.len());
    assert_eq!(tally.judged[Verdict::InOrder as usize], events - 1);
    time
}
