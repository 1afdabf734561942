//! The result writer by itself: what it writes when, and what it answers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle};
use warren_plugin_api::{ErrorClass, Payload, Status, Timestamp};

use crate::{
    announcer::Announcer,
    broker::{Acker, BrokerError, Settle, SettleDelivery},
    store::Breaker,
    worker::{
        MemorySpool, WhenFull, WorkerStats,
        attempt::{Attempt, Ending, LiveRecord},
        results::{MAX_BATCH_BYTES, MAX_BATCHES_IN_FLIGHT, ResultSender, ResultWriter},
        spool::Spooling,
        store_state::BREAKER,
        test_store::{Mode, TestStore},
    },
};

/// Takes answers and tells them to the test.
#[derive(Debug)]
struct Answers(Mutex<mpsc::UnboundedSender<(u64, Settle)>>);

impl SettleDelivery for Answers {
    fn settle(&self, tag: u64, answer: Settle) -> Result<(), BrokerError> {
        self.0.lock().unwrap().send((tag, answer)).unwrap();
        Ok(())
    }
}

struct Bench {
    store: TestStore,
    sender: ResultSender,
    writer: JoinHandle<usize>,
    stats: WorkerStats,
    settler: Arc<Answers>,
    answers: mpsc::UnboundedReceiver<(u64, Settle)>,
}

impl Bench {
    fn new() -> Self {
        Self::with_deadline(Duration::from_millis(200), Spooling::default())
    }

    fn with_spooling(spool: MemorySpool, when_full: WhenFull) -> Self {
        let spooling = Spooling {
            spool: Arc::new(spool),
            when_full,
        };
        Self::with_deadline(Duration::from_millis(200), spooling)
    }

    /// With a store that may hold calls as long as it likes.
    fn patient() -> Self {
        Self::with_deadline(Duration::from_secs(600), Spooling::default())
    }

    fn with_deadline(deadline: Duration, spooling: Spooling) -> Self {
        let (store, stats) = (TestStore::new(), WorkerStats::default());
        let opened = store.open(deadline);
        let announcer = Announcer::new(opened.clone(), None);
        let (sender, writer) = ResultWriter::new(
            opened,
            announcer,
            "w".into(),
            spooling,
            stats.clone(),
            Arc::new(Breaker::new(BREAKER)),
        );
        let (answer, answers) = mpsc::unbounded_channel();
        let settler = Arc::new(Answers(Mutex::new(answer)));
        Self {
            store,
            sender,
            writer: tokio::spawn(writer.run()),
            stats,
            settler,
            answers,
        }
    }

    fn acker(&self, tag: u64) -> Acker {
        Acker::new(tag, self.settler.clone())
    }

    fn complete(&self, tag: u64, attempt: &Arc<Attempt>) {
        self.sender
            .ended(Arc::clone(attempt), completed(), self.acker(tag));
    }

    async fn answer(&mut self) -> (u64, Settle) {
        let answer = self.answers.recv();
        tokio::time::timeout(Duration::from_secs(20), answer)
            .await
            .unwrap()
            .unwrap()
    }

    /// Ends the writer; returns how many records it could not bring to the store.
    async fn end(self) -> (TestStore, usize) {
        drop(self.sender);
        (self.store, self.writer.await.unwrap())
    }
}

fn attempt(id: &str) -> Arc<Attempt> {
    Arc::new(Attempt {
        job_id: id.into(),
        queue: "q".into(),
        function: "f".into(),
        args: Payload::from("[]"),
        kwargs: Payload::from("{}"),
        number: 1,
        enqueued_at: Some(Timestamp::now()),
        started_at: Some(Timestamp::now()),
        may_be_written_over: false,
        result_ttl: Duration::from_secs(60),
        lost_runs: 0,
        replayed_from: None,
        progress: Mutex::default(),
        live: LiveRecord::default(),
        _held: None,
    })
}

fn completed() -> Ending {
    Ending {
        status: Status::Completed,
        error: None,
        detail: None,
        result: Payload::from("12345"),
        finished_at: Timestamp::now(),
        duration: Some(Duration::from_millis(1)),
        delay: Duration::ZERO,
    }
}

#[tokio::test]
async fn a_delivery_is_answered_only_after_its_record_is_stored() {
    let mut bench = Bench::patient();
    bench.store.set(Mode::Holds);
    bench.complete(1, &attempt("a"));
    tokio::task::yield_now().await;
    assert!(bench.answers.try_recv().is_err());
    bench.store.set(Mode::Works);
    assert_eq!(bench.answer().await, (1, Settle::Ack));
    assert_eq!(bench.store.record("a").unwrap().status, Status::Completed);
}

