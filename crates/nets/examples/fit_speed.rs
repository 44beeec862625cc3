//! Whole epochs, data included: how many images per second the training loop learns from.
//!
//! Arguments: backbone, batch, side in pixels, precision, device, steps per epoch, epochs. The images are noise, a
//! seventh larger than the crops, and are augmented as in the profile `paper`. Prints the images per second of every
//! epoch.
//!
//! ```sh
//! cargo run --release -p nets --example fit_speed -- resnet50 16 224 f32 cpu 4 3
//! ```

#![allow(clippy::print_stdout)] // what a benchmark is for

use std::ops::ControlFlow;

use cxr::{EvalCrop, Labels};
use nets::{
    Checkpoints, Event, Identity, ImageRecipe, Images, Loss, Network, OptimizerKind, Pool, Precision, Recipe, Schedule,
    fit_network,
};

/// Large blocks start on cache lines.
#[global_allocator]
static ALLOCATOR: nets::OnLines = nets::OnLines;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    nets::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backbone, batch, side, precision, device, steps, epochs] = &arguments[..] else {
        return Err("fit_speed BACKBONE BATCH SIDE f32|tf32|bf16 DEVICE STEPS EPOCHS".into());
    };
    let (batch, side, steps): (usize, usize, usize) = (batch.parse()?, side.parse()?, steps.parse()?);
    let (size, count) = (side * 8 / 7, batch * steps);
    let mut state = 1u32;
    let mut grey = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut images = Images::in_memory(size, count);
    for _ in 0..count {
        let image: Vec<u8> = (0..size * size).map(|_| grey()).collect();
        images.push(&image, Labels::default())?;
    }
    let image_recipe = ImageRecipe {
        input_px: side,
        crop: EvalCrop::Centre,
        crop_schedule: Vec::new(),
        scale_min: 0.5,
        ratio_max: nets::recipe::ratio_max(),
        flip: true,
        rotate_deg: 7.0,
        brightness: 0.1,
        contrast: 0.1,
        precision: match precision.as_str() {
            "bf16" => Precision::Bf16,
            "tf32" => Precision::Tf32,
            _ => Precision::F32,
        },
    };
    let recipe = Recipe {
        epochs: epochs.parse()?,
        batch,
        lr: 1e-3,
        momentum: 0.9,
        weight_decay: 1e-4,
        optimizer: OptimizerKind::Sgd,
        schedule: Schedule::Cosine,
        warmup_epochs: 0,
        seed: 1,
        loss: Loss::Bce,
        label_smoothing: 0.0,
        clip_norm: None,
        ema: None,
    };
    let device = nets::device(device)?;
    let mut network = Network::new(backbone.parse()?, Pool::Max, 1, &device)?;
    let folder = tempfile::tempdir()?;
    let checkpoints = Checkpoints { folder: folder.path(), others: &[], minutes: 10.0 };
    let (data, start) = ("noise".to_owned(), "random".to_owned());
    let identity = Identity { model: image_recipe.model(backbone, "max"), data, start, recipe };
    let nothing = Images::in_memory(size, 0);
    println!("{precision}, {}, {count} images of {size} px", nets::describe(&device));
    fit_network(&mut network, &images, &nothing, &image_recipe, &identity, &checkpoints, &mut |event| {
        if let Event::Epoch { stats, .. } = event {
            println!("{}", stats.images_per_s);
        }
        ControlFlow::Continue(())
    })?;
    Ok(())
}
