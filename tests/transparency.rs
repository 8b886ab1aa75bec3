//! What a WebSocket endpoint makes of every kind of frame is the same with seqgate before it and without: a server
//! and a client that know nothing of seqgate (tungstenite) meet the frames of the Autobahn suite's families,
//! lawful and not, directly and through it. What they heard, what they complained of and every byte they answered is
//! compared.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use net::frames::{
    BINARY, CLOSE, ENDS, GOES_ON, PING, PONG, TEXT, TEXT_BEGINS, frame_with, shortest, unmasked,
};
use net::{End, Gateway, Peer, Seqgate, assert_same, lines, noise, patiently, value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What an endpoint made of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    heard: Vec<String>,
    end: String,
}

/// Sends every message back, until the connection ends; then hears the other side out.
async fn echo(mut socket: WebSocketStream<net::tls::Wire>) -> Verdict {
    let mut heard = Vec::new();
    let end = loop {
        match socket.next().await {
            Some(Ok(message)) => {
                heard.push(describe(&message));
                if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                    break "nobody takes the echo".to_owned();
                }
            }
            Some(Err(error)) => break error.to_string(),
            None => break "closed".to_owned(),
        }
    };
    // What is unread would turn the end into a reset.
    let stream = socket.get_mut();
    while stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {}
    Verdict { heard, end }
}

fn describe(message: &Message) -> String {
    let text = format!("{message:?}");
    if text.len() < 300 { text } else { format!("{:.20}… of {} bytes", text, message.len()) }
}

/// Frames for one connection, cut into writes.
struct Case {
    name: String,
    writes: Vec<Vec<u8>>,
}

/// Builds the frames of one direction.
struct Suite {
    /// A client's.
    masks: bool,
    cases: Vec<Case>,
}

impl Suite {
    fn frame(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        frame_with(first, shortest(payload.len()), self.masks, payload)
    }

    fn close(&self, code: u16, reason: &[u8]) -> Vec<u8> {
        self.frame(CLOSE, &[&code.to_be_bytes(), reason].concat())
    }

    /// These frames and a Close.
    fn add(&mut self, name: &str, frames: &[(u8, &[u8])]) {
        let mut bytes: Vec<u8> = frames.iter().flat_map(|(first, data)| self.frame(*first, data)).collect();
        bytes.extend(self.close(1000, b""));
        self.cases.push(Case { name: name.to_owned(), writes: vec![bytes] });
    }

    /// The same, in writes of so many bytes.
    fn add_cut(&mut self, name: &str, size: usize, frames: &[(u8, &[u8])]) {
        self.add(&format!("{name}, in pieces of {size}"), frames);
        let case = self.cases.last_mut().unwrap();
        case.writes = case.writes.concat().chunks(size).map(<[u8]>::to_vec).collect();
    }

    /// A text in fragments of a size.
    fn add_fragments(&mut self, name: &str, kind: u8, text: &[u8], size: usize) {
        let mut frames: Vec<(u8, &[u8])> = text.chunks(size).map(|piece| (GOES_ON, piece)).collect();
        if let Some(first) = frames.first_mut() {
            first.0 = kind & 0x0f;
        }
        frames.push((ENDS, b""));
        self.add(&format!("{name}, in fragments of {size}"), &frames);
    }

    /// Bytes as they are.
    fn add_raw(&mut self, name: &str, bytes: Vec<u8>) {
        self.cases.push(Case { name: name.to_owned(), writes: vec![bytes] });
    }

