//! A gateway for the demo: it greets like the real one, then emits runs whose events come twice, late, stale or
//! with a run id that is used again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Screen;

/// Pause between two frames, so that one can follow them.
const PACE: Duration = Duration::from_millis(40);
/// More events than the filter has fingerprints for: what comes again behind them is stale, not a duplicate.
const LONG_RUN: u64 = 40;

/// What the gateway did.
#[derive(Default)]
pub(super) struct Sent {
    /// The payloads of all events that were sent for the first time, in order.
    pub(super) events: Vec<String>,
    /// Events that were overtaken by another stream of their run: late, and to be kept.
    pub(super) late: u64,
    /// Run ids that were used again.
    pub(super) restarts: u64,
    /// Copies that were sent at once or soon.
    pub(super) duplicates: u64,
    /// Copies that were sent after many other events of their run.
    pub(super) stale: u64,
    /// The highest outer seq that was used.
    pub(super) outer: u64,
}

/// The outer seq of a copy.
#[derive(Clone, Copy)]
enum OuterSeq {
    /// The one of the frame before it.
    Same,
    /// None, as for targeted frames.
    Absent,
    /// The next one: leaving it out would leave a hole.
    Next,
}

/// Serves one client: rounds of runs, at least one, until told to stop; then a close.
pub(super) async fn serve(
    listener: TcpListener,
    stop: watch::Receiver<bool>,
    screen: Screen,
) -> Result<Sent, Error> {
    let (stream, _) = listener.accept().await?;
    let mut session =
        Session { ws: tokio_tungstenite::accept_async(stream).await?, sent: Sent::default(), screen };
    session.greet().await?;
    let mut round = 0;
    loop {
        round += 1;
        session.round(round).await?;
        if *stop.borrow() {
            break;
        }
    }
    session.ws.close(None).await?;
    while let Some(Ok(_)) = session.ws.next().await {}
    Ok(session.sent)
}

struct Session {
    ws: WebSocketStream<TcpStream>,
    sent: Sent,
    screen: Screen,
}

/// A run that emits events.
struct Run {
    id: String,
    seq: u64,
}

impl Run {
    fn new(id: String) -> Self {
        Self { id, seq: 0 }
    }

    /// The next event of the run, which is not sent by this.
    fn event(&mut self, stream: &str, data: &str) -> String {
        self.seq += 1;
        format!(
            r#"{{"runId":"{}","stream":"{stream}","data":{data},"sessionKey":"agent:main:demo","seq":{},"ts":{}}}"#,
            self.id,
            self.seq,
            now()
        )
    }

    fn text(&mut self) -> String {
        let words = format!(r#"{{"text":"word {0} of \"{1}\"","delta":"{0}"}}"#, self.seq, self.id);
        self.event("assistant", &words)
    }
}

impl Session {
    async fn greet(&mut self) -> Result<(), Error> {
        let nonce = r#"{"type":"event","event":"connect.challenge","payload":{"nonce":"demo"}}"#;
        self.ws.send(Message::text(nonce)).await?;
        while let Some(message) = self.ws.next().await {
            if message?.is_text() {
                let hello = r#"{"type":"res","id":"1","ok":true,"payload":{"type":"hello-ok","protocol":4}}"#;
                return self.ws.send(Message::text(hello)).await;
            }
        }
        Err(Error::ConnectionClosed)
    }

    /// Three runs at once: a long one, one with tools, and one whose id is used again.
    async fn round(&mut self, n: u64) -> Result<(), Error> {
        let mut long = Run::new(format!("long-{n}"));
        let mut tools = Run::new(format!("tools-{n}"));
        let mut again = Run::new(format!("again-{n}"));
        for run in [&mut long, &mut tools, &mut again] {
            let start = run.event("lifecycle", r#"{"phase":"start"}"#);
            self.emit(&start).await?;
        }
        let first_word = long.text();
        self.emit(&first_word).await?;

        // Text is paced, tools are not: the text event is overtaken by its own run, and must not be lost.
        let paced = tools.text();
        for phase in ["start", "update", "result"] {
            let tool = tools.event("tool", &format!(r#"{{"phase":"{phase}","name":"exec"}}"#));
            self.emit(&tool).await?;
            self.again(&tool, OuterSeq::Same).await?;
        }
        self.sent.late += 1;
        self.emit(&paced).await?;
        self.again(&paced, OuterSeq::Next).await?;

        for i in 0..LONG_RUN {
            let word = long.text();
            self.emit(&word).await?;
            match i % 8 {
                2 => self.again(&word, OuterSeq::Absent).await?,
                5 => self.again(&word, OuterSeq::Next).await?,
                7 => self.chat(&long).await?,
                _ => {}
            }
            if i % 10 == 4 {
                let word = again.text();
                self.emit(&word).await?;
                self.again(&word, OuterSeq::Same).await?;
            }
        }
        self.sent.duplicates -= 1;
        self.sent.stale += 1;
        self.again(&first_word, OuterSeq::Next).await?;

        for run in [&mut long, &mut tools, &mut again] {
            let end = run.event("lifecycle", r#"{"phase":"end"}"#);
            self.emit(&end).await?;
            self.again(&end, OuterSeq::Next).await?;
        }

        // The id is used again: it starts at 1, newer than before, and all of it is new.
        let mut again = Run::new(again.id);
        self.sent.restarts += 1;
        let start = again.event("lifecycle", r#"{"phase":"start"}"#);
        self.emit(&start).await?;
        let word = again.text();
        self.emit(&word).await?;
        let end = again.event("lifecycle", r#"{"phase":"end"}"#);
        self.emit(&end).await
    }

    /// An event for the first time.
    async fn emit(&mut self, payload: &str) -> Result<(), Error> {
        self.sent.outer += 1;
        self.sent.events.push(payload.to_owned());
        self.send("agent", payload, Some(self.sent.outer), "").await
    }

    /// An event that the client has been sent before.
    async fn again(&mut self, payload: &str, number: OuterSeq) -> Result<(), Error> {
        self.sent.duplicates += 1;
        let outer = match number {
            OuterSeq::Same => Some(self.sent.outer),
            OuterSeq::Absent => None,
            OuterSeq::Next => {
                self.sent.outer += 1;
                Some(self.sent.outer)
            }
        };
        self.send("agent", payload, outer, "again").await
    }

    /// A chat event repeats the numbers of the agent event beside it, and is none of the filter's business.
    async fn chat(&mut self, run: &Run) -> Result<(), Error> {
        self.sent.outer += 1;
        let payload = format!(r#"{{"runId":"{}","seq":{},"state":"delta"}}"#, run.id, run.seq);
        self.send("chat", &payload, Some(self.sent.outer), "").await
    }

    async fn send(
        &mut self,
        event: &str,
        payload: &str,
        outer: Option<u64>,
        note: &str,
    ) -> Result<(), Error> {
        let outer_field = outer.map(|seq| format!(r#","seq":{seq}"#)).unwrap_or_default();
        let text = format!(r#"{{"type":"event","event":"{event}","payload":{payload}{outer_field}}}"#);
        self.screen.frame("gateway", &text, note);
        self.ws.send(Message::text(text)).await?;
        tokio::time::sleep(PACE).await;
        Ok(())
    }
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}
