//! A TCP proxy between the program and a server, to cut their connections.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Passes connections on to a server, until told otherwise.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Both ends of every connection.
    streams: Mutex<Vec<TcpStream>>,
    is_away: AtomicBool,
}

impl Proxy {
    /// Listens on a port of its own for `server`, such as `127.0.0.1:5672`.
    ///
    /// # Panics
    /// When the system has no port.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let (server, seen) = (server.to_owned(), Arc::clone(&shared));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if seen.is_away.load(Ordering::Acquire) {
                    continue;
                }
                // A server that is not there closes the connection, as it would without us.
                let _ = seen.join(client, &server);
            }
        });
        Self { address, shared }
    }

    /// Where it listens: `127.0.0.1:12345`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Cuts every connection; new ones are passed on.
    ///
    /// # Panics
    /// Never.
    pub fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Cuts every connection, and every new one at once, until [`come_back`](Self::come_back).
    pub fn go_away(&self) {
        self.shared.is_away.store(true, Ordering::Release);
        self.cut();
    }

    /// Ends [`go_away`](Self::go_away).
    pub fn come_back(&self) {
        self.shared.is_away.store(false, Ordering::Release);
    }
}

impl Shared {
    fn join(&self, client: TcpStream, server: &str) -> io::Result<()> {
        let server = TcpStream::connect(server)?;
        let mut streams = self.streams.lock().unwrap();
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        streams.extend([client, server]);
        Ok(())
    }
}
