//! The stores that are measured, and a place of its own for each measurement.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use warren_plugin_api::StoreObject;
use warren_tests::{S3_ACCESS_KEY_ID, S3_BUCKET, S3_SECRET_ACCESS_KEY};

use super::{SINGLE, elasticsearch, mongodb, postgres, redis};
use crate::{error::BenchError, plugins, servers::Servers};

/// How long a call to the slower servers may take: on a busy machine longer than the stores allow
/// by themselves.
pub(super) const PATIENCE: &str = "1m";

/// A store that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Backend {
    /// In this process.
    Memory,
    /// A schema of this run's own.
    Postgres,
    /// Keys of this run's own.
    Redis,
    /// A file in the folder for temporary files.
    Sqlite,
    /// A database of this run's own.
    Mongodb,
    /// Objects of this run's own.
    S3,
    /// An index of this run's own.
    Elasticsearch,
}

impl Backend {
    /// Those that were asked for, or all.
    pub(crate) fn chosen(only: &[Self]) -> Vec<Self> {
        match only {
            [] => Self::value_variants().to_vec(),
            only => only.to_vec(),
        }
    }

    /// As [`chosen`](Self::chosen), of those that take a million records.
    ///
    /// # Errors
    /// When another one was asked for.
    pub(crate) fn of_cost(only: &[Self]) -> Result<Vec<Self>, BenchError> {
        let is_slow = |it: &Self| it.one_in() > 1;
        if let Some(slow) = only.iter().find(|it| is_slow(it)) {
            let others = Self::value_variants().iter().filter(|it| !is_slow(it));
            let others: Vec<&str> = others.map(|it| it.name()).collect();
            return Err(BenchError::NotInCost {
                store: slow.name(),
                others: others.join(", "),
            });
        }
        let mut chosen = Self::chosen(only);
        chosen.retain(|it| !is_slow(it));
        Ok(chosen)
    }

    /// How many of so many records a round of it has.
    pub(crate) fn records(self, of: u32) -> u32 {
        (of / self.one_in()).max(SINGLE)
    }

    /// How much less its server is given than the others, so that no store takes a minute.
    const fn one_in(self) -> u32 {
        match self {
            Self::Memory | Self::Postgres | Self::Redis | Self::Sqlite => 1,
            Self::Elasticsearch => 5,
            Self::Mongodb => 10,
            Self::S3 => 20,
        }
    }

    /// The name that its plugin registers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
            Self::Mongodb => "mongodb",
            Self::S3 => "s3",
            Self::Elasticsearch => "elasticsearch",
        }
    }
}

/// Where one measurement keeps its records: nobody else's are there.
pub(crate) struct Place {
    backend: Backend,
    folder: TempDir,
    pub(crate) name: String,
    /// The server's; empty where there is none.
    pub(crate) url: String,
}

impl Place {
    pub(crate) async fn new(backend: Backend, servers: &Servers) -> Result<Self, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::Folder)?;
        let place = Self {
            backend,
            folder,
            // Redis's keys begin with the name of the run, which deletes them at its end.
            name: format!("{}-{}", servers.key_prefix(), uuid::Uuid::new_v4().simple()),
            url: url(backend, servers).await?,
        };
        Ok(place)
    }

    pub(crate) const fn backend(&self) -> Backend {
        self.backend
    }

    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("results.db")
    }

    /// Short enough for a name in PostgreSQL, and plain enough for one in Elasticsearch.
    pub(crate) fn schema(&self) -> String {
        let end = self.name.len().saturating_sub(32);
        format!("warren_bench_{}", &self.name[end..])
    }

    fn config(&self) -> Value {
        match self.backend {
            Backend::Memory => plugins::memory_config(),
            Backend::Postgres => json!({
                "postgres_url": self.url,
                "schema": self.schema(),
            }),
            Backend::Redis => json!({ "redis_url": self.url, "key_prefix": self.name }),
            Backend::Sqlite => json!({ "path": self.file() }),
            Backend::Mongodb => json!({
                "mongodb_url": self.url,
                "database": self.schema(),
                "operation_timeout": PATIENCE,
            }),
            Backend::S3 => json!({
                "endpoint": self.url,
                "allow_http": true,
                "bucket": S3_BUCKET,
                "prefix": self.name,
                "access_key_id": S3_ACCESS_KEY_ID,
                "secret_access_key": S3_SECRET_ACCESS_KEY,
            }),
            Backend::Elasticsearch => elasticsearch::config(self),
        }
    }

    /// The store of the plugin file.
    pub(crate) async fn open(&self) -> Result<StoreObject, BenchError> {
        plugins::open_named(self.backend.name(), &self.config()).await
    }

    /// Removes everything but what goes with the run.
    pub(crate) async fn remove(self) -> Result<(), BenchError> {
        match self.backend {
            Backend::Postgres => postgres::remove(&self).await,
            Backend::Redis => redis::remove(&self).await,
            Backend::Mongodb => mongodb::remove(&self).await,
            Backend::Elasticsearch => elasticsearch::remove(&self).await,
            // In this process, in the folder, or on a server that ends with the run.
            Backend::Memory | Backend::Sqlite | Backend::S3 => Ok(()),
        }
    }
}

async fn url(backend: Backend, servers: &Servers) -> Result<String, BenchError> {
    match backend {
        Backend::Memory | Backend::Sqlite => Ok(String::new()),
        Backend::Redis => Ok(servers.redis_url().to_owned()),
        Backend::Postgres => Ok(
            std::env::var("WARREN_TEST_POSTGRES_URL").unwrap_or_else(|_| {
                "postgresql://postgres:postgres@127.0.0.1:5432/postgres".to_owned()
            }),
        ),
        Backend::Mongodb => servers.others().mongodb_url().await,
        Backend::S3 => servers.others().s3_endpoint().await,
        Backend::Elasticsearch => servers.others().elasticsearch_url().await,
    }
}
