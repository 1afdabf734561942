//! RabbitMQ and the way to it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use warren_tests::{
    PrivateRabbitMq,
    fault::{Counts, Mix, Repeats, Round, Scenario},
};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario::of_broker(
        "stopped_and_restarted",
        Repeats::Allowed,
        stopped_and_restarted,
    ),
    Scenario::of_broker(
        "killed_and_restarted",
        Repeats::Allowed,
        killed_and_restarted,
    ),
    Scenario::new("connection_cut", Repeats::Allowed, connection_cut),
    Scenario::new(
        "half_open_connection",
        Repeats::Allowed,
        half_open_connection,
    ),
    Scenario::of_broker("blocked_by_its_memory_alarm", Repeats::Never, blocked),
    Scenario::of_broker(
        "channel_closed_by_the_server",
        Repeats::Allowed,
        channel_closed,
    ),
    Scenario::new(
        "queue_deleted_under_the_consumer",
        Repeats::Allowed,
        queue_deleted,
    ),
];

fn stopped_and_restarted(round: &mut Round, broker: &mut PrivateRabbitMq) -> Counts {
    restarted(round, broker, Signal::SIGTERM)
}

fn killed_and_restarted(round: &mut Round, broker: &mut PrivateRabbitMq) -> Counts {
    restarted(round, broker, Signal::SIGKILL)
}

/// Jobs wait for their delay, and pass from one level of it to the next, in that moment.
fn restarted(round: &mut Round, broker: &mut PrivateRabbitMq, signal: Signal) -> Counts {
    let worker = round.worker();
    round.load_of(Mix::Later, 15);
    round.load_of(Mix::Soon, 60);
    round.awaits_sent();
    round.load_of(Mix::Slow, 15);
    round.load(Mix::All);
    round.pause(0..1_500);
    round.broke();
    broker.stop(signal);
    round.pause(0..1_500);
    broker.start_again();
    round.count(vec![worker])
}

fn connection_cut(round: &mut Round) -> Counts {
    let worker = round.worker();
    round.load(Mix::All);
    // At the third time, a job that was interrupted each time counts as one that kills workers.
    for _ in 0..2 {
        round.pause(50..1_500);
        round.broke();
        round.broker.cut();
    }
    round.count(vec![worker])
}

fn half_open_connection(round: &mut Round) -> Counts {
    let worker = round.worker();
    round.load(Mix::All);
    for _ in 0..2 {
        round.pause(200..800);
        round.broke();
        round.broker.fall_silent();
        round.pause(500..3_000);
        // New connections work; those from before are dead, which both ends must find out.
        round.broker.come_back();
    }
    round.count(vec![worker])
}

fn blocked(round: &mut Round, broker: &mut PrivateRabbitMq) -> Counts {
    let worker = round.worker();
    round.load(Mix::All);
    for _ in 0..2 {
        round.pause(100..800);
        round.broke();
        broker.control(&["set_vm_memory_high_watermark", "0.00001"]);
        round.pause(500..2_000);
        broker.control(&["set_vm_memory_high_watermark", "0.4"]);
    }
    round.count(vec![worker])
}

fn channel_closed(round: &mut Round, broker: &mut PrivateRabbitMq) -> Counts {
    let set = |timeout: &str| {
        let timeout = format!("application:set_env(rabbit, consumer_timeout, {timeout}).");
        broker.control(&["eval", &timeout]);
    };
    broker.control(&[
        "eval",
        "application:set_env(rabbit, channel_tick_interval, 200).",
    ]);
    // Who does not answer a delivery within a second loses the channel.
    set("1000");
    let worker = round.worker();
    round.load(Mix::Quick);
    round.load_of(Mix::Long, 6);
    round.awaits("the channel is closed", |_| {
        worker.log().contains("PRECONDITION_FAILED")
    });
    round.broke();
    set("1800000");
    // The limit is read when a channel opens: that of the worker still has the old one.
    round.broker.cut();
    round.count(vec![worker])
}

/// Messages that are in the queue, or arrive in that moment, go with it, as whoever deletes it
/// wants. Those that are delayed must not.
fn queue_deleted(round: &mut Round) -> Counts {
    let worker = round.worker();
    round.load_of(Mix::Later, 20);
    let began = Instant::now();
    round.awaits_sent();
    let queue = round.system.queue.clone();
    for _ in 0..3 {
        round.pause(0..1_000);
        // On a slow machine the first may be due by now.
        if began.elapsed() > Duration::from_secs(4) {
            break;
        }
        let rabbitmq = round.rabbitmq();
        round.awaits("the queue is deleted", |_| rabbitmq.delete_if_empty(&queue));
        round.broke();
    }
    round.count(vec![worker])
}
