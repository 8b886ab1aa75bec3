//! However many runs there are and however long their ids: memory stays within what was promised.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use net::frames::agent;
use net::{Relayed, house, resident, websocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CAPACITY: u64 = 1024;
const WARM: u64 = 2_000;
const ID: usize = 10 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_within_the_promise_whatever_the_runs() {
    flood(60_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten gigabytes: a minute in a release build"]
async fn memory_stays_within_the_promise_for_a_million_runs() {
    flood(1_000_000).await;
}

/// So many unique runs through one connection.
async fn flood(runs: u64) {
    let (listener, seqgate) = house(&[("max-connections", "8")]).await;
    let promise = seqgate.config.memory_bound().total();
    // The ids together are far more than was promised: were they kept, it would show.
    assert!(promise < runs * ID as u64 / 10, "{promise}");
    let Relayed { client, gateway } = websocket(&seqgate, &listener, "/").await;
    let (_client_writes, mut client, mut gateway) = {
        let (reads, writes) = client.stream.into_split();
        (writes, reads, gateway.stream)
    };
    let padding = "-".repeat(ID);
    let mut buffer = vec![0; 256 << 10];
    let mut base = 0;
    let mut largest = 0;
    for first in (0..runs).step_by(100) {
        let frames =
            (first..first + 100).map(|n| agent(&format!("{n}{padding}"), 1, n)).collect::<Vec<_>>().concat();
        let received = async {
            let mut left = frames.len();
            while left > 0 {
                let most = left.min(buffer.len());
                let n = client.read(&mut buffer[..most]).await.unwrap();
                assert!(n > 0);
                left -= n;
            }
        };
        let both = async { tokio::join!(gateway.write_all(&frames), received) };
        net::patiently("a hundred runs", both).await.0.unwrap();
        if first == WARM {
            base = resident();
        } else if first > WARM {
            largest = largest.max(resident());
        }
    }
    seqgate.metric_becomes("seqgate_runs_started_total", runs as f64).await;
    seqgate.metric_becomes("seqgate_runs_tracked", CAPACITY as f64).await;
    let evicted = seqgate.metric(r#"seqgate_runs_evicted_total{reason="capacity_live"}"#).await;
    assert_eq!(evicted, (runs - CAPACITY) as f64);
    let distinct = seqgate.metric("seqgate_gateway_distinct_runs").await;
    assert!((distinct / runs as f64 - 1.0).abs() < 0.1, "{distinct}");
    let table = seqgate.metric("seqgate_run_table_bytes").await;
    assert!(table > 0.0 && table < promise as f64, "{table}");
    let growth = largest.saturating_sub(base);
    println!("{runs} runs: {} KiB more, {} KiB promised", growth >> 10, promise >> 10);
    assert!(growth < promise, "{growth} bytes more, {promise} promised");
}
