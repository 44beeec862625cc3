//! How much memory a decoder takes at once. A test of its own, because it measures the whole process.

#[cfg(target_os = "linux")]
#[test]
fn the_largest_images_take_a_small_multiple_of_their_pixels() {
    use std::io::Write;

    use picture::Radiograph;

    // 8192 x 8192 px of 8 bytes: 512 MiB of samples.
    let side = 8192;
    for (colour, width, height) in [
        (png::ColorType::Rgba, side, side),
        (png::ColorType::Grayscale, 4 * side, side / 4),
        (png::ColorType::GrayscaleAlpha, 1, 4 * side),
    ] {
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
        let image = Radiograph::decode("large.png", &bytes).unwrap().image;
        assert!(image.pixels.len() == (width * height) as usize && image.pixels.iter().all(|&value| value == 7));
    }
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kb: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kb < 300_000, "{kb} kB, expected 64 MiB of pixels, the file and little more");
}
