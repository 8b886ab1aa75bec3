//! The clients' end: every event has to arrive once, in order, with the right bytes.
//!
//! What is measured from outside is measured between the steps: each step is announced by a line on standard
//! output, and the next begins when a line comes on standard input.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use bench::events::Plan;
use bench::expected::Expected;
use bench::handshake::{self, GO};
use bench::wrong;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stdin};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes read at once.
const READ: usize = 256 * 1024;
/// Events are lost if nothing comes for so long.
const SILENCE: Duration = Duration::from_secs(20);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// Opens connections, takes all events of all of them, closes them.
pub(crate) async fn run(address: &str, connections: usize, plan: Plan) -> io::Result<()> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(handshake::open(address, &plan.target()).await?);
    }
    step("open").await?;

    let start = Instant::now();
    let tasks: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(receive(stream, plan))).collect();
    let mut streams = Vec::new();
    let mut delays = Vec::new();
    for task in tasks {
        let (stream, expected) = task.await??;
        streams.push(stream);
        delays.extend(expected.delays);
    }
    let seconds = start.elapsed().as_secs_f64();
    let events = plan.events * connections as u64;
    delays.sort_unstable();
    let percentile = |percent: usize| delays.get(delays.len() * percent / 100).copied().unwrap_or_default();
    let (p50, p99) = (percentile(50), percentile(99));
    step(&format!(r#"{{"events":{events},"seconds":{seconds:.6},"p50_ns":{p50},"p99_ns":{p99}}}"#)).await?;

    for stream in &mut streams {
        handshake::close(stream).await?;
    }
    println!("closed");
    Ok(())
}

async fn receive(mut stream: TcpStream, plan: Plan) -> io::Result<(TcpStream, Expected)> {
    let mut expected = Expected::new(plan);
    stream.write_all(GO).await?;
    while !expected.is_complete() {
        timeout(SILENCE, stream.readable())
            .await
            .map_err(|_| wrong("silence before the last event".to_owned()))??;
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let read = stream.try_read(scratch)?;
            expected.take(&scratch[..read])?;
            Ok::<_, io::Error>(read)
        });
        match read {
            Ok(0) => return Err(wrong("the end before the last event".to_owned())),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    Ok((stream, expected))
}

/// Opens and closes connections, `workers` at a time, `count` in all.
pub(crate) async fn handshakes(address: &str, count: usize, workers: usize) -> io::Result<()> {
    step("open").await?;
    let start = Instant::now();
    let shares = (0..workers).map(|worker| count / workers + usize::from(worker < count % workers));
    let tasks: Vec<_> = shares.map(|share| tokio::spawn(open_and_close(address.to_owned(), share))).collect();
    for task in tasks {
        task.await??;
    }
    let seconds = start.elapsed().as_secs_f64();
    step(&format!(r#"{{"events":{count},"seconds":{seconds:.6}}}"#)).await?;
    println!("closed");
    Ok(())
}

async fn open_and_close(address: String, times: usize) -> io::Result<()> {
    for _ in 0..times {
        handshake::close(&mut handshake::open(&address, "/").await?).await?;
    }
    Ok(())
}

/// Says what is done, and waits to be told to go on.
async fn step(done: &str) -> io::Result<()> {
    println!("{done}");
    BufReader::new(stdin()).read_line(&mut String::new()).await.map(drop)
}
