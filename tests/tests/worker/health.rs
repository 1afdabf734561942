//! What a worker says over HTTP, while what it needs breaks and comes back.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use warren_tests::{
    DEADLINE, PrivateRedis, Proxy, System, WorkerProcess, amqp_url, eventually, redis_url,
};

use super::{
    echo,
    faults::{broker_address, through},
    gated,
};

const QUICK_STORE: &str = "result_store.deadline=500ms";

/// A worker that serves its health at a port that the system chose.
struct Shown {
    worker: WorkerProcess,
    address: String,
}

fn shown(system: &System) -> Shown {
    let listen = ["--health-listen", "127.0.0.1:0", "--set", QUICK_STORE];
    let worker = system.worker(&[&listen[..], &["--log-format", "json"]].concat());
    let log = worker.log();
    let said = log.lines().find(|line| line.contains("are served"));
    let said: Value = serde_json::from_str(said.expect("it says where")).unwrap();
    let address = said["fields"]["address"].as_str().unwrap().to_owned();
    Shown { worker, address }
}

impl Shown {
    /// The status and the body of an answer.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: worker\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// Waits until `/health` is as `wanted`; returns it with its status.
    fn until(&self, what: &str, wanted: impl Fn(u16, &Value) -> bool) -> (u16, Value) {
        eventually(what, || {
            let (status, body) = self.get("/health");
            let health: Value = serde_json::from_str(&body).unwrap();
            if wanted(status, &health) {
                Ok((status, health))
            } else {
                Err(body)
            }
        })
    }

