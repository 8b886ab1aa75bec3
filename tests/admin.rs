//! The side door: every series is there from the start, and health says what is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::collections::BTreeSet;

use net::frames::{BINARY, PING, TEXT, agent, close, frame, masked_close};
use net::{
    DeadAddress, Gateway, Peer, Seqgate, eventually, house, metric_in, status, tunnel, value, websocket,
};

const FORWARDED: [&str; 13] = [
    "new_run",
    "in_order",
    "gap",
    "restarted",
    "late",
    "other",
    "no_run",
    "no_seq",
    "malformed",
    "oversized",
    "binary",
    "extended",
    "interrupted",
];
const DROPPED: [&str; 2] = ["duplicate", "out_of_order"];
const CLOSE_CODES: [&str; 17] = [
    "1000", "1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1010", "1011", "1012", "1013",
    "1014", "4000", "4001", "other",
];

/// Every series that is 0 before anything has happened.
fn zeros() -> Vec<String> {
    let mut series: Vec<String> = [
        "runs_tracked",
        "runs_tracked_largest_connection",
        "run_table_bytes",
        "runs_evicted_then_seen_total",
        "clients",
        "tls_certificate_stale",
        "draining",
        "runs_started_total",
        "runs_restarted_total",
        "readings_disagreed_total",
        "unreadable_streams_total",
        "outer_seq_rewritten_total",
        "gateway_distinct_runs",
        "upstream_connect_seconds_count",
        "upstream_connect_seconds_sum",
        "connection_duration_seconds_count",
        "connection_duration_seconds_sum",
    ]
    .map(str::to_owned)
    .into();
    let mut family =
        |name: &str, labels: &[String]| series.extend(labels.iter().map(|l| format!("{name}{{{l}}}")));
    let label = |name: &str, values: &[&str]| -> Vec<String> {
        values.iter().map(|value| format!("{name}=\"{value}\"")).collect()
    };
    family("runs_evicted_total", &label("reason", &["capacity_live", "capacity_ended", "expired"]));
    for (verdict, reasons) in [("forwarded", &FORWARDED[..]), ("dropped", &DROPPED), ("would_drop", &DROPPED)]
    {
        let labels: Vec<_> =
            reasons.iter().map(|r| format!("verdict=\"{verdict}\",reason=\"{r}\"")).collect();
        family("events_total", &labels);
    }
    family("messages_read_total", &label("extent", &["whole", "ends"]));
    family("connections", &label("kind", &["gateway", "tunnel"]));
    family("connections_total", &label("kind", &["gateway", "tunnel"]));
    let reasons = [
        "limit",
        "bad_request",
        "header_too_large",
        "header_timeout",
        "upstream_unreachable",
        "upstream_timeout",
        "upstream_tls",
        "tls_handshake",
        "upstream_bad_answer",
    ];
    family("connections_rejected_total", &label("reason", &reasons));
    family("tls_reloads_total", &label("result", &["done", "failed"]));
    family("upgrades_refused_total", &label("code", &["401", "403", "404", "429", "503", "other"]));
    for initiator in ["client", "gateway", "seqgate"] {
        let labels: Vec<_> =
            CLOSE_CODES.iter().map(|c| format!("initiator=\"{initiator}\",code=\"{c}\"")).collect();
        family("closes_total", &labels);
    }
    let opcodes = ["continuation", "text", "binary", "close", "ping", "pong"];
    family("frames_total", &label("opcode", &opcodes));
    family("bytes_total", &label("direction", &["to_gateway", "to_client"]));
    family("backpressure_seconds_total", &label("direction", &["to_gateway", "to_client"]));
    family("http_requests_total", &label("code", &["1xx", "2xx", "3xx", "4xx", "5xx", "canceled"]));
    series.into_iter().map(|name| format!("seqgate_{name}")).collect()
}

