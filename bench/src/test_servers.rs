//! Servers that no system has as a package: the tests' helpers install and start them.

use tokio::{sync::OnceCell, task::spawn_blocking};
use warren_tests::{S3Service, Secantus, elasticsearch_url};

use crate::error::BenchError;

/// Each is started when it is first asked for, and ends with the run.
#[derive(Debug, Default)]
pub(crate) struct TestServers {
    mongodb: OnceCell<MongoDb>,
    s3: OnceCell<S3Service>,
    elasticsearch: OnceCell<String>,
}

#[derive(Debug)]
enum MongoDb {
    /// The one that the environment names.
    Given(String),
    Started(Secantus),
}

impl TestServers {
    /// `WARREN_TEST_MONGODB_URL`, or SecantusDB.
    pub(crate) async fn mongodb_url(&self) -> Result<String, BenchError> {
        let start = || match std::env::var("WARREN_TEST_MONGODB_URL") {
            Ok(url) => MongoDb::Given(url),
            Err(_) => MongoDb::Started(Secantus::start(&[])),
        };
        let server = self
            .mongodb
            .get_or_try_init(|| started("SecantusDB", start))
            .await?;
        Ok(match server {
            MongoDb::Given(url) => url.clone(),
            MongoDb::Started(server) => server.url(),
        })
    }

    /// SeaweedFS.
    pub(crate) async fn s3_endpoint(&self) -> Result<String, BenchError> {
        let service = self
            .s3
            .get_or_try_init(|| started("SeaweedFS", S3Service::seaweedfs))
            .await?;
        Ok(service.endpoint())
    }

    /// `WARREN_TEST_ELASTICSEARCH_URL`, or osmem-server.
    pub(crate) async fn elasticsearch_url(&self) -> Result<String, BenchError> {
        self.elasticsearch
            .get_or_try_init(|| started("osmem-server", elasticsearch_url))
            .await
            .cloned()
    }
}

/// The helpers block, and panic with what to do when a server does not start.
async fn started<T: Send + 'static>(
    name: &'static str,
    start: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BenchError> {
    let starting = spawn_blocking(start).await;
    starting.map_err(|_panicked| BenchError::NoTestServer { name })
}