#[tokio::test]
async fn a_start_is_not_written_when_the_end_is_already_there() {
    let mut bench = Bench::new();
    let attempt = attempt("a");
    bench.sender.running(&attempt);
    bench.complete(1, &attempt);
    bench.answer().await;
    assert_eq!(bench.store.history("a"), [Status::Completed]);
    assert_eq!(bench.store.batches(), [1]);
}

#[tokio::test]
async fn an_end_does_not_overtake_the_start_that_is_being_written() {
    let mut bench = Bench::patient();
    bench.store.set(Mode::Holds);
    let (slow, other) = (attempt("slow"), attempt("other"));
    bench.sender.running(&slow);
    while bench.store.batches().is_empty() {
        tokio::task::yield_now().await;
    }
    bench.complete(1, &slow);
    bench.complete(2, &other);
    while bench.store.batches().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        bench.store.batches(),
        [1, 1],
        "only the other job's end may be written"
    );
    bench.store.set(Mode::Works);
    let mut tags = [bench.answer().await.0, bench.answer().await.0];
    tags.sort_unstable();
    assert_eq!(tags, [1, 2]);
    assert_eq!(
        bench.store.history("slow"),
        [Status::InProgress, Status::Completed]
    );
}

#[tokio::test]
async fn what_gathers_while_the_store_is_busy_goes_out_as_one_batch() {
    let mut bench = Bench::patient();
    bench.store.set(Mode::Holds);
    for tag in 0..100 {
        bench.complete(tag, &attempt(&format!("job-{tag}")));
        while tag < MAX_BATCHES_IN_FLIGHT as u64 && bench.store.batches().len() <= tag as usize {
            tokio::task::yield_now().await;
        }
    }
    bench.store.set(Mode::Works);
    for _ in 0..100 {
        assert_eq!(bench.answer().await.1, Settle::Ack);
    }
    assert_eq!(bench.store.batches().len(), MAX_BATCHES_IN_FLIGHT + 1);
}

#[tokio::test]
async fn a_store_that_fails_gets_the_records_when_it_is_back() {
    for mode in [
        Mode::Fails(ErrorClass::Unavailable),
        Mode::Panics,
        Mode::Holds,
    ] {
        let mut bench = Bench::new();
        bench.store.set(mode);
        for tag in 0..20 {
            bench.complete(tag, &attempt(&format!("job-{tag}")));
            assert_eq!(bench.answer().await, (tag, Settle::Ack), "{mode:?}");
        }
        assert_eq!(bench.store.record("job-0"), None);
        bench.store.set(Mode::Works);
        for tag in 0..20 {
            bench
                .store
                .wait_for(&format!("job-{tag}"), Status::Completed)
                .await;
        }
        assert_eq!(bench.stats.report().results_spooled, 20);
        assert_eq!(bench.stats.report().results_lost, 0);
    }
}

#[tokio::test]
async fn a_store_that_only_answers_health_checks_delays_no_job_and_loses_no_record() {
    let mut bench = Bench::new();
    bench.store.set(Mode::OnlyAnswers);
    for tag in 0..50 {
        bench.complete(tag, &attempt(&format!("job-{tag}")));
        assert_eq!(bench.answer().await, (tag, Settle::Ack));
    }
    bench.store.set(Mode::Works);
    let (store, left) = bench.end().await;
    assert_eq!(left, 0);
    assert_eq!(store.record("job-49").unwrap().status, Status::Completed);
}

#[tokio::test]
async fn a_record_on_which_the_store_panics_does_not_stand_in_the_way_of_others() {
    let mut bench = Bench::new();
    bench.store.panic_on("bad");
    bench.complete(0, &attempt("bad"));
    bench.complete(1, &attempt("good"));
    bench.answer().await;
    bench.answer().await;
    bench.store.wait_for("good", Status::Completed).await;
    for tag in 2..10 {
        bench.complete(tag, &attempt("another"));
        bench.answer().await;
    }
    assert_eq!(bench.store.record("bad"), None);
}

#[tokio::test]
async fn a_result_that_is_too_large_leaves_a_failed_record() {
    let mut bench = Bench::new();
    bench.store.limit_results(4);
    bench.complete(1, &attempt("a"));
    assert_eq!(bench.answer().await, (1, Settle::Ack));
    let record = bench.store.record("a").unwrap();
    assert_eq!(record.status, Status::Failed);
    assert!(record.result.is_empty());
    let error = record.error.unwrap();
    assert!(
        error.starts_with("ResultRefused: the job ended completed"),
        "{error}"
    );
}

#[tokio::test]
async fn a_result_that_fits_without_the_arguments_stays() {
    let mut bench = Bench::new();
    bench.store.limit_results(6);
    bench.complete(1, &attempt("a"));
    bench.answer().await;
    let record = bench.store.record("a").unwrap();
    assert_eq!(
        (record.status, record.result.as_slice()),
        (Status::Completed, &b"12345"[..])
    );
    assert!(record.args.is_empty());
}

