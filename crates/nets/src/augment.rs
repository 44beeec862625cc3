//! How a stored image becomes a network input.
//!
//! A stored image is `[size, size]` grey, an input `[side, side, 3]`: the grey value in each channel, scaled to 0..1,
//! less ImageNet's mean, over its standard deviation. Training inputs follow torchvision's transforms (resized crop with
//! antialiased bilinear resampling, horizontal flip, rotation, brightness, contrast), without their rounding to whole
//! grey values in between. The augmentation parameters of an image depend on seed, epoch and its index alone, never on
//! the order of work.

use std::ops::Range;

use cxr::EvalFrame;
use ops::{Colours, Draw};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::data::Images;
use crate::random::{random, unit};
use crate::recipe::ImageRecipe;

/// Mean and standard deviation of ImageNet's red, green and blue, of 1 (torchvision's reference recipes).
pub(crate) const COLOURS: Colours = Colours { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };

/// Aspect ratios of a random resized crop (torchvision's `RandomResizedCrop`; Szegedy et al., CVPR 2015).
const RATIO: Range<f64> = 3.0 / 4.0..4.0 / 3.0;

/// The parameters of an image's evaluation input.
pub(crate) fn evaluation(index: usize, frame: EvalFrame) -> Draw {
    let (offset, side) = (frame.offset_px(), frame.side_px());
    Draw::plain(index, [offset, offset, side, side])
}

/// The augmentation parameters of an image of `size` px in an epoch of training.
pub(crate) fn training(size: usize, index: usize, recipe: &ImageRecipe, seed: u64, epoch: u64) -> Draw {
    let mut rng = random(b"augment", seed, epoch, index as u64);
    // Every value is drawn whether used or not, so that one setting does not change another's draws.
    let window = window(size, recipe.scale_min, &mut rng);
    let [flip, angle, brightness, contrast] = [(); 4].map(|()| unit(&mut rng));
    Draw {
        degrees: (2.0 * angle - 1.0) * recipe.rotate_deg,
        mirrored: recipe.flip && flip < 0.5,
        brightness: if recipe.brightness > 0.0 { factor(recipe.brightness, brightness) } else { 1.0 },
        contrast: if recipe.contrast > 0.0 { factor(recipe.contrast, contrast) } else { 1.0 },
        ..Draw::plain(index, window)
    }
}

/// The inputs `[N, side, side, 3]` that `draws` make of images.
pub(crate) fn inputs(images: &Images, draws: &[Draw], side: usize) -> Vec<f32> {
    let mut inputs = vec![0.0; draws.len() * side * side * 3];
    inputs.par_chunks_exact_mut(side * side * 3).zip(draws).for_each(|(input, draw)| {
        let grey = seen(images.image(draw.index), images.size, draw, side);
        for (pixel, value) in input.chunks_exact_mut(3).zip(grey) {
            for (channel, out) in pixel.iter_mut().enumerate() {
                *out = (value / 255.0 - COLOURS.mean[channel]) / COLOURS.deviation[channel];
            }
        }
    });
    inputs
}

/// One view, `[side, side]`, 0 to 255.
fn seen(picture: &[u8], size: usize, draw: &Draw, side: usize) -> Vec<f32> {
    let window = [draw.x, draw.y, draw.width, draw.height];
    let mut view = if draw.degrees == 0.0 {
        resample(picture, size, window, side)
    } else {
        resample(&rotated(picture, size, draw), size, window, side)
    };
    if draw.mirrored {
        view.chunks_exact_mut(side).for_each(<[f32]>::reverse);
    }
    if draw.brightness != 1.0 {
        view.iter_mut().for_each(|value| *value = (*value * draw.brightness).clamp(0.0, 255.0));
    }
    if draw.contrast != 1.0 {
        let mean = (view.iter().map(|&value| f64::from(value)).sum::<f64>() / view.len() as f64) as f32;
        view.iter_mut().for_each(|value| *value = (mean + (*value - mean) * draw.contrast).clamp(0.0, 255.0));
    }
    view
}

/// A factor in `1 - most ..= 1 + most`.
fn factor(most: f64, draw: f64) -> f32 {
    (1.0 + most * (2.0 * draw - 1.0)) as f32
}

