//! Trainings by several processes, started by a real `mpirun`: the same answer as one process gives, a failure of one that
//! ends all, and a continuation by another number.
//!
//! `just test-mpi` builds the programs for each MPI and names their folder in `AGCNN_MPI`, which is called as the MPI and has its `mpirun`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use e2e::{Pipeline, Ran, contents, rounds};
use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[path = "ranks/slurm.rs"]
mod slurm;
#[path = "ranks/torchrun.rs"]
mod torchrun;

/// How long a job may take to end after one of its ranks has died.
const ENDS: Duration = Duration::from_secs(30);

/// Seconds after which a job is taken to hang: `timeout` ends it then, with code 124.
const HANGS: &str = "300";

/// A training that is long enough to be disturbed; a checkpoint after every step.
const LONG: [&str; 4] = ["--set", "global.epochs=20", "--set", "global.checkpoint_minutes=0"];

fn programs() -> PathBuf {
    std::env::var_os("AGCNN_MPI").map(PathBuf::from).expect("AGCNN_MPI names the folder of the programs: just test-mpi")
}

/// `mpirun` with so many ranks of one thread each, to be followed by a program and its arguments.
fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("timeout");
    command.arg(HANGS).arg(programs().join("mpirun")).arg("-n").arg(ranks.to_string());
    command.env("RAYON_NUM_THREADS", "1").env("NO_COLOR", "1");
    // Open MPI's: more ranks than cores, as root in a container; MPICH looks at none of them.
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command
}

/// As many ranks as a test may have, if it is not to take minutes: those of MPICH wait by spinning, also where they outnumber
/// the cores.
fn most() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    if programs().ends_with("mpich") && cores < 4 { 2 } else { 4 }
}

/// What `fit_ranks` says of a training on `images` images in batches of `batch`.
#[track_caller]
fn fitted(ranks: usize, backbone: &str, side: usize, images: usize, batch: usize, norms: &str) -> Value {
    let mut command = if ranks == 1 { Command::new(programs().join("fit_ranks")) } else { mpirun(ranks) };
    if ranks > 1 {
        command.arg(programs().join("fit_ranks"));
    }
    // One process with other instructions, and so other last bits, is 1e-3 apart after ten steps of a DenseNet with maxima of
    // its maps at ten times the rate, and 2e-5 with means.
    let (pool, lr) = if backbone == "mini" { ("max", "0.01") } else { ("avg", "0.0003") };
    command.args([backbone, pool, &side.to_string(), &images.to_string(), &batch.to_string(), "2", lr, norms]);
    said(&command.env("RAYON_NUM_THREADS", "1").output().unwrap())
}

#[track_caller]
fn said(output: &Output) -> Value {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// All ranks have the same weights.
#[track_caller]
fn weights(value: &Value) -> String {
    let all = value["weights"].as_array().unwrap();
    assert_eq!(all.len() as u64, value["ranks"].as_u64().unwrap());
    assert!(all.iter().all(|one| one == &all[0]), "{all:?}");
    all[0].as_str().unwrap().to_owned()
}

/// The same losses to 1e-4.
#[track_caller]
fn same_losses(got: &Value, expected: &Value) {
    let (got, expected) = (numbers(&got["losses"]), numbers(&expected["losses"]));
    assert_eq!(got.len(), expected.len());
    assert!(got.len() >= 10 && expected[0] != expected[9]);
    let apart = got.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b.abs()).fold(0.0, f64::max);
    assert!(apart < 1e-4, "{apart:e} apart:\n{got:?}\n{expected:?}");
}

/// Batches of 10, 10, 10, 10 and 3: of four ranks some have 3 images and some 2, and in the last batch one has none.
#[test]
#[ignore = "needs MPI: just test-mpi"]
fn the_answer_does_not_depend_on_the_number_of_ranks() {
    let alone = fitted(1, "mini", 24, 43, 10, "whole");
    weights(&alone);
    for ranks in [2, 4] {
        let together = fitted(ranks, "mini", 24, 43, 10, "whole");
        same_losses(&together, &alone);
        let validated = [&together, &alone].map(|fit| numbers(&fit["validated"])[1]);
        assert!((validated[0] - validated[1]).abs() < 1e-4 * validated[1], "{validated:?}");
        let again = fitted(ranks, "mini", 24, 43, 10, "whole");
        assert_eq!(weights(&together), weights(&again), "{ranks} ranks");
        assert_eq!(together["losses"], again["losses"]);
    }
}

