//! Trainings started by `srun` and `sbatch`, on the Slurm of one node under which `cluster/test/one_node.sh` runs these tests.

use std::process::Command;

use e2e::{Ran, contents};
use fs_err as fs;
use rustix::process::Signal;

use super::{ENDS, Job, programs};

/// A training that is long enough to be disturbed; a checkpoint after every step.
const LONG: [&str; 4] = ["--set", "global.epochs=12", "--set", "global.checkpoint_minutes=0"];

/// What `srun --mpi` calls the way by which this MPI's processes find each other.
fn meets_by() -> &'static str {
    if programs().ends_with("mpich") { "pmi2" } else { "pmix" }
}

/// `srun` with so many tasks of the stage `global`.
fn srun(job: &Job, tasks: usize, mpi: &str, args: &[&str]) -> Command {
    let mut command = Command::new("srun");
    command.args(["--kill-on-bad-exit=1", "--mpi", mpi, "--ntasks", &tasks.to_string()]);
    command.arg(programs().join("global")).args(["--config", "tiny.toml"]).args(args);
    command.current_dir(job.0.path()).env("RAYON_NUM_THREADS", "1").env("NO_COLOR", "1");
    command
}

/// `cluster/slurm/stage.sbatch` with two tasks, waited for; what it said is in its log.
fn sbatch(job: &Job, args: &[&str]) -> (Ran, String) {
    let log = job.0.path().join("batch.log");
    let mut command = Command::new("sbatch");
    command.args(["--wait", "--ntasks=2", "--output"]).arg(&log);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../cluster/slurm/stage.sbatch"));
    command.args(["global", "--config", "tiny.toml"]).args(args).current_dir(job.0.path());
    command.env("SLURM_MPI_TYPE", meets_by()).env("AGCNN_BIN", programs()).env("NO_COLOR", "1");
    let ran = job.0.run(command);
    (ran, fs::read_to_string(&log).unwrap_or_default())
}

#[test]
#[ignore = "needs MPI and Slurm: just test-mpi"]
fn srun_publishes_what_mpirun_does() {
    let job = Job::new(&["default"]);
    job.run(2, &[]).expect(0);
    let expected = contents(&job.published("default"));
    job.forget();

    // Tasks that Slurm does not introduce to each other say what to load; one task has nobody to meet.
    let apart = job.0.run(srun(&job, 2, "none", &[])).expect(2);
    assert!(apart.stderr.contains("error: SLURM_STEP_NUM_TASKS = 2, expected 1"), "{apart}");
    assert!(apart.stderr.contains("or by `srun --mpi=pmix` or `--mpi=pmi2`"), "{apart}");
    job.0.run(srun(&job, 1, "none", &["--dry-run"])).expect(0);

    let ran = job.0.run(srun(&job, 2, meets_by(), &[])).expect(0);
    assert!(ran.stderr.contains("2 ranks of 1 threads"), "{ran}");
    assert!(contents(&job.published("default")) == expected, "{ran}");
}

/// Slurm asks the others to stop, and they do, although they wait for the one that is dead.
#[test]
#[ignore = "needs MPI and Slurm: just test-mpi"]
fn a_rank_killed_under_srun_ends_all_and_sbatch_continues() {
    let job = Job::new(&["default"]);
    job.run(2, &LONG).expect(0);
    let expected = contents(&job.published("default"));
    job.forget();

    let (took, code, said) = job.disturbed_by(srun(&job, 2, meets_by(), &LONG), 1, Signal::KILL, "epoch 3/12");
    assert!(took < ENDS && code != 0, "{took:?}, exit code {code}\n{said}");
    assert!(said.contains("task 1: Killed") && !said.contains("interrupted"), "{said}");
    let (ran, log) = sbatch(&job, &LONG);
    assert!(ran.code == 0 && log.contains("2 ranks of") && log.contains("continues after"), "{ran}\n{log}");
    assert!(contents(&job.published("default")) == expected, "{log}");
}
