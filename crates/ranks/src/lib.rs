//! Processes that compute one result together: the ranks of a job.
//!
//! [`start()`] joins the job that `mpirun`, `srun` or `torchrun` started; [`world()`] is then that job, and a world of one
//! before and without it. There is one world per process, as MPI has it. What `mpirun` and `srun` start is linked by MPI
//! (feature `mpi`); what `torchrun` starts by a [`Link`] that somebody must [`offer`], as `nets` does with NCCL. Without
//! either every world is one of one, and all that a rank asks of the others is answered at once.
//!
//! All ranks must call the same functions of [`World`] in the same order, from the thread that called [`start()`]. MPI ends
//! the whole job where one of its calls fails; with a [`Link`] the thread unwinds with [`Broken`].
//!
//! Sums are taken in a binary tree over the ranks in their order, so that a number of ranks gives the same bits every
//! time, and on every rank, whatever MPI and network there are. A sum moves `2 (n - 1) / n` of its size per rank, as a ring
//! does: each rank gets its part of all others' values, adds, and sends the sum to all.

mod launcher;
#[cfg(feature = "mpi")]
mod link;
mod tree;
mod wire;
mod world;

pub use launcher::{Place, Refused, tasks};
pub use wire::{Broken, Connect, Link, failure, offer, watch};
pub use world::{World, finish, start, world};
