//! A message on its way out, and the frames that it is written in.
//!
//! Format: AMQP 0-9-1, section 2.3.5.2 (content) and `basic.publish`.

use lapin::{BasicProperties, protocol::basic::gen_properties};
use warren_plugin_api::Payload;

use super::{
    super::{
        convert,
        delay::Route,
        frame::{self, BODY, CONTENT_HEADER, METHOD},
    },
    unconfirmed::Returned,
};
use crate::broker::{Publish, QueueName};

/// What a message's frames have at most beside its body, its properties and its address.
const FRAMES_OVERHEAD: usize = 64;

const BASIC: u16 = 60;
const PUBLISH: u16 = 40;
/// What no queue takes comes back.
const MANDATORY: u8 = 1;

/// A message to a queue, now or later.
#[derive(Debug, Clone)]
pub(in super::super) struct Message {
    queue: QueueName,
    /// How it comes there; without one, at once.
    route: Option<Route>,
    /// As they are on the wire.
    properties: Vec<u8>,
    body: Payload,
}

impl Message {
    /// A message whose headers fit into frames of `frame_max` bytes.
    pub(in super::super) fn of_job(
        publish: &Publish,
        route: Option<Route>,
        frame_max: u32,
    ) -> Self {
        let properties = convert::properties(publish, frame_max);
        Self::new(
            publish.queue.clone(),
            route,
            &properties,
            publish.body.clone(),
        )
    }

    pub(in super::super) fn new(
        queue: QueueName,
        route: Option<Route>,
        properties: &BasicProperties,
        body: Payload,
    ) -> Self {
        Self {
            queue,
            route,
            properties: to_bytes(properties),
            body,
        }
    }

    pub(in super::super) const fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// Bytes of its frames, or a few more.
    pub(super) fn size_bytes(&self, frame_max: u32) -> usize {
        let bodies = self.body.len() / longest_payload(frame_max);
        FRAMES_OVERHEAD
            + self.exchange().len()
            + self.routing_key().len()
            + self.properties.len()
            + self.body.len()
            + bodies * frame::OVERHEAD
    }

    fn exchange(&self) -> &str {
        self.route.as_ref().map_or("", |route| &route.exchange)
    }

    fn routing_key(&self) -> &str {
        match &self.route {
            Some(route) => &route.routing_key,
            None => self.queue.as_str(),
        }
    }

    /// Whether this may be what came back.
    pub(super) fn is(&self, returned: &Returned) -> bool {
        self.routing_key().as_bytes() == returned.routing_key
            && self.exchange().as_bytes() == returned.exchange
            && self.body.as_slice() == returned.body
    }

    /// Appends the message's frames, none longer than `frame_max` bytes; 0 is any length.
    pub(super) fn write(&self, bytes: &mut Vec<u8>, channel: u16, frame_max: u32) {
        frame::append(bytes, METHOD, channel, |bytes| {
            bytes.extend(BASIC.to_be_bytes());
            bytes.extend(PUBLISH.to_be_bytes());
            bytes.extend([0, 0]);
            short_text(bytes, self.exchange());
            short_text(bytes, self.routing_key());
            bytes.push(MANDATORY);
        });
        frame::append(bytes, CONTENT_HEADER, channel, |bytes| {
            bytes.extend(BASIC.to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend((self.body.len() as u64).to_be_bytes());
            bytes.extend_from_slice(&self.properties);
        });
        for part in self.body.chunks(longest_payload(frame_max)) {
            frame::append(bytes, BODY, channel, |bytes| bytes.extend_from_slice(part));
        }
    }
}

fn longest_payload(frame_max: u32) -> usize {
    frame::longest_payload(usize::try_from(frame_max).unwrap_or(usize::MAX))
}

fn to_bytes(properties: &BasicProperties) -> Vec<u8> {
    match gen_properties(properties)(Vec::new().into()) {
        Ok(written) => written.into_inner().0,
        Err(error) => {
            // A vector takes whatever is written.
            tracing::error!(%error, "the properties of a message cannot be written");
            vec![0, 0]
        }
    }
}

/// Names of queues, and the routing keys made from them, are never longer than 255 bytes.
fn short_text(bytes: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(usize::from(u8::MAX))];
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use amq_protocol::{
        frame::{AMQPFrame, parse_frame},
        protocol::{AMQPClass, basic::AMQPMethod},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::broker::{HeaderValue, Headers};

    const FRAME_MAX: u32 = 4_096;

    /// What a broker reads: exchange, routing key, properties, body.
    fn read(mut bytes: &[u8]) -> (String, String, BasicProperties, Vec<u8>) {
        let mut next = || {
            let (rest, frame) = parse_frame(bytes).expect("a frame");
            assert!(bytes.len() - rest.len() <= FRAME_MAX as usize);
            bytes = rest;
            frame
        };
        let AMQPFrame::Method(7, AMQPClass::Basic(AMQPMethod::Publish(publish))) = next() else {
            panic!("no basic.publish");
        };
        assert!(publish.mandatory && !publish.immediate);
        let AMQPFrame::Header(7, header) = next() else {
            panic!("no content header");
        };
        let mut body = Vec::new();
        while (body.len() as u64) < header.body_size {
            let AMQPFrame::Body(7, part) = next() else {
                panic!("no body");
            };
            body.extend(part);
        }
        assert!(bytes.is_empty());
        let (exchange, key) = (
            publish.exchange.to_string(),
            publish.routing_key.to_string(),
        );
        (exchange, key, header.properties, body)
    }

    proptest! {
        #[test]
        fn frames_say_what_the_message_says(
            queue in "[a-z0-9.äß-]{1,80}",
            body in prop::collection::vec(any::<u8>(), 0..20_000),
            text in ".{0,200}",
            priority: u8,
            seconds in 0..1_000_u64,
        ) {
            let publish = Publish {
                queue: QueueName::new(&queue).unwrap(),
                body: Payload::from(&*body),
                headers: Headers::from([
                    ("x-retry-count", HeaderValue::Int(3)),
                    ("x-text", HeaderValue::Text(text)),
                ]),
                delay: std::time::Duration::from_secs(seconds),
                priority,
                from_warren: true,
            };
            let route = (seconds > 0)
                .then(|| crate::broker::amqp::delay::route(&publish.queue, publish.delay).unwrap());
            let address = match &route {
                Some(route) => (route.exchange.clone(), route.routing_key.clone()),
                None => (String::new(), queue),
            };
            let properties = convert::properties(&publish, FRAME_MAX);
            let message = Message::of_job(&publish, route, FRAME_MAX);
            let mut bytes = Vec::new();
            message.write(&mut bytes, 7, FRAME_MAX);
            prop_assert!(bytes.len() <= message.size_bytes(FRAME_MAX));
            let (exchange, key, read_properties, read_body) = read(&bytes);
            prop_assert_eq!((exchange, key), address);
            prop_assert_eq!(read_properties, properties);
            prop_assert_eq!(read_body, body);
        }
    }
}
