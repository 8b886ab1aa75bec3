//! Settings: what is accepted, what is refused, and with which words.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use seqgate::config::{BadSetting, Config, Source, Values};
use seqgate::credentials::Trust;
use seqgate::filter::Order;
use seqgate::sieve::Mode;

fn environment(pairs: &[(&str, &str)]) -> Result<Config, BadSetting> {
    let mut values = Values::default();
    values.environment(pairs.iter().map(|(name, value)| (name.into(), value.into())))?;
    Config::new(&values)
}

fn refusal(name: &str, value: &str) -> String {
    environment(&[(name, value)]).expect_err(&format!("{name}={value:?} was accepted")).to_string()
}

#[test]
fn the_defaults_are_those_of_the_readme() {
    let config = environment(&[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:18900");
    assert_eq!(config.upstream.to_string(), "http://127.0.0.1:18789");
    assert_eq!((config.upstream_trust, config.tls), (Trust::System, None));
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:18901");
    assert_eq!((config.mode, config.order), (Mode::Enforce, Order::Stream));
    assert_eq!(config.events, ["agent"]);
    assert_eq!(config.runs_per_connection, 1024);
    assert_eq!(config.run_ttl, Duration::from_secs(3600));
    assert_eq!(config.inspect_limit, 256 * 1024);
    assert_eq!(config.max_connections, 512);
    assert_eq!(config.connect_timeout, Duration::from_secs(5));
    assert_eq!(config.header_timeout, Duration::from_secs(10));
    assert_eq!(config.drain_timeout, Duration::from_secs(25));
    assert!(config.trusted_proxies.is_empty());
    let paths = ["/__openclaw__/", "/voiceclaw/", "/desktop/", "/node-desktop/", "/node-portal/"];
    assert_eq!(config.tunnel_paths, paths);
    assert!(config.guard.is_none());
}

#[test]
fn the_run_guard_is_on_where_one_of_its_limits_is_set_and_the_rest_follows() {
    let limits = |pairs: &[(&str, &str)]| {
        let guard = environment(pairs).unwrap().guard?;
        let (limits, number) = (guard.limits, |n: Option<std::num::NonZeroU32>| n.map(|n| n.get()));
        let rate = number(limits.runs_per_minute).map(|rate| (rate, limits.burst.get()));
        Some((rate, number(limits.max_live_runs), limits.max_run_id, guard.scope.name()))
    };
    let rate = ("SEQGATE_GUARD_RUNS_PER_MINUTE", "30");
    assert_eq!(limits(&[rate]), Some((Some((30, 30)), None, 256, "address")));
    let with_burst = [rate, ("SEQGATE_GUARD_BURST", "5"), ("SEQGATE_GUARD_SCOPE", "connection")];
    assert_eq!(limits(&with_burst), Some((Some((30, 5)), None, 256, "connection")));
    assert_eq!(limits(&[("SEQGATE_GUARD_MAX_LIVE_RUNS", "7")]), Some((None, Some(7), 256, "address")));
    assert_eq!(limits(&[("SEQGATE_GUARD_MAX_RUN_ID", "64")]), Some((None, None, 64, "address")));
    assert_eq!(limits(&[("SEQGATE_GUARD_SCOPE", "connection")]), None);
    assert_eq!(
        refusal("SEQGATE_GUARD_BURST", "5"),
        "SEQGATE_GUARD_BURST is set: expected SEQGATE_GUARD_RUNS_PER_MINUTE to be set too"
    );
    for value in ["0", "-1", "1000001", "many", "1.5"] {
        let line = refusal("SEQGATE_GUARD_RUNS_PER_MINUTE", value);
        assert!(
            line.starts_with(&format!(
                "SEQGATE_GUARD_RUNS_PER_MINUTE is {value:?}: expected a number from 1"
            )),
            "{line}"
        );
    }
}

#[test]
fn what_the_run_guard_may_know_is_in_the_memory_promise() {
    let with = |pairs: &[(&str, &str)]| environment(pairs).unwrap().memory_bound();
    let off = with(&[]);
    let on = with(&[("SEQGATE_GUARD_RUNS_PER_MINUTE", "30")]);
    let wide = with(&[("SEQGATE_GUARD_RUNS_PER_MINUTE", "30"), ("SEQGATE_GUARD_MAX_LIVE_RUNS", "1000")]);
    // A held request and its decoding for each connection, less what only HTTP takes; and four times as many clients.
    assert!(on.total() - off.total() > 512 * 3 * 256 * 1024);
    assert!(wide.total() - on.total() > 4 * 512 * 1000 * 24);
    assert!(!off.to_string().contains("guard") && on.to_string().contains("what the guard knows of clients"));
}

#[test]
fn values_of_every_kind_are_read() {
    let config = environment(&[
        ("SEQGATE_LISTEN", "[::]:1"),
        ("SEQGATE_UPSTREAM", "ws://[::1]:2/"),
        ("SEQGATE_MODE", "observe"),
        ("SEQGATE_ORDER", "none"),
        ("SEQGATE_EVENTS", "agent, agent.custom"),
        ("SEQGATE_RUN_TTL", "90m"),
        ("SEQGATE_INSPECT_LIMIT", "1MiB"),
        ("SEQGATE_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1,2001:db8::/32"),
        ("SEQGATE_TUNNEL_PATHS", ""),
        ("UNRELATED", "x"),
    ])
    .unwrap();
    assert_eq!(config.listen.to_string(), "[::]:1");
    assert_eq!((config.upstream.host.as_str(), config.upstream.port), ("::1", 2));
    assert_eq!(config.upstream.to_string(), "http://[::1]:2");
    for (text, url) in [("wss://gateway:443/", "https://gateway:443"), ("https://[::1]:1", "https://[::1]:1")]
    {
        assert_eq!(environment(&[("SEQGATE_UPSTREAM", text)]).unwrap().upstream.to_string(), url);
    }
    assert_eq!((config.mode, config.order), (Mode::Observe, Order::Any));
    assert_eq!(config.events, ["agent", "agent.custom"]);
    assert_eq!(config.run_ttl, Duration::from_secs(5400));
    assert_eq!(config.inspect_limit, 1 << 20);
    let nets: Vec<String> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(nets, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]);
    assert!(config.tunnel_paths.is_empty());
}

#[test]
fn a_bad_value_is_refused_with_its_name_its_value_and_what_would_be_accepted() {
    for (name, value) in [
        ("SEQGATE_LISTEN", "localhost:1"),
        ("SEQGATE_LISTEN", "127.0.0.1"),
        ("SEQGATE_UPSTREAM", "127.0.0.1:18789"),
        ("SEQGATE_UPSTREAM", "ftp://gateway:443"),
        ("SEQGATE_UPSTREAM", "http://gateway"),
        ("SEQGATE_UPSTREAM", "http://gateway:1/path"),
        ("SEQGATE_UPSTREAM", "http://gateway:0"),
        ("SEQGATE_UPSTREAM", "http://[::1:2"),
        ("SEQGATE_UPSTREAM", "http://a:b:2"),
        ("SEQGATE_UPSTREAM", "http://::1:2"),
        ("SEQGATE_MODE", "Enforce"),
        ("SEQGATE_ORDER", ""),
        ("SEQGATE_EVENTS", " , "),
        ("SEQGATE_RUNS_PER_CONNECTION", "0"),
        ("SEQGATE_RUNS_PER_CONNECTION", "1000001"),
        ("SEQGATE_RUNS_PER_CONNECTION", "99999999999999999999"),
        ("SEQGATE_RUN_TTL", "1"),
        ("SEQGATE_RUN_TTL", "0s"),
        ("SEQGATE_RUN_TTL", "99999999999999999h"),
        ("SEQGATE_INSPECT_LIMIT", "1KB"),
        ("SEQGATE_INSPECT_LIMIT", "33MiB"),
        ("SEQGATE_MAX_CONNECTIONS", "-1"),
        ("SEQGATE_CONNECT_TIMEOUT", "5 s"),
        ("SEQGATE_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("SEQGATE_TRUSTED_PROXIES", "everybody"),
        ("SEQGATE_TRUSTED_PROXIES", "0.0.0.0/0"),
        ("SEQGATE_TRUSTED_PROXIES", "10.1.2.3/8"),
        ("SEQGATE_IDENTITY_HEADERS", "x user"),
        ("SEQGATE_IDENTITY_HEADERS", "*"),
        ("SEQGATE_IDENTITY_HEADERS", "x-*-user"),
        ("SEQGATE_IDENTITY_HEADERS", "x-sso, Authorization"),
        ("SEQGATE_TUNNEL_PATHS", "desktop/"),
        ("SEQGATE_LOG", "loud"),
        ("SEQGATE_LOG_FORMAT", "xml"),
    ] {
        let line = refusal(name, value);
        assert!(line.starts_with(&format!("{name} is {value:?}: expected ")), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }
}

#[test]
fn networks_that_trust_every_client_are_refused() {
    for value in [
        "0.0.0.0/0",
        "::/0",
        "::ffff:0:0/96",
        "10.1.2.3/0",
        "2001:db8::1/0",
        "10.0.0.1, 0.0.0.0/0",
        "0.0.0.0/1,128.0.0.0/1",
        "128.0.0.0/1, 10.0.0.1, 0.0.0.0/2, 64.0.0.0/2",
        "0.0.0.0/1,128.0.0.0/2,192.0.0.0/3",
        "::ffff:0.0.0.0/97, 128.0.0.0/1",
        "::/1, 8000::/1",
        "2000::/3",
        "2000::/4,3000::/4",
    ] {
        let line = refusal("SEQGATE_TRUSTED_PROXIES", value);
        assert!(line.contains("every client would be trusted"), "{line}");
    }
    for value in ["0.0.0.0/1", "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16", "fc00::/7", "2000::/4", "0.0.0.0"] {
        environment(&[("SEQGATE_TRUSTED_PROXIES", value)]).unwrap();
    }
}

#[test]
fn a_network_with_bits_after_its_prefix_is_refused_with_both_meanings() {
    for (value, network, address) in [
        ("10.1.2.3/8", "10.0.0.0/8", "10.1.2.3/32"),
        ("192.0.2.0/24, 10.1.2.3/31", "10.1.2.2/31", "10.1.2.3/32"),
        ("2001:db8::1/32", "2001:db8::/32", "2001:db8::1/128"),
        ("::ffff:10.1.2.3/104", "10.0.0.0/8", "10.1.2.3/32"),
    ] {
        let line = refusal("SEQGATE_TRUSTED_PROXIES", value);
        let meanings = format!("expected {network} for the whole network or {address} for the one address");
        assert!(line.contains(&meanings), "{line}");
    }
    let mut values = Values::default();
    values.flag("trusted-proxies", "10.1.2.3/8".to_owned()).unwrap();
    let line = Config::new(&values).unwrap_err().to_string();
    assert!(line.starts_with("--trusted-proxies is \"10.1.2.3/8\": expected 10.0.0.0/8"), "{line}");
}

#[test]
fn ipv4_addresses_in_ipv6_are_the_ipv4_addresses() {
    let config =
        environment(&[("SEQGATE_TRUSTED_PROXIES", "::ffff:10.0.0.0/104, ::ffff:192.0.2.1")]).unwrap();
    let nets: Vec<String> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(nets, ["10.0.0.0/8", "192.0.2.1/32"]);
}

#[test]
fn identity_headers_are_added_to_the_well_known_ones() {
    let headers = |value: &str| environment(&[("SEQGATE_IDENTITY_HEADERS", value)]).unwrap().identity_headers;
    let known = headers("");
    assert_eq!(known, environment(&[]).unwrap().identity_headers);
    assert_eq!(headers("X-Authentik-Username, REMOTE_USER"), known);
    assert_ne!(headers("x-acme-user"), known);
    assert_eq!(headers("X_Acme_User"), headers("x-acme-user"));
    assert_eq!(headers("x-acme-*, x-acme-user"), headers("X-ACME-*"));
    let line = refusal("SEQGATE_IDENTITY_HEADERS", "x-forwarded-*");
    assert!(line.contains("do not cover x-forwarded-for"), "{line}");
}

#[test]
fn events_that_must_not_be_filtered_are_refused_with_the_reason() {
    for event in
        ["chat", "session.tool", "session.message", "terminal.data", "talk.event", "node.invoke.result"]
    {
        let line = refusal("SEQGATE_EVENTS", &format!("agent,{event}"));
        assert!(line.contains(event) && line.contains("must not be filtered"), "{line}");
    }
}

#[test]
fn a_typo_is_not_silent_but_service_links_are_nobodys_typo() {
    let line = refusal("SEQGATE_LISTN", "127.0.0.1:1");
    assert!(line.starts_with("SEQGATE_LISTN is not a setting"), "{line}");
    environment(&[
        ("SEQGATE_SERVICE_HOST", "10.0.0.1"),
        ("SEQGATE_SERVICE_PORT", "18900"),
        ("SEQGATE_SERVICE_PORT_HTTP", "18900"),
        ("SEQGATE_PORT", "tcp://10.0.0.1:18900"),
        ("SEQGATE_PORT_18900_TCP", "tcp://10.0.0.1:18900"),
        ("SEQGATE_PORT_18900_TCP_ADDR", "10.0.0.1"),
        ("SEQGATE_ADMIN_SERVICE_HOST", "10.0.0.1"),
        ("SEQGATE_ADMIN_PORT_18901_TCP_PROTO", "tcp"),
    ])
    .unwrap();
    assert!(environment(&[("SEQGATE_PORT", "18900")]).is_err());
}

#[test]
fn a_name_with_control_characters_is_refused_in_one_line() {
    let line = refusal("SEQGATE_MODE\n\x1b[2J", "observe");
    assert!(line.starts_with("SEQGATE_MODE\\n\\u{1b}[2J is not a setting"), "{line}");
    let line = Values::default().flag("mo\nde", String::new()).unwrap_err().to_string();
    assert!(line.starts_with("--mo\\nde is not a flag"), "{line}");
}

#[test]
fn text_that_is_not_utf8_is_refused_and_not_read() {
    let mut values = Values::default();
    let value = OsString::from_vec(vec![0xff, b'x']);
    let line = values.environment([("SEQGATE_MODE".into(), value)]).unwrap_err().to_string();
    assert!(line.starts_with("SEQGATE_MODE is "), "{line}");
    values.environment([("OTHER".into(), OsString::from_vec(vec![0xff]))]).unwrap();
}

#[test]
fn a_flag_wins_over_the_environment_and_the_source_is_known() {
    let mut values = Values::default();
    values
        .environment([("SEQGATE_MODE".into(), "observe".into()), ("SEQGATE_LOG".into(), "debug".into())])
        .unwrap();
    values.flag("mode", "enforce".to_owned()).unwrap();
    assert_eq!(Config::new(&values).unwrap().mode, Mode::Enforce);
    let source = |wanted: &str| values.iter().find(|(name, ..)| name == wanted).unwrap().2;
    assert_eq!(source("SEQGATE_MODE"), Source::Flag);
    assert_eq!(source("SEQGATE_LOG"), Source::Environment);
    assert_eq!(source("SEQGATE_LISTEN"), Source::Default);
    assert!(values.flag("mod", String::new()).is_err());
    values.flag("run-ttl", "soon".to_owned()).unwrap();
    assert!(Config::new(&values).unwrap_err().to_string().starts_with("--run-ttl is \"soon\": expected "));
}

#[test]
fn seqgate_is_not_put_in_front_of_itself() {
    for (listen, upstream) in [
        ("127.0.0.1:18789", "http://127.0.0.1:18789"),
        ("0.0.0.0:18789", "http://127.0.0.1:18789"),
        ("0.0.0.0:18789", "http://localhost:18789"),
        ("[::]:18789", "ws://[::1]:18789"),
    ] {
        let line = environment(&[("SEQGATE_LISTEN", listen), ("SEQGATE_UPSTREAM", upstream)]).unwrap_err();
        assert!(line.to_string().contains("this is seqgate's own"), "{line}");
    }
    let line = environment(&[("SEQGATE_ADMIN_LISTEN", "127.0.0.1:18900")]).unwrap_err().to_string();
    assert!(line.contains("SEQGATE_ADMIN_LISTEN"), "{line}");
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    for (url, shown) in [
        ("http://user:secret@gateway:18789", "http://***@gateway:18789"),
        ("user:secret@gateway", "***@gateway"),
        ("user:secret://@gateway", "***@gateway"),
    ] {
        let line = environment(&[("SEQGATE_UPSTREAM", url)]).unwrap_err().to_string();
        assert!(line.starts_with(&format!("SEQGATE_UPSTREAM is {shown:?}: expected ")), "{line}");
    }
}

#[test]
fn the_memory_promise_is_the_sum_of_its_parts_and_does_not_overflow() {
    let small =
        environment(&[("SEQGATE_MAX_CONNECTIONS", "1"), ("SEQGATE_RUNS_PER_CONNECTION", "1")]).unwrap();
    let more_runs =
        environment(&[("SEQGATE_MAX_CONNECTIONS", "1"), ("SEQGATE_RUNS_PER_CONNECTION", "1001")]).unwrap();
    let twice =
        environment(&[("SEQGATE_MAX_CONNECTIONS", "2"), ("SEQGATE_RUNS_PER_CONNECTION", "1")]).unwrap();
    let run = seqgate::filter::Ledger::RUN_BYTES as u64;
    assert_eq!(more_runs.memory_bound().total() - small.memory_bound().total(), 1000 * run);
    assert_eq!(twice.memory_bound().total(), 2 * small.memory_bound().total());
    let with_tls = environment(&[
        ("SEQGATE_MAX_CONNECTIONS", "1"),
        ("SEQGATE_RUNS_PER_CONNECTION", "1"),
        ("SEQGATE_UPSTREAM", "https://gateway:443"),
        ("SEQGATE_TLS_CERT", "cert.pem"),
        ("SEQGATE_TLS_KEY", "key.pem"),
    ])
    .unwrap();
    // Those that are turned away speak TLS, too.
    let sessions = (2 + seqgate::front::TURNED_AWAY as u64) * seqgate::socket::SESSION_BOUND as u64;
    assert_eq!(with_tls.memory_bound().total() - small.memory_bound().total(), sessions);
    let absurd = environment(&[
        ("SEQGATE_MAX_CONNECTIONS", "1000000"),
        ("SEQGATE_RUNS_PER_CONNECTION", "1000000"),
        ("SEQGATE_INSPECT_LIMIT", "32MiB"),
    ]);
    assert!(absurd.unwrap().memory_bound().total() > 1 << 40);
}
