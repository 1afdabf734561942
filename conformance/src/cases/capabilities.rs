//! A store does what it says, and says what it does.

use warren_plugin_api::{CompletionSink, ErrorClass, Filter, ScanOrder, Timestamp};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, Failure, ensure, expect_class, expect_eq},
    schema::Schema,
};

pub(crate) const CASES: &[Case] = &[
    case!("capabilities", never_change, ["RS-160"]),
    case!(
        "capabilities",
        are_no_more_than_declared,
        ["RS-161"],
        [Declared]
    ),
    case!("capabilities", what_is_lacking_is_unsupported, ["RS-162"]),
    case!("capabilities", what_is_declared_works, ["RS-163"]),
    case!(
        "capabilities",
        an_embedded_store_needs_no_option,
        ["RS-164"],
        [Embedded, ConfigSchema]
    ),
];

async fn never_change(context: &Context) -> Checked {
    let other = context.open_again().await?;
    context.store.written(context.small("job")).await?;
    for store in [&context.store, &other, &context.store] {
        let found = store
            .raw()
            .capabilities()
            .map_err(|error| Failure::unexpected("capabilities", &error))?;
        expect_eq("capabilities", &found, context.capabilities())?;
    }
    other.close().await
}

async fn are_no_more_than_declared(context: &Context) -> Checked {
    let (opened, Some(declared)) = (context.capabilities(), &context.options.declared) else {
        return Ok(());
    };
    for (name, opened, declared) in [
        ("durable", opened.durable, declared.durable),
        ("embedded", opened.embedded, declared.embedded),
        (
            "native_expiry",
            opened.native_expiry,
            declared.native_expiry,
        ),
        ("push", opened.push, declared.push),
        ("scan", opened.scan, declared.scan),
        ("stats", opened.stats, declared.stats),
    ] {
        ensure!(
            declared || !opened,
            "{name}: expected no more than the manifest declares, found it once opened"
        );
    }
    ensure!(
        opened.scan_order == declared.scan_order || opened.scan_order == ScanOrder::Unordered,
        "scan_order: expected {} or none, found {}",
        declared.scan_order,
        opened.scan_order
    );
    if let Some(declared) = declared.max_record_bytes {
        ensure!(
            opened
                .max_record_bytes
                .is_some_and(|opened| opened <= declared),
            "max_record_bytes: expected at most {declared}, found {:?}",
            opened.max_record_bytes
        );
    }
    Ok(())
}

async fn what_is_lacking_is_unsupported(context: &Context) -> Checked {
    let (store, capabilities) = (context.store.raw(), context.capabilities());
    let expected = ErrorClass::Unsupported;
    if !capabilities.scan {
        let page = store.scan(Filter::default(), None, 10).await;
        expect_class("scan", &page, expected)?;
    }
    if !capabilities.stats {
        expect_class("stats", &store.stats().await, expected)?;
    }
    if !capabilities.push {
        let sink = CompletionSink::new(|| {}, |_| {});
        expect_class("subscribe", &store.subscribe(sink).await, expected)?;
    }
    Ok(())
}

async fn what_is_declared_works(context: &Context) -> Checked {
    let (store, capabilities) = (context.store.raw(), context.capabilities());
    if capabilities.scan {
        let filter = crate::cases::scan::in_queue(&context.name("queue"));
        context.store.scan(&filter, 10).await?;
    } else {
        expect_eq(
            "scan_order of a store without scan",
            &capabilities.scan_order,
            &ScanOrder::Unordered,
        )?;
    }
    if capabilities.stats {
        context.store.stats().await?;
    }
    if capabilities.push {
        let (ready, mut is_ready) = tokio::sync::mpsc::unbounded_channel();
        let sink = CompletionSink::new(
            move || {
                let _ = ready.send(());
            },
            |_| {},
        );
        tokio::select! {
            _ = is_ready.recv() => {}
            ended = store.subscribe(sink) => ensure!(
                false,
                "subscribe: expected it to go on, found its end: {ended:?}"
            ),
        }
    }
    // Every store has these, whatever it declares.
    context.store.cleanup(Timestamp::MIN, 1).await?;
    Ok(())
}

async fn an_embedded_store_needs_no_option(context: &Context) -> Checked {
    let Some(schema) = &context.options.config_schema else {
        return Ok(());
    };
    let needed = Schema::of(schema).needed();
    ensure!(
        needed.is_empty(),
        "the schema of its configuration: expected a default for every option of an embedded \
         store, found that it needs {}",
        needed.join(", ")
    );
    Ok(())
}
