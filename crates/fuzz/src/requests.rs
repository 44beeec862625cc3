//! What may be sent to `predict serve`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use candle_core::Device;
use model::Model;
use predict::serve::{self, Limits};

use crate::documents::tiny_model;
use crate::images::{dicom_seeds, png_seeds};

/// The server, which is never stopped.
fn server() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| {
        let folder = tiny_model();
        let model = Model::open(folder.path(), &Device::Cpu).expect("a model");
        let listener = serve::listen((Ipv4Addr::LOCALHOST, 0).into()).expect("an address");
        let address = listener.local_addr().expect("an address");
        let limits = Limits { body_bytes: 1 << 16, pixels: 1 << 16, patience: Duration::from_secs(2), parallel: 1 };
        std::thread::spawn(move || serve::serve(listener, model, limits));
        address
    })
}

/// Whatever a client sends. It is answered or refused; never is it the server's fault.
pub(crate) fn http(bytes: &[u8]) -> bool {
    let Ok(mut stream) = TcpStream::connect(server()) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(8)));
    // A server that has heard enough need not listen to the rest.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 500"), "{}", String::from_utf8_lossy(&answer));
    answer.starts_with(b"HTTP/1.1 200")
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
    let chunked =
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\x7fabc\r\n0\r\n\r\n";
    seeds.push(chunked.as_bytes().to_vec());
    seeds
}
