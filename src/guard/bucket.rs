//! A token bucket in one integer: the generic cell rate algorithm (GCRA).
//!
//! Our own, because the keyed stores that there are grow until somebody thinks of cleaning them; and these thirty
//! lines say in integers, to the millisecond, when the next token is there.
//!
//! Time is counted in parts of a millisecond, as many as there are tokens in a minute: a token then takes
//! [`TOKEN`] parts, whatever the rate.

use std::num::NonZeroU32;

use super::Limits;

/// Parts of a millisecond in which one token grows: as many as a minute has milliseconds.
const TOKEN: u128 = 60_000;

/// So many tokens at once, then so many a minute, evenly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    per_minute: NonZeroU32,
    burst: NonZeroU32,
}

impl Rate {
    /// None: there is no limit.
    pub(super) fn of(limits: &Limits) -> Option<Self> {
        limits.runs_per_minute.map(|per_minute| Self { per_minute, burst: limits.burst })
    }

    fn parts(self, millis: u64) -> u128 {
        u128::from(millis) * u128::from(self.per_minute.get())
    }

    fn capacity(self) -> u128 {
        u128::from(self.burst.get()) * TOKEN
    }
}

/// When the bucket will be full, in parts since the clock's zero. The default is a full bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket(u128);

impl Bucket {
    /// Takes a token, or takes nothing and says in how many milliseconds there will be one.
    pub(super) fn take(&mut self, rate: Rate, now: u64) -> Result<(), u64> {
        let now = rate.parts(now);
        // A clock that went back leaves an empty bucket at worst.
        let full = self.0.clamp(now, now + rate.capacity());
        let then = full + TOKEN;
        let missing = then.saturating_sub(now + rate.capacity());
        if missing > 0 {
            let per_milli = u128::from(rate.per_minute.get());
            return Err(u64::try_from(missing.div_ceil(per_milli)).unwrap_or(u64::MAX));
        }
        self.0 = then;
        Ok(())
    }

    /// Puts back a token that was taken for nothing.
    pub(super) fn give_back(&mut self) {
        self.0 = self.0.saturating_sub(TOKEN);
    }

    pub(super) fn is_full(self, rate: Rate, now: u64) -> bool {
        self.0 <= rate.parts(now)
    }
}
