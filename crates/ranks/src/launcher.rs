//! What `mpirun`, `srun` and `torchrun` say in the environment.

use std::fmt;

/// The variables that say how many processes were started together. Slurm's is that of the step: a batch script that runs
/// a program itself runs one, whatever the job was given.
const SIZES: [&str; 4] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", SLURMS, "WORLD_SIZE"];
const SLURMS: &str = "SLURM_STEP_NUM_TASKS";

/// Where NCCL's ranks meet, in NCCL's own words.
pub(crate) const MEETING: &str = "NCCL_COMM_ID";

/// How many processes the launcher started together, and the variable that says so; `None` where there is no launcher.
pub fn tasks() -> Option<(&'static str, usize)> {
    said(&environment)
}

/// As [`tasks`]: the largest number that any variable says.
fn said(variable: &dyn Fn(&str) -> Option<String>) -> Option<(&'static str, usize)> {
    let sizes = SIZES.iter().filter_map(|&name| Some((name, variable(name)?.trim().parse::<usize>().ok()?)));
    sizes.reduce(|most, next| if next.1 > most.1 { next } else { most })
}

/// Whether the launcher left word how the processes find each other, as all do but `srun --mpi=none`.
#[cfg(feature = "mpi")]
pub(crate) fn introduces() -> bool {
    left_word(&mut std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()))
}

/// As [`introduces`]; what begins with `PMIX_MCA_` is a user's setting.
#[cfg(any(feature = "mpi", test))]
fn left_word(variables: &mut dyn Iterator<Item = String>) -> bool {
    let mut names: Vec<String> = variables.collect();
    names.retain(|name| !name.starts_with("PMIX_MCA_"));
    let slurms = names.iter().any(|name| name == SLURMS);
    !slurms || names.iter().any(|name| name.starts_with("PMI"))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether torchrun started this process, perhaps in a task of Slurm, whose MPI then knows nothing of it.
#[cfg(feature = "mpi")]
pub(crate) fn by_torchrun() -> bool {
    std::env::var_os("TORCHELASTIC_RUN_ID").is_some()
}

/// A process among those that torchrun started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// This process's number, from 0.
    pub rank: usize,
    /// The number of processes.
    pub size: usize,
    /// This process's number among those on the same machine.
    pub local_rank: usize,
    /// The number of processes on this machine.
    pub local_size: usize,
}

/// What torchrun says of this process, and where the ranks meet; `None` where it did not start several.
pub(crate) fn place() -> Result<Option<(Place, String)>, Refused> {
    place_of(&environment)
}

fn place_of(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<(Place, String)>, Refused> {
    let number = |name: &'static str, least: usize, end: usize| {
        let got = variable(name);
        let number = got.as_ref().and_then(|got| got.trim().parse::<usize>().ok());
        let expected = || format!("a number from {least} to {}", end.saturating_sub(1));
        number.filter(|number| (least..end).contains(number)).ok_or_else(|| Refused::Variable {
            name,
            got,
            expected: expected(),
        })
    };
    match variable("WORLD_SIZE").map(|size| size.trim().parse::<usize>()) {
        Some(Ok(size)) if size > 1 => {
            let rank = number("RANK", 0, size)?;
            let local_size = number("LOCAL_WORLD_SIZE", 1, size + 1)?;
            let local_rank = number("LOCAL_RANK", 0, local_size)?;
            let meeting = match variable(MEETING) {
                Some(meeting) => meeting,
                None => {
                    let expected = "the name or address of rank 0's machine".to_owned();
                    let host = variable("MASTER_ADDR").filter(|host| !host.is_empty());
                    let host = host.ok_or(Refused::Variable { name: "MASTER_ADDR", got: None, expected })?;
                    // torchrun itself listens at this port.
                    let port = number("MASTER_PORT", 1, usize::from(u16::MAX))? + 1;
                    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
                }
            };
            Ok(Some((Place { rank, size, local_rank, local_size }, meeting)))
        }
        _ => Ok(None),
    }
}

/// Sees to it that the environment says where the ranks meet, from where NCCL takes it: starts this program anew, in the
/// same process, where it does not.
pub(crate) fn meet_at(meeting: &str) -> Result<(), Refused> {
    if std::env::var_os(MEETING).is_some() {
        return Ok(());
    }
    let failed = |error: std::io::Error| Refused::Link {
        reason: format!("this program did not start anew with {MEETING}={meeting}: {error}"),
        hint: format!("set {MEETING} to an address of rank 0 with a free port, the same for every process"),
    };
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let mut program = std::process::Command::new(std::env::current_exe().map_err(failed)?);
        Err(failed(program.arg0(name).args(arguments).env(MEETING, meeting).exec()))
    }
    #[cfg(not(unix))]
    Err(failed(std::io::ErrorKind::Unsupported.into()))
}

