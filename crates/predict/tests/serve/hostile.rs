//! Uploads by people who mean no good: each is refused with a reason, and the next good one is answered.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::client::{connect, form, post, post_form, receive, request, send};
use crate::files::{PLAIN, claims, dicom, png};
use crate::server::Server;

/// An upload: its kind, and the bytes of the whole request in parts that are sent with a pause between them.
struct Upload {
    kind: &'static str,
    parts: Vec<Vec<u8>>,
    /// The statuses that it may have; nothing where the connection may be closed without a word.
    expected: &'static [u16],
}

fn upload(kind: &'static str, bytes: Vec<u8>, expected: &'static [u16]) -> Upload {
    Upload { kind, parts: vec![bytes], expected }
}

/// Posts a body as an image.
fn image(kind: &'static str, body: &[u8], expected: &'static [u16]) -> Upload {
    upload(kind, request("POST", "/v1/predict", "", body), expected)
}

const UNREADABLE: &[u8] = b"neither an image nor anything else";

fn bombs() -> Vec<Upload> {
    let sides = [0, 97, 200, 5000, 32_767, 32_768, 32_769, 65_535, 100_000, 1 << 30, (1 << 31) - 1, 1 << 31, u32::MAX];
    let mut all = Vec::new();
    for side in sides {
        all.push(image("bomb", &claims(side, side, 8, 0), &[400, 413]));
        all.push(image("bomb", &claims(side, 80, 16, 6), &[400, 413]));
        all.push(image("bomb", &claims(96, side, 8, 2), &[400, 413]));
    }
    for (depth, colour) in [(0, 0), (3, 0), (8, 1), (8, 5), (255, 255), (16, 3)] {
        all.push(image("header", &claims(96, 80, depth, colour), &[400]));
    }
    all
}

fn cut_and_flipped() -> Vec<Upload> {
    let (png, dicom) = (png(1), dicom(PLAIN, true));
    let mut all = Vec::new();
    for part in 0..40 {
        all.push(image("cut PNG", &png[..png.len() * part / 40], &[400, 415]));
        all.push(image("cut DICOM", &dicom[..dicom.len() * part / 40], &[400, 415, 422]));
    }
    let mut state = 7_u32;
    let mut draw = |most: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % most
    };
    for _ in 0..60 {
        let mut flipped = png.clone();
        for _ in 0..=draw(4) {
            // Behind the signature, before the last chunk, of which nothing is needed.
            let at = 8 + draw(png.len() - 20);
            flipped[at] ^= 1 << draw(8);
        }
        all.push(image("flipped PNG", &flipped, &[400, 413]));
    }
    for len in 0..20 {
        let noise: Vec<u8> = (0..len * 50).map(|_| draw(256) as u8).collect();
        all.push(image("JPEG of noise", &[&[0xff, 0xd8, 0xff, 0xe0], &noise[..]].concat(), &[400, 413]));
    }
    all
}

fn other_files() -> Vec<Upload> {
    let starts: [&[u8]; 13] = [
        b"PK\x03\x04\x14\0\0\0\x08\0",
        b"<!doctype html><script>alert(1)</script>",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        b"\x7fELF\x02\x01\x01\0",
        b"GIF89a\x01\0\x01\0",
        b"II*\0\x08\0\0\0",
        b"BM\x36\0\0\0",
        b"RIFF\x24\0\0\0WEBPVP8 ",
        b"\x1f\x8b\x08\0\0\0\0\0",
        b"{\"image\": \"/etc/passwd\"}",
        b"/etc/passwd",
        b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
        b"\0\0\0\0\0\0\0\0",
    ];
    let kinds = ["image/png", "application/dicom", "text/html", "application/x-www-form-urlencoded", "\"", ""];
    let mut all = Vec::new();
    for start in starts {
        for kind in kinds {
            let header = format!("Content-Type: {kind}\r\n");
            all.push(upload("other file", request("POST", "/v1/predict", &header, start), &[415]));
        }
    }
    all
}

/// A form whose boundary is `frontier`.
fn posted(kind: &'static str, content_type: &str, body: &[u8], expected: &'static [u16]) -> Upload {
    upload(kind, request("POST", "/v1/predict", &format!("Content-Type: {content_type}\r\n"), body), expected)
}

