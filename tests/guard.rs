//! The run guard on real sockets: what is over a limit never reaches the gateway, the client hears why in the gateway's
//! own words, and everything else goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use net::frames::{BINARY, TEXT, agent, frame, masked, unmasked};
use net::http::ask;
use net::program::Running;
use net::{
    CONSENT, End, Gateway, Peer, Relayed, Seqgate, eventually, handshake, house, open, peak_of, value,
    websocket,
};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

/// A minute for each run behind the burst: no test that counts on it takes so long.
const SLOW: [(&str, &str); 1] = [("guard-runs-per-minute", "1")];

fn request(id: &str, method: &str, key: &str) -> String {
    format!(
        r#"{{"type":"req","id":"{id}","method":"{method}","params":{{"sessionKey":"main","message":"hi","idempotencyKey":"{key}"}}}}"#
    )
}

/// A request of a client to start a run.
fn start(id: &str, key: &str) -> Vec<u8> {
    masked(TEXT, request(id, "chat.send", key).as_bytes())
}

fn other(id: &str) -> Vec<u8> {
    masked(TEXT, request(id, "chat.history", "").as_bytes())
}

/// The next text frame of the gateway's side, as JSON.
async fn told(client: &mut Peer) -> Value {
    let mut bytes = client.take(2).await;
    assert_eq!(bytes[0], TEXT);
    let length = match bytes[1] {
        126 => {
            bytes = client.take(2).await;
            usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
        }
        length => usize::from(length),
    };
    serde_json::from_slice(&client.take(length).await).unwrap()
}

/// Lets the gateway welcome the client.
async fn connected(mut relayed: Relayed) -> Relayed {
    let hello = br#"{"type":"res","id":"c","ok":true,"payload":{"type":"hello-ok","protocol":3}}"#;
    relayed.gateway.send(frame(TEXT, hello)).await;
    relayed.client.expect(&frame(TEXT, hello)).await;
    relayed
}

async fn passes(relayed: &mut Relayed, message: &[u8]) {
    relayed.client.send(message).await;
    relayed.gateway.expect(message).await;
}

