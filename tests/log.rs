//! What the log says: every end of a connection with its totals, warnings now and then, nothing that is secret; and
//! whoever reads it or not, seqgate goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use net::frames::{BINARY, TEXT, agent, event, frame, masked_close};
use net::program::{Running, address_behind, program};
use net::{CONSENT, DeadAddress, End, Gateway, Peer, eventually, handshake, open, status};
use serde_json::{Value, json};

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The lines with this message.
fn said(log: &str, message: &str) -> Vec<Value> {
    log.lines().map(parsed).filter(|line| line["message"] == message).collect()
}

/// The lines about connections that have ended, without what the clock brought in, once there are so many.
async fn ends(running: &Running, count: usize) -> Vec<Value> {
    let mut ends = Vec::new();
    eventually("the connections' lines", async || {
        ends = said(&running.logged(), "a connection has ended");
        ends.len() >= count
    })
    .await;
    for end in &mut ends {
        let end = end.as_object_mut().unwrap();
        assert!(end.remove("timestamp").unwrap().is_string());
        assert!(end.remove("seconds").unwrap().as_f64().unwrap() >= 0.0);
        assert_eq!(end.remove("level").unwrap(), "INFO");
        end.remove("message").unwrap();
    }
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_judged_connection_is_one_line_with_its_totals() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let gateway = Gateway::bind().await;
    let running = Running::start(gateway.address, &[]).await;
    let traceparent = format!("TraceParent: 00-{TRACE}-00f067aa0ba902b7-01\r\ntracestate: a=b\r\n\r\n");
    let request = handshake("/?token=x").replace("\r\n\r\n", &format!("\r\n{traceparent}"));
    let mut client = Peer::connect(running.listen).await;
    client.send(&request).await;
    let mut server = gateway.accept().await;
    assert!(server.head().await.contains(traceparent.trim_end()), "it arrives as it came");
    server.send(CONSENT).await;
    client.head().await;

    let stale = frame(TEXT, event("r", "assistant", 1, 1_769_900_000_000, Some(4)).as_bytes());
    let sent = [agent("r", 1, 1), agent("r", 2, 2), agent("r", 2, 3), stale, frame(BINARY, b"?")].concat();
    server.send(&sent).await;
    client.expect(&[agent("r", 1, 1), agent("r", 2, 2), frame(BINARY, b"?")].concat()).await;
    let goodbye = masked_close(1001, "bye");
    client.send(&goodbye).await;
    server.expect(&goodbye).await;
    drop((client, server));

    let expected = json!({
        "client": "127.0.0.1", "kind": "gateway", "closed_by": "client", "code": 1001,
        "bytes_to_client": sent.len(), "bytes_to_gateway": goodbye.len(),
        "forwarded": 2, "duplicate": 1, "out_of_order": 1, "unjudged": 1, "trace_id": TRACE,
    });
    assert_eq!(ends(&running, 1).await, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_and_plain_http_have_their_lines_too_and_a_look_at_the_port_has_none() {
    let gateway = Gateway::bind().await;
    let running = Running::start(gateway.address, &["--trusted-proxies=127.0.0.1"]).await;
    drop(Peer::connect(running.listen).await);

    let from_afar = handshake("/voiceclaw/x")
        .replace("\r\n\r\n", "\r\nX-Forwarded-For: 192.0.2.7\r\ntraceparent: 00-not-one\r\n\r\n");
    let client = Peer::connect(running.listen).await;
    let mut relayed = open(client, &gateway, &from_afar, CONSENT).await;
    relayed.gateway.send(frame(BINARY, b"12345")).await;
    relayed.client.expect(&frame(BINARY, b"12345")).await;
    relayed.gateway.reset();
    assert_eq!(relayed.client.end().await, End::Reset);
    let tunnel = json!({
        "client": "192.0.2.7", "kind": "tunnel", "closed_by": "gateway", "code": 1006,
        "bytes_to_client": 7, "bytes_to_gateway": 0,
    });
    assert_eq!(ends(&running, 1).await, std::slice::from_ref(&tunnel));

    let mut client = Peer::connect(running.listen).await;
    client.send("POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\r\nabc").await;
    let mut server = gateway.accept().await;
    server.until(b"abc").await;
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    client.until(b"hello").await;
    client.send("GET /x HTTP/1.1\r\nHost : g\r\n\r\n").await;
    assert_eq!(status(&client.head().await), 400);
    drop(client);
    let http = json!({
        "peer": "127.0.0.1", "kind": "http", "requests": 2, "bytes_to_client": 5, "bytes_to_gateway": 3,
    });
    assert_eq!(ends(&running, 2).await, [tunnel, http]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_at_info_holds_no_token_no_run_id_and_no_text() {
    const SECRET: &str = "s3cret-t0ken";
    for format in ["json", "text", "auto"] {
        let gateway = Gateway::bind().await;
        let flag = format!("--log-format={format}");
        let mut running = Running::start(gateway.address, &["--drain-timeout=0s", &flag]).await;
        let request = handshake(&format!("/?token={SECRET}")).replace(
            "\r\n\r\n",
            &format!("\r\nAuthorization: Bearer {SECRET}\r\nCookie: a={SECRET}\r\n\r\n"),
        );
        let mut client = Peer::connect(running.listen).await;
        client.send(&request).await;
        let mut server = gateway.accept().await;
        server.head().await;
        server.send(CONSENT).await;
        client.head().await;
        server
            .send([agent(SECRET, 1, 1), agent(SECRET, 1, 2), frame(TEXT, SECRET.as_bytes())].concat())
            .await;
        client.expect(&agent(SECRET, 1, 1)).await;
        client.expect(&frame(TEXT, SECRET.as_bytes())).await;
        // Requests that are refused, and some that the gateway does not answer.
        let mut refused = Peer::connect(running.listen).await;
        refused.send(format!("GET /{SECRET} HTTP/1.1\r\n{SECRET} : x\r\n\r\n")).await;
        assert_eq!(status(&refused.head().await), 400);
        let mut unanswered = Peer::connect(running.listen).await;
        unanswered.send(format!("GET /{SECRET} HTTP/1.1\r\nHost: {SECRET}\r\n\r\n")).await;
        drop(gateway.accept().await);
        assert_eq!(status(&unanswered.head().await), 502);
        drop(gateway);
        let mut down = Peer::connect(running.listen).await;
        down.send(format!("GET /{SECRET} HTTP/1.1\r\nHost: {SECRET}\r\n\r\n")).await;
        assert_eq!(status(&down.head().await), 502);
        running.signal("TERM");
        assert_eq!(running.exit().await.code(), Some(0));
        running.logs("stopped").await;
        let log = running.logged();
        assert!(!log.contains(SECRET), "{log}");
        if format != "text" {
            for line in log.lines() {
                let line: serde_json::Value =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_gone_is_not_mentioned_for_every_client() {
    const CLIENTS: u64 = 50;
    let gone = DeadAddress::new();
    let running = Running::start(gone.address, &[]).await;
    for _ in 0..CLIENTS {
        let mut client = Peer::connect(running.listen).await;
        client.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!(status(&client.head().await), 502);
    }
    ends(&running, CLIENTS as usize).await;
    let log = running.logged();
    let warnings: Vec<Value> = log.lines().map(parsed).filter(|line| line["level"] == "WARN").collect();
    assert!(!warnings.is_empty());
    let unsaid: u64 = warnings.iter().map(|line| line["unsaid"].as_u64().unwrap()).sum();
    assert!(warnings.len() as u64 + unsaid <= CLIENTS);
    // However slow this machine is, two of them are ten seconds apart.
    let time = |line: &Value| {
        let clock = line["timestamp"].as_str().unwrap()[11..19].to_owned();
        clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<u32>().unwrap())
    };
    for pair in warnings.windows(2) {
        assert!((time(&pair[1]) + 86_400 - time(&pair[0])) % 86_400 >= 9, "{pair:?}");
    }
}

/// A process that does not outlive a test that has failed.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_nothing_up_and_says_later_what_was_lost() {
    // Their lines fill the pipe and what waits before it several times.
    const CLIENTS: u64 = 4000;
    let mut child = Killed(
        program()
            .args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut log = BufReader::new(child.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let up = log.find(|line| line.contains("seqgate is up")).unwrap();
    let listen = address_behind(&up, "listen");
    for _ in 0..CLIENTS {
        let mut client = Peer::connect(listen).await;
        client.send("GET / HTTP/1.1\r\nHost : g\r\n\r\n").await;
        assert_eq!(status(&client.head().await), 400);
    }
    let (mut ended, mut lost) = (0, 0);
    while ended + lost < CLIENTS {
        let line = parsed(&log.next().unwrap());
        ended += u64::from(line["message"] == "a connection has ended");
        lost = line["lost"].as_u64().unwrap_or(lost);
    }
    assert!(lost > 0, "the pipe took it all: nothing was shown");
}
