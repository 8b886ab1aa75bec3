//! The report as a page that stands by itself: without a script it is a snapshot, with one it renews its parts.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use super::chart::{self, Line};
use super::report::{Connection, hash, since_epoch};
use super::{INTERVAL, Report, SAMPLES};
use crate::metrics::Totals;
use crate::sieve::{Dropped, Mode};

/// Head, style and script. `{{nonce}}` is what the answer's Content-Security-Policy allows to run.
const SHELL: &str = include_str!("page.html");
/// Samples that charts can span: a minute, three, ten.
const SPANS: [usize; 3] = [30, 90, SAMPLES];

impl Report<'_> {
    /// As HTML; `nonce` has to be a new random one for each answer.
    #[must_use]
    pub fn html(&self, nonce: &str) -> String {
        let parts = [
            ("{{nonce}}", nonce.to_owned()),
            ("{{interval}}", INTERVAL.as_millis().to_string()),
            ("{{about}}", self.about()),
            ("{{outlook}}", self.outlook_part()),
            ("{{numbers}}", self.numbers()),
            ("{{charts}}", self.charts()),
            ("{{connections}}", self.connections_table()),
            ("{{drops}}", self.drops_table()),
            ("{{guard}}", self.guard_part()),
            ("{{settings}}", self.settings_list()),
        ];
        // Parts are put in one after the other, so what a part contains is never taken for a place.
        let mut page = String::with_capacity(64 * 1024);
        let mut rest = SHELL;
        while let Some(start) = rest.find("{{") {
            let place = &rest[start..];
            let Some((name, text)) = parts.iter().find(|(name, _)| place.starts_with(name)) else { break };
            page.push_str(&rest[..start]);
            page.push_str(text);
            rest = &place[name.len()..];
        }
        page.push_str(rest);
        page
    }

    fn repeats(&self) -> &'static str {
        if self.facts.mode == Mode::Observe { "would be dropped" } else { "dropped" }
    }

    fn about(&self) -> String {
        let mode = if self.facts.mode == Mode::Observe { "observing" } else { "enforcing" };
        let gateway = if self.gateway.is_ok() { "accepts connections" } else { "is not reached" };
        format!(
            "{} · {mode} · up {} · gateway {} {gateway} · as of {} UTC",
            env!("CARGO_PKG_VERSION"),
            duration(self.uptime),
            escape(&self.facts.gateway),
            clock(self.at)
        )
    }

    fn outlook_part(&self) -> String {
        let outlook = self.outlook();
        // The sentence is read out when it changes; the numbers below it are not.
        format!(
            r#"<div class="outlook {}"><div role="status"><h2>{}</h2></div><p>{}</p></div>"#,
            outlook.level.name(),
            outlook.sentence,
            escape(&outlook.advice)
        )
    }

    fn numbers(&self) -> String {
        let now = &self.now;
        let capacity = self.facts.capacity as u64;
        let tiles = [
            tile("Clients", &count(now.clients), &format!("of {}", count(self.facts.max_clients as u64))),
            tile("Events passed", &count(now.forwarded), "since the start"),
            tile(
                if self.facts.mode == Mode::Observe { "Repeats seen" } else { "Repeats dropped" },
                &count(now.duplicate + now.out_of_order),
                &format!("{} duplicates, {} out of order", count(now.duplicate), count(now.out_of_order)),
            ),
            tile(
                "Fullest map",
                &count(now.largest),
                &format!(
                    r#"of {} runs <meter min="0" max="{capacity}" high="{}" value="{}" aria-label="How full the fullest map is"></meter>"#,
                    count(capacity),
                    capacity * 9 / 10,
                    now.largest
                ),
            ),
            tile("Memory of maps", &bytes(self.table_bytes()), &format!("for {} runs", count(now.runs))),
            tile("Runs of the gateway", &count(now.distinct), "different ids, an estimate"),
        ];
        tiles.concat()
    }

    fn charts(&self) -> String {
        let rate = |field: fn(&Totals) -> u64| -> Vec<f64> {
            let pairs = self.samples.windows(2);
            pairs.map(|p| field(&p[1]).saturating_sub(field(&p[0])) as f64 / INTERVAL.as_secs_f64()).collect()
        };
        let value = |field: fn(&Totals) -> u64| -> Vec<f64> {
            self.samples.iter().map(|totals| field(totals) as f64).collect()
        };
        let places = SPANS.into_iter().find(|span| self.samples.len() <= *span).unwrap_or(SAMPLES);
        [
            figure(
                "Events per second",
                places,
                &[
                    ("passed", "s1", rate(|t| t.forwarded)),
                    (self.repeats(), "s2", rate(|t| t.duplicate + t.out_of_order)),
                    ("not judged", "s3", rate(|t| t.unjudged)),
                ],
            ),
            figure(
                &format!("Runs in the maps (at most {} in each)", count(self.facts.capacity as u64)),
                places,
                &[("all", "s1", value(|t| t.runs)), ("fullest connection", "s2", value(|t| t.largest))],
            ),
            figure("Clients", places, &[("connected", "s1", value(|t| t.clients))]),
        ]
        .concat()
    }

    fn connections_table(&self) -> String {
        let row = |c: &Connection| {
            row(&[
                c.kind.to_owned(),
                duration(c.age),
                count(c.runs as u64),
                count(c.forwarded),
                count(c.duplicate),
                count(c.out_of_order),
                count(c.unjudged),
            ])
        };
        let heads = ["kind", "age", "runs", "passed", "duplicates", "out of order", "not judged"];
        let rows: Vec<String> = self.connections.iter().map(row).collect();
        let mut text =
            table("Open connections", &heads, &rows, "No WebSocket or other upgraded connection is open.");
        let more = self.upgraded - self.connections.len();
        if more > 0 {
            text.push_str(&format!("<p>… and {} younger ones.</p>", count(more as u64)));
        }
        text
    }

    fn drops_table(&self) -> String {
        let row = |(at, dropped): &(SystemTime, Dropped)| {
            let reason = dropped.verdict.name().replace('_', " ");
            row(&[clock(*at), reason, dropped.stream.to_owned(), format!("<code>{}</code>", hash(dropped))])
        };
        let rows: Vec<String> = self.drops.iter().map(row).collect();
        table(
            "Last drops",
            &["time (UTC)", "reason", "stream", "run (hash)"],
            &rows,
            "Nothing has been dropped.",
        )
    }

    fn guard_part(&self) -> String {
        let Some((limits, scope)) = &self.facts.guard else {
            return "<h2>Run guard</h2><p>Off: a client may start as many runs as it likes (SEQGATE_GUARD_RUNS_PER_MINUTE).</p>"
                .to_owned();
        };
        let rate = limits.runs_per_minute.map(|rate| {
            let burst = count(limits.burst.get().into());
            (
                format!("{} a minute, {burst} at once", count(rate.get().into())),
                "SEQGATE_GUARD_RUNS_PER_MINUTE",
            )
        });
        let live = limits.max_live_runs.map(|most| {
            (format!("{} going on at one time", count(most.get().into())), "SEQGATE_GUARD_MAX_LIVE_RUNS")
        });
        let id = (format!("ids of {} bytes", count(limits.max_run_id as u64)), "SEQGATE_GUARD_MAX_RUN_ID");
        let rows: Vec<String> = rate
            .into_iter()
            .chain(live)
            .chain([id])
            .map(|(limit, setting)| row(&[limit, format!("<code>{setting}</code>")]))
            .collect();
        let caption = format!("Run guard: each {} may start runs so", scope.name());
        let refused = if self.facts.mode == Mode::Observe { "would have been refused" } else { "refused" };
        format!(
            "{}<p>{} admitted, {} {refused}, since the start.</p>",
            table(&caption, &["limit", "setting"], &rows, ""),
            count(self.now.guard_admitted),
            count(self.now.guard_refused),
        )
    }

    fn settings_list(&self) -> String {
        let entry = |[name, value, source]: &[String; 3]| {
            let value = if value.is_empty() { "(empty)" } else { value };
            let (name, value, source) = (escape(name), escape(value), escape(source));
            format!("<div><dt>{name}</dt><dd><code>{value}</code> <small>{source}</small></dd></div>")
        };
        let entries: String = self.facts.settings.iter().map(entry).collect();
        format!("<h2>Settings</h2><dl>{entries}</dl>")
    }
}

