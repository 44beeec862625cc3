//! Augmentation on the CPU.

use candle_core::Result;
use rayon::prelude::*;

use super::params::{AugmentParams, Colours, check_side};

/// The inputs `[N, side, side, 3]` for `params`, computed in parallel.
///
/// # Shapes
///
/// `pixels [.., size, size]`: grey values of all images; `params` are N, each for one of these.
///
/// # Errors
///
/// An image or a window that does not exist; a `side` out of range.
pub fn inputs(
    pixels: &[u8],
    size: usize,
    params: &[AugmentParams],
    side: usize,
    colours: &Colours,
) -> Result<Vec<f32>> {
    let op = "inputs";
    check_side(op, side)?;
    let images = pixels.len() / (size * size).max(1);
    params.iter().try_for_each(|each| each.check(op, images, size))?;
    let mut inputs = vec![0.0; params.len() * side * side * 3];
    inputs.par_chunks_exact_mut(side * side * 3).zip(params).for_each(|(input, params)| {
        let image = &pixels[params.index * size * size..][..size * size];
        for (pixel, value) in input.chunks_exact_mut(3).zip(augmented(image, size, params, side)) {
            for (channel, out) in pixel.iter_mut().enumerate() {
                *out = (value / 255.0 - colours.mean[channel]) / colours.deviation[channel];
            }
        }
    });
    Ok(inputs)
}

/// The grey values of one input, `[side, side]`, 0 to 255.
fn augmented(image: &[u8], size: usize, params: &AugmentParams, side: usize) -> Vec<f32> {
    let window = [params.x, params.y, params.width, params.height];
    let mut grey = if params.degrees == 0.0 {
        resample(image, size, window, side)
    } else {
        resample(&rotated(image, size, params), size, window, side)
    };
    if params.flip {
        grey.chunks_exact_mut(side).for_each(<[f32]>::reverse);
    }
    if params.brightness != 1.0 {
        grey.iter_mut().for_each(|value| *value = (*value * params.brightness).clamp(0.0, 255.0));
    }
    if params.contrast != 1.0 {
        let mean = (grey.iter().map(|&value| f64::from(value)).sum::<f64>() / grey.len() as f64) as f32;
        grey.iter_mut().for_each(|value| *value = (mean + (*value - mean) * params.contrast).clamp(0.0, 255.0));
    }
    grey
}

/// A window of an image, resized to `[side, side]`: bilinear, antialiased where it shrinks, as Pillow does it.
fn resample<T: Copy + Into<f32>>(image: &[T], size: usize, [x, y, width, height]: [usize; 4], side: usize) -> Vec<f32> {
    let across = Taps::new(width, side);
    let mut narrow = Vec::with_capacity(height * side);
    for row in image.chunks_exact(size).skip(y).take(height) {
        let row = &row[x..x + width];
        narrow.extend(across.iter().map(|(first, weights)| {
            let values = row[first..].iter().zip(weights);
            values.map(|(&value, &weight)| value.into() * weight).sum::<f32>()
        }));
    }
    let down = Taps::new(height, side);
    let mut out = vec![0.0; side * side];
    for (row, (first, weights)) in out.chunks_exact_mut(side).zip(down.iter()) {
        for (from, &weight) in narrow[first * side..].chunks_exact(side).zip(weights) {
            for (out, &value) in row.iter_mut().zip(from) {
                *out += weight * value;
            }
        }
    }
    out
}

/// The weights of the input samples in each output sample along one axis: a triangle as wide as two output samples, at least
/// as wide as two input samples.
struct Taps {
    /// For each output sample: the first input sample, and where its weights end in `weights`.
    spans: Vec<(usize, usize)>,
    weights: Vec<f32>,
}

