//! Where `unsafe` stands in a file, macros included.

use std::path::Path;

use fs_err as fs;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What is unsafe in a file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsafety {
    /// Blocks: places that rely on something.
    pub(super) blocks: usize,
    /// Functions whose callers promise something.
    pub(super) functions: usize,
    /// `unsafe impl`, `unsafe trait`, `unsafe extern`, `#[unsafe(..)]`.
    pub(super) others: usize,
    /// Comments that say why a block or an `impl` is right.
    pub(super) reasons: usize,
}

impl Unsafety {
    /// Reads a source file.
    pub(super) fn of(path: &Path) -> Unsafety {
        let text = fs::read_to_string(path).unwrap();
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let reasons = text.lines().filter(|line| line.trim_start().starts_with("// SAFETY: ")).count();
        let mut found = Unsafety { reasons, ..Unsafety::default() };
        found.scan(tokens);
        found
    }

    fn scan(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Ident(ident) if ident == "unsafe" => match tokens.peek() {
                    Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => self.blocks += 1,
                    Some(TokenTree::Ident(next)) if next == "fn" => self.functions += 1,
                    _ => self.others += 1,
                },
                _ => {}
            }
        }
    }
}

#[test]
fn every_kind_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rs");
    let text = "
        //! unsafe { }
        unsafe fn f() {}
        // SAFETY: none is needed.
        unsafe impl Send for A {}
        macro_rules! m { () => {
            // SAFETY: as above.
            unsafe { f() }
        } }
        fn g() { let unsafe_code = \"unsafe {}\"; if true { unsafe { f() } } }
    ";
    fs::write(&path, text).unwrap();
    assert_eq!(Unsafety::of(&path), Unsafety { blocks: 2, functions: 1, others: 1, reasons: 2 });
}