#[tokio::test]
async fn large_results_are_spread_over_several_calls() {
    let mut bench = Bench::new();
    let large = Payload::from(vec![b'1'; MAX_BATCH_BYTES / 4]);
    for tag in 0..10 {
        let ending = Ending {
            result: large.clone(),
            ..completed()
        };
        bench
            .sender
            .ended(attempt(&format!("job-{tag}")), ending, bench.acker(tag));
    }
    for _ in 0..10 {
        bench.answer().await;
    }
    assert_eq!(bench.store.batches(), [4, 4, 2]);
}

#[tokio::test]
async fn what_is_given_back_says_that_no_worker_runs_it() {
    let mut bench = Bench::new();
    let attempt = attempt("a");
    bench.sender.running(&attempt);
    bench.store.wait_for("a", Status::InProgress).await;
    bench.sender.given_back(attempt, bench.acker(7));
    assert_eq!(bench.answer().await, (7, Settle::Requeue));
    let record = bench.store.record("a").unwrap();
    assert_eq!(
        (record.status, record.worker.as_str()),
        (Status::InProgress, "")
    );
}

#[tokio::test]
async fn a_full_spool_leaves_messages_unanswered_until_the_store_is_back() {
    let mut bench = Bench::with_spooling(MemorySpool::new(1, usize::MAX), WhenFull::Stop);
    bench.store.set(Mode::Fails(ErrorClass::Unavailable));
    for tag in 0..3 {
        bench.complete(tag, &attempt(&format!("job-{tag}")));
    }
    assert_eq!(bench.answer().await, (0, Settle::Ack));
    let unanswered = tokio::time::timeout(Duration::from_millis(1_500), bench.answers.recv());
    assert!(unanswered.await.is_err());
    bench.store.set(Mode::Works);
    let mut answered = [bench.answer().await, bench.answer().await];
    answered.sort_by_key(|(tag, _)| *tag);
    assert_eq!(answered, [(1, Settle::Ack), (2, Settle::Ack)]);
    assert_eq!(bench.stats.report().results_lost, 0);
    let (store, left) = bench.end().await;
    assert_eq!(left, 0);
    for tag in 0..3 {
        assert!(store.record(&format!("job-{tag}")).is_some());
    }
}

#[tokio::test]
async fn what_found_no_safe_place_runs_again() {
    let mut bench = Bench::with_spooling(MemorySpool::new(1, usize::MAX), WhenFull::Stop);
    bench.store.set(Mode::Fails(ErrorClass::Unavailable));
    for tag in 0..2 {
        bench.complete(tag, &attempt(&format!("job-{tag}")));
    }
    assert_eq!(bench.answer().await, (0, Settle::Ack));
    let mut answers = std::mem::replace(&mut bench.answers, mpsc::unbounded_channel().1);
    bench.end().await;
    assert_eq!(answers.recv().await, Some((1, Settle::Requeue)));
}

#[tokio::test]
async fn jobs_go_on_without_room_for_records_where_that_is_asked_for() {
    let mut bench = Bench::with_spooling(MemorySpool::new(1, usize::MAX), WhenFull::Drop);
    bench.store.set(Mode::Fails(ErrorClass::Unavailable));
    for tag in 0..3 {
        bench.complete(tag, &attempt(&format!("job-{tag}")));
        assert_eq!(bench.answer().await, (tag, Settle::Ack));
    }
    assert_eq!(bench.stats.report().results_lost, 2);
    let (_, left) = bench.end().await;
    assert_eq!(left, 1);
}

#[tokio::test]
async fn a_record_on_which_the_store_panics_is_not_given_up() {
    let mut bench = Bench::new();
    bench.store.panic_on("bad");
    bench.complete(0, &attempt("bad"));
    bench.answer().await;
    for tag in 1..4 {
        bench.complete(tag, &attempt(&format!("good-{tag}")));
        bench.answer().await;
    }
    bench.store.wait_for("good-3", Status::Completed).await;
    assert_eq!(bench.stats.report().results_lost, 0);
    let (_, left) = bench.end().await;
    assert_eq!(left, 1);
}

#[tokio::test]
async fn an_old_ending_does_not_replace_a_job_that_was_sent_again() {
    let mut bench = Bench::new();
    bench.store.set(Mode::Fails(ErrorClass::Unavailable));
    bench.complete(0, &attempt("again"));
    bench.answer().await;
    // Meanwhile the id is used for another job, enqueued later.
    let later = warren_plugin_api::Record {
        job_id: "again".into(),
        enqueued_at: Some(Timestamp::now()),
        ..warren_plugin_api::Record::default()
    };
    bench.store.set(Mode::Works);
    let store = bench.store.open(Duration::from_secs(5));
    store.put(later.clone().into()).await.unwrap();
    let (store, left) = bench.end().await;
    assert_eq!(left, 0);
    assert_eq!(store.record("again").unwrap().status, Status::Queued);
}
