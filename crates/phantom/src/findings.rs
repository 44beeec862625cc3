//! The signs of the 14 findings: where they lie, how they look, which box encloses them.

use cxr::{BBox, Finding, Labels};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::anatomy::Anatomy;
use crate::raster::{Ellipse, Grid, rise};

/// What a finding does to the organs themselves, before anything is drawn.
pub(crate) fn reshape(anatomy: &mut Anatomy, labels: Labels, rng: &mut ChaCha8Rng) {
    if labels.contains(Finding::Cardiomegaly) {
        let larger = rng.random_range(1.33..1.55_f32);
        anatomy.heart.rx *= larger;
        anatomy.heart.ry *= larger;
        anatomy.heart.x += 0.03;
    }
    if labels.contains(Finding::Emphysema) {
        anatomy.domes = anatomy.domes.map(|dome| dome + rng.random_range(0.12..0.17));
        anatomy.arch = 0.04;
        anatomy.air -= 0.13;
        anatomy.heart.rx *= 0.78;
        anatomy.heart.ry *= 0.9;
    }
}

/// Draws every sign and returns a box around each, in body coordinates.
pub(crate) fn draw(
    film: &mut Grid,
    anatomy: &Anatomy,
    labels: Labels,
    contrast: f32,
    rng: &mut ChaCha8Rng,
) -> Vec<(Finding, BBox)> {
    labels.findings().map(|finding| (finding, sign(finding, film, anatomy, contrast, rng))).collect()
}

/// Where a sign is drawn: a lung of a patient, and how strong.
struct Place<'a> {
    anatomy: &'a Anatomy,
    /// 0 for the patient's right lung, 1 for the left.
    side: usize,
    /// Away from the middle: -1 on the right side, 1 on the left.
    outward: f32,
    lung: Ellipse,
    /// Top of the diaphragm below the lung.
    base: f32,
    contrast: f32,
}

fn sign(finding: Finding, film: &mut Grid, anatomy: &Anatomy, contrast: f32, rng: &mut ChaCha8Rng) -> BBox {
    let side = usize::from(rng.random_bool(0.5));
    let outward = if side == 0 { -1.0 } else { 1.0 };
    let place = &Place { anatomy, side, outward, lung: anatomy.lungs[side], base: anatomy.domes[side], contrast };
    match finding {
        Finding::Atelectasis => atelectasis(film, place, rng),
        Finding::Cardiomegaly => anatomy.heart.area(1.0),
        Finding::Effusion => effusion(film, place, rng),
        Finding::Infiltration => infiltration(film, place, rng),
        Finding::Mass => ball(film, place, rng.random_range(0.085..0.13), 0.34 * contrast, rng),
        Finding::Nodule => ball(film, place, rng.random_range(0.030..0.052), 0.36 * contrast, rng),
        Finding::Pneumonia => pneumonia(film, place, rng),
        Finding::Pneumothorax => pneumothorax(film, place, rng),
        Finding::Consolidation => consolidation(film, place, rng),
        Finding::Edema => edema(film, place),
        Finding::Emphysema => emphysema(place),
        Finding::Fibrosis => fibrosis(film, place, rng),
        Finding::PleuralThickening => pleural_thickening(film, place, rng),
        Finding::Hernia => hernia(film, place, rng),
    }
}

/// Two or three plates across a lung.
fn atelectasis(film: &mut Grid, place: &Place<'_>, rng: &mut ChaCha8Rng) -> BBox {
    let &Place { anatomy, side, contrast, .. } = place;
    let (x, y) = anatomy.point(side, 0.55..0.9, rng);
    let around = |(x, y): (f32, f32)| BBox::from_corners((x - 0.02, y - 0.02), (x + 0.02, y + 0.02));
    let plates = (0..rng.random_range(2..4)).map(|_| {
        let (half, tilt) = (rng.random_range(0.10..0.17_f32), rng.random_range(-0.35..0.35_f32));
        let middle = (x + rng.random_range(-0.04..0.04), y + rng.random_range(-0.06..0.06));
        let end = (half * tilt.cos(), half * tilt.sin());
        let (from, to) = ((middle.0 - end.0, middle.1 - end.1), (middle.0 + end.0, middle.1 + end.1));
        film.tube(from, to, rng.random_range(0.012..0.020), 0.20 * contrast);
        around(from).union(&around(to))
    });
    plates.reduce(|area, plate| area.union(&plate)).unwrap_or(around((x, y)))
}