/// Names and labels of all series, without those of the process.
fn series(page: &str) -> BTreeSet<String> {
    let names = page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    names.map(|(name, _)| name.to_owned()).filter(|name| !name.starts_with("process_")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_series_is_there_at_zero_from_the_start() {
    let (_gateway, seqgate) = house(&[("runs-per-connection", "77")]).await;
    let (_, page) = seqgate.admin("/metrics").await;
    for name in zeros() {
        assert_eq!(metric_in(&page, &name), Some(0.0), "{name}");
    }
    assert_eq!(metric_in(&page, "seqgate_runs_capacity_per_connection"), Some(77.0));
    assert_eq!(metric_in(&page, "seqgate_clients_limit"), Some(512.0));
    let version = format!("seqgate_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(metric_in(&page, &version), Some(1.0));
    for name in [
        "resident_memory_bytes",
        "virtual_memory_bytes",
        "open_fds",
        "max_fds",
        "start_time_seconds",
        "threads",
    ] {
        assert!(metric_in(&page, &format!("process_{name}")).is_some_and(|value| value > 0.0), "{name}");
    }
    assert!(metric_in(&page, "process_cpu_seconds_total").is_some());
    // Each family says what it is.
    for name in zeros() {
        let family = name.split('{').next().unwrap().trim_end_matches("_count").trim_end_matches("_sum");
        assert!(page.contains(&format!("# HELP {family} ")), "{family}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_happens_adds_a_series_or_shows_an_id() {
    const ID: &str = "a-run-id-that-nobody-may-see";
    let (house, seqgate) = house(&[]).await;
    let (_, before) = seqgate.admin("/metrics").await;
    for code in [1000, 1015, 2999, 4321, 65535] {
        let mut relayed = websocket(&seqgate, &house, &format!("/{ID}")).await;
        let bytes = [
            agent(ID, 1, 1),
            agent(ID, 1, 2),
            agent(ID, 5, 3),
            agent(ID, 2, 4),
            frame(TEXT, b"?"),
            frame(BINARY, b""),
            frame(PING, b""),
            close(code, ID),
        ];
        relayed.gateway.send(bytes.concat()).await;
        relayed.client.until(&close(code, ID)).await;
        relayed.client.send(masked_close(code, ID)).await;
        relayed.gateway.until(&masked_close(code, ID)).await;
    }
    tunnel(&seqgate, &house).await;
    for request in [format!("{ID} / HTTP/1.1\r\n\r\n"), format!("GET /{ID} HTTP/1.1\r\nHost : {ID}\r\n\r\n")]
    {
        let mut client = seqgate.connect().await;
        client.send(request).await;
        client.rest().await;
    }
    let (_, after) = seqgate.admin("/metrics").await;
    assert_eq!(series(&before), series(&after));
    assert!(!after.contains(ID));
    assert_eq!(metric_in(&after, "seqgate_gateway_distinct_runs").map(f64::round), Some(1.0));
    assert_eq!(metric_in(&after, "seqgate_runs_started_total"), Some(5.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gauges_follow_the_runs_of_all_connections() {
    let (house, seqgate) = house(&[]).await;
    let mut one = websocket(&seqgate, &house, "/").await;
    let mut two = websocket(&seqgate, &house, "/").await;
    for n in 0..10 {
        let event = agent(&format!("run {n}"), 1, n);
        one.gateway.send(&event).await;
        one.client.expect(&event).await;
        if n < 4 {
            two.gateway.send(&event).await;
            two.client.expect(&event).await;
        }
    }
    seqgate.metric_becomes("seqgate_runs_tracked", 14.0).await;
    seqgate.metric_becomes("seqgate_runs_tracked_largest_connection", 10.0).await;
    assert!(seqgate.metric("seqgate_run_table_bytes").await > 0.0);
    assert_eq!(seqgate.metric(r#"seqgate_connections{kind="gateway"}"#).await, 2.0);
    // An estimate: two of ten may share a register, once in some hundred processes.
    let distinct = seqgate.metric("seqgate_gateway_distinct_runs").await;
    assert!((7.0..=11.0).contains(&distinct), "{distinct}");
    drop(one);
    seqgate.metric_becomes("seqgate_runs_tracked", 4.0).await;
    drop(two);
    seqgate.metric_becomes("seqgate_runs_tracked", 0.0).await;
    seqgate.metric_becomes("seqgate_run_table_bytes", 0.0).await;
    seqgate.metric_becomes(r#"seqgate_connections{kind="gateway"}"#, 0.0).await;
    seqgate.metric_becomes("seqgate_connection_duration_seconds_count", 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_all_kinds_are_counted_while_they_are_there_and_so_is_the_drain() {
    let (house, mut seqgate) = house(&[("drain-timeout", "1h")]).await;
    let relayed = websocket(&seqgate, &house, "/").await;
    let idle = seqgate.connect().await;
    seqgate.metric_becomes("seqgate_clients", 2.0).await;
    drop(idle);
    seqgate.metric_becomes("seqgate_clients", 1.0).await;
    seqgate.stop();
    seqgate.metric_becomes("seqgate_draining", 1.0).await;
    drop(relayed);
    seqgate.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_that_the_gateway_refuses_are_counted_by_status() {
    let (house, seqgate) = house(&[]).await;
    for (status, label) in [(403, "403"), (403, "403"), (429, "429"), (418, "other")] {
        let mut client = seqgate.connect().await;
        client.send(net::handshake("/")).await;
        let mut gateway = house.accept().await;
        gateway.head().await;
        gateway.send(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, status);
        assert!(seqgate.metric(&format!("seqgate_upgrades_refused_total{{code=\"{label}\"}}")).await > 0.0);
    }
    assert_eq!(seqgate.metric(r#"seqgate_upgrades_refused_total{code="403"}"#).await, 2.0);
    assert_eq!(seqgate.metric(r#"seqgate_upgrades_refused_total{code="503"}"#).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_run_is_forgotten_and_counted_though_nothing_more_comes() {
    let (house, seqgate) = house(&[("run-ttl", "1s")]).await;
    let mut relayed = websocket(&seqgate, &house, "/").await;
    relayed.gateway.send(agent("r", 1, 1)).await;
    relayed.client.expect(&agent("r", 1, 1)).await;
    seqgate.metric_becomes("seqgate_runs_tracked", 0.0).await;
    seqgate.metric_becomes(r#"seqgate_runs_evicted_total{reason="expired"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alive_is_not_ready_and_unready_says_why() {
    let dead = DeadAddress::new();
    let mut seqgate = Seqgate::start(dead.address, &[("drain-timeout", "1h")]).await;
    assert_eq!(seqgate.admin("/livez").await.0, 200);
    let (status, body) = seqgate.admin("/readyz").await;
    assert_eq!(status, 503);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["ready"], false);
    assert!(body["reason"].as_str().unwrap().contains("refused"), "{body}");
    // It becomes ready when the gateway does, and unready when the gateway goes.
    let gateway = dead.live();
    eventually("readiness", async || seqgate.admin("/readyz").await.0 == 200).await;
    // The probes are waiting to be accepted, too.
    while !gateway.is_untouched() {}
    let held = websocket(&seqgate, &gateway, "/").await;
    drop(gateway);
    eventually("the gateway's end to be noticed", async || seqgate.admin("/readyz").await.0 == 503).await;
    // The connection that lives holds the drain.
    seqgate.stop();
    eventually("the drain", async || seqgate.admin("/readyz").await.1.contains("draining")).await;
    assert_eq!(seqgate.admin("/livez").await.0, 200);
    drop(held);
    seqgate.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_of_the_gateway_are_no_load_for_it() {
    let (gateway, seqgate) = house(&[]).await;
    for _ in 0..50 {
        assert_eq!(seqgate.admin("/readyz").await.0, 200);
    }
    let mut probes = 0;
    while !gateway.is_untouched() {
        probes += 1;
    }
    // One a second, and this machine may be slow.
    assert!((1..50).contains(&probes), "{probes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_side_door_is_for_reading_only() {
    let (_gateway, seqgate) = house(&[]).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let mut peer = Peer::connect(seqgate.addresses.admin).await;
        peer.send(format!("{method} /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).await;
        let answer = peer.answer().await;
        assert_eq!(answer.status, 405);
        assert_eq!(value(&answer.head, "allow"), Some("GET, HEAD"));
    }
    let mut peer = Peer::connect(seqgate.addresses.admin).await;
    peer.send("HEAD /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let head = peer.head().await;
    assert_eq!(status(&head), 200);
    assert!(value(&head, "content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{head}");
    assert_eq!(peer.rest().await.0, b"");
    assert_eq!(seqgate.admin("/").await.0, 200);
    assert_eq!(seqgate.admin("/nothing-here").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_side_door_repeats_nothing_that_anybody_says() {
    const WORD: &str = "s3cret-t0ken";
    let (gateway, seqgate) = house(&[]).await;
    let mut client = seqgate.connect().await;
    client.send(format!("GET /{WORD} HTTP/1.1\r\nHost: {WORD}\r\nAuthorization: {WORD}\r\n\r\n")).await;
    let mut server = gateway.accept().await;
    server.head().await;
    server.send(format!("HTTP/1.1 200 OK\r\nX: {WORD}\r\nContent-Length: 0\r\n\r\n")).await;
    client.head().await;
    for request in [
        format!("GET /{WORD}?{WORD} HTTP/1.1\r\nHost: {WORD}\r\nConnection: close\r\n\r\n"),
        format!("GET /metrics?{WORD} HTTP/1.1\r\nHost: {WORD}\r\nConnection: close\r\n\r\n"),
        format!("GET /readyz HTTP/1.1\r\nHost: {WORD}\r\nX-{WORD}: {WORD}\r\nConnection: close\r\n\r\n"),
        format!("{WORD} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{WORD} : a\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nX: {}{WORD}\r\n\r\n", "x".repeat(30_000)),
        format!("CONNECT {WORD}:80 HTTP/1.1\r\nHost: {WORD}\r\nConnection: close\r\n\r\n"),
    ] {
        let mut peer = Peer::connect(seqgate.addresses.admin).await;
        // What is too large is not heard to its end.
        peer.try_send(&request).await.ok();
        let (answer, _) = peer.rest().await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains(WORD), "{request:.80}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_own_pages_of_these_names_are_the_gateways() {
    let (gateway, seqgate) = house(&[]).await;
    for path in ["/metrics", "/livez", "/readyz", "/healthz", "/"] {
        let mut client = seqgate.connect().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
        let mut server = gateway.accept().await;
        assert!(server.head().await.starts_with(&format!("GET {path} ")));
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmine!").await;
        assert_eq!(client.answer().await.body, b"mine!");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_are_all_answered() {
    let gateway = Gateway::bind().await;
    let seqgate = Seqgate::start(gateway.address, &[]).await;
    let mut askers = tokio::task::JoinSet::new();
    let admin = seqgate.addresses.admin;
    for _ in 0..200 {
        askers.spawn(async move {
            let mut peer = Peer::connect(admin).await;
            peer.send("GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            peer.answer().await.status
        });
    }
    assert!(askers.join_all().await.iter().all(|status| *status == 200));
}

/// Places for connections to the admin address.
const PLACES: usize = 64;

async fn assert_alive(seqgate: &Seqgate) {
    assert_eq!(seqgate.admin("/livez").await.0, 200);
    assert_eq!(seqgate.admin("/readyz").await.0, 200);
    assert_eq!(seqgate.admin("/metrics").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_send_nothing_keep_no_probe_out() {
    let (_gateway, seqgate) = house(&[]).await;
    let mut idle = Vec::new();
    for _ in 0..PLACES + 6 {
        idle.push(Peer::connect(seqgate.addresses.admin).await);
    }
    assert_alive(&seqgate).await;
    // The oldest were closed for the others.
    assert_eq!(idle[0].end().await, net::End::Fin);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_opened_again_whenever_they_are_closed_keep_no_probe_out() {
    let (_gateway, seqgate) = house(&[]).await;
    let admin = seqgate.addresses.admin;
    let mut holders = tokio::task::JoinSet::new();
    for _ in 0..2 * PLACES {
        holders.spawn(async move {
            loop {
                if let Ok(mut peer) = Peer::try_connect(admin).await {
                    peer.rest().await;
                }
            }
        });
    }
    for _ in 0..3 {
        assert_alive(&seqgate).await;
    }
    holders.abort_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_unread_answers_keep_no_probe_out() {
    let (_gateway, seqgate) = house(&[]).await;
    let admin = seqgate.addresses.admin;
    let mut held = Vec::new();
    for n in 0..PLACES + 6 {
        let mut peer = Peer::connect_small(admin, 4096).await;
        let request = if n % 2 == 0 {
            "GET /livez HTTP/1.1\r\nHost: a\r\nX-".to_owned()
        } else {
            "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20)
        };
        // Some are closed before they have sent everything.
        peer.try_send(request).await.ok();
        held.push(peer);
    }
    assert_alive(&seqgate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_the_gateway_keeps_its_place_while_others_idle() {
    let gateway = Gateway::bind().await;
    let upstream = format!("https://{}", gateway.address);
    let pin = net::tls::GOOD.fingerprint();
    let settings =
        [("upstream", upstream.as_str()), ("upstream-fingerprint", &pin), ("connect-timeout", "10s")];
    let seqgate = Seqgate::start(gateway.address, &settings).await;
    let mut waiting = Peer::connect(seqgate.addresses.admin).await;
    waiting.send("GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    // The probe waits for the handshake.
    let probe = gateway.accept().await;
    let mut idle = Vec::new();
    for _ in 0..2 * PLACES {
        idle.push(Peer::connect(seqgate.addresses.admin).await);
    }
    drop(probe);
    assert_eq!(waiting.answer().await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "up to 20 s of silence"]
async fn admin_connections_that_do_nothing_are_closed() {
    let (_gateway, seqgate) = house(&[]).await;
    let mut silent = Peer::connect(seqgate.addresses.admin).await;
    let mut slow = Peer::connect(seqgate.addresses.admin).await;
    slow.send("GET / HTTP/1.1\r\n").await;
    let mut deaf = Peer::connect_small(seqgate.addresses.admin, 4096).await;
    deaf.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(400)).await;
    silent.rest().await;
    slow.rest().await;
    // Its pipelined requests were not all answered.
    tokio::time::sleep(std::time::Duration::from_secs(25)).await;
    deaf.rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_gives_the_gateway_as_much_time_as_clients_get() {
    let mut gateway = Gateway::bind().await;
    gateway.tls = Some(net::tls::GOOD.acceptor());
    let upstream = format!("https://{}", gateway.address);
    let pin = net::tls::GOOD.fingerprint();
    let settings =
        [("upstream", upstream.as_str()), ("upstream-fingerprint", &pin), ("connect-timeout", "20s")];
    let seqgate = Seqgate::start(gateway.address, &settings).await;
    let accepting = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        loop {
            gateway.accept_whenever().await;
        }
    });
    assert_eq!(seqgate.admin("/readyz").await.0, 200);
    accepting.abort();
}
