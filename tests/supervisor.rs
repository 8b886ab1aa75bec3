//! What systemd is told, as a unit with `Type=notify` hears it: sd_notify(3).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use net::program::{Running, output, program};
use net::{CONSENT, Gateway, Peer, handshake};

/// A service manager's ear, and how it is named to whom it starts.
struct Supervisor {
    socket: UnixDatagram,
    name: String,
}

impl Supervisor {
    fn new(test: &str) -> Self {
        let name = format!("seqgate-{test}-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, name: format!("@{name}") }
    }

    /// What came next, once it has come.
    async fn hears(&self) -> String {
        let mut heard = None;
        net::eventually("a word to the supervisor", async || {
            heard = self.heard();
            heard.is_some()
        })
        .await;
        heard.unwrap()
    }

    fn heard(&self) -> Option<String> {
        let mut room = [0; 256];
        match self.socket.recv(&mut room) {
            Ok(len) => Some(String::from_utf8(room[..len].to_vec()).unwrap()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_when_it_is_up_and_how_long_its_drain_may_take() {
    let supervisor = Supervisor::new("up");
    let gateway = Gateway::bind().await;
    let mut seqgate = program();
    let seqgate = seqgate.env("NOTIFY_SOCKET", &supervisor.name);
    let mut running = Running::start_as(seqgate, gateway.address, &["--drain-timeout=1h"]).await.unwrap();
    assert_eq!(supervisor.hears().await, "READY=1\n");
    let held = net::open(Peer::connect(running.listen).await, &gateway, &handshake("/"), CONSENT).await;
    assert_eq!(supervisor.heard(), None);

    running.signal("TERM");
    // An hour, the goodbyes, and some seconds more.
    assert_eq!(supervisor.hears().await, "STOPPING=1\nEXTEND_TIMEOUT_USEC=3609000000\n");
    assert!(running.child.try_wait().unwrap().is_none());
    drop(held);
    assert_eq!(running.exit().await.code(), Some(0));
    assert_eq!(supervisor.heard(), None);
}

#[test]
fn who_cannot_start_never_says_that_it_has() {
    let supervisor = Supervisor::new("never");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    for (flags, code) in [(["--admin-listen=127.0.0.1:0", &listen], 71), (["--mode", "?"], 64)] {
        let (output, _, err) = output(program().env("NOTIFY_SOCKET", &supervisor.name).args(flags));
        assert_eq!(output.status.code(), Some(code), "{err}");
        assert_eq!(supervisor.heard(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_is_not_there_is_a_warning_and_no_more() {
    let gateway = Gateway::bind().await;
    let mut seqgate = program();
    let seqgate = seqgate.env("NOTIFY_SOCKET", "/nowhere/notify");
    let mut running = Running::start_as(seqgate, gateway.address, &[]).await.unwrap();
    running.logs("NOTIFY_SOCKET").await;
    let held = net::open(Peer::connect(running.listen).await, &gateway, &handshake("/"), CONSENT).await;
    drop(held);
    running.signal("TERM");
    assert_eq!(running.exit().await.code(), Some(0));
}
