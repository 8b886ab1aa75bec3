//! The live relays, for what is asked of all of them at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// All live relays.
#[derive(Default)]
pub struct Roster {
    next: AtomicU64,
    members: Mutex<HashMap<u64, Arc<Member>>>,
}

/// What a relay says about itself.
#[derive(Default)]
pub struct Member {
    /// Runs tracked now.
    pub runs: AtomicUsize,
}

/// A relay's place in the roster, until it is dropped.
pub struct Membership {
    /// Counts the relays of this process.
    pub id: u64,
    /// What the others can see.
    pub member: Arc<Member>,
    roster: Arc<Roster>,
}

impl Roster {
    /// A place for a relay that begins.
    #[must_use]
    pub fn join(self: &Arc<Self>) -> Membership {
        let id = self.next.fetch_add(1, Relaxed);
        let member = Arc::new(Member::default());
        self.members().insert(id, Arc::clone(&member));
        Membership { id, member, roster: Arc::clone(self) }
    }

    /// Runs tracked by all relays, and by the one that tracks most.
    #[must_use]
    pub fn runs(&self) -> (usize, usize) {
        let members = self.members();
        let runs = members.values().map(|member| member.runs.load(Relaxed));
        runs.fold((0, 0), |(sum, most), n| (sum + n, most.max(n)))
    }

    fn members(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.roster.members().remove(&self.id);
    }
}
