//! Images with random damage: none makes a decoder panic, take long or take much memory.
//!
//! `AGCNN_MUTANTS=1000 cargo test -p picture --test mutated` tries more than the usual few. One test, because it measures
//! the whole process.

use std::path::Path;
use std::time::{Duration, Instant};

use flate2::Crc;
use peak_alloc::PeakAlloc;
use picture::{Radiograph, needs};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Of every kind of file.
fn mutants() -> usize {
    std::env::var("AGCNN_MUTANTS").map_or(300, |text| text.parse().expect("AGCNN_MUTANTS is a number"))
}

/// Changes some bytes, cuts, doubles or moves a part.
fn damage(file: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bad = file.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..bad.len());
        let end = (at + random.random_range(1..64)).min(bad.len());
        match random.random_range(0..8) {
            0 => bad[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            1 => bad[at..end].fill(0xff),
            2 => drop(bad.drain(at..end)),
            3 => {
                let part = bad[at..end].to_vec();
                bad.splice(at..at, part);
            }
            // The header, where sizes are.
            4..6 => {
                let at = random.random_range(0..bad.len().min(64));
                bad[at] = random.random();
            }
            _ => bad[at] ^= 1 << random.random_range(0..8),
        }
        if bad.is_empty() {
            bad.push(0);
        }
    }
    bad
}

/// Makes the checksums of a PNG's chunks right, so that damage reaches what is behind them.
fn repair(file: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = file.get(at..at + 4) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some(body) = at.checked_add(8 + length).and_then(|end| file.get(at + 4..end)) else { return };
        let mut crc = Crc::new();
        crc.update(body);
        let Some(place) = file.get_mut(at + 8 + length..at + 12 + length) else { return };
        place.copy_from_slice(&crc.sum().to_be_bytes());
        at += 12 + length;
    }
}

/// Files of every colour type and depth, and with chunks beside the pixels.
fn pictures() -> Vec<Vec<u8>> {
    use png::BitDepth::{Eight, Four, One, Sixteen};
    use png::ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
    let kinds = [(Grayscale, One), (Grayscale, Eight), (Grayscale, Sixteen), (GrayscaleAlpha, Eight), (Indexed, Four)];
    let kinds = kinds.into_iter().chain([(Indexed, Eight), (Rgb, Eight), (Rgba, Sixteen)]);
    let picture = |(colour, depth): (png::ColorType, png::BitDepth)| {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 40, 30);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        encoder.add_text_chunk("Title".to_owned(), "a".to_owned()).unwrap();
        if colour == Indexed {
            encoder.set_palette((0..48).collect::<Vec<u8>>());
            encoder.set_trns((0..16).collect::<Vec<u8>>());
        }
        let row = (40 * colour.samples() * depth as usize).div_ceil(8);
        let largest = if colour == Indexed { 15 } else { 255 };
        let data: Vec<u8> = (0..row * 30).map(|i| (i * 37 % 256) as u8 & largest).collect();
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&data).unwrap();
        writer.finish().unwrap();
        bytes
    };
    kinds.map(picture).collect()
}

#[test]
fn damaged_images_never_panic_nor_take_long_nor_take_much() {
    // What a panic would print is the proof that one was not caught.
    std::panic::set_hook(Box::new(|panic| panic!("a panic reached stderr: {panic}")));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dicom");
    let mut files: Vec<_> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let of = |ending: &str| -> Vec<Vec<u8>> {
        let files = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == ending));
        files.map(|path| fs_err::read(path).unwrap()).collect()
    };
    let mut random = ChaCha8Rng::seed_from_u64(16);
    for (kind, seeds) in [("png", pictures()), ("jpg", of("jpg")), ("dcm", of("dcm"))] {
        let (mut most, mut longest, mut decoded) = (0, Duration::ZERO, 0);
        for _ in 0..mutants() {
            let mut bad = damage(&seeds[random.random_range(0..seeds.len())], &mut random);
            if kind == "png" && random.random_range(0..4) > 0 {
                repair(&mut bad);
            }
            MEMORY.reset_peak_usage();
            let (before, start) = (MEMORY.current_usage(), Instant::now());
            let said = needs("mutant", &bad);
            let image = Radiograph::decode("mutant", &bad);
            let (taken, time) = (MEMORY.peak_usage() - before, start.elapsed());
            if let (Ok(said), Ok(_)) = (&said, &image) {
                assert!(taken as u64 <= *said, "{kind}: {taken} bytes, {said} were said");
            }
            if let Ok(image) = image {
                decoded += 1;
                assert_eq!(image.image.square(64).pixels.len(), 64 * 64);
            }
            (most, longest) = (most.max(taken), longest.max(time));
        }
        assert!(most < 1 << 30, "{kind}: {most} bytes");
        assert!(longest < Duration::from_secs(10), "{kind}: {longest:?}");
        assert!(decoded > 0, "{kind}: all damage was seen at once, nothing behind was tried");
    }
}
