//! Lines on their way to standard error. Whoever logs never waits: a thread of its own writes. Where nobody reads what
//! it has written, further lines are lost, and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait, at most. One has some hundred bytes.
const WAITING: usize = 1024;
/// How long the end of the process waits for its last lines.
const PATIENCE: Duration = Duration::from_secs(1);

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
        let (done, written) = sync_channel(1);
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            // An error says that it took too long.
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

fn write(lines: &Receiver<Message>, lost: &AtomicU64) {
    let mut said = 0;
    for message in lines {
        match message {
            // Of a log that can't be written nobody can be told.
            Message::Line(line) => drop(io::stderr().write_all(&line)),
            Message::Flush(done) => drop(done.try_send(())),
        }
        // In all: this line may be lost too, and the next one then says so.
        let lost = lost.load(Relaxed);
        if lost > said {
            said = lost;
            tracing::warn!(lost, "lines of the log were lost: they were not read in time");
        }
    }
}

impl Write for &Lines {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Message::Line(line.to_vec())).is_err() {
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
