//! What arrives is what was sent, byte for byte, whatever the frames, however they are cut; and what the filter
//! leaves out is all that is missing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use net::frames::{
    BINARY, CLOSE, ENDS, GOES_ON, PING, PONG, TEXT, TEXT_BEGINS, agent, close, event, frame, frame_with,
    masked, masked_close,
};
use net::{
    CONSENT, Cuts, End, Gateway, Relayed, Seqgate, assert_same, handshake, house, lines, noise, websocket,
};

const LARGE: usize = 25 << 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Direction {
    ToClient,
    ToGateway,
}
use Direction::{ToClient, ToGateway};

/// Streams of bytes, each for a connection of its own, none with an event that would be left out.
fn streams() -> Vec<(String, Vec<u8>)> {
    let mut streams = vec![
        ("lawful frames".to_owned(), lawful()),
        ("reserved bits".to_owned(), reserved_bits()),
        ("lengths in more bytes than needed".to_owned(), long_lengths()),
        ("fragments with control frames between".to_owned(), fragments()),
        ("control frames against the law".to_owned(), unlawful_control()),
        (
            "masked frames".to_owned(),
            [masked(TEXT, b"hello"), masked(BINARY, &[0; 200]), masked(PING, b"x")].concat(),
        ),
        (
            "text that is no text".to_owned(),
            [frame(TEXT, b"\xff\xfe"), frame(TEXT, b"{\"a\":"), frame(TEXT, b"")].concat(),
        ),
        (
            "a message inside a message".to_owned(),
            [frame(TEXT_BEGINS, b"{"), agent("r", 1, 1), frame(ENDS, b"}")].concat(),
        ),
        (
            "a continuation of nothing".to_owned(),
            [frame(ENDS, b"x"), frame(GOES_ON, b"y"), agent("r", 1, 1)].concat(),
        ),
        (
            "bytes behind a Close".to_owned(),
            [close(1000, ""), agent("r", 1, 1), agent("r", 1, 1), b"and no frame".to_vec()].concat(),
        ),
    ];
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        // Behind a reserved opcode nothing is known, and so nothing judged: even a repeat passes.
        let bytes =
            [agent("r", 1, 1), frame(0x80 | opcode, b"what"), agent("r", 1, 1), vec![opcode, 0]].concat();
        streams.push((format!("reserved opcode {opcode}"), bytes));
    }
    streams
}

fn lawful() -> Vec<u8> {
    let mut bytes = Vec::new();
    for first in [TEXT, BINARY, PING, PONG] {
        for n in [0, 1, 125] {
            bytes.extend(frame(first, &vec![b'x'; n]));
        }
    }
    for n in [126, 127, 300] {
        bytes.extend(frame(TEXT, &vec![b' '; n]));
        bytes.extend(frame(BINARY, &noise(n as u64, n)));
    }
    for seq in 1..4 {
        bytes.extend(agent("run", seq, seq));
    }
    bytes
}

fn reserved_bits() -> Vec<u8> {
    let mut bytes = Vec::new();
    for bits in 1..8 {
        for first in [TEXT, BINARY, PING, PONG] {
            bytes.extend(frame(first | bits << 4, b"12345"));
        }
        bytes.extend(frame(TEXT_BEGINS | bits << 4, b"1"));
        bytes.extend(frame(ENDS | bits << 4, b"2"));
        bytes.extend(frame(TEXT_BEGINS, b"1"));
        bytes.extend(frame(ENDS | bits << 4, b"2"));
        bytes.extend(frame(TEXT | bits << 4, event("r", "assistant", 1, 1, Some(1)).as_bytes()));
    }
    bytes
}

fn long_lengths() -> Vec<u8> {
    let mut bytes = Vec::new();
    for first in [TEXT, BINARY, PING, PONG, TEXT_BEGINS, ENDS] {
        for form in [2, 8] {
            for mask in [false, true] {
                bytes.extend(frame_with(first, form, mask, b""));
                bytes.extend(frame_with(first, form, mask, b"12345"));
                if first == TEXT_BEGINS {
                    bytes.extend(frame_with(ENDS, form, mask, b"."));
                    bytes.extend(frame_with(ENDS, form, mask, b"."));
                }
            }
        }
    }
    let json = event("long", "assistant", 1, 1, Some(1));
    bytes.extend(frame_with(TEXT, 8, false, json.as_bytes()));
    bytes
}

