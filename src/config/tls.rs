//! The settings that name certificates.

use std::path::PathBuf;

use super::{BadSetting, Values};
use crate::credentials::{Files, Fingerprint, Trust};

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

/// Either of two settings, or none. A pin leaves nothing for an authority to say.
pub(super) fn trust(values: &Values) -> Result<Trust, BadSetting> {
    let authorities = values.parse("UPSTREAM_CA", |v| Some(path(v)))?;
    let pin = values.parse("UPSTREAM_FINGERPRINT", |v| {
        if v.is_empty() { Some(None) } else { Fingerprint::parse(v).map(Some) }
    })?;
    match (authorities, pin) {
        (None, None) => Ok(Trust::System),
        (Some(authorities), None) => Ok(Trust::Authorities(authorities)),
        (None, Some(pin)) => Ok(Trust::Certificate(pin)),
        (Some(_), Some(_)) => Err(BadSetting::new(
            "SEQGATE_UPSTREAM_CA and SEQGATE_UPSTREAM_FINGERPRINT are set: expected only one of them"
                .to_owned(),
        )),
    }
}

/// Both settings, or none.
pub(super) fn files(values: &Values) -> Result<Option<Files>, BadSetting> {
    let certificate = values.parse("TLS_CERT", |v| Some(path(v)))?;
    let key = values.parse("TLS_KEY", |v| Some(path(v)))?;
    let missing = |name, other| BadSetting::new(format!("{name} is not set: expected it beside {other}"));
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(Files { certificate, key })),
        (None, Some(_)) => Err(missing("SEQGATE_TLS_CERT", "SEQGATE_TLS_KEY")),
        (Some(_), None) => Err(missing("SEQGATE_TLS_KEY", "SEQGATE_TLS_CERT")),
    }
}
