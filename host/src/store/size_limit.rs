//! Records over a store's limit are refused before it sees them.

use warren_plugin_api::{StoreError, StoreResult, Write};

/// The largest record that a store takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct SizeLimit<'a> {
    /// The store's name, for the error.
    pub(super) store: &'a str,
    pub(super) max_record_bytes: Option<u64>,
}

/// The answers for those items of a batch that were refused, each at its place. Empty when none was.
pub(super) struct Refused(Vec<Option<StoreError>>);

impl SizeLimit<'_> {
    /// # Errors
    /// `too_large`
    pub(super) fn check(&self, write: &Write) -> StoreResult<()> {
        let Some(limit) = self.max_record_bytes else {
            return Ok(());
        };
        let found = write.record.size_bytes();
        if u64::try_from(found).is_ok_and(|found| found <= limit) {
            return Ok(());
        }
        let name = self.store;
        Err(StoreError::too_large(format!(
            "the record has {found} bytes, store {name:?} takes at most {limit}"
        )))
    }

    /// The writes that fit, and the answers for the others.
    pub(super) fn split(&self, writes: Vec<Write>) -> (Vec<Write>, Refused) {
        if writes.iter().all(|write| self.check(write).is_ok()) {
            return (writes, Refused(Vec::new()));
        }
        let mut refused = Vec::with_capacity(writes.len());
        let mut fitting = Vec::with_capacity(writes.len());
        for write in writes {
            let error = self.check(&write).err();
            if error.is_none() {
                fitting.push(write);
            }
            refused.push(error);
        }
        (fitting, Refused(refused))
    }
}

impl Refused {
    /// All answers in the order of the items, given those for the writes that fitted.
    pub(super) fn merge<T>(self, answers: Vec<StoreResult<T>>) -> Vec<StoreResult<T>> {
        if self.0.is_empty() {
            return answers;
        }
        let mut answers = answers.into_iter();
        let missing = || Err(StoreError::internal("the store gave too few answers"));
        self.0
            .into_iter()
            .map(|refused| match refused {
                Some(error) => Err(error),
                None => answers.next().unwrap_or_else(missing),
            })
            .collect()
    }
}
