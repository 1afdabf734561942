//! What a store says when its backend fails it.

use std::time::Duration;

use warren_plugin_api::{
    ErrorClass, Filter, StoreError, StoreObject, StoreResult, Timestamp, WriteMode,
};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, Failure, ensure, expect_class, expect_record},
    records::with_mode,
};

pub(crate) const CASES: &[Case] = &[
    case!(
        "errors",
        an_absent_backend_is_unavailable,
        ["RS-114"],
        [Unreachable]
    ),
    case!(
        "errors",
        an_unresponsive_backend_is_given_up,
        ["RS-117"],
        [Unresponsive]
    ),
    case!(
        "errors",
        wrong_credentials_are_invalid_config,
        ["RS-118"],
        [WrongCredentials]
    ),
    case!(
        "errors",
        a_full_backend_is_unavailable,
        ["RS-119"],
        [NoRoom]
    ),
    case!(
        "errors",
        a_damaged_record_is_corrupt_data,
        ["RS-115"],
        [Damage]
    ),
];

async fn an_absent_backend_is_unavailable(context: &Context) -> Checked {
    let Some(open) = &context.options.unreachable else {
        return Ok(());
    };
    let expected = ErrorClass::Unavailable;
    let store = match open().await {
        Ok(store) => store,
        Err(error) => {
            ensure!(
                error.class() == expected,
                "opening an absent backend: expected a store or the error {expected}, found {error}"
            );
            return Ok(());
        }
    };
    let (id, record) = (context.id("job"), context.small("job"));
    let ids = vec![id.clone()];
    expect_class("health_check", &store.health_check().await, expected)?;
    expect_class("put", &store.put(record.clone().into()).await, expected)?;
    expect_class("get", &store.get(id.clone()).await, expected)?;
    expect_class("status", &store.status(id.clone()).await, expected)?;
    expect_class("delete", &store.delete(id).await, expected)?;
    let put_many = store.put_many(vec![record.into()]).await;
    expect_class("put_many", &first(put_many), expected)?;
    expect_class(
        "get_many",
        &first(store.get_many(ids.clone()).await),
        expected,
    )?;
    expect_class(
        "status_many",
        &first(store.status_many(ids.clone()).await),
        expected,
    )?;
    expect_class(
        "delete_many",
        &first(store.delete_many(ids).await),
        expected,
    )?;
    if context.capabilities().scan {
        let page = store.scan(Filter::default(), None, 10).await;
        expect_class("scan", &page, expected)?;
    }
    if context.capabilities().stats {
        expect_class("stats", &store.stats().await, expected)?;
    }
    store
        .close()
        .await
        .map_err(|error| Failure::unexpected("close of an absent backend", &error))
}

/// How long a call that is not answered is waited for, as a host does.
const HOST_DEADLINE: Duration = Duration::from_secs(2);

/// The answer, or `unavailable` as the host makes it when the deadline passes.
async fn within_deadline<T>(call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
    let late = |_| Err(StoreError::unavailable("no answer within the deadline"));
    tokio::time::timeout(HOST_DEADLINE, call)
        .await
        .unwrap_or_else(late)
}

async fn an_unresponsive_backend_is_given_up(context: &Context) -> Checked {
    let Some(open) = &context.options.unresponsive else {
        return Ok(());
    };
    let expected = ErrorClass::Unavailable;
    let store = match within_deadline(open()).await {
        Ok(store) => store,
        Err(error) => {
            ensure!(
                error.class() == expected,
                "opening an unresponsive backend: expected a store or the error {expected}, found {error}"
            );
            return Ok(());
        }
    };
    let (id, record) = (context.id("job"), context.small("job"));
    // Each call is dropped in the middle; the next one finds a store that can be used.
    let (health, put, get, delete) = tokio::join!(
        within_deadline(store.health_check()),
        within_deadline(store.put(record.into())),
        within_deadline(store.get(id.clone())),
        within_deadline(store.delete(id.clone())),
    );
    expect_class("health_check", &health, expected)?;
    expect_class("put", &put, expected)?;
    expect_class("get", &get, expected)?;
    expect_class("delete", &delete, expected)?;
    expect_class(
        "a call after those",
        &within_deadline(store.get(id)).await,
        expected,
    )?;
    let closed = within_deadline(store.close()).await;
    closed.map_err(|error| Failure::unexpected("close on an unresponsive backend", &error))
}

