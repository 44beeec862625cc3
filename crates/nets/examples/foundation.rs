//! Compares a foundation model's tokens or map with those that `tests/parity/dinov2/make.py --vitb FOLDER` or
//! `convnext/make.py --tiny FOLDER` wrote, and times it.
//!
//! Arguments: backbone, folder, images per side to be timed (0 if left out). Set `RAYON_NUM_THREADS` for the number of
//! threads.
//!
//! ```sh
//! cargo run --release -p nets --example foundation -- dinov2-vitb14 FOLDER 16
//! ```

#![allow(clippy::print_stdout)] // what a benchmark is for

use std::path::PathBuf;
use std::time::Instant;

use candle_core::{Device, Tensor};
use nets::{Backbone, Network, Pool};

/// Large blocks start on cache lines.
#[global_allocator]
static ALLOCATOR: nets::OnLines = nets::OnLines;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    nets::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (backbone, folder, count) = match &arguments[..] {
        [backbone, folder] => (backbone, PathBuf::from(folder), 0),
        [backbone, folder, count] => (backbone, PathBuf::from(folder), count.parse()?),
        _ => return Err("foundation BACKBONE FOLDER [IMAGES]".into()),
    };
    let backbone: Backbone = backbone.parse()?;
    let pool = if backbone.has_class_token() { Pool::Class } else { Pool::Avg };
    let mut network = Network::new(backbone, pool, 1, &Device::Cpu)?;
    network.load_imagenet(&folder.join("model.safetensors"))?;
    let expected = candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu)?;
    for side in [28, 56, 84, 224, 518_usize] {
        let find = |what: &str| expected.get(&format!("{what}_{side}"));
        let Some(tokens) = find("tokens").or_else(|| find("map")) else { continue };
        let image = uniform("pictures", &[1, side, side, 3], side as u64)?;
        let evaluated = network.forward_eval(&image)?;
        let width = network.backbone().channels();
        let got = match pool {
            Pool::Class => Tensor::cat(&[&evaluated.pool.unsqueeze(1)?, &evaluated.map.reshape((1, (), width))?], 1)?,
            _ => evaluated.map,
        };
        let largest = |tensor: &Tensor| -> candle_core::Result<f32> { tensor.abs()?.max_all()?.to_scalar() };
        let error = largest(&(got - tokens)?)?;
        println!("{side} px: largest difference {error:.1e}, largest value {:.2}", largest(tokens)?);
        if count > 0 {
            let images = image.broadcast_as((count, side, side, 3))?.contiguous()?;
            let clock = Instant::now();
            network.forward_eval(&images)?;
            let rate = count as f64 / clock.elapsed().as_secs_f64();
            println!("{side} px: {rate:.2} images/s, {}", nets::describe(&Device::Cpu));
        }
    }
    Ok(())
}

/// As `uniform` of `tests/parity/make.py`, in -2 .. 2.
fn uniform(name: &str, shape: &[usize], salt: u64) -> candle_core::Result<Tensor> {
    let start = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325 ^ salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let value = |index: u64| {
        let x = start.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (4.0 * (((x ^ (x >> 31)) >> 40) as f64 / (1u64 << 24) as f64) - 2.0) as f32
    };
    let count = shape.iter().product::<usize>() as u64;
    Tensor::from_vec((1..=count).map(value).collect::<Vec<f32>>(), shape, &Device::Cpu)
}
