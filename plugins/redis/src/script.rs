//! The Lua scripts, and how they are run.

use redis::{Cmd, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value};
use warren_plugin_api::{StoreError, StoreResult, Timestamp};

use crate::{connection::Lane, encode::expiry, iso_time, keys::Keys};

macro_rules! script {
    ($file:literal) => {
        concat!(
            include_str!("lua/record.lua"),
            include_str!(concat!("lua/", $file))
        )
    };
}

/// All scripts, with their hashes.
pub(crate) struct Scripts {
    pub(crate) put: StoredScript,
    pub(crate) delete: StoredScript,
    pub(crate) cleanup: StoredScript,
    pub(crate) tidy: StoredScript,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            put: StoredScript::new(script!("put.lua")),
            delete: StoredScript::new(script!("delete.lua")),
            cleanup: StoredScript::new(script!("cleanup.lua")),
            tidy: StoredScript::new(script!("tidy.lua")),
        }
    }
}

/// A script that the server keeps, called by its hash.
pub(crate) struct StoredScript {
    hash: String,
    load: Cmd,
}

impl StoredScript {
    fn new(code: &str) -> Self {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(code);
        Self {
            hash: Script::new(code).get_hash().to_owned(),
            load,
        }
    }

    /// Begins a call with `key_count` keys and the arguments that every script takes. The keys
    /// come next, but for the two indexes, then `arguments`, then the script's own.
    pub(crate) fn call<'a>(
        &self,
        keys: &Keys,
        record_keys: impl ExactSizeIterator<Item = &'a str>,
        now: Timestamp,
    ) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command
            .arg(&self.hash)
            .arg(record_keys.len() + 2)
            .arg(keys.scan_index())
            .arg(keys.expiry_index());
        for key in record_keys {
            command.arg(key);
        }
        command
            .arg(&expiry(Some(now)))
            .arg(iso_time::sortable(now))
            .arg(keys.prefix());
        command
    }

    /// Gives the script to the server.
    pub(crate) const fn load(&self) -> &Cmd {
        &self.load
    }

    /// Runs a call. A server that does not have the script, or has forgotten it, is given it first.
    pub(crate) async fn run(&self, lane: &Lane, call: &Cmd) -> StoreResult<Value> {
        let answer = lane.command(call).await;
        if !is_unknown_script(&answer) {
            return answer.map_err(|error| lane.error(&error));
        }
        let described = |error| lane.error(&error);
        lane.command(&self.load).await.map_err(described)?;
        lane.command(call).await.map_err(described)
    }

    /// Sends `first` and runs a call that goes on with what it has done. `None` when either was
    /// refused: the call has then done nothing.
    pub(crate) async fn run_after(
        &self,
        lane: &Lane,
        first: Cmd,
        call: &Cmd,
    ) -> StoreResult<Option<Value>> {
        let mut both = redis::pipe();
        both.add_command(first).add_command(call.clone());
        let answers = lane.commands(&both).await;
        let answers = answers.map_err(|error| lane.error(&error))?;
        let [Value::Okay, answer] = answers.as_slice() else {
            return Ok(None);
        };
        match answer.clone().extract_error() {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.code() == Some(NOT_STAGED) => Ok(None),
            answer if is_unknown_script(&answer) => self.run(lane, call).await.map(Some),
            Err(error) => Err(lane.error(&error)),
        }
    }
}

/// What `put` answers when what is staged cannot be moved.
const NOT_STAGED: &str = "NOTSTAGED";

fn is_unknown_script(answer: &RedisResult<Value>) -> bool {
    answer
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// One character per item, as `put` and `delete` answer: whether it is `1`. What follows the
/// items is returned beside.
pub(crate) fn flags(answer: &Value, items: usize) -> StoreResult<(Vec<bool>, &[u8])> {
    let Value::BulkString(bytes) = answer else {
        return Err(unexpected(answer));
    };
    let (flags, rest) = bytes
        .split_at_checked(items)
        .ok_or_else(|| unexpected(answer))?;
    Ok((flags.iter().map(|flag| *flag == b'1').collect(), rest))
}

/// An answer of a type that the command does not have.
pub(crate) fn unexpected(answer: &Value) -> StoreError {
    let kind = match answer {
        Value::ServerError(error) => return server_error(error.clone().into()),
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) => "other text",
        Value::Array(_) => "another list",
        _ => "something else",
    };
    StoreError::internal(format!("Redis answered with {kind} where it must not"))
}

fn server_error(error: RedisError) -> StoreError {
    StoreError::internal(format!("Redis refused a part of the call: {error}"))
}
