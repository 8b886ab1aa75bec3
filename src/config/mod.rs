//! The settings: one table, read from flags and environment into values that cannot be half valid.

mod guard;
mod memory;
mod parse;
mod table;
mod tls;
mod values;

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

pub use self::guard::GuardSettings;
pub use self::memory::MemoryBound;
pub(crate) use self::parse::duration;
use self::parse::{identity_headers, list, size, trusted_proxies, upstream};
pub use self::table::help;
pub use self::values::{BadSetting, Source, Values};
use crate::credentials::{Files, Identity, Trust, Unusable};
use crate::filter::Order;
use crate::front::IdentityHeaders;
use crate::sieve::Mode;
use crate::telemetry::Format;
use crate::upstream::{Route, Upstream};

/// Events that look like `agent` events and must not be filtered, and why.
const UNFILTERABLE: [(&str, &str); 5] = [
    ("chat", "its delta and final share one seq, late finals start again at 1"),
    ("session.tool", "it repeats the numbers of the agent event on the same connection"),
    ("session.message", "it has counters of its own"),
    ("talk.event", "it has counters of its own"),
    ("chat.side_result", "it has counters of its own"),
];
/// The same for families of events.
const UNFILTERABLE_PREFIXES: [&str; 2] = ["terminal.", "node.invoke."];

/// All settings.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field is the setting of its name in table.rs")]
pub struct Config {
    pub listen: SocketAddr,
    pub upstream: Upstream,
    pub upstream_trust: Trust,
    pub tls: Option<Files>,
    pub admin_listen: SocketAddr,
    pub mode: Mode,
    pub order: Order,
    pub events: Vec<String>,
    pub runs_per_connection: usize,
    pub run_ttl: Duration,
    pub inspect_limit: usize,
    pub max_connections: usize,
    pub connect_timeout: Duration,
    pub header_timeout: Duration,
    pub drain_timeout: Duration,
    pub trusted_proxies: Vec<IpNet>,
    pub identity_headers: IdentityHeaders,
    pub tunnel_paths: Vec<String>,
    /// None: nobody is limited.
    pub guard: Option<GuardSettings>,
    pub log: LevelFilter,
    pub log_format: Format,
    /// Name, text and source of each setting, as they were given.
    pub effective: Vec<(String, String, Source)>,
}

impl Config {
    /// Parses every value.
    ///
    /// # Errors
    /// The first value that can't be used.
    pub fn new(values: &Values) -> Result<Self, BadSetting> {
        let number =
            |name, most| values.parse(name, |v| v.parse().ok().filter(|n: &usize| (1..=most).contains(n)));
        let time =
            |name, least, most| values.parse(name, |v| duration(v).filter(|d| (least..=most).contains(d)));
        let (millisecond, second, hour) =
            (Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(3600));
        let config = Self {
            listen: values.parse("LISTEN", |v| v.parse().ok())?,
            upstream: values.parse("UPSTREAM", upstream)?,
            upstream_trust: tls::trust(values)?,
            tls: tls::files(values)?,
            admin_listen: values.parse("ADMIN_LISTEN", |v| v.parse().ok())?,
            mode: values.parse("MODE", |v| match v {
                "enforce" => Some(Mode::Enforce),
                "observe" => Some(Mode::Observe),
                _ => None,
            })?,
            order: values.parse("ORDER", |v| match v {
                "stream" => Some(Order::Stream),
                "run" => Some(Order::Run),
                "none" => Some(Order::Any),
                _ => None,
            })?,
            events: values
                .parse("EVENTS", |v| list(v, |name| Some(name.to_owned())).filter(|l| !l.is_empty()))?,
            runs_per_connection: number("RUNS_PER_CONNECTION", 1_000_000)?,
            run_ttl: time("RUN_TTL", second, hour * 24 * 365)?,
            inspect_limit: values
                .parse("INSPECT_LIMIT", |v| size(v).filter(|n| (1 << 10..=32 << 20).contains(n)))?,
            max_connections: number("MAX_CONNECTIONS", 1_000_000)?,
            connect_timeout: time("CONNECT_TIMEOUT", millisecond, hour)?,
            header_timeout: time("HEADER_TIMEOUT", millisecond, hour)?,
            drain_timeout: time("DRAIN_TIMEOUT", Duration::ZERO, hour)?,
            trusted_proxies: values.check("TRUSTED_PROXIES", trusted_proxies)?,
            identity_headers: values.check("IDENTITY_HEADERS", identity_headers)?,
            tunnel_paths: values
                .parse("TUNNEL_PATHS", |v| list(v, |path| path.starts_with('/').then(|| path.to_owned())))?,
            guard: GuardSettings::new(values)?,
            log: values.parse("LOG", |v| {
                let known = ["off", "error", "warn", "info", "debug", "trace"].contains(&v);
                v.parse().ok().filter(|_| known)
            })?,
            log_format: values.parse("LOG_FORMAT", |v| match v {
                "auto" => Some(Format::Auto),
                "text" => Some(Format::Text),
                "json" => Some(Format::Json),
                _ => None,
            })?,
            effective: values.iter().map(|(name, value, source)| (name, value.to_owned(), source)).collect(),
        };
        config.check_events()?;
        config.check_addresses()?;
        config.check_trust()?;
        Ok(config)
    }

    fn check_events(&self) -> Result<(), BadSetting> {
        for name in &self.events {
            let known = UNFILTERABLE.iter().find(|(event, _)| event == name).map(|(_, why)| *why);
            let family = UNFILTERABLE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if let Some(why) = known.or(family.then_some("it has counters of its own")) {
                return Err(BadSetting::new(format!(
                    "SEQGATE_EVENTS names {name:?}, which must not be filtered: {why}"
                )));
            }
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), BadSetting> {
        if self.listen == self.admin_listen && self.listen.port() != 0 {
            return Err(BadSetting::new(format!(
                "SEQGATE_ADMIN_LISTEN is {}: expected another address than SEQGATE_LISTEN",
                self.admin_listen
            )));
        }
        let own = |address: SocketAddr| {
            let host = self.upstream.host.parse::<std::net::IpAddr>();
            let same_host = match host {
                Ok(host) => host == address.ip() || (host.is_loopback() && address.ip().is_unspecified()),
                Err(_) => self.upstream.host == "localhost",
            };
            same_host && address.port() == self.upstream.port
        };
        if own(self.listen) || own(self.admin_listen) {
            return Err(BadSetting::new(format!(
                "SEQGATE_UPSTREAM is {}: expected the gateway's address, this is seqgate's own",
                self.upstream
            )));
        }
        Ok(())
    }

    fn check_trust(&self) -> Result<(), BadSetting> {
        if self.upstream_trust != Trust::System && !self.upstream.tls {
            return Err(BadSetting::new(format!(
                "SEQGATE_UPSTREAM is {}: expected https:// or wss://, since SEQGATE_UPSTREAM_CA or _FINGERPRINT is set",
                self.upstream
            )));
        }
        Ok(())
    }

    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// The first that can't be used.
    pub fn read_files(&self) -> Result<(Route, Option<Identity>), Unusable> {
        let route = Route::new(self.upstream.clone(), &self.upstream_trust)?;
        Ok((route, self.tls.clone().map(Identity::load).transpose()?))
    }
}