#[test]
#[ignore = "needs MPI: just test-mpi"]
fn nor_does_a_densenets() {
    let alone = fitted(1, "densenet121", 96, 74, 16, "whole");
    let [two, again, four] = [2, 2, most()].map(|ranks| fitted(ranks, "densenet121", 96, 74, 16, "whole"));
    for together in [&two, &four] {
        same_losses(together, &alone);
    }
    assert_eq!(weights(&two), weights(&again));
    weights(&four);
}

/// A ring moves 2 (n - 1) / n of the gradients' bytes; what else a step moves is less than a twentieth of it.
#[test]
#[ignore = "needs MPI: just test-mpi"]
fn a_step_moves_what_a_ring_moves() {
    for (backbone, side) in [("resnet18", 33), ("densenet121", 63)] {
        for ranks in [2, most()] {
            let fit = fitted(ranks, backbone, side, 8, 4, "whole");
            let steps = numbers(&fit["losses"]).len() as f64;
            let bound = 2.0 * (ranks as f64 - 1.0) / ranks as f64 * fit["gradients"].as_f64().unwrap();
            let over = fit["sent"].as_f64().unwrap() / steps / bound - 1.0;
            assert!((0.0..0.05).contains(&over), "{backbone}, {ranks} ranks: {over} over the bound");
        }
    }
}

#[test]
#[ignore = "needs MPI: just test-mpi"]
fn norms_of_parts_are_another_training_and_the_same_on_every_rank() {
    let [whole, part, again] = ["whole", "part", "part"].map(|norms| fitted(2, "mini", 24, 43, 10, norms));
    assert_eq!(weights(&part), weights(&again));
    assert_ne!(weights(&part), weights(&whole));
    let (first, last) = (numbers(&part["losses"])[0], numbers(&part["losses"])[9]);
    assert!(last < first);
    // One rank's part is the whole.
    assert_eq!(weights(&fitted(1, "mini", 24, 43, 10, "part")), weights(&fitted(1, "mini", 24, 43, 10, "whole")));
}

/// A folder with prepared images, and the stage `global` by so many ranks.
struct Job(Pipeline);

impl Job {
    fn new(runs: &[&str]) -> Job {
        let pipeline = Pipeline::new();
        for run in runs {
            for stage in ["phantom", "prep"] {
                pipeline.stage(stage, &["-q", "--run", run]).expect(0);
            }
        }
        Job(pipeline)
    }

    fn command(&self, ranks: usize, args: &[&str]) -> Command {
        let mut command = mpirun(ranks);
        command.arg(programs().join("global")).current_dir(self.0.path());
        command.args(["--config", "tiny.toml"]).args(args);
        command
    }

    fn run(&self, ranks: usize, args: &[&str]) -> Ran {
        self.0.run(self.command(ranks, args))
    }

    fn published(&self, run: &str) -> PathBuf {
        self.0.published(run, "global")
    }

    /// Removes what the store has of this stage.
    fn forget(&self) {
        for step in ["global", "training"] {
            fs::remove_dir_all(self.0.path().join("artifacts/store").join(step)).unwrap();
        }
    }

    /// Starts two ranks, and sends `signal` to one of them as soon as `words` were said; returns how long the job then took to
    /// end, its exit code, and what it said.
    fn disturbed(&self, victim: usize, signal: Signal, words: &str, args: &[&str]) -> (Duration, i32, String) {
        self.disturbed_by(self.command(2, args), victim, signal, words)
    }

    fn disturbed_by(
        &self,
        mut command: Command,
        victim: usize,
        signal: Signal,
        words: &str,
    ) -> (Duration, i32, String) {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut said, mut since, mut process) = (String::new(), None, None);
        for line in lines.map_while(Result::ok) {
            said += &(line.clone() + "\n");
            if line.contains(" ranks of ") {
                process = places(&line).get(victim).copied();
            }
            if since.is_none() && line.contains(words) {
                kill_process(process.unwrap(), signal).unwrap();
                since = Some(Instant::now());
            }
        }
        // MPICH says there what has ended.
        said += &std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        let code = child.wait().unwrap().code().unwrap_or(-1);
        (since.unwrap_or_else(|| panic!("{said}")).elapsed(), code, said)
    }
}

