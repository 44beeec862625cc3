//! The numbers of a group.

use cxr::metrics::calibration::sigmoid;
use cxr::metrics::{Known, Metric, OverSeeds, Pair, Ranking, Resamples, Sampled, Scope, SeedDraws, Series, Subset};
use cxr::{Branch, Finding, OUTPUTS};
use tables::metrics::{Row, Seeds};

use super::arms::{Arm, Group};
use crate::Error;
use crate::cohort::{Cohort, Logits};
use crate::measure::{Counts, Rows, counts};
use crate::plan::Plan;

/// Both ranking metrics of every output, and of their mean over the findings.
struct Ranked {
    /// `[output or mean][metric]`.
    scopes: Vec<[Sampled; 2]>,
}

impl Ranked {
    fn of(cohort: &Cohort, scores: &[Logits], resamples: &Resamples, plan: &Plan) -> Result<Ranked, Error> {
        let mut scopes = Vec::with_capacity(OUTPUTS + 1);
        for output in 0..OUTPUTS {
            plan.check()?;
            let known = Known::of(&cohort.labels, output);
            let ranking = Ranking::new(&known.scores(scores), &known.truth);
            scopes.push(ranking.map(|ranking| resamples.ranking(&ranking, &known.images)).unwrap_or_default());
        }
        let mean = |metric: usize| Sampled::mean(scopes[..Finding::COUNT].iter().map(|metrics| &metrics[metric]));
        let means = [mean(0), mean(1)];
        scopes.push(means);
        Ok(Ranked { scopes })
    }
}

/// Everything of one arm that its rows, and the differences to other arms, are made of.
struct Measured {
    /// `[seed][branch]`
    branches: Vec<[Ranked; 3]>,
    ensemble: Ranked,
}

impl Measured {
    fn of(arm: &Arm, resamples: &Resamples, plan: &Plan) -> Result<Measured, Error> {
        let mut branches = Vec::with_capacity(arm.seeds.len());
        for cohort in &arm.seeds {
            let [global, local, fusion] =
                Branch::ALL.map(|branch| Ranked::of(cohort, cohort.logits(branch), resamples, plan));
            branches.push([global?, local?, fusion?]);
        }
        let ensemble = Ranked::of(&arm.seeds[0], &ensemble(arm), resamples, plan)?;
        Ok(Measured { branches, ensemble })
    }

    /// A branch's number in every seed.
    fn of_seeds(&self, branch: Branch, scope: usize, metric: usize) -> impl Iterator<Item = &Sampled> {
        self.branches.iter().map(move |branches| &branches[branch as usize].scopes[scope][metric])
    }
}

/// The mean probability of the seeds' fusions, image by image: a deep ensemble (Lakshminarayanan et al., NeurIPS 2017,
/// arXiv 1612.01474, section 2.4).
fn ensemble(arm: &Arm) -> Vec<Logits> {
    let of_image = |image: usize| -> Logits {
        std::array::from_fn(|output| {
            let probability = |cohort: &Cohort| sigmoid(f64::from(cohort.logits(Branch::Fusion)[image][output]));
            (arm.seeds.iter().map(probability).sum::<f64>() / arm.seeds.len() as f64) as f32
        })
    };
    (0..arm.seeds[0].len()).map(of_image).collect()
}

/// AUROC and average precision of every arm: the branches, their differences, the ensemble of the seeds and its gain; and
/// of the first arm's branches against those of every other arm.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn measure(group: &Group, plan: &Plan) -> Result<Vec<Row>, Error> {
    let cohort = group.cohort();
    let resamples = plan.bootstrap.resample_findings(&cohort.patients, &cohort.labels, &cohort.all());
    let draws = SeedDraws::new(group.seeds.len(), &plan.bootstrap);
    let mut measured = Vec::with_capacity(group.arms.len());
    for arm in &group.arms {
        measured.push(Measured::of(arm, &resamples, plan)?);
    }
    let (counts, any) = counts(cohort, &cohort.all());
    let scopes = Scope::outputs().into_iter().zip(counts).chain([(Scope::Mean, any)]);
    let scopes: Vec<(usize, (Scope, Counts))> = scopes.enumerate().collect();
    let mut rows = Rows { rows: Vec::new(), split: group.split, subset: Subset::All, plan };
    let seeds = group.seeds.len() as u64;
    for (arm, of_arm) in group.arms.iter().zip(&measured) {
        if group.is_study() {
            rows.subset = Subset::Arm(arm.name.clone());
        }
        for (metric, name) in Metric::RANKED.into_iter().enumerate() {
            for &(scope, (about, counts)) in &scopes {
                for branch in Branch::ALL {
                    let over = draws.mean(of_arm.of_seeds(branch, scope, metric));
                    push(&mut rows, (branch.into(), about, name), &over, seeds, counts);
                }
                for pair in Pair::ALL {
                    let pairs = of_arm.of_seeds(Branch::Fusion, scope, metric);
                    let pairs = pairs.zip(of_arm.of_seeds(pair.other(), scope, metric));
                    let differences: Vec<Sampled> = pairs.map(|(fusion, other)| fusion.minus(other)).collect();
                    push(&mut rows, (pair.into(), about, name), &draws.mean(&differences), seeds, counts);
                }
                let ensemble = &of_arm.ensemble.scopes[scope][metric];
                rows.sampled((Series::Ensemble, about, name), ensemble, counts);
                rows.seeds(Seeds { count: seeds, sd: None, above: None });
                // There is one ensemble, of these seeds: what others would give is not known, of it or of its gain.
                let gain = ensemble.minus(&Sampled::mean(of_arm.of_seeds(Branch::Fusion, scope, metric)));
                rows.sampled((Series::EnsembleGain, about, name), &gain, counts);
                rows.seeds(Seeds { count: seeds, sd: None, above: None });
            }
        }
    }
    let [(reference, of_reference), others @ ..] = &group.arms.iter().zip(&measured).collect::<Vec<_>>()[..] else {
        return Ok(rows.rows);
    };
    for (arm, of_arm) in others {
        rows.subset = Subset::Versus(reference.name.clone(), arm.name.clone());
        for (metric, name) in Metric::RANKED.into_iter().enumerate() {
            for &(scope, (about, counts)) in &scopes {
                for branch in Branch::ALL {
                    let pairs = of_reference.of_seeds(branch, scope, metric);
                    let pairs = pairs.zip(of_arm.of_seeds(branch, scope, metric));
                    let differences: Vec<Sampled> = pairs.map(|(first, second)| first.minus(second)).collect();
                    let over = draws.mean(&differences);
                    push(&mut rows, (branch.into(), about, name), &over, seeds, counts);
                    rows.above(over.above as u64);
                }
            }
        }
    }
    Ok(rows.rows)
}

fn push(rows: &mut Rows, about: (Series, Scope, Metric), over: &OverSeeds, seeds: u64, counts: Counts) {
    rows.sampled(about, &over.mean, counts);
    let above = matches!(about.0, Series::Pair(_)).then_some(over.above as u64);
    rows.seeds(Seeds { count: seeds, sd: over.sd, above });
}

impl Rows<'_> {
    /// What the seeds change of the last row.
    fn seeds(&mut self, seeds: Seeds) {
        if let Some(row) = self.rows.last_mut() {
            row.seeds = Some(seeds);
        }
    }

    /// Says of the last row, a difference of arms, in how many seeds it is above 0.
    fn above(&mut self, above: u64) {
        if let Some(seeds) = self.rows.last_mut().and_then(|row| row.seeds.as_mut()) {
            seeds.above = Some(above);
        }
    }
}
