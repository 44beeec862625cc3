//! A training by the ranks of a job: what `just test-mpi` compares with one process, and `just bench-ranks` times.
//!
//! Arguments: backbone, pool, side in pixels, images, batch, epochs, learning rate, and `whole` or `part`: what batch norms are over. Rank 0 prints
//! a line of JSON: the loss of every step, a digest of each rank's weights at the end, the seconds of every step, the bytes that
//! a rank sent in all steps, and the bytes of all gradients.
//!
//! ```sh
//! cargo build --release -p nets --features mpi --example fit_ranks
//! RAYON_NUM_THREADS=1 mpirun -n 2 target/release/examples/fit_ranks resnet18 max 112 320 32 1 0.01 whole
//! ```

#![allow(clippy::print_stdout)] // what it is for

use std::ops::ControlFlow;
use std::time::Instant;

use cxr::{EvalCrop, Finding, Labels};
use nets::{
    Checkpoints, Event, Identity, ImageRecipe, Images, Loss, Network, OptimizerKind, Precision, Recipe, Schedule,
    fit_network,
};
use serde_json::json;

/// Large blocks start on cache lines.
#[global_allocator]
static ALLOCATOR: nets::OnLines = nets::OnLines;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    nets::keep_freed_memory();
    nets::link_by_nccl();
    ranks::start()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backbone, pool, side, count, batch, epochs, lr, norms] = &arguments[..] else {
        return Err("fit_ranks BACKBONE POOL SIDE IMAGES BATCH EPOCHS LR whole|part".into());
    };
    let (side, count, batch): (usize, usize, usize) = (side.parse()?, count.parse()?, batch.parse()?);
    let world = ranks::world();
    let images = images(side, count)?;
    let validation = self::images(side, count.min(5))?;
    let image_recipe = image_recipe(side);
    let recipe = recipe(batch, epochs.parse()?, lr.parse()?);
    let device = nets::device(std::env::var("AGCNN_DEVICE").as_deref().unwrap_or("cpu"))?;
    let mut network = Network::new(backbone.parse()?, pool.parse()?, 1, &device)?;
    network.sync_batch_norm(norms == "whole");
    let gradients: usize = network.trained()?.iter().map(|(_, tensor)| 4 * tensor.elem_count()).sum();
    let folder = tempfile::tempdir()?;
    let checkpoints = Checkpoints { folder: folder.path(), others: &[], minutes: 60.0 };
    let (data, start) = ("squares".to_owned(), "random".to_owned());
    let identity = Identity { model: image_recipe.model(backbone, pool), data, start, recipe };
    let (mut losses, mut seconds, mut sent) = (Vec::new(), Vec::new(), 0);
    let (mut clock, before) = (Instant::now(), world.sent());
    let fit = fit_network(&mut network, &images, &validation, &image_recipe, &identity, &checkpoints, &mut |event| {
        if let Event::Step { loss, .. } = event {
            losses.push(loss);
            seconds.push(clock.elapsed().as_secs_f64());
            sent = world.sent() - before;
        }
        clock = Instant::now();
        ControlFlow::Continue(())
    })?;
    let path = folder.path().join("weights.safetensors");
    network.save(&path, None)?;
    let digest = blake3::hash(&fs_err::read(path)?).to_hex().to_string();
    let digests: Vec<String> =
        world.gather(digest.as_bytes()).iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    if world.leads() {
        let validated = fit.epochs.iter().map(|stats| stats.validation_loss).collect::<Vec<_>>();
        println!(
            "{}",
            json!({
                "ranks": world.size(), "losses": losses, "validated": validated, "weights": digests,
                "seconds": seconds, "sent": sent, "gradients": gradients,
            })
        );
    }
    ranks::finish();
    Ok(())
}

/// Noise, and a bright square on half of the images, whose label says so; some labels are unknown.
fn images(side: usize, count: usize) -> nets::Result<Images> {
    let size = side * 8 / 7;
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 26) as u8
    };
    let mut images = Images::in_memory(size, count);
    for index in 0..count {
        let bright = |at: usize| index % 2 == 0 && (at % size) < size / 3;
        let image: Vec<u8> = (0..size * size).map(|at| noise() + if bright(at) { 150 } else { 40 }).collect();
        let mut labels: Labels = (index % 2 == 0).then_some(Finding::ALL[0]).into_iter().collect();
        if index % 3 == 0 {
            labels.set(Finding::ALL[5], None);
        }
        images.push(&image, labels)?;
    }
    Ok(images)
}

fn image_recipe(side: usize) -> ImageRecipe {
    ImageRecipe {
        input_px: side,
        crop: EvalCrop::Centre,
        crop_schedule: Vec::new(),
        scale_min: 0.5,
        ratio_max: nets::recipe::ratio_max(),
        flip: true,
        rotate_deg: 7.0,
        brightness: 0.1,
        contrast: 0.1,
        precision: Precision::F32,
    }
}

fn recipe(batch: usize, epochs: usize, lr: f64) -> Recipe {
    Recipe {
        epochs,
        batch,
        lr,
        momentum: 0.9,
        weight_decay: 1e-4,
        optimizer: OptimizerKind::Sgd,
        schedule: Schedule::Cosine,
        warmup_epochs: 0,
        seed: 1,
        loss: Loss::Weighted,
        label_smoothing: 0.1,
        clip_norm: None,
        ema: None,
    }
}