/// Fluid above the diaphragm; its meniscus climbs along the wall.
fn effusion(film: &mut Grid, place: &Place<'_>, rng: &mut ChaCha8Rng) -> BBox {
    let &Place { anatomy, side, outward, lung, base, contrast } = place;
    let level = base - rng.random_range(0.05..0.28);
    let area = BBox::from_corners((lung.x - lung.rx, level - 0.12), (lung.x + lung.rx, base + 0.2));
    film.paint(&area, |x, y, old| {
        let near = ((x - lung.x) * outward / lung.rx).clamp(-1.0, 1.0);
        let surface = level - 0.16 * near.max(0.0).powi(3) + 0.05;
        let inside = 1.0 - rise(0.98, 1.05, lung.radius(x, y));
        let fluid = inside * rise(surface - 0.03, surface + 0.04, y) * (1.0 - rise(base + 0.1, base + 0.2, y));
        old + contrast * 0.42 * fluid * anatomy.lung(side, x, y).max(0.25)
    });
    area
}

/// A cluster of soft spots.
fn infiltration(film: &mut Grid, place: &Place<'_>, rng: &mut ChaCha8Rng) -> BBox {
    let &Place { anatomy, side, contrast, .. } = place;
    let (x, y) = anatomy.point(side, 0.3..0.85, rng);
    let (w, h) = (rng.random_range(0.12..0.2), rng.random_range(0.12..0.22));
    for _ in 0..16 {
        let spot = Ellipse::new(
            x + rng.random_range(-0.75..0.75) * w,
            y + rng.random_range(-0.75..0.75) * h,
            rng.random_range(0.03..0.06),
            rng.random_range(0.03..0.06),
        );
        blob(film, anatomy, &spot, 0.0, 1.0, 0.10 * contrast);
    }
    BBox::from_corners((x - w, y - h), (x + w, y + h))
}

/// A dense patch with branches of air.
fn pneumonia(film: &mut Grid, place: &Place<'_>, rng: &mut ChaCha8Rng) -> BBox {
    let &Place { anatomy, side, outward, contrast, .. } = place;
    let (x, y) = anatomy.point(side, 0.35..0.85, rng);
    let angle = rng.random_range(-0.6..0.6);
    let patch = Ellipse::new(x, y, rng.random_range(0.13..0.2), rng.random_range(0.11..0.17)).rotated(angle);
    blob(film, anatomy, &patch, 0.35, 1.05, 0.30 * contrast);
    for _ in 0..4 {
        // Air bronchogram: branches that stay dark.
        let angle: f32 = rng.random_range(-0.8..0.8);
        let to = (x + outward * 0.11 * angle.cos(), y + 0.11 * angle.sin());
        film.tube((x - outward * 0.05, y), to, 0.010, -0.12 * contrast);
    }
    patch.area(1.0)
}

