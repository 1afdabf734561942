//! `warren queue info|purge`

use serde_json::json;

use super::{
    arguments::QueueCommand,
    error::{CliError, Exit},
    output::Output,
    results::confirm,
    session::Session,
};
use crate::broker::{InvalidQueueName, QueueName};

pub(super) async fn run(
    session: &Session,
    command: QueueCommand,
    output: &Output,
) -> Result<Exit, CliError> {
    match command {
        QueueCommand::Info { queue } => info(session, &queue_name(&queue)?, output).await,
        QueueCommand::Purge { queue, yes } => {
            let queue = queue_name(&queue)?;
            if !yes {
                confirm(&format!("Delete all messages of queue {queue}?"))?;
            }
            let purged = session.broker().await?.purge(&queue).await?;
            if output.json {
                output.print_json(&json!({ "queue": queue, "purged": purged }));
            } else {
                println!("{purged} messages deleted from {queue}");
            }
            Ok(Exit::Ok)
        }
    }
}

pub(super) fn queue_name(name: &str) -> Result<QueueName, CliError> {
    QueueName::new(name)
        .map_err(|error: InvalidQueueName| CliError::new(Exit::Usage, error.to_string()))
}

async fn info(session: &Session, queue: &QueueName, output: &Output) -> Result<Exit, CliError> {
    let broker = session.broker().await?;
    let mut rows = Vec::new();
    let mut found = false;
    for name in [queue.clone(), broker.dead_letter_queue(queue)] {
        let Some(info) = broker.queue_info(&name).await? else {
            continue;
        };
        found = true;
        if output.json {
            output.print_json(
                &json!({ "queue": name, "ready": info.ready, "consumers": info.consumers }),
            );
        }
        rows.push(vec![
            name.to_string(),
            info.ready.to_string(),
            info.consumers.to_string(),
        ]);
    }
    if !found {
        return Err(CliError::new(
            Exit::NotFound,
            format!("queue {queue} does not exist"),
        ));
    }
    if !output.json {
        output.print_table(&["QUEUE", "READY", "CONSUMERS"], rows);
    }
    Ok(Exit::Ok)
}
