//! Reading records and statuses by their ids.

use futures_util::{StreamExt, stream};
use warren_plugin_api::{BatchResult, Record, Status, StoreResult, Text, Timestamp};

use crate::{
    object::Stored,
    shared::{Shared, Whole, distinct},
};

impl Shared {
    /// A record, by its key's name.
    pub(crate) async fn get(&self, job: String) -> StoreResult<Option<Record>> {
        match self.whole(&job).await? {
            Whole::Record(_, record) if !record.is_expired(Timestamp::now()) => Ok(Some(*record)),
            _ => Ok(None),
        }
    }

    /// Reads what guards a record and not the record.
    pub(crate) async fn status(&self, job: String) -> StoreResult<Option<Status>> {
        match self.stored(&job).await? {
            Stored::Record { head, .. } if !head.is_expired(Timestamp::now()) => {
                Ok(Some(head.status))
            }
            Stored::Unreadable { why, .. } => Err(why),
            _ => Ok(None),
        }
    }

    pub(crate) async fn get_many(&self, job_ids: &[Text]) -> BatchResult<Option<Record>> {
        let (jobs, places) = distinct(job_ids);
        let asked = stream::iter(jobs).map(|job| self.get(job));
        let answers: Vec<_> = asked.buffered(self.at_once()).collect().await;
        Ok(in_order(&answers, places))
    }

    pub(crate) async fn status_many(&self, job_ids: &[Text]) -> BatchResult<Option<Status>> {
        let (jobs, places) = distinct(job_ids);
        let asked = stream::iter(jobs).map(|job| self.status(job));
        let answers: Vec<_> = asked.buffered(self.at_once()).collect().await;
        Ok(in_order(&answers, places))
    }
}

/// What was asked for again is answered again.
fn in_order<T: Clone>(answers: &[T], places: Vec<usize>) -> Vec<T> {
    let answer = |place: usize| answers.get(place).cloned();
    places.into_iter().filter_map(answer).collect()
}
