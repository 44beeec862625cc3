//! Where a region is put.

use cxr::{BBox, Placement};

/// The region of an image whose attended box is `attended`; both in pixels of the network's input, of `side` x `side`.
///
/// Boxes lie on whole pixels, so that one that is moved keeps its size exactly. A random place depends on `seed` and
/// `image_id` alone: the distances from left and top are uniform among those that leave the box inside.
pub fn place(attended: BBox, side: usize, placement: Placement, seed: u64, image_id: &str) -> BBox {
    let free = [attended.width(), attended.height()].map(|length| (side as f32 - length) as u64);
    let [x, y] = match placement {
        Placement::Attended => return attended,
        Placement::Whole => return BBox::frame(side as f32, side as f32),
        // As torchvision's `CenterCrop` where the difference is even.
        Placement::Centre => free.map(|free| free / 2),
        Placement::Random => {
            let [for_x, for_y] = random(seed, image_id);
            [below(free[0] + 1, for_x), below(free[1] + 1, for_y)]
        }
    };
    attended.moved(x as f32 - attended.x_min, y as f32 - attended.y_min)
}

/// Two uniform numbers of an image: the first bytes of the BLAKE3 hash of seed and name.
fn random(seed: u64, image_id: &str) -> [u64; 2] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"region").update(&seed.to_le_bytes()).update(image_id.as_bytes());
    let hash = hasher.finalize();
    let number =
        |from: usize| hash.as_bytes()[from..from + 8].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
    [number(0), number(8)]
}

/// A number of `0..count` from a uniform one of 64 bits, whose high bits decide (Lemire, arXiv 1805.10941, without its
/// rejection: the bias is below `count` / 2^64).
fn below(count: u64, uniform: u64) -> u64 {
    ((u128::from(count) * u128::from(uniform)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 60;

    fn boxes() -> Vec<(String, BBox)> {
        let edges = |n: usize| {
            let (x, y) = ((n * 7 % 40) as f32, (n * 11 % 30) as f32);
            BBox::from_corners((x, y), (x + 1.0 + (n % 20) as f32, y + 1.0 + (n % 29) as f32))
        };
        (0..500).map(|n| (format!("{n:05}.png"), edges(n))).collect()
    }

    #[test]
    fn a_control_has_the_size_of_the_attended_box_and_lies_inside() {
        for placement in [Placement::Attended, Placement::Random, Placement::Centre] {
            for (image_id, attended) in boxes() {
                let placed = place(attended, SIDE, placement, 3, &image_id);
                assert_eq!((placed.width(), placed.height()), (attended.width(), attended.height()));
                assert!(placed.is_inside(SIDE as f32, SIDE as f32), "{placed:?}");
            }
        }
        let (image_id, attended) = &boxes()[5];
        let at = |placement| place(*attended, SIDE, placement, 3, image_id);
        assert_eq!(at(Placement::Attended), *attended);
        assert_eq!(at(Placement::Whole), BBox::frame(60.0, 60.0));
        // 6 x 6 of 60.
        assert_eq!(at(Placement::Centre), BBox::from_corners((27.0, 27.0), (33.0, 33.0)));
        let all = BBox::frame(60.0, 60.0);
        assert_eq!(place(all, SIDE, Placement::Random, 3, image_id), all);
    }

    #[test]
    fn a_random_place_is_of_image_and_seed() {
        let at = |seed, image_id: &str| place(BBox::frame(9.0, 9.0), SIDE, Placement::Random, seed, image_id);
        assert_eq!(at(0, "a.png"), at(0, "a.png"));
        assert_ne!(at(0, "a.png"), at(0, "b.png"));
        assert_ne!(at(0, "a.png"), at(1, "a.png"));
        // With the `blake3` of PyPI: blake3(b"region" + (1).to_bytes(8, "little") + b"00000001_000.png").digest()[:16].
        // If this fails, every control region of every user would be another one: raise attend's version.
        assert_eq!(random(1, "00000001_000.png"), [0x147c_b6c9_c23e_35e5, 0x8aa0_bdeb_2a60_f85c]);
    }

    #[test]
    fn random_places_are_uniform_to_the_edges() {
        // A box of 50 px in 60 has 11 places on each axis; 11,000 images: 1,000 each, standard deviation 30.
        let mut counts = [[0_u32; 11]; 2];
        for image in 0..11_000 {
            let placed = place(BBox::frame(50.0, 50.0), SIDE, Placement::Random, 0, &image.to_string());
            counts[0][placed.x_min as usize] += 1;
            counts[1][placed.y_min as usize] += 1;
        }
        assert!(counts.iter().flatten().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!([below(7, 0), below(7, u64::MAX)], [0, 6]);
    }
}
