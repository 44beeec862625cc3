//! Trainings by the GPUs of several processes, started as torchrun starts them; on the CUDA and the NCCL that run on a CPU.
//! The processes are the example `fit_ranks`.

#![cfg(feature = "nccl")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join("fit_ranks");
    assert!(program.exists(), "{}: just test-cuda builds it", program.display());
    program
}

/// What torchrun would start for that rank; its GPU is one of four.
fn rank(rank: usize, size: usize, port: u16, arguments: &str) -> Command {
    let mut command = Command::new(program());
    command.args(arguments.split(' ')).env("CUDA_VISIBLE_DEVICES", "0,1,2,3");
    command.env("RAYON_NUM_THREADS", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", size), ("LOCAL_WORLD_SIZE", size)] {
        command.env(name, value.to_string());
    }
    command.env("MASTER_ADDR", "localhost").env("MASTER_PORT", (port - 1).to_string());
    command
}

fn start(size: usize, device: &str, arguments: &str) -> Vec<Child> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let one = |each| rank(each, size, port, arguments).env("AGCNN_DEVICE", device).spawn().unwrap();
    (0..size).map(one).collect()
}

/// What rank 0 says at the end.
fn trained(size: usize, device: &str, arguments: &str) -> Value {
    let ends: Vec<Output> =
        start(size, device, arguments).into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for (rank, end) in ends.iter().enumerate() {
        assert!(end.status.success(), "rank {rank} of {size}: {}", String::from_utf8_lossy(&end.stderr));
    }
    let said: Value = serde_json::from_slice(&ends[0].stdout).unwrap();
    assert_eq!(said["ranks"], size);
    said
}

fn losses(said: &Value) -> Vec<f64> {
    said["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect()
}

/// Ten steps by one, two and four ranks: the same losses to 1e-4, on every rank the same weights.
fn the_same_by_any_number(arguments: &str) -> Vec<Value> {
    let by: Vec<Value> = [1, 2, 4].map(|size| trained(size, "cuda", arguments)).into();
    for other in &by[1..] {
        let weights = other["weights"].as_array().unwrap();
        assert!(weights.iter().all(|digest| *digest == weights[0]), "{other}");
        let (one, other) = (losses(&by[0]), losses(other));
        assert_eq!((one.len(), other.len()), (10, 10));
        let apart = one.iter().zip(&other).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max);
        assert!(apart <= 1e-4, "{apart}: {one:?} {other:?}");
    }
    by
}

#[test]
fn any_number_of_ranks_gives_the_same_answer() {
    // Two epochs of five steps; the last batch has three images, so that one of four ranks has none.
    let mini = "mini max 33 35 8 2 0.01 whole";
    let by = the_same_by_any_number(mini);
    // And the same bits when it is repeated, and when gradients and norms go through the host, as they do where the ranks do
    // not compute on the GPUs of their numbers.
    assert_eq!(trained(4, "cuda", mini)["weights"], by[2]["weights"]);
    assert_eq!(trained(4, "cuda:1", mini)["weights"], by[2]["weights"]);
    // Batch norms of parts are another training, whose running statistics are the same on every rank.
    let part = "mini max 33 35 8 2 0.01 part";
    let apart = trained(2, "cuda", part);
    assert_eq!(apart["weights"][0], apart["weights"][1]);
    assert_ne!(apart["weights"][0], by[1]["weights"][0]);
    assert_eq!(trained(2, "cuda:1", part)["weights"], apart["weights"]);
}

#[test]
fn gradients_larger_than_a_bucket() {
    let by = the_same_by_any_number("resnet18 avg 33 30 6 2 0.0003 whole");
    for said in &by[1..] {
        let number = |name: &str| said[name].as_f64().unwrap();
        let ring = 2.0 * (number("ranks") - 1.0) / number("ranks") * number("gradients") * 10.0;
        let more = number("sent") / ring - 1.0;
        assert!((0.0..0.05).contains(&more), "{more}");
    }
}

#[test]
fn a_rank_that_is_killed_ends_the_others() {
    let mut ranks = start(3, "cuda", "mini max 33 32 8 10000 0.001 whole");
    // Whenever it is: while they find each other, or later.
    sleep(Duration::from_secs(3));
    ranks[1].kill().unwrap();
    for (rank, child) in ranks.into_iter().enumerate() {
        let end = child.wait_with_output().unwrap();
        assert!(!end.status.success());
        let said = String::from_utf8_lossy(&end.stderr).into_owned();
        assert!(rank == 1 || said.contains("NCCL: "), "rank {rank}: {said}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let said = |change: &dyn Fn(&mut Command)| {
        let mut command = rank(1, 2, 9, "mini max 33 8 8 1 0.01 whole");
        change(command.env("AGCNN_DEVICE", "cuda"));
        let end = command.output().unwrap();
        assert!(!end.status.success());
        String::from_utf8_lossy(&end.stderr).into_owned()
    };
    for name in ["RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"] {
        let said = said(&|command| {
            command.env_remove(name);
        });
        assert!(said.contains(&format!("name: \"{name}\", got: None")), "{said}");
    }
    let said = said(&|command| {
        command.env("CUDA_VISIBLE_DEVICES", "0,1").env("WORLD_SIZE", "4").env("LOCAL_WORLD_SIZE", "4");
    });
    assert!(said.contains("4 ranks and 2 GPUs on this machine"), "{said}");
}