async fn is_refused(relayed: &mut Relayed, id: &str, key: &str) -> Value {
    relayed.client.send(start(id, key)).await;
    let answer = told(&mut relayed.client).await;
    assert_eq!((&answer["type"], &answer["id"], &answer["ok"]), (&"res".into(), &id.into(), &false.into()));
    answer["error"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_limit_never_reaches_the_gateway_and_the_rest_goes_on() {
    let settings = [SLOW[0], ("guard-burst", "2")];
    let (gateway, seqgate) = house(&settings).await;
    let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
    passes(&mut relayed, &start("1", "a")).await;
    passes(&mut relayed, &start("2", "b")).await;
    // Known keys start nothing new, and other requests are nobody's business.
    passes(&mut relayed, &start("3", "a")).await;
    passes(&mut relayed, &other("4")).await;

    relayed.client.send([start("5", "c"), other("6"), masked(0x89, b"ping")].concat()).await;
    relayed.gateway.expect(&[other("6"), masked(0x89, b"ping")].concat()).await;
    let answer = told(&mut relayed.client).await;
    let retry = answer["error"]["retryAfterMs"].as_u64().unwrap();
    assert!((1..=60_000).contains(&retry), "{retry}");
    let expected = serde_json::json!({
        "type": "res", "id": "5", "ok": false,
        "error": {
            "code": "UNAVAILABLE", "message": "too many runs: at most 1 a minute (SEQGATE_GUARD_RUNS_PER_MINUTE)",
            "retryable": true, "retryAfterMs": retry,
        },
    });
    assert_eq!(answer, expected);
    // Events go on to be judged.
    relayed.gateway.send([agent("a", 1, 1), agent("a", 1, 2), agent("a", 2, 3)].concat()).await;
    let mut seen = relayed.client.take(agent("a", 1, 1).len() + agent("a", 2, 3).len()).await;
    seen.truncate(agent("a", 1, 1).len());
    assert_eq!(seen, agent("a", 1, 1));

    assert_eq!(seqgate.metric("seqgate_guard_admitted_total").await, 3.0);
    assert_eq!(seqgate.metric(r#"seqgate_guard_refused_total{reason="rate"}"#).await, 1.0);
    assert_eq!(seqgate.metric("seqgate_guard_buckets").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_start_is_admitted_after_the_time_that_was_named() {
    // A token each 200 ms.
    let settings = [("guard-runs-per-minute", "300"), ("guard-burst", "1")];
    let (gateway, seqgate) = house(&settings).await;
    let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
    passes(&mut relayed, &start("0", "first")).await;
    let mut refusals = 0;
    for round in 0..10 {
        let key = format!("key {round}");
        relayed.client.send(start("1", &key)).await;
        relayed.client.send(other("mark")).await;
        let seen = relayed.gateway.take(other("mark").len()).await;
        if seen != other("mark") {
            // A slow machine had waited long enough.
            relayed.gateway.take(start("1", &key).len()).await;
            continue;
        }
        refusals += 1;
        let retry = told(&mut relayed.client).await["error"]["retryAfterMs"].as_u64().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(retry)).await;
        passes(&mut relayed, &start("1", &key)).await;
    }
    assert_eq!(
        seqgate.metric(r#"seqgate_guard_refused_total{reason="rate"}"#).await,
        f64::from(refusals),
        "no start that waited was refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_stands_between_two_messages_of_the_gateway() {
    let settings = [SLOW[0], ("inspect-limit", "1KiB")];
    let (gateway, seqgate) = house(&settings).await;
    let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
    passes(&mut relayed, &start("1", "a")).await;

    // A frame that streams, because it is too large to be judged.
    let large = frame(TEXT, &[b' '; 5000]);
    relayed.gateway.send(&large[..3000]).await;
    relayed.client.expect(&large[..3000]).await;
    relayed.client.send([start("2", "b"), other("3")].concat()).await;
    relayed.gateway.expect(&other("3")).await;
    relayed.gateway.send(&large[3000..]).await;
    relayed.client.expect(&large[3000..]).await;
    assert_eq!(told(&mut relayed.client).await["id"], "2");

    // A message in frames of which the client has some.
    let fragments = [frame(BINARY & 0x7f, b"abc"), frame(0, b"def"), frame(0x80, b"ghi")];
    relayed.gateway.send(&fragments[0]).await;
    relayed.client.expect(&fragments[0]).await;
    relayed.client.send([start("4", "b"), other("5")].concat()).await;
    relayed.gateway.expect(&other("5")).await;
    relayed.gateway.send(&fragments[1]).await;
    relayed.client.expect(&fragments[1]).await;
    relayed.gateway.send(&fragments[2]).await;
    relayed.client.expect(&fragments[2]).await;
    assert_eq!(told(&mut relayed.client).await["id"], "4");

    // A frame of which nothing has passed yet.
    let event = agent("a", 1, 1);
    relayed.gateway.send(&event[..50]).await;
    assert_eq!(is_refused(&mut relayed, "6", "b").await["retryable"], true);
    relayed.gateway.send(&event[50..]).await;
    relayed.client.expect(&event).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_id_that_is_too_long_is_the_clients_mistake() {
    let (gateway, seqgate) = house(&[("guard-max-run-id", "8")]).await;
    let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
    for round in 0..100 {
        passes(&mut relayed, &start("1", &format!("key {round:04}"))).await;
    }
    let error = is_refused(&mut relayed, "2", "123456789").await;
    assert_eq!((&error["code"], &error["retryable"]), (&"INVALID_REQUEST".into(), &false.into()));
    assert!(error["message"].as_str().unwrap().contains("8 bytes"), "{error}");
    assert_eq!(seqgate.metric(r#"seqgate_guard_refused_total{reason="run_id"}"#).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_have_ended_make_room_however_that_is_said() {
    let (gateway, seqgate) = house(&[("guard-max-live-runs", "1")]).await;
    let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
    let ends = |key: &str, id: &str| {
        [
            format!(
                r#"{{"type":"event","event":"agent","payload":{{"runId":"{key}","stream":"lifecycle","data":{{"phase":"end"}},"seq":9,"ts":9}},"seq":1}}"#
            ),
            format!(
                r#"{{"type":"event","event":"chat","payload":{{"runId":"{key}","sessionKey":"main","seq":9,"state":"final"}},"seq":2}}"#
            ),
            format!(
                r#"{{"type":"res","id":"{id}","ok":false,"error":{{"code":"INVALID_REQUEST","message":"no"}}}}"#
            ),
            format!(r#"{{"type":"res","id":"{id}","ok":true,"payload":{{"runId":"{key}","status":"ok"}}}}"#),
        ]
    };
    for way in 0..ends("", "").len() {
        let (key, id) = (format!("run {way}"), format!("id {way}"));
        passes(&mut relayed, &start(&id, &key)).await;
        // It is not over yet.
        let accepted = format!(
            r#"{{"type":"res","id":"{id}","ok":true,"payload":{{"runId":"{key}","status":"started"}}}}"#
        );
        relayed.gateway.send(frame(TEXT, accepted.as_bytes())).await;
        relayed.client.expect(&frame(TEXT, accepted.as_bytes())).await;
        let error = is_refused(&mut relayed, "another", "another").await;
        assert_eq!((&error["code"], &error["retryable"]), (&"UNAVAILABLE".into(), &true.into()));
        let end = frame(TEXT, ends(&key, &id)[way].as_bytes());
        relayed.gateway.send(&end).await;
        relayed.client.expect(&end).await;
    }
    passes(&mut relayed, &start("last", "last")).await;
    assert_eq!(seqgate.metric(r#"seqgate_guard_refused_total{reason="live_runs"}"#).await, 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_counts_and_lets_everything_pass() {
    let (gateway, seqgate) = house(&[SLOW[0], ("mode", "observe"), ("guard-max-run-id", "8")]).await;
    let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
    for id in ["1", "2", "3"] {
        passes(&mut relayed, &start(id, id)).await;
    }
    passes(&mut relayed, &start("4", "123456789")).await;
    seqgate.metric_becomes(r#"seqgate_guard_would_refuse_total{reason="rate"}"#, 2.0).await;
    seqgate.metric_becomes(r#"seqgate_guard_would_refuse_total{reason="run_id"}"#, 1.0).await;
    assert_eq!(seqgate.metric(r#"seqgate_guard_refused_total{reason="rate"}"#).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_an_address_share_its_limit_unless_the_scope_is_the_connection() {
    for (scope, shares) in [("address", true), ("connection", false)] {
        let (gateway, seqgate) =
            house(&[SLOW[0], ("guard-scope", scope), ("trusted-proxies", "127.0.0.1")]).await;
        let from = async |address: &str| {
            let request =
                handshake("/").replace("\r\n\r\n", &format!("\r\nX-Forwarded-For: {address}\r\n\r\n"));
            connected(open(seqgate.connect().await, &gateway, &request, CONSENT).await).await
        };
        let mut first = from("192.0.2.1").await;
        passes(&mut first, &start("1", "a")).await;
        assert_eq!(is_refused(&mut first, "2", "b").await["code"], "UNAVAILABLE");
        let mut second = from("192.0.2.1").await;
        if shares {
            assert_eq!(is_refused(&mut second, "3", "c").await["code"], "UNAVAILABLE", "{scope}");
        } else {
            passes(&mut second, &start("3", "c")).await;
        }
        let mut third = from("192.0.2.2").await;
        passes(&mut third, &start("4", "d")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_another_protocol_is_no_way_around() {
    let (gateway, seqgate) = house(&[SLOW[0], ("inspect-limit", "1KiB")]).await;
    let mut relayed = connected(websocket(&seqgate, &gateway, "/voiceclaw/realtime").await).await;
    passes(&mut relayed, &start("1", "a")).await;
    assert_eq!(is_refused(&mut relayed, "2", "b").await["code"], "UNAVAILABLE");
    // What is not JSON is of the other protocol, and does not wait to be whole.
    for (opcode, message) in [(BINARY, vec![4; 10_000]), (TEXT, b" [1]".to_vec()), (TEXT, b"audio".to_vec())]
    {
        passes(&mut relayed, &masked(opcode, &message)).await;
    }
    let message = masked(BINARY, &[4; 500]);
    passes(&mut relayed, &message[..100]).await;
    passes(&mut relayed, &message[100..]).await;
    assert_eq!(seqgate.metric("seqgate_guard_admitted_total").await, 1.0);
    assert_eq!(seqgate.metric(r#"seqgate_guard_refused_total{reason="rate"}"#).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_it_is_429_with_the_time_to_wait() {
    let (gateway, seqgate) = house(&[SLOW[0], ("guard-burst", "2")]).await;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{{}}");
    for path in ["/v1/chat/completions", "/hooks/agent"] {
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, &post(path)).await;
        server.send(answer).await;
        client.until(b"ok").await;
    }
    for path in [
        "/v1/chat/completions",
        "/v1/responses?x=1",
        "/tools/invoke",
        "/hooks/agent",
        "/x/../v1/responses",
        "/__openclaw__/cap/x/v1/responses",
        "/v1/responses?x=\"1\"",
        "/hooks/<a>",
        "/\"/../v1/responses",
        "/ü\\..\\v1/responses",
        "http://g/v1/responses",
        "http://g:80/v1/chat/completions/?\"",
    ] {
        let mut client = seqgate.connect().await;
        client.send(post(path)).await;
        let refusal = client.answer().await;
        let text = net::http::assert_own(&refusal, 429, "guard");
        assert!(text.contains("SEQGATE_GUARD_RUNS_PER_MINUTE"), "{text}");
        let retry: u64 = value(&refusal.head, "retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&retry), "{retry}");
    }
    assert!(gateway.is_untouched(), "nothing of these reached the gateway");
    // What starts nothing goes on, and WebSockets share the limit.
    let mut client = seqgate.connect().await;
    let (mut server, _) =
        ask(&mut client, &gateway, "GET /v1/chat/completions HTTP/1.1\r\nHost: g\r\n\r\n").await;
    server.send(answer).await;
    client.until(b"ok").await;
    for path in ["/\"?/v1/responses", "/v1/responses\"", "http://g/?\"//v1/responses"] {
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, &post(path)).await;
        server.send(answer).await;
        client.until(b"ok").await;
    }
    let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
    assert_eq!(is_refused(&mut relayed, "1", "a").await["code"], "UNAVAILABLE");
    assert_eq!(seqgate.metric(r#"seqgate_guard_refused_total{reason="rate"}"#).await, 13.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_model_was_refused_counts() {
    const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";
    let post = "POST /v1/responses HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}";
    for (answer, counts) in [
        (format!("400 Bad Request\r\n{JSON}"), true),
        (format!("404 Not Found\r\n{JSON}"), true),
        (format!("429 Too Many Requests\r\n{JSON}"), true),
        (format!("429 Too Many Requests\r\n{JSON}Retry-After: 9\r\n"), false),
        (format!("401 Unauthorized\r\n{JSON}"), false),
        ("400 Bad Request\r\nContent-Type: text/plain\r\n".to_owned(), false),
    ] {
        let (gateway, seqgate) = house(&[SLOW[0], ("guard-burst", "1")]).await;
        let mut client = seqgate.connect().await;
        let (mut server, _) = ask(&mut client, &gateway, post).await;
        server.send(format!("HTTP/1.1 {answer}Content-Length: 2\r\n\r\n{{}}")).await;
        client.until(b"{}").await;
        let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
        if counts {
            assert_eq!(is_refused(&mut relayed, "1", "a").await["code"], "UNAVAILABLE", "{answer}");
        } else {
            passes(&mut relayed, &start("1", "a")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_starts_is_answered_one_by_one_in_bounded_memory() {
    const FLOOD: usize = 100_000;
    let gateway = Gateway::bind().await;
    // Not a rate: a slow machine may take more than a minute, and one of these would be admitted.
    let running = Running::start(gateway.address, &["--guard-max-live-runs=1"]).await;
    let client = Peer::connect_small(running.listen, 16 * 1024).await;
    let mut relayed = connected(open(client, &gateway, &handshake("/"), CONSENT).await).await;
    passes(&mut relayed, &start("first", "first")).await;
    let before = peak_of(&running.id());
    let Relayed { client, gateway: mut server } = relayed;
    let (reader, mut writer) = client.into_split();
    let flood: Vec<u8> = (0..FLOOD).flat_map(|n| start(&n.to_string(), &n.to_string())).collect();
    let sender = tokio::spawn(async move {
        writer.write_all(&flood).await.unwrap();
        writer.write_all(&other("last")).await.unwrap();
        writer
    });
    // Nobody reads the answers: so neither are the requests.
    let blocked = r#"seqgate_backpressure_seconds_total{direction="to_client"}"#;
    eventually("the client to be blocked", async || running.metric(blocked).await > 0.0).await;
    assert!(!sender.is_finished(), "what was sent fits into the buffers between: nothing was shown");
    let reader = tokio::spawn(reader.rest());
    server.expect(&other("last")).await;
    drop((server, sender.await.unwrap()));
    let frames = unmasked(&reader.await.unwrap().0);
    let ids = frames.iter().filter_map(|(_, text)| serde_json::from_slice::<Value>(text).ok());
    let ids: Vec<Value> = ids.map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids.len(), FLOOD);
    assert!(
        ids.iter().enumerate().all(|(n, id)| id.as_str() == Some(n.to_string().as_str())),
        "each, in order"
    );
    let grown = peak_of(&running.id()).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_says_something_else_at_its_end_ends_the_connection_unheard() {
    let (gateway, seqgate) = house(&[SLOW[0], ("inspect-limit", "1KiB")]).await;
    let Relayed { mut client, gateway: mut server } =
        connected(websocket(&seqgate, &gateway, "/").await).await;
    let text = format!(
        r#"{{"type":"req","id":"1","method":"node.invoke.result","params":{{"x":"{}"}},"method":"chat.send","params":{{"message":"hi"}}}}"#,
        "x".repeat(5000)
    );
    client.send(masked(TEXT, text.as_bytes())).await;
    assert_eq!(client.end().await, End::Reset);
    let (seen, end) = server.rest().await;
    assert_eq!(end, End::Reset);
    let plain: Vec<u8> = unmasked(&seen).into_iter().flat_map(|(_, payload)| payload).collect();
    assert!(plain.len() < text.len(), "the message was never whole");
    assert_eq!(seqgate.metric(r#"seqgate_guard_refused_total{reason="deceit"}"#).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_that_start_nothing_stream_through() {
    let (gateway, seqgate) = house(&SLOW).await;
    let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
    let text = format!(
        r#"{{"type":"req","id":"1","method":"node.invoke.result","params":{{"x":"{}"}}}}"#,
        "x".repeat(8 << 20)
    );
    let message = masked(TEXT, text.as_bytes());
    let (_, seen) = tokio::join!(relayed.client.send(&message), relayed.gateway.take(message.len()));
    net::assert_same(&seen, &message, "as it came");
    assert_eq!(seqgate.metric("seqgate_guard_admitted_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_limits_nothing_is_looked_at() {
    let (gateway, seqgate): (Gateway, Seqgate) = house(&[]).await;
    let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
    for n in 0..200 {
        passes(&mut relayed, &start("1", &n.to_string())).await;
    }
    assert_eq!(seqgate.metric("seqgate_guard_admitted_total").await, 0.0);
    assert_eq!(seqgate.metric("seqgate_guard_buckets").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_can_get_stop_nothing() {
    const CLOSE: &[u8] = b"\x88\x02\x03\xe8";
    for way in ["close", "end", "no frames"] {
        let (gateway, seqgate) = house(&SLOW).await;
        let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
        passes(&mut relayed, &start("first", "first")).await;
        match way {
            "close" => {
                relayed.gateway.send(CLOSE).await;
                relayed.client.expect(CLOSE).await;
            }
            "end" => {
                relayed.gateway.finish().await;
                assert_eq!(relayed.client.end().await, End::Fin);
            }
            _ => {
                // A reserved opcode.
                relayed.gateway.send(b"\x83\x00").await;
                relayed.client.expect(b"\x83\x00").await;
            }
        }
        // Their answers are more than may wait.
        let flood = (0..400).flat_map(|n| start(&n.to_string(), &n.to_string()));
        relayed.client.send(flood.chain(other("last")).collect::<Vec<u8>>()).await;
        relayed.gateway.expect(&other("last")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_lets_a_message_pass_that_does_not_go_on() {
    let (gateway, seqgate) = house(&[SLOW[0], ("mode", "observe")]).await;
    let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
    // So long that a gateway refuses it by its head.
    passes(&mut relayed, &[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_spends_nothing_and_starts_nothing() {
    let (gateway, seqgate) = house(&SLOW).await;
    let challenge = frame(TEXT, br#"{"type":"event","event":"connect.challenge","payload":{"nonce":"n"}}"#);
    let refusal =
        frame(TEXT, br#"{"type":"res","id":"c","ok":false,"error":{"code":"UNAVAILABLE","message":"no"}}"#);
    for _ in 0..3 {
        // One start comes right behind the handshake.
        let early = [handshake("/").into_bytes(), start("0", "a")].concat();
        let mut client = seqgate.connect().await;
        client.send(early).await;
        let mut server = gateway.accept().await;
        server.head().await;
        server.send(CONSENT).await;
        client.head().await;
        let mut relayed = Relayed { client, gateway: server };
        for word in [&challenge, &refusal] {
            relayed.gateway.send(word).await;
            relayed.client.expect(word).await;
            relayed.client.send([start("1", "b"), other("2")].concat()).await;
            relayed.gateway.expect(&other("2")).await;
        }
    }
    // Over HTTP the gateway says so.
    for answer in ["401 Unauthorized", "404 Not Found"] {
        let mut client = seqgate.connect().await;
        let post = "POST /v1/responses HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}";
        let (mut server, _) = ask(&mut client, &gateway, post).await;
        server.send(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n")).await;
        client.head().await;
    }
    let mut relayed = connected(websocket(&seqgate, &gateway, "/").await).await;
    passes(&mut relayed, &start("3", "c")).await;
    assert_eq!(is_refused(&mut relayed, "4", "d").await["code"], "UNAVAILABLE");
}
