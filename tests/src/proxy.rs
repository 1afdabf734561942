//! A TCP proxy between the program and a server, to spoil their connections.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use socket2::SockRef;

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
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    mode: Mode,
    /// Connections of earlier generations are dead, though nobody told their ends.
    generation: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    #[default]
    Pass,
    /// Ends every connection at once.
    Away,
    /// Takes every byte and passes none on.
    Silent,
    /// Resets a connection in the middle of the server's next words.
    ResetMidReply,
    /// Passes other bytes on in place of the server's.
    Garbage,
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
                if seen.state().mode == Mode::Away {
                    continue;
                }
                // A server that is not there closes the connection, as it would without us.
                let _ = join(&seen, client, &server);
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
        self.enter(Mode::Away);
        self.cut();
    }

    /// Passes no more bytes on, in either direction, and closes nothing: neither end learns
    /// anything. Connections that lived through it stay dead afterwards.
    ///
    /// # Panics
    /// Never.
    pub fn fall_silent(&self) {
        let mut state = self.shared.state.lock().unwrap();
        state.mode = Mode::Silent;
        state.generation += 1;
    }

    /// Resets each connection in the middle of what the server says next.
    pub fn reset_mid_reply(&self) {
        self.enter(Mode::ResetMidReply);
    }

    /// Passes garbage on in place of what the server says.
    pub fn speak_garbage(&self) {
        self.enter(Mode::Garbage);
    }

    /// Ends whatever was wrong. A connection that carried garbage is of no use any more and cut.
    pub fn come_back(&self) {
        let before = self.shared.state().mode;
        self.enter(Mode::Pass);
        if before == Mode::Garbage {
            self.cut();
        }
    }

    fn enter(&self, mode: Mode) {
        self.shared.state.lock().unwrap().mode = mode;
    }
}

impl Shared {
    fn state(&self) -> State {
        *self.state.lock().unwrap()
    }
}

fn join(shared: &Arc<Shared>, client: TcpStream, server: &str) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let generation = shared.state().generation;
    let mut streams = shared.streams.lock().unwrap();
    // Those whose other end is gone need no cutting.
    streams.retain(|stream| stream.peer_addr().is_ok());
    for (from, to, is_reply) in [(&client, &server, false), (&server, &client, true)] {
        let pump = Pump {
            shared: Arc::clone(shared),
            from: from.try_clone()?,
            to: to.try_clone()?,
            is_reply,
            generation,
        };
        thread::spawn(move || pump.run());
    }
    streams.extend([client, server]);
    Ok(())
}

/// One direction of a connection.
struct Pump {
    shared: Arc<Shared>,
    from: TcpStream,
    to: TcpStream,
    is_reply: bool,
    generation: u64,
}

impl Pump {
    fn run(mut self) {
        let mut bytes = vec![0; 64 * 1024];
        // An error ends the connection, as the end of the stream does.
        while let Ok(count @ 1..) = self.from.read(&mut bytes) {
            if self.pass(&mut bytes[..count]).is_err() {
                break;
            }
        }
        let _ = self.to.shutdown(Shutdown::Both);
        let _ = self.from.shutdown(Shutdown::Both);
    }

    fn pass(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let state = self.shared.state();
        if state.mode == Mode::Silent || self.generation < state.generation {
            return Ok(());
        }
        match state.mode {
            Mode::ResetMidReply if self.is_reply => {
                self.to.write_all(&bytes[..bytes.len() / 2])?;
                // Closing with a linger of zero is a reset.
                SockRef::from(&self.to).set_linger(Some(Duration::ZERO))?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Mode::Garbage if self.is_reply => {
                for byte in bytes.iter_mut() {
                    *byte = byte.wrapping_mul(37).wrapping_add(101);
                }
                self.to.write_all(bytes)
            }
            _ => self.to.write_all(bytes),
        }
    }
}
