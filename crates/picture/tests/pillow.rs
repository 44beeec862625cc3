//! Resizing and contrast against Pillow; `pillow/make.py` made the fixtures.

use std::path::Path;

use picture::{Grey, Radiograph};

fn fixture(name: &str) -> Grey {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pillow");
    Radiograph::read(&folder.join(name)).unwrap().image
}

/// Largest difference between two images, in grey levels.
fn farthest(a: &Grey, b: &Grey) -> u8 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn a_square_is_pillows_within_one_grey_level() {
    for (source, size) in [("128x128", 48), ("128x128", 32), ("128x128", 160), ("100x75", 40)] {
        let ours = fixture(&format!("{source}.png")).square(size);
        let theirs = fixture(&format!("{source}-{size}.png"));
        assert!(farthest(&ours, &theirs) <= 1, "{source} to {size}: {}", farthest(&ours, &theirs));
    }
}

#[test]
fn contrast_is_pillows() {
    for (name, factor) in [("contrast-0.6.png", 0.6), ("contrast-1.5.png", 1.5)] {
        let mut ours = fixture("128x128-48.png");
        ours.contrast(factor);
        assert!(farthest(&ours, &fixture(name)) <= 1, "{name}");
    }
}
