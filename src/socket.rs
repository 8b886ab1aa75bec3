//! What every socket of a client or of the gateway is set to.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A peer that vanished without a word is noticed after `IDLE + RETRIES * INTERVAL` of silence; if it vanished
/// with something unacknowledged, when the system gives up sending it again (Linux: tcp_retries2).
const IDLE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(15);
const RETRIES: u32 = 4;

/// Small frames do not wait for each other's acknowledgement, and peers that are gone do not keep their place.
pub fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(INTERVAL).with_retries(RETRIES);
    // Where these fail, the connection is gone already, and reading will say so.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}
