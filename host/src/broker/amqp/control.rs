//! A fanout exchange to which every worker binds a queue of its own.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{FieldTable, ShortString},
};
use tokio::{sync::mpsc, time::Instant};

use super::{connection::Connection, error::on_connection, topology};
use crate::broker::{AbortRequest, BrokerError, Control, ControlReceiver, control::BACKLOG};

const EXCHANGE: &str = "warren.control";
/// The wait before a lost subscription is tried again; doubled after each, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Sends a request to every worker there is now, and waits until the broker has it.
pub(super) async fn send(
    connection: &Connection,
    request: &AbortRequest,
) -> Result<(), BrokerError> {
    let failed = |error: lapin::Error| on_connection(&error);
    let channel = connection.channel().await?;
    declare(&channel).await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .map_err(failed)?;
    let confirm = channel
        .basic_publish(
            EXCHANGE.into(),
            ShortString::default(),
            BasicPublishOptions::default(),
            &request.to_body(),
            BasicProperties::default(),
        )
        .await
        .map_err(failed)?;
    let confirmed = confirm.await.map_err(failed)?;
    super::close(&channel).await;
    match confirmed {
        Confirmation::Ack(_) => Ok(()),
        Confirmation::Nack(_) | Confirmation::NotRequested => Err(BrokerError::NotConfirmed {
            queue: EXCHANGE.to_owned(),
        }),
    }
}

/// Receives requests, through lost connections.
pub(super) fn receive(connection: Arc<Connection>) -> ControlReceiver {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let mut wait = FIRST_WAIT;
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                ended = forward(&connection, &sender) => ended,
                () = sender.closed() => return,
            };
            let _ = sender.send(Control::Down).await;
            if began.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            match ended {
                Err(BrokerError::Closed) => return,
                Err(error) if wait == LONGEST_WAIT => {
                    tracing::warn!(%error, "requests to abort jobs do not come through");
                }
                _ => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    });
    ControlReceiver { receiver }
}

/// Until the channel ends.
async fn forward(
    connection: &Connection,
    sender: &mpsc::Sender<Control>,
) -> Result<(), BrokerError> {
    let failed = |error: lapin::Error| on_connection(&error);
    let channel = connection.channel_when_connected().await?;
    declare(&channel).await?;
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare(ShortString::default(), own, FieldTable::default())
        .await
        .map_err(failed)?;
    channel
        .queue_bind(
            queue.name().clone(),
            EXCHANGE.into(),
            ShortString::default(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(failed)?;
    let unanswered = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut consumer = channel
        .basic_consume(
            queue.name().clone(),
            ShortString::default(),
            unanswered,
            FieldTable::default(),
        )
        .await
        .map_err(failed)?;
    // Who listens no more is found out by the caller.
    let _ = sender.send(Control::Up).await;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery.map_err(failed)?;
        if let Some(request) = AbortRequest::from_body(&delivery.data) {
            let _ = sender.send(Control::Abort(request)).await;
        }
    }
    Ok(())
}

async fn declare(channel: &Channel) -> Result<(), BrokerError> {
    topology::declare_exchange(channel, EXCHANGE, ExchangeKind::Fanout).await
}
