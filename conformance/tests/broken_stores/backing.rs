//! What all handles of one store share: the records and the subscribers.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, atomic::AtomicUsize},
};

use tokio::sync::watch;
use warren_plugin_api::{CompletionSink, Record, Status, Text, Timestamp, Version};

#[derive(Default)]
pub struct Backing {
    data: Mutex<Data>,
    pub calls: AtomicUsize,
    pub handles: AtomicUsize,
    /// How many reads of one record there were.
    pub reads: watch::Sender<u64>,
}

#[derive(Default)]
pub struct Data {
    pub records: HashMap<Text, Record>,
    pub damaged: HashSet<Text>,
    pub subscribers: Vec<Subscriber>,
    pub subscribed: usize,
    /// What only stores with a defect look at.
    pub defective: Defective,
}

#[derive(Clone)]
pub struct Subscriber {
    pub number: usize,
    pub handle: usize,
    pub sink: CompletionSink,
}

#[derive(Default)]
pub struct Defective {
    pub ghosts: Vec<Record>,
    /// Of calls that were dropped, not yet stored.
    pub late: Vec<Record>,
    pub guards: HashMap<Text, Version>,
    pub first_expiry: HashMap<Text, Option<Timestamp>>,
    pub last_expiry: Option<Timestamp>,
    pub first_status: HashMap<Text, Status>,
    pub announced: HashSet<Text>,
    pub writes: u64,
    pub busy: bool,
    pub closed: bool,
}

impl Backing {
    pub fn lock(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }
}
