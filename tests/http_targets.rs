//! Request targets reach the gateway byte for byte; only those are refused that two parsers could read differently.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use net::frames::{TEXT, agent, frame};
use net::http::{OK, assert_own};
use net::{CONSENT, End, Gateway, Seqgate, assert_same, handshake, house};

/// Bytes that no request target may hold: the space and the control characters, and the start of a fragment.
fn is_refused(byte: u8) -> bool {
    byte <= b' ' || byte == b'#' || byte == 0x7f
}

fn request(target: &[u8], host: &str) -> Vec<u8> {
    [b"GET ", target, format!(" HTTP/1.1\r\nHost: {host}\r\nX-Next: line\r\n\r\n").as_bytes()].concat()
}

/// Sends a request to a gateway that must get the same head.
async fn passes(seqgate: &Seqgate, gateway: &Gateway, request: &[u8]) {
    let what = String::from_utf8_lossy(request).into_owned();
    let mut client = seqgate.connect().await;
    client.send(request).await;
    let mut server = tokio::select! {
        server = gateway.accept() => server,
        head = client.head() => panic!("{what:?}: {head}"),
    };
    assert_same(&server.until(b"\r\n\r\n").await, request, &what);
    server.send(OK).await;
    assert_eq!(client.answer().await.body, b"ok", "{what:?}");
}

