//! One radiograph: anatomy, signs, film.

use cxr::{BBox, FindingBox, Labels, Sex, ViewPosition};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::anatomy::Anatomy;
use crate::cohort::stream;
use crate::findings;
use crate::raster::{Ellipse, Grid, Pose, rise};

/// What to draw.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// The dataset's seed.
    pub seed: u64,
    /// Patient: build and pose of the ribs stay the same over follow-ups.
    pub patient_id: u32,
    /// Follow-up: position, exposure, noise and signs differ.
    pub follow_up: u32,
    /// Sex.
    pub sex: Option<Sex>,
    /// View position.
    pub view_position: Option<ViewPosition>,
    /// Findings to show.
    pub labels: Labels,
}

/// A finished radiograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Radiograph {
    /// Grey levels, `[size, size]` row-major, bright is dense.
    pub pixels: Vec<u8>,
    /// A box around every sign, in pixels.
    pub boxes: Vec<FindingBox>,
}

/// Draws the radiograph, `size` x `size` pixels; signs `contrast` times as strong.
pub fn render(subject: &Subject, size: usize, contrast: f32) -> Radiograph {
    let patient = u64::from(subject.patient_id);
    let mut build = stream(subject.seed, 2, patient, 0);
    let mut today = stream(subject.seed, 3, patient, subject.follow_up.into());
    let angle = today.random_range(-0.05..0.05_f32);
    let pose = Pose {
        cos: angle.cos(),
        sin: angle.sin(),
        scale: today.random_range(0.94..1.04),
        shift: (today.random_range(-0.05..0.05), today.random_range(-0.04..0.04)),
    };
    let bedside = subject.view_position == Some(ViewPosition::Ap);
    let mut anatomy = Anatomy::new(bedside, &mut build, &mut today);
    findings::reshape(&mut anatomy, subject.labels, &mut today);

    let mut soft = Grid::new((size / 2).max(64), pose);
    tissue(&mut soft, &anatomy, subject, &mut build);
    let mut film = soft.enlarged(size);
    bones(&mut film, &anatomy, subject, &mut build);
    vessels(&mut film, &anatomy, &mut build);
    let signs = findings::draw(&mut film, &anatomy, subject.labels, contrast, &mut today);
    let boxes = signs
        .into_iter()
        .map(|(finding, area)| FindingBox { finding, bbox: pose.pixels(&area, size) })
        .filter(|sign| sign.bbox.width() >= 2.0 && sign.bbox.height() >= 2.0)
        .collect();
    Radiograph { pixels: expose(&film, &mut today), boxes }
}

