//! Other systems, each as its own documentation says is best, beside Warren in the same run.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::process::Command;
use warren::{
    broker::{Broker, QueueName},
    client::Client,
};

use crate::{
    error::{BenchError, ensure},
    figures::{Measure, Unit, quantile},
    latency,
    options::{Options, StoreKind},
    plugins,
    servers::{self, Servers},
    warren_side,
};

/// A peer, whose driver is under `bench/peers`.
struct Peer {
    name: &'static str,
    language: Language,
    /// What of a job a crash of its own, of RabbitMQ or of a worker leaves.
    durability: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Python,
    Rust,
}

const PEERS: [Peer; 7] = [
    Peer {
        name: "celery",
        language: Language::Python,
        durability: "persistent messages, confirmed one by one; acknowledged before the task runs",
    },
    Peer {
        name: "dramatiq",
        language: Language::Python,
        durability: "persistent messages, confirmed one by one; acknowledged after the result",
    },
    Peer {
        name: "taskiq",
        language: Language::Python,
        durability: "persistent messages, confirmed, 512 at once; acknowledged after the result",
    },
    Peer {
        name: "arq",
        language: Language::Python,
        durability: "no RabbitMQ: the queue is in Redis and as durable as Redis is set to be; 50 \
                     sent at once",
    },
    Peer {
        name: "rabbitmq-arq",
        language: Language::Python,
        durability: "transient messages, confirmed, 512 at once; acknowledged after the result",
    },
    Peer {
        name: "celery-rs",
        language: Language::Rust,
        durability: "persistent messages, not confirmed; acknowledged after the task; no results",
    },
    Peer {
        name: "apalis",
        language: Language::Rust,
        durability: "transient messages, not confirmed, a queue that ends with RabbitMQ; \
                     acknowledged after the job; no results",
    },
];
const WARREN: &str = "Warren";
const WARREN_DURABILITY: &str = "`queued` record stored, then persistent messages, confirmed, 512 \
                                 at once; acknowledged after the result is stored";
/// Jobs that Warren has under way.
const IN_FLIGHT: u16 = 512;
/// A driver gives up by itself before this.
const GIVE_UP: Duration = Duration::from_secs(200);
const INSTALL_DEADLINE: Duration = Duration::from_secs(300);
const BUILD_DEADLINE: Duration = Duration::from_secs(1_200);

/// What a driver prints.
#[derive(Debug, Deserialize)]
struct Printed {
    enqueue_per_second: f64,
    jobs_per_second: f64,
    samples: u32,
    lost: u32,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
}

/// Measures every peer and Warren in turn.
pub(crate) async fn measure(
    options: &Options,
    servers: &Servers,
) -> Result<Vec<Measure>, BenchError> {
    let drivers = Drivers::make_ready().await?;
    let (jobs, seconds, rounds) = if options.quick {
        (1_000, 3, 1)
    } else {
        (3_000, 6, 2)
    };
    let names: Vec<&str> = [WARREN]
        .into_iter()
        .chain(PEERS.iter().map(|peer| peer.name))
        .collect();
    let mut measures = [
        ("peers: enqueue", Unit::PerSecond),
        ("peers: jobs", Unit::PerSecond),
        ("peers: enqueue to result, p50", Unit::Microseconds),
        ("peers: enqueue to result, p99", Unit::Microseconds),
    ]
    .map(|(name, unit)| Measure::new(name, unit, &names));
    for measure in &mut measures {
        measure.note(0, WARREN_DURABILITY);
        for (place, peer) in PEERS.iter().enumerate() {
            measure.note(place + 1, peer.durability);
        }
    }
    for round in 1..=rounds {
        eprintln!("peers: round {round} of {rounds}, {WARREN}");
        let own = warren(options, servers, jobs, seconds).await?;
        add(&mut measures, 0, &own);
        for (place, peer) in PEERS.iter().enumerate() {
            let name = peer.name;
            eprintln!("peers: round {round} of {rounds}, {name}");
            match drivers.run(peer, servers, jobs, seconds).await {
                Ok(printed) => add(&mut measures, place + 1, &printed),
                Err(reason) => {
                    eprintln!("peers: {name} is left out of this round: {reason}");
                    let note = format!("left out of a round: {reason}");
                    measures.iter_mut().for_each(|it| it.note(place + 1, &note));
                }
            }
        }
    }
    Ok(measures.into())
}

fn add(measures: &mut [Measure; 4], side: usize, printed: &Printed) {
    let figures = [
        Some(printed.enqueue_per_second),
        Some(printed.jobs_per_second),
        printed.p50_us,
        printed.p99_us,
    ];
    for (measure, figure) in measures.iter_mut().zip(figures) {
        if let Some(figure) = figure {
            measure.add(side, figure);
        }
        if printed.lost > 0 {
            let (lost, all) = (printed.lost, printed.lost + printed.samples);
            measure.note(side, format!("{lost} of {all} results never came"));
        }
    }
}

