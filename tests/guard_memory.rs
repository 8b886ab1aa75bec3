//! However many clients start runs, and however large their messages: the guard takes no more memory than was
//! promised.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;
mod support;

use std::sync::Mutex;

use net::resident;
use seqgate::guard::gate::Gate;
use seqgate::guard::start::{self, Start};
use seqgate::guard::{Client, Guard, Limits};
use seqgate::sieve::{Mode, Step};
use support::frames::{FIN, Form, TEXT, head};
use support::guard::{CONNECTION, chat, client, guard, live_runs, rate, secret};

const CLIENTS: usize = 3_000;
const LIMIT: usize = 256 << 10;

/// The process's memory is one test's at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn whatever_the_clients_memory_stays_within_what_was_promised() {
    let _alone = ALONE.lock().unwrap();
    // More keys than are remembered, and as many runs at once as may be.
    let starts: Vec<Start> = (0..100).map(start).collect();
    let limits = Limits { max_run_id: 8, ..live_runs(100) };
    let promise = Guard::bytes(&limits, CLIENTS) as u64;
    let before = resident();
    let guard = Guard::new(limits, secret(), CLIENTS);
    assert!(Guard::bytes(&limits, 1) < 16 << 10);
    let mut largest = 0;
    for n in 0..3 * CLIENTS as u64 {
        for start in &starts {
            guard.admit(Client::connection(n), start, n).unwrap();
        }
        if n % 1000 == 999 {
            largest = largest.max(resident());
        }
    }
    assert_eq!(guard.clients(3 * CLIENTS as u64), CLIENTS);
    assert_eq!(guard.evicted(), 2 * CLIENTS as u64);
    let growth = largest.saturating_sub(before);
    println!("{} KiB more, {} KiB promised", growth >> 10, promise >> 10);
    assert!(growth < promise, "{growth} bytes more, {promise} promised");
    // A promise that is far too large would not be one.
    assert!(growth > promise / 2, "{growth} bytes more, {promise} promised");
}

fn start(n: usize) -> Start {
    start::read(chat("1", &n.to_string()).as_bytes(), &secret(), CONNECTION).unwrap()
}

#[test]
fn an_upload_of_any_size_takes_no_more_memory_than_was_promised() {
    let _alone = ALONE.lock().unwrap();
    const SIZE: u64 = 64 << 20;
    let start = br#"{"type":"req","id":"1","method":"node.invoke.result","params":{"payload":""#;
    let piece = vec![b'x'; 128 << 10];
    let mut gate = Gate::new(guard(rate(1, 1)), Mode::Enforce, client(), CONNECTION, LIMIT);
    // Masked with zeros.
    let mut window = [&head(FIN | TEXT, Form::Eight, true, SIZE)[..], &[0; 4], start].concat();
    let before = resident();
    let (mut sent, mut passed, mut largest) = (start.len() as u64, 0, 0);
    while sent < SIZE {
        window.extend(&piece);
        sent += piece.len() as u64;
        while !window.is_empty() {
            match gate.step(&mut window, 0) {
                Step::Pass(n) => {
                    passed += n as u64;
                    window.drain(..n);
                }
                Step::More(_) => break,
                Step::Drop(..) => panic!("nothing of it starts a run"),
            }
        }
        largest = largest.max(resident());
    }
    assert!(passed >= SIZE);
    let promise = (Gate::bytes(LIMIT, 64) + 2 * (LIMIT + 2 * piece.len())) as u64;
    let growth = largest.saturating_sub(before);
    println!("{} KiB more, {} KiB promised with the window", growth >> 10, promise >> 10);
    assert!(growth < promise, "{growth} bytes more, {promise} promised");
}