fn fragments() -> Vec<u8> {
    let json = event("fragmented", "assistant", 1, 1, Some(1));
    let mut bytes = frame(TEXT_BEGINS, b"");
    for piece in json.as_bytes().chunks(7) {
        bytes.extend(frame(GOES_ON, piece));
        bytes.extend(frame(PING, piece));
        bytes.extend(frame(PONG, b""));
    }
    bytes.extend(frame(ENDS, b""));
    bytes.extend(frame(BINARY & 0x0f, b"binary"));
    bytes.extend(frame(PING, b"between"));
    bytes.extend(frame(ENDS, b"end"));
    bytes
}

fn unlawful_control() -> Vec<u8> {
    let mut bytes = Vec::new();
    for first in [PING, PONG] {
        bytes.extend(frame(first, &[b'o'; 126]));
        bytes.extend(frame(first, &[b'o'; 400]));
        bytes.extend(frame(first & 0x0f, b"in two"));
        bytes.extend(frame(ENDS, b" pieces"));
        bytes.extend(agent("run", u64::from(first), 1));
    }
    bytes.extend(frame(CLOSE, &[b'o'; 200]));
    bytes.extend(frame(CLOSE & 0x0f, b"\x03\xe8"));
    bytes.extend(frame(ENDS, b""));
    bytes
}

/// Every way to close: with each code that means something and some that do not, one byte, none, the longest.
fn closes() -> Vec<Vec<u8>> {
    let codes =
        [0, 999].into_iter().chain(1000..=1016).chain([2999, 3000, 4000, 4001, 4008, 4999, 5000, 65535]);
    let mut closes: Vec<_> = codes.map(|code| close(code, "why, in words: ü")).collect();
    closes.extend([
        frame(CLOSE, b""),
        frame(CLOSE, b"\x03"),
        frame(CLOSE, b"\x03\xe8\xff\xfe"),
        close(1000, &"r".repeat(123)),
        frame(CLOSE | 0x70, b"\x03\xe8"),
        frame_with(CLOSE, 2, false, b"\x03\xe8"),
        masked_close(1001, "bye"),
    ]);
    closes
}

/// Sends bytes over a fresh WebSocket; the same must arrive before the end of the direction is sent, and that
/// end after them.
async fn passes(place: &Place, what: &str, bytes: &[u8], direction: Direction, cuts: Cuts) {
    let Relayed { client, gateway } = websocket(&place.seqgate, &place.gateway, "/").await;
    let (mut sender, mut receiver) =
        if direction == ToClient { (gateway, client) } else { (client, gateway) };
    let what = format!("{what}, {direction:?}, {cuts:?}");
    let sent = async {
        sender.send_cut(bytes, &cuts).await;
        sender
    };
    let (mut sender, seen) = tokio::join!(sent, receiver.take(bytes.len()));
    assert_same(&seen, bytes, &what);
    sender.finish().await;
    assert_eq!(receiver.end().await, End::Fin, "{what}");
}

/// The same for bytes that need not be whole frames: they may be held until the end.
async fn passes_at_the_end(place: &Place, what: &str, bytes: &[u8], direction: Direction, cuts: Cuts) {
    let Relayed { client, gateway } = websocket(&place.seqgate, &place.gateway, "/").await;
    let (mut sender, mut receiver) =
        if direction == ToClient { (gateway, client) } else { (client, gateway) };
    let sent = async {
        sender.send_cut(bytes, &cuts).await;
        sender.finish().await;
    };
    let ((), (seen, end)) = tokio::join!(sent, receiver.rest());
    assert_same(&seen, bytes, &format!("{what}, {direction:?}, {cuts:?}"));
    assert_eq!(end, End::Fin);
}

struct Place {
    gateway: Gateway,
    seqgate: Seqgate,
}

