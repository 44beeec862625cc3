//! Trainings by GPUs, started as torchrun starts them, on the CUDA and the NCCL that run on a CPU: what ends a rank when
//! another is gone or does not answer.
//!
//! `just test-cuda` builds the program and names its folder in `AGCNN_NCCL`.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::contents;
use rustix::process::{Pid, Signal, kill_process};

use super::{ENDS, Job, manifest};

/// A training that is long enough to be disturbed; a checkpoint after every step.
const LONG: [&str; 4] = ["--set", "global.epochs=7", "--set", "global.checkpoint_minutes=0"];

/// The exit code of who was asked to stop.
const INTERRUPTED: i32 = 130;

fn program() -> PathBuf {
    let folder = std::env::var_os("AGCNN_NCCL").map(PathBuf::from);
    folder.expect("AGCNN_NCCL names the folder of the program: just test-cuda").join("global")
}

/// Two ranks with a GPU each.
struct Ranks([Child; 2]);

impl Ranks {
    fn start(job: &Job, args: &[&str]) -> Ranks {
        // NCCL's ranks meet at the port behind torchrun's.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Ranks([0, 1].map(|rank: usize| {
            let mut command = Command::new(program());
            command.current_dir(job.0.path()).args(["--config", "tiny.toml", "--device", "cuda"]).args(args);
            command.env("CUDA_VISIBLE_DEVICES", "0,1").env("RAYON_NUM_THREADS", "1").env("NO_COLOR", "1");
            command.env("RANK", rank.to_string()).env("LOCAL_RANK", rank.to_string());
            command.env("WORLD_SIZE", "2").env("LOCAL_WORLD_SIZE", "2");
            command.env("MASTER_ADDR", "localhost").env("MASTER_PORT", (port - 1).to_string());
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        }))
    }

    fn signal(&self, rank: usize, signal: Signal) {
        let process = i32::try_from(self.0[rank].id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(process, signal).unwrap();
    }

    /// Calls `disturb` as soon as rank 0 has said `words`; returns how long rank 0 then took to end, its exit code, and what
    /// it said.
    #[track_caller]
    fn disturbed_at(&mut self, words: &str, disturb: impl Fn(&Ranks)) -> (Duration, i32, String) {
        let lines = BufReader::new(self.0[0].stderr.take().unwrap()).lines();
        let (mut said, mut since) = (String::new(), None);
        for line in lines.map_while(Result::ok) {
            said += &(line.clone() + "\n");
            if since.is_none() && line.contains(words) {
                disturb(self);
                since = Some(Instant::now());
            }
        }
        let code = self.0[0].wait().unwrap().code().unwrap_or(-1);
        (since.unwrap_or_else(|| panic!("{said}{}", self.other().1)).elapsed(), code, said)
    }

    /// The exit code of rank 1, -1 where a signal ended it, and what it said.
    fn other(&mut self) -> (i32, String) {
        let said = std::io::read_to_string(self.0[1].stderr.take().unwrap()).unwrap();
        (self.0[1].wait().unwrap().code().unwrap_or(-1), said)
    }

    /// Both end well; what rank 0 says.
    #[track_caller]
    fn trained(mut self) -> String {
        let said = std::io::read_to_string(self.0[0].stderr.take().unwrap()).unwrap();
        let (code, others) = self.other();
        assert!(self.0[0].wait().unwrap().success() && code == 0, "{said}\n{others}");
        said
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Of a failed test; one that has ended is no error.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Nothing but NCCL tells the rank that is left, which may wait for its GPU: a thread asks.
#[test]
#[ignore = "needs the mock of CUDA and NCCL: just test-cuda"]
fn a_killed_rank_ends_the_other_and_they_continue() {
    let job = Job::new(&["default", "undisturbed"]);
    let said = Ranks::start(&job, &[&LONG[..], &["--run", "undisturbed"]].concat()).trained();
    assert!(said.contains("2 ranks of 1 threads"), "{said}");
    let expected = contents(&job.published("undisturbed"));
    assert_eq!(manifest(&job.published("undisturbed"))["computed"]["ranks"], 2);
    job.forget();

    let mut ranks = Ranks::start(&job, &LONG);
    let (took, code, said) = ranks.disturbed_at("epoch 2/7", |ranks| ranks.signal(1, Signal::KILL));
    assert!(took < ENDS && code == 1, "{took:?}, exit code {code}\n{said}");
    assert!(said.contains("error: rank 0 of 2: NCCL: ") && said.contains("hint: another rank has ended"), "{said}");
    drop(ranks);

    let said = Ranks::start(&job, &LONG).trained();
    assert!(said.contains("continues after"), "{said}");
    assert!(contents(&job.published("default")) == expected, "{said}");
}

/// torchrun passes an interruption on to all ranks, and kills after 30 s.
#[test]
#[ignore = "needs the mock of CUDA and NCCL: just test-cuda"]
fn ranks_that_are_asked_to_stop_save_and_end_also_where_one_does_not_answer() {
    let job = Job::new(&["default"]);
    let mut ranks = Ranks::start(&job, &LONG);
    let all = |ranks: &Ranks| [0, 1].into_iter().for_each(|rank| ranks.signal(rank, Signal::TERM));
    let (took, code, said) = ranks.disturbed_at("epoch 2/7", all);
    assert!(took < ENDS && code == INTERRUPTED && said.contains("interrupted after"), "{took:?}, {code}\n{said}");
    let (code, said) = ranks.other();
    assert!(code == INTERRUPTED, "exit code {code}\n{said}");

    let mut ranks = Ranks::start(&job, &LONG);
    let (took, code, said) = ranks.disturbed_at("epoch 4/7", |ranks| {
        ranks.signal(1, Signal::STOP);
        ranks.signal(0, Signal::TERM);
    });
    assert!(said.contains("continues after epoch"), "{said}");
    assert!(took < ENDS && code == INTERRUPTED, "{took:?}, exit code {code}\n{said}");
}
