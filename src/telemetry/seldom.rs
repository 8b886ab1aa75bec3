//! Warnings that the network can bring about come at most so often.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two warnings about the same.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// Says how often something may be said: one of these for each thing.
#[derive(Default)]
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// Whether it may be said now; then, how many times it was not said since the last.
    pub fn ask(&self) -> Option<u64> {
        // What this protects is whole at every moment.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < EVERY) {
            *unsaid += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_just_now_is_not_said_again() {
        let seldom = Seldom::default();
        assert_eq!(seldom.ask(), Some(0));
        assert_eq!((seldom.ask(), seldom.ask()), (None, None));
        seldom.0.lock().unwrap().0 = Instant::now().checked_sub(EVERY);
        assert_eq!(seldom.ask(), Some(2));
        assert_eq!(seldom.ask(), None);
    }
}
