//! One direction of a relay: read, sift, write, and read again only when all of it was taken. That loop is the
//! backpressure; there is no queue.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use crate::sieve::Step;
use crate::socket::{Reader, Writer};

/// Bytes read at once. Large, because what a relay costs is its system calls; shared by all connections of a
/// worker thread, because it is empty between them.
pub(crate) const READ: usize = 128 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// What happens to the bytes of a direction on their way.
pub(super) trait Sift {
    /// New bytes are there.
    fn tick(&mut self, read: usize);
    /// As [`crate::sieve::Sieve::step`].
    fn step(&mut self, window: &mut [u8]) -> Step;
    /// All steps for the new bytes are done; whether there are bytes that could not be decided about.
    fn settle(&mut self, undecided: bool);
    /// The source has ended; what is held goes on as it is.
    fn end(&mut self);
    /// Time went by in which the destination did not take what it was sent.
    fn blocked(&mut self, time: Duration);
    /// When [`Sift::ring`] wants to be called, if at all.
    fn alarm(&self) -> Option<Instant>;
    /// The alarm's time has come; steps for the undecided bytes may be possible that were not before.
    fn ring(&mut self, undecided: &[u8]);
    /// No more steps are to be asked for before [`Sift::poll_resume`] says so.
    fn is_paused(&self) -> bool {
        false
    }
    fn poll_resume(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
    /// What is to be written behind what has passed so far, if anything; else the task is woken for it.
    fn poll_interjection(&mut self, _: &mut Context<'_>) -> Poll<Vec<u8>> {
        Poll::Pending
    }
    /// The source has said what nobody may say: the connection has to end.
    fn is_broken(&self) -> bool {
        false
    }
}

/// Whose connection broke.
pub(super) enum Broken {
    Source,
    Destination,
}

/// One direction. Its state survives when the future that drives it is dropped.
pub(super) struct Pump<S> {
    pub(super) sift: S,
    /// `held[written..decided]` waits to be written, `held[decided..]` to be decided about;
    /// `written <= decided <= held.len()`. No memory while it is empty.
    held: Vec<u8>,
    written: usize,
    decided: usize,
    /// The sift's alarm, kept between reads: setting a timer costs more than leaving it.
    clock: Option<(Instant, Pin<Box<Sleep>>)>,
    /// The sift has stopped before what could be decided: nothing is read before it goes on.
    paused: bool,
}

/// What one round of a pump brought.
enum Round {
    /// So many bytes; 0 at the end.
    Read(usize),
    Alarm,
    Resume,
    /// Bytes of our own.
    Interjection(Vec<u8>),
}

impl<S: Sift> Pump<S> {
    pub(super) fn new(sift: S) -> Self {
        Self { sift, held: Vec::new(), written: 0, decided: 0, clock: None, paused: false }
    }

    /// Takes bytes that were read before the relay began.
    pub(super) fn begin(&mut self, early: &[u8], to: &Writer<'_>) -> Result<(), Broken> {
        if early.is_empty() { Ok(()) } else { self.take(&mut early.to_vec(), to) }
    }

    /// Moves all that comes until the source ends; then ends the destination's direction too.
    pub(super) async fn run(&mut self, from: &mut Reader<'_>, to: &mut Writer<'_>) -> Result<(), Broken> {
        while self.advance(from, to).await? > 0 {}
        self.finish(from, to).await
    }

    /// One round: writes what waits, then reads and sifts once. Returns how much was read, 0 at the end.
    pub(super) async fn advance(
        &mut self,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
    ) -> Result<usize, Broken> {
        loop {
            self.flush(from, to).await?;
            match poll_fn(|cx| self.poll_round(cx, from, to)).await? {
                Round::Read(n) => return Ok(n),
                Round::Alarm => {
                    self.sift.ring(&self.held[self.decided..]);
                    self.take(&mut [], to)?;
                }
                Round::Resume => self.take(&mut [], to)?,
                Round::Interjection(bytes) => {
                    // Nothing is waiting: what is held is undecided.
                    self.decided = bytes.len();
                    self.held.splice(..0, bytes);
                }
            }
        }
    }

