//! Health and metrics over HTTP.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::WorkerHealth;

/// Connections that are served at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 32;
/// How long one connection may take: it is for one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after a connection that could not be accepted, for want of open files, say.
const PAUSE: Duration = Duration::from_millis(100);

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Why health cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HealthError {
    /// The address cannot be listened to.
    #[error("worker.health.listen = \"{address}\": cannot listen there: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        error: io::Error,
    },
}

/// Serves `/health`, `/health/live`, `/health/ready` and `/metrics`, to whoever asks. Clones are
/// one server.
///
/// ```no_run
/// # async fn run(
/// #     broker: warren::broker::Broker,
/// #     store: warren::store::Store,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// use warren::worker::{HealthServer, Shutdown, Worker};
///
/// let server = HealthServer::bind("127.0.0.1:9090".parse()?).await?;
/// let worker = Worker::builder(broker, store).build()?;
/// server.show(worker.health());
/// let serving = tokio::spawn(server.serve());
/// worker.run(Shutdown::new()).await?;
/// serving.abort();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct HealthServer {
    listener: Arc<TcpListener>,
    shown: Arc<OnceLock<WorkerHealth>>,
}

impl HealthServer {
    /// Listens at `address`.
    ///
    /// # Errors
    /// Another program listens there, or this machine has no such address.
    pub async fn bind(address: SocketAddr) -> Result<Self, HealthError> {
        let listener = TcpListener::bind(address).await;
        Ok(Self {
            listener: Arc::new(listener.map_err(|error| HealthError::Listen { address, error })?),
            shown: Arc::default(),
        })
    }

    /// Where it listens: the port that the system chose when it was asked for port 0.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// From now on `health` is shown; before, the worker is said to be starting.
    pub fn show(&self, health: WorkerHealth) {
        // The first one stays: there is one worker behind an address.
        let _ = self.shown.set(health);
    }

    /// Serves until it is dropped, with every connection.
    pub async fn serve(self) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                // Nobody closes the semaphore.
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let shown = Arc::clone(&self.shown);
                    connections.spawn(async move {
                        serve_one(stream, &shown).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection for health could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn serve_one(stream: TcpStream, shown: &OnceLock<WorkerHealth>) {
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(answer(&request, shown.get())) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Who asked and went is not missed.
    let _ = tokio::time::timeout(PATIENCE, connection).await;
}

fn answer(request: &Request<Incoming>, health: Option<&WorkerHealth>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, allowed);
        return refusal;
    }
    match (request.uri().path(), health) {
        ("/health" | "/health/ready", Some(health)) => {
            let report = health.report();
            json(report.ready, &report)
        }
        ("/health/live", Some(health)) => {
            let report = health.report();
            json(report.live, &report)
        }
        ("/metrics", Some(health)) => response(
            StatusCode::OK,
            prometheus_text::CONTENT_TYPE,
            health.metrics(),
        ),
        ("/health" | "/health/ready", None) => json(false, &STARTING),
        ("/health/live", None) => json(true, &STARTING),
        ("/metrics", None) => response(
            StatusCode::SERVICE_UNAVAILABLE,
            TEXT,
            "the worker is starting\n",
        ),
        _ => response(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /health, /health/live, /health/ready and /metrics\n",
        ),
    }
}

/// What is known before the broker is connected and the store opened.
#[derive(serde::Serialize)]
struct Starting {
    status: &'static str,
    live: bool,
    ready: bool,
}

const STARTING: Starting = Starting {
    status: "not_ready",
    live: true,
    ready: false,
};

fn json(is_well: bool, report: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let status = if is_well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    match serde_json::to_vec_pretty(report) {
        Ok(mut text) => {
            text.push(b'\n');
            response(status, JSON, text)
        }
        Err(error) => response(
            StatusCode::INTERNAL_SERVER_ERROR,
            TEXT,
            format!("the report cannot be written: {error}\n"),
        ),
    }
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
