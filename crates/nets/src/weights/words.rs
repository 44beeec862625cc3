//! How names out of a file are written into messages.

/// Letters of a name that a message has.
const LETTERS: usize = 80;

/// The start of a name, without control characters.
pub(crate) fn brief(name: &str) -> String {
    let mut text: String = name.chars().take(LETTERS).flat_map(char::escape_debug).collect();
    if name.chars().nth(LETTERS).is_some() {
        text.push('…');
    }
    text
}

/// The first five of some names, `none` where there is none.
pub(crate) fn sample<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let mut names = names.peekable();
    let first: Vec<String> = names.by_ref().take(SHOWN).map(brief).collect();
    match (first.is_empty(), names.peek()) {
        (true, _) => "none".to_owned(),
        (false, None) => first.join(", "),
        (false, Some(_)) => format!("{}, …", first.join(", ")),
    }
}
