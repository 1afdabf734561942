//! The stores that are measured, and a place of its own for each measurement.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use warren_plugin_api::StoreObject;

use crate::{error::BenchError, plugins, servers::Servers};

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
}

impl Backend {
    /// Those that were asked for, or all.
    pub(crate) fn chosen(only: &[Self]) -> Vec<Self> {
        match only {
            [] => Self::value_variants().to_vec(),
            only => only.to_vec(),
        }
    }

    /// The name that its plugin registers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
        }
    }
}

/// Where one measurement keeps its records: nobody else's are there.
pub(crate) struct Place {
    backend: Backend,
    folder: TempDir,
    pub(crate) name: String,
    pub(crate) redis_url: String,
    pub(crate) postgres_url: String,
}

impl Place {
    pub(crate) async fn new(backend: Backend, servers: &Servers) -> Result<Self, BenchError> {
        let folder = tempfile::tempdir().map_err(BenchError::Folder)?;
        let place = Self {
            backend,
            folder,
            // Redis's keys begin with the name of the run, which deletes them at its end.
            name: format!("{}-{}", servers.key_prefix(), uuid::Uuid::new_v4().simple()),
            redis_url: servers.redis_url().to_owned(),
            postgres_url: std::env::var("WARREN_TEST_POSTGRES_URL").unwrap_or_else(|_| {
                "postgresql://postgres:postgres@127.0.0.1:5432/postgres".to_owned()
            }),
        };
        Ok(place)
    }

    pub(crate) const fn backend(&self) -> Backend {
        self.backend
    }

    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("results.db")
    }

    /// Short enough for a name in PostgreSQL.
    pub(crate) fn schema(&self) -> String {
        let end = self.name.len().saturating_sub(32);
        format!("warren_bench_{}", &self.name[end..])
    }

    fn config(&self) -> Value {
        match self.backend {
            Backend::Memory => plugins::memory_config(),
            Backend::Postgres => json!({
                "postgres_url": self.postgres_url,
                "schema": self.schema(),
            }),
            Backend::Redis => json!({ "redis_url": self.redis_url, "key_prefix": self.name }),
            Backend::Sqlite => json!({ "path": self.file() }),
        }
    }

    /// The store of the plugin file.
    pub(crate) async fn open(&self) -> Result<StoreObject, BenchError> {
        plugins::open_named(self.backend.name(), &self.config()).await
    }

    /// Removes everything but what goes with the run.
    pub(crate) async fn remove(self) -> Result<(), BenchError> {
        if self.backend == Backend::Postgres {
            let (client, connection) = tokio_postgres::connect(&self.postgres_url, NoTls).await?;
            let connected = tokio::spawn(connection);
            let drop = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", self.schema());
            client.batch_execute(&drop).await?;
            connected.abort();
        }
        if self.backend == Backend::Redis {
            let client = redis::Client::open(self.redis_url.as_str())?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            let pattern = format!("{}*", self.name);
            let mut cursor = 0_u64;
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor)
                    .arg("MATCH")
                    .arg(&pattern)
                    .arg("COUNT")
                    .arg(5_000);
                let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
                if !keys.is_empty() {
                    let mut unlink = redis::cmd("UNLINK");
                    let () = unlink.arg(keys).query_async(&mut connection).await?;
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}
