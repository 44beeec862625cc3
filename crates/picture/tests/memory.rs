//! How much memory a decoder takes at once, and whether that was said before. One test, because it measures the whole
//! process.

use std::io::Write;
use std::path::Path;

use peak_alloc::PeakAlloc;
use picture::{Radiograph, needs};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Decodes an image, and says how many bytes that took at once beside the file.
fn taken(name: &str, bytes: &[u8]) -> usize {
    let said = needs(name, bytes).unwrap() as usize;
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let image = Radiograph::decode(name, bytes).unwrap().image;
    let taken = MEMORY.peak_usage() - before;
    assert!(taken <= said, "{name}: {taken} bytes, {said} were said");
    MEMORY.reset_peak_usage();
    let square = image.square(2048);
    assert_eq!(square.pixels.len(), 2048 * 2048);
    let resizing = MEMORY.peak_usage() - before;
    assert!(resizing <= 2 * said + (64 << 20), "{name}: {resizing} bytes to resize, {said} were said");
    taken
}

/// A PNG file of one value.
fn png(colour: png::ColorType, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Sixteen);
    encoder.set_compression(png::Compression::Fastest);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    let row = vec![7; width as usize * colour.samples() * 2];
    (0..height).for_each(|_| stream.write_all(&row).unwrap());
    stream.finish().unwrap();
    writer.finish().unwrap();
    bytes
}

/// A JPEG file of one value: every Huffman code is one bit, 0, which says that nothing follows.
fn jpeg(side: u16, components: u8, progressive: bool) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    let mut segment = |marker: u8, data: &[u8]| {
        bytes.extend([0xff, marker]);
        bytes.extend((data.len() as u16 + 2).to_be_bytes());
        bytes.extend(data);
    };
    segment(0xdb, &[&[0][..], &[1; 64]].concat());
    for table in [0x00, 0x10] {
        segment(0xc4, &[&[table, 1][..], &[0; 15], &[0]].concat());
    }
    let [high, low] = side.to_be_bytes();
    let each = (1..=components).flat_map(|id| [id, 0x11, 0]);
    let frame: Vec<u8> = [8, high, low, high, low, components].into_iter().chain(each).collect();
    segment(if progressive { 0xc2 } else { 0xc0 }, &frame);
    let each = (1..=components).flat_map(|id| [id, 0]);
    let last = if progressive { 0 } else { 63 };
    let scan: Vec<u8> = [components].into_iter().chain(each).chain([0, last, 0]).collect();
    segment(0xda, &scan);
    let blocks = usize::from(side / 8).pow(2) * usize::from(components);
    bytes.extend(vec![0; blocks / 4]);
    bytes.extend([0xff, 0xd9]);
    bytes
}

#[test]
fn memory_is_told_by_the_header() {
    // 8192 x 8192 px of 8 bytes: 512 MiB of samples.
    let side = 8192;
    for (colour, width, height) in [
        (png::ColorType::Rgba, side, side),
        (png::ColorType::Grayscale, 4 * side, side / 4),
        (png::ColorType::GrayscaleAlpha, 1, 4 * side),
        (png::ColorType::GrayscaleAlpha, 4 * side, 1),
    ] {
        let taken = taken("large.png", &png(colour, width, height));
        assert!(taken < (width * height) as usize + (4 << 20), "{width} x {height} px: {taken} bytes");
    }
    for (components, progressive) in [(1, false), (3, false), (1, true), (3, true)] {
        taken(&format!("{components} {progressive}.jpg"), &jpeg(2048, components, progressive));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dicom");
    let files = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let images = files.filter(|path| path.extension().is_some_and(|end| end != "py"));
    let images: Vec<_> = images.collect();
    for path in &images {
        taken(&path.display().to_string(), &fs_err::read(path).unwrap());
    }
    let count = images.len();
    assert!(count > 80, "{count}");
    let bomb = [&png(png::ColorType::Grayscale, 8, 8)[..16], &[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]].concat();
    assert!(needs("bomb.png", &bomb).is_err());
}
