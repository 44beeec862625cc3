//! What the ranks of a job do with each other in a training: they share batches, add up gradients, and start alike.
//!
//! Each batch is cut into parts, in the order of the ranks, whose sizes differ by one at most. Gradients, losses and
//! statistics are sums over all ranks, so that model and optimiser are the same bits on every rank after every step.

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Tensor};
use cxr::Labels;
use ranks::World;

use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::layers::params::Params;
use crate::layers::share::Share;
use crate::nccl;

/// This rank's part of some batches: the indices of its examples, how many each batch has here, and its share of each.
///
/// Where a batch has no example for this rank it takes the step with the batch's first, which then counts nothing.
pub(crate) fn parts(
    world: &'static World,
    order: &[usize],
    batch: usize,
    labels: &dyn Fn(usize) -> Labels,
) -> (Vec<usize>, usize, Vec<Share>) {
    let (mut mine, mut shares) = (Vec::new(), Vec::new());
    for batch in order.chunks(batch) {
        let part = world.part(batch.len());
        mine.extend(if part.is_empty() { &batch[..1] } else { &batch[part] });
        let labels: Vec<Labels> = batch.iter().map(|&index| labels(index)).collect();
        shares.push(Share::new(world, &labels));
    }
    (mine, world.part(batch).len().max(1), shares)
}

/// Values from which on a gradient on a CPU is added up where it lies; smaller ones go together, in fewer messages.
const LARGE: usize = 1 << 16;

/// A step's sums over all ranks.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// The values that are not added up where they lie, behind each other; kept, since memory that was used is faster.
    values: Vec<f32>,
}

/// Adds up a tensor's values in place.
struct InPlace<'a>(&'a World);

impl InplaceOp1 for InPlace<'_> {
    fn name(&self) -> &'static str {
        "sum_over_ranks"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(values), Some((start, end))) => {
                self.0.sum(&mut values[start..end]);
                Ok(())
            }
            _ => Err(candle_core::Error::Msg("a gradient on a CPU is f32 and contiguous".into())),
        }
    }
}

impl Sums {
    /// The loss and the gradients of the whole batch, from those of its shares, and how many ranks ask to stop. Where
    /// batch norms are each rank's own, the running statistics of `params` become the mean over all examples.
    pub(crate) fn of(
        &mut self,
        world: &World,
        (loss, grads): (&Tensor, Vec<Tensor>),
        params: &Params,
        stop: bool,
    ) -> Result<(Tensor, Vec<Tensor>, Tensor)> {
        let apart = params.share().filter(|_| params.norms_apart());
        let statistics = if apart.is_some() { params.statistics() } else { Vec::new() };
        let share = apart.map_or(1.0, Share::of_rows) as f32;
        if let Some(nccl) = nccl::of(params.device()) {
            let grads = match params.are_summed() {
                true => grads,
                false => nccl::sums(nccl, world, &grads.iter().collect::<Vec<_>>(), 1.0)?,
            };
            let means = nccl::sums(nccl, world, &statistics, share)?;
            let wish = if stop { Tensor::ones_like(loss)? } else { loss.zeros_like()? };
            let said = nccl::sums(nccl, world, &[loss, &wish], 1.0)?;
            nccl.wait(params.device())?;
            for (tensor, mean) in statistics.iter().zip(means) {
                tensor.slice_set(&mean, 0, 0)?;
            }
            return Ok((said[0].clone(), grads, said[1].clone()));
        }
        let values = &mut self.values;
        values.clear();
        let in_place = |grad: &Tensor| grad.device().is_cpu() && grad.elem_count() >= LARGE;
        for tensor in &grads {
            if in_place(tensor) {
                tensor.inplace_op1(&InPlace(world))?;
                continue;
            }
            values.extend(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
        }
        for tensor in &statistics {
            values.extend(tensor.to_vec1::<f32>()?.iter().map(|value| value * share));
        }
        values.push(loss.to_scalar::<f32>()?);
        values.push(f32::from(u8::from(stop)));
        world.sum(values);
        let mut at = 0;
        let mut next = |like: &Tensor| {
            let count = like.elem_count();
            at += count;
            Tensor::from_slice(&values[at - count..at], like.shape(), like.device())
        };
        let sums = grads.iter().map(|grad| if in_place(grad) { Ok(grad.clone()) } else { next(grad) });
        let sums = sums.collect::<candle_core::Result<Vec<_>>>()?;
        for tensor in statistics {
            tensor.slice_set(&next(tensor)?, 0, 0)?;
        }
        let loss = next(loss)?;
        Ok((loss, sums, Tensor::new(values.last().copied().unwrap_or(0.0), &Device::Cpu)?))
    }
}

/// Refuses ranks that are about to train something else than rank 0.
pub(crate) fn check(world: &World, identity: &Identity) -> Result<()> {
    let keys = world.gather(identity.key().as_bytes());
    match keys.iter().position(|key| *key != keys[0]) {
        None => Ok(()),
        Some(rank) => Err(Error::Ranks { rank }),
    }
}

/// Gives every rank the tensors of rank 0, in place of its own of the same shapes.
pub(crate) fn like_the_first(world: &World, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    let one = |tensor: &Tensor| -> Result<Tensor> {
        let bytes: Vec<u8> = match world.leads() {
            true => tensor.flatten_all()?.to_vec1::<f32>()?.iter().flat_map(|value| value.to_le_bytes()).collect(),
            false => Vec::new(),
        };
        let values = floats(&world.broadcast(bytes));
        Ok(Tensor::from_vec(values, tensor.shape(), tensor.device())?)
    };
    tensors.iter().map(one).collect()
}

/// The rows of all ranks behind each other, from those of each.
pub(crate) fn joined<const K: usize>(world: &World, rows: &[[f32; K]]) -> Vec<[f32; K]> {
    let bytes: Vec<u8> = rows.as_flattened().iter().flat_map(|value| value.to_le_bytes()).collect();
    world.gather(&bytes).iter().flat_map(|bytes| floats(bytes).as_chunks().0.to_vec()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}
