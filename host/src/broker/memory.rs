//! A broker inside this process, for demos, tests and embedding: the same behaviour as RabbitMQ,
//! nothing durable.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use once_cell::sync::Lazy;
use tokio::sync::{Notify, mpsc, watch};
use warren_plugin_api::Payload;

use super::{
    AbortRequest, Acker, Announced, BrokerError, CompletionReceiver, ConnectionState, Control,
    ControlReceiver, Delivery, Headers, Interest, Publish, QueueInfo, QueueName, Settle,
    completions::{self, Word},
    control::BACKLOG,
    delivery::SettleDelivery,
};

/// One broker; clones share it, and so does everyone in this process who connects by its name.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBroker {
    shared: Arc<Shared>,
    dead_letter_suffix: String,
    state: watch::Sender<ConnectionState>,
}

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<BTreeMap<QueueName, Queue>>,
    /// Woken whenever a message becomes ready or a consumer gets room.
    changed: Notify,
    /// Who is told what every worker is told.
    workers: Mutex<Vec<mpsc::Sender<Control>>>,
    /// Who waits for jobs.
    listeners: Mutex<Vec<Listener>>,
}

/// A client that waits for jobs.
#[derive(Debug)]
struct Listener {
    interest: watch::Receiver<Interest>,
    /// Gone with the client.
    sender: mpsc::WeakSender<Announced>,
    /// It was too far behind to be told something.
    missed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<Message>,
    consumers: u64,
}

#[derive(Debug, Clone)]
struct Message {
    body: Payload,
    headers: Headers,
    priority: u8,
    from_warren: bool,
    redelivered: bool,
}

static BY_NAME: Lazy<Mutex<HashMap<String, Arc<Shared>>>> = Lazy::new(Mutex::default);

impl MemoryBroker {
    pub(crate) fn named(name: &str, dead_letter_suffix: &str) -> Self {
        let mut brokers = BY_NAME.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = Arc::clone(brokers.entry(name.to_owned()).or_default());
        Self {
            shared,
            dead_letter_suffix: dead_letter_suffix.to_owned(),
            state: watch::Sender::new(ConnectionState::Connected),
        }
    }

    pub(crate) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    pub(crate) fn dead_letter_suffix(&self) -> &str {
        &self.dead_letter_suffix
    }

    fn check_open(&self) -> Result<(), BrokerError> {
        match *self.state.borrow() {
            ConnectionState::Closed => Err(BrokerError::Closed),
            _ => Ok(()),
        }
    }

    pub(crate) fn declare(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.check_open()?;
        let dead_letters = queue.dead_letter_queue(&self.dead_letter_suffix);
        let mut queues = self.shared.lock();
        queues.entry(queue.clone()).or_default();
        queues.entry(dead_letters).or_default();
        Ok(())
    }

