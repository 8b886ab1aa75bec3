//! How far a long replay is, in one line of a terminal.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// A line is drawn so often at most.
const PERIOD: Duration = Duration::from_millis(100);
/// Bytes between two looks at the clock.
const STRIDE: u64 = 1 << 20;
/// Characters of the bar.
const WIDTH: u64 = 30;

/// A bar on standard error, where that is a terminal and the size is known; else nothing.
pub(super) struct Progress {
    size: Option<u64>,
    began: Instant,
    drawn: Instant,
    looked: u64,
    is_shown: bool,
}

impl Progress {
    /// For an input of this many bytes.
    pub(super) fn new(size: Option<u64>) -> Self {
        let size = size.filter(|size| *size > 0 && stderr().is_terminal());
        let now = Instant::now();
        Self { size, began: now, drawn: now, looked: 0, is_shown: false }
    }

    /// So many bytes were read.
    pub(super) fn advance(&mut self, read: u64) {
        let Some(size) = self.size else { return };
        if read < self.looked + STRIDE {
            return;
        }
        self.looked = read;
        let now = Instant::now();
        if now - self.drawn < PERIOD {
            return;
        }
        self.drawn = now;
        self.is_shown = true;
        // Whoever closed the terminal does not want to see more.
        let _ = write!(stderr(), "\r{}\x1b[K", line(read, size, now - self.began));
    }

    /// Takes the bar away, for other output or for good.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

fn line(read: u64, size: u64, elapsed: Duration) -> String {
    // A file may have grown since its size was asked for.
    let read = read.min(size);
    let share = read as f64 / size as f64;
    let full = (share * WIDTH as f64) as usize;
    let left = elapsed.mul_f64((1.0 - share) / share).as_secs();
    let speed = read as f64 / 1e6 / elapsed.as_secs_f64();
    format!(
        "[{}{}] {:3.0} % of {} MB, {speed:.0} MB/s, {left} s left",
        "#".repeat(full),
        ".".repeat(WIDTH as usize - full),
        share * 100.0,
        size / 1_000_000,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_how_far_it_is_and_how_long_it_will_take() {
        let bar = |read| line(read, 400_000_000, Duration::from_secs(2));
        assert_eq!(bar(100_000_000), "[#######.......................]  25 % of 400 MB, 50 MB/s, 6 s left");
        assert_eq!(bar(500_000_000), format!("[{}] 100 % of 400 MB, 200 MB/s, 0 s left", "#".repeat(30)));
    }
}
