//! From pixels to a PNG file.

use png::{ColorType, Compression};

use crate::grey::Grey;

impl Grey {
    /// The image as an 8-bit grey PNG file.
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.pixels, self.width, self.height, ColorType::Grayscale, Compression::Fast)
    }
}

/// 8-bit RGB pixels, row by row, as a PNG file.
///
/// # Panics
/// Where there are not `width * height` pixels, or none.
pub fn encode_rgb(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    encode(pixels, width, height, ColorType::Rgb, Compression::Balanced)
}

/// 8-bit RGBA pixels, row by row, as a PNG file.
///
/// # Panics
/// Where there are not `width * height` pixels, or none.
pub fn encode_rgba(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    encode(pixels, width, height, ColorType::Rgba, Compression::Balanced)
}

fn encode(pixels: &[u8], width: u32, height: u32, colour: ColorType, compression: Compression) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pixels.len() / 2 + 1024);
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(compression);
    let mut writer = encoder.write_header().expect("an image has pixels, and memory takes any byte");
    writer.write_image_data(pixels).expect("as many pixels as the header says");
    writer.finish().expect("memory takes any byte");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_survive_their_file() {
        for (channels, encode) in [(3, encode_rgb as fn(&[u8], u32, u32) -> Vec<u8>), (4, encode_rgba)] {
            let pixels: Vec<u8> = (0..5 * 4 * channels).map(|i| (i * 37 % 256) as u8).collect();
            let bytes = encode(&pixels, 5, 4);
            let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
            let mut back = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut back).unwrap();
            assert_eq!(back, pixels);
        }
    }
}
