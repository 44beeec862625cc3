//! Where a pickle has tensors by name: dicts at any place, and the modules of a whole model.

use std::borrow::Cow;
use std::collections::HashSet;

use super::value::{Id, Unpickled, Value, View};
use crate::weights::words::brief;

/// Tensors that are listed; ResNet-101 has 627.
const MAX_TENSORS: usize = 1 << 16;

/// Values that are looked into.
const MAX_VISITS: usize = 1 << 20;

/// How deep dicts lie in each other, and modules.
const MAX_DEPTH: usize = 16;

/// Values of a list or tuple that are looked into.
const MAX_ITEMS: usize = 16;

/// Bytes of a name; a longer one is no weight's.
const MAX_NAME: usize = 256;

/// A dict of tensors, or a module.
#[derive(Debug)]
pub(crate) struct Found<'u, 'a> {
    /// The keys that lead to it, joined by dots; empty for the outermost value.
    pub(crate) place: String,
    /// In the order of the file.
    pub(crate) tensors: Vec<(Cow<'a, str>, &'u View<'a>)>,
}

/// All of them, in the order of the file.
pub(crate) fn found<'u, 'a>(pickle: &'u Unpickled<'a>) -> Vec<Found<'u, 'a>> {
    let mut search = Search { pickle, seen: HashSet::new(), left: MAX_TENSORS, found: Vec::new() };
    search.look(pickle.root);
    search.found
}

struct Search<'u, 'a> {
    pickle: &'u Unpickled<'a>,
    seen: HashSet<Id>,
    /// Tensors that may still be listed.
    left: usize,
    found: Vec<Found<'u, 'a>>,
}

/// What a dict or a module has by name.
#[derive(Default)]
struct Inside<'u, 'a> {
    tensors: Vec<(Cow<'a, str>, &'u View<'a>)>,
    /// Values to look into.
    others: Vec<(String, Id)>,
}

impl<'u, 'a> Search<'u, 'a> {
    /// Whether the value is looked into for the first time, and there may be more.
    fn enter(&mut self, id: Id) -> bool {
        self.left > 0 && self.seen.len() < MAX_VISITS && self.seen.insert(id)
    }

    /// Looks into a value and, in their order, into those inside it.
    fn look(&mut self, root: Id) {
        let mut waiting = vec![(root, String::new(), 0)];
        while let Some((id, place, depth)) = waiting.pop() {
            if !self.enter(id) {
                continue;
            }
            let mut inside = Inside::default();
            match self.pickle.get(id) {
                Value::Dict(entries) => self.split(entries, &mut inside),
                Value::Object(object) => {
                    self.split(&object.entries, &mut inside);
                    if let Some(state) = object.state {
                        self.module(state, "", &mut inside, 0);
                    }
                }
                Value::List(items) | Value::Tuple(items) => {
                    let items = items.iter().take(MAX_ITEMS).enumerate();
                    inside.others.extend(items.map(|(index, &id)| (index.to_string(), id)));
                }
                _ => {}
            }
            if depth < MAX_DEPTH {
                let below = |key: String| if place.is_empty() { key } else { format!("{place}.{key}") };
                waiting.extend(inside.others.into_iter().rev().map(|(key, id)| (id, below(key), depth + 1)));
            }
            if !inside.tensors.is_empty() {
                self.found.push(Found { place, tensors: inside.tensors });
            }
        }
    }

    /// Tensors of a dict, and what else it has by name.
    fn split(&mut self, entries: &'u [(Id, Id)], inside: &mut Inside<'u, 'a>) {
        for &(key, value) in entries {
            let Value::Text(key) = self.pickle.get(key) else { continue };
            match self.pickle.get(value) {
                Value::Tensor(view) => self.list(Cow::Borrowed(key), view, inside),
                Value::Dict(_) | Value::Object(_) | Value::List(_) | Value::Tuple(_) => self.later(key, value, inside),
                _ => {}
            }
        }
    }

    fn list(&mut self, name: Cow<'a, str>, view: &'u View<'a>, inside: &mut Inside<'u, 'a>) {
        if self.left > 0 && name.len() <= MAX_NAME {
            self.left -= 1;
            inside.tensors.push((name, view));
        }
    }

    fn later(&mut self, key: &str, value: Id, inside: &mut Inside<'u, 'a>) {
        if inside.others.len() < MAX_TENSORS && !self.seen.contains(&value) {
            inside.others.push((brief(key), value));
        }
    }

    /// The tensors of a module by their names in its state_dict, from its attributes: PyTorch keeps parameters, buffers
    /// and inner modules in dicts of their own, TorchScript has all of them as attributes.
    fn module(&mut self, state: Id, prefix: &str, inside: &mut Inside<'u, 'a>, depth: usize) {
        let Value::Dict(attributes) = self.pickle.get(state) else { return };
        if depth > MAX_DEPTH || !self.enter(state) {
            return;
        }
        for &(key, value) in attributes {
            let Value::Text(key) = self.pickle.get(key) else { continue };
            match (*key, self.pickle.get(value)) {
                ("_parameters" | "_buffers" | "_modules", Value::Dict(parts)) => {
                    for &(key, value) in parts {
                        if let Value::Text(key) = self.pickle.get(key) {
                            self.member(key, value, prefix, inside, depth);
                        }
                    }
                }
                (key, Value::Dict(_)) if depth == 0 => self.later(key, value, inside),
                (key, _) => self.member(key, value, prefix, inside, depth),
            }
        }
    }

    /// A tensor or module of a module.
    fn member(&mut self, key: &str, value: Id, prefix: &str, inside: &mut Inside<'u, 'a>, depth: usize) {
        if prefix.len() + key.len() > MAX_NAME {
            return;
        }
        match self.pickle.get(value) {
            Value::Tensor(view) => self.list(Cow::Owned(format!("{prefix}{key}")), view, inside),
            Value::Object(object) => {
                if let Some(state) = object.state {
                    self.module(state, &format!("{prefix}{key}."), inside, depth + 1);
                }
            }
            _ => {}
        }
    }
}