async fn place(settings: &[(&str, &str)]) -> Place {
    let (gateway, seqgate) = house(settings).await;
    Place { gateway, seqgate }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_frame_reaches_the_client_as_it_was_sent_however_it_is_cut() {
    let place = place(&[]).await;
    for (what, bytes) in streams() {
        for cuts in [Cuts::Whole, Cuts::EachByte, Cuts::Random(1, 40)] {
            passes(&place, &what, &bytes, ToClient, cuts).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_frame_reaches_the_gateway_as_it_was_sent_however_it_is_cut() {
    let place = place(&[]).await;
    for (what, bytes) in streams() {
        for cuts in [Cuts::Whole, Cuts::EachByte, Cuts::Random(2, 40)] {
            passes(&place, &what, &bytes, ToGateway, cuts).await;
        }
    }
    // What a client says is not judged: its repeats pass.
    let repeated = agent("client", 1, 1).repeat(10);
    passes(&place, "a client's repeats", &repeated, ToGateway, Cuts::Whole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_mode_forwards_repeats_and_all_else_unchanged() {
    let place = place(&[("mode", "observe")]).await;
    let repeats =
        [agent("r", 1, 1), agent("r", 1, 2), agent("r", 2, 3), agent("r", 1, 99), agent("r", 3, 100)]
            .concat();
    for (what, bytes) in streams().into_iter().chain([("repeats".to_owned(), repeats)]) {
        for cuts in [Cuts::Whole, Cuts::Random(3, 40)] {
            passes(&place, &what, &bytes, ToClient, cuts).await;
        }
    }
    place.seqgate.metric_becomes(r#"seqgate_events_total{verdict="dropped",reason="duplicate"}"#, 0.0).await;
    let would =
        place.seqgate.metric(r#"seqgate_events_total{verdict="would_drop",reason="duplicate"}"#).await;
    assert!(would >= 2.0, "{would}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_close_code_and_reason_passes_in_both_directions() {
    let place = place(&[]).await;
    for close in closes() {
        let bytes = [agent("r", 1, 1), close].concat();
        for cuts in [Cuts::Whole, Cuts::EachByte] {
            let what = format!("Close {:02x?}", &bytes[bytes.len().saturating_sub(8)..]);
            passes(&place, &what, &bytes, ToClient, cuts).await;
            passes(&place, &what, &bytes, ToGateway, cuts).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_passes_as_it_is() {
    let place = place(&[]).await;
    let mut garbage: Vec<Vec<u8>> = (0..20).map(|seed| noise(seed, 3000)).collect();
    garbage.push(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_vec());
    garbage.push(vec![0xff; 500]);
    garbage.push(vec![0x00; 500]);
    // A text frame of 2^63 bytes and one of 2^63 - 1, of which only a few come.
    garbage.push([&[TEXT, 127, 0x80, 0, 0, 0, 0, 0, 0, 0][..], b"{}{}"].concat());
    garbage.push([&[TEXT, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255][..], b"{}{}"].concat());
    garbage.push([&[TEXT_BEGINS, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255][..], b"{}{}"].concat());
    garbage.push(
        [&frame(TEXT_BEGINS, b"x")[..], &[0, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255], b"{}"].concat(),
    );
    for (n, bytes) in garbage.iter().enumerate() {
        for cuts in [Cuts::Whole, Cuts::Random(n as u64, 100)] {
            passes_at_the_end(&place, "garbage", bytes, ToClient, cuts).await;
            passes_at_the_end(&place, "garbage", bytes, ToGateway, cuts).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stops_in_the_middle_of_a_frame_arrives_as_far_as_it_came() {
    let place = place(&[]).await;
    let whole = [fragments(), agent("r", 1, 1), close(1000, "bye")].concat();
    for cut in (0..whole.len()).step_by(11).chain(1..12) {
        passes_at_the_end(&place, "cut off", &whole[..cut], ToClient, Cuts::Whole).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_25_mib_pass_in_both_directions() {
    let place = place(&[]).await;
    let payload = noise(25, LARGE);
    let text = vec![b'"'; LARGE];
    let bytes = [frame(TEXT, &text), frame(BINARY, &payload), agent("r", 1, 1)].concat();
    let fragmented =
        [frame(TEXT_BEGINS, &text[..LARGE / 2]), frame(PING, b"!"), frame(ENDS, &text[LARGE / 2..])];
    for direction in [ToClient, ToGateway] {
        passes(&place, "large frames", &bytes, direction, Cuts::Random(4, 1 << 20)).await;
        passes(&place, "large fragments", &fragmented.concat(), direction, Cuts::Whole).await;
    }
    let oversized = r#"seqgate_events_total{verdict="forwarded",reason="oversized"}"#;
    place.seqgate.metric_becomes(oversized, 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_around_the_inspect_limit_pass_whole() {
    let place = place(&[("inspect-limit", "4096B")]).await;
    let mut bytes = Vec::new();
    for size in (4060..4140).step_by(3) {
        bytes.extend(frame(TEXT, &vec![b' '; size]));
        bytes.extend(frame(TEXT_BEGINS, &vec![b' '; size / 2]));
        bytes.extend(frame(PING, b"p"));
        bytes.extend(frame(ENDS, &vec![b' '; size - size / 2]));
    }
    for cuts in [Cuts::Whole, Cuts::Random(5, 100), Cuts::Random(6, 5000)] {
        passes(&place, "around the limit", &bytes, ToClient, cuts).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_at_once_do_not_disturb_each_other() {
    let place = place(&[]).await;
    let Relayed { client, gateway } = websocket(&place.seqgate, &place.gateway, "/").await;
    let down = frame(BINARY, &noise(1, 4 << 20));
    let up = masked(BINARY, &noise(2, 4 << 20));
    let (mut client_reads, mut client_writes) = client.stream.into_split();
    let (mut gateway_reads, mut gateway_writes) = gateway.stream.into_split();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut at_client = vec![0; down.len()];
    let mut at_gateway = vec![0; up.len()];
    // A TLS peer may hold the end of what it has taken until it is flushed.
    let client_sends = async { client_writes.write_all(&up).await.and(client_writes.flush().await) };
    let gateway_sends = async { gateway_writes.write_all(&down).await.and(gateway_writes.flush().await) };
    net::patiently("both directions", async {
        tokio::try_join!(
            client_sends,
            gateway_sends,
            client_reads.read_exact(&mut at_client),
            gateway_reads.read_exact(&mut at_gateway),
        )
    })
    .await
    .unwrap();
    assert_same(&at_client, &down, "to the client");
    assert_same(&at_gateway, &up, "to the gateway");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_early_bytes_come_behind_its_101() {
    let place = place(&[]).await;
    for early in [agent("early", 1, 1), frame(PING, b"early"), frame(BINARY, &noise(1, 1 << 20))] {
        for cuts in [Cuts::Whole, Cuts::Random(7, 60_000)] {
            let mut client = place.seqgate.connect().await;
            client.send(handshake("/")).await;
            let mut gateway = place.gateway.accept().await;
            gateway.head().await;
            let bytes = [CONSENT.as_bytes(), &early].concat();
            let sent = async {
                gateway.send_cut(&bytes, &cuts).await;
                gateway
            };
            let received = async {
                assert_eq!(lines(&client.head().await), lines(CONSENT));
                client.expect(&early).await;
                client
            };
            let (mut gateway, mut client) = tokio::join!(sent, received);
            // The relay goes on from there.
            gateway.send(frame(TEXT, b"{}")).await;
            client.expect(&frame(TEXT, b"{}")).await;
            client.send(masked(TEXT, b"{}")).await;
            gateway.expect(&masked(TEXT, b"{}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn early_events_are_judged_like_any_other() {
    let place = place(&[]).await;
    let mut client = place.seqgate.connect().await;
    client.send(handshake("/")).await;
    let mut gateway = place.gateway.accept().await;
    gateway.head().await;
    let half = agent("early", 2, 2);
    let (start, rest) = half.split_at(half.len() / 2);
    let early = [CONSENT.as_bytes(), &agent("early", 1, 1), &agent("early", 1, 1), start].concat();
    gateway.send(early).await;
    client.head().await;
    client.expect(&agent("early", 1, 1)).await;
    gateway.send([rest, &half, &frame(PING, b"")].concat()).await;
    client.expect(&[half, frame(PING, b"")].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_behind_its_handshake_waits_for_the_101_and_arrives_whole() {
    let place = place(&[]).await;
    for size in [10, 5_000, 16 * 1024, 17_000, 200_000, 1 << 20] {
        let early = masked(BINARY, &noise(size as u64, size));
        let mut client = place.seqgate.connect().await;
        let bytes = [handshake("/").as_bytes(), &early].concat();
        let sent = async {
            client.send(&bytes).await;
            client
        };
        let received = async {
            let mut gateway = place.gateway.accept().await;
            gateway.head().await;
            gateway.send(CONSENT).await;
            gateway.expect(&early).await;
            gateway
        };
        let (mut client, mut gateway) = tokio::join!(sent, received);
        client.head().await;
        client.send(masked(TEXT, b"later")).await;
        gateway.expect(&masked(TEXT, b"later")).await;
        client.finish().await;
        assert_eq!(gateway.end().await, End::Fin);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_its_word_and_ends_before_the_101_is_heard_to_the_end() {
    let place = place(&[]).await;
    let mut client = place.seqgate.connect().await;
    let word = masked(TEXT, b"all I have to say");
    client.send([handshake("/").as_bytes(), &word].concat()).await;
    client.finish().await;
    let mut gateway = place.gateway.accept().await;
    gateway.head().await;
    gateway.send(CONSENT).await;
    gateway.expect(&word).await;
    assert_eq!(gateway.end().await, End::Fin);
    gateway.send(frame(TEXT, b"an answer")).await;
    client.head().await;
    client.expect(&frame(TEXT, b"an answer")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_does_not_wait_for_the_last_fragment() {
    let place = place(&[]).await;
    let Relayed { mut client, mut gateway } = websocket(&place.seqgate, &place.gateway, "/").await;
    let json = event("r", "assistant", 1, 1, Some(1));
    let (first, last) = json.as_bytes().split_at(30);
    let begin = [frame(TEXT_BEGINS, first), frame(PING, b"are you there?")].concat();
    gateway.send(&begin).await;
    client.expect(&begin).await;
    client.send(masked(PONG, b"are you there?")).await;
    gateway.expect(&masked(PONG, b"are you there?")).await;
    gateway.send(frame(ENDS, last)).await;
    client.expect(&frame(ENDS, last)).await;
    // It went unjudged; the next message is judged again.
    gateway.send([agent("r", 1, 2), agent("r", 1, 3), frame(PING, b"")].concat()).await;
    client.expect(&[agent("r", 1, 2), frame(PING, b"")].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_payload_does_not_wait_for_its_rest_for_ever() {
    let message = agent("r", 1, 1);
    for at in [5, message.len() - 1] {
        let place = place(&[]).await;
        let Relayed { mut client, mut gateway } = websocket(&place.seqgate, &place.gateway, "/").await;
        gateway.send(&message[..at]).await;
        client.expect(&message[..at]).await;
        gateway.send(&message[at..]).await;
        client.expect(&message[at..]).await;
    }
}

/// The pauses are longer than any undecided payload waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_judged_after_a_head_and_a_message_that_came_in_parts() {
    let place = place(&[]).await;
    let Relayed { mut client, mut gateway } = websocket(&place.seqgate, &place.gateway, "/").await;
    let numbered = |seq: u64, outer: u64, number: &str| {
        let text = event("r", "assistant", seq, 1_769_900_000_000 + seq, Some(outer));
        frame(TEXT, text.replace(&format!("\"seq\":{outer}}}"), &format!("\"seq\":{number}}}")).as_bytes())
    };
    let first = agent("r", 1, 8);
    gateway.send(&[&first[..], &agent("r", 1, 9)].concat()).await;
    client.expect(&first).await;
    for (seq, outer, number, at) in [(2, 10, " 9", 1), (3, 11, "10", 3), (4, 12, "11", 90)] {
        let message = agent("r", seq, outer);
        gateway.send(&message[..at]).await;
        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
        gateway.send(&message[at..]).await;
        client.expect(&numbered(seq, outer, number)).await;
    }
    gateway.send(&[&agent("r", 3, 13)[..], &agent("r", 5, 14)].concat()).await;
    client.expect(&numbered(5, 14, "12")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_left_out_and_the_outer_seq_closes_ranks() {
    for cuts in [Cuts::Whole, Cuts::EachByte, Cuts::Random(8, 300)] {
        let place = place(&[]).await;
        let Relayed { mut client, mut gateway } = websocket(&place.seqgate, &place.gateway, "/").await;
        let sent = [
            agent("r", 1, 8),
            agent("r", 1, 9),
            agent("r", 2, 10),
            frame(TEXT, br#"{"type":"event","event":"tick","payload":{},"seq":11}"#),
            frame(TEXT, br#"{"type":"event","event":"targeted","payload":{"seq":5}}"#),
            agent("r", 2, 100),
            agent("r", 3, 101),
        ]
        .concat();
        let wanted = [
            agent("r", 1, 8),
            // 10 has become 9, in the place of two digits.
            frame(
                TEXT,
                event("r", "assistant", 2, 1_769_900_000_002, Some(10))
                    .replace(r#""seq":10"#, r#""seq": 9"#)
                    .as_bytes(),
            ),
            frame(TEXT, br#"{"type":"event","event":"tick","payload":{},"seq":10}"#),
            frame(TEXT, br#"{"type":"event","event":"targeted","payload":{"seq":5}}"#),
            frame(
                TEXT,
                event("r", "assistant", 3, 1_769_900_000_003, Some(101))
                    .replace(r#""seq":101"#, r#""seq": 99"#)
                    .as_bytes(),
            ),
        ]
        .concat();
        let (_, seen) = tokio::join!(gateway.send_cut(&sent, &cuts), client.take(wanted.len()));
        assert_same(&seen, &wanted, &format!("{cuts:?}"));
        gateway.finish().await;
        assert_eq!(client.end().await, End::Fin);
        let count = async |series: &str| place.seqgate.metric(series).await;
        assert_eq!(count(r#"seqgate_events_total{verdict="dropped",reason="duplicate"}"#).await, 2.0);
        assert_eq!(count(r#"seqgate_events_total{verdict="forwarded",reason="in_order"}"#).await, 2.0);
        assert_eq!(count("seqgate_outer_seq_rewritten_total").await, 3.0);
        assert_eq!(count(r#"seqgate_frames_total{opcode="text"}"#).await, 7.0);
        assert_eq!(count(r#"seqgate_bytes_total{direction="to_client"}"#).await, sent.len() as f64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fragmented_repeat_is_left_out_and_the_pings_within_it_are_not() {
    let place = place(&[]).await;
    let Relayed { mut client, mut gateway } = websocket(&place.seqgate, &place.gateway, "/").await;
    let json = event("r", "assistant", 1, 1, None);
    let (first, last) = json.as_bytes().split_at(40);
    let whole = frame(TEXT, json.as_bytes());
    let repeat =
        [frame(TEXT_BEGINS, first), frame(PING, b"1"), frame(PONG, b"2"), frame(ENDS, last)].concat();
    gateway.send([&whole[..], &repeat, &frame(PING, b"3")].concat()).await;
    client.expect(&[whole, frame(PING, b"1"), frame(PONG, b"2"), frame(PING, b"3")].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_events_on_two_connections_are_no_repeats() {
    let place = place(&[]).await;
    for _ in 0..3 {
        let Relayed { mut client, mut gateway } = websocket(&place.seqgate, &place.gateway, "/").await;
        gateway.send(agent("shared", 1, 1)).await;
        client.expect(&agent("shared", 1, 1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_pass_on_tunnel_paths_and_in_tunnels() {
    let place = place(&[]).await;
    let bytes = [agent("r", 1, 1), agent("r", 1, 1), frame(TEXT, b"{}"), close(1000, "")].concat();
    for path in ["/voiceclaw/realtime", "/__openclaw__/ws", "/node-desktop/attach?x=1"] {
        let Relayed { mut client, mut gateway } = websocket(&place.seqgate, &place.gateway, path).await;
        gateway.send(&bytes).await;
        client.expect(&bytes).await;
    }
    let Relayed { mut client, mut gateway } = net::tunnel(&place.seqgate, &place.gateway).await;
    gateway.send(&bytes).await;
    client.expect(&bytes).await;
    client.send(noise(9, 5000)).await;
    gateway.expect(&noise(9, 5000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_session_in_segments_of_one_byte_is_the_same_session() {
    let place = place(&[]).await;
    let mut client = place.seqgate.connect().await;
    // A request with a body, then the upgrade, on one connection.
    let post = "POST /p HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    client.send_cut(post.as_bytes(), &Cuts::EachByte).await;
    let mut server = place.gateway.accept().await;
    assert!(server.head().await.starts_with("POST /p HTTP/1.1\r\n"));
    let mut body = Vec::new();
    while body.len() < 3 {
        body.extend(server.chunk().await);
    }
    assert_eq!(body, b"abc");
    let answer = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n";
    server.send_cut(answer.as_bytes(), &Cuts::EachByte).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.body[..]), (403, &b"no"[..]));
    client.send_cut(handshake("/").as_bytes(), &Cuts::EachByte).await;
    let mut server = place.gateway.accept().await;
    assert_eq!(server.head().await, handshake("/"));
    server.send_cut(CONSENT.as_bytes(), &Cuts::EachByte).await;
    client.expect(CONSENT.as_bytes()).await;
    let down = [agent("r", 1, 1), agent("r", 1, 2), frame(PING, b"?"), agent("r", 2, 3), close(1000, "bye")];
    let wanted = [&down[0][..], &down[2], &agent("r", 2, 2), &down[4]].concat();
    let up = [masked(TEXT, b"hello"), masked(PONG, b"?"), masked_close(1000, "bye")].concat();
    let (down, each) = (down.concat(), Cuts::EachByte);
    tokio::join!(server.send_cut(&down, &each), client.send_cut(&up, &each));
    assert_same(&client.take(wanted.len()).await, &wanted, "to the client");
    assert_same(&server.take(up.len()).await, &up, "to the gateway");
    server.finish().await;
    assert_eq!(client.end().await, End::Fin);
    client.finish().await;
    assert_eq!(server.end().await, End::Fin);
}
