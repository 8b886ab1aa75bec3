//! Whether all is well, in a sentence, and if not, what to do. The first case that holds decides.

use super::Report;
use super::page::{count, duration};
use crate::metrics::Totals;
use crate::sieve::Mode;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing is to be done.
    Well,
    /// Something should be changed when there is time.
    Attention,
    /// Clients suffer.
    Trouble,
}

impl Level {
    /// The name in JSON and in the page's style.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Attention => "attention",
            Self::Trouble => "trouble",
        }
    }
}

pub(super) struct Outlook {
    pub(super) level: Level,
    /// Does not change while the case is the same: it is read out when it changes.
    pub(super) sentence: &'static str,
    pub(super) advice: String,
}

impl Report<'_> {
    pub(super) fn outlook(&self) -> Outlook {
        let facts = self.facts;
        let before = self.samples.first().copied().unwrap_or_default();
        let recently = |field: fn(&Totals) -> u64| field(&self.now).saturating_sub(field(&before));
        let capacity = count(facts.capacity as u64);
        let (level, sentence, advice) = if self.draining {
            let n = count(self.now.clients);
            (
                Level::Attention,
                "seqgate is stopping.",
                format!("It takes no new connections; {n} may end by themselves until the drain timeout."),
            )
        } else if let Err(reason) = &self.gateway {
            let address = &facts.gateway;
            if reason.is_name() {
                let sentence = "The gateway's name can't be resolved.";
                (Level::Trouble, sentence, format!("{address}: {reason}."))
            } else {
                (
                    Level::Trouble,
                    "The gateway does not accept connections.",
                    format!("{address}: {reason}. Start the gateway, or correct SEQGATE_UPSTREAM."),
                )
            }
        } else if recently(|t| t.turned_away) > 0 || self.now.clients >= facts.max_clients as u64 {
            let limit = count(facts.max_clients as u64);
            (
                Level::Trouble,
                "Clients are turned away: all connections are in use.",
                format!(
                    "The limit is {limit}. Find out who connects so often, or raise SEQGATE_MAX_CONNECTIONS."
                ),
            )
        } else if recently(|t| t.forbidden) > 0 {
            (
                Level::Trouble,
                "The gateway refuses clients with 403.",
                "Most likely it does not trust what seqgate says about them: add seqgate's address to the \
                 gateway's gateway.trustedProxies."
                    .to_owned(),
            )
        } else if self.now.certificate_stale {
            (
                Level::Attention,
                "The certificate for clients can't be renewed.",
                "New connections are shown the one before, even when it has expired. The log says what is wrong with \
                 SEQGATE_TLS_CERT or SEQGATE_TLS_KEY."
                    .to_owned(),
            )
        } else if recently(|t| t.returned) > 0 {
            (
                Level::Attention,
                "The map of runs is too small.",
                format!(
                    "Runs came back after they were forgotten. Raise SEQGATE_RUNS_PER_CONNECTION (now {capacity})."
                ),
            )
        } else if recently(|t| t.evicted_live) > 0 {
            (
                Level::Attention,
                "Runs are forgotten before they end.",
                format!(
                    "Their repeats would pass. If so many runs are meant, raise SEQGATE_RUNS_PER_CONNECTION (now {capacity})."
                ),
            )
        } else if recently(|t| t.guard_refused) > 0 {
            let verb = if facts.mode == Mode::Observe { "would have been" } else { "were" };
            (
                Level::Attention,
                "Clients start more runs than the guard allows.",
                format!(
                    "{} {verb} refused lately. Find out who starts them, or raise the limits (SEQGATE_GUARD_…).",
                    count(recently(|t| t.guard_refused))
                ),
            )
        } else {
            let repeats = recently(|t| t.duplicate) + recently(|t| t.out_of_order);
            let events = recently(|t| t.forwarded) + repeats;
            let verb = if facts.mode == Mode::Observe { "would have been dropped" } else { "were dropped" };
            let age = duration(self.uptime.min(super::INTERVAL * super::SAMPLES as u32));
            let detail = match (events, repeats) {
                (0, _) => format!("No event of a run has come in the last {age}."),
                (_, 0) => {
                    format!("{} events of runs came in the last {age}, none of them a repeat.", count(events))
                }
                _ => format!(
                    "Of {} events of runs in the last {age}, {} were repeats or stale and {verb}; all others passed.",
                    count(events),
                    count(repeats)
                ),
            };
            let sentence = if facts.mode == Mode::Observe {
                "All is well; seqgate only observes, and drops nothing."
            } else {
                "All is well."
            };
            (Level::Well, sentence, detail)
        };
        Outlook { level, sentence, advice }
    }
}
