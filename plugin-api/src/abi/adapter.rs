//! The plugin's side of a call: from the ABI's types to the author's trait.

use std::sync::atomic::{AtomicBool, Ordering};

use abi_stable::{
    sabi_trait::TD_Opaque,
    std_types::{RBox, ROption, RString, RVec},
};
use async_ffi::FfiContext;

use super::{
    call::{AbiAnswer, AbiPending, begin},
    callback::SinkObject,
    panic_guard::{QuietDrop, catch},
    record::{
        AbiBatch, AbiRecord, AbiRecords, AbiResult, AbiStatuses, AbiWrite, outcome_to_abi,
        status_to_abi,
    },
    store::{AbiPage, AbiStore, AbiStore_TO, AbiStoreObject},
};
use crate::{
    BatchResult, CompletionSink, Cursor, Filter, ResultStore, StoreError, StoreResult, Text,
    Timestamp, Write,
};

/// Makes a store callable over the boundary.
pub(crate) fn into_object<S: ResultStore>(store: S) -> AbiStoreObject {
    let adapter = StoreAdapter {
        store: QuietDrop::new(store),
        closed: AtomicBool::new(false),
    };
    AbiStore_TO::from_ptr(RBox::new(adapter), TD_Opaque)
}

struct StoreAdapter<S> {
    store: QuietDrop<S>,
    closed: AtomicBool,
}

impl<S> StoreAdapter<S> {
    fn open_store(&self) -> StoreResult<&S> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::unavailable("the store is closed"));
        }
        self.store.get()
    }
}

impl<S: ResultStore> AbiStore for StoreAdapter<S> {
    fn capabilities(&self) -> AbiResult<RString> {
        to_result(catch("capabilities", || {
            to_json(&self.store.get()?.capabilities())
        }))
    }

    fn put<'a>(
        &'a self,
        write: &mut ROption<AbiWrite>,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<u8>,
    ) -> AbiPending<'a, u8> {
        let call = || {
            let ROption::RSome(write) = std::mem::replace(write, ROption::RNone) else {
                return Err(no_write());
            };
            Ok(self.open_store()?.put(write.try_into()?))
        };
        begin("put", context, answer, call, |outcome| {
            to_result(outcome.map(outcome_to_abi))
        })
    }

    fn put_many<'a>(
        &'a self,
        writes: RVec<AbiWrite>,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<AbiBatch<u8>>,
    ) -> AbiPending<'a, AbiBatch<u8>> {
        let expected = writes.len();
        let call = || {
            let mut taken = Vec::with_capacity(expected);
            for write in writes {
                taken.push(Write::try_from(write)?);
            }
            Ok(self.open_store()?.put_many(taken))
        };
        begin("put_many", context, answer, call, move |outcomes| {
            to_batch(expected, outcomes, outcome_to_abi)
        })
    }

    fn get<'a>(
        &'a self,
        job_id: Text,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<ROption<AbiRecord>>,
    ) -> AbiPending<'a, ROption<AbiRecord>> {
        let call = || Ok(self.open_store()?.get(job_id));
        begin("get", context, answer, call, |record| match record {
            Ok(Some(record)) => AbiResult::ROk(ROption::RSome(record.into())),
            Ok(None) => AbiResult::ROk(ROption::RNone),
            Err(error) => AbiResult::RErr(error.into()),
        })
    }

    fn get_many<'a>(
        &'a self,
        job_ids: RVec<Text>,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<AbiRecords>,
    ) -> AbiPending<'a, AbiRecords> {
        let expected = job_ids.len();
        let call = || Ok(self.open_store()?.get_many(job_ids.into()));
        begin("get_many", context, answer, call, move |records| {
            to_batch(expected, records, |record| {
                record.map(AbiRecord::from).into()
            })
        })
    }

    fn status<'a>(
        &'a self,
        job_id: Text,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<ROption<u8>>,
    ) -> AbiPending<'a, ROption<u8>> {
        let call = || Ok(self.open_store()?.status(job_id));
        begin("status", context, answer, call, |status| {
            to_result(status.map(|status| status.map(status_to_abi).into()))
        })
    }

    fn status_many<'a>(
        &'a self,
        job_ids: RVec<Text>,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<AbiStatuses>,
    ) -> AbiPending<'a, AbiStatuses> {
        let expected = job_ids.len();
        let call = || Ok(self.open_store()?.status_many(job_ids.into()));
        begin("status_many", context, answer, call, move |statuses| {
            to_batch(expected, statuses, |status| {
                status.map(status_to_abi).into()
            })
        })
    }

    fn delete<'a>(
        &'a self,
        job_id: Text,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<bool>,
    ) -> AbiPending<'a, bool> {
        let call = || Ok(self.open_store()?.delete(job_id));
        begin("delete", context, answer, call, to_result)
    }

    fn delete_many<'a>(
        &'a self,
        job_ids: RVec<Text>,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<AbiBatch<bool>>,
    ) -> AbiPending<'a, AbiBatch<bool>> {
        let expected = job_ids.len();
        let call = || Ok(self.open_store()?.delete_many(job_ids.into()));
        begin("delete_many", context, answer, call, move |deleted| {
            to_batch(expected, deleted, |deleted| deleted)
        })
    }

    fn scan<'a>(
        &'a self,
        filter_json: RString,
        cursor: ROption<RString>,
        limit: u32,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<AbiPage>,
    ) -> AbiPending<'a, AbiPage> {
        let call = || {
            let filter: Filter = from_json(&filter_json)?;
            let cursor = cursor
                .into_option()
                .map(|cursor| Cursor(cursor.into_string()));
            Ok(self.open_store()?.scan(filter, cursor, limit))
        };
        begin("scan", context, answer, call, |page| {
            to_result(page.map(|page| AbiPage {
                records: page.records.into_iter().map(AbiRecord::from).collect(),
                next: page.next.map(|Cursor(next)| RString::from(next)).into(),
            }))
        })
    }

    fn cleanup_expired<'a>(
        &'a self,
        now: Timestamp,
        limit: u32,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<u64>,
    ) -> AbiPending<'a, u64> {
        let call = || Ok(self.open_store()?.cleanup_expired(now, limit));
        begin("cleanup_expired", context, answer, call, to_result)
    }

    fn health_check<'a>(
        &'a self,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<RString>,
    ) -> AbiPending<'a, RString> {
        let call = || Ok(self.open_store()?.health_check());
        begin("health_check", context, answer, call, |health| {
            to_result(health.and_then(|health| to_json(&health)))
        })
    }

    fn stats<'a>(
        &'a self,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<RString>,
    ) -> AbiPending<'a, RString> {
        let call = || Ok(self.open_store()?.stats());
        begin("stats", context, answer, call, |stats| {
            to_result(stats.and_then(|stats| to_json(&stats)))
        })
    }

    fn close<'a>(
        &'a self,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<()>,
    ) -> AbiPending<'a, ()> {
        let call = || {
            let was_closed = self.closed.swap(true, Ordering::AcqRel);
            Ok(async move {
                if was_closed {
                    return Ok(());
                }
                self.store.get()?.close().await
            })
        };
        begin("close", context, answer, call, to_result)
    }

    fn subscribe<'a>(
        &'a self,
        sink: SinkObject,
        context: &mut FfiContext<'_>,
        answer: &mut AbiAnswer<()>,
    ) -> AbiPending<'a, ()> {
        let call = || {
            let sink = CompletionSink::from_object(sink);
            Ok(self.open_store()?.subscribe(sink))
        };
        begin("subscribe", context, answer, call, to_result)
    }
}

