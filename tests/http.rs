//! HTTP that is no upgrade, as it passes: streamed both ways as it comes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::time::{Duration, Instant};

use net::frames::agent;
use net::http::{OK, ask, serve};
use net::{End, Peer, assert_same, handshake, house, lines, noise, status, tunnel, value};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_streamed_as_the_gateway_sends_it() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let (mut server, _) = ask(&mut client, &gateway, "GET /events HTTP/1.1\r\nHost: g\r\n\r\n").await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(value(&head, "content-type"), Some("text/event-stream"));
    for word in ["data: 1\n\n", "data: 2\n\n"] {
        // The next is not sent before this one has arrived.
        server.send(format!("{:x}\r\n{word}\r\n", word.len())).await;
        assert_eq!(client.chunk().await, word.as_bytes());
    }
    server.send("0\r\n\r\n").await;
    client.expect(b"0\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_the_connection_is_streamed_too() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    server.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
    client.head().await;
    for word in ["one", "two"] {
        server.send(word).await;
        assert_eq!(client.chunk().await, word.as_bytes());
    }
    server.finish().await;
    client.expect(b"0\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_body_is_streamed_as_the_client_sends_it() {
    let (gateway, seqgate) = house(&[]).await;
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 6"] {
        let chunked = framing.ends_with("chunked");
        let mut client = seqgate.connect().await;
        let request = format!("POST /upload HTTP/1.1\r\nHost: g\r\n{framing}\r\n\r\n");
        let (mut server, head) = ask(&mut client, &gateway, &request).await;
        assert!(lines(&head).1.contains(&framing.to_owned()), "{head}");
        for word in ["one", "two"] {
            if chunked {
                client.send(format!("3\r\n{word}\r\n")).await;
                assert_eq!(server.chunk().await, word.as_bytes());
            } else {
                client.send(word).await;
                server.expect(word.as_bytes()).await;
            }
        }
        if chunked {
            client.send("0\r\n\r\n").await;
            server.expect(b"0\r\n\r\n").await;
        }
        server.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_passes_with_every_method() {
    let (gateway, seqgate) = house(&[]).await;
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "QUERY"] {
        for connection in ["", "Connection: Transfer-Encoding\r\n"] {
            let mut client = seqgate.connect().await;
            let request =
                format!("{method} / HTTP/1.1\r\nHost: g\r\n{connection}Transfer-Encoding: chunked\r\n\r\n");
            let (mut server, head) = ask(&mut client, &gateway, &request).await;
            assert_eq!(value(&head, "transfer-encoding"), Some("chunked"), "{head}");
            client.send("3\r\nabc\r\n0\r\n\r\n").await;
            assert_eq!(server.chunk().await, b"abc");
            server.expect(b"0\r\n\r\n").await;
            server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            client.head().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_25_mib_pass_both_ways() {
    let (gateway, seqgate) = house(&[]).await;
    let body = noise(1, 25 << 20);
    let mut client = seqgate.connect().await;
    let request = format!("PUT / HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n\r\n", body.len());
    let (mut server, _) = ask(&mut client, &gateway, &request).await;
    let (_, seen) = tokio::join!(client.send(&body), server.take(body.len()));
    assert_same(&seen, &body, "to the gateway");
    server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    client.head().await;
    let (_, seen) = tokio::join!(server.send(&body), client.take(body.len()));
    assert_same(&seen, &body, "to the client");
    // They are not kept anywhere on the way.
    seqgate.metric_becomes(r#"seqgate_bytes_total{direction="to_client"}"#, body.len() as f64).await;
    seqgate.metric_becomes(r#"seqgate_bytes_total{direction="to_gateway"}"#, body.len() as f64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_ranges_204_and_304_pass_with_their_own_headers() {
    let (gateway, seqgate) = house(&[]).await;
    for (request, answer) in [
        (
            "HEAD /a HTTP/1.1\r\nHost: g\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"x\"\r\n\r\n",
        ),
        ("HEAD /a HTTP/1.1\r\nHost: g\r\n\r\n", "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n"),
        ("GET /a HTTP/1.1\r\nHost: g\r\n\r\n", "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"),
        (
            "GET /a HTTP/1.1\r\nHost: g\r\nIf-None-Match: \"x\"\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nCache-Control: max-age=5\r\n\r\n",
        ),
    ] {
        let mut client = seqgate.connect().await;
        let (mut server, head) = ask(&mut client, &gateway, request).await;
        assert_eq!(lines(&head), lines(request));
        server.send(answer).await;
        assert_eq!(lines(&client.head().await), lines(answer));
        // No body has come behind: the connection is ready for the next request.
        client.send("GET /b HTTP/1.1\r\nHost: g\r\n\r\n").await;
        serve(server, &gateway, "/b", OK).await;
        assert_eq!(client.answer().await.body, b"ok");
    }
    let mut client = seqgate.connect().await;
    let request = "GET /a HTTP/1.1\r\nHost: g\r\nRange: bytes=1-3\r\nIf-Range: \"x\"\r\n\r\n";
    let (mut server, head) = ask(&mut client, &gateway, request).await;
    assert_eq!(lines(&head), lines(request));
    let answer = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-3/9\r\nContent-Length: 3\r\n\r\n";
    server.send([answer, "abc"].concat()).await;
    assert_eq!(lines(&client.head().await), lines(answer));
    client.expect(b"abc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let request =
        "POST / HTTP/1.1\r\nHost: g\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut server, head) = ask(&mut client, &gateway, request).await;
    assert_eq!(value(&head, "te"), Some("trailers"));
    client.send("3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n").await;
    assert_eq!(server.chunk().await, b"abc");
    let trailers = String::from_utf8(server.until(b"\r\n\r\n").await).unwrap().to_lowercase();
    assert!(trailers.ends_with("x-sum: 6\r\n\r\n"), "{trailers:?}");
    server.send("HTTP/1.1 200 OK\r\nTrailer: X-Done\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Done: yes\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.body, b"ok");
    assert_eq!(answer.trailers.to_lowercase(), "x-done: yes\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_to_continue_when_the_gateway_says_so() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let request = "POST / HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let asked = Instant::now();
    let (mut server, head) = ask(&mut client, &gateway, request).await;
    assert_eq!(value(&head, "expect"), Some("100-continue"));
    // Should this machine be so slow that seqgate's patience with the gateway has ended, nothing is proved.
    assert!(asked.elapsed() > Duration::from_secs(1) || client.is_silent(), "nobody has said 100 yet");
    server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    server.expect(b"body").await;
    server.send(OK).await;
    assert_eq!(client.answer().await.body, b"ok");
    client.send("GET /b HTTP/1.1\r\nHost: g\r\n\r\n").await;
    serve(server, &gateway, "/b", OK).await;
    assert_eq!(client.answer().await.body, b"ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_want_the_body_is_not_sent_it() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let request = "POST / HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 4000000\r\n\r\n";
    let (mut server, _) = ask(&mut client, &gateway, request).await;
    let refusal = "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nno!";
    server.send(refusal).await;
    // The first thing that the client hears is the refusal, not a 100.
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.body[..]), (413, &b"no!"[..]), "{}", answer.head);
    drop(client);
    let (rest, _) = server.rest().await;
    assert_same(&rest, b"", "behind the head");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_wait_for_100_gets_its_body_through() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    // RFC 9110, section 10.1.1: a client need not wait for ever, and an old server never says 100.
    let request = "POST / HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody";
    let (mut server, _) = ask(&mut client, &gateway, request).await;
    server.expect(b"body").await;
    server.send(OK).await;
    let mut answer = client.answer_behind_continue().await;
    assert_eq!(std::mem::take(&mut answer.body), b"ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_leaves_no_connection_behind() {
    let (gateway, seqgate) = house(&[]).await;
    for client_leaves_first in [true, false] {
        let mut client = seqgate.connect().await;
        let request = "POST / HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        let (mut server, _) = ask(&mut client, &gateway, request).await;
        if !client_leaves_first {
            server.send("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n").await;
            assert_eq!(client.answer().await.status, 413);
        }
        drop(client);
        server.rest().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_the_body_reaches_the_client() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let request = "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 100000000\r\n\r\nthe beginning";
    let (mut server, _) = ask(&mut client, &gateway, request).await;
    server.expect(b"the beginning").await;
    server.send("HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.body[..]), (413, &b"no!"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_is_not_lost_while_the_client_still_sends() {
    let (gateway, seqgate) = house(&[]).await;
    for expects in ["", "Expect: 100-continue\r\n"] {
        let mut client = seqgate.connect().await;
        let request = format!("POST / HTTP/1.1\r\nHost: g\r\n{expects}Content-Length: 100000000\r\n\r\n");
        let (mut server, _) = ask(&mut client, &gateway, &request).await;
        client.send(noise(1, 300_000)).await;
        server
            .send("HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!")
            .await;
        if expects.is_empty() {
            // Reading what was sent, or else the gateway's own end could overtake its answer.
            server.take(300_000).await;
        }
        server.finish().await;
        let answer = client.answer_behind_continue().await;
        assert_eq!((answer.status, &answer.body[..]), (413, &b"no!"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_request_after_request() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let mut kept = None;
    for n in 0..20 {
        let target = format!("/{n}");
        let body = if n % 3 == 0 { "Content-Length: 4\r\n\r\nbody" } else { "\r\n" };
        let method = if n % 3 == 0 { "POST" } else { "GET" };
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: g\r\n{body}")).await;
        let mut server: Peer = match kept.take() {
            Some(kept) => serve(kept, &gateway, &target, "").await,
            None => {
                let mut server = gateway.accept().await;
                server.head().await;
                server
            }
        };
        if n % 3 == 0 {
            server.expect(b"body").await;
        }
        server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len())).await;
        assert_eq!(client.answer().await.body, target.as_bytes());
        kept = Some(server);
    }
    client.finish().await;
    assert_eq!(client.end().await, End::Fin);
    assert_eq!(kept.unwrap().end().await, End::Fin);
    seqgate.metric_becomes(r#"seqgate_http_requests_total{code="2xx"}"#, 20.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_at_once_are_answered_one_after_the_other() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let requests = "POST /0 HTTP/1.1\r\nHost: g\r\nContent-Length: 4\r\n\r\nbody\
                    POST /1 HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n\
                    \r\nGET /2 HTTP/1.1\r\nHost: g\r\n\r\n";
    client.send(requests).await;
    let mut kept = None;
    for target in ["/0", "/1", "/2"] {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{target}");
        kept = Some(match kept.take() {
            Some(kept) => serve(kept, &gateway, target, &answer).await,
            None => {
                let mut server = gateway.accept().await;
                server.head().await;
                server.expect(b"body").await;
                server.send(answer).await;
                server
            }
        });
        assert_eq!(client.answer().await.body, target.as_bytes());
        if target == "/1" {
            assert_eq!(kept.as_mut().unwrap().until(b"0\r\n\r\n").await, b"4\r\nbody\r\n0\r\n\r\n");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_never_meets_a_connection_that_the_gateway_is_closing() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    for n in 0..30 {
        let target = format!("/{n}");
        let (mut server, _) =
            ask(&mut client, &gateway, &format!("GET {target} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
        server.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok");
        // The gateway closes what was kept at the very moment at which the next request comes.
        let post = format!("POST {target} HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\n\r\n!");
        drop(server);
        let (mut server, head) = ask(&mut client, &gateway, &post).await;
        assert!(head.starts_with("POST"), "{head}");
        server.expect(b"!").await;
        server.send(OK).await;
        assert_eq!(client.answer().await.status, 200);
        drop(server);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_is_asked_again_when_the_gateway_closed_the_kept_connection() {
    let (gateway, seqgate) = house(&[]).await;
    for _ in 0..10 {
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, "GET /first HTTP/1.1\r\nHost: g\r\n\r\n").await;
        server.send(OK).await;
        client.answer().await;
        client.send("GET /again HTTP/1.1\r\nHost: g\r\nX-A: b\r\n\r\n").await;
        // It comes on the kept connection, which the gateway closes; or at once on a new one.
        let (again, head) = tokio::select! {
            head = server.head_or_end() => {
                if let Some(head) = head {
                    assert!(head.starts_with("GET /again "), "{head}");
                }
                drop(server);
                let mut again = gateway.accept().await;
                let head = again.head().await;
                (again, head)
            }
            mut again = gateway.accept() => {
                let head = again.head().await;
                (again, head)
            }
        };
        let mut again = again;
        assert_eq!(lines(&head), lines("GET /again HTTP/1.1\r\nHost: g\r\nX-A: b\r\n\r\n"));
        again.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_says_close_is_not_asked_again_on_that_connection() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    for _ in 0..3 {
        let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        server.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(client.answer().await.body, b"ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn header_lines_arrive_byte_for_byte_in_both_directions() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let request = "GET /a%20b/%E2%9C%93?q=a|b&c={d}\\f^g&%00 HTTP/1.1\r\n\
        hOST: Gateway.Example:18900\r\nOrigin: https://Some.Where:1\r\nAUTHORIZATION: Bearer a.b-c_~+/=\r\n\
        Cookie: a=\"b c\"; d=e,f\r\nCookie: g=h\r\nx-tab: a\tb\r\nX-Empty:\r\nx_under: _\r\nSEC-Fetch-Mode: cors\r\n\
        Accept-Encoding: gzip, br\r\nX-Odd: \u{fc}\u{2713}\r\nUser-Agent: (\"x\"; [y])\r\n\r\n";
    let (mut server, head) = ask(&mut client, &gateway, request).await;

    assert_eq!(lines(&head), lines(request));
    let answer = "HTTP/1.1 299 Strange but true\r\nset-cookie: a=b; Path=/\r\nSet-Cookie: c=d\r\nX-oDD: \u{fc}\r\n\
                  Content-Length: 0\r\nVary: A\r\nDATE: yesterday\r\n\r\n";
    server.send(answer).await;
    let head = client.head().await;
    assert_eq!(lines(&head).1, lines(answer).1);
    assert_eq!(status(&head), 299);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_behind_the_status_passes() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let (mut server, _) = ask(&mut client, &gateway, "GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    server.send("HTTP/1.1 200 Strange but true\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(lines(&client.head().await).0, "HTTP/1.1 200 Strange but true");
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_targets_and_methods_pass() {
    let (gateway, seqgate) = house(&[]).await;
    for line in [
        "OPTIONS * HTTP/1.1",
        "GET http://g/absolute?x HTTP/1.1",
        "PROPFIND /dav HTTP/1.1",
        "M-SEARCH / HTTP/1.1",
        "DELETE //double//slash/../x HTTP/1.1",
        "GET /?a=?&b=//:@!$&'()*+,;= HTTP/1.1",
    ] {
        let mut client = seqgate.connect().await;
        let (mut server, head) = ask(&mut client, &gateway, &format!("{line}\r\nHost: g\r\n\r\n")).await;
        assert_eq!(lines(&head).0, line);
        server.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_every_form_pass() {
    let (gateway, seqgate) = house(&[]).await;
    for host in [
        "g",
        "G.Example:18900",
        "192.0.2.1:1",
        "[::1]",
        "[2001:DB8::1]:80",
        "[fe80::1.2.3.4]:",
        "a_b-c.d:",
        "",
    ] {
        let mut client = seqgate.connect().await;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let (_, head) = ask(&mut client, &gateway, &request).await;
        assert_eq!(value(&head, "host"), Some(host));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_stays_an_empty_body() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let request = "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n";
    let (mut server, head) = ask(&mut client, &gateway, request).await;
    assert_eq!(lines(&head), lines(request));
    server.send(OK).await;
    assert_eq!(client.answer().await.body, b"ok");
    // And a POST that says nothing about a body says nothing behind seqgate either.
    let mut client = seqgate.connect().await;
    let request = "POST / HTTP/1.1\r\nHost: g\r\n\r\n";
    let (_, head) = ask(&mut client, &gateway, request).await;
    assert_eq!(lines(&head), lines(request));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_is_answered_in_its_own_way() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let (mut server, head) = ask(&mut client, &gateway, "GET /old HTTP/1.0\r\n\r\n").await;
    assert!(head.starts_with("GET /old HTTP/1."), "{head}");
    server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(status(&head), 200);
    assert_eq!(value(&head, "transfer-encoding"), None, "{head}");
    let (body, end) = client.rest().await;
    assert_eq!((&body[..], end), (&b"ok"[..], End::Fin));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_becomes_a_tunnel() {
    let (gateway, seqgate) = house(&[]).await;
    let mut relayed = tunnel(&seqgate, &gateway).await;
    let bytes = noise(3, 1 << 20);
    let (_, seen) = tokio::join!(relayed.client.send(&bytes), relayed.gateway.take(bytes.len()));
    assert_same(&seen, &bytes, "to the gateway");
    let (_, seen) = tokio::join!(relayed.gateway.send(&bytes), relayed.client.take(bytes.len()));
    assert_same(&seen, &bytes, "to the client");
    seqgate.metric_becomes(r#"seqgate_connections{kind="tunnel"}"#, 1.0).await;
    relayed.client.finish().await;
    assert_eq!(relayed.gateway.end().await, End::Fin);
    relayed.gateway.finish().await;
    assert_eq!(relayed.client.end().await, End::Fin);
    seqgate.metric_becomes(r#"seqgate_connections{kind="tunnel"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_to_http_2_does_not_pass_and_the_request_does() {
    let (gateway, seqgate) = house(&[]).await;
    for upgrade in ["h2c", "H2C", "h2c, h2", "h2c,", "h2c\r\nUpgrade: h2", "h2c/1"] {
        let mut client = seqgate.connect().await;
        let request = format!(
            "GET /h2 HTTP/1.1\r\nHost: g\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        );
        let (mut server, head) = ask(&mut client, &gateway, &request).await;
        assert!(!head.to_lowercase().contains("h2c"), "{upgrade}: {head}");
        server.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok", "{upgrade}");
        // Java's client asks for h2c with every first request, and goes on.
        client.send("GET /next HTTP/1.1\r\nHost: g\r\n\r\n").await;
        serve(server, &gateway, "/next", OK).await;
        assert_eq!(client.answer().await.body, b"ok", "{upgrade}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_to_http_2_or_another_protocol_passes_without_http_2() {
    let (gateway, seqgate) = house(&[]).await;
    for (sent, received) in [
        ("websocket, h2c", "websocket"),
        ("h2c, websocket", "websocket"),
        ("h2c,websocket,h2", "websocket"),
        ("H2C/1, WebSocket,", "WebSocket"),
        ("websocket\r\nUpgrade: h2c", "websocket"),
        ("h2c\r\nUpgrade: websocket", "websocket"),
        ("h2c, h2\r\nUpgrade: h2, websocket\r\nUpgrade: h2c", "websocket"),
    ] {
        let request = |upgrade: &str, connection: &str, rest: &str| {
            handshake("/").replace(
                "Upgrade: websocket\r\nConnection: Upgrade\r\n",
                &format!("Upgrade: {upgrade}\r\nConnection: {connection}\r\n{rest}"),
            )
        };
        let mut client = seqgate.connect().await;
        let sent = request(sent, "Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk\r\n");
        let (mut server, head) = ask(&mut client, &gateway, &sent).await;
        assert_eq!(lines(&head), lines(&request(received, "Upgrade", "")), "{sent}");
        server.send(net::CONSENT).await;
        client.expect(net::CONSENT.as_bytes()).await;
        // It is judged: a repeat does not pass.
        server.send([agent("r", 1, 1), agent("r", 1, 1), agent("r", 2, 2)].concat()).await;
        client.expect(&[agent("r", 1, 1), agent("r", 2, 2)].concat()).await;
        client.finish().await;
        assert_eq!(server.end().await, End::Fin);
    }
    for (sent, received) in [
        ("foo, h2c", "foo"),
        ("h2c, foo/1", "foo/1"),
        ("foo, h2, bar", "foo, bar"),
        ("foo\r\nUpgrade: h2c\r\nUpgrade: bar", "foo\r\nUpgrade: bar"),
    ] {
        let request = |upgrade: &str| {
            format!("GET / HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n")
        };
        let mut client = seqgate.connect().await;
        let (mut server, head) = ask(&mut client, &gateway, &request(sent)).await;
        assert_eq!(lines(&head), lines(&request(received)));
        server.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n").await;
        assert_eq!(status(&client.head().await), 101);
        client.send("any bytes").await;
        server.expect(b"any bytes").await;
    }
}
