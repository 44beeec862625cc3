//! The ranks of a job, and what they ask of each other.

use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use crate::launcher::{self, Refused};
use crate::tree::part;
use crate::wire;

/// The ranks of the job that this process is one of.
#[derive(Debug, PartialEq, Eq)]
pub struct World {
    rank: usize,
    size: usize,
    /// Rank and number of ranks among those on this machine.
    local: (usize, usize),
    /// Machine and process of each rank.
    places: Vec<String>,
}

/// The world of a process that was started alone.
static ALONE: World = World { rank: 0, size: 1, local: (0, 1), places: Vec::new() };

static WORLD: OnceLock<World> = OnceLock::new();

/// Joins the job that this process was started in, if it was started in one. Called once, before [`world()`].
///
/// # Errors
/// A launcher started several processes, and they do not see each other: a program built without the feature `mpi`, or for
/// another MPI than the launcher's; an environment that is not torchrun's; a link that cannot be had.
pub fn start() -> Result<(), Refused> {
    #[cfg(feature = "mpi")]
    if launcher::tasks().is_some_and(|(_, tasks)| tasks > 1)
        && !launcher::by_torchrun()
        && let Some((rank, size)) = crate::link::join()
        && size > 1
    {
        let (machine, process) = (crate::link::machine(), std::process::id());
        let alone = World { rank, size, local: (0, 1), places: Vec::new() };
        let machines = alone.gather(machine.as_bytes());
        let here = |ranks: Range<usize>| ranks.filter(|&other| machines[other] == machines[rank]).count();
        let local = (here(0..rank), here(0..size));
        let places = alone.gather(format!("{machine} process {process}").as_bytes());
        let places = places.into_iter().map(|place| String::from_utf8_lossy(&place).into_owned()).collect();
        // Called once.
        let _ = WORLD.set(World { local, places, ..alone });
    }
    if world().is_alone()
        && let Some(connect) = wire::connector()
        && let Some((place, meeting)) = launcher::place()?
    {
        launcher::meet_at(&meeting)?;
        wire::link_by(connect(&place)?);
        let alone = World { rank: place.rank, size: place.size, local: (0, 1), places: Vec::new() };
        let node = std::env::var("GROUP_RANK").map_or_else(|_| String::new(), |node| format!("node {node} "));
        let places = alone.gather(format!("{node}process {}", std::process::id()).as_bytes());
        let places = places.into_iter().map(|place| String::from_utf8_lossy(&place).into_owned()).collect();
        let local = (place.local_rank, place.local_size);
        let _ = WORLD.set(World { local, places, ..alone });
    }
    Refused::unless_alone(world().size)
}

/// The job that [`start()`] joined, or a world of one.
pub fn world() -> &'static World {
    WORLD.get().unwrap_or(&ALONE)
}

/// Leaves the job, whose other ranks leave it too; the last call of all. Not after [`World::abort`].
pub fn finish() {
    wire::leave();
    if wire::link().is_some() {
        world().wait();
    }
    #[cfg(feature = "mpi")]
    crate::link::leave();
}

impl World {
    /// This process's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of processes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether there are no others.
    pub fn is_alone(&self) -> bool {
        self.size == 1
    }

    /// Whether any thread may speak to the others, one at a time, and not only the one that joined them.
    pub fn any_thread(&self) -> bool {
        #[cfg(feature = "mpi")]
        if !self.is_alone() && !self.is_linked() {
            return crate::link::any_thread();
        }
        self.is_alone()
    }

    /// Whether this is rank 0, who decides, writes and speaks.
    pub fn leads(&self) -> bool {
        self.rank == 0
    }

    /// This process's number among those on the same machine.
    pub fn local_rank(&self) -> usize {
        self.local.0
    }

    /// The number of processes on this machine.
    pub fn local_size(&self) -> usize {
        self.local.1
    }

    /// Machine and process of each rank; empty in a world of one.
    pub fn places(&self) -> &[String] {
        &self.places
    }

    /// The part of `len` things in a row that is this rank's: in the order of the ranks, sizes that differ by one at most.
    pub fn part(&self, len: usize) -> Range<usize> {
        part(len, self.rank, self.size)
    }

    /// As [`World::part`], that of any rank.
    pub fn part_of(&self, rank: usize, len: usize) -> Range<usize> {
        part(len, rank, self.size)
    }

