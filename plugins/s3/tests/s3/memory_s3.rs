//! A small imitation of S3 in memory, for what a real service is too slow for or cannot be made to
//! do. It keeps every request, and may be told to answer otherwise. It checks no signature.
//!
//! What it answers follows the API reference of Amazon S3: `GetObject`, `PutObject`,
//! `DeleteObject`, `DeleteObjects` and `ListObjectsV2`, with their error codes.

#![allow(dead_code, reason = "two test programs have it, and each uses a part")]

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt::Write as _,
    ops::Bound,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, body::Incoming, header,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub(crate) const BUCKET: &str = "jobs";

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// The host that was asked.
    pub(crate) host: String,
    /// With the bucket before it, where the host has none.
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What it answers instead of what it would.
type Script = dyn FnMut(&Asked) -> Option<Answer> + Send;

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Written before anything else is done.
    first: Option<(String, Vec<u8>)>,
}

/// Stands for "as it would without a script".
const AS_USUAL: u16 = 0;

impl Answer {
    pub(crate) fn of(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            first: None,
        }
    }

    /// What is asked, after somebody else wrote this.
    pub(crate) fn first_set(key: &str, bytes: &[u8]) -> Self {
        Self {
            first: Some((key.to_owned(), bytes.to_vec())),
            ..Self::of(AS_USUAL)
        }
    }

    /// Does the PUT that was asked for, and says something else.
    pub(crate) fn put_and(status: u16, asked: &Asked) -> Self {
        let path = asked.path.trim_start_matches('/');
        let key = path.strip_prefix(BUCKET).unwrap_or(path);
        Self {
            first: Some((key.trim_start_matches('/').to_owned(), asked.body.clone())),
            ..Self::error(status, "InternalError")
        }
    }

    /// An error in the words of S3.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>The \
             words for {code}</Message><RequestId>1</RequestId></Error>"
        );
        Self::xml(status, body)
    }

    fn xml(status: u16, body: String) -> Self {
        let mut answer = Self::of(status);
        let kind = "application/xml".to_owned();
        answer.headers.push(("content-type", kind));
        answer.body = body.into_bytes();
        answer
    }
}

struct Object {
    bytes: Vec<u8>,
    etag: String,
    tags: Option<String>,
    /// As it stands in lists.
    written_at: String,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    writes: u64,
    asked: Vec<Asked>,
    script: Option<Box<Script>>,
    keeps_requests: bool,
    ignores_preconditions: bool,
    written_at: Option<String>,
    /// Requests that are being answered, and the most that were.
    at_once: usize,
    most_at_once: usize,
    takes: Duration,
}

/// The imitation, at a port of its own; it ends with its process.
#[derive(Clone)]
pub(crate) struct MemoryS3 {
    state: Arc<Mutex<State>>,
    pub(crate) port: u16,
}

