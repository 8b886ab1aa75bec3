//! Answers that the gateway sends before it has read the whole request.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use net::http::{OK, ask};
use net::{End, Gateway, Peer, Seqgate, assert_same, handshake, house, patiently, pattern, value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Tries in which a lost answer shows with near certainty.
const TRIES: usize = 100;
const REFUSAL: &str =
    "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large";

/// The whole refusal with another framing; the last ends with the connection.
const REFUSALS: [&str; 3] = [
    REFUSAL,
    "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n9\r\ntoo large\r\n0\r\n\r\n",
    "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 9\r\n\r\ntoo large",
];

/// Sends a request and reads the answer at the same time, as most clients do; all that came up to `last` or the end.
async fn exchange(client: Peer, request: Vec<u8>, last: &str) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    // A gateway that closes early may refuse the rest.
    let sending = tokio::spawn(async move {
        let _ = writer.write_all(&request).await;
        let _ = writer.flush().await;
        writer
    });
    let mut answer = Vec::new();
    patiently("the end of the answer", async {
        while !answer.ends_with(last.as_bytes()) && reader.read_buf(&mut answer).await.is_ok_and(|n| n > 0) {}
    })
    .await;
    sending.abort();
    answer
}

fn upload(size: usize, framing: &str) -> Vec<u8> {
    let head = format!("POST /upload HTTP/1.1\r\nHost: g\r\n{framing}\r\n\r\n");
    [head.as_bytes(), &pattern(0, size)].concat()
}

/// Answers a connection when so many bytes of the request have come, and closes it without reading the rest.
async fn answer_and_close(gateway: &Gateway, after: usize, answer: &str) {
    let mut server = gateway.accept().await;
    server.take(after).await;
    server.send(answer).await;
}

/// The bytes after an answer's head.
fn end(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[track_caller]
fn assert_whole(answer: &[u8], sent: &str, what: &str) {
    let text = String::from_utf8_lossy(answer);
    let status = sent.split("\r\n").next().unwrap();
    assert!(text.starts_with(status), "{what}: {text}");
    assert!(text.ends_with(end(sent)), "{what}: {text}");
}

/// The gateway reads a part of the upload, answers and closes.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_before_a_close_arrives_whole() {
    let (gateway, seqgate) = house(&[]).await;
    let cases = [(1 << 22, 100_000), (1 << 22, 20), (200_000, 20), (2_000, 20)];
    let cases = cases.map(|(size, after)| (size, after, upload(size, &format!("Content-Length: {size}"))));
    for try_ in 0..TRIES {
        for (size, after, request) in &cases {
            let refusal = REFUSALS[try_ % REFUSALS.len()];
            let client = seqgate.connect().await;
            let (answer, ()) = tokio::join!(
                exchange(client, request.clone(), end(refusal)),
                answer_and_close(&gateway, *after, refusal)
            );
            assert_whole(&answer, refusal, &format!("try {try_}, {size} bytes"));
        }
    }
    // Each answer is counted with the gateway's code.
    seqgate.metric_becomes(r#"seqgate_http_requests_total{code="4xx"}"#, 4.0 * TRIES as f64).await;
    assert_eq!(seqgate.metric(r#"seqgate_http_requests_total{code="5xx"}"#).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_to_a_chunked_upload_arrives_whole() {
    let (gateway, seqgate) = house(&[]).await;
    let chunk = [b"4000\r\n", &pattern(0, 0x4000)[..], b"\r\n"].concat();
    let request =
        [upload(0, "Transfer-Encoding: chunked"), chunk.repeat(200), b"0\r\n\r\n".to_vec()].concat();
    for try_ in 0..TRIES {
        let refusal = REFUSALS[try_ % REFUSALS.len()];
        let client = seqgate.connect().await;
        let (answer, ()) = tokio::join!(
            exchange(client, request.clone(), end(refusal)),
            answer_and_close(&gateway, 30_000, refusal)
        );
        assert_whole(&answer, refusal, &format!("try {try_}"));
    }
}

/// The whole answer reaches the client even where it is larger than one read.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_early_answer_arrives_whole() {
    let (gateway, seqgate) = house(&[]).await;
    let body = "x".repeat(40_000);
    let request = upload(1 << 22, "Content-Length: 4194304");
    // An answer that ends with the connection gets chunks.
    for (framing, last) in [
        ("Content-Length: 40000\r\nConnection: close", body.as_str()),
        ("Connection: close", "\r\n0\r\n\r\n"),
    ] {
        let answer = format!("HTTP/1.1 403 Forbidden\r\n{framing}\r\n\r\n{body}");
        for try_ in 0..TRIES {
            let client = seqgate.connect().await;
            let closing = async {
                let mut server = gateway.accept().await;
                server.take(50_000).await;
                server.send(&answer).await;
                server.finish().await;
            };
            let (seen, ()) = tokio::join!(exchange(client, request.clone(), last), closing);
            assert!(seen.starts_with(b"HTTP/1.1 403 "), "try {try_}");
            assert!(seen.ends_with(last.as_bytes()), "try {try_}: {} bytes", seen.len());
            assert_eq!(seen.iter().filter(|&&byte| byte == b'x').count(), body.len(), "try {try_}");
        }
    }
}

/// The gateway answers when it accepts, reads nothing and closes.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_at_accept_is_the_answer() {
    let (gateway, seqgate) = house(&[]).await;
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy";
    let requests = [
        b"GET / HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".to_vec(),
        handshake("/").into_bytes(),
        [upload(5, "Content-Length: 5"), vec![]].concat(),
        upload(1 << 20, "Content-Length: 1048576"),
    ];
    for try_ in 0..TRIES {
        for request in &requests {
            let mut client = seqgate.connect().await;
            client.stream.write_all(&request[..request.len().min(1000)]).await.unwrap();
            client.stream.flush().await.unwrap();
            answer_and_close(&gateway, 0, busy).await;
            let _ = client.try_send(&request[request.len().min(1000)..]).await;
            let answer = client.answer().await;
            assert_eq!((answer.status, &answer.body[..]), (503, &b"busy"[..]), "try {try_}");
        }
    }
}

/// The first answer of a connection belongs to the first request only.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_at_accept_is_not_given_twice() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    client.send("GET /a HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut server = gateway.accept().await;
    server.send([OK, OK].concat()).await;
    server.head().await;
    assert_eq!(client.answer().await.body, b"ok");
    let (mut server, head) = ask(&mut client, &gateway, "GET /b HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert!(head.starts_with("GET /b "), "{head}");
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine").await;
    assert_eq!(client.answer().await.body, b"mine");
}

/// An answer that is cut by a reset never looks whole.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_that_breaks_off_is_not_made_whole() {
    let (gateway, seqgate) = house(&[]).await;
    for framing in ["Content-Length: 10000", "Transfer-Encoding: chunked"] {
        for _ in 0..TRIES / 4 {
            let client = seqgate.connect().await;
            let cutting = async {
                let mut server = gateway.accept().await;
                server.take(20_000).await;
                server
                    .send(format!("HTTP/1.1 413 Payload Too Large\r\n{framing}\r\n\r\n9\r\ntoo large"))
                    .await;
                server.reset();
            };
            let request = upload(1 << 20, "Content-Length: 1048576");
            let (seen, ()) = tokio::join!(exchange(client, request, "no such end"), cutting);
            let text = String::from_utf8_lossy(&seen);
            assert!(!text.ends_with("0\r\n\r\n"), "{text}");
            assert!(!text.contains("200 OK"), "{text}");
        }
    }
}