    fn poll_round(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Reader<'_>,
        to: &Writer<'_>,
    ) -> Poll<Result<Round, Broken>> {
        if let Poll::Ready(bytes) = self.sift.poll_interjection(cx) {
            return Poll::Ready(Ok(Round::Interjection(bytes)));
        }
        if self.paused {
            ready!(self.sift.poll_resume(cx));
            self.paused = false;
            return Poll::Ready(Ok(Round::Resume));
        }
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(from).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Source)),
                Poll::Ready(Ok(())) => {}
            }
            let chunk = buffer.filled_mut();
            if !chunk.is_empty() {
                self.take(chunk, to)?;
            }
            Poll::Ready(Ok(Round::Read(chunk.len())))
        });
        if read.is_pending() && self.poll_alarm(cx).is_ready() {
            return Poll::Ready(Ok(Round::Alarm));
        }
        read
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(alarm) = self.sift.alarm() else { return Poll::Pending };
        let (at, clock) = self.clock.get_or_insert_with(|| (alarm, Box::pin(sleep_until(alarm.into()))));
        if *at != alarm {
            *at = alarm;
            clock.as_mut().reset(alarm.into());
        }
        ready!(clock.as_mut().poll(cx));
        self.clock = None;
        Poll::Ready(())
    }

    /// Sifts new bytes and writes what may leave, as far as it is taken at once. Nothing may be waiting.
    fn take(&mut self, chunk: &mut [u8], to: &Writer<'_>) -> Result<(), Broken> {
        self.sift.tick(chunk.len());
        let (leaves, undecided) = self.sift_chunk(chunk);
        self.sift.settle(undecided < chunk.len() || self.decided < self.held.len());
        if self.sift.is_broken() {
            return Err(Broken::Source);
        }
        let written = match try_write(to, &self.held[..self.decided], &chunk[leaves.clone()]) {
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return Err(Broken::Destination),
        };
        let of_held = written.min(self.decided);
        self.held.drain(..of_held);
        self.decided -= of_held;
        if self.held.len() == self.decided {
            self.held.extend_from_slice(&chunk[leaves.start + (written - of_held)..leaves.end]);
            self.decided = self.held.len();
            self.held.extend_from_slice(&chunk[undecided..]);
        }
        self.tidy();
        Ok(())
    }

    /// Decides about the held bytes and then about the chunk. Where a message was begun in earlier chunks, only
    /// what it still needs is copied behind them. Returns where in the chunk the bytes that leave have been
    /// put together, and where those begin that can't be decided about yet.
    fn sift_chunk(&mut self, chunk: &mut [u8]) -> (Range<usize>, usize) {
        // Dropped bytes are `held[decided..read]`; they are removed once, however many drops they are.
        let mut read = self.decided;
        let at = self.sift_held(chunk, &mut read);
        self.held.drain(self.decided..read);
        let Some(mut at) = at else { return (chunk.len()..chunk.len(), chunk.len()) };
        if self.decided < self.held.len() {
            return (at..at, at);
        }
        let start = at;
        let mut end = at;
        while at < chunk.len() {
            if self.sift.is_paused() {
                self.paused = true;
                break;
            }
            match self.sift.step(&mut chunk[at..]) {
                Step::Pass(n) => {
                    if end != at {
                        chunk.copy_within(at..at + n, end);
                    }
                    end += n;
                    at += n;
                }
                Step::Drop(n, _) => at += n,
                Step::More(_) => break,
            }
        }
        (start..end, at)
    }

    /// Decides about `held[read..]`, to which the start of the chunk is appended as far as it is needed. Returns how
    /// much of the chunk was; `None` if all of it, because the sift is paused.
    fn sift_held(&mut self, chunk: &[u8], read: &mut usize) -> Option<usize> {
        let mut at = 0;
        while *read < self.held.len() {
            if self.sift.is_paused() {
                self.paused = true;
                self.held.reserve_exact(chunk.len() - at);
                self.held.extend_from_slice(&chunk[at..]);
                return None;
            }
            match self.sift.step(&mut self.held[*read..]) {
                Step::Pass(n) => {
                    if self.decided != *read {
                        self.held.copy_within(*read..*read + n, self.decided);
                    }
                    self.decided += n;
                    *read += n;
                }
                Step::Drop(n, _) => *read += n,
                Step::More(needed) => {
                    let missing = needed.saturating_sub(self.held.len() - *read).max(1);
                    let more = missing.min(chunk.len() - at);
                    if more == 0 {
                        break;
                    }
                    grow(&mut self.held, missing);
                    self.held.extend_from_slice(&chunk[at..at + more]);
                    at += more;
                }
            }
        }
        Some(at)
    }

    /// Waits until the destination has taken all that may leave. A source that breaks meanwhile is noticed.
    pub(super) async fn flush(&mut self, from: &Reader<'_>, to: &Writer<'_>) -> Result<(), Broken> {
        if self.is_flushed() && !to.is_pending() {
            return Ok(());
        }
        let mut blocked = Blocked { sift: &mut self.sift, since: Instant::now() };
        while self.written < self.decided || to.is_pending() {
            match to.try_write(&self.held[self.written..self.decided]) {
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // In memory of its own: most connections never wait here.
                    Box::pin(room(from, to)).await?;
                    blocked.lap();
                }
                Err(_) => return Err(Broken::Destination),
            }
        }
        drop(blocked);
        self.held.drain(..self.written);
        self.decided = 0;
        self.written = 0;
        self.tidy();
        Ok(())
    }

    /// The source has ended: what is held goes on as it is, then the end itself.
    async fn finish(&mut self, from: &Reader<'_>, to: &mut Writer<'_>) -> Result<(), Broken> {
        self.sift.end();
        self.decided = self.held.len();
        self.flush(from, to).await?;
        // It may have to wait for room as all else, and meanwhile a source that breaks is noticed.
        to.say_goodbye(from.goodbye());
        self.flush(from, to).await?;
        to.end().await.map_err(|_| Broken::Destination)
    }

    /// Nothing that was forwarded is still on its way through here.
    pub(super) fn is_flushed(&self) -> bool {
        self.written == self.decided
    }

    fn tidy(&mut self) {
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }
}

