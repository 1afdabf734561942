//! The message that carries a job: the JSON object of rabbitmq-arq.

use warren_plugin_api::{Payload, Status, Text, Timestamp};

use super::{
    JobId, MessageError, UnreadableMessage,
    message_fields::{Fields, Key},
};

/// The longest body that is read, in bytes: RabbitMQ 4's own limit.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// A job as it is sent.
///
/// `args`, `kwargs` and `result` are slices of the body that was read: never copied, never built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobMessage {
    /// The job's id.
    pub job_id: JobId,
    /// The name of the function to run.
    pub function: Text,
    /// A JSON array, possibly with the bare tokens `NaN`, `Infinity` and `-Infinity`.
    pub args: Payload,
    /// A JSON object, likewise.
    pub kwargs: Payload,
    /// 1-based attempt as the body says it; see [`attempt`](super::attempt).
    pub job_try: i64,
    /// When a client accepted the job.
    pub enqueue_time: Timestamp,
    /// When the previous attempt started.
    pub start_time: Option<Timestamp>,
    /// When the previous attempt ended.
    pub end_time: Option<Timestamp>,
    /// `queued`, or how the previous attempt ended.
    pub status: Status,
    /// Not used on the wire; empty when `null`.
    pub result: Payload,
    /// The error of the previous attempt.
    pub error: Option<Text>,
    /// The queue that the producer named. The queue it came from may be another one.
    pub queue_name: Text,
    /// Not to be run before this time.
    pub defer_until: Option<Timestamp>,
    /// Not to be run after this time.
    pub expires: Option<Timestamp>,
    /// Whether the message itself says its id and its time: of one that does not, each delivery
    /// looks like another job.
    pub is_identified: bool,
}

impl JobMessage {
    /// A new job: first attempt, `queued`, accepted now, no delay, no expiry.
    pub fn new(job_id: JobId, function: impl Into<Text>, queue_name: impl Into<Text>) -> Self {
        Self {
            job_id,
            function: function.into(),
            args: Payload::from("[]"),
            kwargs: Payload::from("{}"),
            job_try: 1,
            enqueue_time: Timestamp::now(),
            start_time: None,
            end_time: None,
            status: Status::Queued,
            result: Payload::empty(),
            error: None,
            queue_name: queue_name.into(),
            defer_until: None,
            expires: None,
            is_identified: true,
        }
    }

    /// Reads a body of at most [`MAX_BODY_BYTES`]. What a body leaves out gets the defaults of the
    /// Python worker: a fresh id, no arguments, the first attempt, `received` as the time.
    ///
    /// # Errors
    /// A body that is no job, with as much of it as could be read.
    pub fn parse(body: &Payload, received: Timestamp) -> Result<Self, Box<UnreadableMessage>> {
        Self::parse_limited(body, received, MAX_BODY_BYTES)
    }

