//! The trainings of a group.

use cxr::Split;

use crate::Error;
use crate::cohort::Cohort;

/// The trainings of one recipe.
#[derive(Debug)]
pub struct Arm {
    /// Its name; empty where there is one arm only.
    pub name: String,
    /// What it is, in words.
    pub about: String,
    /// A cohort per seed, with the same images in the same order.
    pub seeds: Vec<Cohort>,
}

/// A group of arms with the same seeds in the same order, on the same images.
#[derive(Debug)]
pub struct Group {
    /// The arms; the first one is what the others are compared with.
    pub arms: Vec<Arm>,
    /// The seeds, as recorded by the fusions.
    pub seeds: Vec<u64>,
    /// The split that is reported.
    pub split: Split,
}

impl Group {
    /// Checks that all trainings are about the same images with the same labels. `runs` has their names, arm by arm.
    ///
    /// # Errors
    /// [`Error::Group`] names the first two runs that differ.
    pub fn new(arms: Vec<Arm>, seeds: Vec<u64>, split: Split, runs: &[Vec<String>]) -> Result<Group, Error> {
        let all = arms.iter().zip(runs).flat_map(|(arm, runs)| arm.seeds.iter().zip(runs));
        let mut first: Option<(&Cohort, &String)> = None;
        for (cohort, run) in all {
            let Some((known, known_run)) = first else {
                first = Some((cohort, run));
                continue;
            };
            let differs = match () {
                () if cohort.image_ids != known.image_ids => Some("images"),
                () if cohort.labels != known.labels => Some("labels"),
                () if cohort.patients != known.patients => Some("patients"),
                () => None,
            };
            if let Some(what) = differs {
                return Err(Error::Group { runs: [known_run.clone(), run.clone()], what, split });
            }
        }
        Ok(Group { arms, seeds, split })
    }

    /// The images, which all trainings have in common.
    ///
    /// # Panics
    /// If there is no training.
    pub fn cohort(&self) -> &Cohort {
        &self.arms[0].seeds[0]
    }

    /// Whether there are several arms.
    pub fn is_study(&self) -> bool {
        self.arms.len() > 1
    }
}