    pub(crate) fn publish(&self, publish: Publish) -> Result<(), BrokerError> {
        self.check_open()?;
        let Publish {
            queue,
            body,
            headers,
            delay,
            priority,
            from_warren,
        } = publish;
        let message = Message {
            body,
            headers,
            priority,
            from_warren,
            redelivered: false,
        };
        if delay.is_zero() {
            return self.shared.push(&queue, message);
        }
        if !self.shared.lock().contains_key(&queue) {
            return Err(unroutable(&queue));
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // Only a queue that was deleted meanwhile refuses, and it takes its messages along.
            let _ = shared.push(&queue, message);
        });
        Ok(())
    }

    pub(crate) fn consume(
        &self,
        queues: &[QueueName],
        prefetch: u16,
    ) -> Result<MemoryConsumer, BrokerError> {
        self.check_open()?;
        let mut known = self.shared.lock();
        for queue in queues {
            let known_queue = known
                .get_mut(queue)
                .ok_or_else(|| BrokerError::NoSuchQueue {
                    queue: queue.to_string(),
                })?;
            known_queue.consumers += 1;
        }
        drop(known);
        Ok(MemoryConsumer {
            queues: queues.to_vec(),
            next_queue: 0,
            unacked: Arc::new(Unacked {
                broker: Arc::clone(&self.shared),
                room: usize::from(prefetch.max(1)),
                messages: Mutex::default(),
            }),
            stopped: watch::Sender::new(false),
            closed: self.state.subscribe(),
        })
    }

    pub(crate) fn fetch(
        &self,
        queue: &QueueName,
        max: usize,
    ) -> Result<Vec<Delivery>, BrokerError> {
        self.check_open()?;
        let unacked = Arc::new(Unacked {
            broker: Arc::clone(&self.shared),
            room: max,
            messages: Mutex::default(),
        });
        let mut queues = self.shared.lock();
        let found = queues
            .get_mut(queue)
            .ok_or_else(|| BrokerError::NoSuchQueue {
                queue: queue.to_string(),
            })?;
        let count = max.min(found.ready.len());
        Ok(found
            .ready
            .drain(..count)
            .map(|message| Unacked::hand_over(&unacked, queue, message))
            .collect())
    }

    pub(crate) fn queue_info(&self, queue: &QueueName) -> Result<Option<QueueInfo>, BrokerError> {
        self.check_open()?;
        Ok(self.shared.lock().get(queue).map(|queue| QueueInfo {
            ready: queue.ready.len() as u64,
            consumers: queue.consumers,
        }))
    }

    pub(crate) fn purge(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.check_open()?;
        let mut queues = self.shared.lock();
        let found = queues
            .get_mut(queue)
            .ok_or_else(|| BrokerError::NoSuchQueue {
                queue: queue.to_string(),
            })?;
        Ok(std::mem::take(&mut found.ready).len() as u64)
    }

    pub(crate) fn request_abort(&self, request: &AbortRequest) -> Result<(), BrokerError> {
        self.check_open()?;
        let mut workers = self.shared.workers();
        // One that is so far behind misses it, as it would a lost connection's.
        workers.retain(|worker| {
            let told = worker.try_send(Control::Abort(request.clone()));
            !matches!(told, Err(mpsc::error::TrySendError::Closed(_)))
        });
        Ok(())
    }

    pub(crate) fn control(&self) -> ControlReceiver {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        // There is room for the first.
        let _ = sender.try_send(Control::Up);
        self.shared.workers().push(sender);
        ControlReceiver { receiver }
    }

    pub(crate) fn announce(&self, words: impl Iterator<Item = Word>) {
        if self.check_open().is_err() {
            return;
        }
        let words: Vec<Word> = words.collect();
        self.shared.listeners().retain(|listener| {
            let Some(sender) = listener.sender.upgrade() else {
                return false;
            };
            let interest = *listener.interest.borrow();
            let concerned = words.iter().filter(|word| word.concerns.meets(interest));
            let jobs: Vec<_> = concerned.map(|word| word.job_id.clone()).collect();
            if !jobs.is_empty() && sender.try_send(Announced::Jobs(jobs)).is_err() {
                listener.missed.notify_one();
            }
            true
        });
    }

    pub(crate) fn completions(
        &self,
        mut interest: watch::Receiver<Interest>,
    ) -> CompletionReceiver {
        let (sender, receiver) = mpsc::channel(completions::BACKLOG);
        let missed = Arc::new(Notify::new());
        self.shared.listeners().push(Listener {
            interest: interest.clone(),
            sender: sender.downgrade(),
            missed: Arc::clone(&missed),
        });
        let mut state = self.state.subscribe();
        tokio::spawn(async move {
            // What is wanted counts from the moment it is said.
            while completions::is_wanted(&mut interest).await {
                let wanted = *interest.borrow_and_update();
                if sender.send(Announced::Up(wanted)).await.is_err() {
                    return;
                }
                tokio::select! {
                    changed = interest.changed() => if changed.is_err() { return },
                    () = missed.notified() => {}
                    () = sender.closed() => return,
                    _ = state.wait_for(|state| *state == ConnectionState::Closed) => return,
                }
            }
        });
        CompletionReceiver { receiver }
    }

    pub(crate) fn close(&self) {
        self.state.send_replace(ConnectionState::Closed);
        self.shared.changed.notify_waiters();
    }
}

