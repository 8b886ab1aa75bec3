//! The upgrade to WebSocket from both ends, and the frames besides events.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use crate::wrong;

/// A client's text message "go", masked with zeros.
pub const GO: &[u8; 8] = b"\x81\x82\0\0\0\0go";
/// A client's Close 1000, masked with zeros.
pub const CLOSE: &[u8; 8] = b"\x88\x82\0\0\0\0\x03\xe8";
/// The gateway's Close 1000.
pub const CLOSED: &[u8; 4] = b"\x88\x02\x03\xe8";

/// Any 16 bytes would do; these are RFC 6455's.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// Larger than any head here.
const MAX_HEAD: usize = 8 * 1024;

/// Asks for an upgrade of `target` and checks the answer.
///
/// # Errors
/// There is no gateway, or it does not upgrade.
pub async fn open(address: &str, target: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let answer = head(&mut stream).await?;
    let accept = header(&answer, "sec-websocket-accept");
    if !answer.starts_with("HTTP/1.1 101 ") || accept != Some(&derive_accept_key(KEY.as_bytes())) {
        return Err(wrong(format!("not an upgrade: {answer:?}")));
    }
    Ok(stream)
}

/// Grants an upgrade; returns the request's target.
///
/// # Errors
/// Nobody asks for one.
pub async fn accept(stream: &mut TcpStream) -> io::Result<String> {
    let request = head(stream).await?;
    let key = header(&request, "sec-websocket-key").ok_or_else(|| wrong(format!("no key: {request:?}")))?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(request.split(' ').nth(1).unwrap_or_default().to_owned())
}

/// Says goodbye; nothing but the gateway's goodbye and its end may come.
///
/// # Errors
/// Something else came.
pub async fn close(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(CLOSE).await?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    if rest != CLOSED {
        return Err(wrong(format!("{} bytes where only a Close should be", rest.len())));
    }
    Ok(())
}

/// A head up to its empty line. Neither end says more before the other has answered.
async fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Err(wrong(format!("not a head: {:?}", String::from_utf8_lossy(&head))));
        }
    }
    String::from_utf8(head).map_err(|_| wrong("a head that is not text".to_owned()))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