    /// Replaces each value by its sum over all ranks.
    pub fn sum(&self, values: &mut [f32]) {
        if let Some(link) = self.link() {
            return wire::sum(link, values, f32::to_le_bytes, f32::from_le_bytes);
        }
        #[cfg(feature = "mpi")]
        if !self.is_alone() {
            crate::link::sum((self.rank, self.size), values);
        }
        let _ = values;
    }

    /// As [`World::sum`], in f64.
    pub fn sum_wide(&self, values: &mut [f64]) {
        if let Some(link) = self.link() {
            return wire::sum(link, values, f64::to_le_bytes, f64::from_le_bytes);
        }
        #[cfg(feature = "mpi")]
        if !self.is_alone() {
            crate::link::sum((self.rank, self.size), values);
        }
        let _ = values;
    }

    /// The values of each rank behind each other, in their order; all have as many.
    pub fn gather_values(&self, values: &[f32]) -> Vec<f32> {
        if let Some(link) = self.link() {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let all = wire::gather(link, &bytes, true).concat();
            return all.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        }
        #[cfg(feature = "mpi")]
        if !self.is_alone() {
            return crate::link::gather_values(self.size, values);
        }
        values.to_vec()
    }

    /// Whether any rank says yes.
    pub fn any(&self, here: bool) -> bool {
        let mut said = [f64::from(u8::from(here))];
        self.sum_wide(&mut said);
        said[0] > 0.0
    }

    /// What each rank has, in their order, on every rank.
    pub fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        if let Some(link) = self.link() {
            return wire::gather(link, bytes, true);
        }
        #[cfg(feature = "mpi")]
        if !self.is_alone() {
            return crate::link::gather(self.size, bytes);
        }
        vec![bytes.to_vec()]
    }

    /// What each rank has, in their order, on rank 0; nothing on the others.
    pub fn collect(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        if let Some(link) = self.link() {
            return wire::gather(link, &bytes, self.leads());
        }
        #[cfg(feature = "mpi")]
        if !self.is_alone() {
            return crate::link::collect((self.rank, self.size), &bytes);
        }
        vec![bytes]
    }

    /// What rank 0 has, on every rank; what the others give is of no account.
    pub fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
        if let Some(link) = self.link() {
            return wire::broadcast(link, self.leads(), bytes);
        }
        #[cfg(feature = "mpi")]
        if !self.is_alone() {
            return crate::link::broadcast(self.rank, bytes);
        }
        bytes
    }

    /// Waits until every rank is here.
    pub fn wait(&self) {
        self.any(false);
    }

    /// How long this rank has been waiting for the others; zero while it computes.
    pub fn waits(&self) -> Duration {
        #[cfg(feature = "mpi")]
        if !self.is_alone() {
            return crate::link::waits();
        }
        Duration::ZERO
    }

    /// Bytes of sums that this rank has sent to others so far.
    pub fn sent(&self) -> u64 {
        #[cfg(feature = "mpi")]
        if !self.is_alone() && wire::link().is_none() {
            return crate::link::sent() + wire::sent();
        }
        wire::sent()
    }

    /// What links the ranks, if it is not MPI.
    fn link(&self) -> Option<&'static dyn wire::Link> {
        wire::link().filter(|_| !self.is_alone())
    }

    /// Whether something else than MPI links the ranks.
    pub fn is_linked(&self) -> bool {
        self.link().is_some()
    }

    /// Ends the whole job with this exit code. Returns in a world of one, and where the ranks are linked by something else
    /// than MPI: the process must then end at once, and whoever started the others ends them.
    pub fn abort(&self, code: u8) {
        #[cfg(feature = "mpi")]
        if !self.is_alone() && !self.is_linked() {
            crate::link::abort(code);
        }
        let _ = code;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_all_is_as_it_is() {
        let world = world();
        assert!(world.is_alone() && world.leads());
        let mut values = [1.5, -2.0];
        world.sum(&mut values);
        assert_eq!(values, [1.5, -2.0]);
        assert!(world.any(true) && !world.any(false));
        assert_eq!(world.gather(b"x"), [b"x"]);
        assert_eq!(world.collect(b"x".to_vec()), [b"x"]);
        assert_eq!(world.broadcast(b"x".to_vec()), b"x");
        assert_eq!((world.part(5), world.sent(), world.waits()), (0..5, 0, Duration::ZERO));
    }
}
