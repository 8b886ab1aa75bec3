//! Resolves the gateway's name. One lookup runs at a time, whose result all connections share. While the name does not
//! resolve, the addresses of the last lookup that succeeded are used for up to [`KEEP`].

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::{Instant, timeout, timeout_at};

use super::Unreachable;
use crate::telemetry::Seldom;

/// How long addresses are used after the name has stopped resolving.
const KEEP: Duration = Duration::from_secs(600);
/// How long a lookup is waited for while addresses of an earlier one can be used.
const WAIT: Duration = Duration::from_secs(1);
/// How long a lookup may run. It is longer than a connection may take: a resolver whose first server is silent answers
/// late, and connections that follow use its answer.
const LOOKUP: Duration = Duration::from_secs(30);

type Addresses = Arc<[SocketAddr]>;
type Found = Result<Addresses, Arc<io::Error>>;
/// Looks the name up.
pub(super) type Resolver = Box<dyn Fn() -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// A name, and its addresses as far as they are known.
pub(super) struct Names {
    host: String,
    resolver: Resolver,
    keep: Duration,
    wait: Duration,
    state: Mutex<State>,
    warnings: Seldom,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// The addresses of the last lookup that succeeded, and its time.
    good: Option<(Instant, Addresses)>,
    /// The address of the last connection.
    worked: Option<SocketAddr>,
}

#[derive(Clone)]
struct Running {
    since: Instant,
    result: Shared<BoxFuture<'static, Found>>,
}

impl Names {
    /// A name that the system's resolver looks up; an address needs no lookup.
    pub(super) fn new(host: String, port: u16) -> Arc<Self> {
        let name = host.clone();
        Self::with(
            host,
            KEEP,
            WAIT,
            Box::new(move || {
                let name = name.clone();
                async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) }.boxed()
            }),
        )
    }

    pub(super) fn with(host: String, keep: Duration, wait: Duration, resolver: Resolver) -> Arc<Self> {
        Arc::new(Self { host, resolver, keep, wait, state: Mutex::default(), warnings: Seldom::default() })
    }

    /// The name's addresses, in the system's order.
    ///
    /// # Errors
    /// The name does not resolve, or not within `limit`, and no earlier addresses can be used.
    pub(super) async fn resolve(self: &Arc<Self>, limit: Duration) -> Result<Addresses, Unreachable> {
        let start = Instant::now();
        let running = self.lookup();
        if let Some(kept) = self.kept() {
            let until = running.since + self.wait.min(limit / 2);
            let error = match timeout_at(until, running.result.clone()).await {
                Ok(Ok(addresses)) => return Ok(addresses),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer for {:.1?}", running.since.elapsed()),
            };
            if let Some(unsaid) = self.warnings.ask() {
                let keep_seconds = self.keep.as_secs();
                tracing::warn!(
                    name = self.host,
                    error,
                    keep_seconds,
                    unsaid,
                    "the gateway's name does not resolve: its last known addresses are used for a limited time"
                );
            }
            return Ok(kept);
        }
        match timeout(limit.saturating_sub(start.elapsed()), running.result).await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(Unreachable::Name(self.host.clone(), error)),
            Err(_) => Err(Unreachable::NameTimeout(self.host.clone(), limit)),
        }
    }

    /// The address of the last connection.
    pub(super) fn worked(&self) -> Option<SocketAddr> {
        self.state().worked
    }

    /// Records the address of a connection, or that the last one failed.
    pub(super) fn set_worked(&self, address: Option<SocketAddr>) {
        self.state().worked = address;
    }

    /// The lookup that runs, or a new one. It goes on when no connection waits for it any more.
    fn lookup(self: &Arc<Self>) -> Running {
        let mut state = self.state();
        if let Some(running) = &state.running {
            return running.clone();
        }
        let names = Arc::clone(self);
        let task = tokio::spawn(async move {
            let found = match timeout(LOOKUP, (names.resolver)()).await {
                Ok(Ok(addresses)) if addresses.is_empty() => {
                    Err(Arc::new(io::Error::new(io::ErrorKind::NotFound, "it has no addresses")))
                }
                Ok(found) => found.map(Addresses::from).map_err(Arc::new),
                Err(_) => Err(Arc::new(io::ErrorKind::TimedOut.into())),
            };
            let mut state = names.state();
            state.running = None;
            if let Ok(addresses) = &found {
                state.good = Some((Instant::now(), Arc::clone(addresses)));
            }
            found
        });
        let result = task.map(|found| found.unwrap_or_else(|error| Err(Arc::new(io::Error::other(error)))));
        let running = Running { since: Instant::now(), result: result.boxed().shared() };
        state.running = Some(running.clone());
        running
    }

    fn kept(&self) -> Option<Addresses> {
        let state = self.state();
        let (at, addresses) = state.good.as_ref()?;
        (at.elapsed() < self.keep).then(|| Arc::clone(addresses))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(20);

    fn address() -> SocketAddr {
        ([10, 0, 0, 1], 1).into()
    }

    /// A name whose lookups end as these do, one after the other, the last one again and again: `None` never ends.
    fn name(keep: Duration, wait: Duration, ends: &'static [Option<bool>]) -> (Arc<Names>, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let resolver: Resolver = Box::new(move || {
            let n = counted.fetch_add(1, Relaxed).min(ends.len() - 1);
            async move {
                match ends[n] {
                    Some(true) => Ok(vec![address()]),
                    Some(false) => Err(io::ErrorKind::NotFound.into()),
                    None => pending().await,
                }
            }
            .boxed()
        });
        (Names::with("gw".to_owned(), keep, wait, resolver), count)
    }

    #[tokio::test]
    async fn a_resolver_that_does_not_answer_is_named_and_not_the_gateway() {
        let (names, _) = name(LONG, LONG, &[None]);
        let error = names.resolve(SHORT).await.unwrap_err().to_string();
        assert!(error.contains("the name \"gw\" could not be resolved within 20ms"), "{error}");
        assert!(!error.contains("the gateway did"), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_named() {
        let (names, _) = name(LONG, LONG, &[Some(false)]);
        let error = names.resolve(LONG).await.unwrap_err().to_string();
        assert!(error.contains("the name \"gw\" could not be resolved: "), "{error}");
    }

    #[tokio::test]
    async fn when_a_name_stops_resolving_its_last_addresses_are_used() {
        for end in [&[Some(true), Some(false)][..], &[Some(true), None]] {
            let (names, _) = name(LONG, SHORT, Box::leak(end.into()));
            assert_eq!(*names.resolve(LONG).await.unwrap(), [address()]);
            for _ in 0..3 {
                assert_eq!(*names.resolve(LONG).await.unwrap(), [address()]);
            }
        }
    }

    #[tokio::test]
    async fn addresses_are_not_used_for_ever() {
        let (names, _) = name(SHORT, SHORT, &[Some(true), Some(false)]);
        names.resolve(LONG).await.unwrap();
        tokio::time::sleep(SHORT).await;
        assert!(names.resolve(LONG).await.is_err());
    }

    #[tokio::test]
    async fn connections_share_one_lookup() {
        let (names, count) = name(LONG, SHORT, &[None]);
        let results = futures::future::join_all((0..50).map(|_| names.resolve(SHORT))).await;
        assert!(results.iter().all(Result::is_err));
        assert_eq!(count.load(Relaxed), 1);
    }
}
