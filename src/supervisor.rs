//! What systemd wants to hear of a `Type=notify` unit: sd_notify(3). For anybody else there is no NOTIFY_SOCKET, and
//! nothing is said.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// seqgate listens.
pub fn ready() {
    tell("READY=1\n");
}

/// seqgate drains and may take so long, even where `TimeoutStopSec` is shorter.
pub fn stopping(patience: Duration) {
    tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\n", patience.as_micros()));
}

fn tell(words: &str) {
    if let Some(Err(error)) = env::var_os("NOTIFY_SOCKET").map(|name| send(&name, words)) {
        tracing::warn!(%error, "NOTIFY_SOCKET can't be written to");
    }
}

fn send(name: &OsStr, words: &str) -> io::Result<()> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // Whoever does not listen keeps no client waiting.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(words.as_bytes(), &address).map(drop)
}
