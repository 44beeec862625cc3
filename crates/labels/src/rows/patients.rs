//! Patients as tables name them, and as ours number them.

use std::collections::HashMap;

/// A number for each patient: the table's own where all are numbers (`00012` and `12.0` being 12), or else places in the
/// sorted order of their names, from 1; and whether they are places, of how many names.
pub(super) fn numbers(names: &[&str]) -> (Vec<u32>, Option<usize>) {
    let number = |text: &&str| text.strip_suffix(".0").unwrap_or(text).parse::<u32>().ok();
    if let Some(numbers) = names.iter().map(number).collect::<Option<Vec<u32>>>() {
        return (numbers, None);
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let count = sorted.len();
    let places: HashMap<&str, u32> = sorted.into_iter().zip(1..).collect();
    (names.iter().map(|name| places[name]).collect(), Some(count))
}
