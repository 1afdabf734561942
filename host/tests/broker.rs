//! The two brokers behave alike: each test runs on the in-process broker and on RabbitMQ.
//!
//! Needs RabbitMQ at `WARREN_TEST_AMQP_URL`, by default `amqp://guest:guest@127.0.0.1:5672/%2f`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the finding"
)]

#[path = "broker/delays.rs"]
mod delays;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use warren::broker::{
    Broker, BrokerError, BrokerSettings, ConnectionState, Consumer, Delivery, HeaderValue, Headers,
    Publish, QueueName, Settle,
};
use warren_plugin_api::Payload;

fn amqp_url() -> String {
    std::env::var("WARREN_TEST_AMQP_URL")
        .unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

async fn connect(url: &str) -> Broker {
    let settings = BrokerSettings::new(url.parse().unwrap());
    Broker::connect(&settings).await.unwrap_or_else(|error| {
        panic!("{error}; start it, for example: apt-get install rabbitmq-server")
    })
}

fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "warren-test-{name}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

async fn new_queue(broker: &Broker, name: &str) -> QueueName {
    let queue = QueueName::new(unique(name)).unwrap();
    broker.declare(&queue).await.unwrap();
    queue
}

fn message(queue: &QueueName, body: &str) -> Publish {
    Publish {
        queue: queue.clone(),
        body: Payload::from(body),
        headers: Headers::new(),
        delay: Duration::ZERO,
        priority: 0,
        from_warren: true,
    }
}

async fn next(consumer: &mut Consumer) -> Delivery {
    tokio::time::timeout(Duration::from_secs(20), consumer.next())
        .await
        .expect("a delivery comes")
        .expect("the consumer is open")
}

fn body(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.body).unwrap()
}

/// Waits until a queue holds so many ready messages.
async fn ready(broker: &Broker, queue: &QueueName, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let info = broker.queue_info(queue).await.unwrap().unwrap();
        if info.ready == count {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{} messages, expected {count}",
            info.ready
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Removes what a test made on a server that outlives it.
async fn remove(queue: &QueueName) {
    let connection =
        lapin::Connection::connect(&amqp_url(), lapin::ConnectionProperties::default())
            .await
            .unwrap();
    let channel = connection.create_channel().await.unwrap();
    for name in [queue.to_string(), format!("{queue}.dlq")] {
        let options = lapin::options::QueueDeleteOptions::default();
        channel
            .queue_delete(name.as_str().into(), options)
            .await
            .unwrap();
    }
    connection.close(200, "done".into()).await.unwrap();
}

/// Makes two tests of each function: one per broker.
macro_rules! on_both_brokers {
    ($($name:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test]
            async fn $name() {
                let broker = super::connect(&format!("memory://{}", stringify!($name))).await;
                super::$name(broker).await;
            })*
        }
        mod on_rabbitmq {
            $(#[tokio::test]
            async fn $name() {
                let broker = super::connect(&super::amqp_url()).await;
                for queue in super::$name(broker).await {
                    super::remove(&queue).await;
                }
            })*
        }
    };
}

on_both_brokers![
    a_message_arrives_whole,
    what_is_not_answered_comes_again,
    what_is_requeued_comes_again_marked,
    prefetch_limits_what_is_handed_over,
    several_queues_are_consumed,
    a_stopped_consumer_can_still_answer,
    many_messages_keep_their_order,
    a_message_to_a_missing_queue_is_unroutable,
    a_short_delay_overtakes_a_long_one,
    fetched_messages_go_back_unless_answered,
    purge_counts_what_it_deletes,
    a_closed_broker_says_so,
];

