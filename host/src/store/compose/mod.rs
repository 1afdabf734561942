//! Stores that are made of other stores. Each is a store like any other: chosen by its name,
//! configured by nested tables, and under the same contract. docs/composition.md says what each
//! of them promises, and what it cannot.

mod failover;
mod fanout;
mod job_locks;
mod member;
mod nested;
mod shared;
mod tiered;

use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use warren_plugin_api::{
    Capabilities, Health, Manifest, ResultStore, ScanOrder, StoreError, StoreObject, StoreResult,
};

use self::{
    failover::Failover,
    fanout::Fanout,
    member::{Member, MemberConfig},
    tiered::Tiered,
};
use super::{StoreRegistry, StoreType, open::Opened, registry::WeakRegistry};

/// A store that is made of others.
trait Combinator: ResultStore<Config: DeserializeOwned + JsonSchema> {
    /// The name that a configuration says.
    const NAME: &'static str;
    /// One line for people.
    const DESCRIPTION: &'static str;

    /// The members of a configuration, each with the path of its table in it.
    fn members(config: &Self::Config) -> Vec<(String, &MemberConfig)>;

    /// Opens the members, which are types of `registry`.
    fn open_in(
        registry: StoreRegistry,
        config: Self::Config,
    ) -> impl Future<Output = StoreResult<Self>> + Send;

    /// The opened members.
    fn opened_members(&self) -> Vec<&Member>;
}

/// The most that a composition can do; how much of it, its members say.
const MOST: Capabilities = Capabilities {
    durable: true,
    embedded: false,
    native_expiry: true,
    push: true,
    scan: true,
    scan_order: ScanOrder::NewestFirst,
    stats: true,
    max_record_bytes: None,
};

/// The types, whose members are those of `registry`.
pub(super) fn store_types(registry: &WeakRegistry) -> [StoreType; 3] {
    [
        store_type::<Tiered>(registry),
        store_type::<Fanout>(registry),
        store_type::<Failover>(registry),
    ]
}

fn store_type<C: Combinator>(registry: &WeakRegistry) -> StoreType {
    let manifest = Manifest {
        name: C::NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: C::DESCRIPTION.to_owned(),
        capabilities: C::CAPABILITIES,
        config_schema: schemars::schema_for!(C::Config).to_value(),
    };
    let (opens, checks) = (registry.clone(), registry.clone());
    StoreType::combinator(
        manifest,
        move |config| {
            let (registry, config) = (opens.upgrade(), read_config::<C>(config));
            Box::pin(async move {
                let opened = C::open_in(registry, config?).await?;
                let members = opened.opened_members().into_iter();
                Ok(Opened {
                    members: members.map(Member::handle).collect(),
                    object: StoreObject::from_store(opened),
                })
            })
        },
        move |config| match read_config::<C>(config) {
            Ok(config) => nested::problems(&checks.upgrade(), &C::members(&config)),
            // Opening it says so.
            Err(_) => Vec::new(),
        },
    )
}

fn read_config<C: Combinator>(config: &Value) -> StoreResult<C::Config> {
    C::Config::deserialize(config).map_err(|error| StoreError::invalid_config(error.to_string()))
}

/// What a composition has of a member's order of scans: no more than it declares.
fn scan_order_of(capabilities: &Capabilities) -> ScanOrder {
    match capabilities.scan_order {
        ScanOrder::NewestFirst => ScanOrder::NewestFirst,
        ScanOrder::OldestFirst | ScanOrder::Unordered => ScanOrder::Unordered,
    }
}

/// The smallest of the members' limits.
fn least_limit<'a>(members: impl Iterator<Item = &'a Capabilities>) -> Option<u64> {
    members.filter_map(|member| member.max_record_bytes).min()
}

/// One health of many: what each member said, under its name.
fn joined_health(members: Vec<(&str, StoreResult<Health>)>) -> Health {
    let mut health = Health::default();
    let mut details = Vec::with_capacity(members.len());
    for (label, answer) in members {
        match answer {
            Ok(member) => {
                let warnings = member.warnings.into_iter();
                health
                    .warnings
                    .extend(warnings.map(|warning| format!("{label}: {warning}")));
                details.push(format!("{label}: {}", member.detail));
            }
            Err(error) => {
                details.push(format!("{label}: away"));
                health.warnings.push(error.message().to_owned());
            }
        }
    }
    health.detail = details.join("; ");
    health
}

/// The answer for an item of a batch; a store that gives too few has a defect.
fn only<T>(answer: Option<StoreResult<T>>) -> StoreResult<T> {
    answer.unwrap_or_else(|| Err(StoreError::internal("the store gave too few answers")))
}

/// Runs `call` to its end even when its caller waits no longer: a change that reaches several
/// stores must not stop between them.
async fn to_its_end<T: Send + 'static>(
    call: impl Future<Output = StoreResult<T>> + Send + 'static,
) -> StoreResult<T> {
    match tokio::spawn(call).await {
        Ok(answer) => answer,
        Err(error) => Err(StoreError::internal(format!("a call ended early: {error}"))),
    }
}
