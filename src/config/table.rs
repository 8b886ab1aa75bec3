//! The table of settings.

/// A setting as users know it.
pub(super) struct Setting {
    /// Behind `SEQGATE_`, and in lower case with dashes behind `--`.
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    /// What would be accepted, behind "expected".
    pub(super) accepts: &'static str,
    help: &'static str,
}

/// The table of settings, in the order in which they are shown.
pub(super) const SETTINGS: [Setting; 27] = [
    Setting {
        name: "LISTEN",
        default: "127.0.0.1:18900",
        accepts: "an address and port such as 127.0.0.1:18900, 0.0.0.0:18900 or [::]:18900",
        help: "where clients connect",
    },
    Setting {
        name: "UPSTREAM",
        default: "http://127.0.0.1:18789",
        accepts: "http://HOST:PORT, https://HOST:PORT or the same with ws and wss, without a path",
        help: "where the gateway is",
    },
    Setting {
        name: "UPSTREAM_CA",
        default: "",
        accepts: "a file with certificates (PEM)",
        help: "authorities for the gateway's certificate, instead of the system's",
    },
    Setting {
        name: "UPSTREAM_FINGERPRINT",
        default: "",
        accepts: "the SHA-256 of a certificate: 64 hex digits, with colons or without",
        help: "the one certificate that is the gateway's, whoever made it",
    },
    Setting {
        name: "TLS_CERT",
        default: "",
        accepts: "a file with a certificate and its chain (PEM)",
        help: "clients speak TLS, and are shown this; read again when it changes",
    },
    Setting {
        name: "TLS_KEY",
        default: "",
        accepts: "a file with a private key (PEM)",
        help: "the key of that certificate",
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
        help: "proxies in front of seqgate that are believed about their clients' addresses and users",
    },
    Setting {
        name: "IDENTITY_HEADERS",
        default: "",
        accepts: "names of headers, or X-FAMILY-* for all that begin so, separated by commas",
        help: "headers that name a user besides the well-known ones: accepted from trusted proxies only",
    },
    Setting {
        name: "TUNNEL_PATHS",
        default: "/__openclaw__/,/voiceclaw/,/desktop/,/node-desktop/,/node-portal/",
        accepts: "path prefixes that begin with /, separated by commas",
        help: "WebSockets with protocols of their own: relayed, never judged",
    },
    Setting {
        name: "GUARD_RUNS_PER_MINUTE",
        default: "",
        accepts: "a number from 1 to 1000000, or nothing for no limit",
        help: "runs that a client may start in a minute; the others are refused as the gateway would",
    },
    Setting {
        name: "GUARD_BURST",
        default: "",
        accepts: "a number from 1 to 1000000 beside SEQGATE_GUARD_RUNS_PER_MINUTE, or nothing for a minute's worth",
        help: "of these, how many at once",
    },
    Setting {
        name: "GUARD_MAX_LIVE_RUNS",
        default: "",
        accepts: "a number from 1 to 10000, or nothing for no limit",
        help: "runs of a client that may go on at one time",
    },
    Setting {
        name: "GUARD_MAX_RUN_ID",
        default: "",
        accepts: "a number of bytes from 1 to 65536, or nothing for 256 where another limit of the guard is set",
        help: "the longest run id that a client may choose",
    },
    Setting {
        name: "GUARD_SCOPE",
        default: "address",
        accepts: "address or connection",
        help: "what counts as a client of the guard",
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

pub(super) const PREFIX: &str = "SEQGATE_";

/// The name behind `--`.
pub(super) fn flag_name(setting: &Setting) -> String {
    setting.name.to_ascii_lowercase().replace('_', "-")
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
