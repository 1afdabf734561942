//! What the store publishes of its options: the host holds configurations against it.

use crate::{
    case::{Case, case},
    context::Context,
    expect::{Checked, ensure},
    schema::Schema,
};

pub(crate) const CASES: &[Case] = &[
    case!(
        "configuration",
        every_option_is_described,
        ["RS-150"],
        [ConfigSchema]
    ),
    case!(
        "configuration",
        an_unknown_option_is_refused,
        ["RS-151"],
        [ConfigSchema]
    ),
];

async fn every_option_is_described(context: &Context) -> Checked {
    let Some(schema) = &context.options.config_schema else {
        return Ok(());
    };
    let undescribed = Schema::of(schema).undescribed();
    ensure!(
        undescribed.is_empty(),
        "the schema of its configuration: expected a description of every option, found none of {}",
        undescribed.join(", ")
    );
    Ok(())
}

async fn an_unknown_option_is_refused(context: &Context) -> Checked {
    let Some(schema) = &context.options.config_schema else {
        return Ok(());
    };
    ensure!(
        Schema::of(schema).refuses_unknown_options(),
        "the schema of its configuration: expected `additionalProperties` to be false, so that a \
         misspelt option is refused, found a table that takes any \
         (`#[serde(deny_unknown_fields)]` says so in Rust)"
    );
    Ok(())
}
