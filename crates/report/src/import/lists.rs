//! Which images a model was evaluated on: results compare on the same ones only.

use std::collections::HashSet;

use labels::names::known_by;
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
    /// How many are in the official test list; `None` where the list is not at hand.
    pub in_test: Option<usize>,
    /// How many are in the official list of training and validation images.
    pub in_train_val: Option<usize>,
}

/// The digest of names of images, given sorted; endings do not matter.
pub fn digest(image_ids: &[&str]) -> String {
    stage::digest(&json!(image_ids.iter().map(|id| known_by(id)).collect::<Vec<_>>()))
}

/// Recognises a set of images, given sorted; `test` and `train_val` are NIH's lists, where they are at hand.
pub fn images(image_ids: &[&str], test: Option<&HashSet<String>>, train_val: Option<&HashSet<String>>) -> Images {
    let digest = digest(image_ids);
    let count = |list: Option<&HashSet<String>>| {
        Some(image_ids.iter().filter(|id| list.is_some_and(|list| list.contains(known_by(id)))).count())
            .filter(|_| list.is_some())
    };
    let (in_test, in_train_val) = (count(test), count(train_val));
    let all_of = |list: Option<&HashSet<String>>| list.is_some_and(|list| list.len() == image_ids.len());
    let n = image_ids.len();
    let official = digest == OFFICIAL || (in_test == Some(n) && all_of(test));
    let name = match (official, digest.as_str(), in_test, test) {
        (true, ..) => "NIH's official test list".to_owned(),
        (_, ARNOWENG, ..) => "arnoweng/CheXNet's test list (random by patient)".to_owned(),
        (_, _, Some(in_test), Some(list)) if in_test == n => {
            format!("a part of NIH's official test list, {n} of its {} images", list.len())
        }
        _ => "no list that is known here".to_owned(),
    };
    Images { known: official || digest == ARNOWENG, digest, images: n, name, in_test, in_train_val }
}