async fn a_message_arrives_whole(broker: Broker) -> Vec<QueueName> {
    let queue = new_queue(&broker, "whole").await;
    let headers = Headers::from([
        ("x-retry-count", HeaderValue::Int(3)),
        ("x-client-delayed", HeaderValue::Text("true".to_owned())),
    ]);
    let sent = Publish {
        headers: headers.clone(),
        ..message(&queue, "{\"é\": \"中\"}")
    };
    let from_elsewhere = Publish {
        from_warren: false,
        ..message(&queue, "elsewhere")
    };
    broker.publish(sent).await.unwrap();
    broker.publish(from_elsewhere).await.unwrap();
    let mut consumer = broker
        .consume(std::slice::from_ref(&queue), 10)
        .await
        .unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(body(&delivery), "{\"é\": \"中\"}");
    assert_eq!(delivery.headers, headers);
    assert_eq!(delivery.queue, queue);
    assert!(!delivery.redelivered && delivery.from_warren);
    delivery.acker.settle(Settle::Ack).unwrap();
    let delivery = next(&mut consumer).await;
    assert!(!delivery.from_warren);
    delivery.acker.settle(Settle::Ack).unwrap();
    drop(consumer);
    ready(&broker, &queue, 0).await;
    vec![queue]
}

async fn what_is_not_answered_comes_again(broker: Broker) -> Vec<QueueName> {
    let queue = new_queue(&broker, "again").await;
    broker.publish(message(&queue, "job")).await.unwrap();
    let mut consumer = broker
        .consume(std::slice::from_ref(&queue), 10)
        .await
        .unwrap();
    drop(next(&mut consumer).await);
    drop(consumer);
    let mut consumer = broker
        .consume(std::slice::from_ref(&queue), 10)
        .await
        .unwrap();
    let delivery = next(&mut consumer).await;
    assert!(delivery.redelivered);
    delivery.acker.settle(Settle::Ack).unwrap();
    vec![queue]
}

async fn what_is_requeued_comes_again_marked(broker: Broker) -> Vec<QueueName> {
    let queue = new_queue(&broker, "requeue").await;
    broker.publish(message(&queue, "job")).await.unwrap();
    let mut consumer = broker
        .consume(std::slice::from_ref(&queue), 10)
        .await
        .unwrap();
    next(&mut consumer)
        .await
        .acker
        .settle(Settle::Requeue)
        .unwrap();
    let delivery = next(&mut consumer).await;
    assert!(delivery.redelivered);
    delivery.acker.settle(Settle::Ack).unwrap();
    vec![queue]
}

async fn prefetch_limits_what_is_handed_over(broker: Broker) -> Vec<QueueName> {
    let queue = new_queue(&broker, "prefetch").await;
    let messages = (0..5)
        .map(|number| message(&queue, &number.to_string()))
        .collect();
    assert!(
        broker
            .publish_many(messages)
            .await
            .iter()
            .all(Result::is_ok)
    );
    let mut consumer = broker
        .consume(std::slice::from_ref(&queue), 2)
        .await
        .unwrap();
    let first = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    ready(&broker, &queue, 3).await;
    let waited = tokio::time::timeout(Duration::from_millis(200), consumer.next()).await;
    assert!(waited.is_err(), "a third delivery came with two unanswered");
    first.acker.settle(Settle::Ack).unwrap();
    assert_eq!(body(&next(&mut consumer).await), "2");
    drop(second);
    vec![queue]
}

async fn several_queues_are_consumed(broker: Broker) -> Vec<QueueName> {
    let queues = vec![
        new_queue(&broker, "one").await,
        new_queue(&broker, "two").await,
    ];
    for queue in &queues {
        broker
            .publish(message(queue, queue.as_str()))
            .await
            .unwrap();
    }
    let mut consumer = broker.consume(&queues, 10).await.unwrap();
    let mut seen = Vec::new();
    for _ in &queues {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), delivery.queue.as_str());
        seen.push(delivery.queue.clone());
        delivery.acker.settle(Settle::Ack).unwrap();
    }
    seen.sort();
    assert_eq!(seen, queues);
    queues
}

async fn a_stopped_consumer_can_still_answer(broker: Broker) -> Vec<QueueName> {
    let queue = new_queue(&broker, "stop").await;
    broker.publish(message(&queue, "running")).await.unwrap();
    let mut consumer = broker
        .consume(std::slice::from_ref(&queue), 10)
        .await
        .unwrap();
    let running = next(&mut consumer).await;
    consumer.stop().await;
    assert!(consumer.next().await.is_none());
    broker.publish(message(&queue, "later")).await.unwrap();
    running.acker.settle(Settle::Ack).unwrap();
    drop(consumer);
    ready(&broker, &queue, 1).await;
    vec![queue]
}