/// The processes that a line like `2 ranks of 1 threads: 0 on host process 12, 1 on host process 13` names.
fn places(line: &str) -> Vec<Pid> {
    let numbers = line.split("process ").skip(1).map(|rest| rest.split(',').next().unwrap().trim().parse().unwrap());
    numbers.map(|number| Pid::from_raw(number).unwrap()).collect()
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("manifest.json")).unwrap()).unwrap()
}

/// The key is that of one process; scores by several ranks are those of one, bit for bit.
#[test]
#[ignore = "needs MPI: just test-mpi"]
fn a_stage_by_several_ranks_publishes_what_one_would() {
    let job = Job::new(&["default", "apart"]);
    job.run(3, &[]).expect(0);
    let by_three = manifest(&job.published("default"));
    assert_eq!(
        (&by_three["computed"]["ranks"], &by_three["computed"]["batch_norm"]),
        (&3.into(), &"whole batch".into())
    );
    let bytes = contents(&job.published("default"));
    // Again by one process: the training is in the store, and is scored anew.
    let folder = fs::canonicalize(job.published("default")).unwrap();
    fs::rename(&folder, job.0.path().join("moved")).unwrap();
    fs::remove_file(job.published("default")).unwrap();
    let mut command = Command::new(programs().join("global"));
    command.current_dir(job.0.path()).args(["--config", "tiny.toml"]);
    assert!(job.0.run(command).expect(0).stderr.contains("the training is in the store"));
    let alone = manifest(&job.published("default"));
    assert_eq!(alone["key"], by_three["key"]);
    assert!(contents(&job.published("default")) == bytes);
    // Several ranks find what one has made.
    assert!(job.run(2, &[]).expect(0).current());

    // Each rank's own norms: the number of ranks is part of the key, and said.
    let apart = ["--set", "global.sync_batch_norm=false", "--run", "apart"];
    job.run(2, &apart).expect(0);
    let by_two = manifest(&job.published("apart"));
    assert_ne!(by_two["key"], by_three["key"]);
    assert_eq!((&by_two["config"]["ranks"], &by_two["computed"]["batch_norm"]), (&2.into(), &"part".into()));
    job.run(3, &apart).expect(0);
    assert_ne!(manifest(&job.published("apart"))["key"], by_two["key"]);
}

/// One rank is killed in the middle of a training: all end in time, and the same command continues to the bytes of an
/// undisturbed training.
#[test]
#[ignore = "needs MPI: just test-mpi"]
fn a_killed_rank_ends_all_and_they_continue() {
    let job = Job::new(&["default", "undisturbed"]);
    job.run(2, &[&LONG[..], &["--run", "undisturbed"]].concat()).expect(0);
    let expected = contents(&job.published("undisturbed"));
    let rounds = rounds(3);
    for round in 0..rounds {
        job.forget();
        let words = format!("epoch {}/20", 1 + 7 * round % 18);
        let (took, code, said) = job.disturbed(round % 2, Signal::KILL, &words, &LONG);
        assert!(took < ENDS && code != 0, "round {round}: {took:?}, exit code {code}\n{said}");
        let names_it = said.contains("signal 9") || said.contains("SIGNAL: 9") || said.contains("EXIT CODE: 9");
        assert!(names_it, "{said}");
        let rest = job.run(2, &LONG).expect(0);
        assert!(rest.stderr.contains("continues after"), "round {round}\n{rest}");
        assert!(contents(&job.published("default")) == expected, "round {round}");
    }
}

/// A signal to one rank stops all at the same step; another number of ranks continues.
#[test]
#[ignore = "needs MPI: just test-mpi"]
fn an_interrupted_rank_stops_all_and_others_continue() {
    let job = Job::new(&["default", "alone"]);
    // Larger steps, and more of them, make the last bits, which differ with the number of ranks, larger: up to 1e-4 in four
    // epochs at 0.0001, 6e-7 here.
    let few = ["--set", "global.epochs=4", "--set", "global.lr=0.00001"];
    job.run(1, &[&few[..], &["--run", "alone"]].concat()).expect(0);
    let expected = epochs(&job.published("alone"));
    job.forget();
    let (took, code, said) = job.disturbed(1, Signal::TERM, "epoch 2/4", &few);
    assert!(took < ENDS && code != 0, "{took:?}, {code}\n{said}");
    assert!(said.contains("interrupted after") && said.contains(" steps: rank 1 was asked to stop"), "{said}");
    assert_eq!(said.matches("interrupted").count(), 1, "{said}");
    let rest = job.run(if most() == 2 { 1 } else { 4 }, &few).expect(0);
    assert!(rest.stderr.contains("continues after epoch"), "{rest}");
    let got = epochs(&job.published("default"));
    assert_eq!(got.len(), expected.len());
    let apart = got.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
    assert!(apart < 1e-5 && expected[3] < 0.99 * expected[0], "{got:?} {expected:?}");
}