    /// As [`parse`](Self::parse), with a limit of one's own in bytes.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_limited(
        body: &Payload,
        received: Timestamp,
        max_bytes: usize,
    ) -> Result<Self, Box<UnreadableMessage>> {
        let bytes = body.as_slice();
        let head = &bytes[..bytes.len().min(max_bytes)];
        let (fields, syntax) = Fields::find(head);
        let message = if bytes.len() > max_bytes {
            Err(MessageError::TooLarge {
                found: bytes.len(),
                limit: max_bytes,
            })
        } else if let Err(error) = std::str::from_utf8(bytes) {
            Err(MessageError::NotUtf8 {
                offset: error.valid_up_to(),
            })
        } else {
            syntax
                .map_err(MessageError::from)
                .and_then(|()| Self::read(body, &fields, received))
        };
        message.map_err(|error| {
            Box::new(UnreadableMessage {
                error,
                job_id: salvage(&fields, Key::JobId).and_then(|id| JobId::new(id).ok()),
                function: salvage(&fields, Key::Function),
                queue_name: salvage(&fields, Key::QueueName),
            })
        })
    }

    fn read(
        body: &Payload,
        fields: &Fields<'_>,
        received: Timestamp,
    ) -> Result<Self, MessageError> {
        let slice = |range: Option<std::ops::Range<usize>>, default: &str| match range {
            Some(range) => body.slice(range),
            None => Payload::from(default),
        };
        let required = |key: Key| {
            fields
                .string(key)?
                .ok_or(MessageError::Missing { key: key.as_str() })
        };
        Ok(Self {
            job_id: job_id(fields)?,
            function: required(Key::Function)?,
            args: slice(fields.container(Key::Args, b'[', "an array")?, "[]"),
            kwargs: slice(fields.container(Key::Kwargs, b'{', "an object")?, "{}"),
            job_try: fields.integer(Key::JobTry)?.unwrap_or(1),
            enqueue_time: fields.time(Key::EnqueueTime)?.unwrap_or(received),
            start_time: fields.nullable_time(Key::StartTime)?,
            end_time: fields.nullable_time(Key::EndTime)?,
            status: fields.status(Key::Status)?.unwrap_or_default(),
            result: match fields.range(Key::Result) {
                Some(range) if body.get(range.clone()) != Some(b"null") => body.slice(range),
                _ => Payload::empty(),
            },
            error: fields.nullable_string(Key::Error)?,
            queue_name: required(Key::QueueName)?,
            defer_until: fields.nullable_time(Key::DeferUntil)?,
            expires: fields.nullable_time(Key::Expires)?,
            is_identified: [Key::JobId, Key::EnqueueTime]
                .into_iter()
                .all(|key| fields.range(key).is_some()),
        })
    }

    /// The body: all 14 keys in Python's order and spacing, text unescaped.
    ///
    /// `args`, `kwargs` and `result` are written as they are and must be well-formed JSON.
    pub fn to_body(&self) -> Payload {
        const FIXED_BYTES: usize = 512;
        let texts = self.error.as_ref().map_or(0, |error| error.len());
        let mut body = Vec::with_capacity(
            FIXED_BYTES + self.args.len() + self.kwargs.len() + self.result.len() + texts,
        );
        let mut object = ObjectWriter { body: &mut body };
        object.string(Key::JobId, self.job_id.as_str());
        object.string(Key::Function, &self.function);
        object.raw(
            Key::Args,
            if self.args.is_empty() {
                b"[]"
            } else {
                &self.args
            },
        );
        object.raw(
            Key::Kwargs,
            if self.kwargs.is_empty() {
                b"{}"
            } else {
                &self.kwargs
            },
        );
        object.raw(Key::JobTry, self.job_try.to_string().as_bytes());
        object.time(Key::EnqueueTime, Some(self.enqueue_time));
        object.time(Key::StartTime, self.start_time);
        object.time(Key::EndTime, self.end_time);
        object.string(Key::Status, self.status.as_str());
        object.raw(
            Key::Result,
            if self.result.is_empty() {
                b"null"
            } else {
                &self.result
            },
        );
        match &self.error {
            Some(error) => object.string(Key::Error, error),
            None => object.raw(Key::Error, b"null"),
        }
        object.string(Key::QueueName, &self.queue_name);
        object.time(Key::DeferUntil, self.defer_until);
        object.time(Key::Expires, self.expires);
        body.push(b'}');
        Payload::from(body)
    }
}

/// The id that a message names, or a fresh one.
fn job_id(fields: &Fields<'_>) -> Result<JobId, MessageError> {
    let Some(id) = fields.string(Key::JobId)? else {
        return Ok(JobId::random());
    };
    JobId::new(id).map_err(|error| MessageError::Invalid {
        key: Key::JobId.as_str(),
        expected: "a text of 1 to 1024 bytes",
        found: error.to_string(),
    })
}

/// A string of a message that is unreadable otherwise, if it is there and of a sane length.
fn salvage(fields: &Fields<'_>, key: Key) -> Option<Text> {
    fields
        .string(key)
        .ok()
        .flatten()
        .filter(|text| text.len() <= JobId::MAX_BYTES)
}

/// Writes the members of an object in Python's spacing.
struct ObjectWriter<'a> {
    body: &'a mut Vec<u8>,
}

