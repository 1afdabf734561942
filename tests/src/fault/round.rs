//! What one round of a scenario has to break: servers, proxies before them, workers.

use std::{
    fs,
    net::SocketAddr,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    check::{self, Counts},
    ledger::{self, Ledger},
    load::{Load, Mix},
};
use crate::{
    PrivateRedis, Proxy, RabbitMq, System, WorkerProcess, postgres_url, raw_amqp::publish_raw,
    unique,
};

/// The store that a round keeps its results in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// A server of the round's own, behind a proxy.
    Redis,
    /// A file in the round's folder.
    Sqlite,
    /// Tables of the round's own, in a server of the tests.
    Postgres,
}

impl StoreKind {
    /// What [`Settings`](super::Settings) name it.
    ///
    /// # Errors
    /// The names that there are.
    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "redis" => Ok(Self::Redis),
            "sqlite" => Ok(Self::Sqlite),
            "postgres" => Ok(Self::Postgres),
            _ => Err(format!(
                "store {name:?}: expected redis, sqlite or postgres"
            )),
        }
    }

    fn config(self, redis: &Proxy) -> String {
        match self {
            Self::Redis => format!(
                "type = \"redis\"\ndeadline = \"1s\"\n\n[result_store.config]\n\
                 redis_url = \"redis://{}/0\"\nkey_prefix = \"fault\"\n",
                redis.address()
            ),
            Self::Sqlite => "type = \"sqlite\"\ndeadline = \"5s\"\n\n\
                 [result_store.config]\npath = \"results.db\"\n"
                .to_owned(),
            Self::Postgres => format!(
                "type = \"postgres\"\ndeadline = \"5s\"\n\n[result_store.config]\n\
                 postgres_url = {:?}\ntable_prefix = \"{}_\"\n",
                postgres_url(),
                unique("fault").replace('-', "_")
            ),
        }
    }
}

/// One round: everything in it is its own, but for the broker.
#[derive(Debug)]
pub struct Round {
    /// Between the program and the broker.
    pub broker: Proxy,
    /// Between the program and Redis.
    pub store: Proxy,
    /// The store's server.
    pub redis: PrivateRedis,
    /// The configuration, and the program.
    pub system: System,
    /// Jobs of a load, unless a scenario asks for another number.
    pub jobs: usize,
    broker_url: String,
    rng: StdRng,
    loads: Vec<Load>,
    by_hand: Vec<String>,
    faults: usize,
}

impl Round {
    /// On the broker at `broker_url`; everything random comes from `seed`.
    ///
    /// # Panics
    /// When a server does not start.
    pub fn new(broker_url: &str, store: StoreKind, jobs: usize, seed: u64) -> Self {
        let address = |url: &url::Url| {
            let host = url.host_str().unwrap_or("127.0.0.1");
            format!("{host}:{}", url.port().unwrap_or(5672))
        };
        let mut url: url::Url = broker_url.parse().expect("the broker has an address");
        let broker = Proxy::to(&address(&url));
        let through: SocketAddr = broker.address().parse().expect("a proxy has an address");
        url.set_host(Some("127.0.0.1")).expect("it is a host");
        url.set_port(Some(through.port())).expect("it is a port");
        let redis = PrivateRedis::start();
        let store_proxy = Proxy::to(&redis.address());
        let queue = unique("fault");
        let config = format!(
            "[broker]\nurl = {:?}\nheartbeat = \"2s\"\n\n\
             [worker]\nqueues = [{queue:?}]\nconcurrency = 8\nprefetch = 16\n\
             shutdown_grace = \"10s\"\n\n[result_store]\n{}\n{}",
            url.as_str(),
            store.config(&store_proxy),
            ledger::functions()
        );
        let mut system = System::with_config(&config);
        system.queue = queue;
        Self {
            broker,
            store: store_proxy,
            redis,
            system,
            broker_url: broker_url.to_owned(),
            jobs,
            rng: StdRng::seed_from_u64(seed),
            loads: Vec::new(),
            by_hand: Vec::new(),
            faults: 0,
        }
    }

    /// A new connection to the broker, without the proxy: an earlier one may have been broken.
    ///
    /// # Panics
    /// When the broker is away.
    pub fn rabbitmq(&self) -> RabbitMq {
        RabbitMq::connect_to(&self.broker_url)
    }

    /// Publishes to the queue with headers of any bytes.
    ///
    /// # Panics
    /// When the broker is away.
    pub fn publish_raw(&self, body: &[u8], headers: &[u8]) {
        publish_raw(&self.broker_url, &self.system.queue, body, headers);
    }

