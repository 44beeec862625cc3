//! MPI.

use std::ops::AddAssign;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::{self, Universe};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Equivalence, Root};

use crate::tree;

/// MPI's state, which ends it where it is dropped.
static UNIVERSE: Mutex<Option<Universe>> = Mutex::new(None);

/// Bytes that this rank has sent for sums.
static SENT: AtomicU64 = AtomicU64::new(0);

/// When this rank began to wait for others; `None` while it does not.
static WAITS: Mutex<Option<Instant>> = Mutex::new(None);

/// Values that are added up in one go: what it takes beside them stays small.
const BUCKET: usize = 1 << 18;

/// Bytes of all ranks together up to which each rank adds up everything itself: one message instead of two.
const SMALL: usize = 32 << 10;

/// The most bytes of one message: MPI counts in 32 bits.
const PIECE: usize = 64 << 20;

/// Joins the job: this process's rank, and the number of ranks.
pub(crate) fn join() -> Option<(usize, usize)> {
    // Open MPI would end the process in its own words.
    if !crate::launcher::introduces() && environment::library_version().is_ok_and(|name| name.starts_with("Open MPI")) {
        return None;
    }
    let (universe, _) = environment::initialize_with_threading(Threading::Serialized)?;
    let all = universe.world();
    if let Ok(mut place) = UNIVERSE.lock() {
        *place = Some(universe);
    }
    Some((usize::try_from(all.rank()).ok()?, usize::try_from(all.size()).ok()?))
}

/// Whether MPI lets any thread speak, one at a time.
pub(crate) fn any_thread() -> bool {
    environment::threading_support() >= Threading::Serialized
}

pub(crate) fn leave() {
    let _waits = Waits::new();
    if let Ok(mut place) = UNIVERSE.lock() {
        place.take();
    }
}

/// The name of this machine.
pub(crate) fn machine() -> String {
    environment::processor_name().unwrap_or_else(|_| "unknown".to_owned())
}

pub(crate) fn sent() -> u64 {
    SENT.load(Ordering::Relaxed)
}

/// While it lives, this rank waits for others.
struct Waits;

impl Waits {
    fn new() -> Waits {
        set_waits(Some(Instant::now()));
        Waits
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        set_waits(None);
    }
}

fn set_waits(since: Option<Instant>) {
    if let Ok(mut place) = WAITS.lock() {
        *place = since;
    }
}

/// How long this rank has been waiting for others.
pub(crate) fn waits() -> Duration {
    WAITS.lock().ok().and_then(|since| *since).map_or(Duration::ZERO, |since| since.elapsed())
}

/// How long a launcher has to pass on what this rank has said: MPICH's drops at an abort what it has not read by then.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(crate) fn abort(code: u8) -> ! {
    std::thread::sleep(LAST_WORDS);
    all().abort(i32::from(code))
}

fn all() -> SimpleCommunicator {
    SimpleCommunicator::world()
}

/// Sizes of messages are far below MPI's limit.
fn counts(lens: impl Iterator<Item = usize>) -> Vec<i32> {
    lens.map(|len| i32::try_from(len).unwrap_or(i32::MAX)).collect()
}

/// Where each part begins.
fn displacements(counts: &[i32]) -> Vec<i32> {
    counts.iter().scan(0, |at, count| Some(std::mem::replace(at, *at + count))).collect()
}

/// Replaces each value by its sum over all ranks.
pub(crate) fn sum<T: Equivalence + Copy + Default + AddAssign>((rank, size): (usize, usize), values: &mut [T]) {
    let _waits = Waits::new();
    let bytes = size_of_val(values);
    if bytes * size <= SMALL {
        let mut parts = vec![T::default(); size * values.len()];
        all().all_gather_into(values, &mut parts[..]);
        tree::add(&mut parts, values.len());
        values.copy_from_slice(&parts[..values.len()]);
        SENT.fetch_add(((size - 1) * bytes) as u64, Ordering::Relaxed);
        return;
    }
    let mut room = Vec::new();
    values.chunks_mut(BUCKET).for_each(|bucket| sum_bucket((rank, size), bucket, &mut room));
}

