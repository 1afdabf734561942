//! What could grow, looked at from outside.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use warren_tests::{PrivateRabbitMq, WorkerProcess, fault::Round};

use crate::plot;

/// What is sampled, in the order of a sample's values.
pub(crate) const NAMES: [&str; 8] = [
    "worker: resident memory, MiB",
    "worker: open files",
    "worker: threads",
    "worker: tokio tasks",
    "broker: queues",
    "broker: exchanges",
    "broker: bindings",
    "store: keys",
];

/// One look: minutes since the start, and a value for each of [`NAMES`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) minutes: f64,
    pub(crate) values: [f64; NAMES.len()],
}

/// All looks so far.
pub(crate) struct Samples {
    folder: PathBuf,
    began: Instant,
    taken: Vec<Sample>,
}

impl Samples {
    pub(crate) fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("the folder can be made");
        Self {
            folder: folder.to_owned(),
            began: Instant::now(),
            taken: Vec::new(),
        }
    }

    /// Looks at everything.
    pub(crate) fn take(&mut self, worker: &WorkerProcess, broker: &PrivateRabbitMq, round: &Round) {
        let process = PathBuf::from(format!("/proc/{}", worker.id()));
        let [queues, exchanges, bindings] = entities(broker);
        let values = [
            status(&process, "VmRSS:") / 1024.0,
            fs::read_dir(process.join("fd"))
                .expect("the worker runs")
                .count() as f64,
            status(&process, "Threads:"),
            tasks(&worker.log()),
            queues,
            exchanges,
            bindings,
            round.redis.keys() as f64,
        ];
        let minutes = self.began.elapsed().as_secs_f64() / 60.0;
        self.taken.push(Sample { minutes, values });
    }

    /// Writes the table and the picture.
    pub(crate) fn write(&self) {
        let mut csv = format!(
            "minutes,{}\n",
            NAMES.map(|name| name.replace(',', "")).join(",")
        );
        for sample in &self.taken {
            let values = sample.values.map(|value| format!("{value:.1}")).join(",");
            let _ = writeln!(csv, "{:.2},{values}", sample.minutes);
        }
        fs::write(self.folder.join("soak.csv"), csv).expect("the table can be written");
        plot::draw(&self.folder.join("soak.svg"), &self.taken).expect("the picture can be drawn");
    }
}

/// A number of `/proc/PID/status`.
fn status(process: &Path, name: &str) -> f64 {
    let text = fs::read_to_string(process.join("status")).expect("the worker runs");
    let line = text.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("it is there")
}

/// The last number of tasks that the worker has logged.
fn tasks(log: &str) -> f64 {
    let last = log.rsplit_once("tasks=").map(|(_, after)| after);
    let number = last.and_then(|after| after.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or(f64::NAN)
}

fn entities(broker: &PrivateRabbitMq) -> [f64; 3] {
    const COUNT: &str = "io:format(\"~p ~p ~p~n\", [length(rabbit_amqqueue:list(<<\"/\">>)), \
                         length(rabbit_exchange:list(<<\"/\">>)), \
                         length(rabbit_binding:list(<<\"/\">>))]).";
    let answer = broker.control(&["eval", COUNT]);
    let mut numbers = answer
        .split_whitespace()
        .map_while(|word| word.parse().ok());
    std::array::from_fn(|_| numbers.next().expect("three numbers are printed"))
}