fn forms() -> Vec<Upload> {
    let names = [
        "../../../etc/passwd",
        "/etc/shadow",
        "C:\\Windows\\win.ini",
        "\\\\host\\share\\a.png",
        "a.png\0.exe",
        "file:///etc/passwd",
        "%2e%2e%2fetc%2fpasswd",
        "CON",
        "-rf",
        "$(id)",
        "a;b|c&d",
        "<script>alert(1)</script>",
        "\u{202e}gnp.exe",
    ];
    let right = "multipart/form-data; boundary=frontier";
    let mut all: Vec<Upload> =
        names.iter().map(|name| posted("name", right, &form("image", name, UNREADABLE), &[400, 415])).collect();
    all.push(posted("name", right, &form("image", &"a".repeat(9000), UNREADABLE), &[400, 415]));
    let whole = form("image", "a.png", &png(1));
    let twice = [&whole[..whole.len() - 16], b"\r\n", &whole[..]].concat();
    let open = &whole[..whole.len() - 16];
    let head = b"--frontier\r\nContent-Disposition: form-data; name=\"image\"\r\n";
    for (content_type, body) in [
        ("multipart/form-data", &whole[..]),
        ("multipart/form-data; boundary=", &whole),
        ("multipart/form-data; boundary=other", &whole),
        ("multipart/form-data; boundary=\"fron", &whole),
        ("multipart/mixed; boundary=frontier", &whole),
        ("multipart/", &whole),
        (right, &twice),
        (right, open),
        (right, &whole[..20]),
        (right, b"--frontier"),
        (right, b"--frontier--\r\n"),
        (right, b"--frontier\r\n\r\n\r\n--frontier--\r\n"),
        (right, b"\r\n\r\n\r\n"),
        (right, head),
        (right, &form("", "a.png", b"x")),
        (right, &form("file", "a.png", b"x")),
        (right, &form("image\"; name=\"file", "a.png", b"x")),
        (right, &form("image", "a.png", b"")),
        (right, &[head, &b"X: ".repeat(40_000)[..], b"\r\n\r\nx\r\n--frontier--\r\n"].concat()),
        (right, &b"--frontier\r\n".repeat(20_000)),
    ] {
        all.push(posted("form", content_type, body, &[400, 415]));
    }
    all
}