    fn framing(&mut self) {
        for n in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 70_000] {
            self.add(&format!("1.1 text of {n}"), &[(TEXT, &vec![b'*'; n])]);
            self.add(&format!("1.2 binary of {n}"), &[(BINARY, &noise(1, n))]);
        }
        for size in [1, 997] {
            self.add_cut("1.1.8 text", size, &[(TEXT, &vec![b'*'; 6_000])]);
            self.add_cut("1.2.8 binary", size, &[(BINARY, &noise(2, 6_000))]);
        }
        for form in [2, 8] {
            for first in [TEXT, BINARY, PING] {
                let long = frame_with(first, form, self.masks, b"short");
                self.add_raw(
                    &format!("a length in {form} bytes too many"),
                    [long, self.close(1000, b"")].concat(),
                );
            }
        }
        for masks in [true, false] {
            let other = frame_with(TEXT, 0, masks, b"masked?");
            self.add_raw("masked and not", [other, self.close(1000, b"")].concat());
        }
    }

    fn control(&mut self) {
        for (name, data) in [
            ("2.1", &b""[..]),
            ("2.2", b"Hello, world!"),
            ("2.3", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),
            ("2.4", &[0xfe; 125]),
            ("2.5", &[0xfe; 126]),
        ] {
            self.add(&format!("{name} ping"), &[(PING, data), (TEXT, b"behind")]);
            self.add(&format!("{name} pong"), &[(PONG, data), (TEXT, b"behind")]);
            self.add_cut(&format!("2.6 ping as {name}"), 1, &[(PING, data), (TEXT, b"behind")]);
        }
        self.add("2.9 unasked pong, then ping", &[(PONG, b"unasked"), (PING, b"asked")]);
        let ten: Vec<_> = (0..10).map(|n| [b'0' + n]).collect();
        let ten: Vec<(u8, &[u8])> = ten.iter().map(|n| (PING, &n[..])).collect();
        self.add("2.10 ten pings", &ten);
        self.add_cut("2.11 ten pings", 1, &ten);
        for bits in 1..8 {
            for first in [TEXT, BINARY, PING, PONG, CLOSE] {
                let frames = [(TEXT, &b"before"[..]), (first | bits << 4, b"reserved"), (PING, b"behind")];
                self.add(&format!("3 RSV {bits} on {first:x}"), &frames);
                self.add_cut(&format!("3 RSV {bits} on {first:x}"), 1, &frames);
            }
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            for (data, fin) in [(&b""[..], 0x80), (b"payload", 0x80), (b"", 0)] {
                let frames = [(TEXT, &b"before"[..]), (fin | opcode, data), (PING, b"behind")];
                self.add(&format!("4 opcode {opcode}"), &frames);
                self.add_cut(&format!("4 opcode {opcode}"), 1, &frames);
            }
        }
    }

    fn fragmentation(&mut self) {
        let (first, middle, last) =
            ((TEXT_BEGINS, &b"one "[..]), (GOES_ON, &b"two "[..]), (ENDS, &b"three"[..]));
        let ping = (PING, &b"between"[..]);
        for (name, frames) in [
            ("5.1 a ping in fragments", vec![(PING & 0x0f, &b"one"[..]), last]),
            ("5.2 a pong in fragments", vec![(PONG & 0x0f, &b"one"[..]), last]),
            ("5.3 a text in fragments", vec![first, last]),
            ("5.6 a ping between", vec![first, ping, last]),
            ("5.9 a continuation of nothing", vec![last, (TEXT, b"behind")]),
            ("5.12 one that goes on", vec![middle, (TEXT, b"behind")]),
            ("5.15 a continuation behind a message", vec![first, last, middle, (TEXT, b"behind")]),
            ("5.16 again and again", vec![middle, (TEXT, b"a"), last, middle, (TEXT, b"b"), last]),
            ("5.18 a message within a message", vec![first, (TEXT, b"within")]),
            ("5.18 a binary within a text", vec![first, (BINARY, b"within"), last]),
            (
                "5.19 pings and pongs between",
                vec![first, middle, ping, middle, middle, ping, (PONG, b"?"), last],
            ),
            ("5.20 empty ones", vec![(TEXT_BEGINS, b""), (GOES_ON, b""), ping, (ENDS, b"")]),
            ("a Close between", vec![first, (CLOSE, b"\x03\xe8"), last]),
            ("a message that never ends", vec![first, middle]),
        ] {
            self.add(name, &frames);
            self.add_cut(name, 1, &frames);
        }
        self.add_fragments("10.1.1 auto-fragmentation", TEXT, &vec![b'*'; 65_536], 1_300);
        self.add_fragments("10.1.1 auto-fragmentation", BINARY, &noise(3, 65_536), 1_300);
    }

    fn utf_8(&mut self) {
        let valid: [&[u8]; 12] = [
            b"",
            "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
            "κόσμε".as_bytes(),
            b"\x00\x7f",
            b"\xc2\x80\xdf\xbf",
            b"\xe0\xa0\x80\xef\xbf\xbf",
            b"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
            b"\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbd",
            b"\xef\xbf\xbe\xef\xbf\xbf",
            b"\xef\xb7\x90\xef\xb7\xaf",
            b"\xf0\x9f\xbf\xbe\xf3\xbf\xbf\xbf",
            b"\xef\xbb\xbfa byte order mark",
        ];
        let invalid: [&[u8]; 20] = [
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
            b"\x80",
            b"\xbf\x80\xbf",
            b"\xc0 \xc1 ",
            b"\xe0 \xef ",
            b"\xf0 \xf7 ",
            b"\xf8 \xfb ",
            b"\xfc \xfd ",
            b"\xc0",
            b"\xe0\x80",
            b"\xf0\x80\x80",
            b"\xf8\x80\x80\x80",
            b"\xdf\xef\xbf\xf7\xbf\xbf",
            b"\xfe\xff",
            b"\xc0\xaf\xe0\x80\xaf\xf0\x80\x80\xaf",
            b"\xc1\xbf\xe0\x9f\xbf",
            b"\xf4\x90\x80\x80",
            b"\xed\xa0\x80\xed\xbf\xbf",
            b"\xed\xad\xbf\xed\xbf\xbf",
            b"\xf5\x80\x80\x80",
        ];
        for (what, texts) in [("6.2 valid", &valid[..]), ("6.3 invalid", &invalid)] {
            for text in texts {
                let name = format!("{what} {text:02x?}");
                self.add(&name, &[(TEXT, text), (PING, b"behind")]);
                self.add_cut(&name, 1, &[(TEXT, text), (PING, b"behind")]);
                self.add_fragments(&name, TEXT, text, 1);
                self.add_fragments(&name, TEXT, text, 2);
                // As binary, all of it is lawful.
                self.add(&name, &[(BINARY, text)]);
            }
        }
    }

    fn closing(&mut self) {
        let close = self.close(1000, b"bye");
        let with = |more: Vec<u8>| [close.clone(), more].concat();
        let text = self.frame(TEXT, b"behind");
        let cases = [
            ("7.1.1 a message, then Close", [text.clone(), close.clone()].concat()),
            ("7.1.2 two Closes", with(close.clone())),
            ("7.1.3 a ping behind Close", with(self.frame(PING, b"?"))),
            ("7.1.4 a text behind Close", with(text)),
            ("7.1.5 a fragment, Close, the rest", {
                [self.frame(TEXT_BEGINS, b"a"), close.clone(), self.frame(ENDS, b"b")].concat()
            }),
            ("7.1.6 a large message, Close, a ping", {
                [self.frame(TEXT, &vec![b'*'; 256 << 10]), close.clone(), self.frame(PING, b"?")].concat()
            }),
            ("7.3.1 no code", self.frame(CLOSE, b"")),
            ("7.3.2 half a code", self.frame(CLOSE, b"\x03")),
            ("7.3.5 the longest reason", self.close(1000, &[b'*'; 123])),
            ("7.3.6 a reason too long", self.close(1000, &[b'*'; 124])),
            ("7.5.1 a reason that is no UTF-8", self.close(1000, b"\xce\xba\xed\xa0\x80")),
            ("a Close in fragments", [self.frame(CLOSE & 0x0f, b"\x03\xe8"), self.frame(ENDS, b"")].concat()),
            ("no Close at all", self.frame(TEXT, b"and gone")),
            ("half a frame", self.frame(TEXT, b"and gone in the middle")[..9].to_vec()),
            ("half a head", vec![BINARY, if self.masks { 255 } else { 127 }, 0]),
            ("bytes behind Close", with(vec![0xff; 300])),
        ];
        for (name, bytes) in cases {
            self.add_raw(name, bytes);
        }
        let codes = [0, 999, 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65_535];
        for code in codes.into_iter().chain(1000..1017) {
            for reason in [&b""[..], b"why"] {
                self.add_raw(&format!("7.7, 7.9, 7.13 code {code}"), self.close(code, reason));
            }
        }
    }

    fn large(&mut self) {
        for n in [1 << 16, 1 << 18, (1 << 18) + 1, 1 << 20, 4 << 20] {
            self.add(&format!("9.1 text of {n}"), &[(TEXT, &vec![b'*'; n])]);
            self.add(&format!("9.2 binary of {n}"), &[(BINARY, &noise(4, n))]);
        }
        for size in [64, 1 << 10, 1 << 16] {
            self.add_fragments("9.3", TEXT, &vec![b'*'; 1 << 19], size);
            self.add_fragments("9.4", BINARY, &noise(5, 1 << 19), size);
        }
        self.add_cut("9.5", 1 << 10, &[(TEXT, &vec![b'*'; 1 << 19])]);
        let short: Vec<(u8, &[u8])> = vec![(TEXT, b"sixteen bytes !!"); 1_000];
        self.add("9.7 a thousand messages", &short);
        let empty: Vec<(u8, &[u8])> = vec![(BINARY, b""); 1_000];
        self.add("9.8 a thousand empty messages", &empty);
    }
}