/// Sends the start of an upload, lets the gateway answer, and then sends the rest with what follows.
async fn answered_early(seqgate: &Seqgate, gateway: &Gateway, size: usize, behind: &[u8]) -> (Peer, Peer) {
    let mut client = seqgate.connect().await;
    let request = upload(size, &format!("Content-Length: {size}"));
    let half = request.len() - size / 2;
    client.send(&request[..half]).await;
    let mut server = gateway.accept().await;
    let head = server.head().await;
    assert_eq!(value(&head, "content-length"), Some(size.to_string().as_str()));
    server.send(OK).await;
    assert_eq!(client.answer().await.body, b"ok");
    client.send([&request[half..], behind].concat()).await;
    (client, server)
}

/// The gateway answers, and reads on: the upload's end comes together with the next request.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_upload_answered_early_arrives_before_the_next_request() {
    let (gateway, seqgate) = house(&[]).await;
    let requests = [
        "GET /next HTTP/1.1\r\nHost: g\r\n\r\n",
        "POST /next HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\nhi",
    ];
    for try_ in 0..TRIES / 4 {
        for size in [100, 60_000, 1 << 20] {
            let next = requests[try_ % 2];
            let (mut client, mut server) = answered_early(&seqgate, &gateway, size, next.as_bytes()).await;
            assert_same(&server.take(size).await, &pattern(0, size), &format!("try {try_}, {size} bytes"));
            let accepting = gateway.accept();
            tokio::pin!(accepting);
            let mut server = tokio::select! {
                head = server.head_or_end() => match head {
                    Some(head) => { assert!(head.contains(" /next "), "{head}"); server }
                    None => { let mut new = accepting.await; new.head().await; new }
                },
                mut new = &mut accepting => { new.head().await; new }
            };
            server.send(OK).await;
            assert_eq!(client.answer().await.body, b"ok");
        }
    }
}

/// The same, and the client leaves after its last byte.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_upload_answered_early_arrives_after_its_client_has_left() {
    let (gateway, seqgate) = house(&[]).await;
    for try_ in 0..TRIES / 4 {
        for size in [100, 60_000, 1 << 20] {
            let (mut client, mut server) = answered_early(&seqgate, &gateway, size, b"").await;
            client.finish().await;
            assert_same(&server.take(size).await, &pattern(0, size), &format!("try {try_}, {size} bytes"));
            assert_eq!(server.end().await, End::Fin);
        }
    }
}

/// A gateway that does not ask for the body does not hold back the next request.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_never_asked_for_delays_nothing() {
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    let post = "POST / HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    // The body is sent unasked, so that the client's connection can continue.
    let request = [post, "bodyGET /next HTTP/1.1\r\nHost: g\r\n\r\n"].concat();
    let (mut server, _) = ask(&mut client, &gateway, &request).await;
    server.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await;
    assert_eq!(client.answer().await.status, 417);
    let next = tokio::select! {
        next = gateway.accept() => Some(next),
        _ = client.rest() => None,
    };
    if let Some(mut next) = next {
        next.head().await;
        next.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok");
    }
    server.rest().await;
}
