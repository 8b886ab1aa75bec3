//! What the gateway gets to see of a request's headers: of a loopback client everything as it came, of a remote one
//! no word that it could have forged.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::net::{IpAddr, SocketAddr};

use net::cable::Cable;
use net::{CONSENT, Gateway, Seqgate, handshake, house, lines, open, patiently, value};

/// Every way to claim to be somebody else.
const FORGED: &str = "Forwarded: for=127.0.0.1;host=localhost\r\nX-Forwarded-For: 127.0.0.1\r\n\
    x-forwarded-for: ::1\r\nX_Forwarded_For: 127.0.0.1\r\nX-FORWARDED-PROTO: https\r\n\
    X-Forwarded-Host: localhost\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 127.0.0.1\r\nX_Real_IP: ::1\r\n\
    Tailscale-User-Login: root@example\r\nTailscale-User-Name: Root\r\n";

/// Headers by which a gateway in trusted-proxy mode knows a user, in every spelling that a reader may fold; the last two
/// are known by [`OWN_IDENTITY`] only.
const IDENTITY: [&str; 24] = [
    "X-Forwarded-User: root",
    "x-forwarded-user: admin",
    "X_Forwarded_User: root",
    "x-FORWARDED_email: root@example",
    "X-Forwarded-Preferred-Username: root",
    "X-Forwarded-Groups: wheel",
    "X-Auth-Request-Email: root@example",
    "x_auth_request_user: root",
    "X-Authentik-Username: root",
    "X-authentik_groups: wheel",
    "REMOTE_USER: root",
    "Remote-User: root",
    "Remote-Groups: wheel",
    "X-Pomerium-Claim-Email: root@example",
    "Cf-Access-Authenticated-User-Email: root@example",
    "X-Goog-Authenticated-User-Email: accounts.google.com:root@example",
    "X-Amzn-Oidc-Identity: root",
    "X-MS-CLIENT-PRINCIPAL-NAME: root",
    "X-Vouch-User: root",
    "X-WebAuth-User: root",
    "Tailscale_User-Login: root@example",
    "X-OpenClaw-Scopes: operator.admin",
    "x-acme_USER: root",
    "Acme_Login: root",
];

/// The setting that adds to the well-known ones.
const OWN_IDENTITY: (&str, &str) = ("identity-headers", "X_Acme-*, ACME-LOGIN");

/// Headers of ordinary clients, similar to the ones above.
const ORDINARY: [&str; 7] = [
    "Authorization: Bearer x",
    "Cookie: user=a",
    "X-OpenClaw-Session-Key: main",
    "X-OpenClaw-Token: t",
    "X-Auth-Token: t",
    "X-Goog-Resource-State: exists",
    "X-Acm: 1",
];

/// What a browser sends, in its order.
fn browser(extensions: &str) -> String {
    format!(
        "GET /chat?session=a%20b HTTP/1.1\r\nHost: Gateway.Test:18900\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
         Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nUpgrade: websocket\r\n\
         Origin: http://Gateway.Test:18900\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\n\
         Accept-Language: en-US,en;q=0.9\r\nCookie: a=b; c=d\r\nAuthorization: Bearer x.y.z\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extensions}Sec-WebSocket-Protocol: chat, superchat\r\n\r\n"
    )
}

