//! TLS: who seqgate is to its clients (`identity.rs`), and whom it takes for the gateway (`trust.rs`). Read from
//! files into values that can be used, or an error that names the file.

mod identity;
mod trust;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

pub use self::identity::{Files, Identity};
pub(crate) use self::trust::is_ca_as_server;
pub use self::trust::{Fingerprint, Trust};

/// The only protocol that is spoken inside.
const ALPN: &[u8] = b"http/1.1";

/// A setting whose value is in order, but not what it leads to: one line that names it and says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable(String);

impl Unusable {
    pub(crate) fn new(setting: &str, value: impl fmt::Debug, why: impl fmt::Display) -> Self {
        Self(format!("{setting} is {value:?}: {why}"))
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, Unusable> {
    std::fs::read(path)
        .map_err(|error| Unusable::new(setting, path, format_args!("it can't be read: {error}")))
}

/// All certificates of a PEM file, at least one.
fn certificates(setting: &str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| Unusable::new(setting, path, format_args!("it is not PEM: {error}")))?;
    if all.is_empty() {
        return Err(Unusable::new(setting, path, "there is no certificate in it (expected PEM)"));
    }
    Ok(all)
}
