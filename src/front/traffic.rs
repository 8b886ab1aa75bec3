//! What a client connection has carried while it spoke HTTP: counted, and said in a line of the log when it has ended.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::metrics::{Class, Direction, Label, Metrics};

/// Held by the connection and by the bodies on it; its end is that of the last of these.
pub(super) struct Traffic {
    metrics: Arc<Metrics>,
    peer: IpAddr,
    since: Instant,
    requests: AtomicU64,
    /// Bytes of bodies, by [`Direction`].
    bytes: [AtomicU64; 2],
    relayed: AtomicBool,
}

impl Traffic {
    pub(super) fn new(metrics: &Arc<Metrics>, peer: IpAddr) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            peer: peer.to_canonical(),
            since: Instant::now(),
            requests: AtomicU64::default(),
            bytes: Default::default(),
            relayed: AtomicBool::default(),
        }
    }

    /// Counts an answer, or a request that has been given up.
    pub(super) fn answered(&self, class: Class) {
        self.metrics.answered(class);
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn carried(&self, direction: Direction, bytes: usize) {
        self.metrics.bytes(direction, bytes as u64);
        self.bytes[direction.index()].fetch_add(bytes as u64, Relaxed);
    }

    /// From now on the connection is a relay, which has a line of its own.
    pub(super) fn is_relayed(&self) {
        self.relayed.store(true, Relaxed);
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let requests = *self.requests.get_mut();
        // Whoever only looks whether the port is open is not worth a line.
        if requests == 0 || *self.relayed.get_mut() {
            return;
        }
        let [to_client, to_gateway] =
            [Direction::ToClient, Direction::ToGateway].map(|d| self.bytes[d.index()].load(Relaxed));
        tracing::info!(
            peer = %self.peer,
            kind = "http",
            seconds = self.since.elapsed().as_millis() as f64 / 1000.0,
            requests,
            bytes_to_client = to_client,
            bytes_to_gateway = to_gateway,
            "a connection has ended"
        );
    }
}
