//! A worker's figures in Prometheus' text format. docs/operations.md lists them.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, prometheus_text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};

use super::report::HealthReport;
use crate::{
    broker::ConnectionState,
    figures::Histogram,
    store::{Breaker, BreakerState, Store},
    worker::live::{Live, is_up},
};

pub(super) fn encode(live: &Arc<Live>) -> String {
    let mut registry = Registry::with_prefix("warren");
    registry.register_collector(Box::new(Figures(Arc::clone(live))));
    let mut text = String::new();
    // Writing into a text cannot fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Figures(Arc<Live>);

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        let live = &*self.0;
        worker(live, &mut families)?;
        jobs(live, &mut families)?;
        results(live, &mut families)?;
        stores(live, &mut families)
    }
}

/// Names and values.
type Labels<'a> = [(&'static str, &'a str)];

/// Writes families of metrics.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            let labels: &Labels = &labels;
            let mut metric = family.encode_family(&labels)?;
            metric.encode_counter(&value, None::<&Exemplar<NoLabelSet, u64>>)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [([], value)])
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, &'l str); N], f64)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            let labels: &Labels = &labels;
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Into<f64>) -> fmt::Result {
        self.gauges(name, help, [([], value.into())])
    }

    fn histograms<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, &'l str); N], Histogram)>,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            let labels: &Labels = &labels;
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(
                value.sum_seconds,
                value.count,
                &value.buckets,
                None,
            )?;
        }
        Ok(())
    }
}

fn worker(live: &Live, families: &mut Families) -> fmt::Result {
    let report = HealthReport::of(live);
    let labels = [("worker", &*report.worker), ("version", report.version)];
    families.gauges("worker_info", "Which worker this is", [(labels, 1.0)])?;
    families.gauge(
        "worker_ready",
        "Whether it takes jobs: 1 or 0",
        u8::from(report.ready),
    )?;
    families.gauge(
        "worker_start_time_seconds",
        "When it was set up, in seconds since 1970",
        live.started_at.unix_us() as f64 / 1e6,
    )?;
    families.gauge(
        "broker_connected",
        "Whether the broker is there: 1 or 0",
        u8::from(is_up(report.broker.state)),
    )?;
    families.gauge(
        "broker_blocked",
        "Whether the broker takes no messages: 1 or 0",
        u8::from(report.broker.state == ConnectionState::Blocked),
    )?;
    families.counter(
        "broker_connection_losses",
        "How often the connection to the broker was lost",
        report.broker.connection_losses,
    )?;
    families.gauge(
        "spool_records",
        "Results that wait in the spool",
        report.spool.records as f64,
    )?;
    families.gauge(
        "spool_bytes",
        "Bytes that the spool occupies",
        report.spool.bytes as f64,
    )
}

fn jobs(live: &Live, families: &mut Families) -> fmt::Result {
    let counts = live.stats.report();
    families.gauge("jobs_running", "Jobs that run now", counts.running as f64)?;
    families.gauge(
        "jobs_concurrency",
        "Jobs that may run at once",
        live.concurrency as f64,
    )?;
    let outcomes = live.functions.jobs().flat_map(|(function, jobs)| {
        [
            ("completed", &jobs.completed),
            ("failed", &jobs.failed),
            ("retried", &jobs.retried),
            ("aborted", &jobs.aborted),
        ]
        .map(|(outcome, count)| ([("function", function), ("outcome", outcome)], count.get()))
    });
    families.counters("jobs", "Attempts by function and outcome", outcomes)?;
    let durations = live
        .functions
        .jobs()
        .filter(|(function, _)| !function.is_empty());
    families.histograms(
        "job_duration_seconds",
        "How long attempts ran",
        durations.map(|(function, jobs)| ([("function", function)], jobs.durations.histogram())),
    )?;
    families.counter(
        "redeliveries",
        "Messages that had been handed over before",
        counts.redelivered,
    )?;
    let messages = [
        ("requeued", counts.requeued),
        ("deferred", counts.deferred),
        ("dead_lettered", counts.dead_lettered),
        ("already_ended", counts.already_ended),
    ];
    families.counters(
        "messages",
        "Messages that were not simply run and acknowledged, by what was done with them",
        messages.map(|(what, count)| ([("what", what)], count)),
    )?;
    families.counter(
        "hook_failures",
        "Hooks that failed, panicked or took too long",
        counts.hook_failures,
    )
}

