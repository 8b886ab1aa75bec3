//! Who is accepted with TLS and who is not; and how what TLS adds to a connection begins and ends. What does not
//! change with TLS is in `tests/over_tls.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use net::frames::{BINARY, TEXT, agent, frame};
use net::http::{OK, ask, assert_own};
use net::tls::{self, AUTHORITY, Authority, GOOD, Pair, Wire};
use net::{End, Gateway, Peer, Relayed, Seqgate, handshake, patiently, status, value};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ServerConfig};
use seqgate::socket::Conn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const GET: &str = "GET / HTTP/1.1\r\nHost: g\r\n\r\n";

/// A gateway that shows this certificate.
async fn showing(pair: &Pair) -> Gateway {
    let mut gateway = Gateway::bind().await;
    gateway.tls = Some(pair.acceptor());
    gateway
}

async fn before(gateway: &Gateway, settings: &[(&str, &str)]) -> Seqgate {
    let upstream = format!("https://{}", gateway.address);
    let all: Vec<_> = [("upstream", upstream.as_str())].into_iter().chain(settings.iter().copied()).collect();
    Seqgate::start(gateway.address, &all).await
}

/// A gateway and a seqgate that speaks TLS on both sides.
async fn house() -> (Gateway, Seqgate) {
    let gateway = showing(&GOOD).await;
    let [cert, key] = GOOD.settings();
    let seqgate = before(&gateway, &[("upstream-ca", AUTHORITY.file.to_str().unwrap()), cert, key]).await;
    (gateway, seqgate)
}

/// A certificate that clients have to be told of, since it does not name who shows it, is out of date, and nobody
/// has vouched for it.
fn odd() -> Pair {
    Authority::new("nobody").issue("odd", |params| {
        params.subject_alt_names.clear();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    })
}

async fn connect(address: SocketAddr, config: ClientConfig) -> std::io::Result<Peer> {
    let tcp = TcpStream::connect(address).await?;
    patiently("a handshake", tls::client_with(tcp, &Arc::new(config))).await.map(Peer::new)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_certificate_is_not_accepted_gets_nothing_and_everybody_is_told_why() {
    let ca = ("upstream-ca", AUTHORITY.file.to_str().unwrap());
    let others = Authority::new("others").issue("others", |_| {});
    let elsewhere = AUTHORITY.issue("elsewhere", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("elsewhere.test".try_into().unwrap())];
    });
    let old = AUTHORITY.issue("old", |params| params.not_after = date_time_ymd(2002, 1, 1));
    let pin = elsewhere.fingerprint();
    let pin = ("upstream-fingerprint", pin.as_str());
    for (shown, trusted, why) in [
        (&others, ca, "authority"),
        (&elsewhere, ca, "name"),
        (&old, ca, "expired"),
        (&*GOOD, pin, "fingerprint"),
    ] {
        let gateway = showing(shown).await;
        let seqgate = before(&gateway, &[trusted]).await;
        let watching = tokio::spawn(async move { gateway.accept_whenever().await });
        for request in [GET, &handshake("/")] {
            let mut client = seqgate.connect().await;
            client.send(request).await;
            let message = assert_own(&client.answer().await, 502, "upstream_tls");
            assert!(message.contains("certificate") && message.contains(why), "{message}");
        }
        let (code, ready) = seqgate.admin("/readyz").await;
        assert!(code == 503 && ready.contains("certificate") && ready.contains(why), "{ready}");
        assert!(!watching.is_finished(), "{why}");
        seqgate.metric_becomes(r#"seqgate_connections_rejected_total{reason="upstream_tls"}"#, 2.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_enough_whatever_else_is_in_the_certificate() {
    let odd = odd();
    let gateway = showing(&odd).await;
    let pin = odd.fingerprint().to_ascii_uppercase();
    let pairs: Vec<_> = pin.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap()).collect();
    for pin in [pin.clone(), format!("sha256:{}", pairs.join(":"))] {
        let seqgate = before(&gateway, &[("upstream-fingerprint", &pin)]).await;
        let mut client = seqgate.connect().await;
        let (mut server, head) = ask(&mut client, &gateway, GET).await;
        assert_eq!(value(&head, "host"), Some("g"));
        assert_eq!(server.stream.protocol(), None);
        server.send(OK).await;
        assert_eq!(client.answer().await.body, b"ok");
    }
}

