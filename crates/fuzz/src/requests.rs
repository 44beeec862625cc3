//! What may be sent to `predict serve`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use candle_core::Device;
use model::Model;
use predict::serve::{self, Limits};

use crate::documents::tiny_model;
use crate::images::{dicom_seeds, png_seeds};

/// An answer that pauses has ended.
const PAUSE: Duration = Duration::from_millis(20);
/// An answer takes less.
const LONGEST: Duration = Duration::from_secs(8);

/// The server, which is never stopped.
fn server() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| {
        let folder = tiny_model();
        let model = Model::open(folder.path(), &Device::Cpu).expect("a model");
        let listener = serve::listen((Ipv4Addr::LOCALHOST, 0).into()).expect("an address");
        let address = listener.local_addr().expect("an address");
        let limits = Limits { body_bytes: 1 << 16, pixels: 1 << 20, patience: Duration::from_millis(500), parallel: 1 };
        std::thread::spawn(move || serve::serve(listener, model, limits));
        address
    })
}

/// Whatever a client sends. It is answered or refused; never is it the server's fault.
pub(crate) fn http(bytes: &[u8]) -> bool {
    let Ok(mut stream) = TcpStream::connect(server()) else { return false };
    let _ = stream.set_read_timeout(Some(PAUSE));
    // A server that has heard enough need not listen to the rest.
    let _ = stream.write_all(bytes);
    let sent = Instant::now();
    let mut answer = Vec::new();
    let mut part = [0; 1 << 14];
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                // Whoever says that nothing more will come is told nothing more.
                if !answer.is_empty() || sent.elapsed() > LONGEST {
                    break;
                }
                if !is_whole(bytes) {
                    let _ = stream.shutdown(Shutdown::Write);
                }
            }
            Err(_) => break,
        }
    }
    assert!(sent.elapsed() < LONGEST, "no answer");
    assert!(!answer.starts_with(b"HTTP/1.1 500"), "{}", String::from_utf8_lossy(&answer));
    answer.starts_with(b"HTTP/1.1 200")
}

/// Whether a server may find that there is no more to come: a header, and as long a body as it says.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.is_none_or(|length| length.trim().parse::<usize>().is_ok_and(|length| length <= bytes.len() - end))
}

pub(crate) fn http_seeds() -> Vec<Vec<u8>> {
    let image = &png_seeds()[4];
    let mut seeds: Vec<Vec<u8>> = ["/", "/healthz", "/openapi.json", "/v1/model"]
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: localhost:80\r\nConnection: close\r\n\r\n").into_bytes())
        .collect();
    for (query, kind, body) in [
        ("?no_gate=true&pictures=true&abstain=0.1", "image/png", image.clone()),
        ("?pictures=true", "application/dicom", dicom_seeds().swap_remove(0)),
        (
            "?no_gate=true",
            "multipart/form-data; boundary=x",
            [
                &b"--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n"[..],
                image,
                b"\r\n--x--\r\n",
            ]
            .concat(),
        ),
    ] {
        let head = format!(
            "POST /v1/predict{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nContent-Type: {kind}\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        seeds.push([head.as_bytes(), &body].concat());
    }
    let head =
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    seeds.push([head.as_bytes(), format!("{:x}\r\n", image.len()).as_bytes(), image, b"\r\n0\r\n\r\n"].concat());
    seeds
}