fn requests() -> Vec<Upload> {
    let head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let raw = |kind, headers: &str, body: &[u8], expected| {
        upload(kind, [head.as_bytes(), headers.as_bytes(), b"\r\n", body].concat(), expected)
    };
    let mut all = Vec::new();
    for length in ["2097153", "4294967296", "9223372036854775807", "18446744073709551615"] {
        all.push(raw("length", &format!("Content-Length: {length}\r\n"), b"abc", &[400, 413, 431]));
    }
    for length in ["-1", "1e3", "18446744073709551616", "0x10", "3, 4", " "] {
        all.push(raw("length", &format!("Content-Length: {length}\r\n"), b"abc", &[400, 413]));
    }
    all.push(raw("length", "Content-Length: 3\r\nContent-Length: 4\r\n", b"abcd", &[400, 413]));
    let chunk = [&b"10000\r\n"[..], &vec![7; 0x10000], b"\r\n"].concat();
    all.push(raw("chunks", "Transfer-Encoding: chunked\r\n", &chunk.repeat(40), &[413]));
    for chunks in
        ["zz\r\nabc\r\n0\r\n\r\n", "3\r\nabcdef\r\n0\r\n\r\n", "ffffffffffffffffff\r\nabc", "-1\r\na\r\n", "3;"]
    {
        let headers = "Transfer-Encoding: chunked\r\n";
        let part = raw("chunks", headers, chunks.as_bytes(), &[400, 408]);
        all.push(part);
    }
    all.push(raw("chunks", "Transfer-Encoding: gzip, chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", &[400, 415, 501]));
    all.push(raw("chunks", "Transfer-Encoding: nonsense\r\n", b"abc", &[400, 501]));
    let many: String = (0..300).map(|i| format!("X-{i}: a\r\n")).collect();
    all.push(raw("headers", &many, b"", &[431]));
    all.push(raw("headers", &format!("X: {}\r\n", "a".repeat(1 << 20)), b"", &[431]));
    for line in [
        "GET",
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        all.push(upload("no HTTP", line.as_bytes().to_vec(), &[]));
    }
    for path in ["/../../etc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/v1/predict/", "/v1/../v1/predict", "/%00"]
    {
        all.push(upload("path", request("POST", path, "", UNREADABLE), &[404]));
    }
    for query in
        ["?image=/etc/passwd", "?model=/tmp", "?abstain=-1", "?abstain=inf", "?no_gate=", "?pictures=true&pictures=x"]
    {
        all.push(upload("query", request("POST", &format!("/v1/predict{query}"), "", &png(1)), &[400]));
    }
    for headers in ["Origin: null\r\n", "Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        all.push(upload("origin", request("POST", "/v1/predict", headers, &png(1)), &[403]));
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.1.2.3"] {
        let text =
            format!("POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        all.push(upload("host", text.into_bytes(), &[421]));
    }
    all
}

/// Senders that take their time: a body that never ends, a body a byte at a time, a header that never ends.
fn slow() -> Vec<Upload> {
    let head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
    let byte_by_byte = std::iter::once(head.to_vec()).chain((0..40).map(|_| vec![7])).collect();
    let chunked = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunks = std::iter::once(chunked).chain((0..40).map(|_| b"1\r\na\r\n".to_vec())).collect();
    let in_form = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\
        Content-Type: multipart/form-data; boundary=frontier\r\n\r\n--frontier\r\n";
    let slow = |parts, expected| Upload { kind: "slow", parts, expected };
    vec![
        slow(vec![head.to_vec()], &[408]),
        slow(byte_by_byte, &[408]),
        slow(chunks, &[408]),
        slow(vec![in_form.to_vec()], &[408]),
        slow(vec![b"POST /v1/predict HT".to_vec()], &[]),
        slow(
            std::iter::once(b"POST / HTTP/1.1\r\n".to_vec()).chain((0..40).map(|_| b"X: a\r\n".to_vec())).collect(),
            &[],
        ),
        slow(Vec::new(), &[]),
    ]
}

/// What is wrong with the answer to an upload.
fn judged(address: SocketAddr, upload: &Upload) -> Result<(), String> {
    let reply = match &upload.parts[..] {
        [bytes] if upload.kind != "slow" => send(address, bytes),
        parts => {
            let mut stream = connect(address);
            for part in parts {
                // Whoever was answered already may be told that nobody listens.
                let _ = stream.write_all(part);
                thread::sleep(Duration::from_millis(50));
            }
            receive(&mut stream)
        }
    };
    let Some(reply) = reply else {
        return if upload.expected.is_empty() { Ok(()) } else { Err("was not answered".to_owned()) };
    };
    let fits =
        upload.expected.contains(&reply.status) || upload.expected.is_empty() && (400..=505).contains(&reply.status);
    if !fits {
        return Err(format!("was answered {}, {}", reply.status, String::from_utf8_lossy(&reply.body)));
    }
    // What is no HTTP is answered by the HTTP library, with a status alone.
    if !reply.body.is_empty() {
        let (_, reason) = reply.failure();
        if reason == "internal" {
            return Err("made the server fail".to_owned());
        }
    }
    Ok(())
}

#[test]
fn none_ends_it_and_each_has_a_reason() {
    let mut server = Server::start(&["--max-mb", "1", "--seconds", "1", "--parallel", "2"]);
    let address = server.address;
    let good = post(address, "", &png(1)).body;
    let mut uploads = Vec::new();
    for some in [bombs(), cut_and_flipped(), other_files(), forms(), requests(), slow()] {
        uploads.extend(some);
    }
    let count = uploads.len();
    assert!(count >= 300, "{count} uploads");
    let (left, wrong) = (Mutex::new(uploads.into_iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some(upload) = left.lock().unwrap().next() else { return };
                    if let Err(problem) = judged(address, &upload) {
                        let start: Vec<u8> = upload.parts.concat().into_iter().take(200).collect();
                        let text = format!("{}: {problem}: {}", upload.kind, String::from_utf8_lossy(&start));
                        wrong.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    let peak = server.peak_mib();
    assert!(peak < 400, "{peak} MiB for bodies of at most 1 MiB");
    assert!(server.child.try_wait().unwrap().is_none(), "the server ended");
    assert_eq!(post(address, "", &png(1)).body, good);
}

#[test]
fn a_name_is_said_and_never_opened() {
    let server = Server::start(&[]);
    for (name, expected) in [
        ("../../../etc/passwd", "passwd"),
        ("/proc/self/environ", "environ"),
        ("C:\\patients\\1.png", "1.png"),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        ("..", "image"),
    ] {
        let reply = post_form(server.address, "", &form("image", name, &png(1)));
        assert_eq!(reply.json()["image"], expected, "{name}");
    }
    // A path is no image, whatever lies there.
    let path = server.model.path().join("config.json");
    let reply = post(server.address, "", path.to_str().unwrap().as_bytes());
    assert_eq!(reply.failure(), (415, "unknown_format".to_owned()));
}
