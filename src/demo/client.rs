//! A client for the demo: connects through seqgate and notes what it sees.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Screen;

/// What the client has seen.
#[derive(Default)]
pub(super) struct Seen {
    /// The payloads of all agent events, in order.
    pub(super) events: Vec<Value>,
    /// The outer seq of all frames that had one, in order.
    pub(super) outer: Vec<u64>,
}

/// Connects and reads until the gateway closes.
pub(super) async fn watch(seqgate: SocketAddr, screen: Screen) -> Result<Seen, Error> {
    let (mut ws, _) = tokio_tungstenite::connect_async(format!("ws://{seqgate}/")).await?;
    let mut seen = Seen::default();
    while let Some(message) = ws.next().await {
        let Message::Text(text) = message? else { continue };
        let Ok(mut frame) = serde_json::from_str::<Value>(&text) else { continue };
        match frame["event"].as_str() {
            Some("connect.challenge") => {
                let connect = r#"{"type":"req","id":"1","method":"connect","params":{}}"#;
                ws.send(Message::text(connect)).await?;
                continue;
            }
            Some("agent") => seen.events.push(frame["payload"].take()),
            _ => {}
        }
        seen.outer.extend(frame["seq"].as_u64());
        screen.frame("client", &text, "");
    }
    Ok(seen)
}
