//! What a store's driver logs through `tracing` goes to the host's log.
//!
//! A plugin has its own copy of tracing's statics, which the host's subscriber never sees.

use std::fmt::{self, Write};

use tracing_core::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{HostContext, LogLevel};

/// Sends every event from here on to the host. The first store that a plugin opens sets this up;
/// a store that has set a subscriber of its own keeps it.
pub(crate) fn forward_to(host: &HostContext) {
    let forwarder = Forwarder { host: host.clone() };
    let _ = tracing_core::dispatcher::set_global_default(Dispatch::new(forwarder));
}

struct Forwarder {
    host: HostContext,
}

impl Subscriber for Forwarder {
    /// Drivers' finer lines are not worth a call over the boundary each.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let level = match *event.metadata().level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG => LogLevel::Debug,
            Level::TRACE => LogLevel::Trace,
        };
        let mut line = Line::default();
        event.record(&mut line);
        self.host
            .log(level, event.metadata().target(), &line.into_text());
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        // Spans are not enabled; the trait wants an id that is not zero all the same.
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

/// An event as one line: the message, then `name=value` for each field.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn into_text(mut self) -> String {
        self.message.push_str(&self.fields);
        self.message
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
