//! The end of the program.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::client::{connect, get, receive, request};
use crate::files::png;
use crate::server::Server;

#[test]
fn a_signal_ends_it_and_what_was_asked_is_answered() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut server = Server::start(&["--parallel", "1"]);
        // A connection that is kept, one that sends slowly, and images that wait for their turn.
        let mut idle = connect(server.address);
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut slow = connect(server.address);
        slow.write_all(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\nabc").unwrap();
        let mut asked: Vec<TcpStream> = (0..24).map(|_| connect(server.address)).collect();
        for stream in &mut asked {
            stream.write_all(&request("POST", "/v1/predict?pictures=true", "", &png(1))).unwrap();
        }
        assert_eq!(receive(&mut asked.remove(0)).unwrap().status, 200);
        // All bodies have arrived when the first was answered and another request came through.
        assert_eq!(get(server.address, "/healthz").status, 200);
        server.signal(signal);
        for stream in &mut asked {
            assert_eq!(receive(stream).unwrap().status, 200);
        }
        assert_eq!(receive(&mut slow).unwrap().failure(), (503, "stopping".to_owned()));
        let (status, stderr) = server.ended(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("stopped; all that asked were answered"), "{stderr}");
        assert!(TcpStream::connect(server.address).is_err());
    }
}

#[test]
fn a_client_that_never_reads_does_not_hold_it_up_for_long() {
    let mut server = Server::start(&[]);
    let mut deaf = connect(server.address);
    // More answers than the system keeps for a client that does not take them.
    let asked = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(4000);
    let _ = deaf.set_write_timeout(Some(Duration::from_secs(1)));
    let _ = deaf.write_all(&asked);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(get(server.address, "/healthz").status, 200);
    server.signal(Signal::TERM);
    let (status, stderr) = server.ended(Duration::from_secs(30));
    assert_eq!(status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
}

#[test]
fn a_port_is_taken_once_and_other_machines_need_leave() {
    let server = Server::start(&[]);
    let run = |args: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("predict"));
        let output = command.args(["serve", "--model"]).arg(server.model.path()).args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stderr) = run(&["--port", &server.address.port().to_string()]);
    assert!(code == 1 && stderr.contains("hint: --port 0 takes any free port"), "{code} {stderr}");
    let (code, stderr) = run(&["--host", "0.0.0.0", "--port", "0"]);
    assert!(code == 2 && stderr.contains("hint: --allow-remote"), "{code} {stderr}");
    let (code, stderr) = run(&["--max-mb", "0"]);
    assert!(code == 2 && stderr.contains("--max-mb"), "{code} {stderr}");
    let (code, stderr) = run(&["--port", "0", "--model", "/nonexistent"]);
    assert!(code == 2 || code == 3, "{code} {stderr}");
}
