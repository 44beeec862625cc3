//! Which files of a crate import from which, and whether they do so in a circle.
//!
//! A name counts as imported from the file that defines it, whichever modules re-export it on the way: `crate::Error` is
//! an import of `error.rs` where `lib.rs` says `pub use error::Error`. `mod x;` alone imports nothing.
//! What is not seen: methods (they need no import) and names that macros make.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use fs_err as fs;
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Item, UseTree};

/// A module; the root is the first.
struct Module {
    file: PathBuf,
    parent: usize,
    children: BTreeMap<String, usize>,
    defined: BTreeSet<String>,
    /// Name here, and the path that it stands for.
    uses: Vec<(String, Vec<String>)>,
    /// Paths of `use ..::*`.
    globs: Vec<Vec<String>>,
    /// Paths outside `use`, and names without a path.
    paths: BTreeSet<Vec<String>>,
}

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Module(usize),
    /// Something that this module defines.
    Item(usize),
}

/// The modules of one crate: those of `lib.rs`, then those of its programs, which call the former by the crate's name.
pub(super) struct Modules {
    name: String,
    modules: Vec<Module>,
}

/// From file to file, and a path that says so.
pub(super) type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, String>>;

impl Modules {
    /// Reads the crate `name` whose sources lie in `src`.
    pub(super) fn read(name: &str, src: &Path) -> Modules {
        let mut modules = Modules { name: name.replace('-', "_"), modules: Vec::new() };
        let programs = fs::read_dir(src.join("bin")).into_iter().flatten().map(|entry| entry.unwrap().path());
        let roots = [src.join("lib.rs"), src.join("main.rs")].into_iter().chain(programs);
        for root in roots.filter(|root| root.is_file()) {
            let at = modules.add(root.clone(), modules.modules.len());
            modules.file(at, root.parent().unwrap());
        }
        modules
    }

    fn add(&mut self, file: PathBuf, parent: usize) -> usize {
        let (children, defined, paths) = Default::default();
        self.modules.push(Module { file, parent, children, defined, uses: Vec::new(), globs: Vec::new(), paths });
        self.modules.len() - 1
    }

    /// Reads the file of module `at`, whose children lie in `folder`.
    fn file(&mut self, at: usize, folder: &Path) {
        let path = self.modules[at].file.clone();
        let parsed = syn::parse_file(&fs::read_to_string(&path).unwrap());
        self.items(at, parsed.unwrap_or_else(|error| panic!("{}: {error}", path.display())).items, folder);
    }