impl Taps {
    fn new(input: usize, output: usize) -> Taps {
        let scale = input as f64 / output as f64;
        let reach = scale.max(1.0);
        let mut taps = Taps { spans: Vec::with_capacity(output), weights: Vec::new() };
        for index in 0..output {
            let centre = (index as f64 + 0.5) * scale;
            let first = (centre - reach + 0.5).max(0.0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(input);
            let weight = |at: usize| (1.0 - ((at as f64 + 0.5 - centre) / reach).abs()).max(0.0);
            let total: f64 = (first..end).map(weight).sum();
            taps.weights.extend((first..end).map(|at| (weight(at) / total) as f32));
            taps.spans.push((first, taps.weights.len()));
        }
        taps
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let mut start = 0;
        self.spans.iter().map(move |&(first, end)| {
            let weights = &self.weights[start..end];
            start = end;
            (first, weights)
        })
    }
}

/// An image rotated counter-clockwise about its centre, bilinear, with black outside the image.
fn rotated(image: &[u8], size: usize, params: &AugmentParams) -> Vec<f32> {
    let (sin, cos) = params.sin_cos();
    let middle = (size as f32 - 1.0) / 2.0;
    let at = |x: i64, y: i64| {
        let inside = (0..size as i64).contains(&x) && (0..size as i64).contains(&y);
        if inside { f32::from(image[y as usize * size + x as usize]) } else { 0.0 }
    };
    let mut out = Vec::with_capacity(size * size);
    for row in 0..size {
        for column in 0..size {
            let (dx, dy) = (column as f32 - middle, row as f32 - middle);
            let (x, y) = (middle + cos * dx - sin * dy, middle + sin * dx + cos * dy);
            let (left, top) = (x.floor(), y.floor());
            let (fx, fy) = (x - left, y - top);
            let (left, top) = (left as i64, top as i64);
            let upper = at(left, top) * (1.0 - fx) + at(left + 1, top) * fx;
            let lower = at(left, top + 1) * (1.0 - fx) + at(left + 1, top + 1) * fx;
            out.push(upper * (1.0 - fy) + lower * fy);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(size: usize) -> [usize; 4] {
        [0, 0, size, size]
    }

    fn rotation(degrees: f64) -> AugmentParams {
        AugmentParams { degrees, ..AugmentParams::crop(0, [0; 4]) }
    }

    #[test]
    fn same_size_is_the_same_image() {
        let image: Vec<u8> = (0..64).map(|value| value * 3).collect();
        let expected: Vec<f32> = image.iter().map(|&value| f32::from(value)).collect();
        assert_eq!(resample(&image, 8, whole(8), 8), expected);
        assert_eq!(rotated(&image, 8, &rotation(0.0)), expected);
    }

    #[test]
    fn halving_weighs_as_pillow() {
        // PIL.Image.fromarray(np.uint8([[0, 0, 80, 160]] * 4)).resize((2, 2), BILINEAR): [[11, 103], [11, 103]]
        let image: Vec<u8> = [0, 0, 80, 160].repeat(4);
        let out = resample(&image, 4, whole(4), 2);
        assert_eq!(out.iter().map(|value| value.round()).collect::<Vec<_>>(), [11.0, 103.0, 11.0, 103.0]);
    }

    #[test]
    fn quarter_turn_is_counter_clockwise() {
        let image = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let turned: Vec<f32> = rotated(&image, 3, &rotation(90.0)).iter().map(|value| value.round()).collect();
        assert_eq!(turned, [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0]);
    }

    #[test]
    fn inputs_are_normalised() {
        let colours = Colours { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };
        let input = inputs(&[255; 16], 4, &[AugmentParams::crop(0, [1, 1, 2, 2])], 2, &colours).unwrap();
        assert_eq!(input.len(), 12);
        for (got, expected) in input.iter().zip([2.2489083, 2.4285715, 2.64]) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}"); // (1 - mean) / deviation
        }
    }

    #[test]
    fn refuses_what_is_not_there() {
        let colours = Colours { mean: [0.0; 3], deviation: [1.0; 3] };
        for (index, window, side) in
            [(1, [0, 0, 4, 4], 2), (0, [1, 0, 4, 4], 2), (0, [0, 0, 4, 0], 2), (0, [0, 0, 4, 4], 0)]
        {
            let refused = inputs(&[0; 16], 4, &[AugmentParams::crop(index, window)], side, &colours);
            assert!(refused.is_err(), "{index} {window:?} {side}");
        }
    }
}
