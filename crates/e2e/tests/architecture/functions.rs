//! How long functions are, those of tests aside.

use std::path::Path;

use fs_err as fs;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ImplItemFn, ItemFn, ItemImpl, ItemMod, Signature, TraitItemFn};

use super::circles::for_tests;

/// A function, and its lines from `fn` to the last brace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Its name.
    pub(super) name: String,
    /// Where it begins, from 1.
    pub(super) line: usize,
    /// How many lines it has.
    pub(super) lines: usize,
}

/// All functions of a file but those of tests.
pub(super) fn functions(path: &Path) -> Vec<Function> {
    let text = fs::read_to_string(path).unwrap();
    functions_of(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn functions_of(text: &str) -> syn::Result<Vec<Function>> {
    let mut found = Found(Vec::new());
    found.visit_file(&syn::parse_file(text)?);
    Ok(found.0)
}

struct Found(Vec<Function>);

impl Found {
    fn add(&mut self, signature: &Signature, block: &Block) {
        let line = signature.fn_token.span.start().line;
        let lines = block.brace_token.span.close().end().line - line + 1;
        self.0.push(Function { name: signature.ident.to_string(), line, lines });
    }
}

fn counts(attributes: &[Attribute]) -> bool {
    !attributes.iter().any(for_tests)
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if counts(&item.attrs) {
            self.add(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if counts(&item.attrs) {
            self.add(&item.sig, &item.block);
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = item.default.as_ref().filter(|_| counts(&item.attrs)) {
            self.add(&item.sig, block);
            visit::visit_trait_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if counts(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if counts(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }
}

#[test]
fn functions_methods_and_defaults_but_no_tests() {
    let text = "
fn one() { \"}\" }
trait T { fn two(); fn three() {
    } }
impl T for X {
    pub fn four(
        &self, // }
    ) {
        fn five() {}
    }
}
#[cfg(test)]
mod tests { fn six() {} }
#[test]
fn seven() {}
";
    let found = functions_of(text).unwrap();
    let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
    assert_eq!(found, [("one", 2, 1), ("three", 3, 2), ("four", 6, 5), ("five", 9, 1)]);
}
