//! The images of one split with all branches' scores.

use std::collections::{BTreeMap, BTreeSet};

use cxr::{Labels, OUTPUTS, Sex, Split, ViewPosition};
use tables::{images, predictions};

use crate::Error;

/// The branches, in the order of figures and tables.
pub const BRANCHES: [&str; 3] = ["global", "local", "fusion"];

/// The images of one split with all branches' scores.
#[derive(Debug, Clone, Default)]
pub struct Cohort {
    /// Sorted.
    pub image_ids: Vec<String>,
    /// NIH's patient of each image.
    pub patients: Vec<u32>,
    /// The truth, as reported.
    pub labels: Vec<Labels>,
    /// `[branch][image]`, in the order of [`BRANCHES`].
    pub logits: [Vec<[f32; OUTPUTS]>; 3],
}

impl Cohort {
    /// Joins the branches' predictions of one split by `image_id`; with a limit, the first images only.
    ///
    /// # Errors
    /// [`Error::Images`], [`Error::Labels`]: the branches are not about the same images.
    pub fn join(branches: &[Vec<predictions::Row>; 3], split: Split, limit: Option<usize>) -> Result<Self, Error> {
        let of_split = |branch: usize| {
            let mut rows: Vec<_> = branches[branch].iter().filter(|r| r.key.split == split).collect();
            rows.sort_by(|a, b| a.key.image_id.cmp(&b.key.image_id));
            rows
        };
        let first = of_split(0);
        for (branch, name) in BRANCHES.into_iter().enumerate().skip(1) {
            let other = of_split(branch);
            let ids = |rows: &[&predictions::Row]| -> BTreeSet<String> {
                rows.iter().map(|row| row.key.image_id.clone()).collect()
            };
            let (ours, theirs) = (ids(&first), ids(&other));
            let apart: Vec<&String> = ours.symmetric_difference(&theirs).collect();
            if !apart.is_empty() {
                return Err(Error::Images {
                    split,
                    branches: [BRANCHES[0], name],
                    count: apart.len(),
                    first: list(&apart),
                });
            }
            let differ = |(a, b): &(&&predictions::Row, &&predictions::Row)| {
                a.key.labels != b.key.labels || a.key.patient_id != b.key.patient_id
            };
            let apart: Vec<&String> =
                first.iter().zip(&other).filter(differ).map(|(row, _)| &row.key.image_id).collect();
            if !apart.is_empty() {
                return Err(Error::Labels {
                    split,
                    branches: [BRANCHES[0], name],
                    count: apart.len(),
                    first: list(&apart),
                });
            }
        }
        let n = limit.unwrap_or(usize::MAX).min(first.len());
        let first = &first[..n];
        Ok(Cohort {
            image_ids: first.iter().map(|row| row.key.image_id.clone()).collect(),
            patients: first.iter().map(|row| row.key.patient_id).collect(),
            labels: first.iter().map(|row| row.key.labels).collect(),
            logits: [0, 1, 2].map(|b| of_split(b)[..n].iter().map(|row| row.logits).collect()),
        })
    }

    /// How many images.
    pub fn len(&self) -> usize {
        self.image_ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.image_ids.is_empty()
    }

    /// How many different patients.
    pub fn patient_count(&self) -> usize {
        self.patients.iter().collect::<BTreeSet<_>>().len()
    }

    /// Which images show the output.
    pub fn truth(&self, output: usize) -> Vec<bool> {
        self.labels.iter().map(|labels| labels.targets()[output] == 1.0).collect()
    }

    /// One output's logits of one branch.
    pub fn scores(&self, branch: usize, output: usize) -> Vec<f32> {
        self.logits[branch].iter().map(|logits| logits[output]).collect()
    }
}

/// The first ten names, for an error.
fn list(names: &[&String]) -> String {
    let first: Vec<&str> = names.iter().take(10).map(|name| name.as_str()).collect();
    first.join(", ")
}

/// A part of the images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// As in `metrics.parquet`: `sex=F`, `age=40-59`, `view=AP`.
    pub name: String,
    /// Positions in the cohort, rising.
    pub images: Vec<u32>,
}

/// Ends of the age bands, in years, exclusive. Twenty years each, as many images as a subgroup needs; the first one holds
/// the few children.
const AGES: [u16; 3] = [40, 60, 80];

/// The cohort by sex, age band and view position, without empty parts. Images for which the table says nothing are in none.
pub fn subsets(cohort: &Cohort, images: &[images::Row]) -> Vec<Subset> {
    let by_id: BTreeMap<&str, &images::Row> =
        images.iter().map(|image| (image.record.image_id.as_str(), image)).collect();
    let part = |name: String, belongs: &dyn Fn(&images::Row) -> bool| Subset {
        name,
        images: (0..cohort.len() as u32)
            .filter(|&i| by_id.get(cohort.image_ids[i as usize].as_str()).is_some_and(|image| belongs(image)))
            .collect(),
    };
    let mut subsets = Vec::new();
    for sex in [Sex::Female, Sex::Male] {
        subsets.push(part(format!("sex={}", sex.name()), &|image| image.record.sex == Some(sex)));
    }
    for band in 0..=AGES.len() {
        let from = if band == 0 { 0 } else { AGES[band - 1] };
        let to = AGES.get(band).copied();
        let name = to.map_or(format!("age={from}+"), |to| format!("age={from}-{}", to - 1));
        let within = |age: u16| age >= from && to.is_none_or(|to| age < to);
        subsets.push(part(name, &|image| image.record.age_years.is_some_and(within)));
    }
    for view in [ViewPosition::Pa, ViewPosition::Ap] {
        subsets.push(part(format!("view={}", view.name()), &|image| image.record.view_position == Some(view)));
    }
    subsets.retain(|subset| !subset.images.is_empty());
    subsets
}
