//! HTTP requests to whichever node answers.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use reqwest::{
    Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
    redirect,
};
use serde::de::DeserializeOwned;
use warren_plugin_api::{StoreError, StoreResult};

use crate::{
    address::Address,
    config::ElasticsearchConfig,
    error::{Failure, Refusal},
    tls,
};

/// How long a node that did not answer is asked last.
const AVOIDED_FOR: Duration = Duration::from_secs(10);
/// Below what load balancers usually close idle connections after.
const IDLE_FOR: Duration = Duration::from_secs(30);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const LESS_FOR_THE_SERVER: Duration = Duration::from_millis(500);

/// Whether a request may be sent a second time when its connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// What is sent: the path has no leading slash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) kind: Kind,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) body: Body<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    None,
    Json(&'a [u8]),
    /// A line for each action and document.
    Lines(&'a [u8]),
}

/// A cluster's nodes.
pub(crate) struct Client {
    pub(crate) address: Address,
    http: reqwest::Client,
    nodes: Vec<Node>,
    next: AtomicUsize,
    timeout: Duration,
    began: Instant,
}

#[derive(Default)]
struct Node {
    /// Milliseconds after `began` until which it is avoided.
    avoided_until: AtomicUsize,
}

impl Client {
    pub(crate) fn new(config: &ElasticsearchConfig, address: Address) -> StoreResult<Self> {
        let mut headers = HeaderMap::new();
        // Not the vendor's media types: OpenSearch answers them with 406.
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &address.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(config)?)
            .default_headers(headers)
            .user_agent(concat!("warren/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            .pool_idle_timeout(IDLE_FOR)
            .tcp_keepalive(KEEPALIVE_AFTER)
            // It would carry the credentials elsewhere.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| StoreError::internal(format!("no HTTP client: {error}")))?;
        Ok(Self {
            nodes: address.nodes.iter().map(|_| Node::default()).collect(),
            address,
            http,
            next: AtomicUsize::new(0),
            timeout: config.request_timeout,
            began: Instant::now(),
        })
    }

    /// The server's own limit for one request: a little less than it is waited for, so that it is
    /// the server who says that it was not done in time.
    pub(crate) fn servers_limit(&self) -> Duration {
        self.timeout
            .saturating_sub(LESS_FOR_THE_SERVER)
            .max(self.timeout / 2)
    }

    pub(crate) fn store_error(&self, failure: &Failure) -> StoreError {
        failure.to_store_error(&self.address)
    }

    /// The answer, read as `T`.
    ///
    /// # Errors
    /// Any [`Failure`]; a status that is no success is [`Failure::Refused`].
    ///
    /// # Cancel safety
    /// The connection is closed; what was sent is done or not.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        request: Request<'_>,
    ) -> Result<T, Failure> {
        self.send_within(self.timeout, request).await
    }

    /// As [`send`](Self::send), with a limit of its own.
    pub(crate) async fn send_within<T: DeserializeOwned>(
        &self,
        limit: Duration,
        request: Request<'_>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + limit;
        let order = self.order();
        // A connection that broke says nothing about its node: a single one is asked twice.
        let tries = order
            .iter()
            .chain(order.iter().take(1))
            .take(order.len().max(2));
        let mut failed: Option<Failure> = None;
        for (tried, place) in tries.enumerate() {
            if tried >= order.len() && failed.as_ref().is_some_and(Failure::was_not_sent) {
                break;
            }
            let failure = match self.send_to(*place, request, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let is_away = failure.was_not_sent()
                || failure.is_lost()
                || matches!(failure.status(), Some(502..=504));
            if is_away {
                self.avoid(*place);
            }
            let may_repeat = failure.was_not_sent() || (is_away && request.kind == Kind::Read);
            failed = Some(failure);
            if !may_repeat || Instant::now() >= deadline {
                break;
            }
        }
        Err(failed.unwrap_or_else(|| Failure::NotSent("there is no node".to_owned())))
    }

    async fn send_to<T: DeserializeOwned>(
        &self,
        place: usize,
        request: Request<'_>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let base = self.address.nodes.get(place).map_or("", String::as_str);
        let url = format!("{base}/{}", request.path);
        let left = deadline.saturating_duration_since(Instant::now());
        let mut builder = self.http.request(request.method.clone(), url).timeout(left);
        builder = match request.body {
            Body::None => builder,
            Body::Json(body) => builder
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_vec()),
            Body::Lines(body) => builder
                .header(CONTENT_TYPE, "application/x-ndjson")
                .body(body.to_vec()),
        };
        let response = builder.send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        if status != StatusCode::OK && status != StatusCode::CREATED {
            return Err(Refusal::of_answer(status.as_u16(), &body).into());
        }
        serde_json::from_slice(&body)
            .map_err(|error| Failure::Strange(format!("an answer that is not expected: {error}")))
    }

    /// All nodes, from another one each time, those that did not answer lately last.
    fn order(&self) -> Vec<usize> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.nodes.len();
        let mut order: Vec<usize> = (0..count)
            .map(|place| (first % count + place) % count)
            .collect();
        let now = self.milliseconds();
        order.sort_by_key(|place| {
            self.nodes
                .get(*place)
                .is_some_and(|node| node.avoided_until.load(Ordering::Relaxed) > now)
        });
        order
    }

    fn avoid(&self, place: usize) {
        let until = self.milliseconds() + AVOIDED_FOR.as_millis() as usize;
        if let Some(node) = self.nodes.get(place) {
            node.avoided_until.store(until, Ordering::Relaxed);
        }
    }

    fn milliseconds(&self) -> usize {
        usize::try_from(self.began.elapsed().as_millis()).unwrap_or(usize::MAX / 2)
    }
}
