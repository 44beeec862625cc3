//! Values on their way from the device to the host.

use std::collections::VecDeque;

use candle_core::{Device, Tensor};
use ops::transfer::Readback;

use crate::error::Result;

/// Reads `K` tensors per step while the device computes the next step. On a CPU, each step is read at once.
pub(crate) struct DeferredReadback<T, const K: usize> {
    /// How many steps may be on their way after another one has started.
    most: usize,
    waiting: VecDeque<(T, [Readback; K])>,
}

/// Gets what [`DeferredReadback::push`] was told of a step, and the values of its tensors.
pub(crate) type Arrived<'a, T, const K: usize> = &'a mut dyn FnMut(T, [Vec<f32>; K]) -> Result<()>;

impl<T, const K: usize> DeferredReadback<T, K> {
    pub(crate) fn new(device: &Device) -> Self {
        DeferredReadback { most: usize::from(device.is_cuda()), waiting: VecDeque::new() }
    }

    /// Starts reading the tensors of a step; `take` gets the earlier steps that have arrived.
    pub(crate) fn push(&mut self, step: T, tensors: [Tensor; K], take: Arrived<T, K>) -> Result<()> {
        let readings = each(tensors, |tensor| Readback::start(&tensor))?;
        self.waiting.push_back((step, readings));
        self.arrive(self.most, take)
    }

    /// Waits for all steps.
    pub(crate) fn drain(&mut self, take: Arrived<T, K>) -> Result<()> {
        self.arrive(0, take)
    }

    fn arrive(&mut self, most: usize, take: Arrived<T, K>) -> Result<()> {
        while self.waiting.len() > most
            && let Some((step, readings)) = self.waiting.pop_front()
        {
            take(step, each(readings, Readback::wait)?)?;
        }
        Ok(())
    }
}

/// [`array::map`] for functions that can fail.
fn each<A, B, const K: usize>(
    values: [A; K],
    mut map: impl FnMut(A) -> candle_core::Result<B>,
) -> candle_core::Result<[B; K]> {
    let mut failed = None;
    let mapped = values.map(|value| map(value).map_err(|error| failed = Some(error)).ok());
    match failed {
        Some(error) => Err(error),
        None => Ok(mapped.map(|value| value.unwrap_or_else(|| unreachable!("no error")))),
    }
}