    fn items(&mut self, at: usize, items: Vec<Item>, folder: &Path) {
        for item in items {
            let attributes = attributes(&item);
            if attributes.iter().any(for_tests) {
                continue;
            }
            match item {
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let named =
                        module.attrs.iter().find_map(path_of).map(|path| self.modules[at].file.with_file_name(path));
                    let beside = folder.join(format!("{name}.rs"));
                    let within = folder.join(&name).join("mod.rs");
                    let inline = module.content.is_some();
                    let file = match named {
                        _ if inline => self.modules[at].file.clone(),
                        Some(named) => named,
                        None if beside.exists() => beside,
                        None => within,
                    };
                    let child = self.add(file.clone(), at);
                    self.modules[at].children.insert(name.clone(), child);
                    let folder = match file.file_stem().filter(|_| !inline) {
                        Some(stem) if stem == "mod" => file.parent().unwrap().to_path_buf(),
                        _ => folder.join(&name),
                    };
                    match module.content {
                        Some((_, items)) => self.items(child, items, &folder),
                        None => self.file(child, &folder),
                    }
                }
                other => {
                    if let Some(name) = defines(&other) {
                        self.modules[at].defined.insert(name);
                    }
                    self.scan(at, other.into_token_stream());
                }
            }
        }
    }

    /// Notes every path and every `use` of `tokens`, those within functions and macros too.
    fn scan(&mut self, at: usize, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut next = 0;
        while next < tokens.len() {
            match &tokens[next] {
                TokenTree::Group(group) => self.scan(at, group.stream()),
                TokenTree::Ident(ident) if ident == "use" => {
                    let rest = tokens[next + 1..].iter();
                    let tree: TokenStream = rest.take_while(|token| !is(token, ';')).cloned().collect();
                    let length = tree.clone().into_iter().count();
                    // Not so in `impl Trait + use<'a>`, nor where it is a word of a macro.
                    if let Ok(tree) = syn::parse2::<UseTree>(tree) {
                        self.import(at, &mut Vec::new(), &tree);
                        next += length;
                    }
                }
                TokenTree::Ident(ident) => {
                    let mut path = vec![ident.to_string()];
                    let of_something = next > 0 && is(&tokens[next - 1], '.');
                    while let [colon, second, TokenTree::Ident(ident), ..] = &tokens[next + 1..]
                        && is(colon, ':')
                        && is(second, ':')
                    {
                        path.push(ident.to_string());
                        next += 3;
                    }
                    let of_something = of_something || tokens.get(next + 1).is_some_and(|token| is(token, ':'));
                    if path.len() > 1 || !of_something {
                        self.modules[at].paths.insert(path);
                    }
                }
                _ => {}
            }
            next += 1;
        }
    }

    fn import(&mut self, at: usize, path: &mut Vec<String>, tree: &UseTree) {
        let module = &mut self.modules[at];
        match tree {
            UseTree::Path(deeper) => {
                path.push(deeper.ident.to_string());
                self.import(at, path, &deeper.tree);
                path.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(at, path, tree)),
            UseTree::Glob(_) => module.globs.push(path.clone()),
            UseTree::Name(name) if name.ident == "self" => {
                module.uses.push((path.last().cloned().unwrap_or_default(), path.clone()));
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                module.uses.push((name.clone(), [path.as_slice(), &[name]].concat()));
            }
            UseTree::Rename(rename) => {
                let mut whole = path.clone();
                whole.extend(Some(rename.ident.to_string()).filter(|name| name != "self"));
                module.uses.push((rename.rename.to_string(), whole));
            }
        }
    }

    /// The root of the crate that module `at` is of.
    fn root(&self, mut at: usize) -> usize {
        while self.modules[at].parent != at {
            at = self.modules[at].parent;
        }
        at
    }

    /// What `path` means in module `at`; nothing where it leads out of the crate. `seen` breaks circles of re-exports.
    fn resolve(&self, at: usize, path: &[String], seen: &mut BTreeSet<(usize, String)>) -> BTreeSet<Place> {
        let Some((first, rest)) = path.split_first() else { return BTreeSet::from([Place::Module(at)]) };
        let module = &self.modules[at];
        match first.as_str() {
            "crate" => return self.resolve(self.root(at), rest, seen),
            "self" => return self.resolve(at, rest, seen),
            "super" => return self.resolve(module.parent, rest, seen),
            _ => {}
        }
        if let Some(&child) = module.children.get(first) {
            return self.resolve(child, rest, seen);
        }
        if module.defined.contains(first) {
            return BTreeSet::from([Place::Item(at)]);
        }
        if !seen.insert((at, first.clone())) {
            return BTreeSet::new();
        }
        let mut places = BTreeSet::new();
        for (_, stands_for) in module.uses.iter().filter(|(name, _)| name == first) {
            places.extend(self.resolve(at, stands_for, seen));
        }
        if places.is_empty() && !module.uses.iter().any(|(name, _)| name == first) {
            for glob in &module.globs {
                let whole: Vec<String> = glob.iter().cloned().chain([first.clone()]).collect();
                places.extend(self.resolve(at, &whole, seen));
            }
            if places.is_empty() && *first == self.name && self.root(at) != 0 {
                return self.resolve(0, rest, seen);
            }
        }
        let go_on = |place| match place {
            Place::Module(module) => self.resolve(module, rest, seen),
            Place::Item(_) => BTreeSet::from([place]),
        };
        places.into_iter().flat_map(go_on).collect()
    }

    /// Which files import from which.
    pub(super) fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (at, module) in self.modules.iter().enumerate() {
            let uses = module.uses.iter().map(|(_, path)| path);
            for path in uses.chain(&module.globs).chain(&module.paths) {
                for place in self.resolve(at, path, &mut BTreeSet::new()) {
                    let Place::Item(place) = place else { continue };
                    let file = &self.modules[place].file;
                    if *file != module.file {
                        let to = imports.entry(module.file.clone()).or_default();
                        to.entry(file.clone()).or_insert_with(|| path.join("::"));
                    }
                }
            }
        }
        imports
    }
}

/// The shortest circle through each file that lies on one, every circle once, as `a.rs (path) -> b.rs (path) -> a.rs`.
pub(super) fn circles(imports: &Imports, src: &Path) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut said = Vec::new();
    for start in imports.keys() {
        let Some(circle) = circle(imports, start) else { continue };
        if !known.insert(circle.iter().copied().collect::<BTreeSet<&Path>>()) {
            continue;
        }
        let short = |file: &Path| file.strip_prefix(src).unwrap_or(file).display().to_string();
        let mut text = String::new();
        for (at, file) in circle.iter().enumerate() {
            let next = circle[(at + 1) % circle.len()];
            text += &format!("{} ({}) -> ", short(file), imports[*file][next]);
        }
        said.push(text + &short(circle[0]));
    }
    said
}

