//! Sums over GPUs of several processes, against the same sums on the host. The processes are this program, started anew.

#![cfg(feature = "nccl")]

#[allow(dead_code)] // the helpers of other tests
mod common;

use std::net::TcpListener;
use std::process::{Child, Command};

use candle_core::{DType, Tensor};
use common::{device, noise, tensor, values};
use ops::BatchStats;
use ops::nccl::Nccl;

const PLACE: &str = "NCCL_TEST_PLACE";

/// This process's rank and the number of ranks, where it is one of several.
fn place() -> Option<(usize, usize)> {
    let place = std::env::var(PLACE).ok()?;
    let (rank, size) = place.split_once('/')?;
    Some((rank.parse().unwrap(), size.parse().unwrap()))
}

/// Runs the test of this name by `size` processes.
fn by_ranks(name: &str, size: usize) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = |rank: usize| -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(PLACE, format!("{rank}/{size}"))
            .env("NCCL_COMM_ID", format!("127.0.0.1:{port}"))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let ranks: Vec<Child> = (0..size).map(start).collect();
    for (rank, child) in ranks.into_iter().enumerate() {
        let said = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("1 passed"), "rank {rank} of {size}: {said}");
    }
}

fn join(place: (usize, usize)) -> Nccl {
    Nccl::join(0, place, &Nccl::id().unwrap()).unwrap()
}

/// The definition: neighbours first, then neighbours of neighbours.
fn tree(parts: &[f32]) -> f32 {
    match parts.len() {
        1 => parts[0],
        len => {
            let half = len.next_power_of_two() / 2;
            tree(&parts[..half]) + tree(&parts[half..])
        }
    }
}

fn parts(len: usize, size: usize) -> Vec<std::ops::Range<usize>> {
    let start = |rank: usize| rank * (len / size) + rank.min(len % size);
    (0..size).map(|rank| start(rank)..start(rank + 1)).collect()
}

#[test]
fn sums_are_the_hosts_bit_for_bit() {
    let Some((rank, size)) = place() else {
        return [2, 3, 4, 5].into_iter().for_each(|size| by_ranks("sums_are_the_hosts_bit_for_bit", size));
    };
    let nccl = join((rank, size));
    let of = |rank: usize, len: usize| noise(len, (rank * 1000 + len) as u64);
    for len in [1, 2, 7, 1000, 9_001, 70_003] {
        let (one, other) = (tensor(&of(rank, len), &[len]), tensor(&of(rank, 3), &[3]).to_dtype(DType::BF16).unwrap());
        let all = nccl.joined(&[&one, &other], 0.5).unwrap();
        nccl.sum(&all, &parts(len + 3, size)).unwrap();
        nccl.wait(device()).unwrap();
        let theirs: Vec<Vec<f32>> = (0..size)
            .map(|rank| {
                let rounded = values(&tensor(&of(rank, 3), &[3]).to_dtype(DType::BF16).unwrap());
                of(rank, len).into_iter().chain(rounded).map(|value| 0.5 * value).collect()
            })
            .collect();
        let sum = |at: usize| tree(&theirs.iter().map(|values| values[at]).collect::<Vec<_>>()).to_bits();
        let got: Vec<u32> = values(&all).into_iter().map(f32::to_bits).collect();
        assert_eq!(got, (0..len + 3).map(sum).collect::<Vec<_>>(), "{len} values, {size} ranks");
    }
    let before = nccl.sent();
    let zeros = Tensor::zeros(70_003, DType::F32, device()).unwrap();
    nccl.sum(&zeros, &parts(70_003, size)).unwrap();
    nccl.wait(device()).unwrap();
    let ring = (2 * (size - 1) * 4 * 70_003 / size) as u64;
    assert!((nccl.sent() - before).abs_diff(ring) <= 4 * size as u64);
    assert!(nccl.sum(&zeros, &parts(70_002, size)).is_err());
    assert_eq!(nccl.failure(), None);
}

#[test]
fn what_each_rank_has() {
    let Some((rank, size)) = place() else { return by_ranks("what_each_rank_has", 3) };
    let nccl = join((rank, size));
    assert_eq!(nccl.gather_bytes(&[rank as u8, 7]).unwrap(), [0, 7, 1, 7, 2, 7]);
    let mut said = [rank as u8 + 5; 3];
    nccl.broadcast_bytes(&mut said).unwrap();
    assert_eq!(said, [5; 3]);
    let narrow = tensor(&[rank as f32, 0.5, 9.0], &[3]).narrow(0, 0, 2).unwrap();
    let wide = tensor(&[rank as f64 / 3.0], &[1]);
    let [narrow, wide] = [nccl.gathered([&narrow]).unwrap(), nccl.gathered([&wide]).unwrap()].map(|[all]| all);
    assert_eq!(narrow.to_vec2::<f32>().unwrap(), [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]);
    assert_eq!(wide.to_vec2::<f64>().unwrap(), [[0.0], [1.0 / 3.0], [2.0 / 3.0]]);
    // Four images by three ranks: 2, 1 and 1. One channel has the values 1 and 3, 5, and 7.
    let [mean, var] = [[2.0f32, 5.0, 7.0], [1.0, 0.0, 0.0]].map(|of| tensor(&[of[rank]], &[1]));
    let stats = BatchStats { mean, var, inv_std: tensor(&[0f32], &[1]) };
    nccl.complete(&stats, 4, 1e-5).unwrap();
    assert_eq!((values(&stats.mean), values(&stats.var)), (vec![4.0], vec![5.0]));
    assert!((values(&stats.inv_std)[0] - 5.00001f32.sqrt().recip()).abs() < 1e-6);
}
