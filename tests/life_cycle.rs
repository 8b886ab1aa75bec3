//! The end of a seqgate as its neighbours see it, and the program around it: exit codes and settings.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use net::frames::{BINARY, TEXT, agent, close, frame, masked, masked_close};
use net::program::{Running, output, program};
use net::{
    CONSENT, DeadAddress, End, Gateway, Peer, Relayed, Seqgate, assert_same, eventually, handshake, house,
    lines, noise, tunnel, websocket,
};
use tokio::net::TcpStream;

/// How long seqgate waits for a client's last words. An attempt that took nearly as long proves nothing.
const GOODBYE: Duration = Duration::from_millis(1500);
const ATTEMPTS: usize = 10;

async fn refuses_connections(address: SocketAddr) -> bool {
    matches!(TcpStream::connect(address).await, Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

async fn drains(seqgate: &Seqgate) {
    eventually("/readyz to fail", async || {
        let (status, body) = seqgate.admin("/readyz").await;
        // A gateway that is slow is another reason not to be ready.
        status == 503 && body.contains("draining")
    })
    .await;
}

// --- in this process ---

#[tokio::test(flavor = "multi_thread")]
async fn while_it_drains_nobody_new_comes_and_live_connections_go_on() {
    let (gateway, mut seqgate) = house(&[("drain-timeout", "1h")]).await;
    let mut socket = websocket(&seqgate, &gateway, "/").await;
    let mut other = tunnel(&seqgate, &gateway).await;
    let mut http = seqgate.connect().await;
    http.send("GET /slow HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut server = gateway.accept().await;
    server.head().await;
    let mut idle = seqgate.connect().await;
    idle.send("GET /slow HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut idle_server = gateway.accept().await;
    idle_server.head().await;
    idle_server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    idle.answer().await;

    seqgate.stop();
    drains(&seqgate).await;
    eventually("the listener to close", async || refuses_connections(seqgate.addresses.listen).await).await;
    // Alive, though not ready.
    assert_eq!(seqgate.admin("/livez").await.0, 200);
    // A connection between two requests ends at once.
    assert_eq!(idle.end().await, End::Fin);
    for seq in 1..4 {
        socket.gateway.send([agent("r", seq, seq), agent("r", seq, seq)].concat()).await;
        socket.client.expect(&agent("r", seq, seq)).await;
        socket.client.send(masked(TEXT, b"hello")).await;
        socket.gateway.expect(&masked(TEXT, b"hello")).await;
        other.client.send("hello").await;
        other.gateway.expect(b"hello").await;
    }
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(http.answer().await.body, b"ok");
    assert_eq!(http.end().await, End::Fin);
    // The last one that leaves ends the drain, long before its time.
    drop((socket, other));
    seqgate.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_connections_a_drain_is_over_at_once() {
    let (_gateway, mut seqgate) = house(&[("drain-timeout", "1h")]).await;
    seqgate.stop();
    seqgate.ended().await;
}

/// Runs a scenario that has to be faster than seqgate's patience until it was.
async fn in_time(scenario: impl AsyncFn(&Gateway, Seqgate) -> Duration) {
    for _ in 0..ATTEMPTS {
        let (gateway, seqgate) = house(&[("drain-timeout", "0s")]).await;
        if scenario(&gateway, seqgate).await < GOODBYE {
            return;
        }
    }
    eprintln!("skipped: this machine is too slow for seqgate's patience");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_leaves_the_consent_to_an_upgrade_under_way_as_it_is() {
    let (gateway, mut seqgate) = house(&[("drain-timeout", "1h")]).await;
    let mut client = seqgate.connect().await;
    client.send(handshake("/")).await;
    let mut server = gateway.accept().await;
    server.head().await;
    seqgate.stop();
    drains(&seqgate).await;
    server.send(CONSENT).await;
    client.expect(CONSENT.as_bytes()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_drain_timeout_a_client_gets_1012_and_its_answer_reaches_the_gateway() {
    in_time(async |gateway, mut seqgate| {
        let Relayed { mut client, mut gateway } = websocket(&seqgate, gateway, "/").await;
        gateway.send(agent("r", 1, 1)).await;
        client.expect(&agent("r", 1, 1)).await;
        let start = Instant::now();
        seqgate.stop();
        client.expect(&close(1012, "service restart")).await;
        client.send(masked_close(1012, "my answer")).await;
        let (seen, end) = gateway.rest().await;
        let time = start.elapsed();
        if time < GOODBYE {
            assert_same(&seen, &masked_close(1012, "my answer"), "the client's answer");
            assert_eq!(end, End::Fin);
            gateway.finish().await;
            assert_eq!(client.end().await, End::Fin);
        }
        seqgate.ended().await;
        time
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_1012_waits_for_the_end_of_a_frame_that_is_on_its_way() {
    for (first, payload) in
        [(BINARY, noise(1, 3 << 20)), (TEXT, vec![b' '; 3 << 20]), (BINARY, noise(2, 600))]
    {
        let large = frame(first, &payload);
        in_time(async |gateway, mut seqgate| {
            let Relayed { mut client, mut gateway } = websocket(&seqgate, gateway, "/").await;
            let (half, rest) = large.split_at(large.len() / 2);
            let (_, seen) = tokio::join!(gateway.send(half), client.take(half.len()));
            assert_same(&seen, half, "the first half");
            let start = Instant::now();
            seqgate.stop();
            drains(&seqgate).await;
            // What comes behind the frame does not pass any more.
            let rest_and_more = [rest, &agent("r", 1, 1)].concat();
            let sent = gateway.try_send(rest_and_more);
            let received = async {
                let seen = client.take(rest.len()).await;
                assert_same(&seen, rest, "the second half");
                let behind = client.take(close(1012, "service restart").len()).await;
                // The frame behind it may still have been relayed, where the end was late.
                if behind == close(1012, "service restart") {
                    client.send(masked_close(1012, "")).await
                } else {
                    assert!(agent("r", 1, 1).starts_with(&behind))
                }
            };
            let _ = tokio::join!(sent, received);
            let time = start.elapsed();
            drop((client, gateway));
            seqgate.ended().await;
            time
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_gets_its_1012_within_the_spread() {
    let (gateway, mut seqgate) = house(&[("drain-timeout", "0s")]).await;
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(websocket(&seqgate, &gateway, "/").await);
    }
    seqgate.stop();
    for relayed in &mut all {
        relayed.client.expect(&close(1012, "service restart")).await;
    }
    for mut relayed in all {
        // A client that is gone by now is no failure.
        let _ = relayed.client.try_send(masked_close(1012, "")).await;
    }
    seqgate.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_answer_is_left_and_the_gateway_is_told() {
    in_time(async |gateway, mut seqgate| {
        let Relayed { mut client, mut gateway } = websocket(&seqgate, gateway, "/").await;
        let start = Instant::now();
        seqgate.stop();
        client.expect(&close(1012, "service restart")).await;
        // It says something, but no Close.
        client.send(masked(TEXT, b"but")).await;
        let time = start.elapsed();
        let (seen, end) = gateway.rest().await;
        if time < GOODBYE {
            let mut told = masked(TEXT, b"but");
            // Masked, as a client's, with zeros.
            told.extend(b"\x88\x91\0\0\0\0\x03\xf4service restart");
            assert_same(&seen, &told, "a Close of seqgate's own");
            assert_eq!(end, End::Fin);
            drop(gateway);
            let (rest, _) = client.rest().await;
            assert_same(&rest, b"", "behind the Close");
        }
        seqgate.ended().await;
        time
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_put_into_the_middle_of_a_clients_frame() {
    let (house, mut seqgate) = house(&[("drain-timeout", "0s")]).await;
    let Relayed { mut client, mut gateway } = websocket(&seqgate, &house, "/").await;
    let whole = masked(TEXT, &[b'x'; 500]);
    client.send(&whole[..300]).await;
    gateway.expect(&whole[..300]).await;
    seqgate.stop();
    client.expect(&close(1012, "service restart")).await;
    assert_eq!(gateway.end().await, End::Fin);
    seqgate.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sides_that_take_nothing_do_not_hold_the_end_up() {
    let house = Gateway::bind_small(16 * 1024).await;
    let mut seqgate = Seqgate::start(house.address, &[("drain-timeout", "0s")]).await;
    let client = Peer::connect_small(seqgate.addresses.listen, 16 * 1024).await;
    let Relayed { mut client, mut gateway } = net::open(client, &house, &handshake("/"), net::CONSENT).await;
    // Frames without an end in both directions.
    let endless = [BINARY, 127, 0x7f, 0, 0, 0, 0, 0, 0, 0];
    gateway.send(endless).await;
    client.send(endless).await;
    gateway.push_until_blocked(48 << 20).await;
    client.push_until_blocked(48 << 20).await;
    let mut busy = seqgate.connect().await;
    busy.send("GET /never HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut server = house.accept().await;
    server.head().await;
    seqgate.stop();
    seqgate.ended().await;
    drop((client, gateway));
    server.rest().await;
    busy.rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_drain_timeout_a_tunnel_just_ends() {
    let (house, mut seqgate) = house(&[("drain-timeout", "0s")]).await;
    let Relayed { mut client, mut gateway } = tunnel(&seqgate, &house).await;
    client.send("hello").await;
    gateway.expect(b"hello").await;
    seqgate.stop();
    assert_eq!(client.end().await, End::Fin);
    assert_eq!(gateway.end().await, End::Fin);
    seqgate.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_close_of_the_gateways_own_no_second_one_is_sent() {
    in_time(async |gateway, mut seqgate| {
        let Relayed { mut client, mut gateway } = websocket(&seqgate, gateway, "/").await;
        gateway.send(close(1012, "mine")).await;
        client.expect(&close(1012, "mine")).await;
        let start = Instant::now();
        seqgate.stop();
        client.send(masked_close(1012, "")).await;
        let time = start.elapsed();
        if time < GOODBYE {
            gateway.expect(&masked_close(1012, "")).await;
            assert_eq!(gateway.end().await, End::Fin);
            gateway.finish().await;
            assert_eq!(client.end().await, End::Fin);
        }
        seqgate.ended().await;
        time
    })
    .await;
}

// --- the program ---

async fn upgraded(running: &Running, gateway: &Gateway) -> Relayed {
    net::open(Peer::connect(running.listen).await, gateway, &handshake("/"), net::CONSENT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_and_the_exit_code_is_0() {
    for name in ["TERM", "INT"] {
        let gateway = Gateway::bind().await;
        let mut running = Running::start(gateway.address, &["--drain-timeout=1h"]).await;
        let mut held = upgraded(&running, &gateway).await;
        running.signal(name);
        running.logs("draining").await;
        assert!(running.child.try_wait().unwrap().is_none());
        held.client.send("still here").await;
        held.gateway.expect(b"still here").await;
        drop(held);
        assert_eq!(running.exit().await.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_timeout_ends_a_drain_that_nobody_else_ends() {
    let gateway = Gateway::bind().await;
    let mut running = Running::start(gateway.address, &["--drain-timeout=100ms"]).await;
    let mut held = upgraded(&running, &gateway).await;
    running.signal("TERM");
    held.client.expect(&close(1012, "service restart")).await;
    assert_eq!(running.exit().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let gateway = Gateway::bind().await;
        let mut running = Running::start(gateway.address, &["--drain-timeout=1h"]).await;
        let held = upgraded(&running, &gateway).await;
        running.signal(first);
        running.logs("draining").await;
        running.signal(second);
        assert_eq!(running.exit().await.code(), Some(130));
        drop(held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_exit_code_71_and_names_its_setting() {
    let taken = Gateway::bind().await;
    for (flag, setting) in [("--listen", "SEQGATE_LISTEN"), ("--admin-listen", "SEQGATE_ADMIN_LISTEN")] {
        let other = if flag == "--listen" { "--admin-listen=127.0.0.1:0" } else { "--listen=127.0.0.1:0" };
        let (output, _, err) = output(program().args([&format!("{flag}={}", taken.address), other]));
        assert_eq!(output.status.code(), Some(71), "{err}");
        assert!(err.contains(setting) && err.contains(&taken.address.to_string()), "{err}");
        assert!(err.to_lowercase().contains("in use"), "{err}");
    }
}

#[test]
fn check_prints_every_setting_with_its_source_and_the_memory_promise() {
    let (result, out, err) =
        output(program().args(["check", "--mode=observe"]).env("SEQGATE_RUN_TTL", "30m"));
    assert_eq!((result.status.code(), err.as_str()), (Some(0), ""));
    let words: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in [
        ["SEQGATE_LISTEN", "default", "127.0.0.1:18900"],
        ["SEQGATE_UPSTREAM", "default", "http://127.0.0.1:18789"],
        ["SEQGATE_ADMIN_LISTEN", "default", "127.0.0.1:18901"],
        ["SEQGATE_MODE", "flag", "observe"],
        ["SEQGATE_ORDER", "default", "stream"],
        ["SEQGATE_EVENTS", "default", "agent"],
        ["SEQGATE_RUNS_PER_CONNECTION", "default", "1024"],
        ["SEQGATE_RUN_TTL", "environment", "30m"],
        ["SEQGATE_INSPECT_LIMIT", "default", "256KiB"],
        ["SEQGATE_MAX_CONNECTIONS", "default", "512"],
        ["SEQGATE_CONNECT_TIMEOUT", "default", "5s"],
        ["SEQGATE_HEADER_TIMEOUT", "default", "10s"],
        ["SEQGATE_DRAIN_TIMEOUT", "default", "25s"],
        ["SEQGATE_TRUSTED_PROXIES", "default", "(empty)"],
        ["SEQGATE_IDENTITY_HEADERS", "default", "(empty)"],
        [
            "SEQGATE_TUNNEL_PATHS",
            "default",
            "/__openclaw__/,/voiceclaw/,/desktop/,/node-desktop/,/node-portal/",
        ],
        ["SEQGATE_LOG", "default", "info"],
        ["SEQGATE_LOG_FORMAT", "default", "auto"],
    ] {
        assert!(words.contains(&line.to_vec()), "{line:?} is not in\n{out}");
    }
    assert!(out.lines().last().unwrap().starts_with("memory: at most "), "{out}");
    // A flag wins over the environment.
    let (_, out, _) = output(program().args(["check", "--mode", "observe"]).env("SEQGATE_MODE", "enforce"));
    assert!(out.lines().any(|line| line.split_whitespace().eq(["SEQGATE_MODE", "flag", "observe"])), "{out}");
}

#[test]
fn a_bad_value_is_exit_code_64_and_one_line_that_says_what_would_do() {
    for (name, value, accepts) in [
        ("LISTEN", "18900", "127.0.0.1:18900"),
        ("LISTEN", "localhost:18900", "127.0.0.1:18900"),
        ("UPSTREAM", "ftp://127.0.0.1:1", "https://HOST:PORT"),
        ("UPSTREAM", "127.0.0.1:18789", "http://HOST:PORT"),
        ("UPSTREAM", "http://127.0.0.1:18789/path", "without a path"),
        ("UPSTREAM", "http://127.0.0.1:0", "http://HOST:PORT"),
        ("MODE", "Enforce!", "enforce or observe"),
        ("MODE", "", "enforce or observe"),
        ("ORDER", "any", "stream, run or none"),
        ("EVENTS", "", "names of events"),
        ("EVENTS", "agent,chat", "must not be filtered"),
        ("EVENTS", "session.tool", "must not be filtered"),
        ("EVENTS", "terminal.data", "must not be filtered"),
        ("EVENTS", "node.invoke.request", "must not be filtered"),
        ("RUNS_PER_CONNECTION", "0", "a number from 1"),
        ("RUNS_PER_CONNECTION", "1e3", "a number from 1"),
        ("RUN_TTL", "60", "a duration"),
        ("RUN_TTL", "1.5h", "a duration"),
        ("INSPECT_LIMIT", "256KB", "a size"),
        ("INSPECT_LIMIT", "1GiB", "a size"),
        ("MAX_CONNECTIONS", "-1", "a number from 1"),
        ("CONNECT_TIMEOUT", "0s", "a duration"),
        ("HEADER_TIMEOUT", "soon", "a duration"),
        ("DRAIN_TIMEOUT", "99999999999999999999s", "a duration"),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "networks"),
        ("TRUSTED_PROXIES", "proxy.example", "networks"),
        ("TRUSTED_PROXIES", "0.0.0.0/0", "every client would be trusted"),
        ("TRUSTED_PROXIES", "10.1.2.3/8", "10.1.2.3/32"),
        ("IDENTITY_HEADERS", "x user", "names of headers"),
        ("TUNNEL_PATHS", "desktop/", "begin with /"),
        ("LOG", "verbose", "off, error, warn, info, debug or trace"),
        ("LOG_FORMAT", "xml", "auto, text or json"),
        ("ADMIN_LISTEN", "127.0.0.1:18900", "another address"),
        ("UPSTREAM", "http://127.0.0.1:18900", "own"),
    ] {
        for command in ["check", "run"] {
            let variable = format!("SEQGATE_{name}");
            let (result, out, err) = output(program().arg(command).env(&variable, value));
            assert_eq!(result.status.code(), Some(64), "{variable}={value}: {out}{err}");
            assert_eq!(err.lines().count(), 1, "{err}");
            let shown = value.split(',').next_back().unwrap();
            assert!(err.contains(&variable) && err.contains(shown) && err.contains(accepts), "{err}");
        }
    }
    let (result, _, err) = output(program().args(["check", "--run-ttl=60"]));
    assert_eq!(result.status.code(), Some(64));
    assert!(err.contains("--run-ttl") && err.contains("60") && err.contains("a duration"), "{err}");
}

#[test]
fn an_unknown_name_is_exit_code_64_and_named() {
    for name in ["SEQGATE_", "SEQGATE_MODES", "SEQGATE_mode", "SEQGATE_RUN-TTL", "SEQGATE_PORT"] {
        let (result, _, err) = output(program().arg("check").env(name, "1"));
        assert_eq!(result.status.code(), Some(64), "{name}");
        assert!(err.contains(name) && err.lines().count() == 1, "{err}");
    }
    for arguments in [
        &["--modes=observe"][..],
        &["serve"],
        &["check", "extra"],
        &["--mode"],
        &["-x"],
        &["demo", "--for=ever"],
    ] {
        let (result, _, err) = output(program().args(arguments));
        assert_eq!(result.status.code(), Some(64), "{arguments:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn variables_that_kubernetes_and_docker_add_for_a_service_of_this_name_are_ignored() {
    let links = [
        ("SEQGATE_SERVICE_HOST", "10.0.0.1"),
        ("SEQGATE_SERVICE_PORT", "18900"),
        ("SEQGATE_SERVICE_PORT_HTTP", "18900"),
        ("SEQGATE_PORT", "tcp://10.0.0.1:18900"),
        ("SEQGATE_PORT_18900_TCP", "tcp://10.0.0.1:18900"),
        ("SEQGATE_PORT_18900_TCP_PROTO", "tcp"),
        ("SEQGATE_PORT_18900_TCP_PORT", "18900"),
        ("SEQGATE_PORT_18900_TCP_ADDR", "10.0.0.1"),
        ("SEQGATE_ADMIN_SERVICE_HOST", "10.0.0.1"),
        ("SEQGATE_ADMIN_PORT_18901_TCP_ADDR", "10.0.0.1"),
        ("SEQGATE_ADMIN_PORT", "tcp://10.0.0.1:18901"),
    ];
    let (result, out, err) = output(program().arg("check").envs(links));
    assert_eq!((result.status.code(), err.as_str()), (Some(0), ""));
    assert!(!out.contains("environment"), "{out}");
}

#[test]
fn version_and_help_are_printed() {
    let version = format!("seqgate {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["--version", "-V"] {
        let (result, out, err) = output(program().arg(flag));
        assert_eq!((result.status.code(), out.as_str(), err.as_str()), (Some(0), version.as_str(), ""));
    }
    for flag in ["--help", "-h", "help"] {
        let (result, out, err) = output(program().arg(flag));
        assert_eq!((result.status.code(), err.as_str()), (Some(0), ""));
        for word in ["check", "demo", "SEQGATE_UPSTREAM", "--run-ttl", "default 1h"] {
            assert!(out.contains(word), "{word} is not in\n{out}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_serves_while_the_gateway_is_still_down() {
    let dead = DeadAddress::new();
    let running = Running::start(dead.address, &[]).await;
    let mut client = Peer::connect(running.listen).await;
    client.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(lines(&client.head().await).0, "HTTP/1.1 502 Bad Gateway");
}
