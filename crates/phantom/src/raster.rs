//! Drawing densities onto a square grid.
//!
//! Body coordinates: x from -1 (the patient's right, left in the image) to 1, y from -1 (top) to 1, before the pose.

use cxr::BBox;

/// Where the body lies in the image: rotated by a small angle, scaled, shifted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pose {
    pub(crate) cos: f32,
    pub(crate) sin: f32,
    pub(crate) scale: f32,
    pub(crate) shift: (f32, f32),
}

impl Pose {
    /// Body coordinates to image coordinates, both in [-1, 1].
    pub(crate) fn place(&self, (x, y): (f32, f32)) -> (f32, f32) {
        let (u, v) = (self.cos * x - self.sin * y, self.sin * x + self.cos * y);
        (u * self.scale + self.shift.0, v * self.scale + self.shift.1)
    }

    /// Image coordinates to body coordinates.
    pub(crate) fn body(&self, (u, v): (f32, f32)) -> (f32, f32) {
        let (u, v) = ((u - self.shift.0) / self.scale, (v - self.shift.1) / self.scale);
        (self.cos * u + self.sin * v, self.cos * v - self.sin * u)
    }

    /// The box in pixels of a `size` x `size` image around a box in body coordinates, cut to the image.
    pub(crate) fn pixels(&self, area: &BBox, size: usize) -> BBox {
        let half = size as f32 / 2.0;
        let corners =
            [(area.x_min, area.y_min), (area.x_max, area.y_min), (area.x_min, area.y_max), (area.x_max, area.y_max)]
                .map(|corner| self.place(corner));
        let fold = |f: fn(f32, f32) -> f32, of: fn(&(f32, f32)) -> f32| corners.iter().map(of).reduce(f).unwrap_or(0.0);
        let pixel = |u: f32| (u + 1.0) * half;
        BBox::from_corners(
            (pixel(fold(f32::min, |c| c.0)), pixel(fold(f32::min, |c| c.1))),
            (pixel(fold(f32::max, |c| c.0)), pixel(fold(f32::max, |c| c.1))),
        )
        .clipped(size as f32, size as f32)
    }
}

/// A square grid of densities, `[size, size]` row-major.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    pub(crate) size: usize,
    pub(crate) values: Vec<f32>,
    pose: Pose,
}

impl Grid {
    pub(crate) fn new(size: usize, pose: Pose) -> Self {
        Grid { size, values: vec![0.0; size * size], pose }
    }

    /// Changes every cell whose centre lies in `area` (body coordinates) by `f(x, y, old)`.
    pub(crate) fn paint(&mut self, area: &BBox, f: impl Fn(f32, f32, f32) -> f32) {
        let pixels = self.pose.pixels(area, self.size);
        let half = self.size as f32 / 2.0;
        let (x0, x1) = (pixels.x_min as usize, (pixels.x_max.ceil() as usize).min(self.size));
        let (y0, y1) = (pixels.y_min as usize, (pixels.y_max.ceil() as usize).min(self.size));
        let step = 1.0 / (half * self.pose.scale);
        let (across, down) = (self.pose.cos * step, -self.pose.sin * step);
        for row in y0..y1 {
            let (x, y) = self.pose.body((0.5 / half - 1.0, (row as f32 + 0.5) / half - 1.0));
            for (column, value) in (x0..x1).zip(&mut self.values[row * self.size + x0..]) {
                *value = f(x + across * column as f32, y + down * column as f32, *value);
            }
        }
    }

    /// Adds a tube of half-width `width` from `from` to `to`, round in profile, `strength` along its middle.
    pub(crate) fn tube(&mut self, from: (f32, f32), to: (f32, f32), width: f32, strength: f32) {
        // A tube thinner than a pixel becomes a fainter one of pixel width, as in any detector.
        let pixel = 1.2 / (self.size as f32 * self.pose.scale);
        let (width, strength) = (width.max(pixel), strength * (width / pixel).min(1.0));
        let area = BBox::from_corners(
            (from.0.min(to.0) - width, from.1.min(to.1) - width),
            (from.0.max(to.0) + width, from.1.max(to.1) + width),
        );
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length2 = (dx * dx + dy * dy).max(1e-9);
        self.paint(&area, |x, y, old| {
            let t = (((x - from.0) * dx + (y - from.1) * dy) / length2).clamp(0.0, 1.0);
            let (ex, ey) = (x - from.0 - t * dx, y - from.1 - t * dy);
            let r2 = (ex * ex + ey * ey) / (width * width);
            if r2 < 1.0 { old + strength * (1.0 - r2).sqrt() } else { old }
        });
    }

    /// This grid enlarged to `size` cells, bilinear.
    pub(crate) fn enlarged(&self, size: usize) -> Grid {
        let mut large = Grid::new(size, self.pose);
        let last = self.size - 1;
        let at = |i: usize| {
            let f = ((i as f32 + 0.5) * self.size as f32 / size as f32 - 0.5).clamp(0.0, last as f32);
            (f as usize, (f as usize + 1).min(last), f.fract())
        };
        let columns: Vec<_> = (0..size).map(at).collect();
        for row in 0..size {
            let (y0, y1, fy) = at(row);
            let (top, bottom) = (&self.values[y0 * self.size..], &self.values[y1 * self.size..]);
            for (&(x0, x1, fx), value) in columns.iter().zip(&mut large.values[row * size..]) {
                let a = top[x0] + fx * (top[x1] - top[x0]);
                let b = bottom[x0] + fx * (bottom[x1] - bottom[x0]);
                *value = a + fy * (b - a);
            }
        }
        large
    }
}

/// Rises smoothly from 0 at `a` to 1 at `b`.
pub(crate) fn rise(a: f32, b: f32, x: f32) -> f32 {
    let t = ((x - a) / (b - a)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// An ellipse: centre, radii, rotation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ellipse {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) rx: f32,
    pub(crate) ry: f32,
    /// Sine and cosine of its rotation.
    pub(crate) rotation: (f32, f32),
}

impl Ellipse {
    pub(crate) fn new(x: f32, y: f32, rx: f32, ry: f32) -> Self {
        Ellipse { x, y, rx, ry, rotation: (0.0, 1.0) }
    }

    /// This one, rotated.
    pub(crate) fn rotated(self, angle: f32) -> Self {
        Ellipse { rotation: angle.sin_cos(), ..self }
    }

    /// Distance from the centre, 1 on the edge.
    pub(crate) fn radius(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.x, y - self.y);
        let (sin, cos) = self.rotation;
        let (u, v) = ((cos * dx + sin * dy) / self.rx, (cos * dy - sin * dx) / self.ry);
        (u * u + v * v).sqrt()
    }

    /// 1 up to the radius `from`, smoothly falling to 0 at the radius `to`.
    pub(crate) fn fade(&self, from: f32, to: f32, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.x, y - self.y);
        let (sin, cos) = self.rotation;
        let (u, v) = ((cos * dx + sin * dy) / self.rx, (cos * dy - sin * dx) / self.ry);
        let r2 = u * u + v * v;
        if r2 >= to * to {
            0.0
        } else if r2 <= from * from {
            1.0
        } else {
            1.0 - rise(from, to, r2.sqrt())
        }
    }

    /// The upright box around it, `factor` times as large.
    pub(crate) fn area(&self, factor: f32) -> BBox {
        let (sin, cos) = self.rotation;
        let w = factor * (self.rx * cos).hypot(self.ry * sin);
        let h = factor * (self.rx * sin).hypot(self.ry * cos);
        BBox::from_corners((self.x - w, self.y - h), (self.x + w, self.y + h))
    }
}