/// Soft tissue, lungs, heart, great vessels, abdomen: everything without sharp detail.
fn tissue(grid: &mut Grid, anatomy: &Anatomy, subject: &Subject, build: &mut ChaCha8Rng) {
    let all = BBox::from_corners((-2.0, -2.0), (2.0, 2.0));
    let fat = build.random_range(0.9..1.1_f32);
    let neck = Ellipse::new(0.0, -1.05, 0.26, 0.5);
    let shoulders = [Ellipse::new(-0.78, -0.62, 0.5, 0.32), Ellipse::new(0.78, -0.62, 0.5, 0.32)];
    let knob = Ellipse::new(0.13, -0.24, 0.085, 0.10);
    let hila = [Ellipse::new(-0.17, 0.02, 0.09, 0.16), Ellipse::new(0.18, -0.01, 0.08, 0.15)];
    let breasts = (subject.sex == Some(Sex::Female)).then(|| {
        let low = build.random_range(0.28..0.4_f32);
        [Ellipse::new(-0.45, low, 0.3, 0.24), Ellipse::new(0.45, low, 0.3, 0.24)]
    });
    grid.paint(&all, |x, y, _| {
        let body = anatomy.body.fade(0.93, 1.02, x, y);
        let neck = neck.fade(0.8, 1.1, x, y);
        let shoulder = shoulders.iter().map(|s| s.fade(0.7, 1.05, x, y)).fold(0.0, f32::max);
        let above = rise(-0.95, -0.62, y);
        let outline = (body * above).max(neck).max(shoulder);
        // The chest wall is thicker towards the sides and the abdomen.
        let side = (x.abs() / 0.9).powi(4) * 0.25;
        let mut density = outline * fat * (0.78 + side + 0.12 * rise(0.3, 1.0, y));
        let air = anatomy.lungs(x, y);
        density -= air * fat * (0.78 - anatomy.air - 0.10 * rise(0.2, 0.9, y.abs()));
        // Mediastinum, widening downwards; heart and aortic knob over it.
        let middle = 1.0 - rise(0.10, 0.17 + 0.03 * rise(-0.2, 0.4, y), x.abs());
        let heart = anatomy.heart.fade(0.86, 1.06, x, y);
        let knob = knob.fade(0.75, 1.1, x, y);
        let hilum = hila.iter().map(|h| h.fade(0.1, 1.2, x, y)).fold(0.0, f32::max);
        let centre = (middle * 0.34).max(heart * 0.42).max(knob * 0.34);
        density += air.max(0.25) * outline * (centre + 0.16 * hilum * (1.0 - heart));
        // Trachea.
        let trachea = (1.0 - rise(0.02, 0.05, (x - 0.01).abs())) * (1.0 - rise(-0.3, -0.15, y)) * rise(-1.0, -0.8, y);
        density -= 0.12 * trachea;
        // Gas in the stomach below the left dome.
        let gas = Ellipse::new(0.36, anatomy.domes[1] + 0.17, 0.14, 0.07);
        density -= 0.18 * gas.fade(0.5, 1.1, x, y);
        if let Some(breasts) = &breasts {
            density += breasts.iter().map(|b| 0.10 * b.fade(0.75, 1.03, x, y)).sum::<f32>();
        }
        density.max(0.0)
    });
}

/// Spine, ribs, clavicles, scapulae.
fn bones(grid: &mut Grid, anatomy: &Anatomy, subject: &Subject, build: &mut ChaCha8Rng) {
    let spine = BBox::from_corners((-0.09, -1.1), (0.09, 1.1));
    let vertebra = build.random_range(0.125..0.145_f32);
    grid.paint(&spine, |x, y, old| {
        let across = 1.0 - rise(0.06, 0.085, x.abs());
        let disc = (y / vertebra).rem_euclid(1.0);
        let body = rise(0.0, 0.12, disc) * (1.0 - rise(0.88, 1.0, disc));
        old + across * (0.05 + 0.05 * body)
    });
    let spacing = build.random_range(0.135..0.15_f32);
    let lean = build.random_range(-0.03..0.03_f32);
    for side in 0..2 {
        let lung = anatomy.lungs[side];
        let sign = if side == 0 { -1.0 } else { 1.0 };
        let reach = lung.x.abs() + lung.rx * 1.04;
        for rib in 0..9_u8 {
            let high = -0.78 + f32::from(rib) * spacing + lean * sign;
            // Posterior rib: from the spine, up a little, then down along the wall.
            let back = |t: f32| {
                let x = 0.08 + (reach - 0.08) * t;
                (sign * x, high - 0.05 * (t * 3.0).sin().max(0.0) + 0.20 * t * t)
            };
            strip(grid, &back, 0.020, 0.085);
            // Anterior rib: fainter, falling towards the middle.
            if (1..7).contains(&rib) {
                let front = |t: f32| {
                    let x = reach - (reach - 0.24) * t;
                    (sign * x, high + 0.17 + 0.30 * t * (1.3 - 0.5 * t))
                };
                strip(grid, &front, 0.021, 0.042);
            }
        }
        let drop = build.random_range(-0.02..0.02_f32);
        let collar = |t: f32| (sign * (0.07 + 0.66 * t), -0.62 + drop - 0.10 * t - 0.03 * (t * 6.0).sin());
        strip(grid, &collar, 0.026, 0.13);
        let inward = if subject.view_position == Some(ViewPosition::Ap) { 0.14 } else { 0.0 };
        let blade = |t: f32| (sign * (0.80 - inward - 0.12 * t), -0.55 + 0.62 * t);
        strip(grid, &blade, 0.03, 0.05);
    }
}

