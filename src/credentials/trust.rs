//! Whom seqgate takes for the gateway.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{ALPN, Unusable, certificates, provider, read};

const CA: &str = "SEQGATE_UPSTREAM_CA";

/// Whose certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those for the gateway's name by an authority that the system trusts, or that it lists themselves.
    System,
    /// The same with this file, and no other authorities.
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
        let unusable = |error: &dyn fmt::Display| Unusable::new("SEQGATE_UPSTREAM", "https", error);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?;
        let mut config = match self {
            Self::System => {
                let verifier = Listed::new(system()?, &provider, unusable)?;
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            Self::Authorities(path) => {
                let verifier = Listed::new(authorities(path)?, &provider, unusable)?;
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            Self::Certificate(pin) => {
                let algorithms = provider.signature_verification_algorithms;
                let verifier = Arc::new(Pinned { pin: *pin, algorithms });
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }
}

/// The certificates of a list of trusted ones.
type Roots = (RootCertStore, Vec<Fingerprint>);

fn system() -> Result<Roots, Unusable> {
    let found = rustls_native_certs::load_native_certs();
    let listed = found.certs.iter().map(Fingerprint::of).collect();
    let mut roots = RootCertStore::empty();
    // What a system has besides may be older than what is understood here.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok((roots, listed));
    }
    let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    let why = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join("; ")) };
    Err(Unusable(format!(
        "SEQGATE_UPSTREAM is https, and the system has no certificates of authorities{why}: expected them where it \
         usually has them or in SSL_CERT_FILE, or one of {CA} and SEQGATE_UPSTREAM_FINGERPRINT"
    )))
}

fn authorities(path: &Path) -> Result<Roots, Unusable> {
    let (mut roots, mut listed) = (RootCertStore::empty(), Vec::new());
    for certificate in certificates(CA, path, &read(CA, path)?)? {
        listed.push(Fingerprint::of(&certificate));
        roots.add(certificate).map_err(|error| {
            Unusable::new(CA, path, format_args!("a certificate in it can't be used: {error}"))
        })?;
    }
    Ok((roots, listed))
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

/// Accepts certificates of trusted authorities, and those that are listed themselves: rustls uses a listed certificate as
/// an authority only, whereas curl and Node.js also accept it from the server. A self-signed certificate is the usual case.
#[derive(Debug)]
struct Listed {
    authorities: Arc<WebPkiServerVerifier>,
    certificates: Vec<Fingerprint>,
}

impl Listed {
    fn new(
        (roots, certificates): Roots,
        provider: &Arc<CryptoProvider>,
        unusable: impl Fn(&dyn fmt::Display) -> Unusable,
    ) -> Result<Arc<Self>, Unusable> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let authorities = builder.build().map_err(|error| unusable(&error))?;
        Ok(Arc::new(Self { authorities, certificates }))
    }
}

/// The error is about who issued the certificate. Its encoding, validity and purpose have been checked before that.
fn is_about_issuer(error: &CertificateError) -> bool {
    match error {
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => true,
        CertificateError::Other(error) => is_ca_as_server(error),
        _ => false,
    }
}

/// The server's certificate is marked as an authority's (CA:TRUE).
pub(crate) fn is_ca_as_server(error: &rustls::OtherError) -> bool {
    error.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.authorities.verify_server_cert(certificate, intermediates, name, ocsp, now);
        match verified {
            Err(rustls::Error::InvalidCertificate(error))
                if is_about_issuer(&error) && self.certificates.contains(&Fingerprint::of(certificate)) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
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
