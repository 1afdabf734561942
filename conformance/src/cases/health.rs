//! Whether the store would serve a call now.

use warren_plugin_api::{Cursor, ErrorClass};

use crate::{
    case::{Case, case},
    cases::scan::in_queue,
    context::Context,
    expect::{Checked, Failure, ensure},
};

pub(crate) const CASES: &[Case] = &[
    case!("health", says_what_answered, ["RS-090"]),
    case!("health", no_secret_is_shown, ["RS-091"], [Secrets]),
];

async fn says_what_answered(context: &Context) -> Checked {
    let health = context.store.raw().health_check().await;
    let health = health.map_err(|error| Failure::unexpected("health_check", &error))?;
    ensure!(
        !health.detail.trim().is_empty(),
        "health_check: expected what answered, found an empty detail"
    );
    Ok(())
}

/// Nowhere that ends up in a log, or before people's eyes.
async fn no_secret_is_shown(context: &Context) -> Checked {
    let store = context.store.raw();
    let mut shown = Vec::new();
    if let Ok(health) = store.health_check().await {
        shown.push(health.detail);
        shown.extend(health.warnings);
    }
    if let Ok(stats) = store.stats().await {
        shown.push(format!("{:?}", stats.details));
    }
    let cursor = Some(Cursor("no cursor".to_owned()));
    let filter = in_queue(&context.name("queue"));
    if let Err(error) = store.scan(filter, cursor, 1).await {
        shown.push(error.to_string());
    }
    if let Some(open) = &context.options.unreachable {
        match open().await {
            Err(error) => shown.push(error.to_string()),
            Ok(absent) => {
                if let Err(error) = absent.health_check().await {
                    ensure!(
                        error.class() == ErrorClass::Unavailable,
                        "health_check of an absent backend: expected unavailable, found {error}"
                    );
                    shown.push(error.to_string());
                }
            }
        }
    }
    for secret in &context.options.secrets {
        ensure!(
            shown.iter().all(|text| !text.contains(secret.as_str())),
            "health, stats and errors: expected no secret, found one"
        );
    }
    Ok(())
}