/// Makes room for so many more bytes. In steps that are a fixed part of the buffer, so that copying costs a constant
/// for each byte, and small, so that [`spare`] bounds the unused part.
fn grow(held: &mut Vec<u8>, missing: usize) {
    if held.capacity() - held.len() < missing {
        held.reserve_exact(missing.max(spare(held.len())));
    }
}

/// Unused bytes of a held buffer of this length, at most.
pub(super) fn spare(len: usize) -> usize {
    512 + len / 8
}

/// Waits until the destination takes more. A source that breaks meanwhile is noticed.
async fn room(from: &Reader<'_>, to: &Writer<'_>) -> Result<(), Broken> {
    tokio::select! {
        biased;
        ready = to.writable() => ready.map_err(|_| Broken::Destination),
        () = from.broke() => Err(Broken::Source),
    }
}

/// Two slices in one call, or one where that does.
fn try_write(to: &Writer<'_>, first: &[u8], second: &[u8]) -> io::Result<usize> {
    match (first.is_empty(), second.is_empty()) {
        (true, true) => Ok(0),
        (true, false) => to.try_write(second),
        (false, true) => to.try_write(first),
        (false, false) => to.try_write_both(first, second),
    }
}

/// Reports the time spent waiting, also where the waiting is given up.
struct Blocked<'a, S: Sift> {
    sift: &'a mut S,
    since: Instant,
}

impl<S: Sift> Blocked<'_, S> {
    fn lap(&mut self) {
        let now = Instant::now();
        self.sift.blocked(now - self.since);
        self.since = now;
    }
}

impl<S: Sift> Drop for Blocked<'_, S> {
    fn drop(&mut self) {
        self.lap();
    }
}
