//! What `s3://` shows in full, shown of `gs://` and `az://`: input and results go through their clients, too.
//!
//! Google's service speaks S3's protocol but for the signatures, so that the same server answers its client. Azure's has an
//! emulator, Azurite.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use e2e::{Pipeline, Ran, contents};
use fs_err as fs;

use super::proxy::Proxy;
use super::{Server, installed};

/// What Azurite's account, which is the same everywhere, is allowed by whoever says this.
const ALLOWED: &str = "sv=2018-11-09&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&spr=https%2Chttp&\
                       sig=K%2BOQqJj6KnEczTtcVU385IwXLAzlxsauImxanI94hY0%3D";

/// Files that are large enough to go in parts.
const LARGE: [&str; 4] = ["--set", "phantom.size=512", "--set", "prep.size=512"];

/// Programs whose environment says where a service is, behind a proxy where one request of a hundred fails.
struct Service {
    scheme: &'static str,
    pipeline: Pipeline,
    proxy: Proxy,
    variables: Vec<(&'static str, String)>,
    _server: Server,
}

impl Service {
    fn google() -> Service {
        let server = Server::open_to_all();
        let proxy = Proxy::start(server.port, 1);
        // As emulators are named to object_store.
        let account = format!(
            r#"{{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true, "gcs_base_url": "http://127.0.0.1:{}"}}"#,
            proxy.port
        );
        let variables = vec![
            ("GOOGLE_SERVICE_ACCOUNT_KEY", account),
            ("GOOGLE_SKIP_SIGNATURE", "true".to_owned()),
            ("GOOGLE_ALLOW_HTTP", "true".to_owned()),
        ];
        Service::new("gs", server, proxy, variables)
    }

    fn azure() -> Service {
        let server = Server::start_as(|port, _| {
            let mut command = installed("AGCNN_AZURITE");
            command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]);
            command.arg("--blobPort").arg(port.to_string());
            command
        });
        let mut made = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let path = format!("/devstoreaccount1/results?restype=container&{ALLOWED}");
        write!(made, "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        made.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 201 "), "{answer}");
        let proxy = Proxy::start(server.port, 1);
        let variables = vec![
            ("AZURE_STORAGE_USE_EMULATOR", "true".to_owned()),
            ("AZURITE_BLOB_STORAGE_URL", format!("http://127.0.0.1:{}", proxy.port)),
        ];
        Service::new("az", server, proxy, variables)
    }

    fn new(scheme: &'static str, server: Server, proxy: Proxy, variables: Vec<(&'static str, String)>) -> Service {
        let pipeline = Pipeline::new();
        Service { scheme, pipeline, proxy, variables, _server: server }
    }

    fn run(&self, stage: &str, args: &[&str]) -> Ran {
        let mut command = Command::new(e2e::binaries().join(stage));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("GOOGLE_") || text.starts_with("AZURE_") {
                command.env_remove(&name);
            }
        }
        command.current_dir(self.pipeline.path()).args(["--config", "tiny.toml"]).args(LARGE).args(args);
        command.env("RAYON_NUM_THREADS", "2").env("NO_COLOR", "1").env("NO_PROXY", "127.0.0.1");
        command.envs(self.variables.iter().cloned());
        self.pipeline.run(command)
    }

    /// As the machine with this cache.
    fn machine(&self, cache: &str, stage: &str, args: &[&str]) -> Ran {
        let place = format!("{}://results/p", self.scheme);
        self.run(stage, &[&["--artifacts-dir", &place, "--cache-dir", cache], args].concat()).expect(0)
    }

    /// What that machine has of a stage's result.
    fn has(&self, cache: &str, stage: &str) -> std::path::PathBuf {
        self.pipeline.path().join(cache).join(self.scheme).join("results/p/default").join(stage)
    }
}

/// A dataset into the bucket, prepared from there, trained on, and attended by a machine that has nothing.
fn same_bytes(service: &Service) {
    // A folder of files, as NIH's, there and here: the phantom's result.
    service.machine("first", "phantom", &[]);
    let made = fs::canonicalize(service.has("first", "phantom")).unwrap();
    let key = made.file_name().unwrap().to_string_lossy();
    let remote = format!("prep.root={}://results/p/store/phantom/{key}", service.scheme);
    let raw = service.pipeline.path().join("raw");
    for (name, bytes) in contents(&made) {
        fs::create_dir_all(raw.join(&name).parent().unwrap()).unwrap();
        fs::write(raw.join(name), bytes).unwrap();
    }
    for stage in ["prep", "global", "attend"] {
        service.run(stage, &["--set", "prep.root=raw"]).expect(0);
        // Each on another machine.
        service.machine(stage, stage, &["--set", &remote]);
        let here = contents(&service.pipeline.published("default", stage));
        assert!(contents(&service.has(stage, stage)) == here, "{stage}: other bytes");
        assert!(service.machine("another", stage, &["--set", &remote]).current(), "{stage}");
    }
    let (requests, faults) = service.proxy.counts();
    assert!(requests > 200 && faults > 0, "{faults} of {requests} requests failed");
    let in_parts = |line: &String| line.contains("uploadId=") || line.contains("comp=block");
    assert!(service.proxy.lines().iter().any(in_parts), "no file was large");
}

#[test]
#[ignore = "needs programs with object stores and an S3 server: just test-cloud"]
fn googles_client_has_the_bytes_on_disk() {
    same_bytes(&Service::google());
}

#[test]
#[ignore = "needs programs with object stores and Azurite: just test-cloud"]
fn azures_client_has_the_bytes_on_disk() {
    same_bytes(&Service::azure());
}
