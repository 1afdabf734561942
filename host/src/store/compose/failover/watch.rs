//! Looks after an outage: whether the primary is back, and what is to be brought to it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use warren_plugin_api::Filter;

use super::Shared;

/// How soon a primary that is away is looked for: from the first time, doubled up to the longest.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// How often the secondary is looked into, for what another process has put there.
const LOOK_INTO_SECONDARY: Duration = Duration::from_secs(10);

/// Looks once, and from time to time until the store is closed or gone.
pub(super) async fn start(shared: &Arc<Shared>) {
    let mark = shared.side.written();
    let page = shared.secondary.store().scan(Filter::default(), None, 1);
    if let Ok(page) = shared.secondary.call(page).await
        && page.records.is_empty()
        && page.next.is_none()
    {
        shared.side.found_empty(mark);
    }
    tokio::spawn(run(Arc::downgrade(shared)));
}

async fn run(shared: Weak<Shared>) {
    let mut look_in = FIRST_LOOK;
    loop {
        let Some(this) = shared.upgrade() else { return };
        let work = Arc::clone(&this.side.work);
        let pause = match this.side.primary_is_away() {
            Some(_) => look_in,
            None => LOOK_INTO_SECONDARY,
        };
        // Nobody is kept alive by being watched.
        drop(this);
        // Woken or not: it is time to look.
        let _ = tokio::time::timeout(pause, work.notified()).await;
        let Some(this) = shared.upgrade() else { return };
        if this.side.is_closed() {
            return;
        }
        look_in = if look_after(&this).await {
            FIRST_LOOK
        } else {
            (look_in * 2).min(LONGEST_LOOK)
        };
    }
}

/// Whether all is well again.
async fn look_after(shared: &Shared) -> bool {
    if shared.side.primary_is_away().is_some() {
        if shared.primary.store().health_check().await.is_err() {
            return false;
        }
        shared.side.primary_is_back();
    }
    match shared.bring_back_all().await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, "records wait in the secondary store");
            false
        }
    }
}
