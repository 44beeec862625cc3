//! How long the intervals of a whole report take: AUROC and average precision of 15 outputs and three branches, and the
//! paired differences, on as many images and patients as NIH's official test list has. Prints seconds.
//!
//! `cargo run --release -p cxr --example intervals -- DRAWS`

use std::io::Write;
use std::time::Instant;

use cxr::metrics::{Bootstrap, Ranking, Sampled};
use cxr::{Finding, Labels, OUTPUTS};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// NIH's official test list.
const IMAGES: u32 = 25_596;
const PATIENTS: u32 = 2_797;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let draws: usize = std::env::args().nth(1).map_or(Ok(2000), |text| text.parse())?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let patients: Vec<u32> = (0..IMAGES).map(|image| image % PATIENTS).collect();
    let images: Vec<u32> = (0..IMAGES).collect();
    // From 0.2 % (Hernia) to a third of the images.
    let truths: Vec<Vec<bool>> = (0..OUTPUTS)
        .map(|output| images.iter().map(|_| rng.random_bool(0.002 + 0.02 * output as f64)).collect())
        .collect();
    let mut scores = |truth: &[bool]| -> Vec<f32> {
        truth.iter().map(|&positive| rng.random::<f32>() + if positive { 0.4 } else { 0.0 }).collect()
    };
    let branches: Vec<Vec<Vec<f32>>> = (0..3).map(|_| truths.iter().map(|truth| scores(truth)).collect()).collect();

    let labels: Vec<Labels> = (0..IMAGES as usize)
        .map(|image| Finding::ALL.into_iter().filter(|&finding| truths[finding.index()][image]).collect())
        .collect();

    let clock = Instant::now();
    let resamples = Bootstrap { draws, seed: 1 }.resample_findings(&patients, &labels, &images);
    let measured: Vec<Vec<[Sampled; 2]>> = branches
        .iter()
        .map(|outputs| {
            let ranked = outputs.iter().zip(&truths).filter_map(|(scores, truth)| Ranking::new(scores, truth));
            ranked.map(|ranking| resamples.ranking(&ranking, &images)).collect()
        })
        .collect();
    let mut intervals = 0;
    let all = |branch: usize| measured[branch].iter().flatten();
    for ((global, local), fusion) in all(0).zip(all(1)).zip(all(2)) {
        for sampled in [global.clone(), local.clone(), fusion.clone(), fusion.minus(global), fusion.minus(local)] {
            intervals += usize::from(sampled.estimate(0.95).low.is_some());
        }
    }
    let seconds = clock.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "{seconds:.3} s for {draws} draws, {intervals} intervals")?;
    Ok(())
}
