//! Removing what expired records leave behind.

use std::time::{Duration, Instant};

use redis::Value;
use warren_plugin_api::{StoreResult, Timestamp};

use crate::{
    connection::Connections,
    keys::Keys,
    script::{Scripts, unexpected},
};

/// Index entries that one script looks at, while other clients of the server wait.
const ENTRIES_AT_ONCE: u64 = 256;
/// How long one call goes on.
const GOES_ON_FOR: Duration = Duration::from_secs(2);

/// What came of a cleanup.
pub(crate) struct Cleaned {
    pub(crate) removed: u64,
    /// Nothing that was due is left.
    pub(crate) finished: bool,
}

/// Removes up to `limit` records that expired by `now`.
pub(crate) async fn remove_expired(
    connections: &Connections,
    keys: &Keys,
    scripts: &Scripts,
    now: Timestamp,
    limit: u64,
) -> StoreResult<Cleaned> {
    let started = Instant::now();
    let mut removed = 0;
    let lane = connections.lane().await?;
    while removed < limit && started.elapsed() < GOES_ON_FOR {
        let batch = ENTRIES_AT_ONCE.min(limit - removed);
        let mut call = scripts.cleanup.call(keys, std::iter::empty::<&str>(), now);
        call.arg(now.unix_us().div_euclid(1_000)).arg(batch);
        let answer = scripts.cleanup.run(&lane, &call).await?;
        let Value::Array(numbers) = &answer else {
            return Err(unexpected(&answer));
        };
        let [Value::Int(gone), Value::Int(looked_at)] = numbers.as_slice() else {
            return Err(unexpected(&answer));
        };
        removed += u64::try_from(*gone).unwrap_or_default();
        if u64::try_from(*looked_at).unwrap_or_default() < batch {
            return Ok(Cleaned {
                removed,
                finished: true,
            });
        }
    }
    Ok(Cleaned {
        removed,
        finished: false,
    })
}
