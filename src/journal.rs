//! The events that were left out, one by one, for whoever looks on. Nobody has to: without a listener a
//! report costs next to nothing, and a listener that is slow misses reports, never slows a relay.

use tokio::sync::broadcast;

use crate::sieve::Dropped;

/// Reports kept for a slow listener.
const KEPT: usize = 1024;

/// Where relays report what they left out.
pub struct Journal(broadcast::Sender<Dropped>);

impl Default for Journal {
    fn default() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }
}

impl Journal {
    /// Reports an event that was left out.
    pub fn report(&self, dropped: Dropped) {
        // An error says that nobody listens.
        let _ = self.0.send(dropped);
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Dropped> {
        self.0.subscribe()
    }
}