impl MemoryS3 {
    /// Starts it on a thread of its own.
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (send, receive) = std::sync::mpsc::channel();
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                send.send(listener.local_addr().unwrap().port()).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let state = Arc::clone(&served);
                    let service = service_fn(move |request| answer(Arc::clone(&state), request));
                    tokio::spawn(
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                    );
                }
            });
        });
        Self {
            state,
            port: receive.recv().unwrap(),
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap())
    }

    /// As services do that never heard of them.
    pub(crate) fn ignore_preconditions(&self) {
        self.with(|state| state.ignores_preconditions = true);
    }

    /// Keeps what is asked from now on.
    pub(crate) fn listen(&self) {
        self.with(|state| {
            state.keeps_requests = true;
            state.asked.clear();
        });
    }

    /// What was asked since [`listen`](Self::listen).
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.with(|state| std::mem::take(&mut state.asked))
    }

    /// Asks `script` first.
    pub(crate) fn answer_by(&self, script: impl FnMut(&Asked) -> Option<Answer> + Send + 'static) {
        self.with(|state| state.script = Some(Box::new(script)));
    }

    pub(crate) fn answer_as_usual(&self) {
        self.with(|state| state.script = None);
    }

    /// Every answer takes this long from now on.
    pub(crate) fn take(&self, time: Duration) {
        self.with(|state| state.takes = time);
    }

    /// The most requests that were answered at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.with(|state| state.most_at_once)
    }

    /// Objects that are written from now on say that they were written then.
    pub(crate) fn write_at(&self, time: &str) {
        self.with(|state| state.written_at = Some(time.to_owned()));
    }

    /// Keys that begin with this, in their order.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        self.with(|state| {
            let keys = state.objects.keys().filter(|key| key.starts_with(prefix));
            keys.cloned().collect()
        })
    }

    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.with(|state| state.objects.get(key).map(|object| object.bytes.clone()))
    }

    pub(crate) fn tags(&self, key: &str) -> Option<String> {
        self.with(|state| {
            state
                .objects
                .get(key)
                .and_then(|object| object.tags.clone())
        })
    }

    pub(crate) fn set(&self, key: &str, bytes: &[u8]) {
        self.with(|state| state.write(key.to_owned(), bytes.to_vec(), None));
    }

    pub(crate) fn remove(&self, key: &str) {
        self.with(|state| state.objects.remove(key));
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let asked = asked(request).await;
    let takes = {
        let mut state = state.lock().unwrap();
        state.at_once += 1;
        state.most_at_once = state.most_at_once.max(state.at_once);
        state.takes
    };
    if !takes.is_zero() {
        tokio::time::sleep(takes).await;
    }
    let answer = {
        let mut state = state.lock().unwrap();
        state.at_once -= 1;
        if state.keeps_requests {
            state.asked.push(asked.clone());
        }
        let mut script = state.script.take();
        let scripted = script.as_mut().and_then(|script| script(&asked));
        state.script = script;
        if let Some((key, bytes)) = scripted.as_ref().and_then(|answer| answer.first.clone()) {
            state.write(key, bytes, None);
        }
        match scripted {
            Some(answer) if answer.status != AS_USUAL => answer,
            _ => state.serve(&asked),
        }
    };
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    let body = match asked.method {
        Method::HEAD => Bytes::new(),
        _ => answer.body.into(),
    };
    Ok(response.body(Full::new(body)).unwrap())
}

async fn asked(request: Request<Incoming>) -> Asked {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let headers = parts.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    let headers: HashMap<String, String> = headers.collect();
    Asked {
        method: parts.method,
        host: headers.get("host").cloned().unwrap_or_default(),
        path: parts.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        body: body.collect().await.unwrap().to_bytes().to_vec(),
        headers,
    }
}

impl State {
    fn serve(&mut self, asked: &Asked) -> Answer {
        let path = asked.path.trim_start_matches('/');
        let key = if asked.host.starts_with(&format!("{BUCKET}.")) {
            path.to_owned()
        } else {
            match path.split_once('/').unwrap_or((path, "")) {
                (BUCKET, key) => key.to_owned(),
                _ => return Answer::error(404, "NoSuchBucket"),
            }
        };
        match asked.method {
            Method::GET if key.is_empty() => self.list(&asked.query),
            Method::POST if asked.query.contains_key("delete") => self.delete(&asked.body),
            Method::GET => self.get(&key, asked.header("range")),
            Method::PUT => self.put(key, asked),
            Method::DELETE => {
                self.objects.remove(&key);
                Answer::of(204)
            }
            _ => Answer::error(405, "MethodNotAllowed"),
        }
    }

    fn write(&mut self, key: String, bytes: Vec<u8>, tags: Option<String>) -> String {
        self.writes += 1;
        let etag = format!("\"{:032x}\"", self.writes);
        let now = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
        let object = Object {
            bytes,
            etag: etag.clone(),
            tags,
            written_at: self.written_at.clone().unwrap_or(now),
        };
        self.objects.insert(key, object);
        etag
    }