/// The answer of a host for a method that a plugin of an older contract does not have.
pub(crate) fn unsupported_since<'a, T>(
    major: u32,
    minor: u32,
    what: &str,
    answer: &mut AbiAnswer<T>,
) -> AbiPending<'a, T> {
    let error = StoreError::unsupported(format!(
        "the plugin cannot {what}: it was built against a contract older than {major}.{minor}"
    ));
    *answer = ROption::RSome(AbiResult::RErr(error.into()));
    ROption::RNone
}

fn no_write() -> StoreError {
    StoreError::internal("the host called put without a record")
}

fn to_result<T>(result: StoreResult<T>) -> AbiResult<T> {
    match result {
        Ok(value) => AbiResult::ROk(value),
        Err(error) => AbiResult::RErr(error.into()),
    }
}

/// A batch must answer for every item, or callers would pair answers with the wrong items.
fn to_batch<T, A>(
    expected: usize,
    answers: BatchResult<T>,
    convert: impl Fn(T) -> A,
) -> AbiResult<AbiBatch<A>> {
    let answers = match answers {
        Ok(answers) if answers.len() == expected => answers,
        Ok(answers) => {
            let error = StoreError::internal(format!(
                "the store gave {} answers for {expected} items",
                answers.len()
            ));
            return AbiResult::RErr(error.into());
        }
        Err(error) => return AbiResult::RErr(error.into()),
    };
    let answers = answers.into_iter();
    let answers = answers.map(|answer| to_result(answer.map(&convert)));
    AbiResult::ROk(answers.collect())
}

pub(crate) fn to_json(value: &impl serde::Serialize) -> StoreResult<RString> {
    serde_json::to_string(value)
        .map(RString::from)
        .map_err(|error| StoreError::internal(format!("cannot be written as JSON: {error}")))
}

pub(crate) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> StoreResult<T> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::internal(format!("unreadable JSON at the boundary: {error}")))
}