async fn many_messages_keep_their_order(broker: Broker) -> Vec<QueueName> {
    const COUNT: usize = 2_000;
    let queue = new_queue(&broker, "order").await;
    let messages = (0..COUNT)
        .map(|number| message(&queue, &number.to_string()))
        .collect();
    assert!(
        broker
            .publish_many(messages)
            .await
            .iter()
            .all(Result::is_ok)
    );
    let mut consumer = broker
        .consume(std::slice::from_ref(&queue), 100)
        .await
        .unwrap();
    for number in 0..COUNT {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), number.to_string());
        delivery.acker.settle(Settle::Ack).unwrap();
    }
    drop(consumer);
    ready(&broker, &queue, 0).await;
    vec![queue]
}

async fn a_message_to_a_missing_queue_is_unroutable(broker: Broker) -> Vec<QueueName> {
    let missing = QueueName::new(unique("missing")).unwrap();
    let error = broker.publish(message(&missing, "job")).await.unwrap_err();
    assert!(matches!(error, BrokerError::Unroutable { .. }), "{error}");
    let delayed = Publish {
        delay: Duration::from_secs(1),
        ..message(&missing, "job")
    };
    let error = broker.publish(delayed).await.unwrap_err();
    assert!(matches!(error, BrokerError::Unroutable { .. }), "{error}");
    assert_eq!(broker.queue_info(&missing).await, Ok(None));
    let error = broker.purge(&missing).await.unwrap_err();
    assert!(matches!(error, BrokerError::NoSuchQueue { .. }), "{error}");
    Vec::new()
}

async fn a_short_delay_overtakes_a_long_one(broker: Broker) -> Vec<QueueName> {
    let queue = new_queue(&broker, "delay.with.dots").await;
    let mut consumer = broker
        .consume(std::slice::from_ref(&queue), 10)
        .await
        .unwrap();
    let delayed = |body, ms| Publish {
        delay: Duration::from_millis(ms),
        ..message(&queue, body)
    };
    let start = Instant::now();
    broker.publish(delayed("an hour", 3_600_000)).await.unwrap();
    broker.publish(delayed("long", 1_500)).await.unwrap();
    broker.publish(delayed("short", 300)).await.unwrap();
    for (expected, ms) in [("short", 300), ("long", 1_500)] {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), expected);
        assert!(
            start.elapsed() >= Duration::from_millis(ms),
            "{expected} came too early"
        );
        delivery.acker.settle(Settle::Ack).unwrap();
    }
    vec![queue]
}

async fn fetched_messages_go_back_unless_answered(broker: Broker) -> Vec<QueueName> {
    let queue = new_queue(&broker, "fetch").await;
    for text in ["a", "b", "c"] {
        broker.publish(message(&queue, text)).await.unwrap();
    }
    let mut fetched = broker.fetch(&queue, 2).await.unwrap();
    assert_eq!(fetched.iter().map(body).collect::<Vec<_>>(), ["a", "b"]);
    fetched.remove(0).acker.settle(Settle::Ack).unwrap();
    drop(fetched);
    ready(&broker, &queue, 2).await;
    vec![queue]
}

async fn purge_counts_what_it_deletes(broker: Broker) -> Vec<QueueName> {
    let queue = new_queue(&broker, "purge").await;
    for _ in 0..3 {
        broker.publish(message(&queue, "job")).await.unwrap();
    }
    assert_eq!(broker.purge(&queue).await, Ok(3));
    assert_eq!(broker.queue_info(&queue).await.unwrap().unwrap().ready, 0);
    vec![queue]
}

async fn a_closed_broker_says_so(broker: Broker) -> Vec<QueueName> {
    let queue = new_queue(&broker, "closed").await;
    let mut consumer = broker
        .consume(std::slice::from_ref(&queue), 1)
        .await
        .unwrap();
    broker.close().await;
    assert_eq!(*broker.state().borrow(), ConnectionState::Closed);
    let end = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await;
    assert!(end.expect("the consumer ends").is_none());
    assert_eq!(
        broker.publish(message(&queue, "job")).await,
        Err(BrokerError::Closed)
    );
    vec![queue]
}

