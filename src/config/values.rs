//! The text of every setting, from flags and environment.

use std::ffi::OsString;
use std::fmt;

use super::table::{PREFIX, SETTINGS, Setting, flag_name};

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// A setting that can't be used: one line that names it and says what would be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSetting(String);

impl BadSetting {
    pub(crate) fn new(line: String) -> Self {
        Self(line)
    }
}

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadSetting {}

/// The text of every setting, and where it came from.
pub struct Values([(String, Source); SETTINGS.len()]);

impl Default for Values {
    fn default() -> Self {
        Self(SETTINGS.each_ref().map(|setting| (setting.default.to_owned(), Source::Default)))
    }
}

impl Values {
    /// Takes the `SEQGATE_*` variables of an environment.
    ///
    /// # Errors
    /// A name that is no setting (a typo must not be silent), or text that is not UTF-8.
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), BadSetting> {
        for (name, value) in variables {
            let Some(setting) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            let value = value.to_str();
            if value.is_some_and(|value| is_service_link(setting, value)) {
                continue;
            }
            let place = SETTINGS.iter().position(|s| s.name == setting).ok_or_else(|| {
                let name = setting.escape_debug();
                BadSetting(format!("{PREFIX}{name} is not a setting; `seqgate --help` lists them"))
            })?;
            let setting = &SETTINGS[place];
            let value = value.ok_or_else(|| {
                bad(setting, setting.accepts, "text that is not UTF-8", Source::Environment)
            })?;
            self.0[place] = (value.to_owned(), Source::Environment);
        }
        Ok(())
    }

    /// Takes a flag, named without its dashes.
    ///
    /// # Errors
    /// There is no such flag.
    pub fn flag(&mut self, name: &str, value: String) -> Result<(), BadSetting> {
        let place = SETTINGS.iter().position(|s| flag_name(s) == name).ok_or_else(|| {
            BadSetting(format!("--{} is not a flag; `seqgate --help` lists them", name.escape_debug()))
        })?;
        self.0[place] = (value, Source::Flag);
        Ok(())
    }

    /// Name, value and source of each setting.
    pub fn iter(&self) -> impl Iterator<Item = (String, &str, Source)> {
        SETTINGS
            .iter()
            .zip(&self.0)
            .map(|(s, (value, source))| (format!("{PREFIX}{}", s.name), value.as_str(), *source))
    }

    /// Parses the value of a setting, named as in the table.
    pub(super) fn parse<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, BadSetting> {
        self.check(name, |value| parse(value).ok_or_else(String::new))
    }

    /// Parses the value of a setting, named as in the table. The parser's error is the text after "expected", or empty
    /// where the table's text fits.
    pub(super) fn check<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, BadSetting> {
        let found = SETTINGS.iter().zip(&self.0).find(|(setting, _)| setting.name == name);
        let (setting, (value, source)) =
            found.ok_or_else(|| BadSetting(format!("{PREFIX}{name} is not a setting")))?;
        parse(value.trim()).map_err(|expected| match expected.as_str() {
            "" => bad(setting, setting.accepts, value, *source),
            expected => bad(setting, expected, value, *source),
        })
    }
}

fn bad(setting: &Setting, expected: &str, value: &str, source: Source) -> BadSetting {
    let name = match source {
        Source::Flag => format!("--{}", flag_name(setting)),
        _ => format!("{PREFIX}{}", setting.name),
    };
    BadSetting(format!("{name} is {:?}: expected {expected}", without_password(value)))
}

/// What stands before an `@` in a URL may be a password.
fn without_password(value: &str) -> String {
    let Some((before, host)) = value.rsplit_once('@') else {
        return value.to_owned();
    };
    let scheme = before.split_once("://").map(|(scheme, _)| scheme);
    match scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphabetic())) {
        Some(scheme) => format!("{scheme}://***@{host}"),
        None => format!("***@{host}"),
    }
}

/// Kubernetes and Docker links put variables like `SEQGATE_PORT=tcp://10.0.0.1:18900` into every container next
/// to a service that is called seqgate. They are nobody's typo.
fn is_service_link(setting: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let link = |rest: &str| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| rest.starts_with(protocol))
    };
    setting.ends_with("SERVICE_HOST")
        || setting.ends_with("SERVICE_PORT")
        || setting.contains("SERVICE_PORT_")
        || (setting.ends_with("PORT") && is_address)
        || setting.split("PORT_").skip(1).any(link)
}
