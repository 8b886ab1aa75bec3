//! A connection leaves nothing behind, however it ends. One test, because it looks at the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use net::frames::{TEXT, TEXT_BEGINS, agent, close, frame, masked_close};
use net::{
    Gateway, Peer, Relayed, Seqgate, eventually, handshake, open_files, resident, status, tunnel, websocket,
};

const WAYS: usize = 16;
const ROUNDS: usize = 80;
/// What a process that has leaked nothing may have grown by, in bytes: its allocator keeps some.
const SLACK: u64 = 16 << 20;

/// Opens a connection, and ends it in one of many ways.
async fn live_and_die(seqgate: &Seqgate, listener: &Gateway, way: usize) {
    match way {
        0..=8 => {
            let Relayed { mut client, mut gateway } = websocket(seqgate, listener, "/").await;
            let event = agent(&format!("run {way}"), 1, 1);
            gateway.send([&event[..], &event].concat()).await;
            client.expect(&event).await;
            match way {
                0 => {
                    client.finish().await;
                    gateway.end().await;
                    gateway.finish().await;
                    client.end().await;
                }
                1 => client.reset(),
                2 => gateway.reset(),
                3 => drop((client, gateway)),
                4 => {
                    gateway.send(&event[..20]).await;
                    gateway.reset();
                    client.rest().await;
                }
                5 => {
                    gateway.send(frame(TEXT_BEGINS, b"{")).await;
                    client.reset();
                    gateway.rest().await;
                }
                6 => {
                    gateway.send(close(1000, "bye")).await;
                    client.expect(&close(1000, "bye")).await;
                    client.send(masked_close(1000, "")).await;
                    gateway.until(&masked_close(1000, "")).await;
                }
                7 => {
                    client.finish().await;
                    gateway.end().await;
                    client.reset();
                    gateway.becomes_reset("half-closed").await;
                }
                _ => {
                    // Much that nobody has read.
                    gateway.send(frame(TEXT, &[b' '; 100_000])).await;
                    drop(client);
                    gateway.rest().await;
                }
            }
        }
        9 => drop(tunnel(seqgate, listener).await),
        10 => tunnel(seqgate, listener).await.client.reset(),
        11 => {
            let mut client = seqgate.connect().await;
            client.send(handshake("/")).await;
            let mut gateway = listener.accept().await;
            gateway.head().await;
            drop(client);
            gateway.rest().await;
        }
        12 => {
            let mut client = seqgate.connect().await;
            client.send("GET / HTTP/1.1\r\nHost : g\r\n\r\n").await;
            assert_eq!(status(&client.head().await), 400);
        }
        13 => {
            let (mut client, mut gateway) =
                asked(seqgate, listener, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
            gateway.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin").await;
            client.until(b"begin").await;
            client.reset();
            gateway.rest().await;
        }
        14 => {
            let request = "POST / HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
            let (mut client, mut gateway) = asked(seqgate, listener, request).await;
            gateway.send("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n").await;
            client.head().await;
            drop(client);
            gateway.rest().await;
        }
        _ => {
            let (mut client, gateway) = asked(seqgate, listener, &handshake("/")).await;
            drop(gateway);
            assert_eq!(status(&client.head().await), 502);
        }
    }
}

async fn asked(seqgate: &Seqgate, listener: &Gateway, request: &str) -> (Peer, Peer) {
    let mut client = seqgate.connect().await;
    client.send(request).await;
    let mut gateway = listener.accept().await;
    gateway.head().await;
    (client, gateway)
}

async fn all_gone(seqgate: &Seqgate) {
    for series in [
        r#"seqgate_connections{kind="gateway"}"#,
        r#"seqgate_connections{kind="tunnel"}"#,
        "seqgate_runs_tracked",
        "seqgate_runs_tracked_largest_connection",
        "seqgate_run_table_bytes",
    ] {
        seqgate.metric_becomes(series, 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_that_end_in_all_ways_leave_nothing_behind() {
    let listener = Gateway::bind().await;
    let seqgate = Seqgate::start(listener.address, &[]).await;
    let run = async |rounds: usize| {
        for n in 0..rounds * WAYS {
            live_and_die(&seqgate, &listener, n % WAYS).await;
        }
        all_gone(&seqgate).await;
    };
    run(5).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(seqgate.connect().await);
    }
    drop(idle);
    eventually("the first connections to be gone", async || open_files() < 40).await;
    let (files, memory) = (open_files(), resident());

    run(ROUNDS).await;
    // The admin page that was just read may still be closing.
    eventually("all files to be closed", async || open_files() <= files + 4).await;
    let growth = resident().saturating_sub(memory);
    assert!(growth < SLACK, "{growth} bytes more than at first");
    assert_eq!(seqgate.metric("seqgate_connection_duration_seconds_count").await, ((ROUNDS + 5) * 11) as f64);
    drop(seqgate);
}