impl ObjectWriter<'_> {
    fn raw(&mut self, key: Key, value: &[u8]) {
        self.body.extend_from_slice(if self.body.is_empty() {
            b"{\""
        } else {
            b", \""
        });
        self.body.extend_from_slice(key.as_str().as_bytes());
        self.body.extend_from_slice(b"\": ");
        self.body.extend_from_slice(value);
    }

    fn string(&mut self, key: Key, value: &str) {
        self.raw(key, b"");
        // Writing a string to a vector has no way to fail.
        if serde_json::to_writer(&mut *self.body, value).is_err() {
            self.body.extend_from_slice(b"\"\"");
        }
    }

    fn time(&mut self, key: Key, time: Option<Timestamp>) {
        match time {
            Some(time) => self.string(key, &time.to_string()),
            None => self.raw(key, b"null"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECEIVED: Timestamp = Timestamp::from_unix_us(1_700_000_000_000_000);

    /// Captured from rabbitmq-arq 0.2.2.
    const CAPTURED: &str = r#"{"job_id": "spec-plain-1", "function": "add", "args": [2, 3], "kwargs": {}, "job_try": 1, "enqueue_time": "2026-11-24T00:32:30.524654+00:00", "start_time": null, "end_time": null, "status": "queued", "result": null, "error": null, "queue_name": "spec_q1", "defer_until": null, "expires": "2026-11-25T00:32:30.524530+00:00"}"#;

    fn parse(body: &str) -> Result<JobMessage, Box<UnreadableMessage>> {
        JobMessage::parse(&Payload::from(body), RECEIVED)
    }

    #[test]
    fn what_python_sends_is_read_and_written_byte_for_byte() {
        let message = parse(CAPTURED).unwrap();
        assert_eq!(message.job_id.as_str(), "spec-plain-1");
        assert_eq!(message.args.as_slice(), b"[2, 3]");
        assert_eq!(String::from_utf8_lossy(&message.to_body()), CAPTURED);
    }

    #[test]
    fn two_keys_are_enough() {
        let message = parse(r#"{"function":"add","queue_name":"q"}"#).unwrap();
        assert_eq!(message.job_id.as_str().len(), 32);
        assert_eq!(
            (message.args.as_slice(), message.kwargs.as_slice()),
            (&b"[]"[..], &b"{}"[..])
        );
        assert_eq!((message.job_try, message.status), (1, Status::Queued));
        assert_eq!(message.enqueue_time, RECEIVED);
        assert!(!message.is_identified);
        let named = parse(r#"{"function":"add","queue_name":"q","job_id":"j"}"#).unwrap();
        assert!(!named.is_identified, "another job may have the same id");
        let sent_on = JobMessage::parse(&message.to_body(), RECEIVED).unwrap();
        assert!(sent_on.is_identified);
    }

    #[test]
    fn arguments_are_slices_of_the_body_and_may_hold_nan() {
        let body = Payload::from(
            r#"{"queue_name":"q","function":"f","args":[NaN,-Infinity],"kwargs":{"a":Infinity}}"#,
        );
        let message = JobMessage::parse(&body, RECEIVED).unwrap();
        assert_eq!(message.args.as_slice(), b"[NaN,-Infinity]");
        assert_eq!(message.kwargs.as_slice(), b"{\"a\":Infinity}");
        assert!(
            body.as_slice()
                .as_ptr_range()
                .contains(&message.args.as_slice().as_ptr())
        );
    }

    #[test]
    fn is_as_lenient_as_the_python_worker() {
        let accepted = [
            r#""job_try": "2""#,
            r#""job_try": 0"#,
            r#""job_try": 2.0"#,
            r#""enqueue_time": 1700000000"#,
            r#""enqueue_time": "2026-01-01 00:00:00""#,
            r#""defer_until": "2026-01-01T00:00:00.123456789Z""#,
            r#""expires": "1700000000.5""#,
            r#""result": {"anything": [1]}"#,
            r#""unknown": {"key": 1}"#,
            r#""args": null, "args": [1]"#,
        ];
        for member in accepted {
            let body = format!(r#"{{"function":"f","queue_name":"q",{member}}}"#);
            assert!(
                parse(&body).is_ok(),
                "{member}: {}",
                parse(&body).unwrap_err()
            );
        }
        let rejected = [
            r#""job_id": 7"#,
            r#""job_id": null"#,
            r#""job_id": """#,
            r#""args": null"#,
            r#""args": {}"#,
            r#""kwargs": null"#,
            r#""kwargs": []"#,
            r#""job_try": null"#,
            r#""job_try": "two""#,
            r#""job_try": 1.5"#,
            r#""enqueue_time": null"#,
            r#""enqueue_time": "yesterday""#,
            r#""start_time": true"#,
            r#""status": "done""#,
            r#""error": 5"#,
            r#""function": "\ud800""#,
            r#""queue_name": null"#,
        ];
        for member in rejected {
            let body = format!(r#"{{"function":"f","queue_name":"q",{member}}}"#);
            assert!(parse(&body).is_err(), "{member}");
        }
    }

    #[test]
    fn an_unreadable_message_keeps_what_can_be_read() {
        let unreadable =
            parse(r#"{"job_id":"j","function":"f","queue_name":"q","args":null}"#).unwrap_err();
        assert_eq!(
            unreadable.to_string(),
            "the message's \"args\" is null: expected an array"
        );
        assert_eq!(unreadable.job_id.unwrap().as_str(), "j");
        assert_eq!(unreadable.function.unwrap(), "f");
        assert_eq!(unreadable.queue_name.unwrap(), "q");

        let cut_off = parse(r#"{"job_id":"j","function":"f","args":[1,"#).unwrap_err();
        assert_eq!(cut_off.job_id.unwrap().as_str(), "j");
        assert!(cut_off.error.is_syntax());
    }

    #[test]
    fn a_body_that_is_too_large_or_not_utf8_keeps_its_id() {
        let large = format!(
            r#"{{"job_id":"j","function":"f","queue_name":"q","args":["{}"]}}"#,
            "x".repeat(200)
        );
        let error = JobMessage::parse_limited(&Payload::from(large), RECEIVED, 100).unwrap_err();
        assert!(matches!(
            error.error,
            MessageError::TooLarge { limit: 100, .. }
        ));
        assert_eq!(error.job_id.unwrap().as_str(), "j");

        let mut bytes = br#"{"job_id":"j","args":["?"]}"#.to_vec();
        bytes[23] = 0xff;
        let error = JobMessage::parse(&Payload::from(bytes), RECEIVED).unwrap_err();
        assert_eq!(error.error, MessageError::NotUtf8 { offset: 23 });
        assert_eq!(error.job_id.unwrap().as_str(), "j");
    }

    fn any_message() -> impl Strategy<Value = JobMessage> {
        let time = || {
            (-62_135_596_800_000_000i64..253_402_300_800_000_000).prop_map(Timestamp::from_unix_us)
        };
        let text = || "\\PC{0,20}|[\"\\\\\n\t\u{0}-\u{1f}]{0,5}".prop_map(Text::from);
        let args = prop_oneof![Just("[]"), Just("[1, NaN]"), Just(r#"[{"a": "\ud800"}]"#)];
        let times = (
            time(),
            prop::option::of(time()),
            prop::option::of(time()),
            prop::option::of(time()),
        );
        let status = prop::sample::select(Status::ALL.to_vec());
        (
            "\\PC{1,40}",
            text(),
            args,
            any::<i64>(),
            times,
            status,
            prop::option::of(text()),
            text(),
        )
            .prop_map(
                |(
                    id,
                    function,
                    args,
                    job_try,
                    (enqueued, start, defer, expires),
                    status,
                    error,
                    queue,
                )| JobMessage {
                    args: Payload::from(args),
                    job_try,
                    enqueue_time: enqueued,
                    start_time: start,
                    status,
                    error,
                    defer_until: defer,
                    expires,
                    ..JobMessage::new(JobId::new(id).unwrap(), function, queue)
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(message in any_message()) {
            prop_assert_eq!(JobMessage::parse(&message.to_body(), RECEIVED).unwrap(), message);
        }

        #[test]
        fn no_body_panics(bytes: Vec<u8>, text in "[{}\\[\\]:,\"a-z_0-9 ]{0,60}") {
            let _ = JobMessage::parse(&Payload::from(bytes), RECEIVED);
            let _ = JobMessage::parse(&Payload::from(text), RECEIVED);
        }

        #[test]
        fn no_damage_panics_or_loses_the_id(at in 30usize..300, byte: u8) {
            let mut bytes = CAPTURED.as_bytes().to_vec();
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            if let Err(error) = JobMessage::parse(&Payload::from(bytes), RECEIVED) {
                prop_assert_eq!(error.job_id.as_ref().map(JobId::as_str), Some("spec-plain-1"));
            }
        }
    }
}
