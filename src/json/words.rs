//! Text, eight bytes at a time, without a branch for each of them.
//!
//! A word holds its first byte lowest. Marks are the top bits of bytes.

const ONES: u64 = u64::from_le_bytes([1; 8]);
const TOPS: u64 = ONES << 7;
const QUOTES: u64 = ONES * b'"' as u64;
const SLASHES: u64 = ONES * b'\\' as u64;
const ZEROS: u64 = ONES * b'0' as u64;

/// The first place, from `at` on, of a quote, a backslash or a control character; the text's length if there is none.
#[inline]
#[must_use]
pub fn special(text: &[u8], mut at: usize) -> usize {
    // Cheaper than `zeros`. A borrow marks bytes above a true mark only: the lowest mark is true.
    let lowest_zero = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    while let Some(chunk) = text[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let below_space = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
        let found = below_space | lowest_zero(word ^ QUOTES) | lowest_zero(word ^ SLASHES);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let tail = &text[at..];
    at + tail.iter().position(|b| *b < 0x20 || matches!(b, b'"' | b'\\')).unwrap_or(tail.len())
}

/// The last place before `end` of a quote or a backslash.
#[inline]
#[must_use]
pub fn last_quote_or_slash(text: &[u8], mut end: usize) -> Option<usize> {
    while let Some(chunk) = text[..end].last_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let found = zeros(word ^ QUOTES) | zeros(word ^ SLASHES);
        if found != 0 {
            return Some(end - 1 - found.leading_zeros() as usize / 8);
        }
        end -= 8;
    }
    text[..end].iter().rposition(|byte| matches!(byte, b'"' | b'\\'))
}

/// A short string without a backslash in a word: eight bytes of it, and how many it has in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The eight bytes, or all of them above zeros.
    pub word: u64,
    /// Bytes of the string.
    pub len: usize,
}

impl Name {
    /// A string of at most eight bytes.
    #[must_use]
    pub const fn of(string: &[u8]) -> Self {
        let mut word = 0;
        let mut i = string.len();
        while i > 0 {
            i -= 1;
            word = word << 8 | string[i] as u64;
        }
        Self { word, len: string.len() }
    }
}

/// The string from `at` up to a quote, by its first eight bytes.
#[inline]
#[must_use]
pub fn name_from(text: &[u8], at: usize) -> Option<Name> {
    let word = u64::from_le_bytes(*text.get(at..)?.first_chunk()?);
    let found = zeros(word ^ QUOTES) | zeros(word ^ SLASHES);
    let len = match found {
        0 => special(text, at + 8) - at,
        _ => found.trailing_zeros() as usize / 8,
    };
    let word = if len < 8 { word & ((1 << (8 * len)) - 1) } else { word };
    (*text.get(at + len)? == b'"').then_some(Name { word, len })
}

/// The string that ends before `end` and begins behind a quote, by its last eight bytes. The quote may be part of a
/// longer string, if a backslash stands before it.
#[inline]
#[must_use]
pub fn name_before(text: &[u8], end: usize) -> Option<Name> {
    let word = u64::from_le_bytes(*text.get(..end)?.last_chunk()?);
    let found = zeros(word ^ QUOTES) | zeros(word ^ SLASHES);
    let len = match found {
        0 => end - 1 - last_quote_or_slash(text, end - 8)?,
        _ => found.leading_zeros() as usize / 8,
    };
    let word = if len < 8 { word.unbounded_shr(64 - 8 * len as u32) } else { word };
    (text[end - 1 - len] == b'"').then_some(Name { word, len })
}

/// Marks the bytes that are zero, and no others: no carry crosses a byte here.
fn zeros(word: u64) -> u64 {
    !(((word & !TOPS) + (TOPS - ONES)) | word) & TOPS
}

/// The number that the last digits before `end` are, and how many digits it has: 1 to 16.
#[inline(always)]
#[must_use]
pub fn last_number(text: &[u8], end: usize) -> Option<(u64, usize)> {
    let (low, count) = last_digits(&text[..end]);
    if count < 8 {
        return (count > 0).then_some((low, count));
    }
    let (high, more) = last_digits(&text[..end - 8]);
    let longer = more == 8 && end > 16 && text[end - 17].is_ascii_digit();
    (!longer).then_some((high * 100_000_000 + low, 8 + more))
}

/// The same for at most eight digits, or none.
#[inline(always)]
fn last_digits(text: &[u8]) -> (u64, usize) {
    let word = match text.last_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => short_word(text),
    };
    // A digit's value is below 10; adding 0x76 carries into the top bit from 10 on, and no further.
    let values = word ^ ZEROS;
    let others = (((values & !TOPS) + ONES * 0x76) | values) & TOPS;
    let count = others.leading_zeros() as usize / 8;
    // The digits, with zeros for what stands before them; then pairs, fours and eights of them are one number each.
    let digits = values & u64::MAX.unbounded_shl(64 - 8 * count as u32);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    let eight = fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff;
    (eight, count)
}

/// A text shorter than a word, above zeros, which are no digits.
#[cold]
fn short_word(text: &[u8]) -> u64 {
    text.iter().fold(0, |word, byte| word >> 8 | u64::from(*byte) << 56)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every naive twin is a loop over bytes.
    #[test]
    fn words_find_what_bytes_find() {
        let alphabet = *b"\"\\\x00\x1f \x20!#[]\x7f\x80\xa2\xdc\xffa0";
        let mut state = 1u64;
        for round in 0..20_000 {
            let mut text = [0u8; 40];
            for byte in &mut text {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Few of what is looked for, so that it is found at every distance.
                let pick = (state >> 33) as usize;
                *byte = if pick.is_multiple_of(9) {
                    alphabet[pick / 9 % alphabet.len()]
                } else {
                    b'a' + (pick % 26) as u8
                };
            }
            let text = &text[..round % 41];
            for at in 0..=text.len() {
                let from = text[at..].iter().position(|b| *b < 0x20 || matches!(b, b'"' | b'\\'));
                assert_eq!(special(text, at), from.map_or(text.len(), |n| at + n), "{text:?} from {at}");
                let before = text[..at].iter().rposition(|b| matches!(b, b'"' | b'\\'));
                assert_eq!(last_quote_or_slash(text, at), before, "{text:?} before {at}");
            }
        }
    }

    #[test]
    fn words_read_the_numbers_that_bytes_read() {
        let before = [
            &b""[..],
            b":",
            b"1:",
            b"x",
            b"-",
            b"/",
            b"\xb0",
            b"\x80123456789:",
            b"somewhat longer than a word",
        ];
        for prefix in before {
            for digits in 0..=18 {
                for number in
                    [0, 1, 9, 1_769_900_000_000, 12_345_678, 99_999_999, 9_007_199_254_740_991, u64::MAX]
                {
                    let written = format!("{number:020}");
                    let written = &written[20 - digits..];
                    let text = [prefix, written.as_bytes()].concat();
                    let end = text.len();
                    let text = [&text[..], b"7"].concat();
                    let expected =
                        (1..=16).contains(&digits).then(|| (written.parse::<u64>().unwrap(), digits));
                    assert_eq!(last_number(&text, end), expected, "{:?}", text.escape_ascii().to_string());
                }
            }
        }
    }
}
