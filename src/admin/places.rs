//! The open connections of the admin listener. Their number is bounded, and a new connection always gets a place: when
//! all places are taken, the connection that has been idle for the longest time is closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a connection keeps its place at least: time for its request to arrive, so that many probes at once are all
/// answered, and so that peers which reconnect at once do not occupy a processor.
const IDLE_GRACE: Duration = Duration::from_millis(150);
/// The same for a connection whose request is being answered.
const BUSY_GRACE: Duration = Duration::from_secs(1);

/// All connections, in no particular order.
pub(super) struct Places {
    most: usize,
    open: Mutex<Vec<Arc<Connection>>>,
    freed: Notify,
}

struct Connection {
    activity: Mutex<Activity>,
    evicted: Notify,
}

#[derive(Clone, Copy)]
struct Activity {
    /// A request is being answered.
    is_busy: bool,
    /// When the connection was accepted, or the last request was received or answered.
    since: Instant,
}

impl Activity {
    /// From when on another connection may take the place.
    fn evictable(self) -> Instant {
        self.since + if self.is_busy { BUSY_GRACE } else { IDLE_GRACE }
    }
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default(), freed: Notify::new() })
    }

    /// A place for a new connection. Where none is free, it is that of the longest idle connection, or else of the
    /// longest busy one.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            let wait = match self.try_take(Instant::now()) {
                Ok(place) => return place,
                Err(wait) => wait,
            };
            tokio::select! {
                () = sleep_until(wait) => {}
                () = self.freed.notified() => {}
            }
        }
    }

    /// A place for a new connection, or when the next one can be evicted.
    fn try_take(self: &Arc<Self>, now: Instant) -> Result<Place, Instant> {
        let mut open = self.open();
        if open.len() >= self.most {
            let activities = || open.iter().map(|other| *other.activity()).enumerate();
            let evictable = activities().filter(|(_, activity)| activity.evictable() <= now);
            let Some((n, _)) = evictable.min_by_key(|(_, activity)| (activity.is_busy, activity.since))
            else {
                let next = activities().map(|(_, activity)| activity.evictable()).min();
                return Err(next.unwrap_or(now + IDLE_GRACE));
            };
            open.swap_remove(n).evicted.notify_one();
        }
        let connection = Arc::new(Connection {
            activity: Mutex::new(Activity { is_busy: false, since: now }),
            evicted: Notify::new(),
        });
        open.push(Arc::clone(&connection));
        Ok(Place { places: Arc::clone(self), connection })
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection, which is free again when this is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    connection: Arc<Connection>,
}

impl Place {
    /// Records that a request is being answered, until the result is dropped.
    pub(super) fn busy(&self) -> Busy {
        *self.connection.activity() = Activity { is_busy: true, since: Instant::now() };
        Busy(Arc::clone(&self.connection))
    }

    /// Resolves when the connection is to be closed: it was evicted, or no request came and no answer was made for
    /// `quiet`.
    pub(super) async fn expired(&self, quiet: Duration) {
        loop {
            let Activity { is_busy, since } = *self.connection.activity();
            let deadline = if is_busy { Instant::now() } else { since } + quiet;
            tokio::select! {
                biased;
                () = self.connection.evicted.notified() => return,
                () = sleep_until(deadline) => {}
            }
            let now = *self.connection.activity();
            if !now.is_busy && now.since == since {
                return;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.open().retain(|other| !Arc::ptr_eq(other, &self.connection));
        self.places.freed.notify_one();
    }
}

/// A request is being answered.
pub(super) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.activity() = Activity { is_busy: false, since: Instant::now() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    async fn is_evicted(place: &Place) -> bool {
        tokio::select! {
            biased;
            () = place.expired(LONG) => true,
            () = tokio::task::yield_now() => false,
        }
    }

    #[tokio::test]
    async fn the_longest_idle_connection_gives_up_its_place() {
        let places = Places::new(3);
        let later = Instant::now() + BUSY_GRACE * 2;
        let [first, second, third] = [0; 3].map(|_| places.try_take(Instant::now()).ok().unwrap());
        drop(first.busy());
        let fourth = places.try_take(later).ok().unwrap();
        assert!(is_evicted(&second).await);
        for place in [&first, &third, &fourth] {
            assert!(!is_evicted(place).await);
        }
    }

    #[tokio::test]
    async fn a_connection_with_a_request_is_evicted_last() {
        let places = Places::new(2);
        let now = Instant::now();
        let [first, second] = [0; 2].map(|_| places.try_take(now).ok().unwrap());
        let _busy = first.busy();
        let later = Instant::now() + BUSY_GRACE;
        let third = places.try_take(later).ok().unwrap();
        assert!(is_evicted(&second).await && !is_evicted(&first).await);
        let _also = third.busy();
        places.try_take(later).ok().unwrap();
        assert!(is_evicted(&first).await && !is_evicted(&third).await);
    }

    #[tokio::test]
    async fn a_new_connection_keeps_its_place_until_its_request_can_have_come() {
        let places = Places::new(1);
        let now = Instant::now();
        let place = places.try_take(now).ok().unwrap();
        assert_eq!(places.try_take(now).err(), Some(now + IDLE_GRACE));
        assert!(!is_evicted(&place).await);
        places.take().await;
        assert!(is_evicted(&place).await);
    }

    #[tokio::test]
    async fn a_closed_connection_leaves_its_place() {
        let places = Places::new(1);
        for _ in 0..3 {
            drop(places.try_take(Instant::now()).ok().unwrap());
        }
    }

    #[tokio::test]
    async fn a_quiet_connection_expires_and_a_busy_one_does_not() {
        let places = Places::new(1);
        let place = places.take().await;
        place.expired(Duration::ZERO).await;
        let quiet = Duration::from_millis(1);
        let _busy = place.busy();
        let expired = tokio::time::timeout(quiet * 50, place.expired(quiet)).await;
        assert!(expired.is_err());
    }
}
