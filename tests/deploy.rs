//! What is written under deploy/ is true of the program: metrics, settings and runbook entries that it names exist.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use net::house;
use seqgate::config::{Config, Values};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All text files under a folder.
fn texts(folder: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.push((path, text));
            }
        }
    }
    found
}

/// The names in a text that begin like this.
fn names<'a>(text: &'a str, prefix: &str, part: impl Fn(char) -> bool) -> BTreeSet<&'a str> {
    let starts = text.match_indices(prefix).map(|(at, _)| at);
    let whole =
        starts.filter(|at| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || "_-.".contains(c)));
    whole
        .map(|at| {
            let end = text[at..].find(|c| !part(c)).map_or(text.len(), |n| at + n);
            text[at..end].trim_end_matches('_')
        })
        .collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/seqgate.json")).unwrap()
}

/// Its panels without the rows.
fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").collect()
}

/// The metric names on a page of `/metrics`, those of a histogram included.
async fn exported() -> BTreeSet<String> {
    let (_gateway, seqgate) = house(&[]).await;
    let (_, page) = seqgate.admin("/metrics").await;
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_rules_and_dashboard_name_is_exported() {
    let exported = exported().await;
    let rules = read("deploy/prometheus/seqgate.rules.yaml");
    let dashboard = read("deploy/grafana/seqgate.json");
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut seen = 0;
    for text in [&rules, &dashboard, &read("deploy/prometheus/seqgate.test.yaml")] {
        for name in ["seqgate_", "process_"].iter().flat_map(|prefix| names(text, prefix, is_part)) {
            assert!(exported.contains(name), "{name} is not exported");
            seen += 1;
        }
        let is_part = |c: char| is_part(c) || c == ':';
        for name in names(text, "seqgate:", is_part) {
            assert!(rules.contains(&format!("record: {name}\n")), "{name} is not recorded");
        }
    }
    assert!(seen > 40, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_exported_is_in_the_readme_and_on_the_dashboard() {
    let (readme, dashboard) = (read("README.md"), read("deploy/grafana/seqgate.json"));
    for name in exported().await {
        let Some(short) = name.strip_prefix("seqgate_") else { continue };
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| short.strip_suffix(end)).unwrap_or(short);
        assert!(
            readme.contains(&format!("`{family}`")) || readme.contains(&format!("`{family}{{")),
            "{family}"
        );
        assert!(dashboard.contains(&format!("seqgate_{family}")), "{family} is not on the dashboard");
    }
}

#[test]
fn every_alert_has_all_that_somebody_at_night_needs_and_a_test_of_both_kinds() {
    let (rules, tests) =
        (read("deploy/prometheus/seqgate.rules.yaml"), read("deploy/prometheus/seqgate.test.yaml"));
    let runbook = read("deploy/RUNBOOK.md");
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 11);
    for alert in &alerts {
        let name = alert.lines().next().unwrap();
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
        let anchor = name.to_lowercase();
        assert!(alert.contains(&format!("runbook_url: deploy/RUNBOOK.md#{anchor}\n")), "{name}");
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} is not in the runbook");
        let cases: Vec<_> = tests.split("alertname: ").filter(|case| case.starts_with(name)).collect();
        assert!(cases.iter().any(|case| case.contains("exp_alerts:")), "no test lets {name} fire");
        let quiet = |case: &&&str| case.lines().next().unwrap().ends_with('}');
        assert!(cases.iter().any(|case| quiet(&case)), "no test wants {name} to be quiet");
    }
    let entries = runbook.matches("\n## ").count();
    assert_eq!(entries, alerts.len(), "the runbook has an entry without an alert");
}

#[test]
fn kubernetes_gets_the_same_rules() {
    let rules = read("deploy/prometheus/seqgate.rules.yaml");
    let resource = read("deploy/kubernetes/monitoring/prometheusrule.yaml");
    let groups = rules.split_once("\ngroups:").unwrap().1;
    let spec = resource.split_once("\n  groups:").unwrap().1;
    let unindented: Vec<_> = spec.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    assert_eq!(unindented, groups.lines().collect::<Vec<_>>());
}

#[test]
fn every_panel_has_a_description_a_unit_and_a_legend() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
    }
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 15), "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert!(target["legendFormat"].as_str().is_some_and(|text| !text.is_empty()), "{title}");
            assert!(target["expr"].as_str().unwrap().contains("instance=~\"$instance\""), "{title}");
        }
    }
    assert_eq!(dashboard["uid"], "seqgate");
    assert_eq!(dashboard["panels"][0]["title"], "Is it well?");
}

#[test]
fn every_setting_that_deployments_name_is_one() {
    let values = Values::default();
    let settings: BTreeSet<String> = values.iter().map(|(name, ..)| name).collect();
    let mut files = texts("deploy");
    files.push((root().join("Dockerfile"), read("Dockerfile")));
    let mut seen = 0;
    for (path, text) in files {
        for name in names(&text, "SEQGATE_", |c| c.is_ascii_uppercase() || c == '_') {
            // Of compose's own: which image to run.
            assert!(settings.contains(name) || name == "SEQGATE_IMAGE", "{}: {name}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn every_promise_of_memory_is_the_one_that_check_prints() {
    let mut seen = 0;
    for (path, text) in texts("deploy") {
        let said = text.lines().filter(|line| line.contains("`seqgate check`")).find_map(|line| {
            let (before, _) = line.split_once(" MiB")?;
            before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
        });
        let Some(said) = said else { continue };
        let mut values = Values::default();
        if let Some(connections) = set_connections(&text) {
            values.flag("max-connections", connections).unwrap();
        }
        let promise = Config::new(&values).unwrap().memory_bound().total().div_ceil(1 << 20);
        assert_eq!(said, promise, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

/// What a deployment sets the number of connections to, if it does.
fn set_connections(text: &str) -> Option<String> {
    let behind = text.split("SEQGATE_MAX_CONNECTIONS").skip(1);
    let mut values = behind.filter_map(|rest| {
        let value = rest.strip_prefix(", value: \"").or_else(|| rest.strip_prefix(": \""))?;
        Some(value.split('"').next()?.to_owned())
    });
    values.next()
}