/// The losses of all epochs.
fn epochs(published: &Path) -> Vec<f64> {
    let path = published.join("epochs.parquet");
    tables::epochs::read(&path).unwrap().iter().map(|row| row.train_loss).collect()
}

#[test]
#[ignore = "needs MPI: just test-mpi"]
fn ranks_that_would_do_something_else_say_so_and_end_all() {
    let job = Job::new(&["default"]);
    let program = programs().join("global").display().to_string();
    let mut command = job.command(1, &[]);
    command.args([":", "-n", "1", &program, "--config", "tiny.toml", "--seed", "2"]);
    let since = Instant::now();
    let ran = job.0.run(command);
    assert!(ran.code != 0 && since.elapsed() < ENDS, "{ran}");
    assert!(ran.stderr.contains("error: rank 1 of 2: key ") && ran.stderr.contains("hint: start the same"), "{ran}");
    // The other says nothing of its own end, which is not the cause.
    assert_eq!(ran.stderr.matches("error: rank ").count(), 1, "{ran}");

    // What no rank can do is said, and passed on by the launcher.
    let ran = job.run(2, &["--set", "global.init=absent.safetensors"]);
    assert!(ran.code == 3 && ran.stderr.contains("absent.safetensors"), "{ran}");
}

/// A program that sees none of those it was started with.
#[test]
#[ignore = "needs MPI: just test-mpi"]
fn a_world_of_one_where_several_were_started_is_refused() {
    let job = Job::new(&["default"]);
    let mut command = Command::new(programs().join("global"));
    command.current_dir(job.0.path()).args(["--config", "tiny.toml"]);
    command.env("SLURM_STEP_NUM_TASKS", "4").env("SLURM_PROCID", "0");
    let ran = job.0.run(command).expect(2);
    assert!(ran.stderr.contains("SLURM_STEP_NUM_TASKS = 4, expected 1"), "{ran}");
    assert!(ran.stderr.contains("hint: the launcher belongs to another MPI"), "{ran}");
    let mut command = job.0.command("global", &[]);
    command.env("SLURM_STEP_NUM_TASKS", "4");
    assert!(job.0.run(command).expect(2).stderr.contains("hint: this program was built without MPI"));
    let mut command = job.0.command("fusion", &[]);
    command.env("OMPI_COMM_WORLD_SIZE", "2");
    assert!(job.0.run(command).expect(2).stderr.contains("fusion works alone, and 2 of it were started"));
}

/// Two network namespaces with a cable between them, each a machine to MPI.
struct Hosts {
    names: [String; 2],
    folder: tempfile::TempDir,
}

impl Hosts {
    const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
    /// Bytes of a full segment on the cable.
    const FRAME: u64 = 1514;

