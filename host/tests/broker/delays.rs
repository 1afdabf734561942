//! Delayed messages on RabbitMQ, and what happens to their queue meanwhile.

use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions},
};

use super::*;

const UNDELIVERABLE: &str = "warren.delay.undeliverable";

fn delayed(queue: &QueueName, body: &str, ms: u64) -> Publish {
    Publish {
        delay: Duration::from_millis(ms),
        ..message(queue, body)
    }
}

async fn consume(broker: &Broker, queue: &QueueName) -> Consumer {
    broker
        .consume(std::slice::from_ref(queue), 100)
        .await
        .unwrap()
}

/// A stranger's hand on the broker.
async fn stranger() -> (Connection, Channel) {
    let connection = Connection::connect(&amqp_url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// Takes so many messages and returns their bodies, sorted.
async fn bodies(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let delivery = next(consumer).await;
        assert!(
            delivery.headers.get("x-warren-delay-rounds").is_none(),
            "what the broker's side notes is removed: {:?}",
            delivery.headers
        );
        bodies.push(body(&delivery).to_owned());
        delivery.acker.settle(Settle::Ack).unwrap();
    }
    bodies.sort();
    bodies
}

#[tokio::test]
async fn a_sender_reaches_a_queue_that_was_declared_again_since() {
    let sender = connect(&amqp_url()).await;
    let queue = new_queue(&sender, "again").await;
    sender.publish(delayed(&queue, "before", 1)).await.unwrap();
    ready(&sender, &queue, 1).await;
    remove(&queue).await;
    // By somebody else, who knows nothing of delays.
    let receiver = connect(&amqp_url()).await;
    receiver.declare(&queue).await.unwrap();
    for (body, ms) in [("after 1", 1), ("after 2", 300)] {
        sender.publish(delayed(&queue, body, ms)).await.unwrap();
    }
    // Nobody consumes: the sender looks after what it sent.
    ready(&sender, &queue, 2).await;
    let mut consumer = consume(&receiver, &queue).await;
    assert_eq!(bodies(&mut consumer, 2).await, ["after 1", "after 2"]);
    drop(consumer);
    remove(&queue).await;
}

#[tokio::test]
async fn what_waits_while_its_queue_is_declared_again_arrives() {
    let broker = connect(&amqp_url()).await;
    let queue = new_queue(&broker, "waits").await;
    let expected: Vec<String> = (0..200).map(|number| format!("{number:03}")).collect();
    let waiting = expected.iter().map(|body| delayed(&queue, body, 1_000));
    for answer in broker.publish_many(waiting.collect()).await {
        answer.unwrap();
    }
    remove(&queue).await;
    broker.declare(&queue).await.unwrap();
    let mut consumer = consume(&broker, &queue).await;
    assert_eq!(bodies(&mut consumer, 200).await, expected);
    drop(consumer);
    remove(&queue).await;
}

#[tokio::test]
async fn what_finds_its_queue_missing_arrives_once_it_is_back() {
    let broker = connect(&amqp_url()).await;
    let other = new_queue(&broker, "other").await;
    let mut elsewhere = consume(&broker, &other).await;
    let queue = new_queue(&broker, "missing.*.#.%").await;
    broker.publish(delayed(&queue, "early", 200)).await.unwrap();
    remove(&queue).await;
    // When this one has come, the other has found no queue twice.
    broker
        .publish(delayed(&other, "mark", 1_700))
        .await
        .unwrap();
    assert_eq!(bodies(&mut elsewhere, 1).await, ["mark"]);
    broker.declare(&queue).await.unwrap();
    let mut consumer = consume(&broker, &queue).await;
    assert_eq!(bodies(&mut consumer, 1).await, ["early"]);
    drop((consumer, elsewhere));
    remove(&queue).await;
    remove(&other).await;
}

#[tokio::test]
async fn a_consumer_sends_on_what_others_left_without_a_queue() {
    let sender = connect(&amqp_url()).await;
    let queue = new_queue(&sender, "left").await;
    sender.publish(delayed(&queue, "left", 300)).await.unwrap();
    sender.close().await;
    remove(&queue).await;
    let worker = connect(&amqp_url()).await;
    worker.declare(&queue).await.unwrap();
    let mut consumer = consume(&worker, &queue).await;
    assert_eq!(bodies(&mut consumer, 1).await, ["left"]);
    drop(consumer);
    remove(&queue).await;
}

#[tokio::test]
async fn what_no_delay_brought_is_set_aside_and_blocks_nothing() {
    let broker = connect(&amqp_url()).await;
    let queue = new_queue(&broker, "beside").await;
    let mut consumer = consume(&broker, &queue).await;
    let junk = unique("junk");
    let (connection, channel) = stranger().await;
    let options = BasicPublishOptions::default();
    channel
        .basic_publish(
            "".into(),
            UNDELIVERABLE.into(),
            options,
            junk.as_bytes(),
            Default::default(),
        )
        .await
        .unwrap();
    broker.publish(delayed(&queue, "job", 1)).await.unwrap();
    remove(&queue).await;
    broker.declare(&queue).await.unwrap();
    broker.publish(delayed(&queue, "job 2", 1)).await.unwrap();
    while bodies(&mut consumer, 1).await != ["job 2"] {}
    let aside = format!("{UNDELIVERABLE}.dlq");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let got = channel
            .basic_get(aside.as_str().into(), BasicGetOptions { no_ack: true })
            .await
            .unwrap();
        if got.is_some_and(|message| message.delivery.data == junk.as_bytes()) {
            break;
        }
        assert!(Instant::now() < deadline, "it is not set aside");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    connection.close(200, "done".into()).await.unwrap();
    drop(consumer);
    remove(&queue).await;
}
