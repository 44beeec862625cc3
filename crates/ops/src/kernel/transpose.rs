//! A block with rows and columns exchanged.

#[cfg(target_arch = "x86_64")]
use super::isa::isa;

/// Rows and columns that are exchanged at a time.
const SIDE: usize = 16;

/// Writes the first `columns` floats of the first `rows` rows of `from` as `columns` rows of `rows` floats to `to`. Each comes
/// with the floats from row to row; where there is room, whole sixteens of rows and columns are read and written.
pub(super) fn transpose(
    (rows, columns): (usize, usize),
    (from, from_pitch): (&[f32], usize),
    (to, to_pitch): (&mut [f32], usize),
) {
    for row in (0..rows).step_by(SIDE) {
        for column in (0..columns).step_by(SIDE) {
            let (from, to) = (&from[row * from_pitch + column..], &mut to[column * to_pitch + row..]);
            #[cfg(target_arch = "x86_64")]
            if isa().has_avx512()
                && row + SIDE <= to_pitch
                && from.len() >= (SIDE - 1) * from_pitch + SIDE
                && to.len() >= (SIDE - 1) * to_pitch + SIDE
            {
                // SAFETY: the CPU has the instructions; both slices go on for `SIDE` rows, as just checked.
                unsafe { square((from.as_ptr(), from_pitch), (to.as_mut_ptr(), to_pitch)) };
                continue;
            }
            match (SIDE.min(rows - row), SIDE.min(columns - column)) {
                (SIDE, SIDE) => exchange((SIDE, SIDE), (from, from_pitch), (to, to_pitch)),
                size => exchange(size, (from, from_pitch), (to, to_pitch)),
            }
        }
    }
}

#[inline(always)]
fn exchange((rows, columns): (usize, usize), (from, from_pitch): (&[f32], usize), (to, to_pitch): (&mut [f32], usize)) {
    for row in 0..rows {
        for column in 0..columns {
            to[column * to_pitch + row] = from[row * from_pitch + column];
        }
    }
}

/// Sixteen rows of sixteen floats; both come with the floats from row to row.
///
/// # Safety
/// They can be read at `from`, and written at `to`; the CPU has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn square((from, from_pitch): (*const f32, usize), (to, to_pitch): (*mut f32, usize)) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise; loads and stores need no alignment.
    unsafe {
        let zero = _mm512_setzero_ps();
        let (mut rows, mut twos, mut fours) = ([zero; SIDE], [zero; SIDE], [zero; SIDE]);
        for (index, row) in rows.iter_mut().enumerate() {
            *row = _mm512_loadu_ps(from.add(index * from_pitch));
        }
        // Two rows, then four rows, mixed within each quarter of a register.
        for at in (0..SIDE).step_by(2) {
            twos[at] = _mm512_unpacklo_ps(rows[at], rows[at + 1]);
            twos[at + 1] = _mm512_unpackhi_ps(rows[at], rows[at + 1]);
        }
        for at in (0..SIDE).step_by(4) {
            for half in 0..2 {
                let [one, two] = [at + half, at + half + 2].map(|row| _mm512_castps_pd(twos[row]));
                fours[at + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(one, two));
                fours[at + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(one, two));
            }
        }
        // Register `4 r + j` has column `4 q + j` of rows `4 r..4 r + 4` in its quarter `q`.
        for j in 0..4 {
            let [a, b, c, d] = [j, j + 4, j + 8, j + 12].map(|at| fours[at]);
            let (upper, lower) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
            _mm512_storeu_ps(to.add(j * to_pitch), _mm512_shuffle_f32x4::<0x88>(upper, lower));
            _mm512_storeu_ps(to.add((8 + j) * to_pitch), _mm512_shuffle_f32x4::<0xdd>(upper, lower));
            let (upper, lower) = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
            _mm512_storeu_ps(to.add((4 + j) * to_pitch), _mm512_shuffle_f32x4::<0x88>(upper, lower));
            _mm512_storeu_ps(to.add((12 + j) * to_pitch), _mm512_shuffle_f32x4::<0xdd>(upper, lower));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let from: Vec<f32> = (0..272 * 48).map(|at| at as f32).collect();
        for (rows, columns, pitch) in [(1, 1, 272), (16, 16, 16), (48, 33, 48), (17, 256, 272), (20, 20, 20)] {
            let mut to = vec![-1.0; pitch * 256];
            transpose((rows, columns), (&from, 272), (&mut to, pitch));
            for row in 0..rows {
                for column in 0..columns {
                    assert_eq!(to[column * pitch + row], from[row * 272 + column], "{row} {column}");
                }
            }
        }
    }
}
