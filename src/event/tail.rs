//! Finds the outer `seq` of a message from its last bytes, for messages that pass unread.
//!
//! Invariant: where the bytes are the end of a JSON text, a result is the outer number as [`super::peek`] reads it, if
//! the number is within these bytes. Reading goes from the end towards the front: a JSON text ends outside of any
//! string, so every quote, bracket and number can be recognized from there. Where the bytes begin too late to decide,
//! reading stops, and only what was complete until then counts.

use super::Outer;
use crate::json::MAX_INTEGER;

/// The first bytes of every event that a gateway writes.
pub const EVENT_START: &[u8] = br#"{"type":"event""#;

/// The outer `seq` in the last bytes of a message. `is_event`: the message starts with [`EVENT_START`]; otherwise its
/// `type` has to be within the bytes as well. Costs a constant for each byte.
#[must_use]
pub fn outer_at_end(tail: &[u8], is_event: bool) -> Option<Outer> {
    let mut back = Backwards { text: tail, at: tail.len() };
    let (mut outer, mut has_seq, mut kind) = (None, false, None);
    back.take(b'}')?;
    while let Some((key, value)) = back.member() {
        match key {
            // The last of equal keys counts.
            b"seq" if !has_seq => {
                has_seq = true;
                outer = integer(&tail[value.clone()]).map(|value_of| Outer { value: value_of, at: value });
            }
            b"type" if kind.is_none() => kind = Some(&tail[value] == br#""event""#),
            _ => {}
        }
        if back.take(b',').is_none() {
            break;
        }
    }
    outer.filter(|_| kind.unwrap_or(is_event))
}

/// A number without sign, fraction and exponent, `0 <= number <= 2^53 - 1`.
fn integer(token: &[u8]) -> Option<u64> {
    let is_plain = (1..=16).contains(&token.len()) && (token.len() == 1 || token[0] != b'0');
    if !is_plain || !token.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = token.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    (number <= MAX_INTEGER).then_some(number)
}

/// A place in a text, moving towards its start; `text[at..]` has been read.
struct Backwards<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Backwards<'a> {
    /// The last byte before the place that is not whitespace.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text[..self.at].last() {
            self.at -= 1;
        }
        self.text[..self.at].last().copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at -= 1)
    }

    /// The member of an object that ends here: its key, and the range of its value. `None` where the text ends first, or
    /// is no JSON.
    fn member(&mut self) -> Option<(&'a [u8], std::ops::Range<usize>)> {
        self.peek()?;
        let end = self.at;
        self.value()?;
        let value = self.at..end;
        self.take(b':')?;
        self.peek()?;
        let end = self.at;
        self.string()?;
        Some((&self.text[self.at + 1..end - 1], value))
    }

    fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'}' | b']' => self.nested(),
            _ => {
                let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
                let end = self.at;
                self.at = self.text[..end].iter().rposition(|byte| !is_word(byte))? + 1;
                (self.at < end).then_some(())
            }
        }
    }

    /// A string, from its closing to its opening quote: the nearest one before that an even number of backslashes
    /// precedes.
    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            self.at = self.text[..self.at].iter().rposition(|byte| *byte == b'"')?;
            // Where the text ends among the backslashes, their number is unknown.
            let before = self.text[..self.at].iter().rposition(|byte| *byte != b'\\')?;
            if (self.at - before - 1).is_multiple_of(2) {
                return Some(());
            }
            self.at = before + 1;
        }
    }

    /// An array or object, without a look at its order.
    fn nested(&mut self) -> Option<()> {
        let mut depth = 0u32;
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                byte => {
                    self.at -= 1;
                    match byte {
                        b'}' | b']' => depth += 1,
                        b'{' | b'[' => depth -= 1,
                        _ => {}
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(tail: &str, is_event: bool) -> Option<(u64, &str)> {
        outer_at_end(tail.as_bytes(), is_event).map(|outer| (outer.value, &tail[outer.at]))
    }

    #[test]
    fn the_number_is_found_wherever_the_text_was_cut_before_it() {
        let text = r#"{"type":"event","event":"agent","payload":{"seq":1,"data":{"t":"a\\\"}{\\"}},"seq":42,"stateVersion":{"a":[1,"]"],"seq":3},"x":"\"seq\":9"}"#;
        let from = text.find(r#""seq":42"#).unwrap();
        for cut in 0..text.len() {
            // Of a quote at the cut, it is unknown whether a backslash precedes it.
            let expected = (cut < from).then_some((42, "42"));
            assert_eq!(number(&text[cut..], true), expected, "{}", &text[cut..]);
            assert_eq!(number(&text[cut..], false), expected.filter(|_| cut == 0), "{}", &text[cut..]);
        }
    }

    #[test]
    fn what_is_no_outer_number_is_none() {
        for tail in [
            "",
            "}",
            r#""seq":1"#,
            r#"{"payload":{"seq":1}}"#,
            r#"x","seq":-1}"#,
            r#"x","seq":1.5}"#,
            r#"x","seq":"1"}"#,
            r#"x","seq":01}"#,
            r#"x","seq":9007199254740992}"#,
            r#"x","seq":null}"#,
            r#"x","seq":[1]}"#,
            r#"x\"seq":1}"#,
            r#","seq":1}}"#,
            r#","seq":1]"#,
        ] {
            assert_eq!(number(tail, true), None, "{tail}");
        }
        assert_eq!(number(r#"x","seq":1,"seq":"no"}"#, true), None);
        assert_eq!(number(r#"x", "seq" : 7 , "type" : "event" }"#, false), Some((7, "7")));
        assert_eq!(number(r#"x","type":"res","seq":7}"#, true), None);
    }
}
