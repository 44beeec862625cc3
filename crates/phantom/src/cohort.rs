//! Who is examined, when, and what they have.

use cxr::{Finding, ImageRecord, Labels, Sex, ViewPosition};
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::config::{Config, Prevalence};

/// Share of ChestX-ray14's 112,120 images with each finding, in NIH's order (counted in Data_Entry_2017_v2020.csv).
const NIH_SHARE: [f64; Finding::COUNT] =
    [0.103, 0.025, 0.119, 0.177, 0.052, 0.056, 0.013, 0.047, 0.042, 0.021, 0.022, 0.015, 0.030, 0.002];

/// Share in the balanced cohort.
const BALANCED_SHARE: f64 = 0.11;

/// Findings that come together more often than chance: the second follows the first with this probability.
const TOGETHER: [(Finding, Finding, f64); 5] = [
    (Finding::Effusion, Finding::Atelectasis, 0.20),
    (Finding::Edema, Finding::Effusion, 0.20),
    (Finding::Cardiomegaly, Finding::Edema, 0.10),
    (Finding::Consolidation, Finding::Effusion, 0.15),
    (Finding::Mass, Finding::Nodule, 0.10),
];

/// One examination.
#[derive(Debug, Clone, PartialEq)]
pub struct Exam {
    /// The row of NIH's table.
    pub record: ImageRecord,
    /// Whether the patient belongs to the official test list.
    pub test: bool,
}

/// A random stream of its own for `(seed, what, a, b)`.
pub(crate) fn stream(seed: u64, what: u64, a: u64, b: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, what, a, b]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// All examinations, in the order of NIH's table: by patient, then by follow-up.
pub fn draw(config: &Config) -> Vec<Exam> {
    let share = match config.prevalence {
        Prevalence::Balanced => [BALANCED_SHARE; Finding::COUNT],
        Prevalence::Nih => NIH_SHARE,
    };
    let mut exams = Vec::new();
    for patient in 1..=config.patients {
        let mut rng = stream(config.seed, 1, patient.into(), 0);
        let sex = if rng.random_bool(0.565) { Sex::Male } else { Sex::Female };
        let mut age = rng.random_range(18_u16..85);
        let mut count = 1;
        while count < 8 && rng.random_bool((config.images_per_patient - 1.0) / config.images_per_patient) {
            count += 1;
        }
        let mut labels = ill(&share, &mut rng);
        for follow_up in 0..count {
            if follow_up > 0 {
                age += u16::from(rng.random_bool(0.2));
                if rng.random_bool(0.5) {
                    labels = ill(&share, &mut rng);
                }
            }
            let bedside = if labels.no_finding() == Some(true) { 0.25 } else { 0.45 };
            let view_position = if rng.random_bool(bedside) { ViewPosition::Ap } else { ViewPosition::Pa };
            let record = ImageRecord {
                image_id: format!("{patient:08}_{follow_up:03}.png"),
                patient_id: patient,
                follow_up: Some(follow_up),
                age_years: Some(age),
                sex: Some(sex),
                view_position: Some(view_position),
                labels,
            };
            // Every fifth patient, so that small cohorts have a test list too.
            exams.push(Exam { record, test: patient % 5 == 0 });
        }
    }
    exams
}

fn ill(share: &[f64; Finding::COUNT], rng: &mut ChaCha8Rng) -> Labels {
    // A third of the patients are well; the others carry all the findings.
    if rng.random_bool(0.33) {
        return Labels::default();
    }
    let mut labels: Labels =
        Finding::ALL.into_iter().filter(|finding| rng.random_bool((share[finding.index()] / 0.67).min(1.0))).collect();
    for (first, second, chance) in TOGETHER {
        if rng.random_bool(chance) && labels.contains(first) {
            labels.set(second, Some(true));
        }
    }
    // Hyperinflated lungs leave no room for an enlarged heart in these drawings.
    if labels.contains(Finding::Cardiomegaly) && labels.contains(Finding::Emphysema) {
        labels = labels.findings().filter(|&finding| finding != Finding::Emphysema).collect();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(patients: u32, seed: u64) -> Config {
        Config { seed, patients, images_per_patient: 2.5, size: 128, prevalence: Prevalence::Balanced, contrast: 1.0 }
    }

    #[test]
    fn every_finding_occurs_about_as_often_as_stated() {
        let exams = draw(&config(600, 1));
        let n = exams.len() as f64;
        assert!((1200.0..1800.0).contains(&n), "{n} images");
        for finding in Finding::ALL {
            let share = exams.iter().filter(|exam| exam.record.labels.contains(finding)).count() as f64 / n;
            assert!((0.06..0.20).contains(&share), "{finding}: {share}");
        }
        let well = exams.iter().filter(|exam| exam.record.labels.no_finding() == Some(true)).count() as f64 / n;
        assert!((0.3..0.6).contains(&well), "no finding: {well}");
    }

    #[test]
    fn lists_share_no_patient_and_ids_are_unique() {
        let exams = draw(&config(50, 3));
        assert_eq!(exams, draw(&config(50, 3)));
        assert_ne!(exams, draw(&config(50, 4)));
        let mut ids: Vec<_> = exams.iter().map(|exam| &exam.record.image_id).collect();
        ids.dedup();
        assert_eq!(ids.len(), exams.len());
        assert!(exams.iter().all(|exam| exam.test == (exam.record.patient_id % 5 == 0)));
    }
}
