//! What rank 0 tells the others of its decisions: only it asks the disk.

use anyhow::anyhow;

use crate::{Fail, Outcome};

/// A decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Compute.
    Work,
    /// There is nothing to compute.
    Stop(Outcome),
}

const DECISIONS: [Told; 4] =
    [Told::Work, Told::Stop(Outcome::Done), Told::Stop(Outcome::Current), Told::Stop(Outcome::Nothing)];

/// Rank 0 tells what it decided about the result with that key.
pub(crate) fn tell(key: &str, told: Told) {
    let number = DECISIONS.iter().position(|&known| known == told).unwrap_or_default();
    ranks::world().broadcast([&[number as u8], key.as_bytes()].concat());
}

/// Waits for what rank 0 decided about the result with that key.
///
/// # Errors
/// This rank is about to compute something else.
pub(crate) fn told(key: &str) -> Result<Told, Fail> {
    let said = ranks::world().broadcast(Vec::new());
    match said.split_first() {
        Some((&number, theirs)) if theirs == key.as_bytes() => {
            DECISIONS.get(usize::from(number)).copied().ok_or_else(|| Fail::failed(anyhow!("decision {number}")))
        }
        theirs => {
            let theirs = theirs.map(|(_, key)| String::from_utf8_lossy(key).into_owned()).unwrap_or_default();
            Err(Fail::failed(anyhow!("key {key}, expected {theirs}, which rank 0 has: other settings or inputs"))
                .hint("start the same command on every rank, with the same files"))
        }
    }
}