fn sum_bucket<T: Equivalence + Copy + Default + AddAssign>(
    (rank, size): (usize, usize),
    bucket: &mut [T],
    room: &mut Vec<T>,
) {
    let parts = counts((0..size).map(|rank| tree::part(bucket.len(), rank, size).len()));
    let starts = displacements(&parts);
    let mine = tree::part(bucket.len(), rank, size).len();
    room.resize(size * mine, T::default());
    let same = counts(std::iter::repeat_n(mine, size));
    let theirs = displacements(&same);
    all().all_to_all_varcount_into(
        &Partition::new(&*bucket, &parts[..], &starts[..]),
        &mut PartitionMut::new(&mut room[..], &same[..], &theirs[..]),
    );
    tree::add(room, mine);
    all().all_gather_varcount_into(&room[..mine], &mut PartitionMut::new(bucket, &parts[..], &starts[..]));
    let sent = (bucket.len() - mine + (size - 1) * mine) * size_of::<T>();
    SENT.fetch_add(sent as u64, Ordering::Relaxed);
}

/// The values of each rank, as many on each.
pub(crate) fn gather_values(size: usize, values: &[f32]) -> Vec<f32> {
    let _waits = Waits::new();
    let mut out = vec![0.0; size * values.len()];
    all().all_gather_into(values, &mut out[..]);
    SENT.fetch_add(((size - 1) * size_of_val(values)) as u64, Ordering::Relaxed);
    out
}

/// The number of bytes that each rank has.
fn lens(size: usize, bytes: &[u8]) -> Vec<usize> {
    let mut lens = vec![0; size];
    all().all_gather_into(&(bytes.len() as u64), &mut lens[..]);
    lens.into_iter().map(|len: u64| usize::try_from(len).unwrap_or(usize::MAX)).collect()
}

/// Runs `round` with what of each rank's bytes goes into each message: its counts, and this rank's own part.
fn rounds(lens: &[usize], bytes: &[u8], each: usize, round: &mut dyn FnMut(&[i32], &[u8])) {
    for at in (0..lens.iter().copied().max().unwrap_or(0)).step_by(each) {
        let now = counts(lens.iter().map(|len| len.saturating_sub(at).min(each)));
        let end = (at + each).min(bytes.len());
        round(&now, &bytes[at.min(end)..end]);
    }
}

/// Appends to each rank's bytes what a message brought.
fn append(out: &mut [Vec<u8>], counts: &[i32], got: &[u8]) {
    let mut rest = got;
    for (out, &count) in out.iter_mut().zip(counts) {
        let (now, later) = rest.split_at(count as usize);
        out.extend_from_slice(now);
        rest = later;
    }
}

/// What each rank has, on every rank.
pub(crate) fn gather(size: usize, bytes: &[u8]) -> Vec<Vec<u8>> {
    let _waits = Waits::new();
    let lens = lens(size, bytes);
    let mut out: Vec<Vec<u8>> = lens.iter().map(|&len| Vec::with_capacity(len)).collect();
    rounds(&lens, bytes, (PIECE / size).max(1), &mut |counts, now| {
        let mut got = vec![0u8; counts.iter().map(|&count| count as usize).sum()];
        let starts = displacements(counts);
        all().all_gather_varcount_into(now, &mut PartitionMut::new(&mut got[..], counts, &starts[..]));
        append(&mut out, counts, &got);
    });
    out
}

/// What each rank has, on rank 0.
pub(crate) fn collect((rank, size): (usize, usize), bytes: &[u8]) -> Vec<Vec<u8>> {
    let _waits = Waits::new();
    let lens = lens(size, bytes);
    let mut out: Vec<Vec<u8>> = vec![Vec::new(); if rank == 0 { size } else { 0 }];
    rounds(&lens, bytes, (PIECE / size).max(1), &mut |counts, now| {
        let (all, starts) = (all(), displacements(counts));
        let root = all.process_at_rank(0);
        if rank != 0 {
            root.gather_varcount_into(now);
            return;
        }
        let mut got = vec![0u8; counts.iter().map(|&count| count as usize).sum()];
        root.gather_varcount_into_root(now, &mut PartitionMut::new(&mut got[..], counts, &starts[..]));
        append(&mut out, counts, &got);
    });
    out
}

/// What rank 0 has, on every rank.
pub(crate) fn broadcast(rank: usize, bytes: Vec<u8>) -> Vec<u8> {
    let _waits = Waits::new();
    let all = all();
    let root = all.process_at_rank(0);
    let mut len = bytes.len() as u64;
    root.broadcast_into(&mut len);
    let mut bytes = if rank == 0 { bytes } else { vec![0; usize::try_from(len).unwrap_or(usize::MAX)] };
    bytes.chunks_mut(PIECE).for_each(|piece| root.broadcast_into(piece));
    bytes
}