mod rabbitmq_only {
    use super::*;

    #[tokio::test]
    async fn a_queue_with_other_properties_is_named() {
        let broker = connect(&amqp_url()).await;
        let queue = new_queue(&broker, "mismatch").await;
        let settings = BrokerSettings {
            max_priority: Some(5),
            ..BrokerSettings::new(amqp_url().parse().unwrap())
        };
        let other = Broker::connect(&settings).await.unwrap();
        let error = other.declare(&queue).await.unwrap_err();
        assert!(
            matches!(error, BrokerError::QueueMismatch { .. }),
            "{error}"
        );
        remove(&queue).await;
    }

    #[tokio::test]
    async fn a_deleted_queue_is_declared_and_consumed_again() {
        let broker = connect(&amqp_url()).await;
        let queue = new_queue(&broker, "deleted").await;
        let mut consumer = broker
            .consume(std::slice::from_ref(&queue), 10)
            .await
            .unwrap();
        remove(&queue).await;
        let receiving = tokio::spawn(async move { body(&next(&mut consumer).await).to_owned() });
        let deadline = Instant::now() + Duration::from_secs(20);
        while broker.publish(message(&queue, "after")).await.is_err() {
            assert!(Instant::now() < deadline, "the queue never came back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(receiving.await.unwrap(), "after");
        remove(&queue).await;
    }

    #[tokio::test]
    async fn a_refused_password_is_not_shown() {
        let url = "amqp://guest:wr0ng-s3cret@127.0.0.1:5672/%2f"
            .parse()
            .unwrap();
        let error = Broker::connect(&BrokerSettings::new(url))
            .await
            .unwrap_err();
        assert!(
            matches!(error, BrokerError::AccessRefused { .. }),
            "{error}"
        );
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[tokio::test]
    async fn nobody_listening_is_said_at_once() {
        let url = "amqp://guest:guest@127.0.0.1:1/%2f".parse().unwrap();
        let error = Broker::connect(&BrokerSettings::new(url))
            .await
            .unwrap_err();
        assert!(matches!(error, BrokerError::Unavailable { .. }), "{error}");
    }
}

mod lost_connections {
    use std::sync::Arc;

    use tokio::{
        net::{TcpListener, TcpStream},
        sync::Notify,
    };

    use super::*;

    /// Passes bytes on to RabbitMQ until it is told to cut every connection.
    struct Proxy {
        port: u16,
        cut: Arc<Notify>,
    }

    impl Proxy {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let cut = Arc::new(Notify::new());
            let cuts = Arc::clone(&cut);
            tokio::spawn(async move {
                while let Ok((mut client, _)) = listener.accept().await {
                    let cuts = Arc::clone(&cuts);
                    tokio::spawn(async move {
                        let mut server = TcpStream::connect("127.0.0.1:5672").await.unwrap();
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                            () = cuts.notified() => {}
                        }
                    });
                }
            });
            Self { port, cut }
        }

        fn url(&self) -> String {
            format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
        }
    }

    #[tokio::test]
    async fn consumers_and_publishers_come_back_by_themselves() {
        let proxy = Proxy::start().await;
        let broker = connect(&proxy.url()).await;
        let queue = new_queue(&broker, "reconnect").await;
        let mut consumer = broker
            .consume(std::slice::from_ref(&queue), 10)
            .await
            .unwrap();
        for round in 0..3 {
            broker
                .publish(message(&queue, &round.to_string()))
                .await
                .unwrap();
            let before = next(&mut consumer).await;
            proxy.cut.notify_waiters();
            broker
                .state()
                .wait_for(|state| *state == ConnectionState::Connecting)
                .await
                .unwrap();
            let again = next(&mut consumer).await;
            assert_eq!(body(&again), round.to_string());
            assert!(again.redelivered);
            // The old tag must not answer whatever has that number on the new channel.
            let _ = before.acker.settle(Settle::Requeue);
            again.acker.settle(Settle::Ack).unwrap();
        }
        drop(consumer);
        ready(&broker, &queue, 0).await;
        remove(&queue).await;
    }
}
