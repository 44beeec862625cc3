//! The organs of one patient.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::raster::{Ellipse, rise};

/// The patient's build, and what the findings do to it. Body coordinates (see `raster`).
#[derive(Debug, Clone)]
pub(crate) struct Anatomy {
    /// Thorax.
    pub(crate) body: Ellipse,
    /// Lung fields: the patient's right (left in the image), then left.
    pub(crate) lungs: [Ellipse; 2],
    /// Top of the two diaphragm domes.
    pub(crate) domes: [f32; 2],
    /// How much the domes fall off to the sides.
    pub(crate) arch: f32,
    /// Heart.
    pub(crate) heart: Ellipse,
    /// Density of the lungs relative to soft tissue: lower is more air.
    pub(crate) air: f32,
}

impl Anatomy {
    /// `build` decides what stays over follow-ups, `today` what does not; `bedside` films are of a lying patient.
    pub(crate) fn new(bedside: bool, build: &mut ChaCha8Rng, today: &mut ChaCha8Rng) -> Self {
        let wide = build.random_range(0.94..1.06_f32);
        let deep = today.random_range(-0.05..0.04_f32) + if bedside { -0.07 } else { 0.0 };
        let big = build.random_range(0.92..1.06_f32) * if bedside { 1.12 } else { 1.0 };
        let lung = |side: f32, rx: f32| Ellipse::new(side * 0.40 * wide, -0.02, rx * wide, 0.74).rotated(side * 0.10);
        Anatomy {
            body: Ellipse::new(0.0, 0.25, 0.93 * wide, 1.45),
            lungs: [lung(-1.0, 0.335), lung(1.0, 0.325)],
            domes: [0.40 + deep, 0.45 + deep],
            arch: 0.17,
            heart: Ellipse::new(0.10, 0.26 + deep, 0.265 * big, 0.20 * big).rotated(0.55),
            air: today.random_range(0.26..0.34),
        }
    }

    /// How much of a lung is at this point, 0 to 1.
    pub(crate) fn lung(&self, side: usize, x: f32, y: f32) -> f32 {
        let lung = &self.lungs[side];
        let inside = lung.fade(0.95, 1.03, x, y);
        if inside == 0.0 {
            return 0.0;
        }
        let across = (x - lung.x) / lung.rx;
        let dome = self.domes[side] + self.arch * across * across;
        inside * (1.0 - rise(dome - 0.012, dome + 0.012, y))
    }

    /// Either lung.
    pub(crate) fn lungs(&self, x: f32, y: f32) -> f32 {
        self.lung(usize::from(x > 0.0), x, y)
    }

    /// A random point of a lung, between the given heights (0 apex, 1 base).
    pub(crate) fn point(&self, side: usize, heights: std::ops::Range<f32>, rng: &mut ChaCha8Rng) -> (f32, f32) {
        let lung = &self.lungs[side];
        let (top, bottom) = (lung.y - lung.ry * 0.85, self.domes[side]);
        for _ in 0..64 {
            let x = lung.x + rng.random_range(-0.85..0.85) * lung.rx;
            let y = top + (bottom - top) * rng.random_range(heights.clone());
            let free = self.heart.radius(x, y) > 1.1 && x.abs() > 0.17;
            if free && self.lung(side, x, y) > 0.9 && self.lung(side, x, y + 0.06) > 0.5 {
                return (x, y);
            }
        }
        (lung.x, (top + bottom) / 2.0)
    }
}