/// A bone along a curve: denser at its edges than in its middle.
fn strip(grid: &mut Grid, curve: &dyn Fn(f32) -> (f32, f32), half: f32, strength: f32) {
    const PIECES: usize = 14;
    for piece in 0..PIECES {
        let from = curve(piece as f32 / PIECES as f32);
        let to = curve((piece + 1) as f32 / PIECES as f32);
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy).max(1e-6);
        let area = BBox::from_corners(
            (from.0.min(to.0) - half, from.1.min(to.1) - half),
            (from.0.max(to.0) + half, from.1.max(to.1) + half),
        );
        grid.paint(&area, |x, y, old| {
            let along = ((x - from.0) * dx + (y - from.1) * dy) / (length * length);
            let off = ((x - from.0) * dy - (y - from.1) * dx).abs() / (length * half);
            if !(0.0..1.0).contains(&along) || off >= 1.0 {
                return old;
            }
            let edge = 0.6 + 0.5 * off * off;
            old + strength * edge * (1.0 - rise(0.8, 1.0, off))
        });
    }
}

/// Lung vessels: tubes that branch from the hila and thin out, and some seen end-on, which look like nodules.
fn vessels(grid: &mut Grid, anatomy: &Anatomy, build: &mut ChaCha8Rng) {
    for side in 0..2 {
        let sign = if side == 0 { -1.0 } else { 1.0 };
        for _ in 0..11 {
            let mut at = (sign * build.random_range(0.13..0.19), build.random_range(-0.10..0.13));
            let mut angle: f32 = build.random_range(-1.35..1.35);
            let mut width: f32 = build.random_range(0.011..0.019);
            for _ in 0..7 {
                let step = build.random_range(0.06..0.12_f32);
                let to = (at.0 + sign * step * angle.cos(), at.1 + step * angle.sin());
                if anatomy.lung(side, to.0, to.1) < 0.5 {
                    break;
                }
                grid.tube(at, to, width, 6.0 * width);
                let fork = angle + build.random_range(0.4..0.9) * if build.random_bool(0.5) { 1.0 } else { -1.0 };
                let twig = (to.0 + sign * step * 0.8 * fork.cos(), to.1 + step * 0.8 * fork.sin());
                if anatomy.lung(side, twig.0, twig.1) > 0.5 {
                    grid.tube(to, twig, width * 0.6, 3.6 * width);
                }
                at = to;
                angle += build.random_range(-0.35..0.35);
                width *= 0.83;
            }
        }
        for _ in 0..3 {
            let (x, y) = anatomy.point(side, 0.25..0.8, build);
            grid.tube((x, y), (x, y), build.random_range(0.010..0.016), 0.09);
        }
    }
}

/// From densities to film: exposure, noise, 8 bits.
fn expose(film: &Grid, today: &mut ChaCha8Rng) -> Vec<u8> {
    let gain = today.random_range(1.25..1.55_f32);
    let gamma = today.random_range(0.95..1.12_f32);
    let noise = today.random_range(2.0..3.5_f32);
    let top = 1.0 - (-gain * 1.35_f32).exp();
    let level = |density: f32| 6.0 + 240.0 * ((1.0 - (-gain * density).exp()) / top).powf(gamma);
    // The curve as a table with straight lines between its entries: no grey level off by more than a tenth.
    const ENTRIES: usize = 4096;
    let most = film.values.iter().fold(0.1, |most: f32, density| most.max(*density));
    let step = most / (ENTRIES - 2) as f32;
    let table: Vec<f32> = (0..ENTRIES).map(|entry| level(entry as f32 * step)).collect();
    film.values
        .iter()
        .map(|&density| {
            let at = density.max(0.0) / step;
            let entry = at as usize;
            let level = table[entry] + (at - entry as f32) * (table[entry + 1] - table[entry]);
            // A sum of uniforms is noise enough: standard deviation 1 after scaling.
            let bits: u32 = today.random();
            let sum: u32 = bits.to_le_bytes().into_iter().map(u32::from).sum();
            let deviate = (sum as f32 - 510.0) / 147.8;
            (level + noise * deviate + 0.5).clamp(0.0, 255.0) as u8
        })
        .collect()
}
