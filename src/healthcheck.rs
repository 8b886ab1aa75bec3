//! Asks a seqgate that runs beside this process whether it is ready: the probe where nothing but a program can be
//! run, as in a container without a shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the whole question; `/readyz` itself answers within a second.
const LIMIT: Duration = Duration::from_secs(3);
/// An answer has some hundred bytes.
const ANSWER: u64 = 64 * 1024;

/// Asks the seqgate with this admin address.
///
/// # Errors
/// Why it is not ready, in a line.
pub async fn ask(admin: SocketAddr) -> Result<(), String> {
    let address = reachable(admin);
    let answer = match timeout(LIMIT, get(address, "/readyz")).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("no answer from {address}: {error}")),
        Err(_) => return Err(format!("no answer from {address} within {LIMIT:?}")),
    };
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let reason = serde_json::from_str::<serde_json::Value>(body).ok();
    let reason = reason.as_ref().and_then(|body| body["reason"].as_str());
    Err(reason.map_or_else(|| format!("{address} answers, but is no seqgate"), str::to_owned))
}

/// Where a listener is reached from its own host.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
