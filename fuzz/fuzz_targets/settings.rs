//! Whatever stands in the environment: there is a configuration within its limits, whose values say the same when they
//! are read again; or one line that says what is wrong.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use seqgate::config::{BadSetting, Config, Values};

fuzz_target!(|input: &[u8]| {
    let lines =
        input.split(|byte| *byte == 0).map(|line| line.split(|byte| *byte == b'=').collect::<Vec<_>>());
    let pairs: Vec<_> =
        lines.filter(|words| words.len() > 1).map(|words| (words[0], words[1..].join(&b'='))).collect();
    if let Err(error) = read(&pairs) {
        let line = error.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
});

fn read(pairs: &[(&[u8], Vec<u8>)]) -> Result<(), BadSetting> {
    let mut values = Values::default();
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    for (name, value) in pairs {
        match name.strip_prefix(b"--") {
            Some(flag) => {
                let (flag, value) = (String::from_utf8_lossy(flag), String::from_utf8_lossy(value));
                values.flag(&flag, value.into_owned())?;
            }
            None => values.environment([(text(name), text(value))])?,
        }
    }
    let config = Config::new(&values)?;
    assert!((1..=1_000_000).contains(&config.runs_per_connection));
    assert!((1..=1_000_000).contains(&config.max_connections));
    assert!((1 << 10..=32 << 20).contains(&config.inspect_limit));
    assert!(config.run_ttl >= Duration::from_secs(1) && config.connect_timeout > Duration::ZERO);
    assert!(!config.events.is_empty() && config.memory_bound().total() > 0);
    assert!(config.tunnel_paths.iter().all(|path| path.starts_with('/')));
    // What was understood is understood again.
    let shown = [
        ("listen", config.listen.to_string()),
        ("upstream", config.upstream.to_string()),
        ("events", config.events.join(",")),
        (
            "trusted-proxies",
            config.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        ),
        ("run-ttl", format!("{}ms", config.run_ttl.as_millis())),
        ("inspect-limit", config.inspect_limit.to_string()),
    ];
    for (name, value) in shown {
        values.flag(name, value)?;
    }
    let again = Config::new(&values).expect("what was accepted is accepted again");
    assert_eq!(again.upstream, config.upstream);
    assert_eq!((again.listen, again.events), (config.listen, config.events));
    assert_eq!((again.trusted_proxies, again.run_ttl), (config.trusted_proxies, config.run_ttl));
    assert_eq!(again.inspect_limit, config.inspect_limit);
    Ok(())
}