/// Free air around a collapsed lung, whose edge is a line.
fn pneumothorax(film: &mut Grid, place: &Place<'_>, rng: &mut ChaCha8Rng) -> BBox {
    let &Place { anatomy, side, outward, lung, contrast, .. } = place;
    let wall = lung.x + outward * lung.rx;
    let depth = rng.random_range(0.70..0.82_f32);
    let collapsed =
        Ellipse { x: lung.x - outward * 0.05, y: lung.y + 0.13, rx: lung.rx * depth, ry: lung.ry * depth, ..lung };
    let low = rng.random_range(0.0..0.25_f32);
    let area = BBox::from_corners((lung.x - lung.rx, lung.y - lung.ry), (lung.x + lung.rx, low));
    film.paint(&area, |x, y, old| {
        let inside = anatomy.lung(side, x, y) * (1.0 - rise(low - 0.2, low, y));
        let radius = collapsed.radius(x, y);
        let beyond = rise(1.0, 1.02, radius);
        let line = (1.0 - ((radius - 1.0) / 0.022).abs()).max(0.0);
        // Free air is blacker than lung and shows no vessels.
        let air = old - contrast * beyond * (0.10 + 0.25 * (old - 0.30).max(0.0));
        old + inside * ((air - old) + contrast * 0.16 * line)
    });
    let top = lung.y - lung.ry;
    let (a, b) = (lung.x, wall);
    BBox::from_corners((a.min(b) - 0.1, top), (a.max(b) + 0.1, low))
}

/// A whole lobe, cut off by its fissure.
fn consolidation(film: &mut Grid, place: &Place<'_>, rng: &mut ChaCha8Rng) -> BBox {
    let &Place { anatomy, side, lung, base, contrast, .. } = place;
    let upper = rng.random_bool(0.4);
    let (top, bottom) = if upper {
        (lung.y - lung.ry * 0.9, lung.y - rng.random_range(0.18..0.3))
    } else {
        (base - rng.random_range(0.36..0.5), base + 0.05)
    };
    let area = BBox::from_corners((lung.x - lung.rx, top), (lung.x + lung.rx, bottom));
    let slope = rng.random_range(-0.25..0.25_f32);
    film.paint(&area, |x, y, old| {
        let fissure = if upper { bottom } else { top } + slope * (x - lung.x);
        let lobe =
            if upper { 1.0 - rise(fissure - 0.08, fissure - 0.06, y) } else { rise(fissure + 0.06, fissure + 0.08, y) };
        old + contrast * 0.38 * lobe * anatomy.lung(side, x, y)
    });
    area
}

/// Wings of haze at the hila, and Kerley B lines.
fn edema(film: &mut Grid, place: &Place<'_>) -> BBox {
    let &Place { anatomy, contrast, .. } = place;
    for sign in [-1.0, 1.0] {
        let wing = Ellipse::new(sign * 0.30, 0.02, 0.20, 0.30);
        blob(film, anatomy, &wing, 0.0, 1.15, 0.26 * contrast);
        let side = usize::from(sign > 0.0);
        let edge = anatomy.lungs[side].x + sign * anatomy.lungs[side].rx;
        for line in 0..7_u8 {
            // Kerley B lines.
            let y = anatomy.domes[side] - 0.06 - 0.035 * f32::from(line);
            film.tube((edge - sign * 0.09, y), (edge - sign * 0.03, y), 0.005, 0.10 * contrast);
        }
    }
    BBox::from_corners((-0.5, -0.3), (0.5, 0.34))
}

/// Both lungs, inflated ([`reshape`]).
fn emphysema(place: &Place<'_>) -> BBox {
    let &Place { anatomy, .. } = place;
    let [right, left] = anatomy.lungs;
    let low = anatomy.domes[0].max(anatomy.domes[1]);
    BBox::from_corners((right.x - right.rx, right.y - right.ry), (left.x + left.rx, low))
}

/// A net of fine lines at the base.
fn fibrosis(film: &mut Grid, place: &Place<'_>, rng: &mut ChaCha8Rng) -> BBox {
    let &Place { anatomy, side, outward, lung, base, contrast } = place;
    let (w, h) = (lung.rx * 0.85, 0.26);
    let (x, y) = (lung.x + outward * 0.03, base - 0.18);
    for _ in 0..70 {
        let from = (x + rng.random_range(-1.0..1.0) * w, y + rng.random_range(-1.0..1.0) * h);
        let angle: f32 = rng.random_range(0.0..std::f32::consts::PI);
        let length = rng.random_range(0.03..0.07_f32);
        let to = (from.0 + length * angle.cos(), from.1 + length * angle.sin());
        if anatomy.lung(side, from.0, from.1) > 0.8 && anatomy.lung(side, to.0, to.1) > 0.8 {
            film.tube(from, to, 0.006, 0.16 * contrast);
        }
    }
    BBox::from_corners((x - w, y - h), (x + w, (y + h).min(base + 0.05)))
}

