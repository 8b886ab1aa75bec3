//! Requests, answers, and seqgate's own.

use serde_json::Value;

use super::{Answer, Gateway, Peer, value};

/// An answer in two bytes.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Sends a request and hands out the gateway's end with the head it got.
pub async fn ask(client: &mut Peer, gateway: &Gateway, request: &str) -> (Peer, String) {
    client.send(request).await;
    let mut server = gateway.accept().await;
    let head = server.head().await;
    (server, head)
}

/// Answers the next request, on the connection that was kept or on a new one: either is right.
pub async fn serve(mut kept: Peer, gateway: &Gateway, target: &str, answer: &str) -> Peer {
    let accepting = gateway.accept();
    tokio::pin!(accepting);
    let head = tokio::select! {
        head = kept.head_or_end() => head,
        new = &mut accepting => {
            kept = new;
            Some(kept.head().await)
        }
    };
    let head = match head {
        Some(head) => head,
        None => {
            kept = accepting.await;
            kept.head().await
        }
    };
    assert!(head.contains(&format!(" {target} HTTP/1.1\r\n")), "{head}");
    kept.send(answer).await;
    kept
}

/// Asserts that an answer is seqgate's own, and says why.
#[track_caller]
pub fn assert_own(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status, status, "{}", answer.head);
    assert_eq!(value(&answer.head, "content-type"), Some("application/json"), "{}", answer.head);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"]["source"], "seqgate");
    assert_eq!(body["error"]["code"], code);
    body["error"]["message"].as_str().unwrap().to_owned()
}
