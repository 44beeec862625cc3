//! Which images are for training, validation and test, as the configuration says.

use std::collections::HashMap;

use cxr::split::{Plan, Rule, ValidationSplit, plan};
use cxr::{ImageRecord, Labels, Split, SplitKind};

use crate::texts::Texts;
use crate::{Config, Error, nih};

const TRAIN_VAL: &str = "train_val_list.txt";
const TEST: &str = "test_list.txt";

/// A division, and in how many images the lists that made it label otherwise than the label table.
pub(crate) struct Division {
    pub(crate) plan: Plan,
    pub(crate) kind: SplitKind,
    pub(crate) relabelled: usize,
}

/// Reads the lists that the division needs, and divides.
pub(crate) fn divide(texts: &mut Texts<'_>, records: &[ImageRecord], config: &Config) -> Result<Division, Error> {
    let seed = config.split_seed;
    let divided = |rule: Rule<'_>, lists: &[&nih::Listed]| -> Result<Division, Error> {
        Ok(Division { plan: plan(records, rule)?, kind: config.split, relabelled: relabelled(records, lists) })
    };
    let mut list = |name: &str, usual: &str| texts.list(if name.is_empty() { usual } else { name });
    match config.split {
        SplitKind::Random => divided(Rule::Random { seed }, &[]),
        SplitKind::Paper => divided(Rule::Paper { seed }, &[]),
        SplitKind::Test => divided(Rule::Test, &[]),
        SplitKind::Official => {
            let (train_val, test) = (list(&config.train_list, TRAIN_VAL)?, list(&config.test_list, TEST)?);
            let official = |validation| Rule::Official { train_val: &train_val.list, test: &test.list, validation };
            if config.validation_list.is_empty() {
                let cut = ValidationSplit::Cut { fraction: config.validation_fraction, seed };
                return divided(official(cut), &[&train_val, &test]);
            }
            let validation = list(&config.validation_list, "")?;
            divided(official(ValidationSplit::List(&validation.list)), &[&train_val, &test, &validation])
        }
        SplitKind::Files => {
            let [train, validation, test] = [&config.train_list, &config.validation_list, &config.test_list];
            let (train, validation, test) = (list(train, "")?, list(validation, "")?, list(test, "")?);
            divided(Rule::Files([&train.list, &validation.list, &test.list]), &[&train, &validation, &test])
        }
    }
}

/// The division that a column of the table gives.
pub(crate) fn given(records: &[ImageRecord], splits: &[Option<Split>]) -> Result<Division, Error> {
    Ok(Division { plan: plan(records, Rule::Given(splits))?, kind: SplitKind::Files, relabelled: 0 })
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
