//! Against RabbitMQ, through the connection as the worker and the client use it.

use std::time::Duration;

use lapin::{
    ConnectionProperties,
    options::{BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions},
    tcp::OwnedTLSConfig,
    types::FieldTable,
};
use warren_plugin_api::Payload;

use super::{super::runtime, *};
use crate::broker::{Headers, Publish};

async fn connected() -> (lapin::Connection, Channel, Outlet) {
    let broker = runtime::tests::broker();
    let properties = ConnectionProperties::default();
    let (connection, outbox) = runtime::connect(broker, properties, OwnedTLSConfig::default())
        .await
        .unwrap_or_else(|error| panic!("no RabbitMQ: {error}; start it"));
    let frame_max = connection.configuration().frame_max();
    let channel = connection.create_channel().await.unwrap();
    let outlet = Outlet::open(channel, outbox, frame_max).await.unwrap();
    let other = connection.create_channel().await.unwrap();
    (connection, other, outlet)
}

/// A queue that goes with its connection.
async fn queue(channel: &Channel) -> QueueName {
    let own = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let name = format!("warren-test-{}", uuid::Uuid::new_v4());
    let declaring = channel.queue_declare(name.as_str().into(), own, FieldTable::default());
    declaring.await.unwrap();
    QueueName::new(name).unwrap()
}

async fn delete(channel: &Channel, queue: &QueueName) {
    let deleting = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
    deleting.await.unwrap();
}

async fn next(channel: &Channel, queue: &QueueName) -> Option<Vec<u8>> {
    let getting = channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
    Some(getting.await.unwrap()?.delivery.data)
}

fn message(queue: &QueueName, body: impl Into<Payload>, frame_max: u32) -> Message {
    let publish = Publish {
        queue: queue.clone(),
        body: body.into(),
        headers: Headers::new(),
        delay: Duration::ZERO,
        priority: 0,
        from_warren: false,
    };
    Message::of_job(&publish, None, frame_max)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_whole_and_in_order() {
    let (connection, channel, outlet) = connected().await;
    let queue = queue(&channel).await;
    let longest = outlet.frame_max() as usize - 8;
    let bodies = [0, 1, longest, longest + 1, 3 * longest, 5_000_000];
    let bodies = bodies.map(|length| (0..length).map(|at| at as u8).collect::<Vec<u8>>());
    let messages = bodies
        .iter()
        .map(|body| message(&queue, &**body, outlet.frame_max()));
    let answers = outlet.send(Arc::new(messages.collect())).await;
    assert_eq!(answers, vec![Ok(()); bodies.len()]);
    for body in bodies {
        assert!(next(&channel, &queue).await == Some(body));
    }
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sent_to_a_queue_that_is_gone_is_told_and_nobody_else() {
    let (connection, channel, outlet) = connected().await;
    let (there, gone) = (queue(&channel).await, queue(&channel).await);
    delete(&channel, &gone).await;
    for round in 0..20 {
        let messages = (0..200).map(|number| {
            let queue = if number % 7 == round % 7 {
                &gone
            } else {
                &there
            };
            message(queue, format!("{round} {number}"), outlet.frame_max())
        });
        let messages: Vec<Message> = messages.collect();
        let queues: Vec<QueueName> = messages.iter().map(|it| it.queue().clone()).collect();
        let answers = outlet.send(Arc::new(messages)).await;
        for (queue, answer) in queues.into_iter().zip(answers) {
            match answer {
                Ok(()) => assert_eq!(queue, there),
                Err(BrokerError::Unroutable { queue: said, .. }) => {
                    assert_eq!((&*said, &queue), (gone.as_str(), &gone));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_the_channel() {
    let (connection, channel, outlet) = connected().await;
    let queue = queue(&channel).await;
    let outlet = Arc::new(outlet);
    let callers = (0..50).map(|caller| {
        let (outlet, queue) = (Arc::clone(&outlet), queue.clone());
        tokio::spawn(async move {
            for number in 0..20 {
                let message = message(&queue, format!("{caller} {number}"), outlet.frame_max());
                assert_eq!(outlet.send(vec![message].into()).await, [Ok(())]);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let mut came = std::collections::BTreeSet::new();
    while let Some(body) = next(&channel, &queue).await {
        assert!(came.insert(body));
    }
    assert_eq!(came.len(), 1_000);
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_the_broker_closes_fails_what_is_under_way_and_takes_no_more() {
    let (connection, channel, outlet) = connected().await;
    let queue = queue(&channel).await;
    let route = delay::route(&queue, Duration::from_millis(1)).unwrap();
    let nowhere = delay::Route::to_exchange(format!("warren-test-{}", uuid::Uuid::new_v4()), route);
    let properties = lapin::BasicProperties::default();
    let lost = Message::new(queue.clone(), Some(nowhere), &properties, "x".into());
    let [answer] = &outlet.send(vec![lost].into()).await[..] else {
        panic!("one answer to one message");
    };
    let said = answer.as_ref().unwrap_err().to_string();
    assert!(said.contains("NOT_FOUND - no exchange"), "{said}");
    assert!(!outlet.is_open());
    let answers = outlet
        .send(vec![message(&queue, "y", outlet.frame_max())].into())
        .await;
    assert!(matches!(
        answers[..],
        [Err(BrokerError::Unavailable { .. })]
    ));
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_closed_fails_what_is_sent() {
    let (connection, channel, outlet) = connected().await;
    let queue = queue(&channel).await;
    connection.close(200, "done".into()).await.unwrap();
    let answers = outlet
        .send(vec![message(&queue, "x", outlet.frame_max())].into())
        .await;
    assert!(matches!(
        answers[..],
        [Err(BrokerError::Unavailable { .. })]
    ));
}
