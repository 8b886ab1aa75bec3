//! The log: to standard error, one line an event. Tokens, message texts and run ids never reach it at info.

mod lines;
mod seldom;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::lines::Lines;
pub use self::seldom::Seldom;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For collectors.
    Json,
}

static LINES: OnceLock<Lines> = OnceLock::new();

/// Sets the log up for the process; a second call changes nothing.
///
/// # Errors
/// The system gives no thread.
pub fn init(level: LevelFilter, format: Format) -> std::io::Result<()> {
    if LINES.get().is_some() {
        return Ok(());
    }
    let begun = Lines::begin()?;
    let writer = LINES.get_or_init(|| begun).clone();
    let terminal = std::io::stderr().is_terminal();
    // The libraries' own words stay quiet: some log whole payloads when they are asked for everything.
    let targets = Targets::new().with_target("seqgate", level).with_default(level.min(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false);
    let layer = if format == Format::Json || (format == Format::Auto && !terminal) {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        lines.with_ansi(terminal).boxed()
    };
    // An error says that somebody has set a log up already.
    let _ = tracing_subscriber::registry().with(layer.with_filter(targets)).try_init();
    Ok(())
}

/// Waits until what was logged before has been written: before the process ends.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush();
    }
}
