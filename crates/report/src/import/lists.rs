//! Which images a model was evaluated on: results compare on the same ones only.

use std::collections::HashSet;

use labels::names::known_by;
use labels::nih::{TEST, TRAIN_VAL};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Digest of the names of the 25,596 images of NIH's `test_list.txt`, by [`digest`].
const OFFICIAL: &str = "445e435b5465eb935d87c10b565ae1c3";
/// Digest of the names of the 22,433 test images of arnoweng/CheXNet (`ChestX-ray14/labels/test_list.txt`), on which
/// jrzech/reproduce-chexnet reports too.
const ARNOWENG: &str = "3104edc98bf9fd6a3a09a8447f5f9997";

/// A set of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Digest of their sorted names: equal for equal sets.
    pub digest: String,
    /// How many.
    pub images: usize,
    /// What they are, in words.
    pub name: String,
    /// Whether they are a list that others report on, whole.
    pub known: bool,
    /// How many are in the list of test images; `None` where there is no list beside the label table.
    pub in_test: Option<usize>,
    /// How many are in the list of training and validation images.
    pub in_train_val: Option<usize>,
}

/// The digest of names of images, given sorted; endings do not matter.
pub fn digest(image_ids: &[&str]) -> String {
    stage::digest(&json!(image_ids.iter().map(|id| known_by(id)).collect::<Vec<_>>()))
}

/// What the list of test images and that of training and validation are called: NIH's, or else as their files. A file
/// that is called `test_list.txt` may hold any images.
pub fn titles(test: &HashSet<String>) -> [&'static str; 2] {
    if is_official(test) { ["NIH's official test list", "its train_val list"] } else { [TEST, TRAIN_VAL] }
}

/// Whether a list of test images, their names without endings, is NIH's.
fn is_official(test: &HashSet<String>) -> bool {
    let mut names: Vec<&str> = test.iter().map(String::as_str).collect();
    names.sort_unstable();
    digest(&names) == OFFICIAL
}

/// What `images` images are of which all are in the list `test`, in words.
fn within(test: &HashSet<String>, images: usize) -> String {
    let (official, all) = (is_official(test), test.len());
    match images == all {
        _ if official => format!("a part of NIH's official test list, {images} of its {all} images"),
        true => format!("all {all} images of {TEST}, which is not NIH's official list"),
        false => format!("{images} of the {all} images of {TEST}, which is not NIH's official list"),
    }
}

/// Recognises a set of images, given sorted; `test` and `train_val` are the lists beside the label table, where they
/// are at hand.
pub fn images(image_ids: &[&str], test: Option<&HashSet<String>>, train_val: Option<&HashSet<String>>) -> Images {
    let digest = digest(image_ids);
    let count = |list: Option<&HashSet<String>>| {
        Some(image_ids.iter().filter(|id| list.is_some_and(|list| list.contains(known_by(id)))).count())
            .filter(|_| list.is_some())
    };
    let (in_test, in_train_val) = (count(test), count(train_val));
    let n = image_ids.len();
    let name = match (digest.as_str(), test) {
        (OFFICIAL, _) => "NIH's official test list".to_owned(),
        (ARNOWENG, _) => "arnoweng/CheXNet's test list (random by patient)".to_owned(),
        (_, Some(list)) if in_test == Some(n) => within(list, n),
        _ => "no list that is known here".to_owned(),
    };
    let known = [OFFICIAL, ARNOWENG].contains(&digest.as_str());
    Images { known, digest, images: n, name, in_test, in_train_val }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nihs_list_is_called_so() {
        let ids = ["00000001_000.png", "00000002_000.png", "00000003_000.png"];
        let list: HashSet<String> = ids.iter().map(|id| known_by(id).to_owned()).collect();
        let name = |ids: &[&str]| {
            let Images { name, known, .. } = images(ids, Some(&list), None);
            assert!(!known, "{name}");
            name
        };
        assert_eq!(name(&ids), "all 3 images of test_list.txt, which is not NIH's official list");
        assert_eq!(name(&ids[1..]), "2 of the 3 images of test_list.txt, which is not NIH's official list");
        assert_eq!(name(&["00000001_000.png", "00000004_000.png"]), "no list that is known here");
        assert_eq!(titles(&list), ["test_list.txt", "train_val_list.txt"]);
    }
}
