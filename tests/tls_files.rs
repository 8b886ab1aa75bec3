//! Certificates and keys in files: which are used, which are refused and how, and what becomes of those that change
//! while seqgate runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::fs;
use std::path::Path;

use net::http::{OK, ask};
use net::program::{Running, output, program};
use net::tls::{AUTHORITY, GOOD, Pair, place};
use net::{CONSENT, Gateway, Peer, handshake};

const GET: &str = "GET / HTTP/1.1\r\nHost: g\r\n\r\n";

/// A file with this text.
fn file(name: &str, text: impl AsRef<[u8]>) -> String {
    let path = place(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_file_that_cannot_be_used_is_exit_code_64_and_one_line_with_variable_file_and_what_is_wrong() {
    let [(_, cert), (_, key)] = GOOD.settings();
    let other = AUTHORITY.issue("other", |_| {});
    let empty = file("empty.pem", "");
    let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let torn = file("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let https = ("SEQGATE_UPSTREAM", "https://127.0.0.1:1");
    let (with_cert, with_key) = (("SEQGATE_TLS_CERT", cert), ("SEQGATE_TLS_KEY", key));
    let absent = "/nowhere/at/all.pem";
    for (name, value, beside, why) in [
        ("SEQGATE_TLS_CERT", absent, with_key, "can't be read: No such file"),
        ("SEQGATE_TLS_CERT", empty.as_str(), with_key, "no certificate in it"),
        ("SEQGATE_TLS_CERT", &torn, with_key, "not PEM"),
        ("SEQGATE_TLS_CERT", &broken, with_key, "can't be used"),
        ("SEQGATE_TLS_CERT", key, with_key, "no certificate in it"),
        ("SEQGATE_TLS_KEY", absent, with_cert, "can't be read: No such file"),
        ("SEQGATE_TLS_KEY", cert, with_cert, "no private key in it"),
        ("SEQGATE_TLS_KEY", other.key.to_str().unwrap(), with_cert, "not the key of the certificate"),
        ("SEQGATE_UPSTREAM_CA", absent, https, "can't be read: No such file"),
        ("SEQGATE_UPSTREAM_CA", &empty, https, "no certificate in it"),
        ("SEQGATE_UPSTREAM_CA", &broken, https, "can't be used"),
    ] {
        for command in ["check", "run"] {
            let (result, out, err) = output(program().arg(command).env(name, value).env(beside.0, beside.1));
            assert_eq!(result.status.code(), Some(64), "{name}={value}: {out}{err}");
            let lines: Vec<_> = err.lines().filter(|line| line.starts_with("seqgate: ")).collect();
            assert!(
                matches!(lines[..], [line] if [name, value, why].iter().all(|part| line.contains(part))),
                "{err}"
            );
        }
    }
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let [(_, cert), (_, key)] = GOOD.settings();
    let ca = AUTHORITY.file.to_str().unwrap();
    let pin = GOOD.fingerprint();
    for (settings, why) in [
        (vec![("TLS_CERT", cert)], "SEQGATE_TLS_KEY is not set"),
        (vec![("TLS_KEY", key)], "SEQGATE_TLS_CERT is not set"),
        (vec![("UPSTREAM_CA", ca)], "SEQGATE_UPSTREAM is http://127.0.0.1:18789: expected https://"),
        (
            vec![("UPSTREAM_FINGERPRINT", &pin)],
            "SEQGATE_UPSTREAM is http://127.0.0.1:18789: expected https://",
        ),
        (
            vec![("UPSTREAM", "https://g:1"), ("UPSTREAM_CA", ca), ("UPSTREAM_FINGERPRINT", &pin)],
            "only one of them",
        ),
        (vec![("UPSTREAM", "wss://g:1"), ("UPSTREAM_FINGERPRINT", &pin[2..])], "64 hex digits"),
        (vec![("UPSTREAM", "https://g..h:1"), ("UPSTREAM_CA", ca)], "no certificate can have this name"),
    ] {
        let variables = settings.iter().map(|(name, value)| (format!("SEQGATE_{name}"), value));
        let (result, out, err) = output(program().arg("check").envs(variables));
        assert_eq!(result.status.code(), Some(64), "{settings:?}: {out}");
        assert!(err.contains(why), "{err}");
    }
}

#[test]
fn keys_of_every_usual_form_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys");
    for (cert, key) in [("ec", "ec-pkcs8"), ("ec", "ec-sec1"), ("rsa", "rsa-pkcs1")] {
        let (result, _, err) = output(
            program()
                .arg("check")
                .env("SEQGATE_TLS_CERT", folder.join(format!("{cert}.cert.pem")))
                .env("SEQGATE_TLS_KEY", folder.join(format!("{key}.key.pem"))),
        );
        assert!(result.status.success(), "{key}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_more_the_systems_authorities_are_trusted_and_without_those_there_is_no_start() {
    let mut gateway = Gateway::bind().await;
    gateway.tls = Some(GOOD.acceptor());
    let upstream = format!("--upstream=https://{}", gateway.address);
    let mut command = program();
    command.env("SSL_CERT_FILE", &AUTHORITY.file);
    let running = Running::start_as(&mut command, gateway.address, &[&upstream]).await.unwrap();
    let mut client = Peer::connect(running.listen).await;
    let (mut server, _) = ask(&mut client, &gateway, GET).await;
    server.send(OK).await;
    assert_eq!(client.answer().await.body, b"ok");
    let nothing = file("nothing.pem", "");
    let (result, _, err) = output(program().args(["check", &upstream]).env("SSL_CERT_FILE", nothing));
    assert_eq!(result.status.code(), Some(64), "{err}");
    assert!(err.contains("the system has no certificates of authorities"), "{err}");
    assert!(err.contains("SEQGATE_UPSTREAM_CA"), "{err}");
}

/// Puts a pair's files where a seqgate looks, as a renewal does: by renaming.
fn renew(pair: &Pair, [cert, key]: [&Path; 2]) {
    for (from, to) in [(&pair.cert, cert), (&pair.key, key)] {
        let new = to.with_extension("new");
        fs::copy(from, &new).unwrap();
        fs::rename(&new, to).unwrap();
    }
}

async fn shown(running: &Running) -> Vec<u8> {
    Peer::connect(running.listen).await.stream.certificate()
}

async fn reloads(running: &Running, result: &str, n: f64) {
    let series = format!("seqgate_tls_reloads_total{{result=\"{result}\"}}");
    net::eventually(&series, async || running.metric(&series).await == n).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_for_new_connections_and_a_broken_one_for_none() {
    let gateway = Gateway::bind().await;
    let (cert, key) = (place("live.cert.pem"), place("live.key.pem"));
    let files = [cert.as_path(), key.as_path()];
    let first = AUTHORITY.issue("first", |_| {});
    let second = AUTHORITY.issue("second", |_| {});
    renew(&first, files);
    let flags = [format!("--tls-cert={}", cert.display()), format!("--tls-key={}", key.display())];
    let flags = [flags[0].as_str(), flags[1].as_str(), "--log-format=text"];
    let running = Running::start(gateway.address, &flags).await;
    net::tls::note(running.listen, true);
    let before = Peer::connect(running.listen).await;
    assert_eq!(before.stream.certificate(), first.der);
    let mut before = net::open(before, &gateway, &handshake("/"), CONSENT).await;

    renew(&second, files);
    reloads(&running, "done", 1.0).await;
    assert_eq!(shown(&running).await, second.der);
    // Who came before is not disturbed.
    before.gateway.send("still here").await;
    before.client.expect(b"still here").await;

    // A key of another certificate, and then no file at all.
    fs::copy(&first.key, &key).unwrap();
    reloads(&running, "failed", 1.0).await;
    assert_eq!(shown(&running).await, second.der);
    fs::remove_file(&key).unwrap();
    reloads(&running, "failed", 2.0).await;
    assert_eq!(shown(&running).await, second.der);
    let complaints = running.logged().matches("the certificate stays as it was").count();
    assert_eq!(complaints, 2, "{}", running.logged());
    assert_eq!(running.metric("seqgate_tls_certificate_stale").await, 1.0);
    let status = async || net::page(running.admin, "/api/status").await.1;
    assert!(status().await.contains("The certificate for clients can't be renewed."));

    // Kubernetes turns a link.
    fs::remove_file(&cert).unwrap();
    std::os::unix::fs::symlink(&first.cert, &cert).unwrap();
    std::os::unix::fs::symlink(&first.key, &key).unwrap();
    reloads(&running, "done", 2.0).await;
    assert_eq!(shown(&running).await, first.der);
    assert_eq!(running.metric("seqgate_tls_certificate_stale").await, 0.0);
    assert!(status().await.contains("All is well."));
    before.client.send("still here").await;
    before.gateway.expect(b"still here").await;
}
