//! Whom seqgate takes for the gateway.

use std::path::PathBuf;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{ALPN, Unusable, certificates, provider, read};

const CA: &str = "SEQGATE_UPSTREAM_CA";

/// Whose certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those for the gateway's name by an authority that the system trusts.
    System,
    /// The same by an authority of this file, and no other.
    Authorities(PathBuf),
    /// This one, whoever it names and whoever made it.
    Certificate(Fingerprint),
}

impl Trust {
    /// How to speak with the gateway then.
    ///
    /// # Errors
    /// There is nobody to trust.
    pub fn config(&self) -> Result<ClientConfig, Unusable> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Unusable::new("SEQGATE_UPSTREAM", "https", error))?;
        let mut config = match self {
            Self::System => builder.with_root_certificates(system()?),
            Self::Authorities(path) => builder.with_root_certificates(authorities(path.clone())?),
            Self::Certificate(pin) => {
                let verifier = Arc::new(Pinned { pin: *pin, algorithms });
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }
}

fn system() -> Result<RootCertStore, Unusable> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // What a system has besides may be older than what is understood here.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok(roots);
    }
    let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    let why = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join("; ")) };
    Err(Unusable(format!(
        "SEQGATE_UPSTREAM is https, and the system has no certificates of authorities{why}: expected them where it \
         usually has them or in SSL_CERT_FILE, or one of {CA} and SEQGATE_UPSTREAM_FINGERPRINT"
    )))
}

fn authorities(path: PathBuf) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CA, &path, &read(CA, &path)?)? {
        roots.add(certificate).map_err(|error| {
            Unusable::new(CA, &path, format_args!("a certificate in it can't be used: {error}"))
        })?;
    }
    Ok(roots)
}

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// As OpenClaw's clients and openssl write it: 64 hex digits in any case, with colons or without, and with
    /// `sha256:` before them or without.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.trim().to_ascii_lowercase();
        let bare = ["sha256", "sha-256"].iter().find_map(|name| lower.strip_prefix(name));
        let bare = bare.map_or(lower.as_str(), |rest| rest.trim_start_matches([':', '=', ' ']));
        let bare = bare.strip_prefix("fingerprint=").unwrap_or(bare);
        let digits: Vec<u8> = bare
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).map(|d| d as u8))
            .collect::<Option<_>>()?;
        let (pairs, []) = digits.as_chunks::<2>() else { return None };
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        bytes.try_into().ok().map(Self)
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }
}

/// Accepts one certificate. That the other side has its key is proved by the handshake's signature, as always.
#[derive(Debug)]
struct Pinned {
    pin: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Fingerprint::of(certificate) == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_however_it_is_written() {
        let expected = Fingerprint(std::array::from_fn(|i| 0xa0 + i as u8));
        let hex: String = expected.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let colons: Vec<_> = expected.0.iter().map(|byte| format!("{byte:02X}")).collect();
        let colons = colons.join(":");
        for text in [
            hex.clone(),
            hex.to_ascii_uppercase(),
            colons.clone(),
            format!("sha256:{hex}"),
            format!("SHA-256: {colons}"),
            format!("sha256 Fingerprint={colons}"),
            format!(" {hex} "),
        ] {
            assert_eq!(Fingerprint::parse(&text), Some(expected), "{text}");
        }
        for text in
            [&hex[1..], &hex[2..], &format!("{hex}00"), &format!("sha1:{hex}"), &hex.replace('a', "g"), ""]
        {
            assert_eq!(Fingerprint::parse(text), None, "{text}");
        }
    }
}
