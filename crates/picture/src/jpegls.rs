//! JPEG-LS (ITU-T T.87, ISO/IEC 14495-1): lossless and near-lossless, one component of 2 to 16 bits, no restarts.
//!
//! Written here because no crate decodes it in Rust. Names are those of the standard where it has one.

mod bits;

use crate::jpeg::segments;
use bits::Bits;

/// How many bits of a run length follow an interruption, by the run index (A.2.1).
const J: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Everything before the samples.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    pub(crate) width: u32,
    pub(crate) height: u32,
    coding: Coding,
    point_transform: u32,
    scan: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the markers up to the first scan, and refuses what is not decoded.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Header<'a>, String> {
        let mut frame = None;
        let mut preset = [0; 5];
        for segment in segments(bytes) {
            match (segment.marker, segment.data) {
                (0xf7, &[precision, high, low, left, right, components, ..]) => {
                    if components != 1 || !(2..=16).contains(&precision) {
                        return Err(format!("{components} components of {precision} bits, expected 1 of 2 to 16"));
                    }
                    let [width, height] = [[left, right], [high, low]].map(|pair| u32::from(u16::from_be_bytes(pair)));
                    frame = Some((u32::from(precision), width, height));
                }
                (0xf8, &[1, ref values @ ..]) if values.len() == 10 => {
                    for (value, pair) in preset.iter_mut().zip(values.chunks_exact(2)) {
                        *value = i32::from(u16::from_be_bytes([pair[0], pair[1]]));
                    }
                }
                (0xf8, _) => return Err("a mapping table or an oversize image".to_owned()),
                (0xdd, &[_, _, ..]) if segment.data.iter().any(|&byte| byte != 0) => {
                    return Err("restart intervals".to_owned());
                }
                (0xda, &[1, _, mapping, near, interleave, transform]) => {
                    let (precision, width, height) = frame.ok_or("a scan before its frame")?;
                    if mapping != 0 || interleave != 0 || u32::from(transform) >= precision {
                        return Err("a mapping table, or interleaved components".to_owned());
                    }
                    if width == 0 || height == 0 {
                        return Err(format!("{width} x {height} px"));
                    }
                    let coding = Coding::new(precision, i32::from(near), preset)?;
                    let point_transform = u32::from(transform);
                    return Ok(Header { width, height, coding, point_transform, scan: segment.rest });
                }
                (0xda, _) => return Err("a scan of more than one component".to_owned()),
                (0xc0..=0xcf, _) => return Err("it is JPEG, expected JPEG-LS".to_owned()),
                _ => {}
            }
        }
        Err("it ends before its samples".to_owned())
    }

    /// Decodes the samples; the size must have been checked.
    pub(crate) fn decode(&self) -> Result<Vec<u16>, String> {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut scan = Scan::new(&self.coding, self.scan);
        let mut samples = Vec::with_capacity(width * height);
        // A line has a sample more on each side (A.2.1): what is left of it and right of the one above.
        let mut above = vec![0_i32; width + 2];
        let mut line = vec![0_i32; width + 2];
        for _ in 0..height {
            above[width + 1] = above[width];
            line[0] = above[1];
            scan.line(&above, &mut line).ok_or("it ends before all its samples")?;
            samples.extend(line[1..=width].iter().map(|&sample| (sample << self.point_transform) as u16));
            std::mem::swap(&mut above, &mut line);
        }
        Ok(samples)
    }
}

/// What is the same for all samples (C.2.4.1.1, A.2.1).
#[derive(Debug)]
struct Coding {
    maxval: i32,
    near: i32,
    thresholds: [i32; 3],
    reset: i64,
    range: i32,
    qbpp: u32,
    limit: u32,
}

