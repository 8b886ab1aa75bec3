//! Words the errors of a TLS handshake with the gateway: what is wrong, and which setting helps.

use std::io;

use rustls::AlertDescription as Alert;
use rustls::{CertificateError, OtherError};

use crate::credentials::is_ca_as_server;

/// Why a handshake failed, as a clause about the gateway.
pub(super) fn sentence(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(error) => tls(error),
        None => transport(error),
    }
}

fn transport(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the gateway closed the connection in the TLS handshake".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            "the gateway reset the connection in the TLS handshake".to_owned()
        }
        _ => format!("the connection failed in the TLS handshake with the gateway: {error}"),
    }
}

fn tls(error: &rustls::Error) -> String {
    use rustls::Error;
    let text = match error {
        Error::InvalidCertificate(error) => {
            return format!("the gateway's certificate is not accepted: {}", objection(error));
        }
        Error::AlertReceived(description) => return alert(*description),
        Error::InvalidMessage(_) => {
            "the gateway does not speak TLS on its port: try http:// in SEQGATE_UPSTREAM"
        }
        Error::PeerIncompatible(_) => {
            "the gateway has no TLS version, cipher or key exchange in common with seqgate (TLS 1.2 and 1.3)"
        }
        Error::NoApplicationProtocol => {
            "the gateway does not offer http/1.1 over TLS (ALPN): enable HTTP/1.1 there"
        }
        Error::NoCertificatesPresented => {
            "the gateway sent no certificate: configure one there, or try http:// in SEQGATE_UPSTREAM"
        }
        Error::DecryptError => {
            "the gateway sent TLS data that could not be decrypted: it was changed on its way"
        }
        Error::PeerSentOversizedRecord
        | Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => {
            "the gateway violated the TLS protocol: see whether a TLS server listens on its port"
        }
        Error::FailedToGetCurrentTime => "the TLS handshake failed: this host's clock can't be read",
        Error::FailedToGetRandomBytes => "the TLS handshake failed: the system gives no random numbers",
        error => return format!("the TLS handshake with the gateway failed: {error}"),
    };
    text.to_owned()
}

/// An alert that the gateway sent.
fn alert(description: Alert) -> String {
    let text = match description {
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "the gateway has no TLS cipher or key exchange in common with seqgate"
        }
        Alert::ProtocolVersion => "the gateway does not speak TLS 1.2 or 1.3",
        Alert::UnrecognisedName => {
            "the gateway does not know the name that it was asked for: correct the host in SEQGATE_UPSTREAM"
        }
        Alert::NoApplicationProtocol => {
            "the gateway does not offer http/1.1 over TLS (ALPN): enable HTTP/1.1 there"
        }
        Alert::CertificateRequired
        | Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => {
            "the gateway requires a client certificate, and seqgate has none: do not require one there"
        }
        Alert::InternalError => "the gateway ended the TLS handshake after an internal error: see its log",
        other => return format!("the gateway ended the TLS handshake with the alert {other:?}: see its log"),
    };
    text.to_owned()
}

/// What is wrong with a certificate, and what helps.
fn objection(error: &CertificateError) -> String {
    let text = match error {
        CertificateError::UnknownIssuer => {
            "it is not from an authority that is trusted here: set SEQGATE_UPSTREAM_CA to the authority's file, or \
             SEQGATE_UPSTREAM_FINGERPRINT to the certificate's fingerprint"
        }
        CertificateError::ApplicationVerificationFailure => {
            "its fingerprint is not that of SEQGATE_UPSTREAM_FINGERPRINT"
        }
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            let names = presented.join(", ");
            return format!(
                "it is not for the name in SEQGATE_UPSTREAM but for {names}: correct the host, or set \
                 SEQGATE_UPSTREAM_FINGERPRINT"
            );
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it has no subject alternative name for the name in SEQGATE_UPSTREAM: issue it with one, or set \
             SEQGATE_UPSTREAM_FINGERPRINT"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it, or one of its authority's, has expired: renew it, or check this host's clock"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it, or one of its authority's, is not valid yet: check this host's clock"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for TLS servers (extended key usage): issue it with serverAuth, or set \
             SEQGATE_UPSTREAM_FINGERPRINT"
        }
        CertificateError::BadEncoding => {
            "it is not encoded as a certificate should be: issue it again, or set SEQGATE_UPSTREAM_FINGERPRINT"
        }
        CertificateError::BadSignature => {
            "its signature does not match its authority's key: another authority of the same name issued it, or it was \
             changed"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with an algorithm that is not supported: issue it with SHA-2 and RSA of at least 2048 bits, \
             ECDSA (P-256, P-384) or Ed25519"
        }
        CertificateError::UnhandledCriticalExtension => {
            "it has a critical extension that is not supported: issue it without, or set SEQGATE_UPSTREAM_FINGERPRINT"
        }
        CertificateError::Revoked => "it has been revoked: issue another one",
        CertificateError::Other(error) => return other_objection(error),
        error => {
            return format!(
                "it can't be verified ({error}): issue it again, or set SEQGATE_UPSTREAM_FINGERPRINT"
            );
        }
    };
    text.to_owned()
}