/// A band along the wall.
fn pleural_thickening(film: &mut Grid, place: &Place<'_>, rng: &mut ChaCha8Rng) -> BBox {
    let &Place { anatomy, side, outward, lung, contrast, .. } = place;
    let wall = lung.x + outward * lung.rx;
    let (top, bottom) = (rng.random_range(-0.45..-0.2_f32), rng.random_range(0.1..0.3_f32));
    let depth = rng.random_range(0.12..0.2_f32);
    let inner = lung.x + outward * lung.rx * 0.65;
    let area = BBox::from_corners((inner.min(wall), top), (inner.max(wall), bottom));
    film.paint(&area, |x, y, old| {
        let wave = depth * (0.8 + 0.25 * (y * 22.0).sin());
        let band = rise(1.0 - wave - 0.03, 1.0 - wave, lung.radius(x, y));
        let ends = rise(top, top + 0.06, y) * (1.0 - rise(bottom - 0.06, bottom, y));
        old + contrast * 0.30 * band * ends * anatomy.lung(side, x, y)
    });
    area
}

/// The stomach behind the heart: a round wall, air above a fluid level.
fn hernia(film: &mut Grid, place: &Place<'_>, rng: &mut ChaCha8Rng) -> BBox {
    let &Place { anatomy, contrast, .. } = place;
    let sac = Ellipse::new(rng.random_range(0.0..0.12), anatomy.heart.y + 0.08, 0.15, 0.13);
    let level = sac.y + rng.random_range(-0.02..0.03_f32);
    film.paint(&sac.area(1.1), |x, y, old| {
        let radius = sac.radius(x, y);
        let inside = 1.0 - rise(0.88, 0.95, radius);
        let wall = (1.0 - ((radius - 0.96) / 0.08).abs()).max(0.0);
        let gas = inside * (1.0 - rise(level - 0.006, level + 0.006, y));
        let fluid = inside - gas;
        old + contrast * (0.16 * wall - 0.26 * gas + 0.14 * fluid)
    });
    sac.area(1.0)
}

/// A solid sphere in a lung, a little lobulated: what a mass or a nodule looks like.
fn ball(film: &mut Grid, place: &Place<'_>, radius: f32, strength: f32, rng: &mut ChaCha8Rng) -> BBox {
    let (x, y) = place.anatomy.point(place.side, 0.12..0.88, rng);
    let angle = rng.random_range(0.0..1.5);
    let shape = Ellipse::new(x, y, radius, radius * rng.random_range(0.85..1.15)).rotated(angle);
    let phase = rng.random_range(0.0..6.0_f32);
    film.paint(&shape.area(1.15), |px, py, old| {
        let bumps = 1.0 + 0.035 * ((py - y).atan2(px - x) * 5.0 + phase).sin();
        let r = shape.radius(px, py) / bumps;
        if r < 1.0 { old + strength * (1.0 - r * r).powf(0.35) } else { old }
    });
    shape.area(1.07)
}

/// A soft opacity, full inside `core` and gone at `edge` (in radii), only where there is lung.
fn blob(film: &mut Grid, anatomy: &Anatomy, shape: &Ellipse, core: f32, edge: f32, strength: f32) {
    film.paint(&shape.area(edge), |x, y, old| {
        let here = 1.0 - rise(core, edge, shape.radius(x, y));
        if here > 0.0 { old + strength * here * anatomy.lungs(x, y) } else { old }
    });
}
