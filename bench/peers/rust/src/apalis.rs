//! apalis with apalis-amqp, as its README says, with jobs sent in bulk.

use apalis::{layers::WorkerBuilderExt, prelude::*};
use apalis_amqp::{AmqpBackend, Config};

use crate::{AT_ONCE, Outcome, Peer, ended};

pub(crate) struct Sender(AmqpBackend<(i64, i64)>);

impl Sender {
    pub(crate) fn connect(url: &str, queue: &str) -> Outcome<Self> {
        let config = Config::default()
            .queue(queue)
            .prefetch_count(AT_ONCE as u16);
        Ok(Self(AmqpBackend::new_from_addr(url)?.with_config(config)))
    }
}

async fn add((a, b): (i64, i64)) -> Result<i64, BoxDynError> {
    ended::one();
    Ok(a + b)
}

impl Peer for Sender {
    async fn send(&mut self, jobs: usize) -> Outcome<()> {
        let mut left = jobs;
        while left > 0 {
            let count = left.min(AT_ONCE);
            self.0.push_bulk(vec![(1, 2); count]).await?;
            left -= count;
        }
        Ok(())
    }

    async fn work(self) -> Outcome<()> {
        let worker = WorkerBuilder::new("peer")
            .backend(self.0)
            .concurrency(AT_ONCE)
            .build(add);
        Ok(worker.run().await?)
    }
}
