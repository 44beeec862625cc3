//! Several trainings of one recipe that differ in their seed: intervals over patients *and* seeds.
//!
//! A test set is a sample of patients, and a training a sample of what a recipe gives. The interval of one training tells
//! what other patients would change; that of a mean over seeds must also tell what other seeds would.
//!
//! The mean over `S` seeds is drawn as `mean + r * (mean of the seeds on a draw of patients - mean) + s / sqrt(S) * t`.
//! All seeds are measured on the same draw of patients. `s` is the standard deviation of the seeds' values, and `t`
//! follows Student's distribution with `S - 1` degrees of freedom. Drawing the seeds themselves with replacement would not
//! do: of 5 seeds it gives intervals that are a third too narrow (the factor sqrt(4 / 5), and the normal in place of
//! Student's quantile). `s` also holds what a seed and these patients do only together; `r`, at most 1, takes it out of
//! the draws of patients, so that it counts once (a two-way random effects model). A test simulates the coverage.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::bootstrap::{Bootstrap, Sampled};

/// What other seeds would change, draw by draw.
#[derive(Debug, Clone)]
pub struct SeedDraws {
    seeds: usize,
    /// `t / sqrt(S)` of each draw; zeros for a single seed.
    shifts: Vec<f64>,
}

/// A number of several seeds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OverSeeds {
    /// The mean over the seeds, with draws of patients and seeds; of patients alone where there is one seed.
    pub mean: Sampled,
    /// Standard deviation of the seeds' values, with `S - 1` in the denominator; `None` with fewer than two.
    pub sd: Option<f64>,
    /// In how many seeds the value is above 0: for a difference, how often the first wins.
    pub above: usize,
}

impl SeedDraws {
    /// For so many seeds. The draws are the quantiles of Student's distribution in an order that the bootstrap's seed
    /// decides, so that no draw of them is luckier than another.
    pub fn new(seeds: usize, bootstrap: &Bootstrap) -> SeedDraws {
        let draws = bootstrap.draws;
        let mut shifts = vec![0.0; draws];
        // One degree of freedom or more: the distribution exists.
        if let Some(student) = seeds.checked_sub(1).and_then(|freedom| StudentsT::new(0.0, 1.0, freedom as f64).ok()) {
            for (index, shift) in shifts.iter_mut().enumerate() {
                let place = (index as f64 + 0.5) / draws as f64;
                *shift = student.inverse_cdf(place) / (seeds as f64).sqrt();
            }
            let mut rng = ChaCha8Rng::seed_from_u64(bootstrap.seed);
            // Draw d of the patients is stream d: the last stream is nobody's.
            rng.set_stream(u64::MAX);
            shifts.shuffle(&mut rng);
        }
        SeedDraws { seeds, shifts }
    }

    /// The mean of a number over the seeds; undefined where it is undefined for one of them.
    ///
    /// # Panics
    /// If there are not as many as was said, or they are not from the same draws of patients.
    pub fn mean<'s>(&self, of_seeds: impl IntoIterator<Item = &'s Sampled>) -> OverSeeds {
        let of_seeds: Vec<&Sampled> = of_seeds.into_iter().collect();
        assert_eq!(of_seeds.len(), self.seeds, "a number of every seed");
        let Some(values) = of_seeds.iter().map(|sampled| sampled.value).collect::<Option<Vec<f64>>>() else {
            return OverSeeds::default();
        };
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        let above = values.iter().filter(|value| **value > 0.0).count();
        let drawn = of_seeds.first().map_or(0, |sampled| sampled.draws.len());
        let alike = of_seeds.iter().all(|sampled| sampled.draws.len() == drawn);
        assert!(alike, "all seeds are measured on the same draws");
        let patients: Vec<f64> =
            (0..drawn).map(|draw| of_seeds.iter().map(|sampled| sampled.draws[draw]).sum::<f64>() / count).collect();
        let shrink = shrink(&of_seeds, &patients, &values, mean);
        let seeds = self.shifts.iter().map(|shift| sd.unwrap_or(0.0) * shift);
        let draws = patients.iter().zip(seeds).map(|(drawn, shift)| mean + shrink * (drawn - mean) + shift).collect();
        let over = Sampled::of_draws(Some(mean), draws);
        // A draw that was drawn again counts as it does for one training.
        let undefined = of_seeds.iter().map(|sampled| sampled.undefined).fold(over.undefined, usize::max);
        OverSeeds { mean: Sampled { undefined, ..over }, sd, above }
    }
}

