//! An HTTP server that records every request and answers what a test says.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// One request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// By their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Seen {
    /// `POST /warren-results/_mget`, without the query.
    pub(crate) fn line(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }

    /// The body, or each line of it, as JSON.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let lines = self.body.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What the stub does with a request.
pub(crate) enum Reply {
    Json(u16, Value),
    Text(u16, &'static str),
    Redirect(String),
    /// The connection ends without an answer.
    Hangup,
    /// Nothing, until the other side gives up.
    Silence,
}

/// Makes an answer.
pub(crate) type MakeReply = fn() -> Reply;

type Answer = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A running stub. Its thread ends with the process.
pub(crate) struct Stub {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Seen>>>,
}

impl Stub {
    pub(crate) fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::run(None, Arc::new(answer))
    }

    pub(crate) fn start_tls(
        tls: ServerConfig,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::run(Some(Arc::new(tls)), Arc::new(answer))
    }

    fn run(tls: Option<Arc<ServerConfig>>, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!(
            "{scheme}://127.0.0.1:{}",
            listener.local_addr().unwrap().port()
        );
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (tls, answer, seen) = (tls.clone(), Arc::clone(&answer), Arc::clone(&seen));
                // A client that goes away in the middle is no failure of the test.
                thread::spawn(move || serve(client, tls, &*answer, &seen).ok());
            }
        });
        Self { url, requests }
    }

    /// What came so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.requests.lock().unwrap().clone()
    }

    /// What came so far, without what every store asks when it is opened.
    pub(crate) fn requests_after_opening(&self) -> Vec<Seen> {
        let mut requests = self.requests();
        requests.retain(|seen| !seen.target.ends_with("/_mapping"));
        requests
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests_after_opening()
            .iter()
            .map(Seen::line)
            .collect()
    }
}

fn serve(
    client: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    answer: &Answer,
    seen: &Mutex<Vec<Seen>>,
) -> io::Result<()> {
    match tls {
        None => converse(client, answer, seen),
        Some(tls) => {
            let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
            converse(StreamOwned::new(connection, client), answer, seen)
        }
    }
}

/// One request; the next has a connection of its own.
fn converse(stream: impl Read + Write, answer: &Answer, seen: &Mutex<Vec<Seen>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let request = read(&mut stream)?;
    seen.lock().unwrap().push(request.clone());
    let (status, header, body) = match answer(&request) {
        Reply::Json(status, body) => (status, String::new(), body.to_string()),
        Reply::Text(status, body) => (status, String::new(), body.to_owned()),
        Reply::Redirect(to) => (302, format!("location: {to}\r\n"), String::new()),
        Reply::Hangup => return Ok(()),
        Reply::Silence => {
            let _ = stream.read(&mut [0]);
            return Ok(());
        }
    };
    let stream = stream.get_mut();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nconnection: close\r\n{header}content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

fn read(stream: &mut impl BufRead) -> io::Result<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split(' ');
    let mut seen = Seen {
        method: words.next().unwrap_or_default().to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        ..Seen::default()
    };
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        seen.headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = seen
        .headers
        .get("content-length")
        .map_or("0", String::as_str);
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body)?;
    seen.body = String::from_utf8(body).unwrap();
    Ok(seen)
}