/// A certificate for 127.0.0.1 that is marked as an authority's and signed by its own key, as `openssl req -x509` makes
/// it; `change` makes it unusual.
fn self_signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let pair = Pair {
        cert: tls::place(&format!("{name}.cert.pem")),
        key: tls::place(&format!("{name}.key.pem")),
        der: certificate.der().to_vec(),
    };
    std::fs::write(&pair.cert, certificate.pem()).unwrap();
    std::fs::write(&pair.key, key.serialize_pem()).unwrap();
    pair
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_ca_file_lists_is_accepted_from_the_server() {
    let ca = self_signed("self signed ca", |_| {});
    let server = self_signed("self signed server", |params| params.is_ca = IsCa::ExplicitNoCa);
    let plain = self_signed("self signed plain", |params| params.is_ca = IsCa::NoCa);
    let leaf = Authority::new("not listed").issue("listed leaf", |_| {});
    let others = std::fs::read(&AUTHORITY.file).unwrap();
    for pair in [ca, server, plain, leaf] {
        // Also among others.
        let bundle = tls::place("bundle.pem");
        let listed = std::fs::read(&pair.cert).unwrap();
        std::fs::write(&bundle, [others.as_slice(), &listed].concat()).unwrap();
        for file in [&pair.cert, &bundle] {
            let gateway = showing(&pair).await;
            let seqgate = before(&gateway, &[("upstream-ca", file.to_str().unwrap())]).await;
            let mut client = seqgate.connect().await;
            let (mut server, _) = ask(&mut client, &gateway, GET).await;
            server.send(OK).await;
            assert_eq!(client.answer().await.body, b"ok");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_certificate_still_has_to_be_valid_and_for_the_name() {
    let elsewhere = self_signed("listed elsewhere", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("elsewhere.test".try_into().unwrap())];
    });
    let nameless = self_signed("listed nameless", |params| params.subject_alt_names.clear());
    let old = self_signed("listed old", |params| params.not_after = date_time_ymd(2002, 1, 1));
    let young = self_signed("listed young", |params| {
        params.not_before = date_time_ymd(2999, 1, 1);
        params.not_after = date_time_ymd(3000, 1, 1);
    });
    let shown = self_signed("shown", |_| {});
    let listed = self_signed("listed instead", |_| {});
    for (shown, listed, why) in [
        (&elsewhere, &elsewhere, "elsewhere.test"),
        (&nameless, &nameless, "no subject alternative name"),
        (&old, &old, "has expired"),
        (&young, &young, "is not valid yet"),
        // The same subject, but another certificate.
        (&shown, &listed, "SEQGATE_UPSTREAM_FINGERPRINT"),
    ] {
        let gateway = showing(shown).await;
        let seqgate = before(&gateway, &[("upstream-ca", listed.cert.to_str().unwrap())]).await;
        let watching = tokio::spawn(async move { gateway.accept_whenever().await });
        let mut client = seqgate.connect().await;
        client.send(GET).await;
        let message = assert_own(&client.answer().await, 502, "upstream_tls");
        assert!(message.contains("certificate") && message.contains(why), "{message}");
        assert!(!message.contains("Error("), "{message}");
        assert!(!watching.is_finished(), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_of_the_gateway_is_reported_in_a_sentence() {
    for (alert, why) in [
        (40, "no TLS cipher or key exchange in common"),
        (70, "does not speak TLS 1.2 or 1.3"),
        (80, "internal error"),
        (112, "SEQGATE_UPSTREAM"),
        (116, "client certificate"),
        (120, "http/1.1"),
    ] {
        let gateway = Gateway::bind().await;
        let seqgate = before(&gateway, &[("upstream-fingerprint", &GOOD.fingerprint())]).await;
        let answering = tokio::spawn(async move {
            let mut peer = gateway.accept_whenever().await;
            peer.send([21, 3, 3, 0, 2, 2, alert]).await;
            peer.rest().await;
        });
        let mut client = seqgate.connect().await;
        client.send(GET).await;
        let message = assert_own(&client.answer().await, 502, "upstream_tls");
        assert!(message.contains(why) && !message.contains("Alert"), "{message}");
        answering.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_side_speaks_tls_and_the_other_does_not_a_sentence_says_so() {
    let gateway = Gateway::bind().await;
    let seqgate = before(&gateway, &[("upstream-fingerprint", &GOOD.fingerprint())]).await;
    let answering = tokio::spawn(async move {
        let mut peer = gateway.accept_whenever().await;
        peer.send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        peer.finish().await;
        peer.rest().await;
    });
    let mut client = seqgate.connect().await;
    client.send(GET).await;
    let message = assert_own(&client.answer().await, 502, "upstream_tls");
    assert!(message.contains("does not speak TLS"), "{message}");
    answering.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_end_its_handshake_is_given_up_at_the_connect_timeout() {
    let gateway = Gateway::bind().await;
    let seqgate =
        before(&gateway, &[("upstream-fingerprint", &GOOD.fingerprint()), ("connect-timeout", "200ms")])
            .await;
    let mut client = seqgate.connect().await;
    client.send(GET).await;
    assert_own(&client.answer().await, 502, "upstream_timeout");
    // It was there, and said nothing.
    let (hello, end) = gateway.accept().await.rest().await;
    assert_eq!((hello[0], end), (22, End::Fin));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_either_version_are_served_with_http_1_and_nothing_older_is() {
    let (gateway, seqgate) = house().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = tls::client_config_of(ClientConfig::builder_with_protocol_versions(&[version]));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = connect(seqgate.addresses.listen, config).await.unwrap();
        assert_eq!(client.stream.protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(client.stream.certificate(), GOOD.der);
        let Relayed { mut client, mut gateway } =
            net::open(client, &gateway, &handshake("/"), net::CONSENT).await;
        gateway.send([agent("r", 1, 1), agent("r", 1, 2), agent("r", 2, 3)].concat()).await;
        // The repeat is left out, and the number behind it moves up.
        client.expect(&[agent("r", 1, 1), agent("r", 2, 2)].concat()).await;
    }
    let mut config = tls::client_config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    assert!(connect(seqgate.addresses.listen, config).await.is_err());
    // A ClientHello as of TLS 1.1.
    let mut old = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    old.extend([7; 32]);
    old.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let mut client = Peer::new(Wire::Plain(TcpStream::connect(seqgate.addresses.listen).await.unwrap()));
    client.send(&old).await;
    let (seen, _) = client.rest().await;
    assert!(seen.first().is_none_or(|kind| *kind == 21), "{seen:?}");
    seqgate.metric_becomes(r#"seqgate_connections_rejected_total{reason="tls_handshake"}"#, 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_never_ends_is_cut_at_the_header_timeout_and_counted_if_it_had_begun() {
    let gateway = showing(&GOOD).await;
    let [cert, key] = GOOD.settings();
    let ca = ("upstream-ca", AUTHORITY.file.to_str().unwrap());
    let seqgate = before(&gateway, &[ca, cert, key, ("header-timeout", "2s")]).await;
    let plain = async || Peer::new(Wire::Plain(TcpStream::connect(seqgate.addresses.listen).await.unwrap()));
    // The beginning of a record of 512 bytes.
    let mut begun = plain().await;
    begun.send([22, 3, 1, 2, 0, 1]).await;
    let mut silent = plain().await;
    assert_eq!(begun.end().await, End::Fin);
    assert_eq!(silent.end().await, End::Fin);
    // Nor is a handshake that ends the end of the head's time.
    let mut idle = seqgate.connect().await;
    assert_eq!(idle.end().await, End::Fin);
    assert!(!idle.is_cut);
    seqgate.metric_becomes("seqgate_clients", 0.0).await;
    seqgate.metric_becomes(r#"seqgate_connections_rejected_total{reason="tls_handshake"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_plain_http_to_the_tls_port_is_closed_and_the_gateway_hears_nothing() {
    let (gateway, seqgate) = house().await;
    let mut client = Peer::new(Wire::Plain(TcpStream::connect(seqgate.addresses.listen).await.unwrap()));
    client.send(GET).await;
    let (seen, _) = client.rest().await;
    assert!(!String::from_utf8_lossy(&seen).contains("HTTP"), "{seen:?}");
    assert!(gateway.is_untouched());
    seqgate.metric_becomes(r#"seqgate_connections_rejected_total{reason="tls_handshake"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_for_whom_there_is_no_room_is_told_so_through_tls() {
    let gateway = showing(&GOOD).await;
    let [cert, key] = GOOD.settings();
    let ca = ("upstream-ca", AUTHORITY.file.to_str().unwrap());
    let seqgate = before(&gateway, &[ca, cert, key, ("max-connections", "1")]).await;
    let first = seqgate.connect().await;
    let mut second = seqgate.connect().await;
    assert_own(&second.answer().await, 503, "limit");
    assert_eq!(second.end().await, End::Fin);
    assert!(!second.is_cut);
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_says_goodbye_is_passed_on_with_a_goodbye_and_one_that_does_not_without() {
    let (gateway, seqgate) = house().await;
    for client_acts in [true, false] {
        for says_goodbye in [true, false] {
            let Relayed { client, gateway: server } = net::websocket(&seqgate, &gateway, "/").await;
            let (mut first, mut second) = if client_acts { (client, server) } else { (server, client) };
            first.send(frame(TEXT, b"last words")).await;
            if says_goodbye {
                first.finish().await;
            } else {
                // FIN, and nothing of TLS.
                socket2::SockRef::from(first.stream.tcp()).shutdown(std::net::Shutdown::Write).unwrap();
            }
            second.expect(&frame(TEXT, b"last words")).await;
            assert_eq!(second.end().await, End::Fin);
            assert_eq!(second.is_cut, !says_goodbye, "client acts: {client_acts}");
            // The other direction goes on, and ends by itself.
            second.send(frame(TEXT, b"an answer")).await;
            first.expect(&frame(TEXT, b"an answer")).await;
            second.finish().await;
            assert_eq!((first.end().await, first.is_cut), (End::Fin, false));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_with_the_connection_is_whole_only_with_a_goodbye() {
    let (gateway, seqgate) = house().await;
    for says_goodbye in [true, false] {
        let mut client = seqgate.connect().await;
        let request = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let (mut server, _) = ask(&mut client, &gateway, &request).await;
        server.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of ").await;
        let head = client.head().await;
        assert_eq!(status(&head), 200);
        if says_goodbye {
            server.send("it").await;
            server.finish().await;
        } else {
            socket2::SockRef::from(server.stream.tcp()).shutdown(std::net::Shutdown::Write).unwrap();
        }
        let chunked = value(&head, "transfer-encoding").is_some();
        let (body, end) = client.rest().await;
        let looks_whole =
            if chunked { body.ends_with(b"\r\n0\r\n\r\n") } else { end == End::Fin && !client.is_cut };
        assert_eq!(looks_whole, says_goodbye, "{:?}", String::from_utf8_lossy(&body));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_nobody_encrypted_resets_both_sides() {
    let (gateway, seqgate) = house().await;
    for client_acts in [true, false] {
        let Relayed { client, gateway: server } = net::websocket(&seqgate, &gateway, "/").await;
        let (first, mut second) = if client_acts { (client, server) } else { (server, client) };
        let mut tcp = first.stream.tcp();
        let forged = [&[23, 3, 3, 0, 40][..], &[0; 40]].concat();
        patiently("the socket to take it", tcp.writable()).await.unwrap();
        assert_eq!(tcp.try_write(&forged).unwrap(), forged.len());
        assert_eq!(second.end().await, End::Reset, "client acts: {client_acts}");
        first_becomes_reset(&mut tcp).await;
    }
}

/// Past TLS: reads what is left of it, up to the reset.
async fn first_becomes_reset(tcp: &mut &TcpStream) {
    patiently("a reset", async {
        loop {
            tcp.readable().await.unwrap();
            match tcp.try_read(&mut [0; 1024]) {
                Ok(0) => panic!("it ended without a reset"),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
                _ => {}
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_and_large_pieces_in_one_record_or_many_arrive_whole() {
    let (gateway, seqgate) = house().await;
    let Relayed { client, gateway: server } = net::websocket(&seqgate, &gateway, "/voiceclaw/").await;
    let (mut client_reads, mut client_writes) = client.stream.into_split();
    let (mut server_reads, mut server_writes) = server.stream.into_split();
    let mut state = 7;
    let sizes: Vec<_> = (0..300).map(|_| net::random(&mut state) as usize % 40_000 + 1).collect();
    let all = net::noise(1, sizes.iter().sum());
    let writing = async {
        let mut at = 0;
        for size in &sizes {
            server_writes.write_all(&all[at..at + size]).await.unwrap();
            // Each a record, or several, of its own.
            server_writes.flush().await.unwrap();
            at += size;
        }
    };
    let echoing = async {
        let mut buffer = vec![0; 3000];
        let mut left = all.len();
        while left > 0 {
            let n = client_reads.read(&mut buffer).await.unwrap();
            client_writes.write_all(&buffer[..n]).await.unwrap();
            client_writes.flush().await.unwrap();
            left -= n;
        }
    };
    let mut seen = vec![0; all.len()];
    patiently("the echo", async {
        let (_, _, read) = tokio::join!(writing, echoing, server_reads.read_exact(&mut seen));
        read.unwrap();
    })
    .await;
    net::assert_same(&seen, &all, "there and back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_in_small_pieces_arrives_whole_wherever_the_records_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let key = PrivateKeyDer::from_pem_file(&GOOD.key).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![GOOD.der.clone().into()], key).unwrap());
    let mut conn = Conn::accepted(listener.accept().await.unwrap().0, config).unwrap();
    let config = Arc::new(tls::client_config());
    let (accepted, wire) = tokio::join!(conn.handshake(), tls::client_with(tcp, &config));
    accepted.unwrap();
    let mut wire = wire.unwrap();
    // The largest records, and beside each as much as still goes into what rustls reads at once.
    let sizes = [16_384, 2009, 16_384, 1000, 16_384, 5000];
    let all = net::noise(1, sizes.iter().sum());
    let mut rest = all.as_slice();
    for size in sizes {
        let record;
        (record, rest) = rest.split_at(size);
        wire.write_all(record).await.unwrap();
        wire.flush().await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        seen.push(patiently("a byte", conn.read_u8()).await.unwrap());
    }
    net::assert_same(&seen, &all, "byte by byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_and_was_not_taken_leaves_when_there_is_room_though_nothing_follows() {
    const MOST: usize = 48 << 20;
    const COUNTED: &str = r#"seqgate_bytes_total{direction="to_client"}"#;
    // A frame that never ends, so that nothing is held for a judgement.
    let head = [BINARY, 127, 0x7f, 0, 0, 0, 0, 0, 0, 0];
    let (gateway, seqgate) = house().await;
    let narrow = async || {
        let client = Peer::connect_small(seqgate.addresses.listen, 16 * 1024).await;
        let mut relayed = net::open(client, &gateway, &handshake("/"), net::CONSENT).await;
        relayed.gateway.send(head).await;
        relayed.client.expect(&head).await;
        relayed
    };
    // How much goes as far as seqgate where the client reads nothing: the sockets' room, and what it holds itself.
    let mut full = narrow().await;
    let before = seqgate.metric(COUNTED).await;
    assert!(full.gateway.push_until_blocked(MOST).await < MOST);
    let room = (seqgate.metric(COUNTED).await - before) as usize;
    drop(full);
    // About there, some ends will wait in seqgate's session alone.
    for less in (0..40).map(|step| step * 8 * 1024) {
        let mut relayed = narrow().await;
        let sent = net::pattern(0, room.saturating_sub(less));
        let before = seqgate.metric(COUNTED).await;
        relayed.gateway.send(&sent).await;
        // As far as it goes: where it goes no further, this end is none of those.
        let counted = seqgate.metric_becomes(COUNTED, before + sent.len() as f64);
        let _ = tokio::time::timeout(Duration::from_millis(200), counted).await;
        let seen = relayed.client.take(sent.len()).await;
        net::assert_same(&seen, &sent, "behind the pause");
    }
}
