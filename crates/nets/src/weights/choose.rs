//! Which tensors of a file are the network's: found by their names, whatever dict they lie in and whatever is in front of
//! every name.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Tensors in one place of a file, by name and shape, not read yet.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    /// The keys that lead to it, joined by dots; empty for the outermost dict.
    pub(crate) place: String,
    /// In the order of the file.
    pub(crate) tensors: Vec<(Cow<'a, str>, Vec<usize>)>,
}

/// Parts that a prefix has at most: `module._orig_mod.` has 2.
const MAX_PARTS: usize = 8;

/// Where the network's tensors are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Index of the table.
    pub(crate) table: usize,
    /// What is in front of every name, with its dot; mostly empty.
    pub(crate) prefix: String,
    /// The network's names that are there.
    pub(crate) count: usize,
    /// Whether these are the averages of weights (EMA), by their place.
    pub(crate) averages: bool,
}

/// The places that have tensors of the network's names, the best first: that with most of the names, weights before their
/// averages, the order of the file.
pub(crate) fn choices(tables: &[Table], expected: &HashSet<&str>) -> Vec<Choice> {
    let mut choices: Vec<Choice> = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let mut known: HashMap<&str, usize> = HashMap::new(); // places in `choices`
        for (name, _) in &table.tensors {
            let dots = name.match_indices('.').map(|(at, _)| at + 1).take(MAX_PARTS);
            for at in [0].into_iter().chain(dots) {
                let (prefix, rest) = name.split_at(at);
                if !expected.contains(&*today(rest)) {
                    continue;
                }
                let place = *known.entry(prefix).or_insert_with(|| {
                    let averages = is_average(&table.place) || is_average(prefix);
                    choices.push(Choice { table: index, prefix: prefix.to_owned(), count: 0, averages });
                    choices.len() - 1
                });
                choices[place].count += 1;
            }
        }
    }
    choices.sort_by_key(|choice| (std::cmp::Reverse(choice.count), choice.averages)); // stable
    choices
}

/// `model_ema`, `ema_state_dict`, `ema.`
fn is_average(place: &str) -> bool {
    place.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| word.eq_ignore_ascii_case("ema"))
}

/// The name that a tensor of an old DenseNet file has today: `…denselayer1.norm.1.weight` is `…denselayer1.norm1.weight`.
pub(crate) fn today(name: &str) -> Cow<'_, str> {
    if let Some((layer, field)) = name.split_once(".denselayer") {
        for (old, new) in [(".norm.", ".norm"), (".conv.", ".conv")] {
            if let Some((number, rest)) = field.split_once(old) {
                return Cow::Owned(format!("{layer}.denselayer{number}{new}{rest}"));
            }
        }
    }
    Cow::Borrowed(name)
}
