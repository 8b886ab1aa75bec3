//! The gateway's end: each connection asks for a plan and is sent its events.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bench::events::{Events, Plan};
use bench::expected::now;
use bench::handshake::{self, CLOSE, CLOSED, GO};
use bench::wrong;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_blocking;

/// Bytes written at once at full speed.
const WRITE: usize = 128 * 1024;

/// Serves for ever.
pub(crate) async fn serve(listen: &str) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            if let Err(error) = connection(stream).await {
                eprintln!("gateway: {error}");
            }
        });
    }
}

async fn connection(mut stream: TcpStream) -> io::Result<()> {
    let target = handshake::accept(&mut stream).await?;
    let mut word = [0; GO.len()];
    loop {
        if stream.read(&mut word[..1]).await? == 0 {
            // A client that gave up has said why.
            return Ok(());
        }
        stream.read_exact(&mut word[1..]).await?;
        match &word {
            CLOSE => break,
            GO => {
                let plan = Plan::from_target(&target).ok_or_else(|| wrong(format!("no plan: {target:?}")))?;
                if plan.rate == 0 {
                    full_speed(&mut stream, plan).await?;
                } else {
                    stream = paced(stream, plan).await?;
                }
            }
            _ => return Err(wrong(format!("neither go nor goodbye: {word:?}"))),
        }
    }
    stream.write_all(CLOSED).await?;
    stream.shutdown().await
}

async fn full_speed(stream: &mut TcpStream, plan: Plan) -> io::Result<()> {
    let mut events = Events::new(plan.size, plan.runs);
    let mut batch = Vec::new();
    for _ in 0..plan.events {
        if !batch.is_empty() && batch.len() + events.frame().len() > WRITE {
            stream.write_all(&batch).await?;
            batch.clear();
        }
        batch.extend_from_slice(events.frame());
        events.advance();
    }
    stream.write_all(&batch).await
}

/// On a thread of its own: the runtime's clock ticks in milliseconds, which would send the events of all connections
/// at the same moment.
async fn paced(stream: TcpStream, plan: Plan) -> io::Result<TcpStream> {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let period = Duration::from_secs(1) / plan.rate;
    // The golden ratio's multiples spread connections over a period, however many they are.
    let phase = (CONNECTIONS.fetch_add(1, Relaxed) as f64 * 0.618_034).fract();
    let mut stream = stream.into_std()?;
    let sent = spawn_blocking(move || {
        stream.set_nonblocking(false)?;
        let mut events = Events::new(plan.size, plan.runs);
        let mut due = Instant::now() + period.mul_f64(phase);
        for _ in 0..plan.events {
            sleep(due.saturating_duration_since(Instant::now()));
            events.set_stamp(now());
            stream.write_all(events.frame())?;
            events.advance();
            due += period;
        }
        stream.set_nonblocking(true)?;
        Ok::<_, io::Error>(stream)
    });
    TcpStream::from_std(sent.await??)
}
