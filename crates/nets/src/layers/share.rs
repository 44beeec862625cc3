//! A rank's part of a batch, where several ranks share one.

use candle_core::Tensor;
use cxr::Labels;
use ops::BatchStats;
use ranks::World;

use crate::error::Result;
use crate::nccl;

/// What a rank has of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share {
    world: &'static World,
    /// Examples of the whole batch.
    rows: usize,
    /// Examples here. A rank without any takes the step with one that counts nothing.
    here: usize,
    /// Known labels here.
    known_here: usize,
    /// Positive and negative labels of the whole batch.
    counts: [usize; 2],
}

impl Share {
    /// This rank's share of a batch with these labels.
    pub(crate) fn new(world: &'static World, labels: &[Labels]) -> Share {
        let here = world.part(labels.len());
        let known = |labels: &[Labels], shown: Option<bool>| {
            let outputs = labels.iter().flat_map(|labels| labels.outputs());
            outputs.filter(|&output| output.is_some() && (shown.is_none() || output == shown)).count()
        };
        Share {
            world,
            rows: labels.len(),
            here: here.len(),
            known_here: known(&labels[here], None),
            counts: [true, false].map(|shown| known(labels, Some(shown))),
        }
    }

    /// Who shares the batch.
    pub(crate) fn world(&self) -> &'static World {
        self.world
    }

    /// Positive and negative labels of the whole batch.
    pub(crate) fn counts(&self) -> [usize; 2] {
        self.counts
    }

    /// What a mean over the known labels here is to be multiplied with, so that the sum over all ranks is the mean over the
    /// known labels of the whole batch.
    pub(crate) fn of_known(&self) -> f64 {
        self.known_here as f64 / self.counts.iter().sum::<usize>().max(1) as f64
    }

    /// The share of the examples that are here.
    pub(crate) fn of_rows(&self) -> f64 {
        self.here as f64 / self.rows as f64
    }

    /// Makes the statistics of the part of a batch that is here those of the whole batch, in place (Chan, Golub and LeVeque
    /// 1979, rank by rank).
    pub(crate) fn complete(&self, stats: &BatchStats, eps: f64) -> Result<()> {
        if let Some(nccl) = nccl::of(stats.mean.device()) {
            return Ok(nccl.complete(stats, self.rows, eps)?);
        }
        let mut values = stats.mean.to_vec1::<f32>()?;
        values.extend(stats.var.to_vec1::<f32>()?);
        let (channels, all) = (values.len() / 2, self.world.gather_values(&values));
        let (mut mean, mut squares, mut count) = (vec![0.0; channels], vec![0.0; channels], 0.0);
        for (rank, of_rank) in all.chunks_exact(2 * channels).enumerate() {
            let rows = self.world.part_of(rank, self.rows).len() as f64;
            if rows == 0.0 {
                continue;
            }
            let (share, weight) = (rows / (count + rows), count * rows / (count + rows));
            count += rows;
            let (means, vars) = of_rank.split_at(channels);
            for channel in 0..channels {
                let d = f64::from(means[channel]) - mean[channel];
                mean[channel] += d * share;
                squares[channel] += rows * f64::from(vars[channel]) + d * d * weight;
            }
        }
        let vars = || squares.iter().map(|square| square / count);
        let put = |into: &Tensor, values: Vec<f32>| -> Result<()> {
            Ok(into.slice_set(&Tensor::from_vec(values, channels, into.device())?, 0, 0)?)
        };
        put(&stats.inv_std, vars().map(|var| (var + eps).sqrt().recip() as f32).collect())?;
        put(&stats.var, vars().map(|var| var as f32).collect())?;
        put(&stats.mean, mean.iter().map(|&mean| mean as f32).collect())
    }
}

impl ops::Whole for Share {
    fn sum(&self, sums: &mut [f64]) {
        // A rank without examples adds nothing, and gets no gradient back.
        if self.here == 0 {
            sums.fill(0.0);
        }
        self.world.sum_wide(sums);
        if self.here == 0 {
            sums.fill(0.0);
        }
    }

    fn gather(&self, sums: &Tensor) -> candle_core::Result<Tensor> {
        let sums = if self.here == 0 { sums.zeros_like()? } else { sums.clone() };
        if let Some(nccl) = nccl::of(sums.device()) {
            let [all] = nccl.gathered([&sums])?;
            return Ok(all);
        }
        let bytes: Vec<u8> = sums.to_vec1::<f64>()?.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        let all = self.world.gather(&bytes).concat();
        let all: Vec<f64> = all.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
        Tensor::from_vec(all, (self.world.size(), sums.elem_count()), sums.device())
    }

    fn counts(&self) -> bool {
        self.here > 0
    }

    fn pixels(&self, here: usize) -> usize {
        here / self.here.max(1) * self.rows
    }
}
