//! What a server says about itself.

use std::collections::HashMap;

use redis::{RedisResult, Value, aio::MultiplexedConnection};
use warren_plugin_api::{StoreError, StoreResult};

use crate::address::Address;

/// The first version whose `SET` takes `PXAT`.
const OLDEST: (u32, u32) = (6, 2);

/// The fields of `INFO`.
#[derive(Debug, Default)]
pub(crate) struct Info(HashMap<String, String>);

impl Info {
    pub(crate) fn parse(answer: Value) -> Self {
        let text = match answer {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
            _ => String::new(),
        };
        Self(
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// `Redis 7.0.15` or `Valkey 8.0.1`.
    pub(crate) fn product(&self) -> String {
        if let Some(version) = self.get("valkey_version") {
            return format!("Valkey {version}");
        }
        self.get("redis_version")
            .map_or_else(|| "Redis".to_owned(), |version| format!("Redis {version}"))
    }

    fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.get("redis_version")?.split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// Refuses a cluster and a server that is too old. A user who may not ask is let through: then
/// the first call says what is wrong.
pub(crate) async fn refuse_what_is_unsupported(
    connection: &mut MultiplexedConnection,
    address: &Address,
) -> StoreResult<()> {
    let answer: RedisResult<Value> = connection
        .send_packed_command(redis::cmd("INFO").arg("server"))
        .await
        .and_then(Value::extract_error);
    let info = answer.map(Info::parse).unwrap_or_default();
    if info.get("redis_mode") == Some("cluster") {
        return Err(StoreError::invalid_config(format!(
            "Redis at {address} runs in cluster mode, which is not supported: a record, its \
             status, its queue's set and the indexes are changed in one step, and a cluster keeps \
             them on different nodes. Use a server with cluster-enabled no"
        )));
    }
    match info.version() {
        Some(version) if version < OLDEST => Err(StoreError::invalid_config(format!(
            "the server at {address} is {}, expected Redis {}.{} or later",
            info.product(),
            OLDEST.0,
            OLDEST.1
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read_line_by_line() {
        let text = "# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.0.1\r\nused_memory:12\r\n";
        let info = Info::parse(Value::BulkString(text.into()));
        assert_eq!(info.product(), "Valkey 8.0.1");
        assert_eq!(info.version(), Some((7, 2)));
        assert_eq!(info.number("used_memory"), Some(12));
        assert_eq!(Info::parse(Value::Nil).product(), "Redis");
    }
}
