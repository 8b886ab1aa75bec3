//! The main job at work, on this machine alone: an embedded gateway that repeats itself, seqgate in front of
//! it on real ports, and a client behind it; and the proof that the client saw each event once.

mod client;
mod gateway;

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use self::client::Seen;
use self::gateway::Sent;
use crate::app::{Addresses, App};
use crate::config::{Config, Values};

/// How long it goes on if nobody says.
pub const DEFAULT_TIME: Duration = Duration::from_secs(15);
/// What the last round may take beyond its time before the demo gives up.
const LAST_ROUND: Duration = Duration::from_secs(60);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs the demo; true if the proof holds. Ends after `time`, or earlier when `interrupted` resolves, with the
/// round that has begun.
///
/// # Errors
/// A part of it could not be started, or broke.
pub async fn run(time: Duration, interrupted: impl Future<Output = ()>) -> Result<bool, Error> {
    let screen = Screen::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let gateway_address = listener.local_addr()?;
    let app = bind(gateway_address).await?;
    let Addresses { listen, admin } = app.addresses();
    screen.line(&format!(
        "gateway  an embedded one, on {gateway_address}\n\
         seqgate  in front of it, on {listen}\n\
         status   http://{admin}/ in a browser\n\
         metrics  curl http://{admin}/metrics\n"
    ));

    let mut journal = app.journal().listen();
    let drops = screen.clone();
    tokio::spawn(async move {
        while let Ok(dropped) = journal.recv().await {
            drops.dropped(&dropped);
        }
    });
    let (stop_app, app_stops) = oneshot::channel::<()>();
    let app = tokio::spawn(app.run(async {
        // An error says that the demo broke off: then seqgate stops too.
        let _ = app_stops.await;
    }));
    let (stop, stops) = watch::channel(false);
    let gateway = tokio::spawn(gateway::serve(listener, stops, screen.clone()));
    let client = tokio::spawn(client::watch(listen, screen.clone()));

    let both = both(gateway, client);
    tokio::pin!(both);
    let (sent, seen) = tokio::select! {
        broken = &mut both => broken?,
        () = async { tokio::select! { () = tokio::time::sleep(time) => {}, () = interrupted => {} } } => {
            // An error says that the gateway is gone, which joining it will tell.
            let _ = stop.send(true);
            tokio::time::timeout(LAST_ROUND, both).await??
        }
    };
    let metrics = scrape(admin).await?;
    let _ = stop_app.send(());
    app.await?;
    let (text, holds) = summary(&sent, &seen, &metrics);
    screen.line(&text);
    Ok(holds)
}

/// seqgate on its usual ports, or on any where those are taken.
async fn bind(gateway: SocketAddr) -> Result<App, Error> {
    let mut values = Values::default();
    values.flag("upstream", format!("http://{gateway}"))?;
    values.flag("drain-timeout", "1s".to_owned())?;
    if let Ok(app) = App::bind(Config::new(&values)?).await {
        return Ok(app);
    }
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string();
    values.flag("listen", any.clone())?;
    values.flag("admin-listen", any)?;
    Ok(App::bind(Config::new(&values)?).await?)
}

type Task<T> = JoinHandle<Result<T, tokio_tungstenite::tungstenite::Error>>;

async fn both(gateway: Task<Sent>, client: Task<Seen>) -> Result<(Sent, Seen), Error> {
    let inner = |task: Task<_>| async { Ok::<_, Error>(task.await??) };
    tokio::try_join!(inner(gateway), async { Ok(client.await??) })
}

async fn scrape(admin: SocketAddr) -> Result<String, Error> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Compares what was sent with what was seen; true if every claim holds.
fn summary(sent: &Sent, seen: &Seen, metrics: &str) -> (String, bool) {
    let expected: Result<Vec<Value>, _> = sent.events.iter().map(|text| serde_json::from_str(text)).collect();
    let counter = |labels: &str| {
        let name = format!("seqgate_events_total{{{labels}}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name))?;
        value.parse::<u64>().ok()
    };
    let holes = seen.outer.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    let claims = [
        (
            format!(
                "{} events were sent, {} arrived: each once, in order, unchanged",
                sent.events.len(),
                seen.events.len()
            ),
            expected.is_ok_and(|expected| expected == seen.events) && !seen.events.is_empty(),
        ),
        (
            format!(
                "the outer seq of {} frames rises from 1 to {} with {holes} holes (the gateway's went to {})",
                seen.outer.len(),
                seen.outer.last().copied().unwrap_or_default(),
                sent.outer
            ),
            holes == 0 && seen.outer.first() == Some(&1),
        ),
        (
            format!("{} copies that came soon were dropped as duplicates", sent.duplicates),
            counter(r#"reason="duplicate",verdict="dropped""#) == Some(sent.duplicates),
        ),
        (
            format!("{} copies that came late were dropped as out of order", sent.stale),
            counter(r#"reason="out_of_order",verdict="dropped""#) == Some(sent.stale),
        ),
        (
            format!("{} events overtaken by another stream were kept", sent.late),
            counter(r#"reason="late",verdict="forwarded""#) == Some(sent.late),
        ),
        (
            format!("{} runs whose id was used again were kept", sent.restarts),
            counter(r#"reason="restarted",verdict="forwarded""#) == Some(sent.restarts),
        ),
    ];
    let holds = claims.iter().all(|(_, holds)| *holds);
    let mut text = String::from("\n");
    for (claim, holds) in claims {
        let mark = if holds { "ok    " } else { "BROKEN" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{mark} {claim}");
    }
    text.push_str(if holds { "\nThe proof holds." } else { "\nThe proof does NOT hold." });
    (text, holds)
}

/// Standard output, shared by all who show something.
#[derive(Clone)]
struct Screen {
    colors: bool,
    lock: Arc<std::sync::Mutex<()>>,
}

impl Default for Screen {
    fn default() -> Self {
        Self { colors: std::io::stdout().is_terminal(), lock: Arc::default() }
    }
}

impl Screen {
    fn line(&self, text: &str) {
        let _one_at_a_time = self.lock.lock();
        // Whoever closed the output does not want to see more.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// What of a frame can be shown in a line.
    fn frame(&self, who: &str, text: &str, note: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        let field = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            Value::String(s) => s.clone(),
            other => other.to_string(),
        };
        let payload = &frame["payload"];
        if payload["runId"].is_null() {
            return;
        }
        let kind = if payload["stream"].is_null() { &frame["event"] } else { &payload["stream"] };
        self.colored(
            if who == "client" { 32 } else { 0 },
            &format!(
                "{who:8} {:10} seq {:>3}  {:10} outer {:>4}  {note}",
                field(&payload["runId"]),
                field(&payload["seq"]),
                field(kind),
                field(&frame["seq"]),
            ),
        );
    }

    fn dropped(&self, dropped: &crate::sieve::Dropped) {
        let line = format!(
            "seqgate  dropped    seq {:>3}  {} (run #{:016x})",
            dropped.seq,
            dropped.verdict.name(),
            dropped.run.short(),
        );
        self.colored(31, &line);
    }

    fn colored(&self, color: u8, line: &str) {
        let line = line.trim_end();
        if self.colors && color > 0 {
            self.line(&format!("\x1b[{color}m{line}\x1b[0m"));
        } else {
            self.line(line);
        }
    }
}