fn unroutable(queue: &QueueName) -> BrokerError {
    BrokerError::Unroutable {
        queue: queue.to_string(),
        reason: "no such queue".to_owned(),
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<QueueName, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> MutexGuard<'_, Vec<mpsc::Sender<Control>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, queue: &QueueName, message: Message) -> Result<(), BrokerError> {
        self.lock()
            .get_mut(queue)
            .ok_or_else(|| unroutable(queue))?
            .ready
            .push_back(message);
        self.changed.notify_waiters();
        Ok(())
    }

    fn put_back(&self, queue: &QueueName, mut message: Message) {
        message.redelivered = true;
        if let Some(queue) = self.lock().get_mut(queue) {
            queue.ready.push_front(message);
        }
        self.changed.notify_waiters();
    }
}

/// What one consumer has received and not answered.
#[derive(Debug)]
struct Unacked {
    broker: Arc<Shared>,
    room: usize,
    messages: Mutex<UnackedMessages>,
}

#[derive(Debug, Default)]
struct UnackedMessages {
    last_tag: u64,
    by_tag: BTreeMap<u64, (QueueName, Message)>,
}

impl Unacked {
    fn lock(&self) -> MutexGuard<'_, UnackedMessages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self) -> bool {
        self.lock().by_tag.len() < self.room
    }

    fn hand_over(this: &Arc<Self>, queue: &QueueName, message: Message) -> Delivery {
        let mut messages = this.lock();
        messages.last_tag += 1;
        let tag = messages.last_tag;
        messages
            .by_tag
            .insert(tag, (queue.clone(), message.clone()));
        Delivery {
            queue: queue.clone(),
            body: message.body,
            headers: message.headers,
            priority: message.priority,
            from_warren: message.from_warren,
            redelivered: message.redelivered,
            acker: Acker::new(tag, Arc::clone(this) as Arc<dyn SettleDelivery>),
        }
    }

    /// The consumer has gone: what it did not answer goes back, in its old order.
    fn put_all_back(&self) {
        let messages = std::mem::take(&mut self.lock().by_tag);
        for (_, (queue, message)) in messages.into_iter().rev() {
            self.broker.put_back(&queue, message);
        }
    }
}

impl SettleDelivery for Unacked {
    fn settle(&self, tag: u64, answer: Settle) -> Result<(), BrokerError> {
        let Some((queue, message)) = self.lock().by_tag.remove(&tag) else {
            return Err(BrokerError::Unavailable {
                reason: "the consumer that received the message has ended".to_owned(),
            });
        };
        match answer {
            Settle::Ack => self.broker.changed.notify_waiters(),
            Settle::Requeue => self.broker.put_back(&queue, message),
        }
        Ok(())
    }
}

impl Drop for Unacked {
    fn drop(&mut self) {
        self.put_all_back();
    }
}

/// Receives from several queues in turn.
#[derive(Debug)]
pub(crate) struct MemoryConsumer {
    queues: Vec<QueueName>,
    next_queue: usize,
    unacked: Arc<Unacked>,
    stopped: watch::Sender<bool>,
    closed: watch::Receiver<ConnectionState>,
}

impl MemoryConsumer {
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        loop {
            let broker = Arc::clone(&self.unacked.broker);
            // Registered before looking, so that a message that comes in between is not missed.
            let changed = broker.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if *self.stopped.borrow() || *self.closed.borrow() == ConnectionState::Closed {
                return None;
            }
            if let Some(delivery) = self.take_ready() {
                return Some(delivery);
            }
            changed.await;
        }
    }

    fn take_ready(&mut self) -> Option<Delivery> {
        if !self.unacked.has_room() {
            return None;
        }
        let mut queues = self.unacked.broker.lock();
        for step in 0..self.queues.len() {
            let index = (self.next_queue + step) % self.queues.len();
            let name = &self.queues[index];
            if let Some(message) = queues
                .get_mut(name)
                .and_then(|queue| queue.ready.pop_front())
            {
                drop(queues);
                let delivery = Unacked::hand_over(&self.unacked, name, message);
                self.next_queue = index + 1;
                return Some(delivery);
            }
        }
        None
    }

    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
        self.unacked.broker.changed.notify_waiters();
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        let mut queues = self.unacked.broker.lock();
        for name in &self.queues {
            if let Some(queue) = queues.get_mut(name) {
                queue.consumers = queue.consumers.saturating_sub(1);
            }
        }
        drop(queues);
        self.unacked.put_all_back();
    }
}
