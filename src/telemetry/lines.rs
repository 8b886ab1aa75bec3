//! Lines on their way to standard error. Whoever logs never waits: a thread of its own writes. Where nobody reads what
//! it has written, further lines are lost, and counted.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use super::seldom::EVERY;

/// Lines that wait, at most. One has some hundred bytes.
const WAITING: usize = 1024;
/// How long the end of the process waits for its last lines.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks whether there is room for asking.
const LOOK: Duration = Duration::from_millis(10);

thread_local! {
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

enum Message {
    Line(Vec<u8>),
    /// Answered when all lines before it have been written.
    Flush(SyncSender<()>),
}

/// The way to standard error.
#[derive(Clone)]
pub(super) struct Lines {
    sender: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    /// Begins to write.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn begin() -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let lines = Self { sender, lost: Arc::clone(&lost) };
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write(&receiver, &lost))?;
        Ok(lines)
    }

    /// Waits until what was logged before has been written, as far as somebody reads it.
    pub(super) fn flush(&self) {
        let end = Instant::now() + PATIENCE;
        let left = || end.saturating_duration_since(Instant::now());
        let (done, written) = sync_channel(1);
        while self.sender.try_send(Message::Flush(done.clone())).is_err() {
            if left().is_zero() {
                return;
            }
            std::thread::sleep(LOOK);
        }
        // An error says that it took too long.
        let _ = written.recv_timeout(left());
    }
}

fn write(lines: &Receiver<Message>, lost: &AtomicU64) {
    IS_WRITER.set(true);
    let (mut said, mut next) = (0, Instant::now());
    loop {
        let is_unsaid = lost.load(Relaxed) > said;
        // Also where no line follows, it is said in the end.
        let wait = if is_unsaid { next.saturating_duration_since(Instant::now()) } else { Duration::MAX };
        let mut asked = None;
        match lines.recv_timeout(wait) {
            // Of a log that can't be written nobody can be told.
            Ok(Message::Line(line)) => drop(io::stderr().write_all(&line)),
            Ok(Message::Flush(done)) => asked = Some(done),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let lost = lost.load(Relaxed);
        if lost > said && (asked.is_some() || Instant::now() >= next) {
            said = lost;
            next = Instant::now() + EVERY;
            tracing::warn!(lost, "lines of the log were lost: they were not read in time");
        }
        if let Some(done) = asked {
            // An error says that nobody waits any more.
            let _ = done.try_send(());
        }
    }
}

impl Write for &Lines {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if IS_WRITER.get() {
            // Its own line would find no room where most is lost.
            drop(io::stderr().write_all(line));
        } else if self.sender.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}