    /// What the jobs wrote.
    pub fn ledger(&self) -> Ledger {
        Ledger::in_folder(self.system.path(""))
    }

    /// What waits on the disk, in `records` or `bytes`.
    ///
    /// # Panics
    /// When the program does not say so.
    pub fn spooled(&self, unit: &str) -> u64 {
        let spools = self.system.run(&["spool", "status", "--json"]);
        let spools = spools.json_lines();
        let counts = spools.iter().map(|spool| spool[unit].as_u64());
        counts.map(Option::unwrap_or_default).sum()
    }

    /// Adds an option to a table of the configuration, instead of the one it has. Programs that
    /// run already do not see it.
    ///
    /// # Panics
    /// When there is no such table.
    pub fn configure(&self, table: &str, option: &str, value: &str) {
        let path = self.system.path("warren.toml");
        let config = fs::read_to_string(&path).expect("there is a configuration");
        let title = format!("[{table}]\n");
        let (before, rest) = config.split_once(&title).expect("there is such a table");
        let (within, after) = rest.split_once("\n[").unwrap_or((rest, ""));
        let others = within
            .lines()
            .filter(|line| !line.starts_with(&format!("{option} =")));
        let others: String = others.flat_map(|line| [line, "\n"]).collect();
        let config = format!("{before}{title}{option} = {value}\n{others}\n[{after}");
        fs::write(&path, config).expect("it can be written");
    }

    /// A worker that has begun to consume.
    pub fn worker(&self) -> WorkerProcess {
        self.system.worker(&[])
    }

    /// Begins to send the usual number of jobs.
    pub fn load(&mut self, mix: Mix) {
        let load = Load::start(&self.system, mix, self.jobs, &mut self.rng);
        self.loads.push(load);
    }

    /// Begins to send so many jobs.
    pub fn load_of(&mut self, mix: Mix, jobs: usize) {
        let load = Load::start(&self.system, mix, jobs, &mut self.rng);
        self.loads.push(load);
    }

    /// Counts a job that the scenario sent itself.
    pub fn sent_by_hand(&mut self, id: &str) {
        self.by_hand.push(id.to_owned());
    }

    /// A number by chance.
    pub fn random(&mut self, range: Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    /// Waits for a time within these milliseconds.
    pub fn pause(&mut self, ms: Range<u64>) {
        thread::sleep(Duration::from_millis(self.random(ms)));
    }

    /// Counts a fault.
    pub fn broke(&mut self) {
        self.faults += 1;
    }

    /// Waits until jobs have ended that had not when it was called, for as long as that may take
    /// on a slow machine.
    ///
    /// # Panics
    /// When nothing ends.
    pub fn awaits_ends(&self, more: usize) {
        let before = self.ledger().ended();
        self.awaits(&format!("{more} more jobs end"), |ledger| {
            ledger.ended() >= before + more
        });
    }

    /// Waits until the ledger says so.
    ///
    /// # Panics
    /// When it never does.
    pub fn awaits(&self, what: &str, mut is_so: impl FnMut(&Ledger) -> bool) {
        let ledger = self.ledger();
        let deadline = Instant::now() + check::PATIENCE;
        while !is_so(&ledger) {
            assert!(Instant::now() < deadline, "it never came to this: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until all loads were sent; the ids of their jobs, which are not counted any more.
    ///
    /// # Panics
    /// When the program cannot be run.
    pub fn sent(&mut self) -> Vec<String> {
        let loads = self.loads.drain(..);
        loads.flat_map(|load| load.finish().0).collect()
    }

    /// Waits until all loads were sent.
    pub fn awaits_sent(&self) {
        while !self.loads.iter().all(Load::is_sent) {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until every job has ended, stops `workers`, and counts.
    ///
    /// # Panics
    /// When a worker does not stop as it should.
    pub fn count(&mut self, workers: Vec<WorkerProcess>) -> Counts {
        let (mut sent, mut unknown) = (std::mem::take(&mut self.by_hand), 0);
        for load in self.loads.drain(..) {
            let (ids, others) = load.finish();
            sent.extend(ids);
            unknown += others;
        }
        check::count(self, sent, unknown, workers)
    }

    /// How many there were.
    pub const fn faults(&self) -> usize {
        self.faults
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        // A broker that is away is about to be removed with everything on it.
        if let Ok(rabbitmq) = RabbitMq::try_connect(&self.broker_url) {
            rabbitmq.delete(&[self.system.queue.clone(), self.system.dead_letters()]);
        }
    }
}
