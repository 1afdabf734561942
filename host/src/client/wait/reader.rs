//! Reads of those who wait: at once while there are few, in batches when there are many.

use std::sync::OnceLock;

use tokio::sync::{Semaphore, mpsc, oneshot};
use warren_plugin_api::{Record, StoreError, StoreResult, Text};

use crate::store::Store;

/// Reads of single records that may be under way; further ones share calls.
const SINGLE_READS: usize = 16;
/// The most records of one call. They have results of any size, each of which somebody wants.
const BATCH: usize = 64;

#[derive(Debug)]
pub(super) struct Reader {
    store: Store,
    single: Semaphore,
    questions: OnceLock<mpsc::UnboundedSender<Question>>,
}

#[derive(Debug)]
struct Question {
    job_id: Text,
    answer: oneshot::Sender<StoreResult<Option<Record>>>,
}

impl Reader {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            single: Semaphore::new(SINGLE_READS),
            questions: OnceLock::new(),
        }
    }

    /// As [`Store::get`].
    pub(super) async fn read(&self, job_id: Text) -> StoreResult<Option<Record>> {
        if let Ok(_permit) = self.single.try_acquire() {
            return self.store.get(job_id).await;
        }
        let questions = self.questions.get_or_init(|| {
            let (sender, asked) = mpsc::unbounded_channel();
            tokio::spawn(answer(self.store.clone(), asked));
            sender
        });
        let (answer, answered) = oneshot::channel();
        let asked = questions.send(Question {
            job_id: job_id.clone(),
            answer,
        });
        match (asked, answered.await) {
            (Ok(()), Ok(answer)) => answer,
            // Its runtime has ended, and another one uses the same client.
            _ => self.store.get(job_id).await,
        }
    }
}

/// Asks for all jobs that are waiting for an answer, again and again.
async fn answer(store: Store, mut asked: mpsc::UnboundedReceiver<Question>) {
    let mut questions = Vec::new();
    while asked.recv_many(&mut questions, BATCH).await > 0 {
        // Whoever has gone needs no answer.
        questions.retain(|question| !question.answer.is_closed());
        let ids: Vec<Text> = questions.iter().map(|it| it.job_id.clone()).collect();
        let count = ids.len();
        let mut records = store
            .get_many(ids)
            .await
            .unwrap_or_else(|error| vec![Err(error); count])
            .into_iter();
        for question in questions.drain(..) {
            let missing = || Err(StoreError::internal("the store gave too few answers"));
            let _ = question.answer.send(records.next().unwrap_or_else(missing));
        }
    }
}
