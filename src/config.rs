//! The settings: one table, read from flags and environment into values that cannot be half valid.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

use crate::filter::{Ledger, Order};
use crate::front::HTTP_BOUND;
use crate::relay::buffer_bound;
use crate::sieve::Mode;
use crate::telemetry::Format;
use crate::upstream::Upstream;

/// All settings.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field is the setting of its name in the table below")]
pub struct Config {
    pub listen: SocketAddr,
    pub upstream: Upstream,
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
    pub tunnel_paths: Vec<String>,
    pub log: LevelFilter,
    pub log_format: Format,
}

/// A setting as users know it.
struct Setting {
    /// Behind `SEQGATE_`, and in lower case with dashes behind `--`.
    name: &'static str,
    default: &'static str,
    /// What would be accepted, behind "expected".
    accepts: &'static str,
    help: &'static str,
}

/// The table of settings, in the order in which they are shown.
const SETTINGS: [Setting; 17] = [
    Setting {
        name: "LISTEN",
        default: "127.0.0.1:18900",
        accepts: "an address and port such as 127.0.0.1:18900, 0.0.0.0:18900 or [::]:18900",
        help: "where clients connect",
    },
    Setting {
        name: "UPSTREAM",
        default: "http://127.0.0.1:18789",
        accepts: "http://HOST:PORT or ws://HOST:PORT, without a path (https and wss are not supported)",
        help: "where the gateway is",
    },
    Setting {
        name: "ADMIN_LISTEN",
        default: "127.0.0.1:18901",
        accepts: "an address and port such as 127.0.0.1:18901 or 0.0.0.0:18901",
        help: "where metrics and health are served",
    },
    Setting {
        name: "MODE",
        default: "enforce",
        accepts: "enforce or observe",
        help: "drop events, or only count what would be dropped",
    },
    Setting {
        name: "ORDER",
        default: "stream",
        accepts: "stream, run or none",
        help: "what has to rise: each stream of a run, the run as a whole, or nothing (only duplicates are dropped)",
    },
    Setting {
        name: "EVENTS",
        default: "agent",
        accepts: "names of events, separated by commas",
        help: "which events are judged",
    },
    Setting {
        name: "RUNS_PER_CONNECTION",
        default: "1024",
        accepts: "a number from 1 to 1000000",
        help: "runs tracked for one connection: the size of its LRU",
    },
    Setting {
        name: "RUN_TTL",
        default: "1h",
        accepts: "a duration from 1s to 365d such as 30s, 10m or 1h",
        help: "after which an idle run is forgotten",
    },
    Setting {
        name: "INSPECT_LIMIT",
        default: "256KiB",
        accepts: "a size from 1KiB to 32MiB such as 64KiB or 1MiB",
        help: "the largest message that is judged",
    },
    Setting {
        name: "MAX_CONNECTIONS",
        default: "512",
        accepts: "a number from 1 to 1000000",
        help: "client connections at one time",
    },
    Setting {
        name: "CONNECT_TIMEOUT",
        default: "5s",
        accepts: "a duration from 1ms to 1h such as 500ms or 5s",
        help: "for a connection to the gateway",
    },
    Setting {
        name: "HEADER_TIMEOUT",
        default: "10s",
        accepts: "a duration from 1ms to 1h such as 500ms or 10s",
        help: "for the head of a request",
    },
    Setting {
        name: "DRAIN_TIMEOUT",
        default: "25s",
        accepts: "a duration from 0s to 1h such as 500ms or 25s",
        help: "in which connections may end by themselves when seqgate stops",
    },
    Setting {
        name: "TRUSTED_PROXIES",
        default: "",
        accepts: "addresses or networks such as 10.0.0.0/8 or 2001:db8::1, separated by commas",
        help: "proxies in front of seqgate that are believed about their clients' addresses",
    },
    Setting {
        name: "TUNNEL_PATHS",
        default: "/__openclaw__/,/voiceclaw/,/desktop/,/node-desktop/,/node-portal/",
        accepts: "path prefixes that begin with /, separated by commas",
        help: "WebSockets with protocols of their own: relayed, never judged",
    },
    Setting {
        name: "LOG",
        default: "info",
        accepts: "off, error, warn, info, debug or trace",
        help: "how much is logged",
    },
    Setting {
        name: "LOG_FORMAT",
        default: "auto",
        accepts: "auto, text or json",
        help: "text, or JSON; auto is text on a terminal and JSON elsewhere",
    },
];

const PREFIX: &str = "SEQGATE_";

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

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// A setting that can't be used: one line that names it and says what would be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSetting(String);

impl BadSetting {
    pub(crate) fn new(line: String) -> Self {
        Self(line)
    }
}

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadSetting {}

/// The text of every setting, and where it came from.
pub struct Values([(String, Source); SETTINGS.len()]);

impl Default for Values {
    fn default() -> Self {
        Self(SETTINGS.each_ref().map(|setting| (setting.default.to_owned(), Source::Default)))
    }
}

