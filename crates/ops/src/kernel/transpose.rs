//! A block with rows and columns exchanged.

#[cfg(target_arch = "x86_64")]
use super::isa::isa;
use super::operands::PITCH;

/// Rows and columns that are exchanged at a time.
const SIDE: usize = 16;

/// Writes the first `columns` floats of the first `rows` rows of a block as `columns` rows of `rows` floats. Rows are
/// [`PITCH`] apart in both; up to whole sixteens of rows and columns are read and written.
pub(super) fn transpose(rows: usize, columns: usize, from: &[f32], to: &mut [f32]) {
    let [high, wide] = [rows, columns].map(|count| count.next_multiple_of(SIDE));
    assert!(high.max(wide) <= PITCH && high * PITCH <= from.len() && wide * PITCH <= to.len());
    for row in (0..high).step_by(SIDE) {
        for column in (0..wide).step_by(SIDE) {
            let (from, to) = (&from[row * PITCH + column..], &mut to[column * PITCH + row..]);
            #[cfg(target_arch = "x86_64")]
            if isa().has_avx512() {
                // SAFETY: the CPU has the instructions; both slices go on for `SIDE` rows, of `PITCH` floats but the last, as
                // checked above.
                unsafe { square(from.as_ptr(), to.as_mut_ptr()) };
                continue;
            }
            for row in 0..SIDE {
                for column in 0..SIDE {
                    to[column * PITCH + row] = from[row * PITCH + column];
                }
            }
        }
    }
}

/// Sixteen rows of sixteen floats.
///
/// # Safety
/// They can be read at `from`, and written at `to`; the CPU has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn square(from: *const f32, to: *mut f32) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise; loads and stores need no alignment.
    unsafe {
        let zero = _mm512_setzero_ps();
        let (mut rows, mut twos, mut fours) = ([zero; SIDE], [zero; SIDE], [zero; SIDE]);
        for (index, row) in rows.iter_mut().enumerate() {
            *row = _mm512_loadu_ps(from.add(index * PITCH));
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
            _mm512_storeu_ps(to.add(j * PITCH), _mm512_shuffle_f32x4::<0x88>(upper, lower));
            _mm512_storeu_ps(to.add((8 + j) * PITCH), _mm512_shuffle_f32x4::<0xdd>(upper, lower));
            let (upper, lower) = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
            _mm512_storeu_ps(to.add((4 + j) * PITCH), _mm512_shuffle_f32x4::<0x88>(upper, lower));
            _mm512_storeu_ps(to.add((12 + j) * PITCH), _mm512_shuffle_f32x4::<0xdd>(upper, lower));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let from: Vec<f32> = (0..PITCH * 48).map(|at| at as f32).collect();
        for (rows, columns) in [(1, 1), (16, 16), (48, 33), (17, 256)] {
            let mut to = vec![-1.0; PITCH * 256];
            transpose(rows, columns, &from, &mut to);
            for row in 0..rows {
                for column in 0..columns {
                    assert_eq!(to[column * PITCH + row], from[row * PITCH + column], "{row} {column}");
                }
            }
        }
    }
}