/// torchvision's `RandomResizedCrop.get_params` on a square picture: x, y, width and height in px; the whole picture if
/// `scale_min` is 1.
fn window(size: usize, scale_min: f64, rng: &mut ChaCha8Rng) -> [usize; 4] {
    const ATTEMPTS: usize = 10;
    let (low, high) = (RATIO.start.ln(), RATIO.end.ln());
    let mut found = None;
    // As many draws in every case.
    for _ in 0..ATTEMPTS {
        let [area, ratio, left, top] = [(); 4].map(|()| unit(rng));
        let area = (size * size) as f64 * (scale_min + (1.0 - scale_min) * area);
        let ratio = (low + (high - low) * ratio).exp();
        let (width, height) = ((area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize);
        if found.is_none() && (1..=size).contains(&width) && (1..=size).contains(&height) {
            let place = |free: usize, draw: f64| (draw * (free + 1) as f64) as usize;
            found = Some([place(size - width, left), place(size - height, top), width, height]);
        }
    }
    let whole = [0, 0, size, size];
    if scale_min >= 1.0 { whole } else { found.unwrap_or(whole) }
}

/// A window of a picture, resized to `[side, side]`: bilinear, antialiased where it shrinks, as Pillow does it.
fn resample<T: Copy + Into<f32>>(
    picture: &[T],
    size: usize,
    [x, y, width, height]: [usize; 4],
    side: usize,
) -> Vec<f32> {
    let across = Taps::new(width, side);
    let mut narrow = Vec::with_capacity(height * side);
    for row in picture.chunks_exact(size).skip(y).take(height) {
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

/// Which input samples make each output sample along one axis: a triangle of the width of an output sample, at least
/// of an input sample.
struct Taps {
    /// Of each output sample: the first input sample, and where its weights end.
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

/// A picture turned counter-clockwise about its centre, bilinear; black comes in from outside.
fn rotated(picture: &[u8], size: usize, draw: &Draw) -> Vec<f32> {
    let (sin, cos) = draw.turn();
    let middle = (size as f32 - 1.0) / 2.0;
    let at = |x: i64, y: i64| {
        let inside = (0..size as i64).contains(&x) && (0..size as i64).contains(&y);
        if inside { f32::from(picture[y as usize * size + x as usize]) } else { 0.0 }
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

    fn turned(degrees: f64) -> Draw {
        Draw { degrees, ..Draw::plain(0, [0; 4]) }
    }

    #[test]
    fn same_size_is_the_same_picture() {
        let picture: Vec<u8> = (0..64).map(|value| value * 3).collect();
        let expected: Vec<f32> = picture.iter().map(|&value| f32::from(value)).collect();
        assert_eq!(resample(&picture, 8, whole(8), 8), expected);
        assert_eq!(rotated(&picture, 8, &turned(0.0)), expected);
    }

    #[test]
    fn halving_weighs_as_pillow() {
        // PIL.Image.fromarray(np.uint8([[0, 0, 80, 160]] * 4)).resize((2, 2), BILINEAR): [[11, 103], [11, 103]]
        let picture: Vec<u8> = [0, 0, 80, 160].repeat(4);
        let out = resample(&picture, 4, whole(4), 2);
        assert_eq!(out.iter().map(|value| value.round()).collect::<Vec<_>>(), [11.0, 103.0, 11.0, 103.0]);
    }

    #[test]
    fn quarter_turn_is_counter_clockwise() {
        let picture = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let turned: Vec<f32> = rotated(&picture, 3, &turned(90.0)).iter().map(|value| value.round()).collect();
        assert_eq!(turned, [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0]);
    }

    #[test]
    fn windows_lie_inside_and_vary() {
        let mut rng = random(b"test", 1, 2, 3);
        let windows: Vec<[usize; 4]> = (0..1000).map(|_| window(256, 0.08, &mut rng)).collect();
        assert!(windows.iter().all(|[x, y, width, height]| x + width <= 256 && y + height <= 256));
        let area = |[_, _, width, height]: &[usize; 4]| (width * height) as f64 / 65536.0;
        let mean = windows.iter().map(area).sum::<f64>() / 1000.0;
        assert!((0.46..0.50).contains(&mean), "{mean}"); // torchvision: 0.477 over 20,000
        assert!(windows.iter().map(area).fold(1.0, f64::min) < 0.12);
        assert_eq!(window(256, 1.0, &mut rng), whole(256));
    }

    #[test]
    fn inputs_are_normalised_like_imagenet() {
        let images = Images { size: 4, pixels: vec![255; 16], labels: vec![cxr::Labels::default()] };
        let frame = EvalFrame { crop: cxr::EvalCrop::Centre, image_px: 4, input_px: 2 };
        let input = inputs(&images, &[evaluation(0, frame)], 2);
        assert_eq!(input.len(), 12);
        for (got, expected) in input.iter().zip([2.2489083, 2.4285715, 2.64]) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}"); // (1 - mean) / std
        }
    }
}