    fn put(&mut self, key: String, asked: &Asked) -> Answer {
        let stored = self.objects.get(&key).map(|object| object.etag.as_str());
        if !self.ignores_preconditions {
            if asked.header("if-none-match") == Some("*") && stored.is_some() {
                return Answer::error(412, "PreconditionFailed");
            }
            match (asked.header("if-match"), stored) {
                (Some(_), None) => return Answer::error(404, "NoSuchKey"),
                (Some(wanted), Some(found)) if wanted != found => {
                    return Answer::error(412, "PreconditionFailed");
                }
                _ => {}
            }
        }
        let tags = asked.header("x-amz-tagging").map(str::to_owned);
        let etag = self.write(key, asked.body.clone(), tags);
        let mut answer = Answer::of(200);
        answer.headers.push(("etag", etag));
        answer
    }

    fn get(&self, key: &str, range: Option<&str>) -> Answer {
        let Some(object) = self.objects.get(key) else {
            return Answer::error(404, "NoSuchKey");
        };
        let whole = object.bytes.len();
        let mut answer = Answer::of(StatusCode::OK.as_u16());
        answer.body.clone_from(&object.bytes);
        if let Some(range) = range {
            let range = range.strip_prefix("bytes=").unwrap();
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            if first >= whole {
                return Answer::error(416, "InvalidRange");
            }
            let last = last.min(whole - 1);
            answer.status = StatusCode::PARTIAL_CONTENT.as_u16();
            answer.body = object.bytes[first..=last].to_vec();
            let shown = format!("bytes {first}-{last}/{whole}");
            answer.headers.push(("content-range", shown));
        }
        answer.headers.push(("etag", object.etag.clone()));
        let written_at = "Mon, 02 Nov 2026 10:00:00 GMT".to_owned();
        answer
            .headers
            .push((header::LAST_MODIFIED.as_str(), written_at));
        answer
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        let of = |name: &str| query.get(name).map(String::as_str);
        let prefix = of("prefix").unwrap_or_default();
        let most: usize = of("max-keys").map_or(1_000, |most| most.parse().unwrap());
        let most = most.min(1_000);
        let after = of("continuation-token").or(of("start-after"));
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut found = self
            .objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let page: Vec<_> = found.by_ref().take(most).collect();
        let is_cut = found.next().is_some();
        let mut body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult \
             xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{BUCKET}</Name>\
             <Prefix>{prefix}</Prefix><KeyCount>{}</KeyCount><MaxKeys>{most}</MaxKeys>\
             <IsTruncated>{is_cut}</IsTruncated>",
            page.len()
        );
        if let (true, Some((last, _))) = (is_cut, page.last()) {
            let _ = write!(
                body,
                "<NextContinuationToken>{last}</NextContinuationToken>"
            );
        }
        for (key, object) in page {
            let _ = write!(
                body,
                "<Contents><Key>{key}</Key><LastModified>{}</LastModified><ETag>{}</ETag>\
                 <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                object.written_at,
                object.etag.replace('"', "&quot;"),
                object.bytes.len()
            );
        }
        body.push_str("</ListBucketResult>");
        Answer::xml(200, body)
    }

    fn delete(&mut self, body: &[u8]) -> Answer {
        let body = String::from_utf8_lossy(body);
        let mut answer = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><DeleteResult>".to_owned();
        for key in keys_in(&body) {
            self.objects.remove(key);
            let _ = write!(answer, "<Deleted><Key>{key}</Key></Deleted>");
        }
        answer.push_str("</DeleteResult>");
        Answer::xml(200, answer)
    }
}

/// The keys of a `DeleteObjects` request.
pub(crate) fn keys_in(body: &str) -> impl Iterator<Item = &str> {
    body.split("<Key>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</Key>").map(|(key, _)| key))
}
