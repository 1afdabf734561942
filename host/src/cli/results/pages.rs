//! A listing, page by page.

use warren_plugin_api::{Cursor, Filter, Record, StoreResult};

use super::patience::patiently;
use crate::store::Store;

/// Records that one look at the store takes. Each may be large, so not many.
const RECORDS: u32 = 200;

/// The records of a store that pass a filter.
pub(super) struct Pages<'store> {
    store: &'store Store,
    filter: Filter,
    next: Next,
}

enum Next {
    Page(Option<Cursor>),
    End,
}

impl<'store> Pages<'store> {
    /// From the beginning, or from where an earlier listing ended.
    pub(super) const fn new(store: &'store Store, filter: Filter, from: Option<Cursor>) -> Self {
        Self {
            store,
            filter,
            next: Next::Page(from),
        }
    }

    /// The next page, which may be empty; `None` at the end. Waits a while for a store that is away.
    pub(super) async fn next(&mut self) -> StoreResult<Option<Vec<Record>>> {
        let Next::Page(cursor) = &self.next else {
            return Ok(None);
        };
        let (store, filter) = (self.store, &self.filter);
        let page = patiently(|| store.scan(filter.clone(), cursor.clone(), RECORDS)).await?;
        self.next = page
            .next
            .map_or(Next::End, |cursor| Next::Page(Some(cursor)));
        Ok(Some(page.records))
    }

    /// Where the next page begins; `None` at the very beginning and at the end.
    pub(super) const fn cursor(&self) -> Option<&Cursor> {
        match &self.next {
            Next::Page(cursor) => cursor.as_ref(),
            Next::End => None,
        }
    }
}
