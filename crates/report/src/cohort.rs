//! The images of one split with all branches' scores.

use std::collections::{BTreeMap, BTreeSet};

use cxr::metrics::{Known, Subset};
use cxr::{Branch, Labels, OUTPUTS, Split};
use tables::{images, predictions};

use crate::Error;

/// The 15 logits of an image.
pub type Logits = [f32; OUTPUTS];

/// The images of one split with all branches' scores.
#[derive(Debug, Clone, Default)]
pub struct Cohort {
    /// Sorted.
    pub image_ids: Vec<String>,
    /// NIH's patient of each image.
    pub patients: Vec<u32>,
    /// The truth, as reported.
    pub labels: Vec<Labels>,
    /// `[branch][image]`, in the order of [`Branch::ALL`].
    logits: [Vec<Logits>; 3],
}

impl Cohort {
    /// Joins the branches' predictions of one split by `image_id`; with a limit, the first images only.
    ///
    /// # Errors
    /// [`Error::Images`], [`Error::Labels`]: the branches are not about the same images.
    pub fn join(branches: &[Vec<predictions::Row>; 3], split: Split, limit: Option<usize>) -> Result<Self, Error> {
        let of_split = |branch: Branch| {
            let mut rows: Vec<_> = branches[branch as usize].iter().filter(|row| row.key.split == split).collect();
            rows.sort_by(|a, b| a.key.image_id.cmp(&b.key.image_id));
            rows
        };
        let [first, others @ ..] = Branch::ALL;
        let rows = of_split(first);
        let ids: BTreeSet<&str> = rows.iter().map(|row| row.key.image_id.as_str()).collect();
        for branch in others {
            let other = of_split(branch);
            let branches = [first, branch];
            let other_ids: BTreeSet<&str> = other.iter().map(|row| row.key.image_id.as_str()).collect();
            let apart: Vec<&str> = ids.symmetric_difference(&other_ids).copied().collect();
            if !apart.is_empty() {
                return Err(Error::Images { split, branches, count: apart.len(), first: list(&apart) });
            }
            let differ = |(a, b): &(&&predictions::Row, &&predictions::Row)| {
                a.key.labels != b.key.labels || a.key.patient_id != b.key.patient_id
            };
            let pairs = rows.iter().zip(&other);
            let apart: Vec<&str> = pairs.filter(differ).map(|(row, _)| row.key.image_id.as_str()).collect();
            if !apart.is_empty() {
                return Err(Error::Labels { split, branches, count: apart.len(), first: list(&apart) });
            }
        }
        let n = limit.unwrap_or(usize::MAX).min(rows.len());
        let rows = &rows[..n];
        Ok(Cohort {
            image_ids: rows.iter().map(|row| row.key.image_id.clone()).collect(),
            patients: rows.iter().map(|row| row.key.patient_id).collect(),
            labels: rows.iter().map(|row| row.key.labels).collect(),
            logits: Branch::ALL.map(|branch| of_split(branch)[..n].iter().map(|row| row.logits).collect()),
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
        count_patients(&self.patients)
    }

    /// The images of which it is known whether they show the output.
    pub fn known(&self, output: usize) -> Known {
        Known::of(&self.labels, output)
    }

    /// One branch's logits, an array per image.
    pub fn logits(&self, branch: Branch) -> &[Logits] {
        &self.logits[branch as usize]
    }

    /// Positions of all images.
    pub fn all(&self) -> Vec<u32> {
        (0..self.len() as u32).collect()
    }
}

/// How many different patients.
pub fn count_patients(patients: &[u32]) -> usize {
    patients.iter().collect::<BTreeSet<_>>().len()
}

/// The first ten names, for an error.
fn list(names: &[&str]) -> String {
    names[..names.len().min(10)].join(", ")
}

/// The cohort by sex, age band and view position, as positions of images, without empty groups. An image about which
/// the table says nothing is in no group.
pub fn groups(cohort: &Cohort, images: &[images::Row]) -> Vec<(Subset, Vec<u32>)> {
    let by_id: BTreeMap<&str, &images::Row> =
        images.iter().map(|image| (image.record.image_id.as_str(), image)).collect();
    let members = |subset: &Subset| -> Vec<u32> {
        let belongs = |id: &String| by_id.get(id.as_str()).is_some_and(|image| subset.contains(&image.record));
        (0..cohort.len() as u32).filter(|&image| belongs(&cohort.image_ids[image as usize])).collect()
    };
    let groups = Subset::groups().into_iter().map(|subset| (members(&subset), subset));
    groups.filter(|(images, _)| !images.is_empty()).map(|(images, subset)| (subset, images)).collect()
}

#[cfg(test)]
impl Cohort {
    /// Images `000.png`, ... of a patient each, with the same logits from every branch.
    pub(crate) fn example(labels: Vec<Labels>, logits: Vec<Logits>) -> Cohort {
        Cohort {
            image_ids: (0..labels.len()).map(|image| format!("{image:03}.png")).collect(),
            patients: (0..labels.len() as u32).collect(),
            labels,
            logits: [logits.clone(), logits.clone(), logits],
        }
    }
}