async fn warren(
    options: &Options,
    servers: &Servers,
    jobs: u32,
    seconds: u64,
) -> Result<Printed, BenchError> {
    let broker = Broker::connect(&servers.broker_settings()?).await?;
    let store = plugins::open_guarded(StoreKind::Redis, servers).await?;
    let client = Client::new(broker.clone(), store.clone());
    let connection = servers.amqp().await?;
    let queue = servers.queue(&connection.create_channel().await?).await?;
    warren_side::send(&client, &queue, 1).await?;
    let began = Instant::now();
    let job_ids = warren_side::send(&client, &queue, jobs).await?;
    let sent_in = began.elapsed();
    let ran_in = warren_side::run_jobs(servers, store.clone(), &queue, jobs + 1, IN_FLIGHT).await?;
    warren_side::all_completed(&client, &job_ids).await?;
    servers::close(&connection).await;
    broker.close().await;
    store.close().await?;
    ensure("messages left", servers.delete_queue(&queue).await?, 0)?;

    let rig = latency::WarrenRig::start(servers).await?;
    let mut times = Vec::new();
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until && times.len() < options.samples() as usize {
        times.push(rig.run_one().await?.as_secs_f64() * 1e6);
    }
    rig.stop().await?;
    servers.delete_keys().await?;
    times.sort_by(f64::total_cmp);
    Ok(Printed {
        enqueue_per_second: f64::from(jobs) / sent_in.as_secs_f64(),
        jobs_per_second: f64::from(jobs) / ran_in.as_secs_f64(),
        samples: u32::try_from(times.len()).unwrap_or(u32::MAX),
        lost: 0,
        p50_us: quantile(&times, 0.5),
        p99_us: quantile(&times, 0.99),
    })
}

/// What measures the peers.
struct Drivers {
    /// With the peers that are written in Python.
    python: PathBuf,
    /// The program with those that are written in Rust; or why there is none.
    rust: Result<PathBuf, String>,
}

impl Drivers {
    async fn make_ready() -> Result<Self, BenchError> {
        Ok(Self {
            python: python().await?,
            rust: rust().await.map_err(|error| error.to_string()),
        })
    }

    /// Runs a peer's driver; the error is a reason to leave it out.
    async fn run(
        &self,
        peer: &Peer,
        servers: &Servers,
        jobs: u32,
        seconds: u64,
    ) -> Result<Printed, String> {
        let name = format!("{}-{}", servers.key_prefix(), peer.name);
        let mut driver = match peer.language {
            Language::Python => {
                let module = format!("peer_{}", peer.name.replace('-', "_"));
                let mut python = Command::new(&self.python);
                python.arg(folder().join("measure.py"));
                python.args([&module, &jobs.to_string(), &seconds.to_string()]);
                python
            }
            Language::Rust => {
                let mut rust = Command::new(self.rust.as_ref().map_err(Clone::clone)?);
                rust.args([peer.name, &jobs.to_string()]);
                rust
            }
        };
        driver
            .env("PEER_AMQP_URL", servers.amqp_url())
            .env("PEER_REDIS_URL", servers.redis_url())
            .env("PEER_NAME", &name);
        let printed = printed(driver).await;
        if peer.language == Language::Rust {
            // The others do that themselves.
            let queue = QueueName::new(&name).map_err(|error| error.to_string())?;
            let deleted = servers.delete_queue(&queue).await;
            deleted.map_err(|error| error.to_string())?;
        }
        printed
    }
}

async fn printed(mut driver: Command) -> Result<Printed, String> {
    let running = driver.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(GIVE_UP, running)
        .await
        .map_err(|_| format!("no end within {GIVE_UP:?}"))?
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(text.trim().lines().last().unwrap_or("no reason").to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// A Python with the peers in it: a virtual environment in the target folder, made once.
async fn python() -> Result<PathBuf, BenchError> {
    let requirements = folder().join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).map_err(failed)?;
    let environment = plugins::target_folder()?.join("bench-peers");
    let python = environment.join("bin/python");
    let installed = environment.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    eprintln!("peers: made ready in {}", environment.display());
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&environment);
    run(make, INSTALL_DEADLINE).await?;
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(&requirements);
    run(install, INSTALL_DEADLINE).await?;
    std::fs::write(&installed, wanted).map_err(failed)?;
    Ok(python)
}

/// The peers that are written in Rust, built in the target folder; by their own manifest, since
/// nothing of Warren needs what they need.
async fn rust() -> Result<PathBuf, BenchError> {
    let target = plugins::target_folder()?.join("bench-peers-rust");
    eprintln!("peers: those in Rust are built in {}", target.display());
    let mut build = Command::new("cargo");
    build
        .args(["build", "--release", "--locked", "--quiet"])
        .arg("--manifest-path")
        .arg(folder().join("rust/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target);
    run(build, BUILD_DEADLINE).await?;
    Ok(target.join("release/warren-bench-peers"))
}

async fn run(mut command: Command, deadline: Duration) -> Result<(), BenchError> {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(deadline, running)
        .await
        .map_err(failed)?
        .map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(failed(text.trim().lines().last().unwrap_or("no reason")))
}

fn failed(reason: impl ToString) -> BenchError {
    BenchError::Peers {
        reason: reason.to_string(),
    }
}
