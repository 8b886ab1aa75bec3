//! What the gateway answers, or does not: relayed word for word where it can be read in one way only.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::time::Duration;

use net::http::{OK, ask, assert_own, serve};
use net::{CONSENT, DeadAddress, End, Seqgate, handshake, house, lines, patiently};
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upgrade_is_relayed_word_for_word() {
    let (gateway, seqgate) = house(&[]).await;
    let json = r#"{"error":"proxy_attribution_required"}"#;
    for status in ["403 Forbidden", "401 Unauthorized", "503 Service Unavailable", "426 Upgrade Required"] {
        let refusal = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Why: Because\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            json.len()
        );
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, &handshake("/")).await;
        server.send([&refusal, json].concat()).await;
        assert_eq!(
            lines(&client.head().await.replace("connection: close", "Connection: close")),
            lines(&refusal)
        );
        client.expect(json.as_bytes()).await;
        assert_eq!(client.end().await, End::Fin);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_refused_upgrade_the_connection_goes_on_if_the_gateway_lets_it() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    for _ in 0..2 {
        // The request behind it may have been sent before the refusal.
        let requests = [&handshake("/"), "GET /next HTTP/1.1\r\nHost: g\r\n\r\n"].concat();
        let (mut server, _) = ask(&mut client, &gateway, &requests).await;
        server.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, &answer.body[..]), (403, &b"no"[..]));
        serve(server, &gateway, "/next", OK).await;
        assert_eq!(client.answer().await.body, b"ok");
    }
    // The same connection may still become a WebSocket.
    let mut relayed = net::open(client, &gateway, &handshake("/"), CONSENT).await;
    relayed.client.send("anything").await;
    relayed.gateway.expect(b"anything").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_101_that_nobody_asked_for_is_a_bad_answer() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    server.send(CONSENT).await;
    assert_own(&client.answer().await, 502, "upstream_bad_answer");
    server.rest().await;
    seqgate.metric_becomes(r#"seqgate_connections{kind="gateway"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_down_is_a_502_that_says_so() {
    let dead = DeadAddress::new();
    let seqgate = Seqgate::start(dead.address, &[]).await;
    for request in ["GET / HTTP/1.1\r\nHost: g\r\n\r\n", &handshake("/")] {
        let mut client = seqgate.connect().await;
        client.send(request).await;
        let message = assert_own(&client.answer().await, 502, "upstream_unreachable");
        assert!(message.contains("refused"), "{message}");
        // The client may try again on the same connection.
        client.send(request).await;
        assert_own(&client.answer().await, 502, "upstream_unreachable");
    }
    seqgate.metric_becomes(r#"seqgate_connections_rejected_total{reason="upstream_unreachable"}"#, 4.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_accept_in_time_is_a_502_that_says_so() {
    // A listener with a queue of one, which is full: further SYNs are not answered.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fillers = Vec::new();
    loop {
        match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(filler) if fillers.len() < 64 => fillers.push(filler),
            Ok(_) => return eprintln!("skipped: this system's queues are never full"),
            Err(_) => break,
        }
    }
    let seqgate = Seqgate::start(address, &[("connect-timeout", "200ms")]).await;
    let mut client = seqgate.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let message = assert_own(&client.answer().await, 502, "upstream_timeout");
    assert!(message.contains("200ms"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_answers_nonsense_is_a_502_that_says_so() {
    let (gateway, seqgate) = house(&[]).await;
    for (nonsense, why) in [
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", "not HTTP"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "not HTTP"),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "not HTTP"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "not HTTP"),
        ("", "closed"),
        ("HTTP/1.1 200", "closed"),
    ] {
        for request in ["POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\n\r\nx", &handshake("/")] {
            let mut client = seqgate.connect().await;
            let (mut server, _) = ask(&mut client, &gateway, request).await;
            server.send(nonsense).await;
            server.finish().await;
            let message = assert_own(&client.answer().await, 502, "upstream_bad_answer");
            assert!(message.contains(why), "{nonsense:?}: {message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_two_parsers_could_read_differently_is_a_502() {
    let (gateway, seqgate) = house(&[]).await;
    let mut expected = 0.0;
    for fields in [
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2, 2",
        "Content-Length: +2",
        "Content-Length: -2",
        "Content-Length: 0x2",
        "Content-Length: 2 2",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:",
        "Content-Length: 2\r\nX: a\0b",
        "Content-Length: 2\r\nX\0: a",
        "Content-Length: 2\r\nX: a\x01b",
        "Content-Length: 2\r\nX: a\rb",
        "Content-Length: 2\r\nX : a",
        "Content-Length: 2\r\nX: a\r\n b",
        "Content-Length: 2\r\n: a",
        "Content-Length : 2",
    ] {
        for request in
            ["GET / HTTP/1.1\r\nHost: g\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: g\r\n\r\n", &handshake("/")]
        {
            // To HEAD a length is not read, only passed on, where it can be passed on in one way.
            for status in ["200 OK", "403 Forbidden"] {
                let mut client = seqgate.connect().await;
                let (mut server, _) = ask(&mut client, &gateway, request).await;
                server.send(format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\nok")).await;
                let head = client.head().await;
                assert_eq!(net::status(&head), 502, "{fields:?}, {request}: {head}");
                expected += 1.0;
                // The gateway's connection is not used again.
                server.rest().await;
            }
        }
    }
    let refused = r#"seqgate_connections_rejected_total{reason="upstream_bad_answer"}"#;
    seqgate.metric_becomes(refused, expected).await;
    // In HTTP/1.0 there are no chunks.
    let mut client = seqgate.connect().await;
    let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    server.send("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert_own(&client.answer().await, 502, "upstream_bad_answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ambiguous_answer_on_a_kept_connection_is_a_502_too() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let (server, _) = {
        let (mut server, head) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        server.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok");
        (server, head)
    };
    client.send("GET /b HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let _server =
        serve(server, &gateway, "/b", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok")
            .await;
    assert_own(&client.answer().await, 502, "upstream_bad_answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_asked_for_is_given_to_nobody() {
    let (gateway, seqgate) = house(&[]).await;
    let extra = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";
    for _ in 0..10 {
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        server.send([OK, extra].concat()).await;
        assert_eq!(client.answer().await.body, b"ok");
        let (mut server, _) = ask(&mut client, &gateway, "GET /next HTTP/1.1\r\nHost: g\r\n\r\n").await;
        server.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_loose_line_ends_reaches_the_client_with_strict_ones() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    server.send("HTTP/1.1 200 OK\nX-A:  b \r\nContent-Length: 2\n\nok").await;
    let head = client.head().await;
    assert_eq!(lines(&head), lines("HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\n"));
    client.expect(b"ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_do_not_stand_in_the_way_however_many() {
    let (gateway, seqgate) = house(&[]).await;
    let interim =
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(2) + "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    // Asked for.
    let mut client = seqgate.connect().await;
    let post = "POST / HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let (mut server, _) = ask(&mut client, &gateway, post).await;
    server.send(&interim).await;
    client.expect(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("body").await;
    server.expect(b"body").await;
    server.send(OK).await;
    assert_eq!(client.answer().await.body, b"ok");
    // And not.
    for (request, answer) in [("GET / HTTP/1.1\r\nHost: g\r\n\r\n", OK), (&handshake("/"), CONSENT)] {
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, request).await;
        server.send(interim.repeat(1000)).await;
        server.send(answer).await;
        assert_eq!(lines(&client.head().await).0, lines(answer).0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answers_head_without_an_end_is_a_502() {
    let (gateway, seqgate) = house(&[]).await;
    for endless in ["X-A: b\r\n".repeat(64), "c".repeat(500)] {
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        server.send("HTTP/1.1 200 OK\r\nX-A: ").await;
        let sent = async { while server.stream.write_all(endless.as_bytes()).await.is_ok() {} };
        let ((), answer) =
            tokio::join!(patiently("the end of the gateway's patience", sent), client.answer());
        assert_own(&answer, 502, "upstream_bad_answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_dies_before_its_answer_is_whole_is_a_502_at_once() {
    let (gateway, seqgate) = house(&[]).await;
    let starts = ["", "HTTP", "HTTP/1.1 200 OK\r\nContent-", &CONSENT[..CONSENT.len() - 2]];
    for start in starts {
        for resets in [false, true] {
            for request in ["POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\n\r\nx", &handshake("/")] {
                let mut client = seqgate.connect().await;
                let (mut server, _) = ask(&mut client, &gateway, request).await;
                if request.starts_with("POST") {
                    server.expect(b"x").await;
                }
                server.send(start).await;
                if resets {
                    server.reset()
                } else {
                    drop(server)
                }
                let message = assert_own(&client.answer().await, 502, "upstream_bad_answer");
                assert!(message.contains("closed"), "{start:?}: {message}");
            }
        }
    }
    let all = (starts.len() * 4) as f64;
    seqgate.metric_becomes(r#"seqgate_connections_rejected_total{reason="upstream_bad_answer"}"#, all).await;
    seqgate.metric_becomes(r#"seqgate_http_requests_total{code="5xx"}"#, all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_with_a_wrong_accept_is_the_clients_to_refuse() {
    let (gateway, seqgate) = house(&[]).await;
    for accept in ["Sec-WebSocket-Accept: wrong\r\n", ""] {
        let consent = CONSENT.replace("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", accept);
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, &handshake("/")).await;
        server.send(&consent).await;
        client.expect(consent.as_bytes()).await;
        client.reset();
        assert_eq!(server.end().await, End::Reset);
    }
    seqgate.metric_becomes(r#"seqgate_closes_total{initiator="client",code="1006"}"#, 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_whose_extensions_or_trailers_never_end_are_cut_off() {
    let (gateway, seqgate) = house(&[]).await;
    for (start, endless) in [("1;", "extension"), ("0\r\n", "X-Trailer: y\r\n"), ("0\r\nX: ", "trailer")] {
        let mut client = seqgate.connect().await;
        let (mut server, _) =
            ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\nTE: trailers\r\n\r\n").await;
        server.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n{start}")).await;
        client.head().await;
        assert_eq!(client.chunk().await, b"x");
        let piece = endless.repeat(100);
        let sent = async { while server.stream.write_all(piece.as_bytes()).await.is_ok() {} };
        let ((), (rest, _)) = tokio::join!(patiently("the end of seqgate's patience", sent), client.rest());
        assert_eq!(String::from_utf8_lossy(&rest), "", "{start:?}");
    }
}