/// What the draws of patients are multiplied by, around the mean, so that they tell what is the same for all seeds: the
/// mean of `S` seeds varies over draws by that and, divided by `S`, by what each seed has of its own.
fn shrink(of_seeds: &[&Sampled], patients: &[f64], values: &[f64], mean: f64) -> f64 {
    let count = of_seeds.len() as f64;
    let defined = || (0..patients.len()).filter(|&draw| !patients[draw].is_nan());
    let total: f64 = defined().map(|draw| (patients[draw] - mean).powi(2)).sum();
    if of_seeds.len() < 2 || total == 0.0 {
        return 1.0;
    }
    let own = |(sampled, value): (&&Sampled, &f64)| -> f64 {
        defined().map(|draw| (sampled.draws[draw] - patients[draw] - (value - mean)).powi(2)).sum()
    };
    let own = of_seeds.iter().zip(values).map(own).sum::<f64>() / (count - 1.0);
    (1.0 - own / count / total).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rayon::prelude::*;
    use statrs::distribution::Normal;

    use super::*;
    use crate::metrics::{Estimate, Ranking};

    fn sampled(value: f64, draws: &[f64]) -> Sampled {
        Sampled::of_draws(Some(value), draws.to_vec())
    }

    #[test]
    fn one_seed_is_drawn_by_patients_alone() {
        let draws = SeedDraws::new(1, &Bootstrap { draws: 3, seed: 1 });
        let one = sampled(0.8, &[0.7, 0.8, 0.9]);
        assert_eq!(draws.mean([&one]), OverSeeds { mean: one, sd: None, above: 1 });
    }

    #[test]
    fn seeds_widen_what_patients_leave_open() {
        let bootstrap = Bootstrap { draws: 1000, seed: 1 };
        let flat = |value: f64| sampled(value, &[value; 1000]);
        let over = SeedDraws::new(3, &bootstrap).mean([&flat(0.1), &flat(-0.1), &flat(0.3)]);
        assert!((over.mean.value.unwrap() - 0.1).abs() < 1e-12 && (over.sd.unwrap() - 0.2).abs() < 1e-12);
        assert_eq!(over.above, 2);
        let Estimate { low: Some(low), high: Some(high), .. } = over.mean.estimate(0.95) else { panic!("an interval") };
        // Student's interval of three values: 4.3027 = t(0.975; 2), from any table.
        let half = 4.302_65 * 0.2 / 3.0_f64.sqrt();
        assert!((low - (0.1 - half)).abs() < 0.01 && (high - (0.1 + half)).abs() < 0.01, "{low} {high}");
    }

    #[test]
    fn draws_that_were_drawn_again_are_counted() {
        let rare = |value: f64| {
            let finding = Sampled { repeated: vec![(1, value)], ..sampled(value, &[value, f64::NAN, value, value]) };
            Sampled::mean([&finding])
        };
        let seeds = [rare(0.6), rare(0.8)];
        assert!(seeds.iter().all(|mean| mean.undefined == 1 && mean.draws[1] == mean.value.unwrap()));
        let over = SeedDraws::new(2, &Bootstrap { draws: 4, seed: 1 }).mean(&seeds);
        assert_eq!(over.mean.estimate(0.95).undefined, 1);
    }

    #[test]
    fn a_seed_without_a_value_leaves_no_mean() {
        let draws = SeedDraws::new(2, &Bootstrap { draws: 0, seed: 1 });
        assert_eq!(draws.mean([&Sampled::given(Some(0.5)), &Sampled::default()]), OverSeeds::default());
        assert_eq!(draws.mean([&Sampled::given(Some(0.5)), &Sampled::given(Some(0.7))]).mean.value, Some(0.6));
    }

    /// Two recipes on the same patients: `[recipe][seed]` scores, where a positive scores `mean_r + seed's own` more.
    struct World {
        patients: usize,
        seeds: usize,
        /// Standard deviation of what a seed adds to the distance of the classes.
        spread: f64,
        /// Mean distance of the classes by the two recipes, in standard deviations of a score.
        distance: [f64; 2],
    }

    impl World {
        /// The expected AUROC of a recipe: the mean over seeds of `Phi(distance / sqrt 2)`, in closed form.
        fn truth(&self, recipe: usize) -> f64 {
            let normal = Normal::standard();
            normal.cdf(self.distance[recipe] / (2.0 + self.spread * self.spread).sqrt())
        }

        /// Whether the intervals of the first recipe's mean AUROC, and of the difference, have the truth in them.
        fn covered(&self, world: u64) -> [bool; 2] {
            let mut rng = ChaCha8Rng::seed_from_u64(world);
            let normal = Normal::standard();
            let mut gauss = move || normal.inverse_cdf(rng.random_range(1e-12..1.0 - 1e-12));
            let truth: Vec<bool> = (0..self.patients).map(|patient| patient % 4 == 0).collect();
            // Half of a score's variance is the patient's, the same for every recipe and seed.
            let own: Vec<f64> = truth.iter().map(|_| gauss() * 0.5_f64.sqrt()).collect();
            let bootstrap = Bootstrap { draws: 400, seed: world };
            let patients: Vec<u32> = (0..self.patients as u32).collect();
            let resamples = bootstrap.resample(&patients);
            let draws = SeedDraws::new(self.seeds, &bootstrap);
            let measured: [Vec<Sampled>; 2] = [0, 1].map(|recipe| {
                let of_seed = |_| {
                    let distance = self.distance[recipe] + self.spread * gauss();
                    let noise = 0.5_f64.sqrt();
                    let score = |(&own, &positive): (&f64, &bool)| {
                        (own + noise * gauss() + f64::from(u8::from(positive)) * distance) as f32
                    };
                    let scores: Vec<f32> = own.iter().zip(&truth).map(score).collect();
                    let [auroc, _] = resamples.ranking(&Ranking::new(&scores, &truth).unwrap(), &patients);
                    auroc
                };
                (0..self.seeds).map(of_seed).collect()
            });
            let differences: Vec<Sampled> = measured[0].iter().zip(&measured[1]).map(|(a, b)| a.minus(b)).collect();
            let contains = |of_seeds: &[Sampled], truth: f64| {
                let estimate = draws.mean(of_seeds).mean.estimate(0.95);
                estimate.low.unwrap() <= truth && truth <= estimate.high.unwrap()
            };
            [contains(&measured[0], self.truth(0)), contains(&differences, self.truth(0) - self.truth(1))]
        }
    }

    /// The share of simulated studies whose 95 % interval has the truth in it.
    fn coverage(world: &World, studies: u64) -> [f64; 2] {
        let covered: Vec<[bool; 2]> = (0..studies).into_par_iter().map(|study| world.covered(study)).collect();
        [0, 1].map(|which| covered.iter().filter(|covered| covered[which]).count() as f64 / studies as f64)
    }

    #[test]
    fn intervals_cover_the_truth() {
        // Seeds that hardly matter, matter as much as patients, and matter more.
        for (seeds, spread) in [(3, 0.02), (3, 0.2), (5, 0.1), (5, 0.4), (10, 0.2)] {
            let world = World { patients: 240, seeds, spread, distance: [1.2, 1.0] };
            let coverage = coverage(&world, 1000);
            for share in coverage {
                assert!((0.93..=0.97).contains(&share), "{seeds} seeds, spread {spread}: {coverage:?}");
            }
        }
    }
}
