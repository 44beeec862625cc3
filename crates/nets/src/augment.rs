//! How a stored image becomes a network input.
//!
//! A stored image is `[size, size]` grey, an input `[side, side, 3]`: the grey value in each channel, scaled to 0..1,
//! less ImageNet's mean, over its standard deviation. Training inputs follow torchvision's transforms (resized crop with
//! antialiased bilinear resampling, horizontal flip, rotation, brightness, contrast), without their rounding to whole
//! grey values in between. The augmentation parameters of an image depend on seed, epoch and its index alone, never on
//! the order of work.

use cxr::{EvalFrame, Tta, View};
use ops::augment::AugmentParams;
use rand_chacha::ChaCha8Rng;

use crate::random::{random, unit};
use crate::recipe::ImageRecipe;

/// The parameters of an image's evaluation inputs, one for each view.
pub(crate) fn evaluation(index: usize, frame: EvalFrame, tta: Tta) -> Vec<AugmentParams> {
    let input = |View { x, y, side, flip }| AugmentParams { flip, ..AugmentParams::crop(index, [x, y, side, side]) };
    tta.views(frame).into_iter().map(input).collect()
}

/// The augmentation parameters of an image of `size` px in an epoch of training.
pub(crate) fn training(size: usize, index: usize, recipe: &ImageRecipe, seed: u64, epoch: u64) -> AugmentParams {
    let mut rng = random(b"augment", seed, epoch, index as u64);
    // Every value is drawn whether used or not, so that one setting does not change another's draws.
    let window = window(size, recipe.scale_min, recipe.ratio_max, &mut rng);
    let [flip, angle, brightness, contrast] = [(); 4].map(|()| unit(&mut rng));
    AugmentParams {
        degrees: (2.0 * angle - 1.0) * recipe.rotate_deg,
        flip: recipe.flip && flip < 0.5,
        brightness: if recipe.brightness > 0.0 { factor(recipe.brightness, brightness) } else { 1.0 },
        contrast: if recipe.contrast > 0.0 { factor(recipe.contrast, contrast) } else { 1.0 },
        ..AugmentParams::crop(index, window)
    }
}

/// A factor in `1 - most ..= 1 + most`.
fn factor(most: f64, draw: f64) -> f32 {
    (1.0 + most * (2.0 * draw - 1.0)) as f32
}

/// torchvision's `RandomResizedCrop.get_params` on a square image: x, y, width and height in px; the whole image if
/// `scale_min` is 1.
fn window(size: usize, scale_min: f64, ratio_max: f64, rng: &mut ChaCha8Rng) -> [usize; 4] {
    const ATTEMPTS: usize = 10;
    let (low, high) = ((1.0 / ratio_max).ln(), ratio_max.ln());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::ratio_max;

    #[test]
    fn windows_lie_inside_and_vary() {
        let mut rng = random(b"test", 1, 2, 3);
        let windows: Vec<[usize; 4]> = (0..1000).map(|_| window(256, 0.08, ratio_max(), &mut rng)).collect();
        assert!(windows.iter().all(|[x, y, width, height]| x + width <= 256 && y + height <= 256));
        let area = |[_, _, width, height]: &[usize; 4]| (width * height) as f64 / 65536.0;
        let mean = windows.iter().map(area).sum::<f64>() / 1000.0;
        assert!((0.46..0.50).contains(&mean), "{mean}"); // torchvision: 0.477 over 20,000
        assert!(windows.iter().map(area).fold(1.0, f64::min) < 0.12);
        // A narrower range of shapes.
        for _ in 0..100 {
            let [_, _, width, height] = window(256, 0.5, 1.1, &mut rng);
            assert!((0.89..1.12).contains(&(width as f64 / height as f64)), "{width} x {height}");
        }
        assert_eq!(window(256, 1.0, ratio_max(), &mut rng), [0, 0, 256, 256]);
    }
}
