//! The messages that were sent on a channel and are not confirmed yet, and whose they are.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::oneshot;

use super::message::Message;
use crate::broker::BrokerError;

/// The broker's answers to the messages of one call, in their order.
pub(super) type Answers = Vec<Result<(), BrokerError>>;

/// In the order of their tags, which the broker counts from 1 on each channel.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    calls: VecDeque<Call>,
    last_tag: u64,
}

/// The messages of one call: their tags follow one another.
#[derive(Debug)]
struct Call {
    first_tag: u64,
    messages: Arc<Vec<Message>>,
    states: Vec<State>,
    /// All before this one are confirmed.
    confirmed_before: usize,
    /// So many are not confirmed.
    left: usize,
    done: Option<oneshot::Sender<Answers>>,
}

#[derive(Debug, Clone)]
enum State {
    UnderWay,
    /// It came back, and is confirmed next.
    Returned(BrokerError),
    Confirmed(Result<(), BrokerError>),
}

/// A message that came back.
#[derive(Debug, Default)]
pub(super) struct Returned {
    pub(super) reason: String,
    pub(super) exchange: Vec<u8>,
    pub(super) routing_key: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Unconfirmed {
    /// Adds the messages of a call, which are sent next. Where their answers come to: it ends
    /// without them only when this does.
    pub(super) fn add(&mut self, messages: Arc<Vec<Message>>) -> oneshot::Receiver<Answers> {
        let (done, answers) = oneshot::channel();
        let count = messages.len();
        let first_tag = self.last_tag + 1;
        self.last_tag += count as u64;
        let mut call = Call {
            first_tag,
            messages,
            states: vec![State::UnderWay; count],
            confirmed_before: 0,
            left: count,
            done: Some(done),
        };
        if count == 0 {
            call.answer();
        } else {
            self.calls.push_back(call);
        }
        answers
    }

    /// The broker has, or has not, taken a message.
    pub(super) fn confirm(&mut self, tag: u64, is_taken: bool) {
        let after = self.calls.partition_point(|call| call.first_tag <= tag);
        let call = after.checked_sub(1).and_then(|at| self.calls.get_mut(at));
        if let Some(call) = call
            && let Ok(place) = usize::try_from(tag - call.first_tag)
        {
            call.confirm(place, is_taken);
        }
        self.forget_confirmed();
    }

    /// As [`confirm`](Self::confirm), of all that are not confirmed up to that with this tag; 0 is
    /// all there are.
    pub(super) fn confirm_up_to(&mut self, tag: u64, is_taken: bool) {
        let tag = if tag == 0 { self.last_tag } else { tag };
        for call in &mut self.calls {
            if call.first_tag > tag {
                break;
            }
            let count = usize::try_from(tag - call.first_tag + 1).unwrap_or(usize::MAX);
            let count = count.min(call.states.len());
            for place in call.confirmed_before..count {
                call.confirm(place, is_taken);
            }
            call.confirmed_before = call.confirmed_before.max(count);
        }
        self.forget_confirmed();
    }

    /// Says of the first message that looks like it that it came back; `false` if there is none.
    ///
    /// Two that look alike are as good as each other. The broker confirms many messages at once,
    /// after several have come back, so that their order alone does not tell which they are.
    pub(super) fn mark_returned(&mut self, returned: &Returned) -> bool {
        for call in &mut self.calls {
            for (message, state) in call.messages.iter().zip(&mut call.states) {
                if matches!(state, State::UnderWay) && message.is(returned) {
                    *state = State::Returned(BrokerError::Unroutable {
                        queue: message.queue().to_string(),
                        reason: returned.reason.clone(),
                    });
                    return true;
                }
            }
        }
        false
    }

    /// No more confirmations will come: `error` says why.
    pub(super) fn end(self, error: &BrokerError) {
        for mut call in self.calls {
            for state in &mut call.states {
                if !matches!(state, State::Confirmed(_)) {
                    *state = State::Confirmed(Err(error.clone()));
                }
            }
            call.answer();
        }
    }

    fn forget_confirmed(&mut self) {
        while self.calls.front().is_some_and(|call| call.left == 0) {
            self.calls.pop_front();
        }
    }
}

impl Call {
    fn confirm(&mut self, place: usize, is_taken: bool) {
        let Some(state) = self.states.get_mut(place) else {
            return;
        };
        let answer = match std::mem::replace(state, State::UnderWay) {
            State::UnderWay if is_taken => Ok(()),
            State::UnderWay => Err(not_confirmed(&self.messages[place])),
            State::Returned(error) => Err(error),
            State::Confirmed(answer) => {
                *state = State::Confirmed(answer);
                return;
            }
        };
        *state = State::Confirmed(answer);
        self.left -= 1;
        if self.left == 0 {
            self.answer();
        }
    }

