//! HTTP that ends before its time: whoever leaves, is held back or breaks off, the other side learns it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::time::{Duration, Instant};

use net::cable::Cable;
use net::http::{OK, ask};
use net::{End, Gateway, Peer, Seqgate, assert_same, handshake, house, value};
use tokio::io::AsyncReadExt;

/// More than all buffers between two peers hold.
const MOST: usize = 48 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let (gateway, seqgate) = house(&[]).await;
    // While the gateway thinks, in the middle of its answer, and in the middle of the request.
    for (request, answer) in [
        ("GET / HTTP/1.1\r\nHost: g\r\n\r\n", ""),
        ("GET / HTTP/1.1\r\nHost: g\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin"),
        (
            "GET / HTTP/1.1\r\nHost: g\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
        ),
        ("POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\nbegin", ""),
        ("POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n", ""),
        (&handshake("/"), ""),
    ] {
        for resets in [false, true] {
            let mut client = seqgate.connect().await;
            let (mut server, _) = ask(&mut client, &gateway, request).await;
            if !answer.is_empty() {
                server.send(answer).await;
                client.head().await;
            }
            if resets {
                client.reset()
            } else {
                drop(client)
            }
            // The gateway sees an end without having sent a byte more.
            server.rest().await;
        }
    }
    // Nobody blames the gateway for it.
    seqgate.metric_becomes(r#"seqgate_connections_rejected_total{reason="upstream_bad_answer"}"#, 0.0).await;
    seqgate.metric_becomes(r#"seqgate_http_requests_total{code="5xx"}"#, 0.0).await;
    seqgate.metric_becomes(r#"seqgate_http_requests_total{code="canceled"}"#, 4.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_cut_off_for_the_client_too() {
    let (gateway, seqgate) = house(&[]).await;
    for (answer, resets) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n1;bad\u{1}\n", false),
        ("HTTP/1.1 200 OK\r\n\r\nbegin", true),
    ] {
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        server.send(answer).await;
        let head = client.head().await;
        if value(&head, "content-length").is_some() {
            client.expect(b"begin").await;
        } else {
            assert_eq!(client.chunk().await, b"begin");
        }
        if resets {
            server.reset()
        } else {
            drop(server)
        }
        let (rest, _) = client.rest().await;
        assert_same(&rest, b"", answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_never_looks_whole_to_an_http_1_0_client() {
    let (gateway, seqgate) = house(&[]).await;
    for (answer, resets) in [
        ("HTTP/1.1 200 OK\r\n\r\nbegin", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n", false),
    ] {
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.0\r\nHost: g\r\n\r\n").await;
        server.send(answer).await;
        client.head().await;
        client.expect(b"begin").await;
        if resets {
            server.reset()
        } else {
            drop(server)
        }
        // Its end is all that says where the answer ends.
        assert_eq!(client.end().await, End::Reset, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_an_answer_broke_off_reaches_the_client() {
    let (gateway, seqgate) = house(&[]).await;
    for (framing, piece) in
        [("Transfer-Encoding: chunked", "5\r\nevent\r\n"), ("Content-Length: 1000", "event")]
    {
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{}", piece.repeat(40));
        // All of it at once, so that the end is there while hyper still holds what came before.
        for _ in 0..20 {
            let mut client = seqgate.connect().await;
            let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
            server.send(&answer).await;
            drop(server);
            client.head().await;
            let (rest, _) = client.rest().await;
            let events = String::from_utf8_lossy(&rest).matches("event").count();
            assert_eq!(events, 40, "{framing}: {}", String::from_utf8_lossy(&rest));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_holds_the_gateway_back() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = Peer::connect_small(seqgate.addresses.listen, 16 * 1024).await;
    let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MOST}\r\n\r\n")).await;
    let taken = server.push_until_blocked(MOST).await;
    assert!(taken < MOST, "all {taken} bytes were taken by somebody");
    client.head().await;
    let (_, body) = tokio::join!(server.send(net::pattern(taken, MOST)), client.take(MOST));
    assert_same(&body, &net::pattern(0, MOST), "all of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_reads_nothing_holds_the_client_back() {
    let gateway = Gateway::bind_small(16 * 1024).await;
    let seqgate = Seqgate::start(gateway.address, &[]).await;
    let mut client = seqgate.connect().await;
    let request = format!("POST / HTTP/1.1\r\nHost: g\r\nContent-Length: {MOST}\r\n\r\n");
    let (mut server, _) = ask(&mut client, &gateway, &request).await;
    let taken = client.push_until_blocked(MOST).await;
    assert!(taken < MOST, "all {taken} bytes were taken by somebody");
    let (_, body) = tokio::join!(client.send(net::pattern(taken, MOST)), server.take(MOST));
    assert_same(&body, &net::pattern(0, MOST), "all of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_blocked_upload_frees_the_gateway() {
    let gateway = Gateway::bind_small(16 * 1024).await;
    let seqgate = Seqgate::start(gateway.address, &[]).await;
    for answer in ["", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"] {
        let mut client = seqgate.connect().await;
        let request = format!("POST / HTTP/1.1\r\nHost: g\r\nContent-Length: {MOST}\r\n\r\n");
        let (mut server, _) = ask(&mut client, &gateway, &request).await;
        let taken = client.push_until_blocked(MOST).await;
        assert!(taken < MOST);
        server.send(answer).await;
        if !answer.is_empty() {
            client.head().await;
        }
        client.reset();
        // Less than was taken arrives: what was on its way through seqgate is not waited for.
        let (rest, _) = server.rest().await;
        assert!(rest.len() < MOST);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_behind_a_bad_request_is_noticed() {
    // 1. A request is being answered. 2. A bad one arrives behind it and waits for its 400. 3. The client leaves.
    let (gateway, seqgate) = house(&[]).await;
    for resets in [false, true] {
        let mut client = seqgate.connect().await;
        let both = "GET /slow HTTP/1.1\r\nHost: g\r\n\r\nGET /bad HTTP/1.1\r\nHost : g\r\n\r\n";
        let (mut server, _) = ask(&mut client, &gateway, both).await;
        if resets {
            client.reset()
        } else {
            drop(client)
        }
        server.rest().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_into_an_answer_that_broke_off() {
    let (gateway, seqgate) = house(&[]).await;
    let bad = "GET /bad HTTP/1.1\r\nHost : g\r\n\r\n";
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nbegin",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n",
    ] {
        let mut client = seqgate.connect().await;
        let both = ["GET / HTTP/1.1\r\nHost: g\r\n\r\n", bad].concat();
        let (mut server, _) = ask(&mut client, &gateway, &both).await;
        server.send(answer).await;
        client.until(b"begin").await;
        drop(server);
        let (rest, _) = client.rest().await;
        assert!(!rest.windows(8).any(|w| w == b"HTTP/1.1"), "{:?}", String::from_utf8_lossy(&rest));
    }
    // The same where the answer came before the end of a body that turns bad.
    let mut client = seqgate.connect().await;
    let start = "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
    let (mut server, _) = ask(&mut client, &gateway, start).await;
    server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n").await;
    client.until(b"begin\r\n").await;
    client.send("garbage\r\n").await;
    let (rest, _) = client.rest().await;
    assert!(!rest.windows(8).any(|w| w == b"HTTP/1.1"), "{:?}", String::from_utf8_lossy(&rest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_behind_several_requests_is_noticed() {
    // 1. A request is being answered. 2. Others wait behind it, whole or in part. 3. The client leaves.
    let (gateway, seqgate) = house(&[]).await;
    for behind in ["GET /next HTTP/1.1\r\nHost: g\r\n\r\n", "GET /next HT", "\r\n", &handshake("/")] {
        for resets in [false, true] {
            let mut client = seqgate.connect().await;
            let both = ["GET /slow HTTP/1.1\r\nHost: g\r\n\r\n", behind].concat();
            let (mut server, _) = ask(&mut client, &gateway, &both).await;
            if resets {
                client.reset()
            } else {
                drop(client)
            }
            server.rest().await;
            assert!(gateway.is_untouched(), "{behind:?}");
        }
    }
    seqgate.metric_becomes(r#"seqgate_http_requests_total{code="canceled"}"#, 8.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_an_event_stream_leave_as_they_arrive_without_a_delay() {
    let (gateway, seqgate) = house(&[]).await;
    let start = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = seqgate.connect().await;
    let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    server.send(start).await;
    client.head().await;
    let mut through = chunk_times(&mut server, &mut client).await;
    // The same without seqgate.
    let mut client = Peer::connect(gateway.address).await;
    let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut direct = chunk_times(&mut server, &mut client).await;
    through.sort_unstable();
    direct.sort_unstable();
    println!(
        "a chunk takes {:?} through seqgate, {:?} without it (medians)",
        through[CHUNKS / 2],
        direct[CHUNKS / 2]
    );
    // Whatever waits for more bytes, an acknowledgement or a timer would show in every single chunk.
    assert!(through[0] < direct[0] + Duration::from_millis(5), "{:?} against {:?}", through[0], direct[0]);
}

const CHUNKS: usize = 200;

/// How long each chunk is on its way.
async fn chunk_times(server: &mut Peer, client: &mut Peer) -> Vec<Duration> {
    let mut times = Vec::new();
    for n in 0..CHUNKS {
        let event = format!("data: {n}\n\n");
        let sent = Instant::now();
        server.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert_eq!(client.chunk().await, event.as_bytes());
        times.push(sent.elapsed());
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "more than a minute of silence"]
async fn an_idle_client_connection_outlives_a_load_balancer_that_closes_after_60_s() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    server.send(OK).await;
    assert_eq!(client.answer().await.body, b"ok");
    let since = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(240), client.stream.read(&mut [0])).await;
    assert_eq!(ended.expect("the end of the connection").unwrap_or(0), 0);
    assert!(since.elapsed() > Duration::from_secs(70), "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "90 s of silence"]
async fn a_client_that_vanishes_without_a_word_takes_its_request_with_it() {
    let here = "10.201.78.1";
    let Some(cable) = Cable::lay([here, "10.201.78.2"], ["fd5e:9a7f::1", "fd5e:9a7f::2"]) else {
        return eprintln!("skipped: `ip netns add` is not permitted here");
    };
    let gateway = Gateway::bind().await;
    let seqgate = Seqgate::start(gateway.address, &[("listen", &format!("{here}:0"))]).await;
    let mut client = cable.send(seqgate.addresses.listen, "GET / HTTP/1.1\r\nHost: g\r\n\r\n");
    let mut server = gateway.accept().await;
    server.head().await;
    cable.silence(here);
    let since = Instant::now();
    let noticed = tokio::time::timeout(Duration::from_secs(240), server.stream.read(&mut [0])).await;
    println!("noticed after {:?}", since.elapsed());
    assert_eq!(noticed.expect("the end of the request").unwrap_or(0), 0);
    let _ = client.kill();
    let _ = client.wait();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "90 s of silence"]
async fn a_client_that_vanishes_with_unacknowledged_data_frees_its_place_within_two_minutes() {
    let here = "10.201.79.1";
    let Some(cable) = Cable::lay([here, "10.201.79.2"], ["fd5e:9a80::1", "fd5e:9a80::2"]) else {
        return eprintln!("skipped: `ip netns add` is not permitted here");
    };
    let gateway = Gateway::bind().await;
    let seqgate = Seqgate::start(gateway.address, &[("listen", &format!("{here}:0"))]).await;
    let mut client = cable.send(seqgate.addresses.listen, "GET / HTTP/1.1\r\nHost: g\r\n\r\n");
    let mut server = gateway.accept().await;
    server.head().await;
    cable.silence(here);
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
    let since = Instant::now();
    let noticed = tokio::time::timeout(Duration::from_secs(120), server.stream.read(&mut [0])).await;
    println!("noticed after {:?}", since.elapsed());
    assert_eq!(noticed.expect("the end of the request").unwrap_or(0), 0);
    seqgate.metric_becomes("seqgate_clients", 0.0).await;
    let _ = client.kill();
    let _ = client.wait();
}
