//! What both ends of the benchmarks know: the events, and the few frames that are not events.

pub mod events;
pub mod expected;
pub mod handshake;

/// An error of the other side.
#[must_use]
pub fn wrong(what: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}
