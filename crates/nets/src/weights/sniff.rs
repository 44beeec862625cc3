//! What a file is, by its first bytes and never by its name.

use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};
use crate::weights::safetensors::MAX_FILE;
use crate::weights::words::brief;

/// First bytes that are looked at; a tar archive says what it is at byte 257.
const START: u64 = 512;

/// The largest header of safetensors that the crate reads.
const MAX_HEADER: u64 = 100_000_000;

/// The pickle of the number 0x1950a86a20f9469cfc6c, which PyTorch wrote first before 1.6, without protocol and frame.
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Kinds of file that may have weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Safetensors,
    /// PyTorch's since 1.6: a zip of a pickle and its storages.
    Zip,
    /// PyTorch's before: pickles from this byte on, followed by storages.
    Legacy(usize),
    /// A pickle that `torch.save` did not write.
    Pickle,
}

/// The kind of a file.
///
/// # Errors
/// The disk; [`Error::NotWeights`] for anything else than weights, by what it is.
pub(crate) fn kind(path: &Path) -> Result<Kind> {
    let metadata = fs_err::metadata(path)?;
    let refuse = |what: &str, advice| Err(Error::NotWeights { path: path.to_owned(), what: what.to_owned(), advice });
    if metadata.is_dir() {
        return refuse("a folder", "name the file; a .pth that was unpacked must be downloaded again");
    }
    if !metadata.is_file() {
        return refuse("no regular file", "copy what it gives into a file");
    }
    if metadata.len() > MAX_FILE {
        return refuse(&format!("{} bytes, more than {MAX_FILE}", metadata.len()), "save the state_dict alone");
    }
    let mut start = Vec::new();
    guard::open(path)?.take(START).read_to_end(&mut start)?;
    match known(&start) {
        Some(kind) => Ok(kind),
        None => {
            let (what, advice) = stranger(&start);
            refuse(&what, advice)
        }
    }
}

/// Whether a file is safetensors, by its content; otherwise it is PyTorch's.
///
/// # Errors
/// The disk; [`Error::NotWeights`] for anything else, by what it is.
pub fn is_safetensors(path: &Path) -> Result<bool> {
    Ok(kind(path)? == Kind::Safetensors)
}

fn known(start: &[u8]) -> Option<Kind> {
    if start.starts_with(b"PK\x03\x04") {
        return Some(Kind::Zip);
    }
    if let [0x80, 2..=5, ..] = start {
        // protocol 4 and newer put a frame of 9 bytes around it
        let magic = |at: usize| start.get(at..).is_some_and(|rest| rest.starts_with(MAGIC));
        let end = [2, 11].into_iter().find(|&at| magic(at)).map(|at| at + MAGIC.len());
        return Some(end.map_or(Kind::Pickle, Kind::Legacy));
    }
    let header = start.first_chunk().map(|length| u64::from_le_bytes(*length));
    (header.is_some_and(|length| length <= MAX_HEADER) && start.get(8) == Some(&b'{')).then_some(Kind::Safetensors)
}

const AGAIN: &str = "download the file again";

/// What else it is, and what to do.
fn stranger(start: &[u8]) -> (String, &'static str) {
    let text = String::from_utf8_lossy(start);
    let lower = text.trim_start_matches('\u{feff}').trim_start().to_lowercase();
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| lower.starts_with(prefix));
    let what = if start.is_empty() {
        return ("an empty file, 0 bytes".to_owned(), AGAIN);
    } else if begins(&["version https://git-lfs"]) {
        return (
            "a Git LFS pointer, not the file that it stands for".to_owned(),
            "git lfs pull, in the folder that was cloned, fetches the file",
        );
    } else if begins(&["<!doctype html", "<html"]) {
        return (
            "an HTML page".to_owned(),
            "the download was answered by a page (a login, an error): download it again",
        );
    } else if begins(&["<"]) {
        return ("XML or HTML text".to_owned(), "the download was answered by a page: download it again");
    } else if start.starts_with(b"\x1f\x8b") {
        return ("a gzip file".to_owned(), "gunzip it, and tar -x it where it is a .tar.gz");
    } else if start.get(257..262) == Some(b"ustar") {
        return ("a tar archive".to_owned(), "unpack it and name the weights file in it");
    } else if start.starts_with(b"PK") {
        return ("an empty or split zip file".to_owned(), AGAIN);
    } else if start.starts_with(b"\x89HDF\r\n") {
        return ("an HDF5 file, as Keras writes them".to_owned(), "torchvision's and timm's weights are read");
    } else if start.starts_with(b"GGUF") {
        "a GGUF file"
    } else if begins(&["(dp", "(lp", "ccollections\n", "ccopy_reg\n", "ctorch", "(i"]) {
        return (
            "a Python pickle of protocol 0, which is text".to_owned(),
            "in Python, torch.save(torch.load(PATH), NEW) writes one that is read",
        );
    } else if begins(&["{", "["]) {
        "JSON text"
    } else if start.iter().all(|&byte| byte == 0) {
        return ("a file that begins with zeros only".to_owned(), AGAIN);
    } else if text.chars().all(|letter| letter != '\u{fffd}' && (letter >= ' ' || "\t\r\n".contains(letter))) {
        let first: String = text.trim_start().chars().take(20).collect();
        return (format!("text, which begins \"{}\"", brief(&first)), AGAIN);
    } else {
        let first: Vec<String> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        return (format!("neither a PyTorch nor a safetensors file: it begins {}", first.join(" ")), AGAIN);
    };
    (what.to_owned(), "torchvision's and timm's files are read, .pth and .safetensors")
}