fn cases(masks: bool) -> Vec<Case> {
    let mut suite = Suite { masks, cases: Vec::new() };
    suite.framing();
    suite.control();
    suite.fragmentation();
    suite.utf_8();
    suite.closing();
    suite.large();
    suite.cases
}

/// Sends all of a case and ends; what came back meanwhile, and how that ended.
async fn play(peer: Peer, case: &Case) -> (Vec<u8>, End) {
    let (reader, mut writer) = peer.into_split();
    let sending = async {
        for write in &case.writes {
            // An endpoint that has failed the connection may not take all of it.
            if writer.write_all(write).await.is_err() {
                break;
            }
        }
        writer.shutdown().await.ok();
    };
    let (seen, ()) = patiently(&case.name, async { tokio::join!(reader.rest(), sending) }).await;
    seen
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A raw client plays a case against an echo server; the address says whether seqgate is in between.
async fn against_a_server(
    server: &Gateway,
    address: SocketAddr,
    case: &Case,
    offer: &str,
) -> (String, Vec<u8>, End, Verdict) {
    let mut client = Peer::connect(address).await;
    let request = net::handshake("/").replace("\r\n\r\n", &format!("\r\n{offer}\r\n"));
    client.send(request).await;
    let accepted = server.accept().await.stream;
    let echoing =
        tokio::spawn(async { echo(tokio_tungstenite::accept_async(accepted).await.unwrap()).await });
    let head = client.head().await;
    let (seen, end) = play(client, case).await;
    (head, seen, end, patiently("the server's verdict", echoing).await.unwrap())
}

/// A raw server plays a case against an echo client.
async fn against_a_client(
    server: &Gateway,
    address: SocketAddr,
    case: &Case,
) -> (Vec<(u8, Vec<u8>)>, End, Verdict) {
    let stream = Peer::connect(address).await.stream;
    let echoing = tokio::spawn(async move {
        let (socket, _) = tokio_tungstenite::client_async("ws://gateway.test/", stream).await.unwrap();
        echo(socket).await
    });
    let mut peer = server.accept().await;
    let head = peer.head().await;
    let accept = derive_accept_key(value(&head, "sec-websocket-key").unwrap().as_bytes());
    peer.send(net::CONSENT.replace(&derive_accept_key(KEY.as_bytes()), &accept)).await;
    let (seen, end) = play(peer, case).await;
    // Every connection has masking keys of its own.
    (unmasked(&seen), end, patiently("the client's verdict", echoing).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_hears_says_and_thinks_the_same_through_seqgate() {
    let server = Gateway::bind().await;
    let seqgate = Seqgate::start(server.address, &[]).await;
    for case in cases(true) {
        let direct = against_a_server(&server, server.address, &case, "").await;
        let through = against_a_server(&server, seqgate.addresses.listen, &case, "").await;
        assert_eq!(lines(&through.0), lines(&direct.0), "{}", case.name);
        assert_same(&through.1, &direct.1, &case.name);
        assert_eq!((through.2, through.3), (direct.2, direct.3), "{}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hears_says_and_thinks_the_same_through_seqgate() {
    let server = Gateway::bind().await;
    let seqgate = Seqgate::start(server.address, &[]).await;
    for case in cases(false) {
        let direct = against_a_client(&server, server.address, &case).await;
        let through = against_a_client(&server, seqgate.addresses.listen, &case).await;
        assert!(through == direct, "{}: {:.500?} is not {:.500?}", case.name, through, direct);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_of_compression_is_answered_as_without_seqgate() {
    let server = Gateway::bind().await;
    let seqgate = Seqgate::start(server.address, &[]).await;
    for offer in [
        "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_no_context_takeover\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate, x-webkit-deflate-frame\r\nSec-WebSocket-Extensions: permessage-bzip2\r\n",
    ] {
        let case = Case { name: offer.to_owned(), writes: cases(true).swap_remove(0).writes };
        let direct = against_a_server(&server, server.address, &case, offer).await;
        let through = against_a_server(&server, seqgate.addresses.listen, &case, offer).await;
        assert_eq!(lines(&through.0), lines(&direct.0));
        assert_eq!((through.1, through.3), (direct.1, direct.3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_fail_a_text_at_its_first_bad_fragment() {
    // 6.4: 1. A text begins well. 2. A second later comes what is no UTF-8. 3. Another second later comes the end: a
    // client that fails fast has failed the connection before.
    const PAUSE: Duration = Duration::from_secs(1);
    let suite = Suite { masks: false, cases: Vec::new() };
    let in_fragments = [
        suite.frame(TEXT_BEGINS, "κόσμε".as_bytes()),
        suite.frame(GOES_ON, b"\xf4\x90\x80\x80"),
        suite.frame(ENDS, b"edited"),
    ];
    let whole = suite.frame(TEXT, &["κόσμε".as_bytes(), b"\xf4\x90\x80\x80edited"].concat());
    let in_chops = [whole[..13].to_vec(), whole[13..17].to_vec(), whole[17..].to_vec()];
    let server = Gateway::bind().await;
    let seqgate = Seqgate::start(server.address, &[]).await;
    for [begin, bad, end] in [in_fragments, in_chops] {
        let mut attempts = 0;
        loop {
            let mut relayed = net::websocket(&seqgate, &server, "/").await;
            relayed.gateway.send(&begin).await;
            tokio::time::sleep(PAUSE).await;
            relayed.gateway.send(&bad).await;
            let sent = Instant::now();
            relayed.client.expect(&[&begin[..], &bad].concat()).await;
            let waited = sent.elapsed();
            relayed.gateway.send(&end).await;
            relayed.client.expect(&end).await;
            if waited < PAUSE / 2 {
                break;
            }
            // Once or twice, this machine may have been busy.
            attempts += 1;
            assert!(attempts < 5, "it took {waited:?}");
        }
    }
}
