//! Axis-aligned boxes in pixel coordinates.

/// A half-open box `[x_min, x_max) x [y_min, y_max)` in pixels, x to the right, y down.
///
/// Edges are finite, and `x_min <= x_max`, `y_min <= y_max`: [`BBox::new`] checks numbers from outside the program,
/// [`BBox::from_corners`] is for arithmetic. Fields are public to be read.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
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

/// Four numbers that are no box.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("expected {expected}, got [{x_min}, {x_max}) x [{y_min}, {y_max})", x_min = edges[0], y_min = edges[1], x_max = edges[2], y_max = edges[3])]
pub struct InvalidBox {
    /// `x_min`, `y_min`, `x_max`, `y_max`.
    pub edges: [f32; 4],
    /// What a box has.
    pub expected: &'static str,
}

impl BBox {
    /// A box from edges that are not trusted: those of a file, for instance.
    ///
    /// # Errors
    /// An edge that is not finite; edges in the wrong order.
    pub fn new(x_min: f32, y_min: f32, x_max: f32, y_max: f32) -> Result<Self, InvalidBox> {
        let edges = [x_min, y_min, x_max, y_max];
        if !edges.into_iter().all(f32::is_finite) {
            return Err(InvalidBox { edges, expected: "finite edges" });
        }
        if x_min > x_max || y_min > y_max {
            return Err(InvalidBox { edges, expected: "x_min <= x_max and y_min <= y_max" });
        }
        Ok(BBox { x_min, y_min, x_max, y_max })
    }

    /// The box between two opposite corners `(x, y)`, whichever they are; for numbers that the program computed.
    ///
    /// # Panics
    /// Where a coordinate is not finite, which is a bug of the caller.
    pub fn from_corners((x0, y0): (f32, f32), (x1, y1): (f32, f32)) -> Self {
        assert!([x0, y0, x1, y1].into_iter().all(f32::is_finite), "corners ({x0}, {y0}) and ({x1}, {y1})");
        BBox { x_min: x0.min(x1), y_min: y0.min(y1), x_max: x0.max(x1), y_max: y0.max(y1) }
    }

    /// The frame `[0, width) x [0, height)`.
    pub fn frame(width: f32, height: f32) -> Self {
        BBox::from_corners((0.0, 0.0), (width, height))
    }

    /// Width in pixels, at least 0.
    pub fn width(&self) -> f32 {
        self.x_max - self.x_min
    }

    /// Height in pixels, at least 0.
    pub fn height(&self) -> f32 {
        self.y_max - self.y_min
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

    /// Whether it has an area and lies in the frame `[0, width) x [0, height)`.
    pub fn is_inside(&self, width: f32, height: f32) -> bool {
        self.area() > 0.0 && self.x_min >= 0.0 && self.y_min >= 0.0 && self.x_max <= width && self.y_max <= height
    }

    /// Area shared with `other`, square pixels.
    pub fn intersection(&self, other: &BBox) -> f32 {
        let width = self.x_max.min(other.x_max) - self.x_min.max(other.x_min);
        let height = self.y_max.min(other.y_max) - self.y_min.max(other.y_min);
        width.max(0.0) * height.max(0.0)
    }

    /// The smallest box around both.
    pub fn union(&self, other: &BBox) -> BBox {
        BBox::from_corners(
            (self.x_min.min(other.x_min), self.y_min.min(other.y_min)),
            (self.x_max.max(other.x_max), self.y_max.max(other.y_max)),
        )
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
        BBox::from_corners((self.x_min * sx, self.y_min * sy), (self.x_max * sx, self.y_max * sy))
    }

    /// The same box moved by `dx`, `dy` px.
    pub fn moved(&self, dx: f32, dy: f32) -> BBox {
        BBox::from_corners((self.x_min + dx, self.y_min + dy), (self.x_max + dx, self.y_max + dy))
    }

    /// Cut to the frame `[0, width) x [0, height)`; empty where it lies outside.
    pub fn clipped(&self, width: f32, height: f32) -> BBox {
        let cut = |x: f32, y: f32| (x.clamp(0.0, width), y.clamp(0.0, height));
        BBox::from_corners(cut(self.x_min, self.y_min), cut(self.x_max, self.y_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_measures() {
        let square = |from: f32, to: f32| BBox::new(from, from, to, to).unwrap();
        let (a, b) = (square(0.0, 4.0), square(2.0, 6.0));
        assert_eq!(a.intersection(&b), 4.0);
        assert_eq!(a.iou(&b), 4.0 / 28.0);
        assert_eq!(a.iobb(&b), 0.25);
        assert_eq!(a.iou(&square(5.0, 5.0)), 0.0);
        assert_eq!(a.intersection(&square(7.0, 9.0)), 0.0);
        assert_eq!(a.union(&b), square(0.0, 6.0));
        assert!(a.is_inside(4.0, 4.0) && !a.is_inside(4.0, 3.0) && !square(2.0, 2.0).is_inside(4.0, 4.0));
    }

    #[test]
    fn what_is_no_box_is_said() {
        let message = |edges: [f32; 4]| BBox::new(edges[0], edges[1], edges[2], edges[3]).unwrap_err().to_string();
        assert_eq!(message([0.0, f32::NAN, 1.0, 1.0]), "expected finite edges, got [0, 1) x [NaN, 1)");
        assert_eq!(message([0.0, 0.0, f32::INFINITY, 1.0]), "expected finite edges, got [0, inf) x [0, 1)");
        assert_eq!(message([2.0, 0.0, 1.0, 1.0]), "expected x_min <= x_max and y_min <= y_max, got [2, 1) x [0, 1)");
        assert_eq!(BBox::from_corners((2.0, 5.0), (1.0, 3.0)), BBox::new(1.0, 3.0, 2.0, 5.0).unwrap());
    }
}
