//! A network that fails: between a program and a server, it drops connections and answers in the server's place.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use e2e::Random;

/// What becomes of a request that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The connection is dropped before the server hears of it.
    Dropped,
    /// It is dropped in the middle of what the program sends.
    HalfAsked,
    /// It is dropped in the middle of what the server answers: the server has done what it was asked.
    HalfAnswered,
    /// The server has an error.
    Status500,
    /// The server has too much to do.
    Status503,
}

const FAULTS: [Fault; 5] = [Fault::Dropped, Fault::HalfAsked, Fault::HalfAnswered, Fault::Status500, Fault::Status503];

/// What happened so far.
#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    faults: AtomicUsize,
    lines: Mutex<Vec<String>>,
}

/// A proxy, until its process ends. It leaves out what Google's client says of its user, which an S3 server does not know.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) port: u16,
    seen: Arc<Seen>,
}

impl Proxy {
    /// Listens, and hands on to `server`; so many of a hundred requests fail.
    pub(crate) fn start(server: u16, percent: usize) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let all = seen.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let seen = all.clone();
                // A connection that breaks is what this is for.
                std::thread::spawn(move || drop(serve(&client, server, percent, &seen)));
            }
        });
        Proxy { port, seen }
    }

    /// Requests, and how many of them failed.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.seen.requests.load(Ordering::SeqCst), self.seen.faults.load(Ordering::SeqCst))
    }

    /// The first lines of all requests.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen.lines.lock().unwrap().clone()
    }
}

/// The head of a request or an answer, and how its body ends.
struct Head {
    text: String,
    length: Option<u64>,
    chunked: bool,
}

impl Head {
    /// `None` where the connection ends.
    fn read(from: &mut impl BufRead) -> Result<Option<Head>> {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            if from.read_line(&mut text)? == 0 {
                return Ok(None);
            }
        }
        let lower = text.to_ascii_lowercase();
        let value = |name: &str| lower.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
        let length = value("content-length:").and_then(|length| length.parse().ok());
        let chunked = value("transfer-encoding:").is_some_and(|encoding| encoding.contains("chunked"));
        Ok(Some(Head { text, length, chunked }))
    }

    fn line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

fn serve(client: &TcpStream, server: u16, percent: usize, seen: &Seen) -> Result<()> {
    let (mut from, mut to) = (BufReader::new(client.try_clone()?), client.try_clone()?);
    while let Some(head) = Head::read(&mut from)? {
        let number = seen.requests.fetch_add(1, Ordering::SeqCst);
        seen.lines.lock().unwrap().push(head.line().to_owned());
        // The same numbers fail in every run of a test.
        let mut random = Random(0x5eed ^ ((number as u64) << 20));
        let fault = (random.below(1000) < 10 * percent).then(|| FAULTS[random.below(FAULTS.len())]);
        if fault.is_some() {
            seen.faults.fetch_add(1, Ordering::SeqCst);
        }
        let length = head.length.unwrap_or(0);
        match fault {
            Some(Fault::Dropped) => return client.shutdown(std::net::Shutdown::Both),
            Some(Fault::HalfAsked) => {
                std::io::copy(&mut from.by_ref().take(length / 2), &mut std::io::sink())?;
                return client.shutdown(std::net::Shutdown::Both);
            }
            Some(Fault::Status500 | Fault::Status503) => {
                std::io::copy(&mut from.by_ref().take(length), &mut std::io::sink())?;
                let (status, code) = match fault {
                    Some(Fault::Status500) => ("500 Internal Server Error", "InternalError"),
                    _ => ("503 Service Unavailable", "SlowDown"),
                };
                let body = format!("<Error><Code>{code}</Code><Message>now and then</Message></Error>");
                write!(to, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
            }
            Some(Fault::HalfAnswered) | None => {
                let upstream = TcpStream::connect(("127.0.0.1", server))?;
                let mut asked = &upstream;
                let lines = head.text.split_inclusive("\r\n");
                let known = lines.filter(|line| !line.to_ascii_lowercase().starts_with("authorization: bearer"));
                asked.write_all(known.collect::<String>().as_bytes())?;
                std::io::copy(&mut from.by_ref().take(length), &mut asked)?;
                answer(&mut BufReader::new(&upstream), &mut to, &head, fault.is_some())?;
                if fault.is_some() {
                    return client.shutdown(std::net::Shutdown::Both);
                }
            }
        }
    }
    Ok(())
}

/// Hands on what the server answers, or half of it.
fn answer(from: &mut impl BufRead, to: &mut impl Write, asked: &Head, half: bool) -> Result<()> {
    let Some(head) = Head::read(from)? else { return Ok(()) };
    let is_empty = asked.text.starts_with("HEAD ") || head.line().contains(" 204") || head.length == Some(0);
    if half && is_empty {
        return Ok(());
    }
    to.write_all(head.text.as_bytes())?;
    match head.length {
        _ if is_empty => {}
        Some(length) => drop(std::io::copy(&mut from.take(if half { length / 2 } else { length }), to)?),
        None if head.chunked => chunks(from, to, half)?,
        None => drop(std::io::copy(from, to)?),
    }
    to.flush()
}

fn chunks(from: &mut impl BufRead, to: &mut impl Write, half: bool) -> Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16).unwrap_or(0);
        to.write_all(line.as_bytes())?;
        std::io::copy(&mut from.take(if half { size / 2 } else { size + 2 }), to)?;
        if half || size == 0 {
            return Ok(());
        }
    }
}