fn tile(name: &str, number: &str, detail: &str) -> String {
    format!("<div><dt>{name}</dt><dd><strong>{number}</strong> <small>{detail}</small></dd></div>")
}

fn figure(title: &str, places: usize, series: &[(&str, &str, Vec<f64>)]) -> String {
    let last = |values: &[f64]| values.last().map_or_else(|| "–".to_owned(), |v| decimal(*v));
    let said: Vec<String> =
        series.iter().map(|(name, _, values)| format!("{name} {}", last(values))).collect();
    let label = format!("{title}, now: {}", said.join(", "));
    let lines: Vec<Line<'_>> = series.iter().map(|(_, class, values)| Line { class, values }).collect();
    let (svg, top) = chart::draw(&lines, places, &label);
    let legend: String = series
        .iter()
        .map(|(name, class, values)| format!(r#"<li class="{class}">{name} <b>{}</b></li>"#, last(values)))
        .collect();
    let past = duration(INTERVAL * places as u32);
    format!(
        r#"<figure><figcaption><h3>{title}</h3><ul>{legend}</ul></figcaption><div class="plot"><span aria-hidden="true">{}</span>{svg}</div><p class="axis" aria-hidden="true"><span>{past} ago</span><span>now</span></p></figure>"#,
        decimal(top)
    )
}

fn table(caption: &str, heads: &[&str], rows: &[String], empty: &str) -> String {
    let caption = format!("<h2>{caption}</h2>");
    if rows.is_empty() {
        return format!("{caption}<p>{empty}</p>");
    }
    let heads: String = heads.iter().map(|head| format!(r#"<th scope="col">{head}</th>"#)).collect();
    format!("{caption}<table><thead><tr>{heads}</tr></thead><tbody>{}</tbody></table>", rows.concat())
}

/// Cells are HTML.
fn row(cells: &[String]) -> String {
    let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
    format!("<tr>{cells}</tr>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// As in `12,345`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One digit behind the point where it says something.
fn decimal(n: f64) -> String {
    if n.fract() == 0.0 || n >= 100.0 { count(n.round() as u64) } else { format!("{n:.1}") }
}

fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{} KiB", decimal(n as f64 / 1024.0)),
        _ => format!("{} MiB", decimal(n as f64 / 1_048_576.0)),
    }
}

/// The two largest units, as in `2 h 5 min`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let pair = |n: u64, unit: &dyn Display, m: u64, smaller: &str| {
        if m == 0 { format!("{n} {unit}") } else { format!("{n} {unit} {m} {smaller}") }
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => pair(seconds / 60, &"min", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, &"h", seconds % 3600 / 60, "min"),
        _ => pair(seconds / 86_400, &"d", seconds % 86_400 / 3600, "h"),
    }
}

/// The time of day in UTC.
fn clock(at: SystemTime) -> String {
    let seconds = since_epoch(at).as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
