//! Jobs per second: a full queue is worked off, by a bare loop and by Warren's worker in turn.

use warren::{broker::Broker, client::Client};

use crate::{
    bare,
    error::{BenchError, ensure},
    figures::{Measure, Unit},
    options::{Options, StoreKind},
    plugins,
    servers::{self, Servers},
    warren_side,
};

/// Jobs under way at once, on both sides.
const IN_FLIGHT: u16 = 512;

/// Measures `--rounds` rounds of `--jobs` jobs on each side.
pub(crate) async fn measure(
    options: &Options,
    servers: &Servers,
) -> Result<Vec<Measure>, BenchError> {
    let bare_side = match options.store {
        StoreKind::Redis => "bare lapin + redis-rs",
        StoreKind::Memory => "bare lapin, nothing stored",
    };
    let warren_side = format!("Warren, {} store", options.store.name());
    let sides: &[&str] = if options.only_warren {
        &[&warren_side]
    } else {
        &[bare_side, &warren_side]
    };
    let mut measure = Measure::new("jobs end to end", Unit::PerSecond, sides);
    for round in 1..=options.rounds() {
        eprintln!("end to end: round {round} of {}", options.rounds());
        if options.only_warren {
            measure.add_round([one_round(options, servers, Who::Warren).await?]);
            continue;
        }
        // Neither side is always the first: what one leaves behind, the other one finds.
        let (bare, warren);
        if round % 2 == 1 {
            bare = one_round(options, servers, Who::Bare).await?;
            warren = one_round(options, servers, Who::Warren).await?;
        } else {
            warren = one_round(options, servers, Who::Warren).await?;
            bare = one_round(options, servers, Who::Bare).await?;
        }
        measure.add_round([bare, warren]);
    }
    Ok(vec![measure])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Bare,
    Warren,
}

/// Fills a fresh queue, has it worked off, and checks that the work was done. The jobs are sent by
/// Warren's client, so that their `queued` records are there, as they are in earnest.
async fn one_round(options: &Options, servers: &Servers, who: Who) -> Result<f64, BenchError> {
    let broker = Broker::connect(&servers.broker_settings()?).await?;
    let store = plugins::open_guarded(options.store, servers).await?;
    let client = Client::new(broker.clone(), store.clone());
    let connection = servers.amqp().await?;
    let queue = servers.queue(&connection.create_channel().await?).await?;
    let job_ids = warren_side::send(&client, &queue, options.jobs()).await?;

    if options.only_warren {
        eprintln!("end to end: the queue is full, the worker starts");
    }
    let took = match who {
        Who::Bare => {
            let redis = match options.store {
                StoreKind::Redis => Some(servers.redis().await?),
                StoreKind::Memory => None,
            };
            bare::run_jobs(servers, &queue, options.jobs(), IN_FLIGHT, redis).await?
        }
        Who::Warren => {
            warren_side::run_jobs(servers, store.clone(), &queue, options.jobs(), IN_FLIGHT).await?
        }
    };

    let stores = who == Who::Warren || options.store == StoreKind::Redis;
    if stores {
        warren_side::all_completed(&client, &job_ids).await?;
    }
    broker.close().await;
    servers::close(&connection).await;
    store.close().await?;
    ensure("messages left", servers.delete_queue(&queue).await?, 0)?;
    servers.delete_keys().await?;
    Ok(f64::from(options.jobs()) / took.as_secs_f64())
}
