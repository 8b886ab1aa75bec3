//! A connection leaves nothing behind, however it ends. One test, because it looks at the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use net::frames::{BINARY, TEXT, TEXT_BEGINS, agent, close, frame, masked, masked_close};
use net::{
    Gateway, Peer, Relayed, Seqgate, eventually, handshake, noise, open_files, resident, status, tunnel,
    websocket,
};

const WAYS: usize = 28;
/// Of these, so many become a relay.
const RELAYS: usize = 15;
const ROUNDS: usize = 50;
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
        15..=17 => killed_in_a_relay(websocket(seqgate, listener, "/").await, way).await,
        18 => tunnel(seqgate, listener).await.gateway.reset(),
        19..=24 => fails_to_answer(seqgate, listener, way).await,
        25 => {
            // Several requests at once.
            let get = "GET / HTTP/1.1\r\nHost: g\r\n\r\n";
            let (client, mut gateway) = asked(seqgate, listener, &get.repeat(3)).await;
            client.reset();
            gateway.rest().await;
        }
        26 => {
            let (client, mut gateway) =
                asked(seqgate, listener, "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\nbegin")
                    .await;
            client.reset();
            gateway.rest().await;
        }
        _ => {
            // More than is read before the gateway has answered.
            let early = [handshake("/").as_bytes(), &[0; 40_000]].concat();
            let mut client = seqgate.connect().await;
            client.send(early).await;
            let mut gateway = listener.accept().await;
            gateway.head().await;
            client.reset();
            drop(gateway);
        }
    }
}

/// One side dies where the other is in the middle of something.
async fn killed_in_a_relay(relayed: Relayed, way: usize) {
    let Relayed { mut client, mut gateway } = relayed;
    match way {
        15 => {
            let half = &masked(BINARY, &[0; 5000])[..3000];
            client.send(half).await;
            gateway.expect(half).await;
            client.reset();
            gateway.rest().await;
        }
        16 => {
            gateway.send([&close(1000, "")[..], b"and more"].concat()).await;
            client.until(b"and more").await;
            gateway.reset();
            client.rest().await;
        }
        _ => {
            gateway.send(noise(3, 5000)).await;
            client.send(noise(4, 5000)).await;
            client.until(&noise(3, 5000)[4900..]).await;
            drop((client, gateway));
        }
    }
}

/// The gateway dies before its answer is whole, or gives one that is none.
async fn fails_to_answer(seqgate: &Seqgate, listener: &Gateway, way: usize) {
    for request in ["GET / HTTP/1.1\r\nHost: g\r\n\r\n", &handshake("/")] {
        let (mut client, mut gateway) = asked(seqgate, listener, request).await;
        match way {
            19 => gateway.reset(),
            20 => drop(gateway),
            21 => {
                gateway.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: web").await;
                gateway.reset();
            }
            22 => {
                gateway.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n").await;
                gateway.rest().await;
            }
            23 => {
                gateway.send(noise(1, 5000)).await;
                gateway.rest().await;
            }
            _ => {
                gateway.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin").await;
                client.until(b"begin").await;
                gateway.reset();
                client.rest().await;
                continue;
            }
        }
        assert_eq!(status(&client.head().await), 502);
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
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (files, memory, tasks_at_first) = (open_files(), resident(), tasks());

    run(ROUNDS).await;
    // The admin page that was just read may still be closing.
    eventually("all files to be closed", async || open_files() <= files + 4).await;
    eventually("all tasks to end", async || tasks() <= tasks_at_first).await;
    let growth = resident().saturating_sub(memory);
    assert!(growth < SLACK, "{growth} bytes more than at first");
    assert_eq!(
        seqgate.metric("seqgate_connection_duration_seconds_count").await,
        ((ROUNDS + 5) * RELAYS) as f64
    );
    drop(seqgate);
}