impl Values {
    /// Takes the `SEQGATE_*` variables of an environment.
    ///
    /// # Errors
    /// A name that is no setting (a typo must not be silent), or text that is not UTF-8.
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), BadSetting> {
        for (name, value) in variables {
            let Some(setting) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            let value = value.to_str();
            if value.is_some_and(|value| is_service_link(setting, value)) {
                continue;
            }
            let place = SETTINGS.iter().position(|s| s.name == setting).ok_or_else(|| {
                BadSetting(format!("{PREFIX}{setting} is not a setting; `seqgate --help` lists them"))
            })?;
            let value =
                value.ok_or_else(|| bad(&SETTINGS[place], "text that is not UTF-8", Source::Environment))?;
            self.0[place] = (value.to_owned(), Source::Environment);
        }
        Ok(())
    }

    /// Takes a flag, named without its dashes.
    ///
    /// # Errors
    /// There is no such flag.
    pub fn flag(&mut self, name: &str, value: String) -> Result<(), BadSetting> {
        let place = SETTINGS
            .iter()
            .position(|s| flag_name(s) == name)
            .ok_or_else(|| BadSetting(format!("--{name} is not a flag; `seqgate --help` lists them")))?;
        self.0[place] = (value, Source::Flag);
        Ok(())
    }

    /// Name, value and source of each setting.
    pub fn iter(&self) -> impl Iterator<Item = (String, &str, Source)> {
        SETTINGS
            .iter()
            .zip(&self.0)
            .map(|(s, (value, source))| (format!("{PREFIX}{}", s.name), value.as_str(), *source))
    }

    fn parse<T>(&self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, BadSetting> {
        let found = SETTINGS.iter().zip(&self.0).find(|(setting, _)| setting.name == name);
        let (setting, (value, source)) =
            found.ok_or_else(|| BadSetting(format!("{PREFIX}{name} is not a setting")))?;
        parse(value.trim()).ok_or_else(|| bad(setting, value, *source))
    }
}

fn bad(setting: &Setting, value: &str, source: Source) -> BadSetting {
    let name = match source {
        Source::Flag => format!("--{}", flag_name(setting)),
        _ => format!("{PREFIX}{}", setting.name),
    };
    BadSetting(format!("{name} is {value:?}: expected {}", setting.accepts))
}

fn flag_name(setting: &Setting) -> String {
    setting.name.to_ascii_lowercase().replace('_', "-")
}

/// Kubernetes and Docker links put variables like `SEQGATE_PORT=tcp://10.0.0.1:18900` into every container next
/// to a service that is called seqgate. They are nobody's typo.
fn is_service_link(setting: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let link = |rest: &str| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| rest.starts_with(protocol))
    };
    setting.ends_with("SERVICE_HOST")
        || setting.ends_with("SERVICE_PORT")
        || setting.contains("SERVICE_PORT_")
        || (setting.ends_with("PORT") && is_address)
        || setting.split("PORT_").skip(1).any(link)
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
            trusted_proxies: values.parse("TRUSTED_PROXIES", |v| list(v, network))?,
            tunnel_paths: values
                .parse("TUNNEL_PATHS", |v| list(v, |path| path.starts_with('/').then(|| path.to_owned())))?,
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
        };
        config.check_events()?;
        config.check_addresses()?;
        Ok(config)
    }

    fn check_events(&self) -> Result<(), BadSetting> {
        for name in &self.events {
            let known = UNFILTERABLE.iter().find(|(event, _)| event == name).map(|(_, why)| *why);
            let family = UNFILTERABLE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if let Some(why) = known.or(family.then_some("it has counters of its own")) {
                return Err(BadSetting(format!(
                    "SEQGATE_EVENTS names {name:?}, which must not be filtered: {why}"
                )));
            }
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), BadSetting> {
        if self.listen == self.admin_listen && self.listen.port() != 0 {
            return Err(BadSetting(format!(
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
            return Err(BadSetting(format!(
                "SEQGATE_UPSTREAM is {}: expected the gateway's address, this is seqgate's own",
                self.upstream
            )));
        }
        Ok(())
    }

    /// The memory that connections can take together at most, in bytes: the promise printed at start.
    #[must_use]
    pub fn memory_bound(&self) -> MemoryBound {
        MemoryBound {
            connections: self.max_connections,
            runs: self.runs_per_connection,
            run_bytes: Ledger::RUN_BYTES,
            buffers: Ledger::BASE_BYTES + buffer_bound(self.inspect_limit).max(HTTP_BOUND),
        }
    }
}

/// What memory is made of.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBound {
    connections: usize,
    runs: usize,
    run_bytes: usize,
    buffers: usize,
}

impl MemoryBound {
    /// In bytes, all together.
    #[must_use]
    pub fn total(&self) -> u64 {
        let connection = self.runs as u64 * self.run_bytes as u64 + self.buffers as u64;
        connection.saturating_mul(self.connections as u64)
    }
}

impl fmt::Display for MemoryBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(
            f,
            "at most {} MiB for connections: {} connections x ({} runs x {} B + {} KiB of buffers)",
            mib(self.total()),
            self.connections,
            self.runs,
            self.run_bytes,
            self.buffers.div_ceil(1 << 10),
        )
    }
}

/// The part of `--help` that lists the settings.
#[must_use]
pub fn help() -> String {
    let lines = SETTINGS.iter().map(|s| {
        let default = if s.default.is_empty() { "(empty)" } else { s.default };
        format!(
            "  {:<29} {}\n  {:<29} default {default}\n",
            format!("{PREFIX}{}", s.name),
            s.help,
            format!("--{}", flag_name(s))
        )
    });
    lines.collect()
}

fn upstream(text: &str) -> Option<Upstream> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("ws://"))?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = rest.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').filter(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty() && host.chars().all(is_host)).then(|| Upstream { host: host.to_owned(), port })
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

/// A number and its unit, without a space: `500ms`, `1h`.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

/// As in `500ms`, `30s`, `10m`, `1h`, `7d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// As in `4096B`, `64KiB`, `1MiB`; a bare number is bytes.
fn size(text: &str) -> Option<usize> {
    let (number, unit) = split_unit(text)?;
    let bytes = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.checked_mul(bytes)?.try_into().ok()
}