    fn new() -> Hosts {
        let names = ["a", "b"].map(|name| format!("agcnn-{}-{name}", std::process::id()));
        let hosts = Hosts { names, folder: tempfile::tempdir().unwrap() };
        let [a, b] = &hosts.names;
        for name in [a, b] {
            ip(&["netns", "add", name]);
        }
        ip(&["link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b]);
        for (name, address) in hosts.names.iter().zip(Hosts::ADDRESSES) {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "cable"]);
            for device in ["cable", "lo"] {
                ip(&["-n", name, "link", "set", device, "up"]);
            }
        }
        // The kernel may take a second to see that both ends are up.
        let is_up = |name| ip(&["netns", "exec", name, "cat", "/sys/class/net/cable/operstate"]).trim() == "up";
        while !is_up(a) || !is_up(b) {
            std::thread::sleep(Duration::from_millis(50));
        }
        // What mpirun starts on another machine: options, host, command.
        let agent = format!(
            "#!/bin/sh\nwhile [ \"${{1#-}}\" != \"$1\" ]; do shift; done\ncase $1 in *{}) name={a};; *) name={b};; esac\nshift\n\
             exec ip netns exec $name unshare --uts sh -c \"hostname $name; $*\"\n",
            Hosts::ADDRESSES[0]
        );
        fs::write(hosts.agent(), agent).unwrap();
        fs::set_permissions(hosts.agent(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        hosts
    }

    fn agent(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// From now on the second host hears and says nothing.
    fn cut(&self) {
        ip(&["-n", &self.names[1], "link", "set", "cable", "down"]);
    }

    /// Bytes that the first host has sent over the cable, without those that TCP has sent again: on a busy machine it hears
    /// too late that they arrived.
    fn sent(&self) -> u64 {
        let read = |path| ip(&["netns", "exec", &self.names[0], "cat", path]);
        let sent: u64 = read("/sys/class/net/cable/statistics/tx_bytes").trim().parse().unwrap();
        let counters = read("/proc/net/snmp");
        let mut tcp = counters.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(str::split_whitespace);
        let (names, mut values) = (tcp.next().unwrap(), tcp.next().unwrap());
        let again: u64 =
            values.nth(names.clone().position(|name| name == "RetransSegs").unwrap()).unwrap().parse().unwrap();
        sent - again * Hosts::FRAME
    }

    /// A rank on each host.
    fn mpirun(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[0], "unshare", "--uts", "sh", "-c", "hostname $0; exec \"$@\""]);
        command.arg(&self.names[0]).arg(programs().join("mpirun")).args(["-n", "2"]);
        let [a, b] = Hosts::ADDRESSES;
        if programs().ends_with("mpich") {
            command.args(["-launcher", "ssh", "-iface", "cable", "-hosts", &format!("{a},{b}")]);
            command.arg("-launcher-exec").arg(self.agent());
            // UCX, which moves MPICH's bytes, would see through the two names and use the memory of their one machine.
            command.env("UCX_TLS", "tcp,self");
        } else {
            command.args(["--host", &format!("{a},{b}"), "--mca", "btl", "tcp,self"]);
            command.args(["--mca", "btl_tcp_if_include", "cable", "--mca", "oob_tcp_if_include", "cable"]);
            command.arg("--mca").arg("plm_rsh_agent").arg(self.agent());
        }
        command.env("RAYON_NUM_THREADS", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

#[track_caller]
fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What goes over the cable is what a ring moves, counted by the kernel.
#[test]
#[ignore = "needs MPI, and root for network namespaces: just test-mpi"]
fn two_hosts_give_the_same_answer_over_a_cable() {
    let hosts = Hosts::new();
    let together =
        |args: [&str; 8]| said(&hosts.mpirun().arg(programs().join("fit_ranks")).args(args).output().unwrap());
    let small = together(["mini", "max", "24", "43", "10", "2", "0.01", "whole"]);
    same_losses(&small, &fitted(1, "mini", 24, 43, 10, "whole"));
    // One machine gives the same bits as two.
    assert_eq!(weights(&small), weights(&fitted(2, "mini", 24, 43, 10, "whole")));

    // Every job gives its ranks the same start, which is no part of a step.
    let moved = |epochs: &str| {
        let before = hosts.sent();
        let fit = together(["resnet18", "max", "33", "32", "8", epochs, "0.001", "whole"]);
        (hosts.sent() - before, numbers(&fit["losses"]).len() as f64, fit["gradients"].as_f64().unwrap())
    };
    let ((few, fewer, gradients), (many, more, _)) = (moved("1"), moved("3"));
    let over = (many - few) as f64 / (more - fewer) / gradients - 1.0;
    assert!((0.0..0.05).contains(&over), "{over} over the bound");
}

/// Without these settings `mpirun` notices after minutes that it hears nothing of a machine, and MPICH's does not at all.
#[test]
#[ignore = "needs Open MPI, and root for network namespaces: just test-mpi"]
fn one_of_two_hosts_vanishes_and_all_end() {
    let hosts = Hosts::new();
    let mut command = hosts.mpirun();
    for (name, value) in [("time", "5"), ("intvl", "5"), ("probes", "2")] {
        command.args(["--mca", &format!("oob_tcp_keepalive_{name}"), value]);
    }
    command.arg(programs().join("fit_ranks")).args(["mini", "max", "24", "43", "10", "100000", "0.001", "whole"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while hosts.sent() < 10 << 20 {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(50));
    }
    hosts.cut();
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() && since.elapsed() < ENDS {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(since.elapsed() < ENDS && !child.wait().unwrap().success(), "{said}");
    assert!(said.contains("lost communication") && said.contains(Hosts::ADDRESSES[1]), "{said}");
}