    /// The value of a sample of `/metrics`, named with its labels.
    fn metric(&self, sample: &str) -> f64 {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        let line = text
            .lines()
            .find(|line| line.starts_with(sample) && line[sample.len()..].starts_with(' '));
        let line = line.unwrap_or_else(|| panic!("{sample} is not in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

#[test]
fn a_store_that_stops_opens_its_breaker_and_jobs_go_on_until_it_is_back() {
    const JOBS: u64 = 5;
    let mut redis = PrivateRedis::start();
    let system = System::on(&amqp_url(), &redis.url(), &echo());
    let shown = shown(&system);
    shown.until("it is well", |status, health| {
        status == 200 && health["status"] == "ok"
    });
    redis.stop();
    let ids: Vec<String> = (0..JOBS).map(|_| system.enqueue(&["echo"])).collect();
    let (_, health) = shown.until("all results are in the spool", |status, health| {
        status == 200 && health["spool"]["records"] == JOBS
    });
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["jobs"]["taken"], true);
    assert_eq!(health["counts"]["completed"], JOBS);
    let breaker = &health["store"]["breaker"];
    assert_ne!(breaker["state"], "closed");
    assert!(breaker["since"].is_string(), "{breaker}");
    assert_eq!(breaker["last_error"]["class"], "unavailable");
    assert_eq!(
        shown.metric("warren_store_breaker{store=\"redis\",state=\"closed\"}"),
        0.0
    );

    redis.start_again();
    let (_, health) = shown.until("it is well again", |status, health| {
        status == 200 && health["status"] == "ok"
    });
    assert_eq!(health["store"]["breaker"]["state"], "closed");
    for id in &ids {
        assert_eq!(system.awaits_status(id, "completed")["attempt"], 1);
    }
    let jobs = shown.metric("warren_jobs_total{function=\"echo\",outcome=\"completed\"}");
    assert_eq!(jobs, JOBS as f64);
    for what in ["spooled", "replayed"] {
        let sample = format!("warren_results_total{{what=\"{what}\"}}");
        assert_eq!(shown.metric(&sample), JOBS as f64, "{what}");
    }
    assert_eq!(shown.metric("warren_results_total{what=\"lost\"}"), 0.0);
    assert_eq!(shown.metric("warren_spool_records"), 0.0);
    assert!(shown.metric("warren_store_breaker_opened_total{store=\"redis\"}") >= 1.0);
}

#[test]
fn a_worker_that_stops_is_alive_and_not_ready() {
    let system = System::new(&gated());
    let shown = shown(&system);
    let id = system.enqueue(&["gated"]);
    shown.until("the job runs", |_, health| health["jobs"]["running"] == 1);
    assert_eq!(shown.get("/health/ready").0, 200);
    shown.worker.signal(Signal::SIGTERM);
    let (_, health) = shown.until("it is not ready", |status, _| status == 503);
    assert_eq!(health["jobs"]["not_taken_because"], "stopping");
    assert_eq!(shown.get("/health/ready").0, 503);
    assert_eq!(shown.get("/health/live").0, 200);
    system.touch("go");
    let ran = shown.worker.ended().expect(0);
    assert!(ran.stdout.contains("1 completed"), "{}", ran.stdout);
    system.awaits_status(&id, "completed");
}

#[test]
fn a_worker_without_its_broker_is_not_ready_until_it_is_back() {
    let proxy = Proxy::to(&broker_address());
    let system = System::on(&through(&proxy), &redis_url(), &echo());
    let shown = shown(&system);
    shown.until("it is ready", |status, _| status == 200);
    proxy.go_away();
    let (_, health) = shown.until("it is not ready", |status, _| status == 503);
    assert_eq!(health["jobs"]["not_taken_because"], "broker_away");
    assert_eq!(health["broker"]["state"], "connecting");
    shown.until("the loss is counted", |_, health| {
        health["broker"]["connection_losses"] == 1
    });
    proxy.come_back();
    shown.until("it is ready again", |status, _| status == 200);
}

#[test]
fn the_members_of_a_composed_store_have_breakers_of_their_own() {
    let mut redis = PrivateRedis::start();
    let system = System::on(&amqp_url(), &redis.url(), &echo());
    let alone = fs::read_to_string(system.path("warren.toml")).unwrap();
    let (head, tail) = alone.split_once("[result_store]").unwrap();
    let (_, functions) = tail.split_once("[functions").unwrap();
    let composed = format!(
        "{head}[result_store]\ntype = \"failover\"\n\n\
         [result_store.config.primary]\ntype = \"redis\"\n\n\
         [result_store.config.primary.config]\nredis_url = {:?}\n\n\
         [result_store.config.secondary]\ntype = \"sqlite\"\n\n\
         [result_store.config.secondary.config]\npath = \"meanwhile.db\"\n\n\
         [functions{functions}",
        redis.url(),
    );
    fs::write(system.path("warren.toml"), composed).unwrap();
    let shown = shown(&system);
    let (_, health) = shown.until("it is well", |_, health| health["status"] == "ok");
    let members = health["store"]["members"].as_array().unwrap();
    assert_eq!(
        (&members[0]["part"], &members[0]["type"]),
        (&"primary".into(), &"redis".into())
    );
    assert_eq!(
        (&members[1]["part"], &members[1]["type"]),
        (&"secondary".into(), &"sqlite".into())
    );

    redis.stop();
    system.enqueue(&["echo"]);
    let (status, health) = shown.until("the primary is left alone", |_, health| {
        health["store"]["members"][0]["breaker"]["state"] == "open"
    });
    assert_eq!((status, &health["status"]), (200, &"degraded".into()));
    assert_eq!(health["store"]["breaker"]["state"], "closed");
    let primary = "store=\"failover/primary (redis)\"";
    let open = format!("warren_store_breaker{{{primary},state=\"open\"}}");
    assert_eq!(shown.metric(&open), 1.0);
    redis.start_again();
    shown.until("it is well again", |_, health| health["status"] == "ok");
}

#[test]
fn a_port_that_is_taken_is_said_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let system = System::new(&echo());
    let ran = system.run(&["worker", "--health-listen", &address]);
    let ran = ran.expect(1);
    assert!(ran.stderr.contains(&address), "{}", ran.stderr);
    assert!(ran.stderr.contains("in use"), "{}", ran.stderr);
}

#[test]
fn what_is_not_served_is_said() {
    let system = System::new(&echo());
    let shown = shown(&system);
    let (status, body) = shown.get("/");
    assert_eq!(status, 404);
    assert!(body.contains("/health/ready"), "{body}");
}
