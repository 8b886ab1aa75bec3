//! `seqgate healthcheck`: exit code and one line, from the settings of the seqgate that it asks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::net::SocketAddr;
use std::process::{Command, Output};

use net::{DeadAddress, Gateway, Seqgate, house, websocket};

async fn healthcheck(admin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seqgate"));
    command.arg("healthcheck").env_clear().env("SEQGATE_ADMIN_LISTEN", admin);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// It has failed; with which line.
fn reason(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    line.trim_end().strip_prefix("seqgate: not ready: ").unwrap_or_else(|| panic!("{line}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_seqgate_is_healthy_on_whatever_address_its_setting_means() {
    for listen in ["127.0.0.1", "0.0.0.0", "[::]"] {
        let gateway = Gateway::bind().await;
        let setting = format!("{listen}:0");
        let seqgate = Seqgate::start(gateway.address, &[("admin-listen", &setting)]).await;
        let output = healthcheck(&format!("{listen}:{}", seqgate.addresses.admin.port())).await;
        assert_eq!(output.status.code(), Some(0), "{listen}: {output:?}");
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"ready\n"[..], &b""[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unready_seqgate_is_unhealthy_and_the_line_says_why() {
    let dead = DeadAddress::new();
    let seqgate = Seqgate::start(dead.address, &[]).await;
    let line = reason(&healthcheck(&seqgate.addresses.admin.to_string()).await);
    assert_eq!(line, "the gateway refused the connection: nothing listens on its port");

    let (gateway, mut seqgate) = house(&[("drain-timeout", "1h")]).await;
    let held = websocket(&seqgate, &gateway, "/").await;
    seqgate.stop();
    let admin = seqgate.addresses.admin;
    net::eventually("the drain", async || seqgate.admin("/readyz").await.0 == 503).await;
    assert_eq!(reason(&healthcheck(&admin.to_string()).await), "draining");
    drop(held);
    seqgate.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_or_is_something_else_is_unhealthy() {
    let dead = DeadAddress::new();
    let line = reason(&healthcheck(&dead.address.to_string()).await);
    assert!(line.starts_with(&format!("no answer from {}: ", dead.address)), "{line}");

    let silent = Gateway::bind().await;
    let line = reason(&healthcheck(&silent.address.to_string()).await);
    assert_eq!(line, format!("no answer from {} within 3s", silent.address));

    for answer in
        ["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "220 mail.example ESMTP\r\n", "\r\n"]
    {
        let other = Gateway::bind().await;
        let address: SocketAddr = other.address;
        let asked = tokio::spawn(async move { healthcheck(&address.to_string()).await });
        let mut peer = other.accept().await;
        peer.head().await;
        peer.send(answer).await;
        drop(peer);
        assert_eq!(reason(&asked.await.unwrap()), format!("{address} answers, but is no seqgate"));
    }
}

#[test]
fn bad_settings_are_not_taken_for_an_unhealthy_seqgate() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seqgate"));
    let output = command.args(["healthcheck", "--admin-listen", "here"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
}
