//! The HTTP client: TLS on rustls and ring, time limits, how many requests at once, and which are
//! sent again.

use std::{path::Path, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use object_store::{
    ClientConfigKey, ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    },
};
use reqwest::Method;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::sync::Semaphore;
use warren_plugin_api::{StoreError, StoreResult};

use crate::config::S3Config;

/// Makes clients that share one limit of requests.
#[derive(Debug)]
pub(crate) struct Connector {
    tls: ClientConfig,
    limit: Arc<Semaphore>,
    config: S3Config,
}

impl Connector {
    pub(crate) fn new(config: &S3Config) -> StoreResult<Self> {
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| StoreError::internal(error.to_string()))?
            .with_root_certificates(roots(config.tls_ca_file.as_deref())?)
            .with_no_client_auth();
        Ok(Self {
            tls,
            limit: Arc::new(Semaphore::new(config.concurrent_requests.into())),
            config: config.clone(),
        })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // The metadata of a machine or a container is asked over plain HTTP, whatever the service.
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .https_only(allow_http.as_deref() != Some("true"))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.config.connect_timeout)
            .timeout(self.config.request_timeout)
            .pool_max_idle_per_host(self.config.concurrent_requests.into())
            .user_agent(concat!("warren-store-s3/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| object_store::Error::Generic {
                store: "S3",
                source: Box::new(error),
            })?;
        Ok(HttpClient::new(Limited {
            client,
            limit: Arc::clone(&self.limit),
            retry_for: self.config.retry_for,
        }))
    }
}

/// A client that waits for its turn, and sends again what was not served.
#[derive(Debug)]
struct Limited {
    client: reqwest::Client,
    limit: Arc<Semaphore>,
    retry_for: Duration,
}

impl Limited {
    async fn serve(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(1))
            .with_jitter()
            .without_max_times()
            .with_total_delay(Some(self.retry_for))
            .build();
        loop {
            let answer = {
                let _turn = self.limit.acquire().await;
                self.client.call(request.clone()).await
            };
            if !may_be_sent_again(request.method(), &answer) {
                return answer;
            }
            match waits.next() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return answer,
            }
        }
    }
}

/// Reads and writes may be: a write that was done, though the answer was lost, is known by its name.
/// A delete may have been done and somebody else have written there since.
fn may_be_sent_again(method: &Method, answer: &Result<HttpResponse, HttpError>) -> bool {
    let is_delete = matches!(*method, Method::DELETE | Method::POST);
    match answer {
        Err(error) if error.kind() == HttpErrorKind::Connect => true,
        _ if is_delete => false,
        // "Not implemented" stays so.
        Ok(answer) => match answer.status().as_u16() {
            501 => false,
            status => status >= 500 || status == 429 || status == 408,
        },
        // Whoever took that long will not be faster the next time.
        Err(error) => matches!(
            error.kind(),
            HttpErrorKind::Request | HttpErrorKind::Interrupted
        ),
    }
}

// As `async_trait` would write it.
impl HttpService for Limited {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.serve(request))
    }
}

fn roots(file: Option<&Path>) -> StoreResult<RootCertStore> {
    let Some(file) = file else {
        return Ok(RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        });
    };
    let unusable = |why: String| {
        StoreError::invalid_config(format!(
            "tls_ca_file {} cannot be used: {why}",
            file.display()
        ))
    };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable("it holds no certificate in PEM form".to_owned()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    Ok(roots)
}
