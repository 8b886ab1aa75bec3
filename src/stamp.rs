//! An event in a few words of fixed size: ids that clients choose, of any content and length, become keyed
//! hashes before anything is remembered of them.

use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher13 as SipHasher13x128};

use crate::event::Claim;
use crate::json::Str;

/// The prime 2^61 - 1.
const MERSENNE: u64 = (1 << 61) - 1;

/// The secret under which ids become fixed-size keys; fresh for each process, so that nobody can choose ids
/// that collide.
#[derive(Clone)]
pub struct Secret {
    sip: [u64; 2],
    /// Factors for `seq` and `ts`, below 2^61.
    factors: [u64; 2],
}

impl Secret {
    /// A secret from 16 random bytes.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(random);
        let mut secret = Self { sip: [number as u64, (number >> 64) as u64], factors: [0; 2] };
        secret.factors = [0, 1].map(|i| secret.hash64(|hasher| hasher.write_u64(i)) & MERSENNE);
        secret
    }

    fn hash64(&self, write: impl FnOnce(&mut SipHasher13)) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.sip[0], self.sip[1]);
        write(&mut hasher);
        hasher.finish()
    }

    /// The key of a run id, without an event's name.
    #[must_use]
    pub fn run(&self, id: Str<'_>) -> RunKey {
        let mut hasher = SipHasher13x128::new_with_keys(self.sip[0], self.sip[1]);
        id.decode(|piece| hasher.write(piece));
        let hash = hasher.finish128();
        RunKey(u128::from(hash.h1) << 64 | u128::from(hash.h2))
    }

    /// The key of a request: its id, and the connection on which it is unique.
    #[must_use]
    pub fn request(&self, connection: u64, id: Str<'_>) -> u64 {
        self.hash64(|hasher| {
            hasher.write_u64(connection);
            id.decode(|piece| hasher.write(piece));
        })
    }

    /// A fingerprint of three numbers, linear modulo a prime: under random factors, two that differ share one with a
    /// probability of about 2^-60, and clients choose neither `seq` nor `ts`.
    #[inline]
    fn mark(&self, stream: u64, seq: u64, ts: u64) -> u64 {
        let product = |number: u64, factor: u64| u128::from(number) * u128::from(factor);
        let sum = u128::from(stream) + product(seq, self.factors[0]) + product(ts, self.factors[1]);
        // Equal numbers have equal remainders; which of the remainder's forms this is does not matter.
        (sum as u64 & MERSENNE) + (sum >> 61) as u64
    }

    /// A stream as it can be shown.
    #[must_use]
    pub fn stream_name(&self, stream: u64) -> &'static str {
        if stream == self.stream(None) {
            return "none";
        }
        let is_it = |name: &&str| self.stream(Some(Str::unescaped(name.as_bytes()))) == stream;
        STREAMS.into_iter().find(is_it).unwrap_or("other")
    }

    fn stream(&self, name: Option<Str<'_>>) -> u64 {
        self.hash64(|hasher| {
            if let Some(name) = name {
                name.decode(|piece| hasher.write(piece));
            }
        })
    }
}

/// A run's keyed 128-bit hash, in place of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunKey(u128);

impl RunKey {
    /// The key of the run that has this run id in events of the name with this index. Events of different names count on
    /// their own, so the same run id in both means two runs. Only the lower half changes, and no two indices give
    /// the same key.
    #[must_use]
    pub fn in_events(self, event: usize) -> Self {
        Self(self.0 ^ u128::from(event as u64))
    }

    /// The lower half of the key, for uses where 64 bits are enough.
    #[must_use]
    pub fn short(self) -> u64 {
        self.0 as u64
    }

    /// The upper half of the key: a hash of the run id alone, the same for events of all names.
    #[must_use]
    pub fn id(self) -> u64 {
        (self.0 >> 64) as u64
    }
}

impl Hash for RunKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.short());
    }
}

/// Streams that are shown by their names. The set is open, and names are not ours to show: others are `other`.
const STREAMS: [&str; 15] = [
    "lifecycle",
    "assistant",
    "tool",
    "thinking",
    "item",
    "plan",
    "approval",
    "command_output",
    "patch",
    "compaction",
    "error",
    "usage",
    "run_status",
    "notice",
    "acp",
];

/// An event as the ledger judges it: of fixed size, without a word of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The event's name, as in [`Claim`].
    pub event: usize,
    /// The run, by event name and run id.
    pub run: RunKey,
    /// The stream's hash.
    pub stream: u64,
    /// The number in the run.
    pub seq: u64,
    /// Emission time in milliseconds.
    pub ts: Option<u64>,
    /// The fingerprint: seq, stream and ts, or the payload's bytes where there is no ts.
    pub mark: u64,
    /// The run is over.
    pub ends: bool,
    /// A run begins.
    pub starts: bool,
}

impl Stamp {
    /// The stamp of an event.
    #[must_use]
    pub fn new(claim: &Claim<'_>, secret: &Secret) -> Self {
        let (event, stream) = (claim.event, secret.stream(claim.stream));
        let run = secret.run(claim.run).in_events(event);
        let mark = match claim.ts {
            Some(ts) => secret.mark(stream, claim.seq, ts),
            None => secret.hash64(|hasher| {
                hasher.write_u64(claim.seq);
                hasher.write_u64(stream);
                hasher.write(claim.payload);
            }),
        };
        let &Claim { seq, ts, ends, starts, .. } = claim;
        Self { event, run, stream, seq, ts, mark, ends, starts }
    }

    /// The stamp of another event of this run and stream, which neither starts nor ends the run.
    #[must_use]
    #[inline]
    pub fn with(&self, seq: u64, ts: u64, secret: &Secret) -> Self {
        let mark = secret.mark(self.stream, seq, ts);
        Self { seq, ts: Some(ts), mark, ..*self }
    }
}
