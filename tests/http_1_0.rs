//! Clients that speak HTTP/1.0, as proxies do by default, get what the gateway would give them directly.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use net::frames::{TEXT, frame, masked};
use net::http::{OK, ask, assert_own, serve};
use net::{CONSENT, End, assert_same, house, status, value};

const UPGRADE: &str =
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_in_http_1_0_becomes_a_websocket() {
    let (gateway, seqgate) = house(&[]).await;
    for (target, host) in [("/", "Host: g\r\n"), ("/", ""), ("/a\"b?\u{fc}", "Host: g\r\n"), ("http://g", "")]
    {
        let request = format!("GET {target} HTTP/1.0\r\n{host}Connection: upgrade\r\n{UPGRADE}");
        let mut client = seqgate.connect().await;
        // The client's first frame may be there before the gateway has answered.
        client.send([request.as_bytes(), &masked(TEXT, b"{\"early\":1}")].concat()).await;
        let mut server = gateway.accept().await;
        let head = server.head().await;
        assert_eq!(net::lines(&head), net::lines(&request));
        server.send(CONSENT).await;
        client.expect(CONSENT.as_bytes()).await;
        server.expect(&masked(TEXT, b"{\"early\":1}")).await;
        server.send(frame(TEXT, b"{\"a\":1}")).await;
        client.expect(&frame(TEXT, b"{\"a\":1}")).await;
        seqgate.metric_becomes(r#"seqgate_connections{kind="gateway"}"#, 1.0).await;
        client.finish().await;
        assert_eq!(server.end().await, End::Fin);
        drop((client, server));
        seqgate.metric_becomes(r#"seqgate_connections{kind="gateway"}"#, 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upgrade_in_http_1_0_is_answered_in_http_1_0() {
    let (gateway, seqgate) = house(&[]).await;
    for (answer, body) in [
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno", "no"),
        ("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", "no"),
        ("HTTP/1.1 426 Upgrade Required\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", "no"),
        ("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", ""),
    ] {
        let request = format!("GET / HTTP/1.0\r\nHost: g\r\nConnection: upgrade\r\n{UPGRADE}");
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, &request).await;
        server.send(answer).await;
        let head = client.head().await;
        assert_eq!(status(&head), status(answer), "{head}");
        assert_eq!(value(&head, "transfer-encoding"), None, "{head}");
        assert_eq!(value(&head, "connection"), Some("close"), "{head}");
        let (rest, end) = client.rest().await;
        assert_same(&rest, body.as_bytes(), answer);
        assert_eq!(end, End::Fin, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_connection_upgrade_a_request_in_http_1_0_is_a_request() {
    let (gateway, seqgate) = house(&[]).await;
    for connection in ["", "Connection: close\r\n", "Connection: keep-alive\r\n"] {
        let request = format!("GET / HTTP/1.0\r\nHost: g\r\n{connection}{UPGRADE}");
        let mut client = seqgate.connect().await;
        let (mut server, head) = ask(&mut client, &gateway, &request).await;
        assert_eq!(value(&head, "upgrade"), None, "{head}");
        server.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_the_connection_does_not_promise_to_keep_it() {
    let (gateway, seqgate) = house(&[]).await;
    for (answer, body) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: y\r\n\r\n",
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: y\r\nX-U: z\r\n\r\n",
            "ok",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\nX-T: y\r\n\r\n",
            "",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""),
    ] {
        for connection in ["keep-alive", "Keep-Alive", "close", "keep-alive, x"] {
            let request = format!("GET / HTTP/1.0\r\nHost: g\r\nConnection: {connection}\r\n\r\n");
            let mut client = seqgate.connect().await;
            let (mut server, _) = ask(&mut client, &gateway, &request).await;
            server.send(answer).await;
            let head = client.head().await;
            assert_eq!(value(&head, "connection"), Some("close"), "{answer}: {head}");
            assert_eq!(value(&head, "transfer-encoding"), None, "{answer}: {head}");
            let (rest, end) = client.rest().await;
            assert_same(&rest, body.as_bytes(), answer);
            assert_eq!(end, End::Fin, "{answer}");
        }
    }
    // The gateway's connection ends with the answer, too.
    for answer in ["HTTP/1.1 200 OK\r\n\r\nok", "HTTP/1.0 200 OK\r\n\r\nok"] {
        let mut client = seqgate.connect().await;
        let request = "GET / HTTP/1.0\r\nHost: g\r\nConnection: keep-alive\r\n\r\n";
        let (mut server, _) = ask(&mut client, &gateway, request).await;
        server.send(answer).await;
        server.finish().await;
        let head = client.head().await;
        assert_eq!(value(&head, "connection"), Some("close"), "{answer}: {head}");
        assert_eq!(client.rest().await, (b"ok".to_vec(), End::Fin), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_a_length_keeps_the_connection_that_asks_for_it() {
    let (gateway, seqgate) = house(&[]).await;
    for (method, answer, body) in [
        ("GET", OK, "ok"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", ""),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", ""),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", ""),
    ] {
        let mut client = seqgate.connect().await;
        let request = format!("{method} / HTTP/1.0\r\nHost: g\r\nConnection: keep-alive\r\n\r\n");
        let (mut server, _) = ask(&mut client, &gateway, &request).await;
        server.send(answer).await;
        let head = client.head().await;
        assert_eq!(value(&head, "connection"), Some("keep-alive"), "{answer}: {head}");
        client.expect(body.as_bytes()).await;
        client.send("GET /next HTTP/1.1\r\nHost: g\r\n\r\n").await;
        serve(server, &gateway, "/next", OK).await;
        assert_eq!(client.answer().await.body, b"ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_seqgate_keeps_the_connection_only_if_it_promises_to() {
    let (gateway, seqgate) = house(&[("guard-max-live-runs", "1")]).await;
    let mut first = seqgate.connect().await;
    let post =
        "POST /v1/responses HTTP/1.0\r\nHost: g\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}";
    let (server, _) = ask(&mut first, &gateway, post).await;
    let mut second = seqgate.connect().await;
    second.send(post).await;
    let answer = second.answer().await;
    assert_own(&answer, 429, "guard");
    assert_eq!(value(&answer.head, "connection"), Some("close"));
    assert_eq!(second.end().await, End::Fin);
    drop(server);
    let answer = first.answer().await;
    assert_own(&answer, 502, "upstream_bad_answer");
    assert_eq!(value(&answer.head, "connection"), Some("keep-alive"));
    let (mut server, _) = ask(&mut first, &gateway, "GET / HTTP/1.0\r\nHost: g\r\n\r\n").await;
    server.send(OK).await;
    assert_eq!(first.answer().await.body, b"ok");
}
