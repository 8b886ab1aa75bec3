//! Requests that seqgate itself refuses: what two parsers could read differently, what is too much, too large or too slow.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::time::Duration;

use net::http::{OK, ask, assert_own};
use net::{End, Gateway, Seqgate, eventually, handshake, house, lines, patiently, status, value, websocket};
use tokio::io::AsyncWriteExt;

/// Sends bytes of which nothing may reach the gateway; the client is told why and the connection is closed.
async fn refused(seqgate: &Seqgate, gateway: &Gateway, bytes: &[u8], status: u16, code: &str) -> String {
    let mut client = seqgate.connect().await;
    client.send(bytes).await;
    let answer = client.answer().await;
    let message = assert_own(&answer, status, code);
    assert_eq!(client.end().await, End::Fin, "{message}");
    assert!(gateway.is_untouched(), "{message}");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_beyond_the_limit_is_told_when_to_come_again() {
    let (gateway, seqgate) = house(&[("max-connections", "2")]).await;
    let first = websocket(&seqgate, &gateway, "/").await;
    let mut second = seqgate.connect().await;
    let (mut server, _) = ask(&mut second, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut third = seqgate.connect().await;
    third.send(handshake("/")).await;
    let answer = third.answer().await;
    let message = assert_own(&answer, 503, "limit");
    assert!(message.contains("SEQGATE_MAX_CONNECTIONS"), "{message}");
    assert_eq!(value(&answer.head, "retry-after"), Some("1"));
    assert_eq!(third.end().await, End::Fin);
    assert!(gateway.is_untouched());
    seqgate.metric_becomes(r#"seqgate_connections_rejected_total{reason="limit"}"#, 1.0).await;
    // The others are not disturbed, and their places are given away when they have gone.
    server.send(OK).await;
    assert_eq!(second.answer().await.body, b"ok");
    drop((first, second));
    eventually("a free place", async || {
        let mut client = seqgate.connect().await;
        client.send("GET /free HTTP/1.1\r\nHost: g\r\n\r\n").await;
        tokio::select! {
            head = client.head() => { assert_eq!(status(&head), 503); false }
            mut server = gateway.accept() => { server.head().await; true }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_arrive_in_time_is_a_408() {
    let (gateway, seqgate) = house(&[("header-timeout", "300ms")]).await;
    for start in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: g\r\nX-Slow: "] {
        refused(&seqgate, &gateway, start.as_bytes(), 408, "header_timeout").await;
    }
    // Byte by byte is no way out.
    let mut client = seqgate.connect().await;
    let dripping = async {
        let (mut reader, mut writer) = tokio::io::split(&mut client.stream);
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let drip = async {
            while writer.write_all(b"X").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut seen = Vec::new();
        tokio::select! {
            () = drip => {}
            end = reader.read_to_end(&mut seen) => { let _ = end; }
        }
        seen
    };
    let seen = patiently("a 408", dripping).await;
    assert!(seen.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&seen));
    // Who says nothing at all is not answered, only closed.
    let mut silent = seqgate.connect().await;
    assert_eq!(silent.end().await, End::Fin);
    seqgate.metric_becomes(r#"seqgate_connections_rejected_total{reason="header_timeout"}"#, 4.0).await;
    // Nor are empty lines, which may stand before a request, a way out.
    let mut client = seqgate.connect().await;
    let dripping = async {
        for byte in b"\r\n".iter().cycle() {
            if client.stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently("the end of the empty lines", dripping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_second_head_is_a_408_too_and_a_slow_answer_is_not() {
    let (gateway, seqgate) = house(&[("header-timeout", "200ms")]).await;
    let mut client = seqgate.connect().await;
    let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    // Longer than the time for a head: it is the gateway's turn.
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.send(OK).await;
    assert_eq!(client.answer().await.body, b"ok");
    // A connection may be idle longer than that, too.
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.send("GET /b HTTP/1.1\r\nHo").await;
    assert_own(&client.answer().await, 408, "header_timeout");
    assert_eq!(client.end().await, End::Fin);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_not_cut_off() {
    let (gateway, seqgate) = house(&[("header-timeout", "200ms")]).await;
    for (framing, pieces) in [
        ("Content-Length: 3", ["a", "b", "c"]),
        ("Transfer-Encoding: chunked", ["1\r\na", "\r\n2\r\nb", "c\r\n0\r\n\r\n"]),
    ] {
        let mut client = seqgate.connect().await;
        let (mut server, _) =
            ask(&mut client, &gateway, &format!("POST / HTTP/1.1\r\nHost: g\r\n{framing}\r\n\r\n")).await;
        for piece in pieces {
            tokio::time::sleep(Duration::from_millis(300)).await;
            client.send(piece).await;
        }
        server.until(b"c").await;
        server.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_16_kib_passes_and_one_beyond_64_kib_is_a_431() {
    let (gateway, seqgate) = house(&[]).await;
    for size in [16 << 10, 60 << 10] {
        let mut client = seqgate.connect().await;
        let request = format!("GET / HTTP/1.1\r\nHost: g\r\nCookie: {}\r\n\r\n", "c".repeat(size));
        let (mut server, head) = ask(&mut client, &gateway, &request).await;
        assert_eq!(lines(&head), lines(&request));
        // As large an answer comes back.
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: {}\r\n\r\n", "c".repeat(size));
        server.send(&answer).await;
        assert_eq!(lines(&client.head().await), lines(&answer));
    }
    let long = |n: usize| format!("GET / HTTP/1.1\r\nHost: g\r\nCookie: {}\r\n\r\n", "c".repeat(n));
    refused(&seqgate, &gateway, long(64 << 10).as_bytes(), 431, "header_too_large").await;
    refused(&seqgate, &gateway, long(900 << 10).as_bytes(), 431, "header_too_large").await;
    refused(&seqgate, &gateway, "G".repeat(70 << 10).as_bytes(), 431, "header_too_large").await;
    let many = |n: usize| format!("GET / HTTP/1.1\r\nHost: g\r\n{}\r\n", "X-A: b\r\n".repeat(n));
    refused(&seqgate, &gateway, many(1000).as_bytes(), 431, "header_too_large").await;
    let mut client = seqgate.connect().await;
    let (_, head) = ask(&mut client, &gateway, &many(999)).await;
    assert_eq!(head.matches("X-A: b").count(), 999);
}

/// Requests that two parsers could read differently, and what is behind the refusal.
fn ambiguous() -> Vec<(&'static str, Vec<u8>)> {
    let head = |line: &str, headers: &str| format!("{line}\r\n{headers}\r\n\r\n").into_bytes();
    let post = |headers: &str| head("POST / HTTP/1.1", &format!("Host: g\r\n{headers}"));
    let get = |headers: &str| head("GET / HTTP/1.1", headers);
    let raw = |bytes: &[u8]| bytes.to_vec();
    vec![
        ("length and chunked", post("Content-Length: 4\r\nTransfer-Encoding: chunked")),
        ("chunked and length", post("Transfer-Encoding: chunked\r\nContent-Length: 4")),
        ("two lengths", post("Content-Length: 4\r\nContent-Length: 5")),
        ("two equal lengths", post("Content-Length: 4\r\ncontent-length: 4")),
        ("a list of lengths", post("Content-Length: 4, 4")),
        ("a length with a sign", post("Content-Length: +5")),
        ("a negative length", post("Content-Length: -5")),
        ("a hexadecimal length", post("Content-Length: 0x5")),
        ("a length in words", post("Content-Length: five")),
        ("a length with a space", post("Content-Length: 1 0")),
        ("an empty length", post("Content-Length:")),
        ("an endless length", post("Content-Length: 99999999999999999999")),
        ("gzip", post("Transfer-Encoding: gzip")),
        ("gzip, chunked", post("Transfer-Encoding: gzip, chunked")),
        ("chunked, identity", post("Transfer-Encoding: chunked, identity")),
        ("identity", post("Transfer-Encoding: identity")),
        ("chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        ("chunked, chunked", post("Transfer-Encoding: chunked, chunked")),
        ("xchunked", post("Transfer-Encoding: xchunked")),
        ("chunked in quotes", post("Transfer-Encoding: \"chunked\"")),
        ("chunked with a vertical tab", post("Transfer-Encoding: \x0bchunked")),
        ("an empty coding", post("Transfer-Encoding:")),
        ("chunked in HTTP/1.0", head("POST / HTTP/1.0", "Host: g\r\nTransfer-Encoding: chunked")),
        ("a bare LF behind the request line", raw(b"GET / HTTP/1.1\nHost: g\r\n\r\n")),
        ("a bare LF behind a header", raw(b"GET / HTTP/1.1\r\nHost: g\nX: y\r\n\r\n")),
        ("a bare LF as the empty line", raw(b"GET / HTTP/1.1\r\nHost: g\r\n\n")),
        ("a bare CR in a value", get("Host: g\r\nX: a\rb")),
        ("a bare CR as a line end", raw(b"GET / HTTP/1.1\r\nHost: g\rX: y\r\n\r\n")),
        ("a folded line", get("Host: g\r\nX: a\r\n b")),
        ("a line folded by a tab", get("Host: g\r\nX: a\r\n\tb")),
        ("a folded first line", get(" Host: g")),
        ("a space before the colon", get("Host: g\r\nX : a")),
        ("a tab before the colon", get("Host: g\r\nContent-Length\t: 4")),
        ("a space in a name", get("Host: g\r\nX Y: a")),
        ("no name", get("Host: g\r\n: a")),
        ("no colon", get("Host: g\r\nX")),
        ("NUL in a name", raw(b"GET / HTTP/1.1\r\nHost: g\r\nX\0: a\r\n\r\n")),
        ("NUL in a value", raw(b"GET / HTTP/1.1\r\nHost: g\r\nX: a\0b\r\n\r\n")),
        ("a control character in a value", raw(b"GET / HTTP/1.1\r\nHost: g\r\nX: a\x01b\r\n\r\n")),
        ("DEL in a value", raw(b"GET / HTTP/1.1\r\nHost: g\r\nX: a\x7fb\r\n\r\n")),
        ("a byte beyond ASCII in a name", raw(b"GET / HTTP/1.1\r\nHost: g\r\nX\xff: a\r\n\r\n")),
        ("NUL in the target", raw(b"GET /\0 HTTP/1.1\r\nHost: g\r\n\r\n")),
        ("a tab in the target", head("GET /\t HTTP/1.1", "Host: g")),
        ("a fragment in the target", head("GET /a#b HTTP/1.1", "Host: g")),
        ("two spaces before the version", head("GET /  HTTP/1.1", "Host: g")),
        ("a space in the target", head("GET /a b HTTP/1.1", "Host: g")),
        ("a space behind the version", head("GET / HTTP/1.1 ", "Host: g")),
        ("a space before the method", head(" GET / HTTP/1.1", "Host: g")),
        ("no target", head("GET HTTP/1.1", "Host: g")),
        ("no version", head("GET /", "Host: g")),
        ("a target without a slash", head("GET a HTTP/1.1", "Host: g")),
        ("a method that is no token", head("G(T / HTTP/1.1", "Host: g")),
        ("HTTP/1.2", head("GET / HTTP/1.2", "Host: g")),
        ("HTTP/2.0", head("GET / HTTP/2.0", "Host: g")),
        ("HTTP/0.9", raw(b"GET /\r\n\r\n")),
        ("http/1.1 in lower case", head("GET / http/1.1", "Host: g")),
        ("no Host", get("X: y")),
        ("two Hosts", get("Host: g\r\nHost: h")),
        ("two equal Hosts", get("Host: g\r\nhost: g")),
        ("an @ in Host", get("Host: a@g")),
        ("a path in Host", get("Host: g/x")),
        ("a list in Host", get("Host: g, h")),
        ("a space in Host", get("Host: g h")),
        ("two ports in Host", get("Host: g:80:80")),
        ("a port that is no number", get("Host: g:http")),
        ("an IPv6 address without brackets", get("Host: ::1")),
        ("a bracket that stays open", get("Host: [::1")),
        ("a bracket that was never open", get("Host: ::1]:80")),
        ("a name behind an address", get("Host: [::1]g")),
        ("nothing in brackets", get("Host: []")),
        ("a target that names another host", head("GET http://other/ HTTP/1.1", "Host: g")),
        ("CONNECT", head("CONNECT g:443 HTTP/1.1", "Host: g:443")),
        ("the preface of HTTP/2", raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
        ("TLS", raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")),
        (
            "an upgrade with a body",
            get("Host: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4"),
        ),
        (
            "a chunked upgrade",
            get("Host: g\r\nConnection: Upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_parsers_could_read_differently_is_refused_and_never_reaches_the_gateway() {
    let (gateway, seqgate) = house(&[]).await;
    for (what, bytes) in ambiguous() {
        // Whatever is behind it must not be taken for a request.
        let smuggled = [&bytes[..], b"GET /smuggled HTTP/1.1\r\nHost: g\r\n\r\n"].concat();
        let mut client = seqgate.connect().await;
        client.send(&smuggled).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.head);
        assert_own(&answer, 400, "bad_request");
        assert_eq!(client.end().await, End::Fin, "{what}");
        assert!(gateway.is_untouched(), "{what}");
        // The same in pieces.
        let mut client = seqgate.connect().await;
        for piece in bytes.chunks(5) {
            if client.try_send(piece).await.is_err() {
                break;
            }
        }
        assert_eq!(status(&client.head().await), 400, "{what}, in pieces");
        assert!(gateway.is_untouched(), "{what}, in pieces");
    }
    let refusals = 2.0 * ambiguous().len() as f64;
    seqgate.metric_becomes(r#"seqgate_connections_rejected_total{reason="bad_request"}"#, refusals).await;
    seqgate.metric_becomes(r#"seqgate_http_requests_total{code="4xx"}"#, refusals).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_request_before_a_bad_one_is_answered_first() {
    let (gateway, seqgate) = house(&[]).await;
    for good in [
        "GET /good HTTP/1.1\r\nHost: g\r\n\r\n",
        "POST /good HTTP/1.1\r\nHost: g\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        let mut client = seqgate.connect().await;
        let both = [good, "GET /bad HTTP/1.1\r\nHost : g\r\n\r\n"].concat();
        let (mut server, head) = ask(&mut client, &gateway, &both).await;
        assert!(head.contains(" /good "), "{head}");
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.head().await;
        server.send("4\r\ngood\r\n0\r\n\r\n").await;
        client.expect(b"4\r\ngood\r\n0\r\n\r\n").await;
        assert_own(&client.answer().await, 400, "bad_request");
        assert_eq!(client.end().await, End::Fin);
        assert!(gateway.is_untouched());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_that_two_parsers_could_read_differently_ends_the_request() {
    let (gateway, seqgate) = house(&[]).await;
    let listening = tokio::spawn(async move {
        let mut peers = Vec::new();
        loop {
            peers.push(gateway.accept_whenever().await);
        }
    });
    for garbage in [
        "x\r\n",
        "\r\n",
        " 4\r\nbody\r\n",
        "+4\r\nbody\r\n",
        "0x4\r\nbody\r\n",
        "4\nbody\r\n",
        "4\r\nbody\n",
        "4\r\nbodybody\r\n",
        "4 \r\nbody\r\n",
        "4;a\nb\r\nbody\r\n",
        "4;\0\r\nbody\r\n",
        "fffffffffffffffff\r\n",
        "-1\r\n",
        "4\rbody\r\n",
        "4\r\nbody\r0\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nX: y\n\r\n",
        "0\r\n folded: x\r\n\r\n",
        "0\r\nX: \0\r\n\r\n",
    ] {
        let mut client = seqgate.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
        let bytes = [head, garbage, "GET /smuggled HTTP/1.1\r\nHost: g\r\n\r\n"].concat();
        client.send(bytes).await;
        // The good part may have gone to the gateway, which must see it end before its time.
        let answer = client.answer().await;
        assert_own(&answer, 400, "bad_request");
        assert_eq!(client.end().await, End::Fin, "{garbage:?}");
    }
    listening.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_that_turns_bad_never_looks_complete_to_the_gateway() {
    let (gateway, seqgate) = house(&[]).await;
    for garbage in ["x\r\n", "4\nbody\r\n", "0\r\n\n", "0\r\nX: \0\r\n\r\n", "1\r\nab\r\n"] {
        let mut client = seqgate.connect().await;
        let start = "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
        let (mut server, _) = ask(&mut client, &gateway, start).await;
        assert_eq!(server.chunk().await, b"a");
        client.send(garbage).await;
        let (rest, _) = server.rest().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{garbage:?}: {:?}", String::from_utf8_lossy(&rest));
        assert_own(&client.answer().await, 400, "bad_request");
        assert_eq!(client.end().await, End::Fin);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lawful_oddities_of_a_chunked_body_pass() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let request = "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: Chunked\r\n\r\n";
    let (mut server, _) = ask(&mut client, &gateway, request).await;
    let body = "0004;name=\"va;lue\"\r\nbody\r\nA\r\n0123456789\r\n000\r\nX-Trailer: y\r\n\r\n";
    for piece in body.as_bytes().chunks(1) {
        client.send(piece).await;
    }
    let mut seen = Vec::new();
    loop {
        let chunk = server.chunk().await;
        if chunk.is_empty() {
            break;
        }
        seen.extend(chunk);
    }
    assert_eq!(seen, b"body0123456789");
    server.send(OK).await;
    assert_eq!(client.answer().await.body, b"ok");
}
