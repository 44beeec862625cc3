//! Input and results in a bucket: a real S3 server, a network that fails, and programs built with the feature `cloud`.
//!
//! `just test-cloud` compiles the server, `s3s-fs`, and names it in `AGCNN_S3`; where there is npm, it installs Azure's emulator,
//! and names it in `AGCNN_AZURITE`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{Pipeline, Ran, TINY, contents, edit};
use fs_err as fs;

#[path = "cloud/proxy.rs"]
mod proxy;
#[path = "cloud/services.rs"]
mod services;

use proxy::Proxy;

const KEY: &str = "AKIDEXAMPLEAKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";

/// A server that a variable names; `just test-cloud` installs it.
fn installed(variable: &str) -> Command {
    Command::new(std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names a server: just test-cloud")))
}

/// A server; of S3's protocol it has the buckets `data` and `results`, whose objects are files of its folder.
struct Server {
    folder: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Server {
    fn start() -> Server {
        Server::start_as(|port, folder| {
            let mut command = Server::open(port, folder);
            command.args(["--access-key", KEY, "--secret-key", SECRET]);
            command
        })
    }

    /// One that asks nobody for a key.
    fn open_to_all() -> Server {
        Server::start_as(Server::open)
    }

    fn open(port: u16, folder: &Path) -> Command {
        let mut command = installed("AGCNN_S3");
        command.args(["--host", "127.0.0.1", "--port"]).arg(port.to_string()).arg(folder);
        command
    }

    /// The one that a command for a free port and a folder starts.
    fn start_as(command: impl FnOnce(u16, &Path) -> Command) -> Server {
        let folder = tempfile::tempdir().unwrap();
        for bucket in ["data", "results"] {
            fs::create_dir(folder.path().join(bucket)).unwrap();
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = command(port, folder.path());
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let since = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(30), "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Server { folder, port, process }
    }

    fn bucket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A pipeline whose stages know the server behind a proxy.
struct Cloud {
    pipeline: Pipeline,
    server: Server,
    proxy: Proxy,
}

impl Cloud {
    /// With a dataset in `raw` of its folder, which is in the bucket `data`, too; so many of a hundred requests fail.
    fn new(percent: usize) -> Cloud {
        let cloud = Cloud::empty(percent);
        cloud.run("phantom", &["--run", "made"]).expect(0);
        let made = cloud.pipeline.published("made", "phantom");
        for to in [cloud.pipeline.path().join("raw"), cloud.server.bucket("data").join("nih")] {
            for (name, bytes) in contents(&made) {
                let path = to.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
        }
        cloud
    }

    fn empty(percent: usize) -> Cloud {
        let pipeline = Pipeline::new();
        fs::write(pipeline.path().join("tiny.toml"), TINY).unwrap();
        let server = Server::start();
        let proxy = Proxy::start(server.port, percent);
        Cloud { pipeline, server, proxy }
    }

    fn command(&self, stage: &str, args: &[&str]) -> Command {
        let mut command = Command::new(e2e::binaries().join(stage));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command.current_dir(self.pipeline.path());
        if stage != "store" {
            command.args(["--config", "tiny.toml"]);
        }
        command.args(args).env("RAYON_NUM_THREADS", "2").env("NO_COLOR", "1");
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET).env("AWS_REGION", "us-east-1");
        command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.proxy.port));
        command.env("AWS_ALLOW_HTTP", "true").env("NO_PROXY", "127.0.0.1");
        command
    }

    fn run(&self, stage: &str, args: &[&str]) -> Ran {
        self.pipeline.run(self.command(stage, args))
    }

    /// As the machine with this cache.
    fn machine(&self, cache: &str, stage: &str, args: &[&str]) -> Ran {
        self.run(stage, &[&["--artifacts-dir", "s3://results/p", "--cache-dir", cache], args].concat())
    }

    /// The folder of a run's result in the bucket; `None` where there is none.
    fn published(&self, run: &str, stage: &str) -> Option<PathBuf> {
        let bucket = self.server.bucket("results").join("p");
        let link = fs::read_to_string(bucket.join(run).join(stage)).ok()?;
        let folder = bucket.join("store").join(stage).join(link.strip_prefix("1 ")?.trim_end());
        folder.join("manifest.json").is_file().then_some(folder)
    }
}

const REMOTE: [&str; 2] = ["--set", "prep.root=s3://data/nih"];
const STAGES: [&str; 3] = ["prep", "global", "attend"];

/// Prep to attend with input and results in the bucket: the same keys and bytes as on disk.
fn same_bytes(percent: usize) {
    let cloud = Cloud::new(percent);
    for stage in STAGES {
        cloud.run(stage, &["--set", "prep.root=raw"]).expect(0);
        let ran = cloud.machine("here", stage, &REMOTE).expect(0);
        let there = cloud.published("default", stage).unwrap_or_else(|| panic!("{stage} is not in the bucket\n{ran}"));
        let here = cloud.pipeline.published("default", stage);
        assert_eq!(fs::canonicalize(&here).unwrap().file_name(), there.file_name(), "another key\n{ran}");
        assert!(contents(&here) == contents(&there), "other bytes\n{ran}");
        assert!(!ran.stderr.contains(SECRET) && !ran.stderr.contains(KEY), "{ran}");
        assert!(cloud.machine("here", stage, &REMOTE).expect(0).current());
    }
    let (requests, faults) = cloud.proxy.counts();
    assert!(requests > 200 && faults * 150 > requests * percent, "{faults} of {requests} requests failed");

    // Another machine has nothing to do, and fetches what it reads only.
    for stage in STAGES {
        assert!(cloud.machine("there", stage, &REMOTE).expect(0).current());
    }
    let fetched = contents(&cloud.pipeline.path().join("there"));
    assert!(fetched.keys().all(|path| !path.to_string_lossy().contains("/train-")), "{:?}", fetched.keys());
    cloud.machine("there", "attend", &["--set", "attend.threshold=0.3"]).expect(0);
}

#[test]
#[ignore = "needs programs with object stores and an S3 server: just test-cloud"]
fn one_request_of_a_hundred_fails_and_the_bytes_are_those_on_disk() {
    same_bytes(1);
}

#[test]
#[ignore = "needs programs with object stores and an S3 server: just test-cloud"]
fn ten_requests_of_a_hundred_fail_and_the_bytes_are_those_on_disk() {
    same_bytes(10);
}

#[test]
#[ignore = "needs programs with object stores and an S3 server: just test-cloud"]
fn large_files_go_in_parts() {
    let cloud = Cloud::empty(10);
    let large = ["--set", "phantom.size=512", "--set", "prep.size=512"];
    for stage in ["phantom", "prep"] {
        cloud.run(stage, &large).expect(0);
        cloud.machine("here", stage, &large).expect(0);
        let there = cloud.published("default", stage).unwrap();
        assert!(contents(&cloud.pipeline.published("default", stage)) == contents(&there), "{stage}");
    }
    assert!(cloud.proxy.lines().iter().any(|line| line.contains("uploadId=")), "no file was large");
}

#[test]
#[ignore = "needs programs with object stores and an S3 server: just test-cloud"]
fn what_is_refused_is_said_without_a_secret() {
    let cloud = Cloud::new(0);
    let hidden = "hunter2hunter2";
    let wrong = |name: &str, value: &str| {
        let mut command = cloud.command("prep", &REMOTE);
        command.env(name, value).arg("-vv");
        cloud.pipeline.run(command)
    };
    let cases = [
        (wrong("AWS_SECRET_ACCESS_KEY", hidden).expect(1), "s3://data/nih: the server says 403 SignatureDoesNotMatch"),
        (wrong("AWS_ACCESS_KEY_ID", hidden).expect(1), "s3://data/nih: the server says 403"),
        (wrong("AWS_ENDPOINT_URL", "http://127.0.0.1:9").expect(1), "no connection to the server: "),
        (wrong("AWS_ENDPOINT_URL", "ht!tp://x").expect(1), "no request can be made of what the environment says: "),
        (
            cloud.run("prep", &["--set", "prep.root=s3://none/nih"]).expect(3),
            "s3://none/nih: the server says 404 NoSuchBucket",
        ),
        (
            cloud.run("prep", &["--set", "prep.root=s3://data/none"]).expect(3),
            "s3://data/none: no such folder (prep.root)",
        ),
        (
            cloud.run("prep", &["--artifacts-dir", "s3://none/p"]).expect(3),
            "s3://none/p: the server says 404 NoSuchBucket",
        ),
        (cloud.run("prep", &["--set", "prep.root=https://data/nih"]).expect(2), "expected a path, file:///PATH, s3://"),
        (
            cloud.run("store", &["runs", "--artifacts-dir", "s3://results/p"]).expect(2),
            "s3://results/p: a bucket, expected a folder of this machine",
        ),
    ];
    for (ran, text) in cases {
        assert!(ran.stderr.contains(text), "{text}\n{ran}");
        assert!(!ran.stderr.contains(SECRET) && !ran.stderr.contains(hidden), "{ran}");
    }
    // A password in a URL is refused by every stage, before anything repeats it.
    let url = format!("prep.root=s3://{KEY}:{hidden}@data/nih");
    for (stage, args) in [
        ("prep", vec!["--set", &url]),
        ("prep", vec!["--set", &url, "--print-config"]),
        ("global", vec!["--set", &url]),
        ("prep", vec!["--artifacts-dir", &url["prep.root=".len()..]]),
        ("store", vec!["runs", "--artifacts-dir", &url["prep.root=".len()..]]),
    ] {
        let ran = cloud.run(stage, &args).expect(2);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(hidden), "{ran}");
        assert!(ran.stderr.contains("keys come from the environment only"), "{ran}");
    }
}

#[test]
#[ignore = "needs programs with object stores and an S3 server: just test-cloud"]
fn a_damaged_object_is_found_and_named_and_made_again() {
    let cloud = Cloud::new(0);
    cloud.machine("here", "prep", &REMOTE).expect(0);
    let images = cloud.published("default", "prep").unwrap().join("images");
    let name = fs::read_dir(&images).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let (path, whole) = (images.join(&name), fs::read(images.join(&name)).unwrap());
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (cache, bytes, what) in [("one", &flipped[..], "BLAKE3"), ("two", &whole[..whole.len() / 2], "bytes, expected")]
    {
        edit(&path, bytes);
        let ran = cloud.machine(cache, "global", &[]).expect(4);
        assert!(
            ran.stderr.contains("s3://results/p/store/prep/")
                && ran.stderr.contains(&format!("images/{name} is damaged: ")),
            "{ran}"
        );
        assert!(ran.stderr.contains(what) && ran.stderr.contains("hint: just prep --verify"), "{ran}");
    }
    let ran = cloud.machine("two", "prep", &[&REMOTE[..], &["--verify"]].concat()).expect(0);
    assert!(!ran.current(), "{ran}");
    assert!(fs::read(&path).unwrap() == whole);
    cloud.machine("one", "global", &[]).expect(0);
}

#[test]
#[ignore = "needs programs with object stores and an S3 server: just test-cloud"]
fn an_upload_that_is_cut_short_leaves_nothing_visible_and_is_completed() {
    let cloud = Cloud::new(0);
    for point in ["after-publish", "before-upload-manifest", "before-link"] {
        let run = ["--run", point, "--set", &format!("prep.contrast=1.{}", point.len())];
        let args = [&REMOTE[..], &run].concat();
        let mut command = cloud.command("prep", &["--artifacts-dir", "s3://results/p", "--cache-dir", "here"]);
        command.args(&args).env("AGCNN_TEST_KILL_AT", point);
        assert_eq!(cloud.pipeline.run(command).code, -1);
        assert!(cloud.published(point, "prep").is_none());
        let ran = cloud.machine("there", "global", &args).expect(3);
        assert!(ran.stderr.contains("which has not run in run"), "{ran}");
        // The result is whole on the machine that made it.
        let ran = cloud.machine("here", "prep", &args).expect(0);
        assert!(ran.current(), "{ran}");
        let there = cloud.published(point, "prep").unwrap();
        let here = cloud.pipeline.path().join("here/s3/results/p").join(point).join("prep");
        assert!(contents(&here) == contents(&there));
        assert!(cloud.machine("there", "prep", &args).expect(0).current());
    }
}

#[test]
#[ignore = "needs programs with object stores and an S3 server: just test-cloud"]
fn another_machine_takes_the_training() {
    let cloud = Cloud::new(1);
    for stage in ["prep", "global"] {
        cloud.machine("here", stage, &REMOTE).expect(0);
    }
    // Another way to score is another result of the same training.
    let ran = cloud.machine("there", "global", &[&REMOTE[..], &["--set", "global.tta=flip"]].concat()).expect(0);
    assert!(!ran.current() && ran.stderr.contains("the training is in the store"), "{ran}");
    assert!(!ran.stderr.contains("epoch 1"), "{ran}");
}

#[test]
#[ignore = "needs programs with object stores and an S3 server: just test-cloud"]
fn a_bucket_of_archives_and_a_file_url_are_the_same_dataset() {
    let cloud = Cloud::new(10);
    let folder = cloud.pipeline.path().join("raw");
    let url = format!("prep.root=file://{}", folder.display());
    cloud.run("prep", &["--set", "prep.root=raw"]).expect(0);
    assert!(cloud.run("prep", &["--set", &url]).expect(0).current());

    // The images of one folder as an archive, on disk and in the bucket.
    let images = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let archive = folder.join("images_packed.tar.gz");
    let packed = flate2::write::GzEncoder::new(fs::File::create(&archive).unwrap(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(packed);
    builder.append_dir_all("images", &images).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    let there = cloud.server.bucket("data").join("nih");
    fs::copy(&archive, there.join("images_packed.tar.gz")).unwrap();
    fs::remove_dir_all(there.join(images.file_name().unwrap())).unwrap();
    fs::remove_dir_all(&images).unwrap();
    cloud.run("prep", &["--run", "packed", "--set", "prep.root=raw"]).expect(0);
    let ran = cloud.machine("here", "prep", &[&["--run", "packed"], &REMOTE[..]].concat()).expect(0);
    assert!(
        contents(&cloud.pipeline.published("packed", "prep")) == contents(&cloud.published("packed", "prep").unwrap()),
        "{ran}"
    );
}

#[test]
#[ignore = "needs programs with object stores and an S3 server: just test-cloud"]
fn crops_are_cut_from_the_originals_in_a_bucket() {
    let cloud = Cloud::new(1);
    let original = ["--set", "attend.source=original"];
    for stage in STAGES {
        cloud.run(stage, &[&["--set", "prep.root=raw"], &original[..]].concat()).expect(0);
        cloud.run(stage, &[&["--run", "far"], &REMOTE[..], &original].concat()).expect(0);
    }
    let [near, far] = ["default", "far"].map(|run| contents(&cloud.pipeline.published(run, "attend")));
    assert!(near == far);
}
