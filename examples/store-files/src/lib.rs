//! A Warren result store on plain files: one file for each job in one folder.
//!
//! Durable, and safe for several processes on one machine. For some thousands of records: a
//! listing reads every file.

mod folder;

use std::{path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;
use warren_plugin_api::{
    Capabilities, Cursor, Filter, Health, HostContext, Page, Record, ResultStore, Stats,
    StoreError, StoreResult, Text, Timestamp, Write, WriteOutcome,
};

use folder::Folder;

/// Options of the file store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FilesConfig {
    /// The folder that keeps the records; made when it is missing.
    path: PathBuf,
}

/// Keeps each record in a file of its own.
struct FilesStore {
    folder: Arc<Folder>,
}

impl ResultStore for FilesStore {
    type Config = FilesConfig;

    const CAPABILITIES: Capabilities = Capabilities {
        durable: true,
        scan: true,
        stats: true,
        ..Capabilities::NONE
    };

    async fn open(config: FilesConfig, _host: HostContext) -> StoreResult<Self> {
        let folder = blocking(move || Folder::open(config.path)).await?;
        Ok(Self {
            folder: Arc::new(folder),
        })
    }

    async fn put(&self, write: Write) -> StoreResult<WriteOutcome> {
        self.in_folder(move |folder| folder.put(&write)).await
    }

    async fn get(&self, job_id: Text) -> StoreResult<Option<Record>> {
        self.in_folder(move |folder| folder.get(&job_id)).await
    }

    async fn delete(&self, job_id: Text) -> StoreResult<bool> {
        self.in_folder(move |folder| folder.delete(&job_id)).await
    }

    async fn scan(&self, filter: Filter, cursor: Option<Cursor>, limit: u32) -> StoreResult<Page> {
        self.in_folder(move |folder| folder.scan(&filter, cursor.as_ref(), limit))
            .await
    }

    async fn cleanup_expired(&self, now: Timestamp, limit: u32) -> StoreResult<u64> {
        self.in_folder(move |folder| folder.remove_expired(now, limit))
            .await
    }

    async fn health_check(&self) -> StoreResult<Health> {
        self.in_folder(|folder| {
            Ok(Health {
                detail: folder.check()?,
                ..Health::default()
            })
        })
        .await
    }

    async fn stats(&self) -> StoreResult<Stats> {
        self.in_folder(Folder::stats).await
    }
}

impl FilesStore {
    async fn in_folder<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let folder = Arc::clone(&self.folder);
        blocking(move || work(&folder)).await
    }
}

/// Files block: off the thread that polls, which is the worker's.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StoreError::internal(error.to_string())))
}

warren_plugin_api::export_store!(FilesStore, name = "files");

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use warren_conformance::{Scale, Suite};
    use warren_plugin_api::{HostContext, ResultStore, StoreObject};

    use super::{FilesConfig, FilesStore, folder};

    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_the_contract() {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let path = dir.path().join("records");
        let records = path.clone();
        let suite = Suite::new(move || {
            let path = path.clone();
            async move {
                let store = FilesStore::open(FilesConfig { path }, HostContext::silent()).await?;
                Ok(StoreObject::from_store(store))
            }
        });
        let report = suite
            .scale(Scale::Quick)
            .alone()
            .declared(FilesStore::CAPABILITIES)
            .damage(move |job_id| {
                let file = records.join(folder::file_name(&job_id));
                async move { fs::write(file, "not a record").unwrap() }
            })
            .run()
            .await;
        report.assert_passed();
    }
}
