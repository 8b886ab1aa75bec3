//! The status page and its JSON: what they say, that it is true, and what they never say.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use net::frames::{BINARY, TEXT, agent, event, frame};
use net::{DeadAddress, Peer, Seqgate, eventually, house, status, tunnel, value, websocket};
use serde_json::Value;

async fn json(seqgate: &Seqgate) -> Value {
    let (status, body) = seqgate.admin("/api/status").await;
    assert_eq!(status, 200);
    serde_json::from_str(&body).unwrap()
}

async fn page(seqgate: &Seqgate) -> String {
    let (status, body) = seqgate.admin("/").await;
    assert_eq!(status, 200);
    body
}

/// Waits for the report to say this, and for the page to say the same.
async fn outlook_becomes(seqgate: &Seqgate, level: &str, sentence: &str) -> String {
    eventually(sentence, async || json(seqgate).await["state"]["sentence"] == sentence).await;
    let report = json(seqgate).await;
    assert_eq!(report["state"]["level"], level, "{report}");
    let page = page(seqgate).await;
    assert!(page.contains(&format!("<h2>{sentence}</h2>")), "{page}");
    assert!(page.contains(&format!("class=\"outlook {level}\"")), "{page}");
    report["state"]["advice"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_stands_by_itself_and_may_ask_nobody_but_its_server() {
    let (_gateway, seqgate) = house(&[]).await;
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let mut peer = Peer::connect(seqgate.addresses.admin).await;
        peer.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let answer = peer.answer().await;
        assert_eq!(status(&answer.head), 200);
        assert_eq!(value(&answer.head, "content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(value(&answer.head, "cache-control"), Some("no-store"));
        assert_eq!(value(&answer.head, "x-content-type-options"), Some("nosniff"));
        assert_eq!(value(&answer.head, "referrer-policy"), Some("no-referrer"));
        let policy = value(&answer.head, "content-security-policy").unwrap();
        let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(nonce.len(), 32);
        assert_eq!(
            policy,
            format!(
                "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
                 connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            )
        );
        let page = String::from_utf8(answer.body).unwrap();
        for tag in ["<script", "<style"] {
            let all = page.matches(tag).count();
            assert_eq!(page.matches(&format!("{tag} nonce=\"{nonce}\">")).count(), all, "{tag}");
            assert_eq!(all, 1);
        }
        for word in [" style=", " src=", "{{", "@import", "url(", " onclick="] {
            assert!(!page.contains(word), "{word}");
        }
        for link in page.split(" href=\"").skip(1) {
            assert!(
                link.starts_with("data:,\"") || (link.starts_with('/') && !link.starts_with("//")),
                "{link}"
            );
        }
        nonces.push(nonce.to_owned());
    }
    assert_ne!(nonces[0], nonces[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_has_the_numbers_and_never_an_id_a_name_or_a_text() {
    const ID: &str = "a-run-id-that-nobody-may-see";
    const STREAM: &str = "a-stream-that-nobody-knows";
    let (house, seqgate) = house(&[("runs-per-connection", "77")]).await;
    let mut relayed = websocket(&seqgate, &house, &format!("/{ID}")).await;
    let unknown = frame(TEXT, event(ID, STREAM, 2, 1_769_900_000_002, Some(2)).as_bytes());
    let passed = [agent(ID, 1, 1), unknown.clone(), agent(ID, 3, 3), frame(BINARY, ID.as_bytes())];
    let dropped = [agent(ID, 3, 3), unknown];
    relayed.gateway.send([passed.concat(), dropped.concat(), agent("z", 1, 1)].concat()).await;
    relayed.client.expect(&passed.concat()).await;
    relayed.client.until(b"\"z\"").await;
    let opaque = tunnel(&seqgate, &house).await;

    eventually("the numbers", async || json(&seqgate).await["events"]["forwarded"] == 4).await;
    let report = json(&seqgate).await;
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["events"]["unjudged"], 1);
    assert_eq!(report["events"]["dropped"]["duplicate"], 2);
    assert_eq!(report["events"]["dropped"]["out_of_order"], 0);
    assert_eq!(report["runs"]["tracked"], 2);
    assert_eq!(report["runs"]["largest_connection"], 2);
    assert_eq!(report["runs"]["capacity_per_connection"], 77);
    assert_eq!(report["clients"]["now"], 2);
    assert_eq!(report["clients"]["limit"], 512);
    assert_eq!(report["connections"]["upgraded"], 2);
    let connection = &report["connections"]["oldest"][0];
    assert_eq!((&connection["kind"], &connection["runs"]), (&Value::from("gateway"), &Value::from(2)));
    assert_eq!((&connection["forwarded"], &connection["unjudged"]), (&Value::from(4), &Value::from(1)));
    assert_eq!(connection["dropped"]["duplicate"], 2);
    assert_eq!(report["connections"]["oldest"][1]["kind"], "tunnel");
    let drops = report["last_drops"].as_array().unwrap();
    let told: Vec<_> =
        drops.iter().map(|d| (d["reason"].as_str().unwrap(), d["stream"].as_str().unwrap())).collect();
    assert_eq!(told, [("duplicate", "other"), ("duplicate", "assistant")], "the newest first");
    let hash = drops[0]["run_hash"].as_str().unwrap();
    assert_eq!((hash.len(), hash), (16, drops[1]["run_hash"].as_str().unwrap()));
    let setting = |name: &str| {
        let settings = report["settings"].as_array().unwrap();
        settings.iter().find(|s| s["name"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    assert_eq!(setting("SEQGATE_RUNS_PER_CONNECTION")["value"], "77");
    assert_eq!(setting("SEQGATE_RUNS_PER_CONNECTION")["source"], "flag");
    assert_eq!(setting("SEQGATE_MODE")["source"], "default");

    let page = page(&seqgate).await;
    assert!(page.contains(hash), "{page}");
    assert!(page.contains("<code>77</code>"), "{page}");
    for secret in [ID, STREAM, "nonce-value"] {
        assert!(!page.contains(secret) && !report.to_string().contains(secret), "{secret}");
    }
    drop((relayed, opaque));
    eventually("the connections' end", async || json(&seqgate).await["connections"]["upgraded"] == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_grows_by_itself() {
    let (_gateway, seqgate) = house(&[]).await;
    eventually("two samples", async || {
        json(&seqgate).await["history"]["samples"].as_array().unwrap().len() > 1
    })
    .await;
    assert_eq!(json(&seqgate).await["history"]["interval_seconds"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_and_drops_make_no_longer_page() {
    let (house, seqgate) = house(&[]).await;
    let mut relayed = websocket(&seqgate, &house, "/").await;
    let mut others = Vec::new();
    for _ in 0..60 {
        others.push(tunnel(&seqgate, &house).await);
    }
    relayed.gateway.send(agent("r", 1, 1).repeat(100)).await;
    relayed.client.expect(&agent("r", 1, 1)).await;
    eventually("the drops", async || json(&seqgate).await["events"]["dropped"]["duplicate"] == 99).await;
    let report = json(&seqgate).await;
    assert_eq!(report["connections"]["upgraded"], 61);
    assert_eq!(report["connections"]["oldest"].as_array().unwrap().len(), 50);
    assert_eq!(report["connections"]["oldest"][0]["kind"], "gateway", "the oldest first");
    assert_eq!(report["last_drops"].as_array().unwrap().len(), 16);
    assert!(page(&seqgate).await.contains("… and 11 younger ones."));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_until_the_gateway_goes_or_the_drain_begins() {
    let dead = DeadAddress::new();
    let mut seqgate = Seqgate::start(dead.address, &[("drain-timeout", "1h")]).await;
    let advice = outlook_becomes(&seqgate, "trouble", "The gateway does not accept connections.").await;
    assert!(advice.contains(&dead.address.to_string()) && advice.contains("SEQGATE_UPSTREAM"), "{advice}");
    assert_eq!(json(&seqgate).await["gateway"]["reachable"], false);
    assert!(page(&seqgate).await.contains(&format!("gateway http://{} is not reached", dead.address)));
    let gateway = dead.live();
    outlook_becomes(&seqgate, "well", "All is well.").await;
    assert_eq!(json(&seqgate).await["gateway"]["reachable"], true);
    // The probes are waiting to be accepted, too.
    while !gateway.is_untouched() {}
    let held = websocket(&seqgate, &gateway, "/").await;
    seqgate.stop();
    let advice = outlook_becomes(&seqgate, "attention", "seqgate is stopping.").await;
    assert!(advice.contains(" 1 may end"), "{advice}");
    drop(held);
    seqgate.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_told_with_what_to_do() {
    let (gateway, seqgate) = house(&[("max-connections", "1")]).await;
    let mut client = seqgate.connect().await;
    client.send(net::handshake("/")).await;
    let mut refusing = gateway.accept().await;
    refusing.head().await;
    refusing.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 403);
    // The one place is taken as long as the client stays.
    let advice =
        outlook_becomes(&seqgate, "trouble", "Clients are turned away: all connections are in use.").await;
    assert!(advice.contains("SEQGATE_MAX_CONNECTIONS"), "{advice}");
    drop(client);
    let advice = outlook_becomes(&seqgate, "trouble", "The gateway refuses clients with 403.").await;
    assert!(advice.contains("gateway.trustedProxies"), "{advice}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_that_is_too_small_is_told_and_so_is_observing() {
    let (house, seqgate) = house(&[("runs-per-connection", "1"), ("mode", "observe")]).await;
    outlook_becomes(&seqgate, "well", "All is well; seqgate only observes, and drops nothing.").await;
    // The probe is waiting to be accepted, too.
    while !house.is_untouched() {}
    let mut relayed = websocket(&seqgate, &house, "/").await;
    let two = [agent("one", 1, 1), agent("one", 1, 1), agent("two", 1, 2)].concat();
    relayed.gateway.send(&two).await;
    relayed.client.expect(&two).await;
    let advice = outlook_becomes(&seqgate, "attention", "Runs are forgotten before they end.").await;
    assert!(advice.contains("SEQGATE_RUNS_PER_CONNECTION (now 1)"), "{advice}");
    relayed.gateway.send(agent("one", 2, 3)).await;
    relayed.client.expect(&agent("one", 2, 3)).await;
    outlook_becomes(&seqgate, "attention", "The map of runs is too small.").await;
    let report = json(&seqgate).await;
    assert_eq!(report["events"]["would_drop"]["duplicate"], 1);
    assert_eq!(report["last_drops"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_guard_is_told_off_or_with_its_limits_and_what_it_refused() {
    let (_gateway, off) = house(&[]).await;
    assert_eq!(json(&off).await["guard"], Value::Null);
    assert!(page(&off).await.contains("Off: a client may start as many runs as it likes"));

    let limits = [("guard-runs-per-minute", "1"), ("guard-max-live-runs", "5"), ("guard-max-run-id", "64")];
    for (mode, fate, word) in
        [("enforce", "refused", "refused"), ("observe", "would_refuse", "would have been refused")]
    {
        let (gateway, seqgate) = house(&[&limits[..], &[("mode", mode)]].concat()).await;
        let post = "POST /v1/responses HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n";
        for admitted in [true, mode == "observe"] {
            let mut client = seqgate.connect().await;
            client.send(post).await;
            if admitted {
                let mut server = gateway.accept().await;
                server.head().await;
                server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
            client.head().await;
        }
        let expected = serde_json::json!({
            "runs_per_minute": 1, "burst": 1, "max_live_runs": 5, "max_run_id_bytes": 64, "scope": "address",
            "admitted": 1, fate: 1,
        });
        assert_eq!(json(&seqgate).await["guard"], expected);
        let page = page(&seqgate).await;
        for part in [
            "Run guard: each address may start runs so",
            "1 a minute, 1 at once",
            "5 going on at one time",
            "ids of 64 bytes",
            &format!("1 admitted, 1 {word}, since the start."),
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let sentence = "Clients start more runs than the guard allows.";
        let advice = outlook_becomes(&seqgate, "attention", sentence).await;
        assert!(advice.starts_with("1 "), "{advice}");
    }
}
