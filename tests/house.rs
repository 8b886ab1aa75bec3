//! The house keeps its order: a file uses only what stands above it in the map of `src/lib.rs`, and the pure
//! core stays pure.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// The map of `src/lib.rs`, lowest layer first.
const ORDER: [&str; 27] = [
    "wire",
    "json",
    "event",
    "stamp",
    "filter",
    "distinct",
    "sieve",
    "guard",
    "roster",
    "metrics",
    "journal",
    "telemetry",
    "drain",
    "credentials",
    "socket",
    "relay",
    "upstream",
    "front",
    "status",
    "admin",
    "config",
    "app",
    "supervisor",
    "healthcheck",
    "demo",
    "replay",
    "cli",
];
const PURE: usize = 8;

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(&src).unwrap();
            let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
            found.push((module, path, code));
        }
    }
    found
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == module)
}

#[test]
fn every_module_has_its_place_and_uses_only_what_stands_above_it() {
    let mut seen = Vec::new();
    for (module, path, code) in sources() {
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let own = place(&module).unwrap_or_else(|| panic!("{module} has no place in the house"));
        seen.push(own);
        let uses = code
            .match_indices("crate::")
            .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric()));
        for (at, _) in uses {
            let rest = &code[at + "crate::".len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(group) => group.split('}').next().unwrap().split(',').map(str::trim).collect(),
                None => vec![rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()],
            };
            for name in names {
                let name = name.split("::").next().unwrap();
                let used = place(name).unwrap_or_else(|| panic!("{}: crate::{name}", path.display()));
                assert!(
                    used < own || name == module,
                    "{} uses {name}, which stands below it",
                    path.display()
                );
            }
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..ORDER.len()).collect::<Vec<_>>(), "a place in the house is empty");
}

#[test]
fn the_core_has_no_runtime_no_clock_no_log_and_no_metrics() {
    for (module, path, code) in sources() {
        if place(&module).is_none_or(|place| place >= PURE) {
            continue;
        }
        let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for word in
            ["tokio", "Instant", "SystemTime", "tracing", "prometheus", "println", "std::io", "std::net"]
        {
            assert!(!code.contains(word), "{} mentions {word}", path.display());
        }
    }
}

#[test]
fn nothing_is_unsafe() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
}
