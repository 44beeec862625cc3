//! By what the three channels of an input are normalised.

use ops::augment::Colours;

/// Mean and standard deviation of ImageNet's red, green and blue, of 1 (torchvision's reference recipes).
pub(crate) const COLOURS: Colours = Colours { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };

/// Mean and standard deviation by which the three channels of an input are normalised.
pub fn normalisation() -> ([f32; 3], [f32; 3]) {
    (COLOURS.mean, COLOURS.deviation)
}
