//! Files that are damaged, of another kind, or made to do harm.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{EXPLICIT, Layout, SMALL, element, file, head};
use fs_err as fs;
use picture::{Error, Radiograph};
use rand::{RngExt, SeedableRng};

fn decode(bytes: &[u8]) -> Result<Radiograph, Error> {
    Radiograph::decode("a.dcm", bytes)
}

/// All fixtures, by name.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dicom");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let is_image = |path: &Path| path.extension().is_some_and(|extension| extension != "py");
    let named = |path: &Path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap());
    files.iter().filter(|path| is_image(path)).map(|path| named(path)).collect()
}

#[test]
fn what_is_cut_short_is_refused() {
    for (name, bytes) in fixtures() {
        assert!(decode(&bytes).is_ok());
        // The last chunk of a PNG says nothing, nor does a byte that pads.
        let end = if name.ends_with(".png") { bytes.len() - 12 } else { bytes.len() };
        for cut in (0..50).map(|part| end * part / 50).chain([end - 2]) {
            let error = decode(&bytes[..cut]).err().unwrap_or_else(|| panic!("{name} cut to {cut} bytes"));
            assert!(error.is_corrupt());
        }
    }
}

#[test]
fn what_is_damaged_ends_soon_without_a_panic() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    for (name, bytes) in fixtures() {
        for round in 0..200 {
            let mut bad = bytes.clone();
            // Everywhere, or where the sizes are: behind the preamble, at the start of a coded frame.
            let (first, end) = if round % 2 == 0 { (0, bad.len()) } else { (bad.len() / 5, bad.len() / 3) };
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(first..end);
                bad[at] = if rng.random_bool(0.3) { 0xff } else { rng.random() };
            }
            let start = Instant::now();
            let _ = decode(&bad);
            assert!(start.elapsed() < Duration::from_secs(5), "{name} round {round}: {:?}", start.elapsed());
        }
    }
}

/// What is decoded is said for each; what is not, with its hint.
fn said(cases: &[(&str, Vec<u8>)]) -> String {
    let mut lines = String::new();
    for (case, bytes) in cases {
        let error = decode(bytes).expect_err(case);
        lines += &format!("{case}: {error}\n");
        if let Some(hint) = error.hint() {
            lines += &format!("    {hint}\n");
        }
    }
    lines
}

#[test]
fn what_is_refused_is_named() {
    let sop = |uid: &str| element(8, 0x16, "UI", uid.as_bytes());
    let missing = |tag: &[u8]| {
        let whole = SMALL.file(&[1, 2, 3, 4]);
        let at = whole.windows(4).position(|four| four == tag).unwrap();
        [&whole[..at], &whole[at + 10..]].concat()
    };
    let with =
        |more: Vec<u8>| file(EXPLICIT, &SMALL.data_set(&[more, element(0x7fe0, 0x10, "OW", &[1, 2, 3, 4])].concat()));
    let cases = [
        ("report", file(EXPLICIT, &sop("1.2.840.10008.5.1.4.1.1.88.33"))),
        ("presentation state", file(EXPLICIT, &sop("1.2.840.10008.5.1.4.1.1.11.1"))),
        ("PDF", file(EXPLICIT, &sop("1.2.840.10008.5.1.4.1.1.104.1"))),
        ("directory", file(EXPLICIT, &sop("1.2.840.10008.1.3.10"))),
        ("nothing", file(EXPLICIT, &[])),
        ("JPEG XL", SMALL.coded("1.2.840.10008.1.2.4.110", &[1, 2, 3, 4])),
        ("video", SMALL.coded("1.2.840.10008.1.2.4.102", &[1, 2, 3, 4])),
        ("vendor's", SMALL.coded("1.2.3.4", &[1, 2, 3, 4])),
        ("palette", Layout { photometric: "PALETTE COLOR", ..SMALL }.file(&[1, 2, 3, 4])),
        ("grey in three", Layout { samples: 3, ..SMALL }.file(&[1; 12])),
        ("32 bits", Layout { allocated: 32, stored: 32, ..SMALL }.file(&[1; 16])),
        ("1 bit", Layout { allocated: 1, stored: 1, ..SMALL }.file(&[1, 1])),
        ("17 of 16 bits", Layout { allocated: 16, stored: 17, ..SMALL }.file(&[1; 8])),
        ("0 rows", Layout { rows: 0, ..SMALL }.file(&[])),
        ("no rows", missing(&[0x28, 0, 0x10, 0])),
        ("too large", Layout { rows: 40_000, columns: 40_000, ..SMALL }.file(&[1; 4])),
        ("too few pixels", Layout { rows: 3, ..SMALL }.file(&[1; 4])),
        ("too few frames", Layout { frames: "4294967295", ..SMALL }.file(&[1; 4])),
        ("no number", with(element(0x28, 0x1050, "DS", b"wide"))),
        ("endless", with(element(0x28, 0x1053, "DS", b"1e999"))),
        ("not fragments", file("1.2.840.10008.1.2.4.80", &SMALL.data_set(&element(0x7fe0, 0x10, "OW", &[1; 4])))),
        (
            "other size",
            SMALL.coded(
                "1.2.840.10008.1.2.4.80",
                &[0xff, 0xd8, 0xff, 0xf7, 0, 11, 8, 0, 3, 0, 3, 1, 1, 0x11, 0, 0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0, 0],
            ),
        ),
        (
            "12-bit JPEG",
            SMALL.coded("1.2.840.10008.1.2.4.51", &[0xff, 0xd8, 0xff, 0xc1, 0, 11, 12, 0, 2, 0, 2, 1, 1, 0x11, 0]),
        ),
        ("run lengths", SMALL.coded("1.2.840.10008.1.2.5", &[3; 64])),
    ];
    insta::assert_snapshot!(said(&cases));
}

#[test]
fn bombs_are_refused_at_once() {
    let start = Instant::now();
    // 4 GB in a file of 200 bytes.
    let claim = file(EXPLICIT, &[head(8, 0x70, "OB", 0xffff_fff0), vec![1, 2, 3]].concat());
    // A million sequences, one in the other.
    let nest = [head(8, 0x1115, "SQ", u32::MAX), vec![0xfe, 0xff, 0x00, 0xe0, 0xff, 0xff, 0xff, 0xff]].concat();
    let deep = file(EXPLICIT, &nest.repeat(1_000_000));
    // 256 MB and more of zeros, in 260 kB.
    let mut deflater = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), (1 << 28) + 1), &mut deflater).unwrap();
    let inflated = file("1.2.840.10008.1.2.1.99", &deflater.finish().unwrap());
    // Many scans of a progressive JPEG, each of which costs time for every pixel.
    let frame = [0xff, 0xd8, 0xff, 0xc2, 0, 11, 8, 0x20, 0, 0x20, 0, 1, 1, 0x11, 0];
    let scans = [&frame[..], &[0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0].repeat(1000)].concat();
    let messages: Vec<String> =
        [claim, deep, inflated, scans].iter().map(|bomb| decode(bomb).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(messages.join("\n"));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_bare_data_set_is_read() {
    let expected = decode(&SMALL.file(&[1, 2, 3, 4])).unwrap();
    let bare = SMALL.data_set(&element(0x7fe0, 0x10, "OW", &[1, 2, 3, 4]));
    assert_eq!(decode(&bare).unwrap(), expected);
    let text = b"\x08\0\x05\0 is how a text may begin";
    assert!(matches!(decode(text), Err(Error::Unknown { .. })));
}
