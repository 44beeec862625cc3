//! Which images are for training, validation and test, as the configuration says.

use std::collections::{HashMap, HashSet};

use cxr::split::{Plan, Rule, ValidationSplit, plan};
use cxr::{ImageRecord, Labels, Split, SplitKind};
use labels::Texts;
use labels::names::known_by;
use labels::nih::{self, TEST, TRAIN_VAL};

use crate::config::OnProblem;
use crate::{Config, Error};

/// A division, and what of the lists that made it does not agree with the label table.
pub(crate) struct Division {
    pub(crate) plan: Plan,
    pub(crate) kind: SplitKind,
    /// Images that the lists label otherwise.
    pub(crate) relabelled: usize,
    /// Images that the table does not have, which are left out.
    pub(crate) unknown: usize,
}

/// Reads the lists that the division needs, and divides; `left_out` are images of the table that the settings leave out.
pub(crate) fn divide(
    texts: &mut Texts<'_>,
    records: &[ImageRecord],
    left_out: &HashSet<String>,
    config: &Config,
) -> Result<Division, Error> {
    let seed = config.split_seed;
    let called: HashMap<&str, &str> = records.iter().map(|r| (known_by(&r.image_id), r.image_id.as_str())).collect();
    let left_out: HashSet<&str> = left_out.iter().map(|name| known_by(name)).collect();
    let mut unknown: HashSet<String> = HashSet::new();
    let mut list = |key: &'static str, name: &str, usual: &str| -> Result<nih::Listed, Error> {
        let mut listed = texts.list(key, name, usual)?;
        listed.rename(|name| match called.get(known_by(name)) {
            Some(image_id) => Some((*image_id).to_owned()),
            None if left_out.contains(known_by(name)) => None,
            None if config.missing == OnProblem::Skip => {
                unknown.insert(name.to_owned());
                None
            }
            None => Some(name.to_owned()),
        });
        Ok(listed)
    };
    let divided = |rule: Rule<'_>, lists: &[&nih::Listed]| -> Result<Division, Error> {
        let relabelled = relabelled(records, lists);
        Ok(Division { plan: plan(records, rule)?, kind: config.split, relabelled, unknown: 0 })
    };
    let division = match config.split {
        SplitKind::Random => divided(Rule::Random { seed }, &[]),
        SplitKind::Paper => divided(Rule::Paper { seed }, &[]),
        SplitKind::Test => divided(Rule::Test, &[]),
        SplitKind::Official => {
            let train_val = list("train_list", &config.train_list, TRAIN_VAL)?;
            let test = list("test_list", &config.test_list, TEST)?;
            let official = |validation| Rule::Official { train_val: &train_val.list, test: &test.list, validation };
            if config.validation_list.is_empty() {
                let cut = ValidationSplit::Cut { fraction: config.validation_fraction, seed };
                divided(official(cut), &[&train_val, &test])
            } else {
                let validation = list("validation_list", &config.validation_list, "")?;
                divided(official(ValidationSplit::List(&validation.list)), &[&train_val, &test, &validation])
            }
        }
        SplitKind::Files => {
            let train = list("train_list", &config.train_list, "")?;
            let validation = list("validation_list", &config.validation_list, "")?;
            let test = list("test_list", &config.test_list, "")?;
            divided(Rule::Files([&train.list, &validation.list, &test.list]), &[&train, &validation, &test])
        }
    };
    Ok(Division { unknown: unknown.len(), ..division? })
}

/// The division that a column of the table gives.
pub(crate) fn given(records: &[ImageRecord], splits: &[Option<Split>]) -> Result<Division, Error> {
    let plan = plan(records, Rule::Given(splits))?;
    Ok(Division { plan, kind: SplitKind::Files, relabelled: 0, unknown: 0 })
}

/// Images for which a list carries other labels than the table.
fn relabelled(records: &[ImageRecord], lists: &[&nih::Listed]) -> usize {
    if lists.iter().all(|listed| listed.labels.is_empty()) {
        return 0;
    }
    let labels: HashMap<&str, Labels> =
        records.iter().map(|record| (record.image_id.as_str(), record.labels)).collect();
    let pairs = lists.iter().flat_map(|listed| listed.list.image_ids.iter().zip(&listed.labels));
    pairs.filter(|(image_id, theirs)| labels.get(image_id.as_str()).is_some_and(|ours| ours != *theirs)).count()
}
