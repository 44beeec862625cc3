//! Every route, every status, and that an answer depends on nothing but the image.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use candle_core::Device;
use model::{Model, Question};
use picture::Radiograph;
use predict::output::value;
use serde_json::{Value, json};

use crate::client::{Reply, connect, form, get, post, post_form, receive, request, send};
use crate::files::{PLAIN, VIDEO, blank, claims, dicom, png};
use crate::schema::Api;
use crate::server::Server;

/// Holds an answer against the description of the API.
fn described(api: &Api, method: &str, path: &str, reply: &Reply) -> Value {
    let json = reply.json();
    api.check(&format!("{method} {path} {}", reply.status), api.schema(path, method, reply.status), &json);
    json
}

#[test]
fn answers_are_those_of_the_program_and_of_the_description() {
    let server = Server::start(&[]);
    let api = Api(get(server.address, "/openapi.json").json());
    let model = Model::open(server.model.path(), &Device::Cpu).unwrap();
    let expected = |name: &str, bytes: &[u8], question| {
        let radiograph = Radiograph::decode(name, bytes).unwrap();
        value(name, &model.answer(&[&radiograph], question).unwrap()[0])
    };
    let about = described(&api, "get", "/v1/model", &get(server.address, "/v1/model"));
    let health = described(&api, "get", "/healthz", &get(server.address, "/healthz"));
    assert_eq!(health, json!({"status": "ok", "model": model.digest}));
    assert_eq!(about["findings"], json!(cxr::output_names()));
    let ask = Question::default();
    for (query, bytes, question) in [
        ("", png(1), ask),
        ("?pictures=false", png(2), ask),
        ("?pictures=true", png(3), ask),
        ("?abstain=0.1", png(4), Question { error_rate: Some(0.1), ..ask }),
        ("", dicom(PLAIN, true), ask),
        ("?pictures=true", blank(), ask),
        ("?no_gate=true&pictures=true", blank(), Question { no_gate: true, ..ask }),
    ] {
        for (name, reply) in [
            ("image", post(server.address, query, &bytes)),
            ("a ä.png", post_form(server.address, query, &form("image", "C:\\x/../a ä.png", &bytes))),
        ] {
            assert_eq!(reply.status, 200, "{reply:?}");
            let mut got = described(&api, "post", "/v1/predict", &reply);
            assert_eq!(got["model"], model.digest);
            assert_eq!(got["notice"], "not for clinical use");
            assert_eq!([&got["findings"], &got["thresholds"]], [&about["findings"], &about["thresholds"]]);
            assert_eq!(got.get("pictures").is_some(), query.contains("pictures=true"));
            for key in ["model", "notice", "findings", "thresholds", "pictures"] {
                got.as_object_mut().unwrap().remove(key);
            }
            assert_eq!(got, expected(name, &bytes, question), "{query}");
        }
    }
    let refused = post(server.address, "?pictures=true", &blank()).json();
    assert_eq!((&refused["refused"]["reason"], &refused["probabilities"]), (&json!("blank"), &Value::Null));
    assert!(refused["pictures"]["radiograph"].is_string() && refused["pictures"]["crop"].is_null());
}

#[test]
fn pictures_are_pictures() {
    use base64::Engine;
    let server = Server::start(&[]);
    let pictures = post(server.address, "?pictures=true", &png(1)).json()["pictures"].clone();
    let decoded = |key: &str| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(pictures[key].as_str().unwrap()).unwrap();
        Radiograph::decode(key, &bytes).unwrap().image
    };
    let prepared = Radiograph::decode("a", &png(1)).unwrap().image.square(48);
    assert_eq!(decoded("radiograph"), prepared);
    assert_eq!(decoded("crop").width, 48);
    assert!(decoded("heat_map").width > 0);
    assert_eq!((&pictures["size_px"], &pictures["heat_frame_px"]), (&json!(48), &json!([4.0, 4.0, 44.0, 44.0])));
}

