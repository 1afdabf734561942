//! What grows: the queue, the store, the results, the processes, the jobs in flight.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
};
use warren::{
    broker::{Broker, BrokerSettings, QueueName},
    client::Client,
    function::{FunctionRegistry, JobContext, JobError},
    worker::{Shutdown, Worker},
};

use crate::{
    error::{BenchError, ensure},
    figures::{Measure, Unit},
    options::{Options, StoreKind, WorkerProcess},
    plugins,
    servers::{self, Servers},
    stores, warren_side,
};

/// Jobs under way in one worker.
const IN_FLIGHT: u16 = 512;
/// Jobs in flight whose memory is measured.
const HELD: u16 = 10_000;
const GIVE_UP: Duration = Duration::from_secs(300);

/// Measures everything that grows.
pub(crate) async fn measure(
    options: &Options,
    servers: &Servers,
) -> Result<Vec<Measure>, BenchError> {
    let mut measures = depths(options, servers).await?;
    measures.push(processes(options, servers).await?);
    measures.push(memory(servers).await?);
    measures.extend(stores::measure_sizes(options, servers).await?);
    Ok(measures)
}

/// The rate of a worker, and of a client, on a queue of ever more jobs, each with its record in the
/// store. The worker takes the same number from each.
async fn depths(options: &Options, servers: &Servers) -> Result<Vec<Measure>, BenchError> {
    let depths: &[u32] = if options.quick {
        &[1_000, 10_000, 100_000]
    } else {
        &[1_000, 10_000, 100_000, 1_000_000]
    };
    let names: Vec<String> = depths
        .iter()
        .map(|depth| format!("{depth} jobs queued and recorded"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut running = Measure::new("scale: jobs run", Unit::PerSecond, &names);
    let mut sending = Measure::new("scale: jobs sent", Unit::PerSecond, &names);
    for (side, depth) in depths.iter().enumerate() {
        // A long queue is measured once: it takes minutes to fill.
        let rounds = if *depth > 10_000 { 1 } else { options.rounds() };
        for round in 1..=rounds {
            eprintln!("scale: {depth} jobs, round {round} of {rounds}");
            let (sent, ran) = depth_round(options, servers, *depth).await?;
            sending.add(side, sent);
            running.add(side, ran);
        }
    }
    Ok(vec![running, sending])
}

async fn depth_round(
    options: &Options,
    servers: &Servers,
    depth: u32,
) -> Result<(f64, f64), BenchError> {
    let rig = Rig::start(servers).await?;
    let began = Instant::now();
    warren_side::send(&rig.client, &rig.queue, depth).await?;
    let sent_in = began.elapsed();

    let count = depth.min(options.jobs());
    let shutdown = Shutdown::new();
    let broker = Broker::connect(&servers.broker_settings()?).await?;
    let worker = Worker::builder(broker.clone(), rig.client.store().clone())
        .queues([rig.queue.clone()])
        .functions(warren_side::functions(count, &shutdown)?)
        .concurrency(usize::from(IN_FLIGHT))
        .prefetch(IN_FLIGHT)
        .build()?;
    let began = Instant::now();
    let report = worker.run(shutdown).await?;
    let ran_in = began.elapsed();
    broker.close().await;
    let enough = report.completed >= u64::from(count);
    ensure("a worker's having run its jobs", enough, true)?;
    rig.end().await?;
    let sent = f64::from(depth) / sent_in.as_secs_f64();
    Ok((sent, report.completed as f64 / ran_in.as_secs_f64()))
}

/// A client and a queue.
struct Rig<'a> {
    servers: &'a Servers,
    client: Client,
    queue: QueueName,
}

impl<'a> Rig<'a> {
    async fn start(servers: &'a Servers) -> Result<Self, BenchError> {
        let broker = Broker::connect(&servers.broker_settings()?).await?;
        let store = plugins::open_guarded(StoreKind::Redis, servers).await?;
        let connection = servers.amqp().await?;
        let queue = servers.queue(&connection.create_channel().await?).await?;
        servers::close(&connection).await;
        Ok(Self {
            servers,
            client: Client::new(broker, store),
            queue,
        })
    }

    async fn end(self) -> Result<(), BenchError> {
        self.client.broker().purge(&self.queue).await?;
        self.client.broker().close().await;
        self.client.store().close().await?;
        self.servers.delete_queue(&self.queue).await?;
        self.servers.delete_keys().await
    }
}

/// One worker process, then two, on the same number of jobs.
async fn processes(options: &Options, servers: &Servers) -> Result<Measure, BenchError> {
    let sides = ["one worker process", "two worker processes"];
    let mut measure = Measure::new("scale: jobs run by processes", Unit::PerSecond, &sides);
    for round in 1..=options.rounds() {
        for count in 1..=sides.len() {
            eprintln!("scale: processes, round {round}, {count}");
            let rig = Rig::start(servers).await?;
            warren_side::send(&rig.client, &rig.queue, options.jobs()).await?;
            let began = Instant::now();
            let mut workers = Vec::new();
            for _ in 0..count {
                workers.push(Process::start(servers, &rig.queue, IN_FLIGHT, false)?);
            }
            rig.until_empty().await?;
            let took = began.elapsed();
            drop(workers);
            measure.add(count - 1, f64::from(options.jobs()) / took.as_secs_f64());
            rig.end().await?;
        }
    }
    measure.note(0, "the start of the processes counts");
    Ok(measure)
}

impl Rig<'_> {
    async fn until_empty(&self) -> Result<(), BenchError> {
        let deadline = Instant::now() + GIVE_UP;
        loop {
            let info = self.client.broker().queue_info(&self.queue).await?;
            let ready = info.map_or(0, |info| info.ready);
            if ready == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return ensure("messages left in time", ready, 0);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Resident memory of a worker process without and with jobs in flight.
async fn memory(servers: &Servers) -> Result<Measure, BenchError> {
    eprintln!("scale: memory");
    let sides = ["idle library worker", "each job in flight"];
    let mut measure = Measure::new("scale: memory", Unit::Kibibytes, &sides).not_compared();
    let rig = Rig::start(servers).await?;
    warren_side::send(&rig.client, &rig.queue, 1).await?;
    let mut process = Process::start(servers, &rig.queue, HELD, true)?;
    process.until_running(1).await?;
    let idle = process.resident_kib()?;
    warren_side::send(&rig.client, &rig.queue, u32::from(HELD) - 1).await?;
    process.until_running(u32::from(HELD)).await?;
    let busy = process.resident_kib()?;
    measure.add(0, idle);
    measure.add(1, (busy - idle) / f64::from(HELD - 1));
    measure.note(
        0,
        "this program as a worker, with the Redis plugin and one job",
    );
    let each = format!("over {HELD} jobs of 5 bytes of arguments that do not end");
    measure.note(1, &each);
    drop(process);
    rig.end().await?;
    Ok(measure)
}

/// A worker in a process of its own; ends when dropped.
struct Process {
    child: Child,
    said: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    _input: Option<ChildStdin>,
}

impl Process {
    fn start(
        servers: &Servers,
        queue: &QueueName,
        concurrency: u16,
        hold: bool,
    ) -> Result<Self, BenchError> {
        let this = std::env::current_exe().map_err(BenchError::Process)?;
        let mut command = Command::new(this);
        command
            .arg("worker-process")
            .args(["--queue", queue.as_str(), "--prefix", servers.key_prefix()])
            .args(["--concurrency", &concurrency.to_string()])
            .args(hold.then_some("--hold"))
            // The plugins are there already.
            .env_remove("CARGO")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(BenchError::Process)?;
        let input = child.stdin.take();
        let output = child.stdout.take();
        let output = output.ok_or_else(|| BenchError::Process(std::io::ErrorKind::Other.into()))?;
        Ok(Self {
            child,
            said: BufReader::new(output).lines(),
            _input: input,
        })
    }

    /// Waits until the process says that so many jobs are under way.
    async fn until_running(&mut self, count: u32) -> Result<(), BenchError> {
        let reading = async {
            while let Some(line) = self.said.next_line().await? {
                if line.parse() == Ok(count) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let read = tokio::time::timeout(GIVE_UP, reading).await;
        let read = read.unwrap_or(Ok(false)).map_err(BenchError::Process)?;
        ensure("a worker process with its jobs in flight", read, true)
    }

    fn resident_kib(&self) -> Result<f64, BenchError> {
        resident_kib(self.child.id().unwrap_or_default())
    }
}

/// Resident memory of a process, in KiB, as Linux counts it.
pub(crate) fn resident_kib(process: u32) -> Result<f64, BenchError> {
    let file = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(file).map_err(BenchError::Process)?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.split_whitespace().next()?.parse().ok());
    line.ok_or_else(|| BenchError::Process(std::io::ErrorKind::InvalidData.into()))
}

/// Is such a process: works until its input ends.
pub(crate) async fn worker_process(process: &WorkerProcess) -> Result<(), BenchError> {
    let servers = Servers::named(&process.prefix).await?;
    let settings: BrokerSettings = servers.broker_settings()?;
    let broker = Broker::connect(&settings).await?;
    let store = plugins::open_guarded(StoreKind::Redis, &servers).await?;
    let shutdown = Shutdown::new();
    let functions = if process.hold {
        holding()?
    } else {
        warren_side::functions(u32::MAX, &shutdown)?
    };
    let worker = Worker::builder(broker, store)
        .queues([QueueName::new(process.queue.as_str())?])
        .functions(functions)
        .concurrency(usize::from(process.concurrency))
        .prefetch(process.concurrency)
        .grace(Duration::from_secs(5))
        .build()?;
    let stop = shutdown.clone();
    std::thread::spawn(move || {
        // The end of the input, or an error, is the end of whoever started this.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stop.stop_now();
    });
    worker.run(shutdown).await?;
    Ok(())
}

/// `add` that does not end, and says how many have begun.
fn holding() -> Result<FunctionRegistry, BenchError> {
    let begun = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let mut functions = FunctionRegistry::new();
    functions.register("add", move |_job: JobContext, (a, b): (i64, i64)| {
        let count = begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        if count == 1 || count == u32::from(HELD) {
            println!("{count}");
        }
        async move {
            std::future::pending::<()>().await;
            Ok::<_, JobError>(a + b)
        }
    })?;
    Ok(functions)
}
