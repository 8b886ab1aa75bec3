//! JSON as `JSON.parse` reads it, naively: recursive, strings in UTF-16 with their lone surrogates, numbers
//! as they were written. The naive twin of `seqgate::json`.

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Word(&'static str),
    Number(String),
    Str(Vec<u16>),
    Array(Vec<Json>),
    /// As written, equal keys included.
    Object(Vec<(Vec<u16>, Json)>),
}

impl Json {
    /// The value of the last member with this key.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        let key: Vec<u16> = key.encode_utf16().collect();
        members.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    pub(crate) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Str(units) if units.iter().copied().eq(word.encode_utf16()))
    }

    /// A number in plain digits that every client holds exactly.
    pub(crate) fn integer(&self) -> Option<u64> {
        let Self::Number(digits) = self else { return None };
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|n| plain && *n < 1 << 53)
    }

    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether this holds for a value in it, or for a key, taken as a string.
    pub(crate) fn any(&self, test: &impl Fn(&Self) -> bool) -> bool {
        test(self)
            || match self {
                Self::Array(items) => items.iter().any(|item| item.any(test)),
                Self::Object(members) => {
                    members.iter().any(|(key, value)| test(&Self::Str(key.clone())) || value.any(test))
                }
                _ => false,
            }
    }

    /// No object in it has two members of one name.
    pub(crate) fn has_unique_names(&self) -> bool {
        !self.any(&|value| match value {
            Self::Object(members) => {
                let mut names: Vec<_> = members.iter().map(|(name, _)| name).collect();
                names.sort_unstable();
                names.windows(2).any(|pair| pair[0] == pair[1])
            }
            _ => false,
        })
    }

    /// No array or object stands behind the member `payload`.
    pub(crate) fn ends_with_payload(&self) -> bool {
        let Self::Object(members) = self else { return true };
        let payload: Vec<u16> = "payload".encode_utf16().collect();
        let behind = members.iter().rev().take_while(|(name, _)| *name != payload);
        behind.into_iter().all(|(_, value)| value.depth() == 0)
    }

    pub(crate) fn has_lone_surrogate(&self) -> bool {
        self.any(&|value| matches!(value, Self::Str(units) if String::from_utf16(units).is_err()))
    }

    pub(crate) fn has_infinite_number(&self) -> bool {
        self.any(&|value| matches!(value, Self::Number(n) if n.parse::<f64>().is_ok_and(f64::is_infinite)))
    }
}

/// The value that a text is, if it is one.
pub(crate) fn parse(text: &[u8]) -> Option<Json> {
    let mut rest = std::str::from_utf8(text).ok()?;
    let value = value(&mut rest)?;
    skip_space(&mut rest);
    rest.is_empty().then_some(value)
}

fn skip_space(rest: &mut &str) {
    *rest = rest.trim_start_matches([' ', '\n', '\r', '\t']);
}

fn take(rest: &mut &str, token: &str) -> Option<()> {
    *rest = rest.strip_prefix(token)?;
    Some(())
}

fn value(rest: &mut &str) -> Option<Json> {
    skip_space(rest);
    for word in ["true", "false", "null"] {
        if take(rest, word).is_some() {
            return Some(Json::Word(word));
        }
    }
    match rest.chars().next()? {
        '"' => string(rest).map(Json::Str),
        '[' => list(rest, "[", "]", value).map(Json::Array),
        '{' => list(rest, "{", "}", member).map(Json::Object),
        _ => number(rest),
    }
}

fn member(rest: &mut &str) -> Option<(Vec<u16>, Json)> {
    skip_space(rest);
    let key = string(rest)?;
    skip_space(rest);
    take(rest, ":")?;
    Some((key, value(rest)?))
}

fn list<T>(
    rest: &mut &str,
    open: &str,
    close: &str,
    item: impl Fn(&mut &str) -> Option<T>,
) -> Option<Vec<T>> {
    take(rest, open)?;
    let mut items = Vec::new();
    skip_space(rest);
    if take(rest, close).is_some() {
        return Some(items);
    }
    loop {
        items.push(item(rest)?);
        skip_space(rest);
        if take(rest, close).is_some() {
            return Some(items);
        }
        take(rest, ",")?;
    }
}

fn number(rest: &mut &str) -> Option<Json> {
    let end = rest.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c)).unwrap_or(rest.len());
    let (number, behind) = rest.split_at(end);
    *rest = behind;
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (number, None),
    };
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|byte| byte.is_ascii_digit());
    let lawful = digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)));
    lawful.then(|| Json::Number(number.to_owned()))
}

fn string(rest: &mut &str) -> Option<Vec<u16>> {
    take(rest, "\"")?;
    let mut units = Vec::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => units.push(match chars.next()? {
                'b' => 8,
                'f' => 12,
                'n' => 10,
                'r' => 13,
                't' => 9,
                same @ ('"' | '\\' | '/') => same as u16,
                'u' => {
                    let mut unit = 0;
                    for _ in 0..4 {
                        unit = unit << 4 | chars.next()?.to_digit(16)? as u16;
                    }
                    unit
                }
                _ => return None,
            }),
            control if control < ' ' => return None,
            plain => units.extend_from_slice(plain.encode_utf16(&mut [0; 2])),
        }
    }
    *rest = chars.as_str();
    Some(units)
}
