//! A client that sends any bytes, right or wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// What was answered.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.head.lines().filter_map(|line| line.split_once(": "));
        values.filter(|(key, _)| *key == name).map(|(_, value)| value.trim()).next()
    }

    /// Status and reason of an error.
    pub fn failure(&self) -> (u16, String) {
        let json = self.json();
        assert_eq!(json["error"]["status"], self.status, "{json}");
        assert!(json["error"]["message"].as_str().unwrap().len() > 10, "{json}");
        (self.status, json["error"]["reason"].as_str().unwrap().to_owned())
    }
}

/// Opens a connection that gives up after a while.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends bytes and reads until the server closes the connection; `None` where it said nothing.
pub fn send(address: SocketAddr, bytes: &[u8]) -> Option<Reply> {
    let mut stream = connect(address);
    // A server that has heard enough need not listen to the rest.
    let _ = stream.write_all(bytes);
    receive(&mut stream)
}

/// Reads until the server closes the connection.
pub fn receive(stream: &mut TcpStream) -> Option<Reply> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, head, body: bytes[end..].to_vec() })
}

/// A request with `Host`, `Connection: close`, further headers (each with its line end) and a body.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}{headers}\r\n");
    [head.as_bytes(), body].concat()
}

pub fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, &request("GET", path, "", b"")).unwrap()
}

/// Posts an image as it is.
pub fn post(address: SocketAddr, query: &str, body: &[u8]) -> Reply {
    send(address, &request("POST", &format!("/v1/predict{query}"), "", body)).unwrap()
}

/// A form with one field.
pub fn form(field: &str, file_name: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "--frontier\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{file_name}\"\r\n\
         Content-Type: image/png\r\n\r\n"
    );
    [head.as_bytes(), body, b"\r\n--frontier--\r\n"].concat()
}

/// Posts any body as a form whose boundary is `frontier`.
pub fn post_form(address: SocketAddr, query: &str, body: &[u8]) -> Reply {
    let header = "Content-Type: multipart/form-data; boundary=frontier\r\n";
    send(address, &request("POST", &format!("/v1/predict{query}"), header, body)).unwrap()
}
