//! Everything put together: bind, then run until told to stop, then drain.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::admin::Admin;
use crate::config::{Config, GuardSettings};
use crate::credentials::{Identity, Unusable};
use crate::distinct::Distinct;
use crate::drain::{Drain, Phase};
use crate::front::{Front, Settings};
use crate::guard::Guard;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::relay::{self, Context, Protection};
use crate::roster::Roster;
use crate::sieve::Rules;
use crate::stamp::Secret;
use crate::status::{Facts, Status};
use crate::telemetry::Seldom;
use crate::upstream::Route;

/// A seqgate whose listeners are bound.
pub struct App {
    config: Config,
    route: Route,
    identity: Option<Arc<Identity>>,
    clients: TcpListener,
    operators: TcpListener,
    addresses: Addresses,
    context: Arc<Context>,
}

/// Where a seqgate listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For clients.
    pub listen: SocketAddr,
    /// For metrics and health.
    pub admin: SocketAddr,
}

/// Why there is no seqgate.
#[derive(Debug)]
pub enum StartError {
    /// A file that a setting names can't be used.
    File(Unusable),
    /// An address can't be bound.
    Bind(&'static str, SocketAddr, io::Error),
    /// The system has no random numbers.
    Random(getrandom::Error),
    /// A metric is defined twice.
    Metrics(prometheus::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Bind(setting, address, error) => write!(f, "{setting}: {address} can't be bound: {error}"),
            Self::Random(error) => write!(f, "the system gives no random numbers: {error}"),
            Self::Metrics(error) => write!(f, "the metrics can't be registered: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl App {
    /// Binds all listeners.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let (route, identity) = config.read_files().map_err(StartError::File)?;
        let identity = identity.map(Arc::new);
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(StartError::Random)?;
        let rules = Arc::new(Rules {
            mode: config.mode,
            order: config.order,
            events: config.events.clone(),
            runs: config.runs_per_connection,
            ttl: config.run_ttl.as_millis() as u64,
            inspect_limit: config.inspect_limit,
            secret: Secret::new(random),
            distinct: Distinct::default(),
        });
        let roster = Arc::new(Roster::default());
        let epoch = Instant::now();
        let protection = config.guard.map(|GuardSettings { limits, scope }| {
            let guard = Guard::new(limits, rules.secret.clone(), config.guarded_clients());
            Protection { guard: Arc::new(guard), scope }
        });
        let guarding = protection.as_ref().map(|protection| (Arc::clone(&protection.guard), epoch));
        let metrics = Metrics::new(Arc::clone(&rules), Arc::clone(&roster), config.max_connections, guarding)
            .map_err(StartError::Metrics)?;
        let (clients, listen) = bind("SEQGATE_LISTEN", config.listen).await?;
        let (operators, admin) = bind("SEQGATE_ADMIN_LISTEN", config.admin_listen).await?;
        let context = Arc::new(Context {
            rules,
            metrics: Arc::new(metrics),
            roster,
            journal: Arc::new(Journal::default()),
            protection,
            epoch,
            disagreements: Seldom::default(),
            unreadable: Seldom::default(),
        });
        Ok(Self {
            config,
            route,
            identity,
            clients,
            operators,
            addresses: Addresses { listen, admin },
            context,
        })
    }

    /// Where it listens; ports that were 0 are known now.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Where the events that are left out are reported.
    #[must_use]
    pub fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.context.journal)
    }

    fn status(&self, drain: &Arc<Drain>) -> Status {
        let Config { upstream, mode, runs_per_connection, max_connections, guard, .. } = &self.config;
        let settings = self.config.effective.iter();
        let facts = Facts {
            gateway: upstream.to_string(),
            mode: *mode,
            capacity: *runs_per_connection,
            max_clients: *max_connections,
            guard: guard.map(|settings| (settings.limits, settings.scope)),
            settings: settings.map(|(n, v, source)| [n.clone(), v.clone(), source.to_string()]).collect(),
        };
        let Context { metrics, roster, journal, .. } = self.context.as_ref();
        Status::new(facts, Arc::clone(metrics), Arc::clone(roster), Arc::clone(journal), Arc::clone(drain))
    }

    /// Serves until `shutdown` resolves, then drains: no new connections; live ones may end by themselves until
    /// the drain timeout; then they are told to go.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let drain = Arc::new(Drain::default());
        let Config { connect_timeout, drain_timeout, .. } = self.config;
        let metrics = Arc::clone(&self.context.metrics);
        let status = Arc::new(self.status(&drain));
        let watch = tokio::spawn(Arc::clone(&status).watch());
        let admin =
            Admin::new(Arc::clone(&metrics), status, Arc::clone(&drain), self.route.clone(), connect_timeout);
        let admin = tokio::spawn(Arc::new(admin).serve(self.operators));
        let renewal =
            self.identity.clone().map(|identity| tokio::spawn(identity.watch(Arc::clone(&metrics))));
        let settings = Settings {
            upstream: self.route,
            identity: self.identity,
            max_connections: self.config.max_connections,
            connect_timeout,
            header_timeout: self.config.header_timeout,
            trusted_proxies: self.config.trusted_proxies,
            identity_headers: Arc::new(self.config.identity_headers),
            tunnel_paths: self.config.tunnel_paths,
        };
        let front = Arc::new(Front::new(settings, self.context));
        // First, so that no client is served while /readyz still says that seqgate starts.
        drain.advance(Phase::Serving);
        tokio::spawn(front.serve(self.clients, drain.subscribe()));

        shutdown.await;
        tracing::info!(?drain_timeout, "draining: no new connections");
        drain.advance(Phase::Draining);
        metrics.drains();
        if timeout(drain_timeout, drain.all_gone()).await.is_err() {
            tracing::info!("closing the connections that are left");
            drain.advance(Phase::Closing);
            if timeout(relay::CLOSING, drain.all_gone()).await.is_err() {
                tracing::warn!("some connections did not end in time");
            }
        }
        admin.abort();
        watch.abort();
        renewal.inspect(JoinHandle::abort);
        tracing::info!("stopped");
    }
}

async fn bind(setting: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|error| StartError::Bind(setting, address, error))
}
