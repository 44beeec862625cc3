//! What `mpirun`, `srun` and `torchrun` say in the environment.

use std::fmt;

/// The variables that say how many processes were started together. Slurm's is that of the step: a batch script that runs
/// a program itself runs one, whatever the job was given.
const SIZES: [&str; 4] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", SLURMS, "WORLD_SIZE"];
const SLURMS: &str = "SLURM_STEP_NUM_TASKS";

/// How many processes the launcher started together, and the variable that says so; `None` where there is no launcher.
pub fn tasks() -> Option<(&'static str, usize)> {
    said(&|name| std::env::var(name).ok())
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

/// A process that was started with others, and sees none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    variable: &'static str,
    tasks: usize,
}

impl Refused {
    /// The refusal of a world of one where the launcher started more.
    pub(crate) fn unless_alone(size: usize) -> Result<(), Refused> {
        match tasks() {
            Some((variable, tasks)) if tasks > 1 && size == 1 => Err(Refused { variable, tasks }),
            _ => Ok(()),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        let torchrun = self.variable == "WORLD_SIZE";
        match (cfg!(feature = "mpi"), torchrun) {
            (false, _) => {
                "this program was built without MPI: load Open MPI or MPICH and build it with `just mpi=1 build`, or \
                 start one process"
            }
            (true, true) => "torchrun starts no MPI job: start it by mpirun or srun",
            (true, false) => {
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
        write!(f, "{} = {}, expected 1: this process sees none of the others", self.variable, self.tasks)
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_number_counts() {
        let from = |pairs: &'static [(&str, &str)]| {
            said(&|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned()))
        };
        assert_eq!(from(&[]), None);
        assert_eq!(from(&[("PMI_SIZE", "1"), ("SLURM_STEP_NUM_TASKS", "4")]), Some(("SLURM_STEP_NUM_TASKS", 4)));
        assert_eq!(from(&[("OMPI_COMM_WORLD_SIZE", "2"), ("PMI_SIZE", "2")]), Some(("OMPI_COMM_WORLD_SIZE", 2)));
        assert_eq!(from(&[("WORLD_SIZE", "many")]), None);
        // A job of four tasks, whose batch script is one process.
        assert_eq!(from(&[("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")]), None);
    }

    #[test]
    fn srun_may_leave_no_word() {
        let left = |names: &[&str]| left_word(&mut names.iter().map(|&name| name.to_owned()));
        assert!(!left(&[SLURMS, "SLURM_PROCID", "OMPI_MCA_btl", "PMIX_MCA_gds"]));
        assert!(left(&[SLURMS, "PMIX_RANK"]) && left(&[SLURMS, "PMI_FD"]) && left(&["OMPI_COMM_WORLD_SIZE"]));
    }
}
