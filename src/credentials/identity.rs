//! Certificate and key of the listener, which are renewed while it listens.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::digest::{Context, SHA256};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{ALPN, Unusable, certificates, provider, read};
use crate::metrics::{Metrics, Reload};

const CERT: &str = "SEQGATE_TLS_CERT";
const KEY: &str = "SEQGATE_TLS_KEY";

/// Between two looks at the files. Their contents are compared: whoever renews them may write them, rename them or
/// turn a link somewhere above them.
const LOOK: Duration = Duration::from_secs(2);

/// Where the listener's certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What is in both files, or why they can't be read.
type Content = Result<(Vec<u8>, Vec<u8>), Unusable>;
/// What tells one content from another, without holding a key.
type Mark = Result<[u8; 32], Unusable>;

impl Files {
    fn content(&self) -> Content {
        Ok((read(CERT, &self.certificate)?, read(KEY, &self.key)?))
    }

    fn config(&self, content: Content) -> Result<ServerConfig, Unusable> {
        let (chain, key) = content?;
        let chain = certificates(CERT, &self.certificate, &chain)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
            let why = "there is no private key in it (expected PEM: PKCS#8, PKCS#1 or SEC1, not encrypted)";
            Unusable::new(KEY, &self.key, why)
        })?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                Unusable::new(KEY, &self.key, format_args!("it is not the key of the certificate in {CERT}"))
            }
            rustls::Error::InvalidCertificate(error) => {
                Unusable::new(CERT, &self.certificate, format_args!("its certificate can't be used: {error}"))
            }
            error => Unusable::new(KEY, &self.key, format_args!("it can't be used: {error}")),
        })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }
}

fn mark(content: &Content) -> Mark {
    let (chain, key) = content.as_ref().map_err(Clone::clone)?;
    let mut hash = Context::new(&SHA256);
    hash.update(&chain.len().to_le_bytes());
    hash.update(chain);
    hash.update(key);
    let mut mark = [0; 32];
    mark.copy_from_slice(hash.finish().as_ref());
    Ok(mark)
}

/// What clients are shown. A connection keeps what it began with.
pub struct Identity {
    files: Files,
    loaded: Mark,
    current: Mutex<Arc<ServerConfig>>,
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them can't be used, or they do not belong together.
    pub fn load(files: Files) -> Result<Self, Unusable> {
        let content = files.content();
        let loaded = mark(&content);
        let config = files.config(content)?;
        Ok(Self { files, loaded, current: Mutex::new(Arc::new(config)) })
    }

    /// For a connection that begins.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock())
    }

    /// Follows changes of the files until it is dropped. A pair that can't be used changes nothing.
    pub async fn watch(self: Arc<Self>, metrics: Arc<Metrics>) {
        let mut used = self.loaded.clone();
        let mut before = used.clone();
        loop {
            sleep(LOOK).await;
            let files = self.files.clone();
            // Some file systems take their time.
            let Ok(content) = spawn_blocking(move || files.content()).await else { continue };
            let now = mark(&content);
            // In the middle of a renewal the two do not match: what is used has stood from one look to the next.
            let is_settled = now == before;
            before.clone_from(&now);
            if !is_settled || now == used {
                continue;
            }
            used = now;
            match self.files.config(content) {
                Ok(config) => {
                    *self.lock() = Arc::new(config);
                    metrics.reloaded(Reload::Done);
                    tracing::info!("new connections are shown the new certificate");
                }
                Err(why) => {
                    metrics.reloaded(Reload::Failed);
                    tracing::warn!("the certificate stays as it was: {why}");
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<ServerConfig>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
