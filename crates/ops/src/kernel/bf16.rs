//! Rounding to bf16: the upper half of an `f32`, to nearest, ties to even.

/// The bits of `v` as bf16; NaN stays NaN.
#[inline(always)]
pub(crate) fn bits(v: f32) -> u16 {
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    (if v.is_nan() { (bits >> 16) | 0x40 } else { rounded }) as u16
}

/// Rounds in place, keeping `f32` storage.
#[inline(always)]
pub(crate) fn round(values: &mut [f32]) {
    values.iter_mut().for_each(|v| *v = f32::from_bits(u32::from(bits(*v)) << 16));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_and_ties_to_even() {
        let cases = [
            (1.0, 1.0),
            (-1.0 - 1.0 / 256.0, -1.0),             // half-way, to the even one below
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0), // half-way, to the even one above
            (1.0 + 1.01 / 256.0, 1.0 + 2.0 / 256.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (-0.0, -0.0),
        ];
        for (v, expected) in cases {
            let mut values = [v];
            round(&mut values);
            assert_eq!(values[0].to_bits(), expected.to_bits(), "{v}");
        }
        for nan in [0x7f80_0001, 0xffff_ffff] {
            let mut values = [f32::from_bits(nan)];
            round(&mut values);
            assert!(values[0].is_nan(), "{nan:x}");
        }
    }
}