impl Coding {
    /// `preset` is MAXVAL, T1, T2, T3, RESET; 0 takes the default.
    fn new(precision: u32, near: i32, preset: [i32; 5]) -> Result<Coding, String> {
        let or = |value: i32, default: i32| if value == 0 { default } else { value };
        let largest = (1 << precision) - 1;
        let maxval = or(preset[0], largest);
        if maxval > largest || near > (maxval / 2).min(255) {
            return Err(format!("MAXVAL {maxval} and NEAR {near} at {precision} bits"));
        }
        let clamp = |value: i32, least: i32| if value > maxval || value < least { least } else { value };
        let [basic_1, basic_2, basic_3] = if maxval >= 128 {
            let factor = (maxval.min(4095) + 128) / 256;
            [factor + 2, 4 * factor + 3, 17 * factor + 4]
        } else {
            let factor = 256 / (maxval + 1);
            [(3 / factor).max(2), (7 / factor).max(3), (21 / factor).max(4)]
        };
        let t1 = or(preset[1], clamp(basic_1 + 3 * near, near + 1));
        let t2 = or(preset[2], clamp(basic_2 + 5 * near, t1));
        let t3 = or(preset[3], clamp(basic_3 + 7 * near, t2));
        let reset = or(preset[4], 64);
        if !(near < t1 && t1 <= t2 && t2 <= t3 && t3 <= maxval) || reset < 3 {
            return Err(format!("thresholds {t1}, {t2}, {t3} and RESET {reset}"));
        }
        let range = if near == 0 { maxval + 1 } else { (maxval + 2 * near) / (2 * near + 1) + 1 };
        let bits_of = |count: i32| 32 - (count - 1).leading_zeros();
        let bpp = bits_of(maxval + 1).max(2);
        let limit = 2 * (bpp + bpp.max(8));
        Ok(Coding {
            maxval,
            near,
            thresholds: [t1, t2, t3],
            reset: i64::from(reset),
            range,
            qbpp: bits_of(range),
            limit,
        })
    }

    /// The region of a gradient, -4 to 4 (A.3.3).
    fn quantised(&self, gradient: i32) -> i32 {
        let size = gradient.abs();
        let [t1, t2, t3] = self.thresholds;
        let region = if size <= self.near {
            0
        } else {
            1 + i32::from(size >= t1) + i32::from(size >= t2) + i32::from(size >= t3)
        };
        if gradient < 0 { -region } else { region }
    }

    /// The sample that is predicted as `prediction`, and off by `error` steps (A.4.4, A.4.5).
    fn reconstructed(&self, prediction: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let mut sample = prediction + error * step;
        if sample < -self.near {
            sample += self.range * step;
        } else if sample > self.maxval + self.near {
            sample -= self.range * step;
        }
        sample.clamp(0, self.maxval)
    }
}

/// What was seen of the samples in one context: A, B, C and N of the standard; `b` counts negative errors in the contexts
/// of interrupted runs, as Nn.
#[derive(Debug, Clone, Copy)]
struct Context {
    a: i64,
    b: i64,
    c: i32,
    n: i64,
}

impl Context {
    /// The Golomb parameter, for a sum of errors (A.5.1, A.7.2.1).
    fn k(self, sum: i64) -> u32 {
        let mut k = 0;
        while k < 24 && self.n << k < sum {
            k += 1;
        }
        k
    }

    /// Learns a sample's error (A.6).
    fn learn(&mut self, error: i32, coding: &Coding) {
        self.b += i64::from(error * (2 * coding.near + 1));
        self.a += i64::from(error.abs());
        if self.n == coding.reset {
            self.a >>= 1;
            self.b >>= 1;
            self.n >>= 1;
        }
        self.n += 1;
        if self.b <= -self.n {
            self.b = (self.b + self.n).max(1 - self.n);
            self.c = (self.c - 1).max(-128);
        } else if self.b > 0 {
            self.b = (self.b - self.n).min(0);
            self.c = (self.c + 1).min(127);
        }
    }
}

/// The state of a scan.
struct Scan<'a> {
    coding: &'a Coding,
    bits: Bits<'a>,
    /// 365 of single samples, two of interrupted runs.
    contexts: [Context; 367],
    run_index: usize,
}

