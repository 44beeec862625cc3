//! A training that takes a second.

#![allow(dead_code, unreachable_pub)] // not every test program uses everything

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::Device;
use cxr::{EvalCrop, EvalFrame, Finding, Labels};
use nets::{
    Backbone, Checkpoints, Error, Event, Fit, Identity, ImageRecipe, Images, Loss, Network, OptimizerKind, Pool,
    Precision, Recipe, Schedule, fit_network,
};

/// Side of the images, px.
pub const SIZE: usize = 24;

/// Bright squares at the left (the first finding) or at the right (the second) on noise.
pub fn images(count: usize, seed: u32) -> Images {
    let mut state = seed;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 26) as u8
    };
    let mut images = Images::in_memory(SIZE, count);
    for index in 0..count {
        let (first, second) = (index % 2 == 0, index % 3 == 0);
        let mut image = Vec::with_capacity(SIZE * SIZE);
        for y in 0..SIZE {
            for x in 0..SIZE {
                let left = first && (4..9).contains(&x) && (8..14).contains(&y);
                let right = second && (15..20).contains(&x) && (8..14).contains(&y);
                image.push(noise() + if left || right { 150 } else { 40 });
            }
        }
        let findings = [(first, Finding::ALL[0]), (second, Finding::ALL[1])];
        let present = findings.into_iter().filter(|(present, _)| *present);
        images.push(&image, present.map(|(_, finding)| finding).collect::<Labels>()).unwrap();
    }
    images
}

pub fn recipe(optimizer: OptimizerKind) -> Recipe {
    Recipe {
        epochs: 5,
        batch: 8,
        lr: if optimizer == OptimizerKind::Sgd { 0.05 } else { 0.003 },
        momentum: 0.9,
        weight_decay: 1e-4,
        optimizer,
        schedule: Schedule::Step { milestones: vec![3], factor: 0.1 },
        warmup_epochs: 1,
        seed: 3,
        loss: Loss::Bce,
        label_smoothing: 0.0,
        clip_norm: None,
        ema: None,
    }
}

pub fn image_recipe() -> ImageRecipe {
    ImageRecipe {
        input_px: 20,
        crop: EvalCrop::Centre,
        crop_schedule: Vec::new(),
        scale_min: 0.7,
        ratio_max: nets::recipe::ratio_max(),
        flip: false,
        rotate_deg: 5.0,
        brightness: 0.1,
        contrast: 0.1,
        precision: Precision::F32,
    }
}

/// How evaluation inputs are cut.
pub fn frame(crop: EvalCrop) -> EvalFrame {
    EvalFrame { crop, image_px: SIZE, input_px: 20 }
}

/// A training on 44 images, in 6 steps per epoch.
pub struct Training {
    pub recipe: Recipe,
    pub images: ImageRecipe,
    pub device: Device,
    /// Checkpoint files of other trainings.
    pub others: Vec<PathBuf>,
    pub minutes: f64,
    /// Whether the images are read from a file.
    pub on_disk: bool,
}

impl Training {
    pub fn new(recipe: Recipe) -> Training {
        Training {
            recipe,
            images: image_recipe(),
            device: Device::Cpu,
            others: Vec::new(),
            minutes: 10.0,
            on_disk: false,
        }
    }

    pub fn identity(&self) -> Identity {
        Identity {
            model: self.images.model("mini", "max"),
            data: "44 and 24 images".to_owned(),
            start: "random".to_owned(),
            recipe: self.recipe.clone(),
        }
    }

    /// Trains a new network; `stop` says after which event.
    pub fn run(&self, folder: &Path, mut stop: impl FnMut(&Event) -> bool) -> (Network, Result<Fit, Error>) {
        let mut network = Network::new(Backbone::Mini, Pool::Max, 7, &self.device).unwrap();
        let checkpoints = Checkpoints { folder, others: &self.others, minutes: self.minutes };
        let fitted = fit_network(
            &mut network,
            &self.place(images(44, 1)),
            &self.place(images(24, 2)),
            &self.images,
            &self.identity(),
            &checkpoints,
            &mut |event| if stop(&event) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) },
        );
        (network, fitted)
    }

    fn place(&self, memory: Images) -> Images {
        if !self.on_disk {
            return memory;
        }
        let mut images = Images::on_disk(memory.size(), tempfile::tempfile().unwrap());
        for (index, &labels) in memory.labels().iter().enumerate() {
            images.push(&memory.image(index).unwrap(), labels).unwrap();
        }
        images
    }

    /// Trains until `steps` more steps are done.
    pub fn stop_after(&self, folder: &Path, steps: usize) -> (u32, usize) {
        let mut left = steps;
        let (_, stopped) = self.run(folder, |event| {
            left = left.saturating_sub(usize::from(matches!(event, Event::Step { .. })));
            left == 0
        });
        match stopped {
            Err(Error::Interrupted { finished, step, .. }) => (finished, step),
            other => panic!("{other:?}"),
        }
    }

    /// Trains to the end.
    pub fn finish(&self, folder: &Path) -> (Network, Fit) {
        let (network, fitted) = self.run(folder, |_| false);
        (network, fitted.unwrap())
    }
}

/// All weights.
pub fn bytes(network: &Network) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    network.save(&path, None).unwrap();
    fs_err::read(path).unwrap()
}

/// A learning curve without its timings.
pub fn curve(fitted: &Fit) -> Vec<[u64; 4]> {
    let bits = |value: Option<f64>| value.map_or(u64::MAX, f64::to_bits);
    let rows = fitted.epochs.iter().map(|stats| {
        [stats.lr.to_bits(), stats.train_loss.to_bits(), bits(stats.validation_loss), bits(stats.validation_auroc)]
    });
    rows.collect()
}