/// When it is opened, or by every call.
async fn wrong_credentials_are_invalid_config(context: &Context) -> Checked {
    let Some(open) = &context.options.wrong_credentials else {
        return Ok(());
    };
    let expected = ErrorClass::InvalidConfig;
    let mut shown = Vec::new();
    match open().await {
        Err(error) => {
            ensure!(
                error.class() == expected,
                "opening with wrong credentials: expected a store or the error {expected}, found {error}"
            );
            shown.push(error.to_string());
        }
        Ok(store) => {
            let (id, record) = (context.id("job"), context.small("job"));
            let health = store.health_check().await;
            let put = store.put(record.into()).await;
            let get = store.get(id).await;
            expect_class("health_check", &health, expected)?;
            expect_class("put", &put, expected)?;
            expect_class("get", &get, expected)?;
            let errors = [health.err(), put.err(), get.err()];
            shown.extend(errors.into_iter().flatten().map(|error| error.to_string()));
            close(&store).await?;
        }
    }
    for secret in &context.options.secrets {
        ensure!(
            shown.iter().all(|text| !text.contains(secret.as_str())),
            "errors about wrong credentials: expected no secret, found one"
        );
    }
    Ok(())
}

async fn a_full_backend_is_unavailable(context: &Context) -> Checked {
    let Some(open) = &context.options.no_room else {
        return Ok(());
    };
    let expected = ErrorClass::Unavailable;
    let store = match open().await {
        Ok(store) => store,
        Err(error) => {
            ensure!(
                error.class() == expected,
                "opening a full backend: expected a store or the error {expected}, found {error}"
            );
            return Ok(());
        }
    };
    let record = context.full("job");
    expect_class("put", &store.put(record.clone().into()).await, expected)?;
    let put_many = store.put_many(vec![record.clone().into()]).await;
    expect_class("put_many", &first(put_many), expected)?;
    let found = store.get(record.job_id).await;
    let found = found.map_err(|error| Failure::unexpected("get on a full backend", &error))?;
    ensure!(
        found.is_none(),
        "get after a write that found no room: expected none, found a record"
    );
    close(&store).await
}

async fn close(store: &StoreObject) -> Checked {
    let closed = store.close().await;
    closed.map_err(|error| Failure::unexpected("close", &error))
}

/// A batch may fail as a whole or for its only item.
fn first<T>(
    answers: warren_plugin_api::BatchResult<T>,
) -> warren_plugin_api::StoreResult<Option<T>> {
    answers?.pop().transpose()
}

async fn a_damaged_record_is_corrupt_data(context: &Context) -> Checked {
    let Some(damage) = &context.options.damage else {
        return Ok(());
    };
    let (store, expected) = (&context.store, ErrorClass::CorruptData);
    let (damaged, whole) = (context.full("damaged"), context.full("whole"));
    store.written(damaged.clone()).await?;
    store.written(whole.clone()).await?;
    damage(damaged.job_id.clone()).await;
    let id = damaged.job_id.clone();
    expect_class("get", &store.raw().get(id.clone()).await, expected)?;
    let ids = vec![whole.job_id.clone(), id.clone(), whole.job_id.clone()];
    let many = store.raw().get_many(ids).await;
    let many = many.map_err(|error| Failure::unexpected("get_many", &error))?;
    expect_class("get_many, the damaged item", &many[1], expected)?;
    for index in [0, 2] {
        let found = many[index].as_ref().ok().and_then(Option::as_ref);
        expect_record("get_many, another item", found, &whole)?;
    }
    // Cleaning up goes on past it, and it can be replaced or deleted.
    store.cleanup_all(Timestamp::now(), 100).await?;
    store
        .written(with_mode(damaged.clone(), WriteMode::Always))
        .await?;
    let found = store.get(&id).await?;
    expect_record("a damaged record, written anew", found.as_ref(), &damaged)?;
    damage(id.clone()).await;
    store.delete(&id).await?;
    let found = store.get(&id).await?;
    ensure!(
        found.is_none(),
        "get after deleting a damaged record: expected none, found one"
    );
    Ok(())
}
