//! The end of what a process writes to stderr.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    task::JoinHandle,
};

/// How much of the end is kept.
pub(super) const KEPT_BYTES: usize = 16 * 1024;
/// How long the last words of a process that has ended may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Reads everything, so that the process never blocks, and keeps the end.
#[derive(Debug)]
pub(super) struct StderrTail {
    kept: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl StderrTail {
    pub(super) fn of(pipe: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let reading = tokio::spawn(read(pipe, Arc::clone(&kept)));
        Self { kept, reading }
    }

    /// Forgets what was written so far.
    pub(super) fn clear(&self) {
        lock(&self.kept).clear();
    }

    /// What was written since the last `clear`, as far as it has arrived.
    pub(super) fn text(&self) -> String {
        let kept = lock(&self.kept);
        let start = kept.len().saturating_sub(KEPT_BYTES);
        String::from_utf8_lossy(&kept[start..])
            .trim_end()
            .to_owned()
    }

    /// As [`text`](Self::text), once the process has closed its end.
    pub(super) async fn last_words(&mut self) -> String {
        // A child of the process may keep it open.
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.reading).await;
        self.text()
    }
}

impl Drop for StderrTail {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn lock(kept: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(mut pipe: impl AsyncRead + Unpin, kept: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = [0; 4_096];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let mut kept = lock(&kept);
        kept.extend_from_slice(&chunk[..count]);
        if kept.len() > 2 * KEPT_BYTES {
            let surplus = kept.len() - KEPT_BYTES;
            kept.drain(..surplus);
        }
    }
}