async fn is_a_400(seqgate: &Seqgate, gateway: &Gateway, request: &[u8]) {
    let what = String::from_utf8_lossy(request).into_owned();
    let mut client = seqgate.connect().await;
    client.send(request).await;
    assert_own(&client.answer().await, 400, "bad_request");
    assert_eq!(client.end().await, End::Fin, "{what:?}");
    assert!(gateway.is_untouched(), "{what:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_a_target_passes_or_is_a_400() {
    let (gateway, seqgate) = house(&[]).await;
    for byte in 0..=u8::MAX {
        let places = ["/", "/a", "/a/b?", "/a?b=", "/?", "http://g/", "http://g/a?b"];
        for (n, before) in places.into_iter().enumerate() {
            let behind = ["", "c", "/d?e=f&g"][(n + usize::from(byte)) % 3];
            let target = [before.as_bytes(), &[byte], behind.as_bytes()].concat();
            if is_refused(byte) {
                is_a_400(&seqgate, &gateway, &request(&target, "g")).await;
            } else {
                passes(&seqgate, &gateway, &request(&target, "g")).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_of_any_bytes_and_any_length_passes() {
    let (gateway, seqgate) = house(&[]).await;
    let any: Vec<u8> = (0..=u8::MAX).filter(|byte| !is_refused(*byte)).collect();
    for target in [
        [b"/", &any[..]].concat(),
        [b"/?", &any[..]].concat(),
        [b"/", &any.repeat(250)[..]].concat(),
        b"/\"".to_vec(),
        b"/\xff".to_vec(),
        br#"/api?filter={"a":1}&b=<c>`d`|e\f^g"#.to_vec(),
        "/ü?ä=ö".as_bytes().to_vec(),
        b"//\"//".to_vec(),
        b"*".to_vec(),
    ] {
        passes(&seqgate, &gateway, &request(&target, "g")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_on_one_connection_keep_their_own_targets() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let mut kept: Option<net::Peer> = None;
    let requests: [(&str, &[u8]); 8] = [
        ("GET", b"/plain"),
        ("GET", b"/a\"b"),
        ("GET", b"/next"),
        ("POST", b"/\xff?<>"),
        ("POST", b"/post"),
        ("DELETE", b"http://g"),
        ("M-SEARCH", b"/`"),
        ("GET", b"/last"),
    ];
    // All at once: the next one is there while one is answered.
    for (method, target) in requests {
        let body = if method == "POST" { "Content-Length: 4\r\n\r\nbody" } else { "\r\n" };
        client
            .send([method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: g\r\n", body.as_bytes()].concat())
            .await;
    }
    for (method, target) in requests {
        let line = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\n"].concat();
        let mut server = match kept.take() {
            Some(mut server) => match server.head_or_end().await {
                Some(head) => {
                    assert!(head.as_bytes().starts_with(&line), "{head}");
                    server.send(OK).await;
                    assert_eq!(client.answer().await.body, b"ok");
                    kept = Some(server);
                    continue;
                }
                None => gateway.accept().await,
            },
            None => gateway.accept().await,
        };
        assert_same(&server.until(b"\r\n").await, &line, method);
        server.until(if method == "POST" { b"body" } else { b"\r\n\r\n" }).await;
        server.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok", "{method}");
        drop(server);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_keeps_its_target_and_its_path_decides_whether_it_is_judged() {
    let (gateway, seqgate) = house(&[("tunnel-paths", "/node\"x,//")]).await;
    let sent = [agent("r", 1, 1), agent("r", 1, 1), frame(TEXT, b"{}")].concat();
    let judged = [agent("r", 1, 1), frame(TEXT, b"{}")].concat();
    for (target, received) in [
        ("/node\"x?<a>", &sent),
        ("http://gateway.test:18900/node\"x", &sent),
        ("//\"", &sent),
        // hyper gets a path of slashes in their place.
        ("/other\"", &judged),
        ("/?\"/node\"x", &judged),
        ("http://gateway.test:18900?\"//", &judged),
        ("/ü", &judged),
    ] {
        let mut client = seqgate.connect().await;
        client.send(handshake(target)).await;
        let mut server = gateway.accept().await;
        let head = server.head().await;
        assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{head}");
        server.send(CONSENT).await;
        client.expect(CONSENT.as_bytes()).await;
        server.send(&sent).await;
        let seen = client.take(received.len()).await;
        assert_same(&seen, received, target);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_and_a_host_that_agree_pass_however_they_are_written() {
    let (gateway, seqgate) = house(&[]).await;
    for (target, host) in [
        ("http://gw:80/", "gw"),
        ("http://gw/", "gw:80"),
        ("http://gw:/", "gw"),
        ("http://gw/", "gw:"),
        ("http://gw:/", "gw:80"),
        ("http://GW:80/a", "gw"),
        ("http://gw/a", "GW"),
        ("HTTP://Gw:80", "gW"),
        ("http://gw:0080/", "gw:80"),
        ("http://gw:08080/", "gw:8080"),
        ("https://gw:443/", "gw"),
        ("https://gw/", "gw:443"),
        ("ws://gw:80/", "gw"),
        ("wss://gw/", "gw:443"),
        ("http://[::1]:80/", "[::1]"),
        ("http://[0:0:0:0:0:0:0:1]/", "[::1]:80"),
        ("http://[2001:DB8::A]/", "[2001:db8:0::a]"),
        ("http://127.0.0.1:80/?x", "127.0.0.1"),
        ("http://gw?x=/y", "gw:80"),
        ("foo://gw:1/", "gw:1"),
        ("foo://gw", "gw"),
    ] {
        passes(&seqgate, &gateway, &request(target.as_bytes(), host)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_and_a_host_that_differ_are_a_400() {
    let (gateway, seqgate) = house(&[]).await;
    for (target, host) in [
        ("http://gw:443/", "gw"),
        ("https://gw:80/", "gw"),
        ("https://gw/", "gw:80"),
        ("http://gw/", "gw:8080"),
        ("http://gw:8080/", "gw"),
        ("http://gw:/", "gw:0"),
        ("foo://gw/", "gw:80"),
        ("http://gw:80/", "gw2"),
        ("http://gw.other/", "gw"),
        ("http://[::1]/", "[::2]"),
        ("http://[::1]/", "::1"),
        ("http://user@gw/", "gw"),
        ("http://user@gw/", "user@gw"),
        ("http://gw:80:80/", "gw"),
        ("http://gw:x/", "gw:x"),
        ("http://gw\\v1/", "gw\\v1"),
        ("http://g\"w/", "g\"w"),
        ("http:///", ""),
        ("http:///gw", "gw"),
        ("http://:80/", ":80"),
        ("http:/gw/", "gw"),
        ("http:gw", "gw"),
        ("1http://gw/", "gw"),
        ("://gw/", "gw"),
        ("gw", "gw"),
        ("gw:80", "gw:80"),
        ("?x=http://gw/", "gw"),
        ("**", "gw"),
        ("*/", "gw"),
    ] {
        is_a_400(&seqgate, &gateway, &request(target.as_bytes(), host)).await;
    }
}
