//! What GPUs of several processes say to each other, by NCCL (feature `nccl`); without the feature nobody has an [`Nccl`].

#[cfg(feature = "nccl")]
pub use crate::cuda::nccl::{Id, Nccl};
#[cfg(not(feature = "nccl"))]
pub use none::{Id, Nccl};

#[cfg(not(feature = "nccl"))]
#[allow(missing_docs)] // those of `cuda/nccl.rs`
mod none {
    use std::ops::Range;

    use candle_core::{Device, Error, Result, Tensor};

    use crate::norm::types::BatchStats;

    pub type Id = [u8; 128];

    /// There is none.
    #[derive(Debug)]
    pub enum Nccl {}

    fn refused<T>() -> Result<T> {
        Err(Error::Msg("this build has no NCCL".to_owned()))
    }

    impl Nccl {
        pub fn devices() -> Result<usize> {
            refused()
        }

        pub fn id() -> Result<Id> {
            refused()
        }

        pub fn join(_: usize, _: (usize, usize), _: &Id) -> Result<Nccl> {
            refused()
        }

        pub fn device(&self) -> usize {
            match *self {}
        }

        pub fn failure(&self) -> Option<String> {
            match *self {}
        }

        pub fn sent(&self) -> u64 {
            match *self {}
        }

        pub fn gather_bytes(&self, _: &[u8]) -> Result<Vec<u8>> {
            match *self {}
        }

        pub fn broadcast_bytes(&self, _: &mut [u8]) -> Result<()> {
            match *self {}
        }

        pub fn gathered<const K: usize>(&self, _: [&Tensor; K]) -> Result<[Tensor; K]> {
            match *self {}
        }

        pub fn complete(&self, _: &BatchStats, _: usize, _: f64) -> Result<()> {
            match *self {}
        }

        pub fn joined(&self, _: &[&Tensor], _: f32) -> Result<Tensor> {
            match *self {}
        }

        pub fn sum(&self, _: &Tensor, _: &[Range<usize>]) -> Result<()> {
            match *self {}
        }

        pub fn wait(&self, _: &Device) -> Result<()> {
            match *self {}
        }
    }
}
