//! Delays on plain RabbitMQ: any delay up to ten years, without a plugin, and without one delay
//! holding up another.
//!
//! The delay in milliseconds is written in binary into the routing key, a word per digit. There
//! is a level per digit: a topic exchange, and a queue whose messages all wait as long as the
//! digit is worth. An exchange sends a message into its queue if the digit is 1, and straight on
//! to the next lower exchange if it is 0; a queue dead-letters what has waited to that exchange
//! too. Since everything in a queue waits equally long, nothing overtakes and nothing blocks.
//! Below the lowest level the message finds its target by the last words of the routing key.
//!
//! The queues are quorum queues that keep what they pass on until the next queue has confirmed it:
//! between classic queues, what is passed on in the moment in which the broker stops is lost.
//!
//! The scheme is NServiceBus's ("delay infrastructure", its second version), which Celery's native
//! delayed delivery uses too.

use std::{ops::Range, time::Duration};

use futures_util::future::try_join_all;
use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::sync::Mutex;

use super::{
    connection::Connection,
    error::{on_connection, on_delay_level, on_queue},
    topology,
};
use crate::broker::{BrokerError, QueueName};

/// 2^39 ms is more than 17 years; the longest delay is ten.
const LEVELS: u32 = 39;
/// Levels are declared on so many channels at once: the broker starts a group of Raft for each.
const DECLARE_AT_ONCE: usize = 8;
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// What delays of four seconds and more are multiples of.
const COARSEST_STEP_MS: u64 = 256;
const DELIVER: &str = "warren.delay.deliver";
/// Where a message comes whose queue is not bound: see `undeliverable.rs`.
pub(super) const UNDELIVERABLE: &str = "warren.delay.undeliverable";

/// Where to send a message so that it reaches `queue` after `delay`.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    /// So many levels must be there, from the lowest.
    levels: u32,
}

#[cfg(test)]
impl Route {
    /// The same to another exchange.
    pub(super) fn to_exchange(exchange: String, route: Self) -> Self {
        Self { exchange, ..route }
    }
}

/// The levels that one end has declared: no more than its delays need.
#[derive(Debug, Default)]
pub(super) struct Levels {
    /// So many, from the lowest. Held while declaring.
    declared: Mutex<u32>,
}

impl Levels {
    /// Makes sure of the levels that `route` leads through.
    pub(super) async fn prepare(
        &self,
        connection: &Connection,
        route: &Route,
    ) -> Result<(), BrokerError> {
        let mut declared = self.declared.lock().await;
        if *declared < route.levels {
            declare_levels(connection, *declared..route.levels).await?;
            *declared = route.levels;
        }
        Ok(())
    }
}

/// The route for a delay.
pub(super) fn route(queue: &QueueName, delay: Duration) -> Result<Route, BrokerError> {
    if delay > LONGEST {
        return Err(BrokerError::DelayOutOfRange {
            seconds: delay.as_secs(),
        });
    }
    // Rounded up: never too early.
    let ms = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    let ms = with_few_digits(ms.max(1));
    let highest = ms.ilog2();
    let mut routing_key = String::with_capacity(2 * LEVELS as usize + queue.as_str().len());
    for level in (0..LEVELS).rev() {
        routing_key.push_str(if ms >> level & 1 == 1 { "1." } else { "0." });
    }
    routing_key.push_str(&address(queue));
    Ok(Route {
        exchange: exchange(highest),
        routing_key,
        levels: highest + 1,
    })
}

/// Rounds up by no more than a sixteenth, and no more than [`COARSEST_STEP_MS`]. Each digit that is
/// 1 costs the broker two writes to its disk, and the message the time that they take.
fn with_few_digits(ms: u64) -> u64 {
    let step = (1_u64 << ms.ilog2() >> 4).clamp(1, COARSEST_STEP_MS);
    ms.next_multiple_of(step)
}

/// A queue's name as words of a routing key: `*` and `#` would match other queues' messages.
fn address(queue: &QueueName) -> String {
    queue
        .as_str()
        .replace('%', "%25")
        .replace('*', "%2A")
        .replace('#', "%23")
}

/// The queue that a routing key made by [`route`] ends with.
pub(super) fn target(routing_key: &str) -> Option<QueueName> {
    let mut words = routing_key.splitn(LEVELS as usize + 1, '.');
    let address = words.nth(LEVELS as usize)?;
    let name = address
        .replace("%23", "#")
        .replace("%2A", "*")
        .replace("%25", "%");
    QueueName::new(name).ok()
}

fn exchange(level: u32) -> String {
    format!("warren.delay.level.{level:02}")
}

/// Where a message goes after level `level`.
fn next_exchange(level: u32) -> String {
    match level.checked_sub(1) {
        Some(lower) => exchange(lower),
        None => DELIVER.to_owned(),
    }
}

/// Declares these levels; those below them must have been declared. Idempotent.
async fn declare_levels(connection: &Connection, levels: Range<u32>) -> Result<(), BrokerError> {
    let channel = connection.channel().await?;
    declare_delivery(&channel).await?;
    for level in levels.clone() {
        let topic = ExchangeKind::Topic;
        declare_exchange(&channel, &exchange(level), topic, FieldTable::default()).await?;
    }
    super::close(&channel).await;
    let levels: Vec<u32> = levels.collect();
    let share = levels.len().div_ceil(DECLARE_AT_ONCE).max(1);
    let shares = levels.chunks(share).map(|levels| async move {
        let channel = connection.channel().await?;
        for level in levels {
            declare_level(&channel, *level).await?;
        }
        super::close(&channel).await;
        Ok(())
    });
    try_join_all(shares).await.map(drop)
}