/// The files on the shortest way from `start` to itself.
fn circle<'a>(imports: &'a Imports, start: &'a Path) -> Option<Vec<&'a Path>> {
    let mut from: BTreeMap<&Path, &Path> = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(file) = open.pop_front() {
        for next in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
            if next == start {
                let mut way = vec![file];
                while way[way.len() - 1] != start {
                    way.push(from[way[way.len() - 1]]);
                }
                way.reverse();
                return Some(way);
            }
            if !from.contains_key(next.as_path()) {
                from.insert(next, file);
                open.push_back(next);
            }
        }
    }
    None
}

fn is(token: &TokenTree, punctuation: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == punctuation)
}

/// `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, ..))]`.
pub(super) fn for_tests(attribute: &Attribute) -> bool {
    let text = attribute.to_token_stream().to_string().replace(' ', "");
    ["#[test]", "#[cfg(test)]", "#[cfg(all(test,"].iter().any(|beginning| text.starts_with(beginning))
}

/// What `#[path = ".."]` says.
fn path_of(attribute: &Attribute) -> Option<String> {
    let text = attribute.to_token_stream().to_string();
    attribute.path().is_ident("path").then(|| text.split('"').nth(1).map(str::to_owned)).flatten()
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name that an item gives to something.
fn defines(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Writes `files` into a folder, and says which circles are there.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    circles(&Modules::read("own", folder.path()).imports(), folder.path())
}

const NONE: [&str; 0] = [];

#[test]
fn two_files_that_import_each_other() {
    let a = "use crate::b::B; pub struct A(B);";
    let files = [("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", "pub struct B; fn f() { super::a::A::new(); }")];
    assert_eq!(circles_of(&files), ["a.rs (crate::b::B) -> b.rs (super::a::A::new) -> a.rs"]);
    let files = [("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", "pub struct B;")];
    assert_eq!(circles_of(&files), NONE);
}

#[test]
fn a_name_is_imported_from_where_it_is_defined() {
    let root = "mod a; mod b; mod error; pub use a::A; pub use error::{Error as Fault, Result};";
    let error = ("error.rs", "pub struct Error; pub type Result<T> = std::result::Result<T, Error>;");
    let a = ("a.rs", "use crate::{Fault, Result}; pub struct A;");
    assert_eq!(circles_of(&[("lib.rs", root), error, a, ("b.rs", "use super::A;")]), NONE);
    let back = ("error.rs", "use crate::A; pub struct Error(A); pub type Result<T> = std::result::Result<T, Error>;");
    let found = circles_of(&[("lib.rs", root), back, a, ("b.rs", "")]);
    assert_eq!(found, ["a.rs (crate::Fault) -> error.rs (crate::A) -> a.rs"]);
}

#[test]
fn a_child_that_imports_what_its_parent_defines() {
    let parent = "mod child; pub use child::Child; pub struct Own;";
    let child = ("parent/child.rs", "use super::Own; pub struct Child(Own);");
    let found = circles_of(&[("lib.rs", "mod parent;"), ("parent.rs", parent), child]);
    assert_eq!(found, ["parent/child.rs (super::Own) -> parent.rs (child::Child) -> parent/child.rs"]);
    let sibling = ("parent/child.rs", "use super::Other; pub struct Child(Other);");
    let parent = "mod child; mod other; pub use child::Child; pub use other::Other;";
    let files =
        [("lib.rs", "mod parent;"), ("parent/mod.rs", parent), sibling, ("parent/other.rs", "pub struct Other;")];
    assert_eq!(circles_of(&files), NONE);
}

#[test]
fn modules_as_names_globs_macros_and_functions() {
    let root = ("lib.rs", "mod a; mod b; mod c;");
    let b = ("b.rs", "pub fn b() { use crate::c; println!(\"{}\", c::C); }");
    let c = ("c.rs", "use super::a::*; pub const C: usize = helper();");
    let found = circles_of(&[root, ("a.rs", "use crate::b; pub fn helper() -> usize { b::b() }"), b, c]);
    assert_eq!(found, ["a.rs (b::b) -> b.rs (c::C) -> c.rs (helper) -> a.rs"]);
    assert_eq!(circles_of(&[root, ("a.rs", "use crate::b; pub fn helper() {}"), b, c]), NONE);
}

#[test]
fn tests_inline_modules_and_the_binary() {
    let a = "pub struct A; mod inner { use super::A; } #[cfg(test)] mod tests { use crate::b::B; }";
    let b = ("b.rs", "use crate::a::A; pub struct B(A); #[test] fn f() { crate::main(); }");
    let main = ("main.rs", "mod only; use own::B; fn main() { only::go() } struct Local;");
    let files = [("lib.rs", "mod a; mod b; pub use b::B;"), ("a.rs", a), b, main];
    let with = |only| circles_of(&[files.as_slice(), &[("only.rs", only)]].concat());
    assert_eq!(with("pub fn go() { own::B; }"), NONE);
    assert_eq!(with("pub fn go(_: crate::Local) {}").len(), 1);
}
