//! Between the store and its server: keeps every command as it is sent, and answers some of them
//! itself, as a server in trouble would.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use mongodb::bson::{Document, RawDocumentBuf, rawdoc};

/// `OP_MSG`, the only kind of message since MongoDB 3.6 but for the first of a connection.
const OP_MSG: i32 = 2013;
const HEADER: usize = 16;
/// The header, the flags, and the kind of the first section.
const BEFORE_BODY: usize = HEADER + 4 + 1;

pub(crate) struct Wire {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    commands: Mutex<Vec<Document>>,
    answers: Mutex<VecDeque<(&'static str, Answer)>>,
}

/// What becomes of a command instead of reaching the server.
pub(crate) enum Answer {
    /// The server says this.
    Says(Document),
    /// The server does it, and then this is what is heard.
    DoesAndSays(Document),
    /// The connection breaks before it is done.
    Breaks,
    /// The server does it and the connection breaks.
    DoesAndBreaks,
}

impl Wire {
    /// Listens for a server such as `127.0.0.1:27017`.
    pub(crate) fn to(server: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (server, seen) = (server.clone(), Arc::clone(&seen));
                thread::spawn(move || {
                    let _ = pass_on(&client, &server, &seen);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Self { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
    }

    /// The next command of this name gets another answer.
    pub(crate) fn next(&self, command: &'static str, answer: Answer) {
        let mut answers = self.shared.answers.lock().unwrap();
        answers.push_back((command, answer));
    }

    /// Whether every prepared answer was given.
    pub(crate) fn is_done(&self) -> bool {
        self.shared.answers.lock().unwrap().is_empty()
    }

    /// Every command of these names since the last call, in the order in which they were sent.
    pub(crate) fn take(&self, names: &[&str]) -> Vec<Document> {
        let mut commands = std::mem::take(&mut *self.shared.commands.lock().unwrap());
        commands.retain(|command| names.contains(&name(command)));
        commands
    }
}

fn name(command: &Document) -> &str {
    command.keys().next().map_or("", String::as_str)
}

fn pass_on(client: &TcpStream, server: &str, shared: &Shared) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (mut client, mut server) = (client, &server);
    loop {
        let message = read(&mut client)?;
        let Some(command) = command(&message) else {
            server.write_all(&message)?;
            client.write_all(&read(&mut server)?)?;
            continue;
        };
        let name = name(&command).to_owned();
        let answer = {
            let mut answers = shared.answers.lock().unwrap();
            let found = answers.iter().position(|(of, _)| *of == name);
            found.and_then(|found| answers.remove(found))
        };
        if !is_of_the_driver(&name) {
            shared.commands.lock().unwrap().push(command);
        }
        match answer {
            None => {
                server.write_all(&message)?;
                let mut reply = read(&mut server)?;
                client.write_all(&reply)?;
                // A monitor's answer may come again and again.
                while reply[HEADER] & 2 != 0 {
                    reply = read(&mut server)?;
                    client.write_all(&reply)?;
                }
            }
            Some((_, Answer::Says(said))) => client.write_all(&reply_to(&message, &said))?,
            Some((_, Answer::DoesAndSays(said))) => {
                server.write_all(&message)?;
                read(&mut server)?;
                client.write_all(&reply_to(&message, &said))?;
            }
            Some((_, Answer::Breaks)) => return Ok(()),
            Some((_, Answer::DoesAndBreaks)) => {
                server.write_all(&message)?;
                read(&mut server)?;
                return Ok(());
            }
        }
    }
}

fn is_of_the_driver(name: &str) -> bool {
    ["hello", "isMaster", "ismaster", "endSessions", "ping"].contains(&name)
}

fn read(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = vec![0; HEADER];
    from.read_exact(&mut message)?;
    let length = i32::from_le_bytes(message[..4].try_into().unwrap());
    message.resize(usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut message[HEADER..])?;
    Ok(message)
}

/// The command of a message; the store's commands are one section each.
fn command(message: &[u8]) -> Option<Document> {
    let operation = i32::from_le_bytes(message[12..16].try_into().unwrap());
    if operation != OP_MSG || message[BEFORE_BODY - 1] != 0 {
        return None;
    }
    let length = message[BEFORE_BODY..BEFORE_BODY + 4].try_into().unwrap();
    let length = usize::try_from(i32::from_le_bytes(length)).unwrap();
    let body = message[BEFORE_BODY..BEFORE_BODY + length].to_vec();
    Document::try_from(RawDocumentBuf::from_bytes(body).unwrap()).ok()
}

fn reply_to(message: &[u8], said: &Document) -> Vec<u8> {
    let mut body = rawdoc! {};
    if !said.is_empty() {
        body = RawDocumentBuf::try_from(said).unwrap();
    }
    let body = body.into_bytes();
    let length = i32::try_from(BEFORE_BODY + body.len()).unwrap();
    let mut reply = Vec::new();
    reply.extend(length.to_le_bytes());
    reply.extend(1_i32.to_le_bytes());
    reply.extend(&message[4..8]);
    reply.extend(OP_MSG.to_le_bytes());
    reply.extend([0; 5]);
    reply.extend(body);
    reply
}