/// Declares where messages leave the levels. Idempotent.
pub(super) async fn declare_delivery(channel: &Channel) -> Result<(), BrokerError> {
    declare_exchange(
        channel,
        UNDELIVERABLE,
        ExchangeKind::Fanout,
        FieldTable::default(),
    )
    .await?;
    declare_queue(channel, UNDELIVERABLE, FieldTable::default()).await?;
    bind_queue(channel, UNDELIVERABLE, UNDELIVERABLE, "").await?;
    let mut arguments = FieldTable::default();
    let unrouted = AMQPValue::LongString(UNDELIVERABLE.into());
    arguments.insert("alternate-exchange".into(), unrouted);
    declare_exchange(channel, DELIVER, ExchangeKind::Topic, arguments).await
}

/// Declares what makes messages wait on a level. Its exchange and the next one must exist.
async fn declare_level(channel: &Channel, level: u32) -> Result<(), BrokerError> {
    let name = exchange(level);
    let next = next_exchange(level);
    channel
        .queue_declare(
            name.as_str().into(),
            QueueDeclareOptions::durable(),
            level_arguments(level),
        )
        .await
        .map_err(|error| on_delay_level(&error, &name))?;
    bind_queue(channel, &name, &name, &digit_pattern(level, '1')).await?;
    channel
        .exchange_bind(
            next.as_str().into(),
            name.as_str().into(),
            digit_pattern(level, '0').as_str().into(),
            ExchangeBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|error| on_connection(&error))
}

fn level_arguments(level: u32) -> FieldTable {
    let mut arguments = topology::quorum_that_loses_nothing(&next_exchange(level));
    let wait_ms = AMQPValue::LongLongInt(1_i64 << level);
    arguments.insert("x-message-ttl".into(), wait_ms);
    arguments
}

/// Matches routing keys whose digit of this level is `digit`.
fn digit_pattern(level: u32, digit: char) -> String {
    let above = (LEVELS - 1 - level) as usize;
    format!("{}{digit}.#", "*.".repeat(above))
}

/// Makes delayed messages for `queue` find it. Idempotent; the queue must exist.
pub(super) async fn bind_target(channel: &Channel, queue: &QueueName) -> Result<(), BrokerError> {
    let pattern = format!("{}{}", "*.".repeat(LEVELS as usize), address(queue));
    channel
        .queue_bind(
            queue.as_str().into(),
            DELIVER.into(),
            pattern.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|error| on_queue(&error, queue))
}

async fn declare_exchange(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
    arguments: FieldTable,
) -> Result<(), BrokerError> {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.into(), kind, durable, arguments)
        .await
        .map_err(|error| on_connection(&error))
}

/// Declares a durable queue. Idempotent.
pub(super) async fn declare_queue(
    channel: &Channel,
    name: &str,
    arguments: FieldTable,
) -> Result<(), BrokerError> {
    channel
        .queue_declare(name.into(), QueueDeclareOptions::durable(), arguments)
        .await
        .map(drop)
        .map_err(|error| on_connection(&error))
}

async fn bind_queue(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    pattern: &str,
) -> Result<(), BrokerError> {
    channel
        .queue_bind(
            queue.into(),
            exchange.into(),
            pattern.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|error| on_connection(&error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Follows a message through the levels; returns how long it waits.
    fn followed(route: &Route) -> u64 {
        let words: Vec<&str> = route.routing_key.split('.').collect();
        let mut level: u32 = route.exchange.rsplit('.').next().unwrap().parse().unwrap();
        let mut waited = 0;
        loop {
            if words[(LEVELS - 1 - level) as usize] == "1" {
                waited += 1 << level;
            }
            match level.checked_sub(1) {
                Some(lower) => level = lower,
                None => return waited,
            }
        }
    }

    proptest! {
        #[test]
        fn the_levels_add_up_to_the_delay_or_little_more(ms in 1_u64..=315_360_000_000) {
            let queue = QueueName::new("queue").unwrap();
            let route = route(&queue, Duration::from_millis(ms)).unwrap();
            let more = followed(&route).checked_sub(ms);
            prop_assert!(more.is_some_and(|more| more <= ms / 16 && more < COARSEST_STEP_MS));
        }
    }

    #[test]
    fn a_fraction_of_a_millisecond_is_rounded_up() {
        let queue = QueueName::new("queue").unwrap();
        assert_eq!(
            followed(&route(&queue, Duration::from_nanos(1)).unwrap()),
            1
        );
        assert_eq!(
            followed(&route(&queue, Duration::from_micros(1_001)).unwrap()),
            2
        );
    }

    #[test]
    fn more_than_ten_years_is_refused() {
        let queue = QueueName::new("queue").unwrap();
        let error = route(&queue, LONGEST + Duration::from_secs(1)).err();
        assert!(matches!(error, Some(BrokerError::DelayOutOfRange { .. })));
    }

    #[test]
    fn the_longest_name_fits_a_routing_key() {
        let queue = QueueName::new("q".repeat(QueueName::MAX_BYTES)).unwrap();
        assert!(route(&queue, LONGEST).unwrap().routing_key.len() <= 255);
    }

    proptest! {
        #[test]
        fn the_queue_can_be_read_from_the_routing_key(name in "[a-z.%*#0-9A]{1,40}") {
            let queue = QueueName::new(name).unwrap();
            let route = route(&queue, Duration::from_secs(1)).unwrap();
            prop_assert_eq!(target(&route.routing_key), Some(queue));
        }
    }

    #[test]
    fn a_foreign_routing_key_names_no_queue() {
        for key in ["", "queue", "0.1.queue"] {
            assert_eq!(target(key), None, "{key}");
        }
    }

    #[test]
    fn wildcards_in_a_name_match_nothing_else() {
        let queue = QueueName::new("a.*.#").unwrap();
        assert_eq!(address(&queue), "a.%2A.%23");
    }
}