/// The head that the gateway gets for a request.
async fn seen(seqgate: &Seqgate, gateway: &Gateway, request: &str) -> String {
    let mut client = seqgate.connect().await;
    client.send(request).await;
    gateway.accept().await.head().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_loopback_upgrade_only_deflate_is_missing() {
    let (gateway, seqgate) = house(&[]).await;
    for (sent, kept) in [
        ("", ""),
        ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n", ""),
        (
            "Sec-WebSocket-Extensions: permessage-deflate, x-other; a=1\r\n",
            "Sec-WebSocket-Extensions: x-other; a=1\r\n",
        ),
        ("Sec-WebSocket-Extensions: x-other\r\n", "Sec-WebSocket-Extensions: x-other\r\n"),
    ] {
        let head = seen(&seqgate, &gateway, &browser(sent)).await;
        assert_eq!(head, browser(kept));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deflate_stays_in_the_offer_where_nothing_is_judged() {
    let (gateway, seqgate) = house(&[]).await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    for path in
        ["/voiceclaw/realtime", "/__openclaw__/ws", "/desktop/observe", "/node-desktop/a", "/node-portal/b"]
    {
        let request = browser(offer).replace("/chat?session=a%20b", path);
        let head = seen(&seqgate, &gateway, &request).await;
        assert_eq!(lines(&head), lines(&request));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_of_a_loopback_client_arrive_unchanged() {
    for settings in [&[][..], &[("trusted-proxies", "10.0.0.0/8")]] {
        let (gateway, seqgate) = house(settings).await;
        let requests = [
            browser("").replace("Pragma: no-cache\r\n", FORGED),
            format!("GET /plain HTTP/1.1\r\nHost: g\r\n{FORGED}\r\n"),
        ];
        for request in requests {
            let head = seen(&seqgate, &gateway, &request).await;
            assert_eq!(lines(&head), lines(&request));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_cannot_strip_what_the_gateway_decides_by() {
    let (gateway, seqgate) = house(&[]).await;
    let named =
        "X-Forwarded-For, x-real-ip, Forwarded, Tailscale-User-Login, Host, Origin, Authorization, Cookie";
    for upgrades in [true, false] {
        let request = if upgrades {
            browser("")
                .replace("Pragma: no-cache\r\n", FORGED)
                .replace("Connection: Upgrade", &format!("Connection: Upgrade, {named}"))
        } else {
            format!(
                "GET /x HTTP/1.1\r\nHost: g\r\nOrigin: http://g\r\nAuthorization: Bearer x\r\nCookie: a=b\r\nConnection: close, {named}\r\n{FORGED}\r\n"
            )
        };
        let (_, wanted) = lines(&request);
        let (_, found) = lines(&seen(&seqgate, &gateway, &request).await);
        for line in wanted.iter().filter(|line| !line.starts_with("Connection:")) {
            assert!(found.contains(line), "{line:?} is not among {found:?}");
        }
        assert!(
            !found.iter().any(|line| line.starts_with("Connection:") && line.contains("X-")),
            "{found:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_headers_of_a_trusted_proxy_arrive_unchanged() {
    let (gateway, seqgate) = house(&[("trusted-proxies", "127.0.0.1"), OWN_IDENTITY]).await;
    let names: Vec<&str> = IDENTITY.iter().map(|line| line.split(':').next().unwrap()).collect();
    let sent = [&IDENTITY[..], &ORDINARY[..]].concat();
    let (block, names) = (sent.join("\r\n"), names.join(", "));
    let chain = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Server: p";
    for request in [
        format!("GET / HTTP/1.1\r\nHost: g\r\n{chain}\r\n{block}\r\n\r\n"),
        // The proxy's client may have named them.
        format!("GET / HTTP/1.1\r\nHost: g\r\nConnection: {names}\r\n{chain}\r\n{block}\r\n\r\n"),
        handshake("/").replace(
            "Connection: Upgrade\r\n",
            &format!("Connection: Upgrade, {names}\r\n{chain}\r\n{block}\r\n"),
        ),
    ] {
        let head = seen(&seqgate, &gateway, &request).await;
        let found: Vec<&str> = head.lines().filter(|line| sent.contains(line)).collect();
        // Lines of one name stay in their order; those names that are one to HTTP stand together.
        let sorted = |lines: &[&str]| {
            let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(sorted(&found), sorted(&sent), "{head}");
        let users = |lines: &[&str]| -> Vec<String> {
            let named = |line: &&&str| line.to_lowercase().starts_with("x-forwarded-user:");
            lines.iter().filter(named).map(|line| (*line).to_owned()).collect()
        };
        assert_eq!(users(&found), users(&sent));
        assert_eq!(value(&head, "x-forwarded-for"), Some("192.0.2.1"), "{head}");
        let lower = head.to_lowercase();
        assert!(!lower.contains("x-forwarded-port") && !lower.contains("x-forwarded-server"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_headers_of_a_loopback_client_arrive_unchanged() {
    let (gateway, seqgate) = house(&[("trusted-proxies", "10.0.0.0/8"), OWN_IDENTITY]).await;
    let block = IDENTITY.join("\r\n");
    let request = format!("GET / HTTP/1.1\r\nHost: g\r\n{block}\r\n\r\n");
    assert_eq!(lines(&seen(&seqgate, &gateway, &request).await), lines(&request));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_connection_stop_here() {
    let (gateway, seqgate) = house(&[]).await;
    let request = "GET / HTTP/1.1\r\nHost: g\r\nConnection: keep-alive, X-Mine\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-Mine: 1\r\nTE: trailers, deflate\r\nX-Yours: 2\r\n\r\n";
    let head = seen(&seqgate, &gateway, request).await;
    let (_, found) = lines(&head);
    assert_eq!(found, ["Host: g", "X-Yours: 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_consent_reaches_the_client_as_it_was_given() {
    let (gateway, seqgate) = house(&[]).await;
    let consent = CONSENT.replace(
        "\r\n\r\n",
        "\r\nSec-WebSocket-Protocol: superchat\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\nX-cAsE: Kept\r\n\r\n",
    );
    let mut client = seqgate.connect().await;
    client.send(browser("")).await;
    let mut server = gateway.accept().await;
    server.head().await;
    server.send(&consent).await;
    assert_eq!(lines(&client.head().await), lines(&consent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_on_loopback_is_believed_about_its_client() {
    let (gateway, seqgate) = house(&[("trusted-proxies", "127.0.0.1, 10.0.0.0/8")]).await;
    for (chain, client) in
        [("192.0.2.9, 192.0.2.1, 10.1.1.1", "192.0.2.1"), ("192.0.2.1, 127.0.0.1", "unknown")]
    {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: pub.test\r\nX-Forwarded-For: {chain}\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 127.0.0.1\r\nTailscale-User-Login: amy\r\n\r\n"
        );
        let head = seen(&seqgate, &gateway, &request).await.to_lowercase();
        assert_eq!(value(&head, "x-forwarded-for"), Some(client), "{head}");
        assert_eq!(value(&head, "x-forwarded-proto"), Some("https"));
        assert_eq!(value(&head, "x-forwarded-host"), Some("pub.test"));
        assert!(!head.contains("x-real-ip"), "{head}");
        assert_eq!(value(&head, "tailscale-user-login"), Some("amy"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_connection_is_attributed() {
    let (gateway, seqgate) = house(&[("trusted-proxies", "127.0.0.1")]).await;
    let mut client = seqgate.connect().await;
    for n in 0..3 {
        let request = format!(
            "POST /{n} HTTP/1.1\r\nHost: g\r\nX-Forwarded-For: 192.0.2.{n}\r\nForwarded: for=127.0.0.1\r\nContent-Length: 0\r\n\r\n"
        );
        client.send(&request).await;
        let mut server = gateway.accept().await;
        let head = server.head().await;
        assert_eq!(value(&head, "x-forwarded-for"), Some(format!("192.0.2.{n}").as_str()));
        assert_eq!(value(&head, "forwarded"), None);
        server.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
        client.head().await;
    }
    // The upgrade behind them too.
    let request =
        handshake("/").replace("\r\n\r\n", "\r\nX-Forwarded-For: 192.0.2.9\r\nForwarded: for=::1\r\n\r\n");
    let _ = open(client, &gateway, &request, CONSENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_trailer_says_who_a_client_is() {
    let (gateway, seqgate) = house(&[("trusted-proxies", "127.0.0.1"), OWN_IDENTITY]).await;
    let named = "X-Forwarded-For, x_real_ip, Forwarded, Tailscale-User-Login, Host, Authorization, X-Sum";
    let identity = IDENTITY.join("\r\n");
    let trailers = "X-Forwarded-For: 127.0.0.1\r\nx_real_ip: ::1\r\nForwarded: for=127.0.0.1\r\nTailscale-User-Login: root\r\nHost: h\r\nAuthorization: a\r\nX-Sum: 6\r\n";
    let mut client = seqgate.connect().await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: g\r\nX-Forwarded-For: 192.0.2.1\r\nTrailer: {named}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{identity}\r\n{trailers}\r\n"
        ))
        .await;
    let mut server = gateway.accept().await;
    server.head().await;
    assert_eq!(server.chunk().await, b"abc");
    let rest = String::from_utf8(server.until(b"\r\n\r\n").await).unwrap().to_lowercase();
    assert_eq!(rest, "0\r\nx-sum: 6\r\n\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_client_is_named_by_its_own_address_and_names_no_user() {
    if net::tls::SIDES.clients {
        return eprintln!("skipped: what is sent from the namespace is plain");
    }
    let (v4, v6) = (["10.201.77.1", "10.201.77.2"], ["fd5e:9a7e::1", "fd5e:9a7e::2"]);
    let Some(cable) = Cable::lay(v4, v6) else {
        return eprintln!("skipped: `ip netns add` is not permitted here");
    };
    for [here, there] in [v4, v6] {
        let here: IpAddr = here.parse().unwrap();
        if std::net::TcpListener::bind((here, 0)).is_err() {
            eprintln!("skipped: no {here}");
            continue;
        }
        let gateway = Gateway::bind().await;
        let listen = SocketAddr::new(here, 0).to_string();
        let any = if here.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        for (listen, trusted) in [(listen.as_str(), ""), (any, "192.0.2.0/24, 127.0.0.0/8")] {
            let seqgate = Seqgate::start(
                gateway.address,
                &[("listen", listen), ("trusted-proxies", trusted), OWN_IDENTITY],
            )
            .await;
            let address = SocketAddr::new(here, seqgate.addresses.listen.port());
            let named = "Connection: close, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Forwarded, X-Forwarded-User, Remote-User";
            let forged = format!("{FORGED}{}\r\n{}\r\n", IDENTITY.join("\r\n"), ORDINARY.join("\r\n"));
            for request in [
                format!("GET /plain HTTP/1.1\r\nHost: G.test\r\n{forged}\r\n"),
                format!("GET /stripped HTTP/1.1\r\nHost: G.test\r\n{named}\r\n{forged}\r\n"),
                format!("POST /post HTTP/1.1\r\nHost: G.test\r\n{forged}Content-Length: 2\r\n\r\nhi"),
                browser("").replace("Gateway.Test:18900", "G.test").replace("Pragma: no-cache\r\n", &forged),
            ] {
                let mut client = cable.send(address, &request);
                let head = patiently("the request", async { gateway.accept().await.head().await }).await;
                let _ = client.kill();
                let _ = client.wait();
                let forwarding: Vec<_> = head
                    .lines()
                    .map(str::to_ascii_lowercase)
                    .filter(|line| {
                        let name = line.split(':').next().unwrap_or_default().replace('_', "-");
                        name == "forwarded"
                            || name == "x-real-ip"
                            || name.starts_with("x-forwarded")
                            || name.starts_with("tailscale")
                    })
                    .collect();
                assert_eq!(forwarding.len(), 3, "{forwarding:?}");
                assert_eq!(value(&head, "x-forwarded-for"), Some(there), "{head}");
                assert_eq!(value(&head, "x-forwarded-proto"), Some("http"), "{head}");
                assert_eq!(value(&head, "x-forwarded-host"), Some("G.test"), "{head}");
                assert_eq!(value(&head, "host"), Some("G.test"), "{head}");
                for line in IDENTITY {
                    let name = line.split(':').next().unwrap().to_lowercase();
                    assert_eq!(value(&head, &name), None, "{line} in {head}");
                }
                for line in ORDINARY {
                    assert!(head.lines().any(|found| found == line), "{line} is not in {head}");
                }
            }
        }
    }
}