#[test]
fn every_status_has_its_reason() {
    let server = Server::start(&["--max-mb", "1", "--seconds", "1"]);
    let address = server.address;
    let api = Api(get(address, "/openapi.json").json());
    let image = |query: &str, bytes: &[u8]| post(address, query, bytes);
    let with = |headers: &str| send(address, &request("POST", "/v1/predict", headers, &png(1))).unwrap();
    let raw = |text: &str| send(address, text.as_bytes()).unwrap();
    let large = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n";
    let mut slow = connect(address);
    slow.write_all(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nabc").unwrap();
    for (reply, status, reason) in [
        (image("", b""), 400, "empty"),
        (image("", &png(1)[..200]), 400, "damaged"),
        (image("?no_gate=perhaps", &png(1)), 400, "query"),
        (image("?abstain=1", &png(1)), 400, "query"),
        (image("?abstain=NaN", &png(1)), 400, "query"),
        (image("?gate=no", &png(1)), 400, "query"),
        (post_form(address, "", &form("file", "a.png", &png(1))), 400, "form"),
        (post_form(address, "", b"nonsense"), 400, "form"),
        (with("Origin: http://evil.example\r\n"), 403, "origin"),
        (receive(&mut slow).unwrap(), 408, "slow"),
        (raw(large), 413, "too_large"),
        (image("", &vec![0; (1 << 20) + 1]), 413, "too_large"),
        (post_form(address, "", &form("image", "a.png", &vec![0; 1 << 20])), 413, "too_large"),
        (image("", &claims(60_000, 60_000, 8, 0)), 413, "too_large"),
        (image("", b"GIF89a, and so on"), 415, "unknown_format"),
        (image("", &dicom(PLAIN, false)), 422, "no_pixels"),
        (image("", &dicom(VIDEO, true)), 422, "transfer_syntax"),
        (raw("POST /v1/predict HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n"), 421, "host"),
        (get(address, "/v1/predict"), 405, "method"),
    ] {
        assert_eq!(reply.failure(), (status, reason.to_owned()), "{reply:?}");
        let method = if status == 405 { api.0["components"]["responses"]["E405"].clone() } else { Value::Null };
        match method {
            Value::Null => described(&api, "post", "/v1/predict", &reply),
            _ => described(&api, "get", "/", &reply),
        };
        safe(&reply);
    }
    assert_eq!(get(address, "/etc/passwd").failure(), (404, "not_found".to_owned()));
    assert_eq!(get(address, "/v1/predict").header("allow"), Some("post"));
}

/// What every answer says to a browser.
fn safe(reply: &Reply) {
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let policy = reply.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!reply.head.contains("access-control"), "{}", reply.head);
}

#[test]
fn all_routes_are_described_and_say_what_a_browser_may_do() {
    let server = Server::start(&[]);
    let api = Api(get(server.address, "/openapi.json").json());
    for (path, methods) in api.0["paths"].as_object().unwrap() {
        let known = methods.as_object().unwrap().keys().next().unwrap();
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let reply = send(server.address, &request(method, path, "", b"")).unwrap();
            let allowed = *known == method.to_lowercase();
            assert_eq!(reply.status == 405, !allowed, "{method} {path} {}", reply.status);
            safe(&reply);
        }
    }
    let page = get(server.address, "/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(String::from_utf8(page.body).unwrap().contains("Not for clinical use"));
    let head = send(server.address, &request("HEAD", "/", "", b"")).unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn an_answer_has_the_same_bits_among_many() {
    let server = Server::start(&["--parallel", "4"]);
    let images: Vec<Vec<u8>> = (0..8).map(png).collect();
    let alone: Vec<Vec<u8>> = images.iter().map(|image| post(server.address, "?pictures=true", image).body).collect();
    let wrong: usize = thread::scope(|scope| {
        let ask = |client: usize| {
            let (images, alone) = (&images, &alone);
            move || {
                let each = (0..6).map(|turn| (client + turn) % images.len());
                each.filter(|&index| post(server.address, "?pictures=true", &images[index]).body != alone[index])
                    .count()
            }
        };
        let clients: Vec<_> = (0..64).map(|client| scope.spawn(ask(client))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(wrong, 0);
}

/// Looks again and again until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(20), "never {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the server said something to that client.
fn was_answered(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    stream.peek(&mut [0]).is_ok()
}

#[test]
fn too_many_are_told_to_come_back() {
    let slow = |server: &Server, bytes: usize| {
        let mut stream = connect(server.address);
        let head = format!("POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\n\r\nabc");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    // As many images as may wait, and 5 more; as many bytes as may be in memory, and 2 MiB more.
    for (clients, more, bytes) in [(65, 5, 1000), (8, 2, 1 << 20)] {
        let server = Server::start(&["--parallel", "1", "--max-mb", "1", "--seconds", "60"]);
        let held: Vec<TcpStream> = (0..clients + more).map(|_| slow(&server, bytes)).collect();
        let answered = || held.iter().filter(|stream| was_answered(stream)).count();
        until("too many", || answered() == more);
        let busy = post(server.address, "", &png(1));
        assert_eq!(busy.failure(), (503, "busy".to_owned()));
        assert_eq!(busy.header("retry-after"), Some("1"));
        assert_eq!(get(server.address, "/healthz").status, 200);
        assert_eq!(answered(), more);
        drop(held);
        until("room again", || post(server.address, "", &png(1)).status == 200);
    }
}

#[test]
fn connections_beyond_the_limit_wait() {
    let server = Server::start(&["--seconds", "60"]);
    let held: Vec<TcpStream> = (0..256).map(|_| connect(server.address)).collect();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| get(server.address, "/healthz").status);
        thread::sleep(Duration::from_millis(500));
        assert!(!waiting.is_finished());
        drop(held);
        assert_eq!(waiting.join().unwrap(), 200);
    });
}
