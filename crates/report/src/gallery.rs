//! Which cases the report shows: where the fusion is right, where it is wrong, and some drawn by seed.

use cxr::metrics::Scope;
use cxr::metrics::calibration::sigmoid;
use cxr::{Branch, Finding};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::cohort::Cohort;

/// Why a case is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// A finding with a high probability.
    Best(Finding),
    /// A finding with a low one.
    Missed(Finding),
    /// No finding, but a high probability.
    FalseAlarm(Finding),
    /// Drawn by seed.
    Random,
}

impl Choice {
    /// What the reader filters by.
    pub fn kind(self) -> &'static str {
        match self {
            Choice::Best(_) => "best",
            Choice::Missed(_) | Choice::FalseAlarm(_) => "worst",
            Choice::Random => "random",
        }
    }

    /// What the choice is about.
    pub fn finding(self) -> Option<Finding> {
        match self {
            Choice::Best(finding) | Choice::Missed(finding) | Choice::FalseAlarm(finding) => Some(finding),
            Choice::Random => None,
        }
    }
}

/// Up to `n` images, a third each of best, worst and random, as positions in the cohort. Findings take turns, rare ones as
/// often as common ones; the worst are missed findings and false alarms in turn. No image twice.
pub fn choose(cohort: &Cohort, n: usize, seed: u64) -> Vec<(usize, Choice)> {
    let mut chosen: Vec<(usize, Choice)> = Vec::new();
    let mut free = vec![true; cohort.len()];
    let extreme = |free: &[bool], finding: Finding, shown: bool, highest: bool| {
        let logit = |image: usize| cohort.logits(Branch::Fusion)[image][finding.index()];
        let candidates = (0..cohort.len()).filter(|&i| free[i] && cohort.labels[i].get(finding) == Some(shown));
        if highest {
            candidates.max_by(|&a, &b| logit(a).total_cmp(&logit(b)).then(b.cmp(&a)))
        } else {
            candidates.min_by(|&a, &b| logit(a).total_cmp(&logit(b)).then(a.cmp(&b)))
        }
    };
    // Findings nobody has are left out, and the turns are even among the others.
    let present: Vec<Finding> =
        Finding::ALL.into_iter().filter(|&f| cohort.labels.iter().any(|labels| labels.contains(f))).collect();
    let third = n.div_ceil(3);
    let turns = |turns: usize| if present.is_empty() { 0 } else { turns };
    let best = (0..turns(third.min(n))).map(|turn| Choice::Best(present[turn % present.len()]));
    let worst = (0..turns(third.min(n.saturating_sub(third)))).map(|turn| {
        match (present[turn / 2 % present.len()], turn % 2) {
            (finding, 0) => Choice::Missed(finding),
            (finding, _) => Choice::FalseAlarm(finding),
        }
    });
    for choice in best.chain(worst) {
        let image = match choice {
            Choice::Best(finding) => extreme(&free, finding, true, true),
            Choice::Missed(finding) => extreme(&free, finding, true, false),
            Choice::FalseAlarm(finding) => extreme(&free, finding, false, true),
            Choice::Random => None,
        };
        if let Some(image) = image {
            free[image] = false;
            chosen.push((image, choice));
        }
    }
    let mut order: Vec<usize> = (0..cohort.len()).filter(|&image| free[image]).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let random = order.into_iter().take(n.saturating_sub(2 * third));
    chosen.extend(random.map(|image| (image, Choice::Random)));
    chosen
}

/// The `n` outputs that the fusion holds most probable, with the probability by each branch in the order of
/// [`Branch::ALL`].
pub fn most_probable(cohort: &Cohort, image: usize, n: usize) -> Vec<(Scope, [f64; 3])> {
    let probability = |branch: Branch, output: usize| sigmoid(f64::from(cohort.logits(branch)[image][output]));
    let of_output = |(output, scope): (usize, Scope)| (scope, Branch::ALL.map(|branch| probability(branch, output)));
    let mut outputs: Vec<(Scope, [f64; 3])> = Scope::outputs().into_iter().enumerate().map(of_output).collect();
    let fusion = |probabilities: &[f64; 3]| probabilities[Branch::Fusion as usize];
    outputs.sort_by(|a, b| fusion(&b.1).total_cmp(&fusion(&a.1)));
    outputs.truncate(n);
    outputs
}

#[cfg(test)]
mod tests {
    use cxr::{Labels, OUTPUTS};

    use super::*;

    fn cohort(n: usize) -> Cohort {
        let labels = |i: usize| -> Labels {
            let findings =
                [i.is_multiple_of(2).then_some(Finding::Mass), i.is_multiple_of(5).then_some(Finding::Edema)];
            findings.into_iter().flatten().collect()
        };
        let logits: Vec<[f32; OUTPUTS]> = (0..n).map(|i| [((i * 7) % n) as f32; OUTPUTS]).collect();
        Cohort::example((0..n).map(labels).collect(), logits)
    }

    #[test]
    fn thirds_without_doubles() {
        let cohort = cohort(50);
        let chosen = choose(&cohort, 12, 1);
        let images: std::collections::BTreeSet<usize> = chosen.iter().map(|(image, _)| *image).collect();
        assert_eq!(images.len(), 12);
        for kind in ["best", "worst", "random"] {
            assert_eq!(chosen.iter().filter(|(_, choice)| choice.kind() == kind).count(), 4, "{kind}");
        }
        let (first, choice) = chosen[0];
        assert_eq!(choice, Choice::Best(Finding::Mass));
        let logit = |i: usize| cohort.logits(Branch::Fusion)[i][0];
        let masses = (0..50).filter(|&i| cohort.labels[i].contains(Finding::Mass));
        assert_eq!(logit(first), masses.map(logit).fold(0.0, f32::max));
        for (image, choice) in chosen {
            match choice {
                Choice::Best(finding) | Choice::Missed(finding) => assert!(cohort.labels[image].contains(finding)),
                Choice::FalseAlarm(finding) => assert!(!cohort.labels[image].contains(finding)),
                Choice::Random => {}
            }
        }
        assert_ne!(choose(&cohort, 12, 1), choose(&cohort, 12, 2));
        assert_eq!(choose(&cohort, 0, 1), []);
        assert_eq!(choose(&cohort, 200, 1).len().min(50), choose(&cohort, 200, 1).len());
    }
}
