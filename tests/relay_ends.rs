//! A relay ends for one side the way it ended for the other, and a side that does not read is not read for.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use net::frames::{BINARY, CLOSE, PING, TEXT, TEXT_BEGINS, agent, close, frame, masked, masked_close};
use net::{End, Gateway, Peer, Relayed, Seqgate, assert_same, house, noise, pattern, tunnel, websocket};

/// More than all buffers between two peers hold.
const MOST: usize = 48 << 20;
const SMALL: usize = 16 * 1024;
/// Pairs of events that take more than 128 MiB.
const MOST_EVENTS: u64 = 500_000;

/// The three kinds of relays.
const KINDS: [&str; 3] = ["/", "/voiceclaw/x", "tunnel"];

async fn relayed(seqgate: &Seqgate, gateway: &Gateway, kind: &str) -> Relayed {
    if kind == "tunnel" { tunnel(seqgate, gateway).await } else { websocket(seqgate, gateway, kind).await }
}

/// Both ends as (the one that acts, the one that notices).
fn roles(relayed: Relayed, client_acts: bool) -> (Peer, Peer) {
    let Relayed { client, gateway } = relayed;
    if client_acts { (client, gateway) } else { (gateway, client) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_has_said_all_still_hears_the_other() {
    let (gateway, seqgate) = house(&[]).await;
    for kind in KINDS {
        for client_acts in [true, false] {
            let (mut first, mut second) = roles(relayed(&seqgate, &gateway, kind).await, client_acts);
            first.send(frame(BINARY, b"last words")).await;
            first.finish().await;
            second.expect(&frame(BINARY, b"last words")).await;
            assert_eq!(second.end().await, End::Fin, "{kind}");
            let answer = frame(BINARY, &noise(1, 1 << 20));
            for _ in 0..3 {
                let (_, seen) = tokio::join!(second.send(&answer), first.take(answer.len()));
                assert_same(&seen, &answer, kind);
            }
            second.finish().await;
            assert_eq!(first.end().await, End::Fin, "{kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_one_side_is_a_reset_for_the_other() {
    let (gateway, seqgate) = house(&[]).await;
    for kind in KINDS {
        for client_acts in [true, false] {
            let (first, mut second) = roles(relayed(&seqgate, &gateway, kind).await, client_acts);
            first.reset();
            assert_eq!(second.end().await, End::Reset, "{kind}, client acts: {client_acts}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_behind_a_half_close_is_still_a_reset() {
    let (gateway, seqgate) = house(&[]).await;
    for kind in KINDS {
        for client_acts in [true, false] {
            let (mut first, mut second) = roles(relayed(&seqgate, &gateway, kind).await, client_acts);
            first.finish().await;
            assert_eq!(second.end().await, End::Fin);
            // The other side is silent: nothing that is written brings the reset to light.
            first.reset();
            second.becomes_reset(&format!("{kind}, client acts: {client_acts}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_the_listening_side_is_a_reset_for_the_one_that_has_said_all() {
    let (gateway, seqgate) = house(&[]).await;
    for kind in KINDS {
        for client_acts in [true, false] {
            let (mut first, mut second) = roles(relayed(&seqgate, &gateway, kind).await, client_acts);
            first.finish().await;
            assert_eq!(second.end().await, End::Fin);
            second.reset();
            assert_eq!(first.end().await, End::Reset, "{kind}, client acts: {client_acts}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_noticed_while_the_other_side_takes_nothing() {
    let gateway = Gateway::bind_small(SMALL).await;
    let seqgate = Seqgate::start(gateway.address, &[]).await;
    for client_acts in [true, false] {
        let client = Peer::connect_small(seqgate.addresses.listen, SMALL).await;
        let relayed = net::open(client, &gateway, &net::handshake("/"), net::CONSENT).await;
        let (mut first, mut second) = roles(relayed, client_acts);
        // A frame that never ends, so that nothing is held for a judgement.
        first.send([BINARY, 127, 0x7f, 0, 0, 0, 0, 0, 0, 0]).await;
        assert!(first.push_until_blocked(MOST).await < MOST);
        first.reset();
        let (seen, end) = second.rest().await;
        assert!(seen.len() < MOST);
        assert_eq!(end, End::Reset, "client acts: {client_acts}");
    }
    seqgate.metric_becomes(r#"seqgate_connections{kind="gateway"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_is_delivered_when_the_gateway_ends() {
    let (gateway, seqgate) = house(&[]).await;
    for held in [
        frame(TEXT, b"{\"type\":\"event\"}")[..9].to_vec(),
        vec![TEXT],
        vec![TEXT, 127, 0, 0],
        frame(PING, b"a ping")[..4].to_vec(),
        frame(CLOSE, b"\x03\xe8bye")[..3].to_vec(),
        frame(TEXT_BEGINS, b"{"),
        [frame(TEXT_BEGINS, b"{"), frame(PING, b"?"), frame(0, b"\"a\"")].concat(),
    ] {
        let Relayed { mut client, mut gateway } = websocket(&seqgate, &gateway, "/").await;
        gateway.send([&agent("r", 1, 1)[..], &held].concat()).await;
        gateway.finish().await;
        let (seen, end) = client.rest().await;
        assert_same(&seen, &[&agent("r", 1, 1)[..], &held].concat(), "at the end");
        assert_eq!(end, End::Fin);
        // The other direction is still open.
        client.send("still here").await;
        gateway.expect(b"still here").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_in_the_middle_of_a_frame_resets_the_client() {
    let (gateway, seqgate) = house(&[]).await;
    for start in [frame(TEXT, &[b' '; 5000]), frame(BINARY, &[0; 5000]), frame(TEXT, &vec![b' '; 1 << 20])] {
        let Relayed { mut client, mut gateway } = websocket(&seqgate, &gateway, "/").await;
        gateway.send(agent("r", 1, 1)).await;
        client.expect(&agent("r", 1, 1)).await;
        gateway.send(&start[..start.len() - 1]).await;
        gateway.reset();
        let (seen, end) = client.rest().await;
        assert_eq!(end, End::Reset);
        assert!(start.starts_with(&seen));
    }
    seqgate.metric_becomes(r#"seqgate_closes_total{initiator="gateway",code="1006"}"#, 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_in_the_middle_of_a_frame_is_no_more_for_the_gateway_either() {
    let (gateway, seqgate) = house(&[]).await;
    let whole = masked(BINARY, &noise(1, 70_000));
    for cut in [1, 3, 13, 14, 15, 60_000] {
        for resets in [true, false] {
            let Relayed { mut client, mut gateway } = websocket(&seqgate, &gateway, "/").await;
            client.send(&whole[..cut]).await;
            // What has come of a frame is not kept back for the rest of it.
            gateway.expect(&whole[..cut]).await;
            if resets {
                client.reset()
            } else {
                drop(client)
            }
            assert_eq!(gateway.end().await, if resets { End::Reset } else { End::Fin });
        }
    }
    seqgate.metric_becomes(r#"seqgate_connections{kind="gateway"}"#, 0.0).await;
    seqgate.metric_becomes(r#"seqgate_closes_total{initiator="client",code="1006"}"#, 12.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_closed_first_is_named_though_the_connection_breaks_behind_the_close() {
    let (house, seqgate) = house(&[]).await;
    for client_acts in [true, false] {
        let bytes = if client_acts { masked_close(4000, "") } else { close(4000, "") };
        for breaks in [true, false] {
            for more in [&b""[..], b"bytes behind the Close"] {
                let (mut first, mut second) = roles(websocket(&seqgate, &house, "/").await, client_acts);
                first.send([&bytes[..], more].concat()).await;
                second.expect(&[&bytes[..], more].concat()).await;
                // The one that closed dies, or the other one.
                let (dying, mut left) = if breaks { (first, second) } else { (second, first) };
                dying.reset();
                assert_eq!(left.end().await, End::Reset);
            }
        }
    }
    for initiator in ["client", "gateway"] {
        let series = format!("seqgate_closes_total{{initiator=\"{initiator}\",code=\"4000\"}}");
        seqgate.metric_becomes(&series, 4.0).await;
        let broken = format!("seqgate_closes_total{{initiator=\"{initiator}\",code=\"1006\"}}");
        seqgate.metric_becomes(&broken, 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_the_gateway_back_and_loses_nothing() {
    let gateway = Gateway::bind().await;
    let seqgate = Seqgate::start(gateway.address, &[]).await;
    for path in ["/", "/voiceclaw/x"] {
        let client = Peer::connect_small(seqgate.addresses.listen, SMALL).await;
        let mut relayed = net::open(client, &gateway, &net::handshake(path), net::CONSENT).await;
        let mut head = vec![BINARY, 127];
        head.extend((MOST as u64).to_be_bytes());
        relayed.gateway.send(&head).await;
        let taken = relayed.gateway.push_until_blocked(MOST).await;
        assert!(taken < MOST, "somebody took all {taken} bytes");
        // The other direction is not held back.
        relayed.client.send(masked(PING, b"alive")).await;
        relayed.gateway.expect(&masked(PING, b"alive")).await;
        relayed.client.expect(&head).await;
        let rest = pattern(taken, MOST);
        let (_, seen) = tokio::join!(relayed.gateway.send(rest), relayed.client.take(MOST));
        assert_same(&seen, &pattern(0, MOST), path);
    }
    let blocked = seqgate.metric(r#"seqgate_backpressure_seconds_total{direction="to_client"}"#).await;
    assert!(blocked > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_small_frames_holds_the_gateway_back_too() {
    let gateway = Gateway::bind().await;
    let seqgate = Seqgate::start(gateway.address, &[]).await;
    let client = Peer::connect_small(seqgate.addresses.listen, SMALL).await;
    let Relayed { mut client, gateway } =
        net::open(client, &gateway, &net::handshake("/"), net::CONSENT).await;
    // Every event twice: one is left out, whatever waits. Sent until nothing is taken any more, whatever the kernel's
    // buffers hold.
    let (_, mut writer) = gateway.stream.into_split();
    let is_blocked = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_blocked);
    let sender = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let mut sent = 0;
        while sent < MOST_EVENTS && !stop.load(Ordering::Relaxed) {
            let batch = sent + 1..=sent + 1000;
            sent = *batch.end();
            let events = batch.flat_map(|seq| [agent("r", seq, 2 * seq), agent("r", seq, 2 * seq + 1)]);
            writer.write_all(&events.collect::<Vec<_>>().concat()).await.unwrap();
        }
        writer.shutdown().await.unwrap();
        sent
    });
    seqgate.blocks(&sender).await;
    is_blocked.store(true, Ordering::Relaxed);
    let (seen, end) = client.rest().await;
    assert_eq!(end, End::Fin);
    let sent = sender.await.unwrap();
    let text = String::from_utf8_lossy(&seen);
    assert_eq!(text.matches(r#""event":"agent""#).count() as u64, sent);
    for seq in [1, 2, sent / 2, sent] {
        let outer = format!(r#""seq":{seq},"ts":{}}},"seq":"#, 1_769_900_000_000_u64 + seq);
        let (_, behind) = text.split_once(&outer).unwrap();
        let number = behind.split('}').next().unwrap();
        // The first number is 2: the others follow without a hole.
        assert_eq!(number.trim().parse::<u64>().unwrap(), seq + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_read_holds_the_client_back_and_loses_nothing() {
    let gateway = Gateway::bind_small(SMALL).await;
    let seqgate = Seqgate::start(gateway.address, &[]).await;
    let mut relayed = websocket(&seqgate, &gateway, "/").await;
    let taken = relayed.client.push_until_blocked(MOST).await;
    assert!(taken < MOST, "somebody took all {taken} bytes");
    relayed.gateway.send(frame(PING, b"alive")).await;
    relayed.client.expect(&frame(PING, b"alive")).await;
    let rest = pattern(taken, MOST);
    let (_, seen) = tokio::join!(relayed.client.send(rest), relayed.gateway.take(MOST));
    assert_same(&seen, &pattern(0, MOST), "to the gateway");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_closed_first_and_how_is_counted() {
    let (house, seqgate) = house(&[]).await;
    let mut expected: Vec<(&str, &str)> = Vec::new();
    for (label, code) in
        [("1000", 1000), ("1008", 1008), ("1012", 1012), ("4000", 4000), ("4001", 4001), ("other", 4321)]
    {
        let Relayed { mut client, mut gateway } = websocket(&seqgate, &house, "/").await;
        client.send([masked(TEXT, b"{}"), masked_close(code, "why")].concat()).await;
        gateway.until(&masked_close(code, "why")).await;
        // The answer to a Close is nobody's initiative.
        gateway.send(close(1000, "")).await;
        client.expect(&close(1000, "")).await;
        expected.push(("client", label));

        let Relayed { mut client, mut gateway } = websocket(&seqgate, &house, "/").await;
        gateway.send(close(code, "slow consumer")).await;
        client.expect(&close(code, "slow consumer")).await;
        client.send(masked_close(1000, "")).await;
        gateway.expect(&masked_close(1000, "")).await;
        expected.push(("gateway", label));
    }
    for client_acts in [true, false] {
        let initiator = if client_acts { "client" } else { "gateway" };
        let (mut first, mut second) = roles(websocket(&seqgate, &house, "/").await, client_acts);
        let empty = if client_acts { masked(CLOSE, b"") } else { frame(CLOSE, b"") };
        first.send(&empty).await;
        second.expect(&empty).await;
        expected.push((initiator, "1005"));
        drop((first, second));

        let (first, mut second) = roles(websocket(&seqgate, &house, "/").await, client_acts);
        drop(first);
        assert_eq!(second.end().await, End::Fin);
        expected.push((initiator, "1006"));
    }
    for (initiator, code) in &expected {
        let series = format!("seqgate_closes_total{{initiator=\"{initiator}\",code=\"{code}\"}}");
        seqgate.metric_becomes(&series, 1.0).await;
    }
    let (_, page) = seqgate.admin("/metrics").await;
    let all: f64 = page
        .lines()
        .filter(|line| line.starts_with("seqgate_closes_total{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum();
    assert_eq!(all, expected.len() as f64);
}
