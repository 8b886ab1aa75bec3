//! `agent` events as the gateway writes them.

use std::fmt;

/// An `agent` event, of which a test names what matters to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    pub(crate) run: String,
    pub(crate) stream: String,
    pub(crate) phase: Option<String>,
    pub(crate) text: String,
    pub(crate) seq: u64,
    pub(crate) ts: Option<u64>,
    pub(crate) outer: Option<u64>,
}

/// An assistant event of a run with some text, a ts of 1000 and no outer seq.
pub(crate) fn event(run: &str, seq: u64) -> Event {
    Event {
        run: run.into(),
        stream: "assistant".into(),
        phase: None,
        text: "Hel".into(),
        seq,
        ts: Some(1000),
        outer: None,
    }
}

impl Event {
    pub(crate) fn stream(mut self, name: &str) -> Self {
        self.stream = name.into();
        self
    }

    /// Makes it a lifecycle event.
    pub(crate) fn phase(mut self, name: &str) -> Self {
        self.phase = Some(name.into());
        self.stream("lifecycle")
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        self.text = text.into();
        self
    }

    pub(crate) fn ts(mut self, ts: impl Into<Option<u64>>) -> Self {
        self.ts = ts.into();
        self
    }

    pub(crate) fn outer(mut self, outer: impl Into<Option<u64>>) -> Self {
        self.outer = outer.into();
        self
    }

    /// A `lifecycle` event of phase `end` or `error`.
    pub(crate) fn ends(&self) -> bool {
        self.stream == "lifecycle" && matches!(self.phase.as_deref(), Some("end" | "error"))
    }

    /// A `lifecycle` event of phase `start`, or a `run_status` event of phase `preparing_workspace`.
    pub(crate) fn starts(&self) -> bool {
        let phase = self.phase.as_deref();
        self.stream == "lifecycle" && phase == Some("start")
            || self.stream == "run_status" && phase == Some("preparing_workspace")
    }

    pub(crate) fn payload(&self) -> String {
        let quote = |s: &str| serde_json::Value::from(s).to_string();
        let phase = self.phase.iter().map(|p| format!("\"phase\":{},", quote(p))).collect::<String>();
        let ts = self.ts.iter().map(|ts| format!(",\"ts\":{ts}")).collect::<String>();
        format!(
            "{{\"runId\":{},\"stream\":{},\"data\":{{{phase}\"text\":{}}},\"seq\":{}{ts}}}",
            quote(&self.run),
            quote(&self.stream),
            quote(&self.text),
            self.seq
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outer = self.outer.iter().map(|n| format!(",\"seq\":{n}")).collect::<String>();
        write!(f, "{{\"type\":\"event\",\"event\":\"agent\",\"payload\":{}{outer}}}", self.payload())
    }
}
