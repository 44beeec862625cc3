//! Element-wise functions of one, two or three tensors, in place.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result};
use rayon::prelude::*;

use crate::{
    kernel::vectorised,
    view::{slice, slice_mut},
};

/// Elements per parallel task: 256 KiB.
const TASK: usize = 64 << 10;

/// `a = f(a)`, element by element.
pub(crate) struct Each1<F> {
    pub(crate) name: &'static str,
    pub(crate) f: F,
}

impl<F: Fn(f32) -> f32 + Sync> InplaceOp1 for Each1<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, a: &mut CpuStorage, la: &Layout) -> Result<()> {
        let a = slice_mut(self.name, "operand", a, la)?;
        a.par_chunks_mut(TASK).for_each(|a| vectorised(|| a.iter_mut().for_each(|a| *a = (self.f)(*a))));
        Ok(())
    }
}

/// `a = f(a, b)`, element by element.
pub(crate) struct Each2<F> {
    pub(crate) name: &'static str,
    pub(crate) f: F,
}

impl<F: Fn(f32, f32) -> f32 + Sync> InplaceOp2 for Each2<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, a: &mut CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Result<()> {
        let a = slice_mut(self.name, "first operand", a, la)?;
        let b: &[f32] = slice(self.name, "second operand", b, lb)?;
        a.par_chunks_mut(TASK)
            .zip(b.par_chunks(TASK))
            .for_each(|(a, b)| vectorised(|| a.iter_mut().zip(b).for_each(|(a, b)| *a = (self.f)(*a, *b))));
        Ok(())
    }
}

/// `a = f(a, b, c)`, element by element.
pub(crate) struct Each3<F> {
    pub(crate) name: &'static str,
    pub(crate) f: F,
}

impl<F: Fn(f32, f32, f32) -> f32 + Sync> InplaceOp3 for Each3<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        a: &mut CpuStorage,
        la: &Layout,
        b: &CpuStorage,
        lb: &Layout,
        c: &CpuStorage,
        lc: &Layout,
    ) -> Result<()> {
        let a = slice_mut(self.name, "first operand", a, la)?;
        let b: &[f32] = slice(self.name, "second operand", b, lb)?;
        let c: &[f32] = slice(self.name, "third operand", c, lc)?;
        a.par_chunks_mut(TASK).zip(b.par_chunks(TASK)).zip(c.par_chunks(TASK)).for_each(|((a, b), c)| {
            let operands = b.iter().zip(c);
            vectorised(|| {
                for (a, (b, c)) in a.iter_mut().zip(operands) {
                    *a = (self.f)(*a, *b, *c);
                }
            })
        });
        Ok(())
    }
}
