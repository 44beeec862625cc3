//! Clients, by bucket, and the runtime that they work on.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ClientConfigKey, Error as Fault, ObjectStore, RetryConfig};
use tokio::runtime::{Builder, Runtime};

use super::fault;
use crate::address::{Address, Service};
use crate::error::Error;

/// How often a request is repeated that a server refused for now, or never saw.
const RETRIES: usize = 6;
/// The longest time between two of them.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After so long no request is repeated any more.
const PATIENCE: Duration = Duration::from_secs(120);
/// A connection on which nothing comes for so long is given up. An upload hears nothing before its part is sent.
const SILENCE: &str = "60 seconds";
/// A request may take as long as it makes progress: an archive is read in one.
const NO_LIMIT: &str = "365 days";

/// A bucket's client, and a key in it.
pub(crate) struct Client {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) key: Key,
}

/// Clients by service and bucket; they keep connections.
type Clients = HashMap<(Service, String), Arc<dyn ObjectStore>>;

/// The client of an address.
pub(crate) fn client(address: Address<'_>) -> Result<Client, Error> {
    static CLIENTS: OnceLock<Mutex<Clients>> = OnceLock::new();
    let failed = |fault: Fault| fault::error(address, &fault);
    let key = Key::parse(address.key).map_err(|source| failed(source.into()))?;
    let mut clients = CLIENTS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let name = (address.service, address.bucket.to_owned());
    let store = match clients.get(&name) {
        Some(store) => store.clone(),
        None => {
            let store = build(address).map_err(failed)?;
            clients.insert(name, store.clone());
            store
        }
    };
    Ok(Client { store, key })
}

/// A client with the keys and the options of the environment.
fn build(address: Address<'_>) -> Result<Arc<dyn ObjectStore>, Fault> {
    // TLS needs to be told who computes; the first to say so is asked.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let backoff = BackoffConfig { max_backoff: LONGEST_WAIT, ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: PATIENCE };
    let (silence, limit) = (ClientConfigKey::ReadTimeout, ClientConfigKey::Timeout);
    Ok(match address.service {
        Service::S3 => Arc::new(
            AmazonS3Builder::from_env()
                .with_config(AmazonS3ConfigKey::Client(silence), SILENCE)
                .with_config(AmazonS3ConfigKey::Client(limit), NO_LIMIT)
                .with_retry(retry)
                .with_bucket_name(address.bucket)
                .build()?,
        ),
        Service::Google => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_config(GoogleConfigKey::Client(silence), SILENCE)
                .with_config(GoogleConfigKey::Client(limit), NO_LIMIT)
                .with_retry(retry)
                .with_bucket_name(address.bucket)
                .build()?,
        ),
        Service::Azure => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_config(AzureConfigKey::Client(silence), SILENCE)
                .with_config(AzureConfigKey::Client(limit), NO_LIMIT)
                .with_retry(retry)
                .with_container_name(address.bucket)
                .build()?,
        ),
    })
}

/// The runtime of all requests; two threads move bytes faster than any network here.
fn runtime() -> std::io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build());
    made.as_ref().map_err(|error| std::io::Error::new(error.kind(), error.to_string()))
}

/// Waits for what a store says. Not to be called by a task of a runtime.
pub(crate) fn wait<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let runtime = runtime().map_err(|source| Fault::Generic { store: "", source: source.into() })?;
    // What the environment says of a server or a region may make no URL, on which object_store panics.
    guard::caught(|| Ok(runtime.block_on(answer))).unwrap_or_else(|problem| {
        let problem = problem.trim_start_matches("the decoder stopped: ");
        let source = format!("no request can be made of what the environment says: {problem}").into();
        Err(Fault::Generic { store: "", source })
    })
}
