//! The celery crate (rusty-celery), as its book says: acknowledged late, so that a job survives its
//! worker.

use std::sync::Arc;

use celery::{Celery, CeleryBuilder, task::TaskResult};
use futures_util::future::try_join_all;

use crate::{AT_ONCE, Outcome, Peer, ended};

#[celery::task(acks_late = true)]
async fn add(a: i64, b: i64) -> TaskResult<i64> {
    ended::one();
    Ok(a + b)
}

pub(crate) struct Sender(Arc<Celery>);

impl Sender {
    pub(crate) async fn connect(url: &str, queue: &str) -> Outcome<Self> {
        let app = CeleryBuilder::new(queue, url)
            .default_queue(queue)
            .prefetch_count(AT_ONCE as u16)
            .build()
            .await?;
        app.register_task::<add>().await?;
        Ok(Self(Arc::new(app)))
    }
}

impl Peer for Sender {
    async fn send(&mut self, jobs: usize) -> Outcome<()> {
        let mut left = jobs;
        while left > 0 {
            let count = left.min(AT_ONCE);
            try_join_all((0..count).map(|_| self.0.send_task(add::new(1, 2)))).await?;
            left -= count;
        }
        Ok(())
    }

    async fn work(self) -> Outcome<()> {
        Ok(self.0.consume().await?)
    }
}