impl<'a> Scan<'a> {
    fn new(coding: &'a Coding, bytes: &'a [u8]) -> Scan<'a> {
        let fresh = Context { a: i64::from((coding.range + 32) / 64).max(2), b: 0, c: 0, n: 1 };
        Scan { coding, bits: Bits::new(bytes), contexts: [fresh; 367], run_index: 0 }
    }

    /// Decodes a line; nothing where the bytes end before.
    fn line(&mut self, above: &[i32], line: &mut [i32]) -> Option<()> {
        let near = self.coding.near;
        let end = line.len() - 1;
        let mut x = 1;
        while x < end {
            let (left, up, up_left, up_right) = (line[x - 1], above[x], above[x - 1], above[x + 1]);
            let gradients = [up_right - up, up - up_left, up_left - left];
            if gradients.iter().all(|gradient| gradient.abs() <= near) {
                x += self.run(above, &mut line[x - 1..end], x)?;
            } else {
                line[x] = self.single([left, up, up_left], gradients)?;
                x += 1;
            }
        }
        Some(())
    }

    /// One sample by itself (A.3 to A.6).
    fn single(&mut self, [left, up, up_left]: [i32; 3], gradients: [i32; 3]) -> Option<i32> {
        let coding = self.coding;
        let [q1, q2, q3] = gradients.map(|gradient| coding.quantised(gradient));
        let region = 81 * q1 + 9 * q2 + q3;
        let (sign, index) = (if region < 0 { -1 } else { 1 }, region.unsigned_abs() as usize);
        let context = self.contexts[index];
        let edge = if up_left >= left.max(up) {
            left.min(up)
        } else if up_left <= left.min(up) {
            left.max(up)
        } else {
            left + up - up_left
        };
        let prediction = (edge + sign * context.c).clamp(0, coding.maxval);
        let k = context.k(context.a);
        let mapped = self.error(k, coding.limit)?;
        let context = &mut self.contexts[index];
        let half = mapped >> 1;
        let mut error = if mapped & 1 == 0 { half } else { -half - 1 };
        if coding.near == 0 && k == 0 && 2 * context.b <= -context.n {
            error = -error - 1;
        }
        context.learn(error, coding);
        Some(coding.reconstructed(prediction, sign * error))
    }

    /// An error, mapped to what is not negative; nothing where it is larger than any can be.
    fn error(&mut self, k: u32, limit: u32) -> Option<i32> {
        let mapped = self.bits.golomb(k, limit, self.coding.qbpp)? as i32;
        (mapped <= 2 * self.coding.range).then_some(mapped)
    }

    /// A run of samples like the one before, `line[0]`, and what interrupts it, if the line does not end before; gives
    /// how many samples these are (A.7).
    fn run(&mut self, above: &[i32], line: &mut [i32], x: usize) -> Option<usize> {
        let value = line[0];
        let most = line.len() - 1;
        let mut len = 0;
        while self.bits.take(1)? == 1 {
            let block = 1 << J[self.run_index];
            if len + block <= most {
                self.run_index = (self.run_index + 1).min(31);
            }
            len = (len + block).min(most);
            if len == most {
                line[1..].fill(value);
                return Some(most);
            }
        }
        len += self.bits.take(J[self.run_index])? as usize;
        if len >= most {
            return None;
        }
        line[1..=len].fill(value);
        line[len + 1] = self.interruption(value, above[x + len])?;
        self.run_index = self.run_index.saturating_sub(1);
        Some(len + 1)
    }

    /// The sample that ends a run (A.7.2).
    fn interruption(&mut self, left: i32, up: i32) -> Option<i32> {
        let coding = self.coding;
        let is_flat = (left - up).abs() <= coding.near;
        let kind = i32::from(is_flat);
        let context = self.contexts[365 + usize::from(is_flat)];
        let k = context.k(if is_flat { context.a + (context.n >> 1) } else { context.a });
        let mapped = self.error(k, coding.limit - J[self.run_index] - 1)?;
        let context = &mut self.contexts[365 + usize::from(is_flat)];
        let sum = mapped + kind;
        let (odd, size) = (sum & 1 == 1, (sum + 1) >> 1);
        let mostly_negative = 2 * context.b >= context.n;
        let error = if odd == (k != 0 || mostly_negative) { -size } else { size };
        context.b += i64::from(error < 0);
        context.a += i64::from((mapped + 1 - kind) >> 1);
        if context.n == coding.reset {
            context.a >>= 1;
            context.b >>= 1;
            context.n >>= 1;
        }
        context.n += 1;
        if is_flat {
            return Some(coding.reconstructed(left, error));
        }
        Some(coding.reconstructed(up, if left > up { -error } else { error }))
    }
}