/// An error of the verification that rustls has no variant for.
fn other_objection(error: &OtherError) -> String {
    use webpki::Error;
    let text = match error.0.downcast_ref() {
        _ if is_ca_as_server(error) => {
            "it is marked as an authority's (CA:TRUE) and not listed itself: add the certificate to the file in \
             SEQGATE_UPSTREAM_CA, or set SEQGATE_UPSTREAM_FINGERPRINT"
        }
        Some(Error::EndEntityUsedAsCa) => {
            "a certificate in its chain is not marked as an authority's (CA:TRUE): issue it by an authority, or set \
             SEQGATE_UPSTREAM_FINGERPRINT"
        }
        Some(Error::UnsupportedCertVersion) => {
            "it is of an old version of X.509: issue it with version 3, or set SEQGATE_UPSTREAM_FINGERPRINT"
        }
        Some(Error::NameConstraintViolation) => {
            "its authority is not permitted to issue for its names (name constraints): issue it by another one"
        }
        Some(Error::PathLenConstraintViolated | Error::MaximumPathDepthExceeded) => {
            "its chain of authorities is longer than permitted: issue it by another one"
        }
        _ => {
            "it does not conform to the rules for certificates (RFC 5280): issue it again, or set \
             SEQGATE_UPSTREAM_FINGERPRINT"
        }
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{Error, PeerIncompatible, PeerMisbehaved};

    use super::*;

    #[test]
    fn every_error_is_a_sentence_without_names_of_types() {
        let other = |error: webpki::Error| CertificateError::Other(OtherError(Arc::new(error)));
        let certificates = [
            CertificateError::BadEncoding,
            CertificateError::Expired,
            CertificateError::NotValidYet,
            CertificateError::Revoked,
            CertificateError::UnhandledCriticalExtension,
            CertificateError::UnknownIssuer,
            CertificateError::BadSignature,
            CertificateError::NotValidForName,
            CertificateError::InvalidPurpose,
            CertificateError::ApplicationVerificationFailure,
            other(webpki::Error::CaUsedAsEndEntity),
            other(webpki::Error::EndEntityUsedAsCa),
            other(webpki::Error::NameConstraintViolation),
            other(webpki::Error::PathLenConstraintViolated),
            other(webpki::Error::UnsupportedCertVersion),
            other(webpki::Error::MalformedExtensions),
        ];
        let errors = certificates.into_iter().map(Error::InvalidCertificate).chain([
            Error::AlertReceived(Alert::HandshakeFailure),
            Error::AlertReceived(Alert::CertificateRequired),
            Error::AlertReceived(Alert::UnrecognisedName),
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            Error::PeerMisbehaved(PeerMisbehaved::TooMuchEarlyDataReceived),
            Error::NoCertificatesPresented,
            Error::NoApplicationProtocol,
            Error::DecryptError,
        ]);
        for error in errors {
            let text = sentence(&io::Error::new(io::ErrorKind::InvalidData, error.clone()));
            let is_type = |word: &str| {
                word.chars().skip(1).any(char::is_uppercase) && word.contains(char::is_lowercase)
            };
            let odd = text
                .split(|c: char| !c.is_alphanumeric())
                .find(|word| is_type(word) && *word != "serverAuth");
            assert_eq!(odd, None, "{error:?}: {text}");
            assert!(text.contains("the gateway"), "{text}");
        }
    }
}
