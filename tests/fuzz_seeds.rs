//! Writes what each fuzz target begins with: captured traffic of real gateways, and the shortest inputs that are known
//! to matter.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::path::Path;

use support::captures::connections;
use support::frames::{BINARY, FIN, Form, PING, TEXT, close, fragments, frame_as, ping, text};
use support::guard::{chat, cut, health, masked, said};

#[test]
#[ignore = "writes fuzz/corpus"]
fn fuzz_targets_get_their_seeds() {
    let texts: Vec<String> = connections().into_iter().flat_map(|(_, texts)| texts).collect();
    // The shortest of each length class: the fuzzer prefers small inputs.
    let mut short: Vec<&String> = texts.iter().filter(|text| text.len() < 700).collect();
    short.sort_by_key(|text| (text.len() / 40, text.as_str()));
    short.dedup_by_key(|text| text.len() / 40);
    write("peek", short.iter().map(|text| text.as_bytes().to_vec()));
    let nasty = [r#"{"text":"\\\",\"seq\":7,\"ts\":7}},\"seq\":7}"}"#, r#"{"a":{"seq":7,"ts":7},"seq":8}"#];
    let glanced = short.iter().map(|text| text.as_bytes().to_vec());
    write("glance", glanced.chain(nasty.iter().map(|data| data.as_bytes().to_vec())));
    let twice = |message: &&String| [text(message), text(message)].concat();
    let cut = |message: &&String| [fragments(message, &[20]).join(&ping("?")[..]), text(message)].concat();
    let streams = short.iter().map(twice).chain(short.iter().map(cut));
    write("sieve", streams.map(|stream| [&[1, 4, 90][..], &stream, &close(1000, "bye")].concat()));
    write(
        "frame_head",
        short.iter().take(3).map(text).chain([
            close(1012, "service restart"),
            frame_as(FIN | BINARY, Form::Two, Some([1, 2, 3, 4]), b"masked"),
            frame_as(FIN | BINARY, Form::Eight, None, b"long"),
        ]),
    );
    write("ledger", [b"\0\x05\x01\0\x01\x11\0\0\x02\x11\0\0\x01\x11\0".to_vec(), vec![7; 200]]);
    write("gate", gate_streams());
    let request = |text: &str| text.replace('\n', "\r\n").into_bytes();
    write(
        "http_front",
        [
            request("GET / HTTP/1.1\nHost: g\nConnection: Upgrade\nUpgrade: websocket\n\n"),
            request(
                "POST /a?b HTTP/1.1\nHost: g:1\nTransfer-Encoding: chunked\n\n4;x=y\nbody\n0\nX-T: z\n\n",
            ),
            request(
                "PUT http://g/ HTTP/1.1\nHost: g\nContent-Length: 4\nConnection: x-forwarded-for, te\n\nbody",
            ),
            request(
                "GET / HTTP/1.0\nX-Forwarded-For: 127.0.0.1\nX_Real_IP: ::1\nTailscale-User: a\nTE: trailers\n\n",
            ),
        ],
    );
    write(
        "settings",
        [
            b"SEQGATE_LISTEN=[::]:1\0SEQGATE_UPSTREAM=ws://[::1]:2/\0SEQGATE_ORDER=none".to_vec(),
            b"SEQGATE_EVENTS=agent, x\0SEQGATE_RUN_TTL=90m\0--inspect-limit=1MiB".to_vec(),
            b"SEQGATE_TRUSTED_PROXIES=10.0.0.0/8, 192.0.2.1\0SEQGATE_TUNNEL_PATHS=/a,/b".to_vec(),
            b"SEQGATE_TRUSTED_PROXIES=10.1.2.3/8, ::ffff:10.0.0.0/104\0SEQGATE_IDENTITY_HEADERS=X-Acme-*,a"
                .to_vec(),
            b"SEQGATE_LOG=off\0SEQGATE_LOG_FORMAT=xml\0SEQGATE_PORT=tcp://10.0.0.1:1\0SEQGATE_TYPO=1"
                .to_vec(),
        ],
    );
}

/// Streams of clients behind a byte for their form, one for the limit and two for how they are cut.
fn gate_streams() -> Vec<Vec<u8>> {
    let honest = [said(health("1")), said(chat("2", "first")), cut(BINARY, chat("3", "k"), &[40]).concat()];
    let large = chat("4", "k").replace("\"hi\"", &format!("\"{}\"", "x".repeat(400)));
    let twice = large.replace("}}", r#"},"\u006dethod":"agent"}"#);
    let sly = [large, twice].map(|text| cut(TEXT, text, &[99, 300]).join(&masked(FIN | PING, "?")[..]));
    let shaped = [vec![0, 80, 3, 5], (0..=255).collect()].concat();
    let framed = honest.into_iter().chain(sly).map(|bytes| [&[1, 80, 3, 5][..], &bytes].concat());
    framed.chain([shaped]).collect()
}

fn write(target: &str, seeds: impl IntoIterator<Item = Vec<u8>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    fs::create_dir_all(&folder).expect("a place for the corpus");
    for (n, seed) in seeds.into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{n:03}")), seed).expect("room for the corpus");
    }
}
