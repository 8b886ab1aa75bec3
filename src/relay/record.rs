//! What is said of a relay when it has ended: in the metrics, and in a line of the log. It is said when the record is
//! dropped, so that no end can be forgotten.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::Protocol;
use crate::filter::Verdict;
use crate::metrics::{CLOSE_NO_CODE, Direction, Initiator, Kind, Label, Metrics};
use crate::roster::Membership;

/// Who is on the other end, as far as seqgate knows.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The client: the peer itself, or whom a trusted proxy named.
    pub client: IpAddr,
    /// The number of its connection, which no other has had.
    pub connection: u64,
    /// The trace of the request that the relay began with.
    pub trace: Option<TraceId>,
}

/// The id of a trace, as in the header `traceparent` (W3C Trace Context, section 3.2.2.3): 32 lower-case hexadecimal
/// digits, not all of them 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

impl TraceId {
    /// The id in a `traceparent`, if that is one.
    #[must_use]
    pub fn of(traceparent: &[u8]) -> Option<Self> {
        let is_hex = |digits: &[u8]| digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let (version, rest) = traceparent.split_at_checked(2)?;
        let id: [u8; 32] = rest.strip_prefix(b"-")?.get(..32)?.try_into().ok()?;
        let follows = rest.get(33) == Some(&b'-');
        (is_hex(version) && version != b"ff" && follows && is_hex(&id) && id != [b'0'; 32])
            .then_some(Self(id))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// What the two directions of a relay know together.
#[derive(Default)]
pub(super) struct Ending {
    /// Who ended the relay and with which code: whoever was first is kept.
    first: AtomicU32,
    /// Bytes that came, by [`Direction`].
    bytes: [AtomicU64; 2],
}

impl Ending {
    pub(super) fn note(&self, by: Initiator, code: u16) {
        let word = (by.index() as u32 + 1) << 16 | u32::from(code);
        // An error says that somebody was first.
        let _ = self.first.compare_exchange(0, word, Relaxed, Relaxed);
    }

    pub(super) fn note_close(&self, by: Initiator, close: Option<Option<u16>>) {
        if let Some(code) = close {
            self.note(by, code.unwrap_or(CLOSE_NO_CODE));
        }
    }

    pub(super) fn came(&self, direction: Direction, bytes: usize) {
        self.bytes[direction.index()].fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn bytes(&self, direction: Direction) -> u64 {
        self.bytes[direction.index()].load(Relaxed)
    }

    fn get(&self) -> Option<(Initiator, u16)> {
        let word = self.first.load(Relaxed);
        let by = Initiator::ALL.get((word >> 16).checked_sub(1)? as usize)?;
        Some((*by, word as u16))
    }
}

/// A relay from its begin to its end.
pub(super) struct Record {
    metrics: Arc<Metrics>,
    kind: Kind,
    protocol: Protocol,
    caller: Caller,
    ending: Arc<Ending>,
    pub(super) membership: Membership,
}

impl Record {
    pub(super) fn begin(
        metrics: &Arc<Metrics>,
        protocol: Protocol,
        caller: Caller,
        ending: &Arc<Ending>,
        membership: Membership,
    ) -> Self {
        let kind = Kind::of(protocol == Protocol::Judged);
        metrics.opened(kind);
        Self { metrics: Arc::clone(metrics), kind, protocol, caller, ending: Arc::clone(ending), membership }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let member = &self.membership.member;
        let time = member.since.elapsed();
        let ending = self.ending.get();
        self.metrics.ended(self.kind, time);
        if self.protocol != Protocol::Opaque
            && let Some((initiator, code)) = ending
        {
            self.metrics.closed(initiator, code);
        }
        let judged = self.protocol == Protocol::Judged;
        let events = |verdict| judged.then(|| member.events(verdict));
        tracing::info!(
            client = %self.caller.client,
            kind = self.kind.name(),
            seconds = time.as_millis() as f64 / 1000.0,
            closed_by = ending.map(|(initiator, _)| initiator.name()),
            code = ending.filter(|_| self.protocol != Protocol::Opaque).map(|(_, code)| code),
            bytes_to_client = self.ending.bytes(Direction::ToClient),
            bytes_to_gateway = self.ending.bytes(Direction::ToGateway),
            forwarded = judged.then(|| member.forwarded()),
            duplicate = events(Verdict::Duplicate),
            out_of_order = events(Verdict::OutOfOrder),
            unjudged = judged.then(|| member.unjudged()),
            trace_id = self.caller.trace.as_ref().map(TraceId::as_str),
            "a connection has ended"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_taken_only_from_a_traceparent() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let found = |text: &str| TraceId::of(text.as_bytes()).map(|id| id.as_str().to_owned());
        assert_eq!(found(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        assert_eq!(found(&format!("cc-{id}-00f067aa0ba902b7-01-later")).as_deref(), Some(id));
        for other in [
            "",
            "00",
            "00-",
            id,
            &format!("00-{id}"),
            &format!("ff-{id}-00f067aa0ba902b7-01"),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            &format!("00-{}\n-00f067aa0ba902b7-01", &id[1..]),
            &format!("0é-{id}-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
