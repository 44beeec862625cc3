//! The GPUs of a job's ranks, linked by NCCL.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, DeviceLocation, Tensor};
use ops::nccl::Nccl;
use ranks::{Place, Refused, World};

use crate::error::{Error, Result};

/// This rank's link to the other ranks' GPUs; one per process.
static LINK: OnceLock<Linked> = OnceLock::new();
/// Whether all ranks compute on the GPU that links them.
static ON_DEVICES: AtomicBool = AtomicBool::new(false);

struct Linked(Nccl);

impl ranks::Link for Linked {
    fn gather(&self, bytes: &[u8]) -> std::result::Result<Vec<u8>, String> {
        self.0.gather_bytes(bytes).map_err(|error| error.to_string())
    }

    fn broadcast(&self, bytes: &mut [u8]) -> std::result::Result<(), String> {
        self.0.broadcast_bytes(bytes).map_err(|error| error.to_string())
    }

    fn failure(&self) -> Option<String> {
        self.0.failure()
    }

    fn sent(&self) -> u64 {
        self.0.sent()
    }
}

/// Lets [`ranks::start`] link processes that torchrun started by their GPUs, in a build with NCCL; called before it.
pub fn link_by_nccl() {
    if cfg!(feature = "nccl") {
        ranks::offer(connect);
    }
}

fn connect(place: &Place) -> std::result::Result<&'static dyn ranks::Link, Refused> {
    let id = || Nccl::id().map_err(Error::from);
    let joined = own(place.local_rank, place.local_size)
        .and_then(|device| join(device, (place.rank, place.size), &id()?))
        .map_err(|error| Refused::Link {
            hint: error.hint().unwrap_or_else(|| {
                "each rank needs a GPU of its own, and a way to NCCL_COMM_ID, which is MASTER_ADDR and the port behind \
                 MASTER_PORT where it is not set; NCCL_DEBUG=INFO says more"
                    .to_owned()
            }),
            reason: error.to_string(),
        })?;
    Ok(joined)
}

/// The number of a rank's GPU. Where a scheduler shows each rank only its own, that is the first.
fn own(local_rank: usize, local_size: usize) -> Result<usize> {
    let gpus = Nccl::devices()?;
    let chosen = gpus == 1 && std::env::var_os("CUDA_VISIBLE_DEVICES").is_some();
    if gpus < local_size && !chosen {
        return Err(Error::Gpus { ranks: local_size, gpus });
    }
    Ok(local_rank % gpus.max(1))
}

fn join(device: usize, place: (usize, usize), id: &ops::nccl::Id) -> Result<&'static Linked> {
    let made = Linked(Nccl::join(device, place, id)?);
    Ok(LINK.get_or_init(|| made))
}

/// Finds out whether each rank computes on a GPU of its own, and links those of an MPI job by NCCL too, in a build that has
/// it. All ranks call it.
pub(crate) fn link_ranks(world: &World, device: &Device) -> Result<()> {
    if !cfg!(feature = "nccl") || world.is_alone() {
        return Ok(());
    }
    ON_DEVICES.store(false, Ordering::Relaxed);
    if world.any(!device.is_cuda()) {
        return Ok(());
    }
    let own = own(world.local_rank(), world.local_size())?;
    if world.any(number(device) != Some(own)) {
        return Ok(());
    }
    if LINK.get().is_none() {
        let id = if world.leads() { Nccl::id()?.to_vec() } else { Vec::new() };
        let id = world.broadcast(id).try_into().map_err(|_| Error::shape("NCCL's id", "128 bytes", "others"))?;
        ranks::watch(join(own, (world.rank(), world.size()), &id)?);
    }
    ON_DEVICES.store(true, Ordering::Relaxed);
    Ok(())
}

fn number(device: &Device) -> Option<usize> {
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => Some(gpu_id),
        _ => None,
    }
}

/// What links this device to those of the other ranks; `None` on a CPU, in a world of one, without NCCL, and where a rank
/// computes on another device than that of its number.
pub(crate) fn of(device: &Device) -> Option<&'static Nccl> {
    let linked = LINK.get().filter(|_| ON_DEVICES.load(Ordering::Relaxed))?;
    (number(device) == Some(linked.0.device())).then_some(&linked.0)
}

/// Starts to add up tensors over all ranks, each times a factor, in one go: the sums will be there after [`Nccl::wait`], in
/// `f32`.
pub(crate) fn sums(nccl: &Nccl, world: &World, tensors: &[&Tensor], factor: f32) -> Result<Vec<Tensor>> {
    if tensors.is_empty() {
        return Ok(Vec::new());
    }
    let all = nccl.joined(tensors, factor)?;
    let parts: Vec<_> = (0..world.size()).map(|rank| world.part_of(rank, all.elem_count())).collect();
    nccl.sum(&all, &parts)?;
    let mut at = 0;
    let one = |tensor: &&Tensor| {
        at += tensor.elem_count();
        Ok(all.narrow(0, at - tensor.elem_count(), tensor.elem_count())?.reshape(tensor.shape())?)
    };
    tensors.iter().map(one).collect()
}
