//! Axis-aligned boxes in pixel coordinates.

/// A half-open box `[x_min, x_max) x [y_min, y_max)` in pixels, x to the right, y down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BBox {
    /// Left edge, inclusive.
    pub x_min: f32,
    /// Top edge, inclusive.
    pub y_min: f32,
    /// Right edge, exclusive.
    pub x_max: f32,
    /// Bottom edge, exclusive.
    pub y_max: f32,
}

impl BBox {
    /// A box from its edges.
    pub fn new(x_min: f32, y_min: f32, x_max: f32, y_max: f32) -> Self {
        BBox { x_min, y_min, x_max, y_max }
    }

    /// Width in pixels, never negative.
    pub fn width(&self) -> f32 {
        (self.x_max - self.x_min).max(0.0)
    }

    /// Height in pixels, never negative.
    pub fn height(&self) -> f32 {
        (self.y_max - self.y_min).max(0.0)
    }

    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// Centre `(x, y)`.
    pub fn center(&self) -> (f32, f32) {
        ((self.x_min + self.x_max) / 2.0, (self.y_min + self.y_max) / 2.0)
    }

    /// Whether the point lies inside.
    pub fn contains(&self, (x, y): (f32, f32)) -> bool {
        x >= self.x_min && x < self.x_max && y >= self.y_min && y < self.y_max
    }

    /// Area shared with `other`, square pixels.
    pub fn intersection(&self, other: &BBox) -> f32 {
        BBox::new(
            self.x_min.max(other.x_min),
            self.y_min.max(other.y_min),
            self.x_max.min(other.x_max),
            self.y_max.min(other.y_max),
        )
        .area()
    }

    /// Intersection over union (IoU); 0 where both are empty.
    pub fn iou(&self, other: &BBox) -> f32 {
        let shared = self.intersection(other);
        let union = self.area() + other.area() - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }

    /// Intersection over the detected box (IoBB; Wang et al., CVPR 2017): `self` is the detection.
    pub fn iobb(&self, truth: &BBox) -> f32 {
        let area = self.area();
        if area > 0.0 { self.intersection(truth) / area } else { 0.0 }
    }

    /// The same box in a frame scaled by `sx`, `sy`.
    pub fn scaled(&self, sx: f32, sy: f32) -> BBox {
        BBox::new(self.x_min * sx, self.y_min * sy, self.x_max * sx, self.y_max * sy)
    }

    /// Cut to the frame `[0, width) x [0, height)`.
    pub fn clipped(&self, width: f32, height: f32) -> BBox {
        BBox::new(
            self.x_min.clamp(0.0, width),
            self.y_min.clamp(0.0, height),
            self.x_max.clamp(0.0, width),
            self.y_max.clamp(0.0, height),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_measures() {
        let a = BBox::new(0.0, 0.0, 4.0, 4.0);
        let b = BBox::new(2.0, 2.0, 6.0, 6.0);
        assert_eq!(a.intersection(&b), 4.0);
        assert_eq!(a.iou(&b), 4.0 / 28.0);
        assert_eq!(a.iobb(&b), 0.25);
        assert_eq!(a.iou(&BBox::new(5.0, 5.0, 5.0, 5.0)), 0.0);
    }
}
