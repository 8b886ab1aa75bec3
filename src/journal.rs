//! The events that were left out, one by one: the last ones, and all of them for whoever listens. Nobody has to:
//! without a listener a report costs next to nothing, and a listener that is slow misses reports, never slows a relay.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast;

use crate::sieve::Dropped;

/// Reports kept for a slow listener.
const KEPT: usize = 1024;
/// Reports kept for whoever comes later.
pub const LAST: usize = 16;

/// Where relays report what they left out.
pub struct Journal {
    listeners: broadcast::Sender<Dropped>,
    /// At most [`LAST`], the newest at the end.
    last: Mutex<VecDeque<(SystemTime, Dropped)>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { listeners: broadcast::Sender::new(KEPT), last: Mutex::new(VecDeque::with_capacity(LAST)) }
    }
}

impl Journal {
    /// Reports an event that was left out.
    pub fn report(&self, dropped: Dropped) {
        let mut last = self.recent();
        if last.len() == LAST {
            last.pop_front();
        }
        last.push_back((SystemTime::now(), dropped));
        drop(last);
        // An error says that nobody listens.
        let _ = self.listeners.send(dropped);
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Dropped> {
        self.listeners.subscribe()
    }

    /// The last reports, the newest first.
    #[must_use]
    pub fn last(&self) -> Vec<(SystemTime, Dropped)> {
        self.recent().iter().rev().copied().collect()
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<(SystemTime, Dropped)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