fn results(live: &Live, families: &mut Families) -> fmt::Result {
    let counts = live.stats.report();
    let results = [
        ("stored", counts.results_stored),
        ("spooled", counts.results_spooled),
        ("replayed", counts.results_replayed),
        ("refused", counts.results_refused),
        ("lost", counts.results_lost),
    ];
    families.counters(
        "results",
        "Results by what became of them; one that was spooled is replayed later",
        results.map(|(what, count)| ([("what", what)], count)),
    )?;
    families.gauge(
        "results_without_room",
        "Results that neither the store nor the spool takes",
        counts.results_waiting as f64,
    )
}

/// A store and what stands for it in labels: its type, or its path in a composition.
struct Labelled<'a> {
    label: String,
    store: &'a Store,
    breaker: &'a Breaker,
}

/// The store, and the stores that it is made of.
fn all_stores(live: &Live) -> Vec<Labelled<'_>> {
    fn add_members<'a>(of: &str, store: &'a Store, all: &mut Vec<Labelled<'a>>) {
        for member in store.members() {
            let label = format!("{of}/{} ({})", member.part, member.store.name());
            add_members(&label, &member.store, all);
            all.push(Labelled {
                label,
                store: &member.store,
                breaker: &member.breaker,
            });
        }
    }
    let mut all = vec![Labelled {
        label: live.store.name().to_owned(),
        store: &live.store,
        breaker: &live.breaker,
    }];
    add_members(live.store.name(), &live.store, &mut all);
    all
}

fn stores(live: &Live, families: &mut Families) -> fmt::Result {
    let all = all_stores(live);
    let durations = all.iter().flat_map(|it| {
        let durations = it.store.calls().durations();
        durations.map(|(operation, histogram)| {
            let labels = [("store", &*it.label), ("operation", operation)];
            (labels, histogram)
        })
    });
    families.histograms(
        "store_call_duration_seconds",
        "How long calls of the store took",
        durations,
    )?;
    let errors = all.iter().flat_map(|it| {
        let errors = it.store.calls().errors();
        errors.map(|(operation, class, count)| {
            let labels = [
                ("store", &*it.label),
                ("operation", operation),
                ("class", class),
            ];
            (labels, count)
        })
    });
    families.counters(
        "store_call_errors",
        "Calls of the store that failed, by class of error",
        errors,
    )?;
    let each = |count: fn(&Labelled) -> u64| {
        all.iter()
            .map(move |it| ([("store", &*it.label)], count(it)))
    };
    families.counters(
        "store_calls_timed_out",
        "Calls of the store that gave no answer within the deadline",
        each(|it| it.store.calls().timed_out.get()),
    )?;
    families.counters(
        "store_calls_busy",
        "Calls of the store whose turn did not come within the deadline",
        each(|it| it.store.calls().busy.get()),
    )?;
    families.gauges(
        "store_calls_in_flight",
        "Calls of the store that are under way",
        each(|it| it.store.calls_in_flight()).map(|(labels, count)| (labels, count as f64)),
    )?;
    breakers(&all, families)
}

fn breakers(all: &[Labelled], families: &mut Families) -> fmt::Result {
    let reports: Vec<_> = all
        .iter()
        .map(|it| (&*it.label, it.breaker.report()))
        .collect();
    let states = [
        BreakerState::Closed,
        BreakerState::HalfOpen,
        BreakerState::Open,
    ];
    let states = reports.iter().flat_map(|(label, report)| {
        states.map(|state| {
            let labels = [("store", *label), ("state", state.as_str())];
            (labels, f64::from(u8::from(report.state == state)))
        })
    });
    families.gauges(
        "store_breaker",
        "Whether the store's breaker is in this state: 1 or 0",
        states,
    )?;
    families.counters(
        "store_breaker_opened",
        "How often the store was found to be failing",
        reports
            .iter()
            .map(|(label, report)| ([("store", *label)], report.opened)),
    )?;
    families.counters(
        "store_calls_refused",
        "Calls of the store that were not made while it was failing",
        reports
            .iter()
            .map(|(label, report)| ([("store", *label)], report.refused)),
    )
}