/// Why a process that was started with others does not join them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It sees none of them.
    Alone {
        /// What says that there are others.
        variable: &'static str,
        /// How many.
        tasks: usize,
    },
    /// The launcher's environment is incomplete.
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value, if it has one.
        got: Option<String>,
        /// What it should be.
        expected: String,
    },
    /// What is to link the ranks does not.
    Link {
        /// Why.
        reason: String,
        /// What to do about it.
        hint: String,
    },
}

impl Refused {
    /// The refusal of a world of one where the launcher started more.
    pub(crate) fn unless_alone(size: usize) -> Result<(), Refused> {
        match tasks() {
            Some((variable, tasks)) if tasks > 1 && size == 1 => Err(Refused::Alone { variable, tasks }),
            _ => Ok(()),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        let variable = match self {
            Refused::Link { hint, .. } => return hint.clone(),
            Refused::Variable { .. } => "torchrun",
            Refused::Alone { variable, .. } => variable,
        };
        match (variable, cfg!(feature = "mpi")) {
            ("torchrun", _) => {
                "torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT; who starts \
                 the processes otherwise sets all of them, or none"
            }
            ("WORLD_SIZE", true) => {
                "torchrun starts no MPI job: start it by mpirun or srun, or build it with `just nccl=1 build`, whose \
                 ranks find each other by NCCL"
            }
            ("WORLD_SIZE", false) => {
                "what torchrun starts finds its others by NCCL: build it with `just nccl=1 build`; for mpirun or srun \
                 with `just mpi=1 build`; or start one process"
            }
            (_, false) => {
                "this program was built without MPI: load Open MPI or MPICH and build it with `just mpi=1 build`, or \
                 start one process"
            }
            (_, true) => {
                "the launcher belongs to another MPI than the program: load the one that it was built with (`ldd` \
                 names its libmpi), start it by that one's mpirun, or by `srun --mpi=pmix` or `--mpi=pmi2` (`srun \
                 --mpi=list` names what there is)"
            }
        }
        .to_owned()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Alone { variable, tasks } => {
                write!(f, "{variable} = {tasks}, expected 1: this process sees none of the others")
            }
            Refused::Variable { name, got: None, expected } => write!(f, "{name} is not set, expected {expected}"),
            Refused::Variable { name, got: Some(got), expected } => write!(f, "{name} = {got:?}, expected {expected}"),
            Refused::Link { reason, .. } => f.write_str(reason),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned())
    }

    #[test]
    fn the_largest_number_counts() {
        let said = |pairs| said(&from(pairs));
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[("PMI_SIZE", "1"), ("SLURM_STEP_NUM_TASKS", "4")]), Some(("SLURM_STEP_NUM_TASKS", 4)));
        assert_eq!(said(&[("OMPI_COMM_WORLD_SIZE", "2"), ("PMI_SIZE", "2")]), Some(("OMPI_COMM_WORLD_SIZE", 2)));
        assert_eq!(said(&[("WORLD_SIZE", "many")]), None);
        // A job of four tasks, whose batch script is one process.
        assert_eq!(said(&[("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")]), None);
    }

    #[test]
    fn what_torchrun_says() {
        let place = |pairs| place_of(&from(pairs));
        let message = |pairs| place(pairs).unwrap_err().to_string();
        assert_eq!(place(&[]), Ok(None));
        assert_eq!(place(&[("WORLD_SIZE", "1")]), Ok(None));
        let found = place(&[
            ("WORLD_SIZE", "4"),
            ("RANK", "3"),
            ("LOCAL_WORLD_SIZE", "2"),
            ("LOCAL_RANK", "1"),
            ("MASTER_ADDR", "node0"),
            ("MASTER_PORT", "29500"),
        ]);
        let expected = Place { rank: 3, size: 4, local_rank: 1, local_size: 2 };
        assert_eq!(found, Ok(Some((expected, "node0:29501".to_owned()))));
        const HERE: &[(&str, &str)] =
            &[("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "1")];
        assert_eq!(message(&HERE[..1]), "RANK is not set, expected a number from 0 to 1");
        assert_eq!(message(&HERE[..3]), "LOCAL_RANK is not set, expected a number from 0 to 1");
        assert_eq!(message(HERE), "MASTER_ADDR is not set, expected the name or address of rank 0's machine");
        assert_eq!(message(&[("WORLD_SIZE", "2"), ("RANK", "2")]), "RANK = \"2\", expected a number from 0 to 1");
    }

    #[test]
    fn srun_may_leave_no_word() {
        let left = |names: &[&str]| left_word(&mut names.iter().map(|&name| name.to_owned()));
        assert!(!left(&[SLURMS, "SLURM_PROCID", "OMPI_MCA_btl", "PMIX_MCA_gds"]));
        assert!(left(&[SLURMS, "PMIX_RANK"]) && left(&[SLURMS, "PMI_FD"]) && left(&["OMPI_COMM_WORLD_SIZE"]));
    }
}
