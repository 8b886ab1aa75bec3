//! The events that a gateway sends and a client expects: the same bytes on both ends, made from a few numbers.
//!
//! An event costs a few digits that move on: neither end may be the bottleneck of what is measured between them.

use std::ops::Range;

/// The first event's `ts`; each later one is a millisecond younger.
const EPOCH: u64 = 1_769_900_000_000;
/// Prose as JSON holds it: one character in 30 is escaped.
const PROSE: &str = r#"She said \"go on\", and the gateway went on with the next paragraph of its reply.\nThen it asked for a tool, waited for the result, and read it aloud: \"nothing to do\".\n"#;
/// Bytes of `data.delta`.
const DELTA: usize = 12;
/// Digits of the time stamp that `data.text` begins with: nanoseconds since 1970, zeros where no time is taken.
const STAMP: usize = 19;

/// What one connection is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of an event, without the frame's head; a digit less where numbers are still short.
    pub size: usize,
    /// How many.
    pub events: u64,
    /// Runs that take turns.
    pub runs: u64,
    /// Events a second, each written alone; 0 is as many as the connection takes.
    pub rate: u32,
}

impl Plan {
    /// The plan as the target of a request.
    #[must_use]
    pub fn target(&self) -> String {
        format!("/?size={}&events={}&runs={}&rate={}", self.size, self.events, self.runs, self.rate)
    }

    /// Reads [`Plan::target`]; `None` where it is something else.
    #[must_use]
    pub fn from_target(target: &str) -> Option<Self> {
        let mut numbers = target.strip_prefix("/?")?.split('&');
        let mut number = |name: &str| -> Option<u64> {
            numbers.next()?.strip_prefix(name)?.strip_prefix('=')?.parse().ok()
        };
        Some(Self {
            size: number("size")? as usize,
            events: number("events")?,
            runs: number("runs")?.max(1),
            rate: number("rate")? as u32,
        })
    }
}

/// A stream of frames without end, one at a time.
pub struct Events {
    size: usize,
    runs: u64,
    /// Events before this one.
    index: u64,
    frame: Vec<u8>,
    places: Places,
}

/// Where in the frame the parts stand that change from one event to the next.
#[derive(Default)]
struct Places {
    text: usize,
    run: Range<usize>,
    stamp: Range<usize>,
    seq: Range<usize>,
    ts: Range<usize>,
    outer: Range<usize>,
}

impl Events {
    /// The first event of a stream of events of `size` bytes, of so many runs in turn.
    #[must_use]
    pub fn new(size: usize, runs: u64) -> Self {
        let mut events = Self { size, runs, index: 0, frame: Vec::new(), places: Places::default() };
        events.build();
        events
    }

    /// The event, as a whole frame.
    #[must_use]
    pub fn frame(&mut self) -> &mut [u8] {
        &mut self.frame
    }

    /// The event's JSON.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.frame[self.places.text..]
    }

    /// Where in the frame the time stamp stands.
    #[must_use]
    pub fn stamp_place(&self) -> Range<usize> {
        self.places.stamp.clone()
    }

    /// Writes a time into the event.
    pub fn set_stamp(&mut self, nanos: u64) {
        let digits = format!("{nanos:0STAMP$}");
        self.frame[self.places.stamp.clone()].copy_from_slice(digits.as_bytes());
    }

    /// The time in the event.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        self.frame[self.places.stamp.clone()].iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    }

    /// Goes on to the next event.
    pub fn advance(&mut self) {
        self.index += 1;
        let mut fits = increment(&mut self.frame[self.places.ts.clone()]);
        fits &= increment(&mut self.frame[self.places.outer.clone()]);
        if self.index.is_multiple_of(self.runs) {
            self.frame[self.places.run.clone()].fill(b'0');
            fits &= increment(&mut self.frame[self.places.seq.clone()]);
        } else {
            fits &= increment(&mut self.frame[self.places.run.clone()]);
        }
        if !fits {
            self.build();
        }
    }

    fn build(&mut self) {
        let Self { size, runs, index, .. } = *self;
        let mut places = Places::default();
        let mut json = String::with_capacity(size + 16);
        let mut put = |fixed: &str, part: &str| {
            json.push_str(fixed);
            let start = json.len();
            json.push_str(part);
            start..json.len()
        };
        let run = put(
            r#"{"type":"event","event":"agent","payload":{"runId":"00000000-0000-4000-8000-"#,
            &format!("{:012}", index % runs),
        );
        let stamp = put(r#"","stream":"assistant","data":{"text":""#, &format!("{:0STAMP$}", 0));
        // All that stands outside the text, with numbers of seven digits.
        const REST: usize = 252;
        put(" ", &prose(size.saturating_sub(REST)));
        put(r#"","delta":""#, &prose(DELTA));
        let seq = put(r#""},"sessionKey":"agent:main:main","seq":"#, &(index / runs + 1).to_string());
        let ts = put(r#","ts":"#, &(EPOCH + index).to_string());
        let outer = put(r#"},"seq":"#, &(index + 1).to_string());
        put("}", "");

        self.frame = head(json.len());
        let text = self.frame.len();
        self.frame.extend_from_slice(json.as_bytes());
        let behind_head = |place: Range<usize>| place.start + text..place.end + text;
        places.text = text;
        places.run = behind_head(run);
        places.stamp = behind_head(stamp);
        places.seq = behind_head(seq);
        places.ts = behind_head(ts);
        places.outer = behind_head(outer);
        self.places = places;
    }
}

/// So many bytes of prose; what the cut leaves of an escape becomes a full stop.
fn prose(len: usize) -> String {
    let mut text: String = PROSE.chars().cycle().take(len).collect();
    if text.ends_with('\\') {
        text.pop();
        text.push('.');
    }
    text
}

/// The head of a final, unmasked text frame.
fn head(len: usize) -> Vec<u8> {
    let mut head = vec![0x81];
    match len {
        0..126 => head.push(len as u8),
        126..0x1_0000 => {
            head.push(126);
            head.extend((len as u16).to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend((len as u64).to_be_bytes());
        }
    }
    head
}

/// Adds one to decimal digits in place; false where they do not suffice.
fn increment(digits: &mut [u8]) -> bool {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return true;
        }
        *digit = b'0';
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_on_digits_are_those_of_an_event_made_anew() {
        for runs in [1, 3, 1000] {
            let mut events = Events::new(300, runs);
            for index in 0..2_500 {
                let mut anew = Events::new(300, runs);
                anew.index = index;
                anew.build();
                assert_eq!(events.frame(), anew.frame(), "event {index} of {runs} runs");
                events.advance();
            }
        }
    }

    #[test]
    fn an_event_has_the_size_it_should_have() {
        for size in [300, 1024, 16 << 10, 1 << 20] {
            let mut events = Events::new(size, 1);
            events.index = 1_000_000;
            events.build();
            assert_eq!(events.text().len(), size);
        }
    }

    #[test]
    fn a_plan_survives_being_a_target() {
        let plan = Plan { size: 1024, events: 5, runs: 7, rate: 100 };
        assert_eq!(Plan::from_target(&plan.target()), Some(plan));
        assert_eq!(Plan::from_target("/"), None);
    }
}
