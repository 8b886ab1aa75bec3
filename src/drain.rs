//! The end of the process as everybody in it sees it: starting, serving, draining, closing.

use tokio::sync::watch;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing is accepted yet.
    Starting,
    /// Connections are accepted.
    Serving,
    /// No new connections; live ones may end by themselves.
    Draining,
    /// Live connections are told to go.
    Closing,
}

/// Moves the process through its phases, and waits for its connections.
pub struct Drain(watch::Sender<Phase>);

/// Held by whoever wants to know the phase. A connection that holds one is waited for.
#[derive(Clone)]
pub struct Draining(watch::Receiver<Phase>);

impl Default for Drain {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl Drain {
    /// A new listener to the phases.
    #[must_use]
    pub fn subscribe(&self) -> Draining {
        Draining(self.0.subscribe())
    }

    /// Goes on to a phase; never back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Resolves when nobody holds a [`Draining`] any more.
    pub async fn all_gone(&self) {
        self.0.closed().await;
    }
}

impl Draining {
    /// Resolves once the phase has been reached; never if the process ends without it.
    pub async fn reached(&mut self, phase: Phase) {
        if self.0.wait_for(|now| *now >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