    fn answer(&mut self) {
        let states = std::mem::take(&mut self.states).into_iter();
        let answers = states.zip(self.messages.iter()).map(|it| match it {
            (State::Confirmed(answer), _) => answer,
            (State::Returned(error), _) => Err(error),
            (State::UnderWay, message) => Err(not_confirmed(message)),
        });
        if let Some(done) = self.done.take() {
            // Who does not listen any more has given up.
            let _ = done.send(answers.collect());
        }
    }
}

fn not_confirmed(message: &Message) -> BrokerError {
    BrokerError::NotConfirmed {
        queue: message.queue().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::*;
    use crate::broker::QueueName;

    fn message(queue: &str, body: &str) -> Message {
        let queue = QueueName::new(queue).unwrap();
        Message::new(queue, None, &BasicProperties::default(), body.into())
    }

    fn messages<const N: usize>(of: [(&str, &str); N]) -> Arc<Vec<Message>> {
        Arc::new(of.map(|(queue, body)| message(queue, body)).into())
    }

    fn returned(queue: &str, body: &str) -> Returned {
        Returned {
            reason: "NO_ROUTE".to_owned(),
            routing_key: queue.into(),
            body: body.into(),
            ..Returned::default()
        }
    }

    fn returned_to(queue: &str) -> Result<(), BrokerError> {
        Err(BrokerError::Unroutable {
            queue: queue.to_owned(),
            reason: "NO_ROUTE".to_owned(),
        })
    }

    fn refused_to(queue: &str) -> Result<(), BrokerError> {
        Err(BrokerError::NotConfirmed {
            queue: queue.to_owned(),
        })
    }

    #[test]
    fn each_call_is_answered_as_soon_as_its_own_messages_are_confirmed() {
        let mut unconfirmed = Unconfirmed::default();
        let mut first = unconfirmed.add(messages([("a", "1"), ("a", "2")]));
        let mut second = unconfirmed.add(messages([("b", "3")]));
        let mut third = unconfirmed.add(messages([("c", "4"), ("c", "5")]));
        unconfirmed.confirm(3, true);
        assert_eq!(second.try_recv(), Ok(vec![Ok(())]));
        unconfirmed.confirm(2, false);
        assert!(first.try_recv().is_err());
        // All up to the fourth; what was confirmed by itself stays as it is.
        unconfirmed.confirm_up_to(4, true);
        assert_eq!(first.try_recv(), Ok(vec![Ok(()), refused_to("a")]));
        assert!(third.try_recv().is_err());
        unconfirmed.confirm_up_to(0, true);
        assert_eq!(third.try_recv(), Ok(vec![Ok(()), Ok(())]));
        assert!(unconfirmed.calls.is_empty());
    }

    #[test]
    fn messages_that_came_back_are_told_apart_however_many_are_confirmed_at_once() {
        let mut unconfirmed = Unconfirmed::default();
        let sent = [("there", "1"), ("gone", "2"), ("there", "3"), ("gone", "4")];
        let mut answers = unconfirmed.add(messages(sent));
        assert!(unconfirmed.mark_returned(&returned("gone", "4")));
        assert!(unconfirmed.mark_returned(&returned("gone", "2")));
        assert!(!unconfirmed.mark_returned(&returned("gone", "2")));
        assert!(!unconfirmed.mark_returned(&returned("there", "4")));
        unconfirmed.confirm_up_to(4, true);
        let (there, gone) = (Ok(()), returned_to("gone"));
        let expected = vec![there.clone(), gone.clone(), there, gone];
        assert_eq!(answers.try_recv(), Ok(expected));
    }

    #[test]
    fn what_is_not_confirmed_at_the_end_says_why() {
        let mut unconfirmed = Unconfirmed::default();
        let mut answers = unconfirmed.add(messages([("a", "1"), ("a", "2")]));
        unconfirmed.confirm(1, true);
        unconfirmed.end(&BrokerError::Closed);
        assert_eq!(
            answers.try_recv(),
            Ok(vec![Ok(()), Err(BrokerError::Closed)])
        );
    }

    #[test]
    fn tags_that_nobody_has_are_nobodys() {
        let mut unconfirmed = Unconfirmed::default();
        for tag in [0, 1, u64::MAX] {
            unconfirmed.confirm(tag, true);
            unconfirmed.confirm_up_to(tag, true);
        }
        let mut answers = unconfirmed.add(messages([("a", "1")]));
        unconfirmed.confirm(u64::MAX, true);
        unconfirmed.confirm(0, true);
        assert!(answers.try_recv().is_err());
        let mut none = unconfirmed.add(messages([]));
        assert_eq!(none.try_recv(), Ok(vec![]));
    }
}
