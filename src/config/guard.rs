//! The settings of the run guard.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{BadSetting, Values};
use crate::guard::{Limits, Scope};

/// The longest run id where another limit is set and this one is not. Clients use UUIDs.
const MAX_RUN_ID: usize = 256;

/// How long a run counts as going on where its end is not seen: a client that left in its middle is not told. Too long
/// would lock clients out, too short lets some runs more go on at one time.
const LIVE_RUN_TTL: Duration = Duration::from_secs(600);

/// What clients may start. There are no such settings where no limit is set.
#[derive(Clone, Copy, Debug)]
pub struct GuardSettings {
    /// The limits.
    pub limits: Limits,
    /// Who shares them.
    pub scope: Scope,
}

impl GuardSettings {
    pub(super) fn new(values: &Values) -> Result<Option<Self>, BadSetting> {
        let number = |name, most: u32| {
            values.parse(name, |v| match v {
                "" => Some(None),
                v => v.parse().ok().filter(|n: &NonZeroU32| n.get() <= most).map(Some),
            })
        };
        let runs_per_minute = number("GUARD_RUNS_PER_MINUTE", 1_000_000)?;
        let burst = number("GUARD_BURST", 1_000_000)?;
        let max_live_runs = number("GUARD_MAX_LIVE_RUNS", 10_000)?;
        let max_run_id = number("GUARD_MAX_RUN_ID", 65_536)?;
        let scope = values.parse("GUARD_SCOPE", |v| match v {
            "address" => Some(Scope::Address),
            "connection" => Some(Scope::Connection),
            _ => None,
        })?;
        if burst.is_some() && runs_per_minute.is_none() {
            return Err(BadSetting::new(
                "SEQGATE_GUARD_BURST is set: expected SEQGATE_GUARD_RUNS_PER_MINUTE to be set too".to_owned(),
            ));
        }
        let limits = Limits {
            runs_per_minute,
            burst: burst.or(runs_per_minute).unwrap_or(NonZeroU32::MIN),
            max_run_id: max_run_id.map_or(MAX_RUN_ID, |n| n.get() as usize),
            max_live_runs,
            live_run_ttl: LIVE_RUN_TTL.as_millis() as u64,
        };
        let is_on = runs_per_minute.is_some() || max_live_runs.is_some() || max_run_id.is_some();
        Ok(is_on.then_some(Self { limits, scope }))
    }
}
