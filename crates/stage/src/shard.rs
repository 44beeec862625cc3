//! One stage's work divided between processes, which may be on several machines that share a file system.
//!
//! A shard computes its share of a result and keeps it in the private folder of that result, under names that no other
//! share has, each file by one rename. It takes no lock, so that any number of shards are at work at once, and it publishes
//! nothing: the same command without `--shard` takes over what the shards kept, computes what is missing, and publishes.
//! The key of the result knows nothing of shards.

use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::replace::replace;
use crate::{Fail, Problem};

/// The most shards of a result.
const MOST: usize = 100_000;
/// How many missing shards are named.
const NAMED: usize = 20;
/// Name of the file that says into how many shards the work was divided last.
const COUNT: &str = "shards";

/// Flags of stages whose work can be divided.
#[allow(rustdoc::invalid_html_tags)] // the placeholders of --help
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Sharing {
    /// Compute share I of N, counted from 0, and publish nothing; without it, the same command publishes what the shards computed
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Publish what the shards computed, and refuse to compute what is missing (exit code 3)
    #[arg(long)]
    pub merge: bool,
}

/// One share of a stage's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// All shards of a work that is divided into `count`.
    pub fn all(count: usize) -> impl Iterator<Item = Shard> {
        (0..count).map(move |index| Shard { index, count })
    }

    /// Which of `total` pieces are this shard's: neighbours, and as many as any other shard has, or one less.
    pub fn range(self, total: usize) -> Range<usize> {
        self.index * total / self.count..(self.index + 1) * total / self.count
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match numbers {
            Some((index, count)) if index < count && count <= MOST => Ok(Shard { index, count }),
            Some((_, count)) if (1..=MOST).contains(&count) => {
                Err(format!("expected 0/{count} to {}/{count}: shards are counted from 0", count - 1))
            }
            _ => Err(format!("expected I/N, e.g. 0/8 to 7/8, with at most {MOST} shards")),
        }
    }
}

/// What shards keep of a result, and which share this process computes.
#[derive(Debug, Clone)]
pub struct Shards {
    stage: &'static str,
    folder: PathBuf,
    sharing: Sharing,
}

impl Shards {
    /// Those of a result of `stage` that keep their shares in `folder`.
    pub fn new(stage: &'static str, folder: PathBuf, sharing: Sharing) -> Shards {
        Shards { stage, folder, sharing }
    }

    /// The folder of what the shards keep; it may not exist yet. A file in it is whole or not there: who writes one does it by
    /// [`crate::replace`].
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The share that this process computes; `None`: the whole result, which it publishes.
    pub fn mine(&self) -> Option<Shard> {
        self.sharing.shard
    }

    /// The same of a share of the work: a rank's, which keeps its share as a shard does.
    pub(crate) fn of(&self, share: Shard) -> Shards {
        Shards { sharing: Sharing { shard: Some(share), merge: false }, ..self.clone() }
    }

    /// Notes into how many shards the work is divided.
    pub(crate) fn begin(&self, shard: Shard) -> Result<(), Fail> {
        replace(&self.folder, COUNT, |path| fs_err::write(path, format!("{}\n", shard.count)))?;
        Ok(())
    }

    /// Into how many shards the work was divided last.
    fn count(&self) -> Option<usize> {
        let text = fs_err::read_to_string(self.folder.join(COUNT)).ok()?;
        text.trim().parse().ok().filter(|count| (1..=MOST).contains(count))
    }

    /// With `--merge`, refuses a result of which shards are missing.
    ///
    /// # Errors
    /// The shards that are missing.
    pub fn check(&self, is_missing: impl Fn(Shard) -> bool) -> Result<(), Incomplete> {
        if !self.sharing.merge {
            return Ok(());
        }
        let count = self.count();
        let missing: Vec<Shard> = count.into_iter().flat_map(Shard::all).filter(|&shard| is_missing(shard)).collect();
        if count.is_some() && missing.is_empty() {
            return Ok(());
        }
        Err(Incomplete { stage: self.stage, folder: self.folder.clone(), count, missing })
    }

    /// Says that this shard is done, and which others are not.
    pub fn say(&self, is_missing: impl Fn(Shard) -> bool) {
        let Some(mine) = self.mine() else { return };
        let missing: Vec<Shard> = Shard::all(mine.count).filter(|&shard| is_missing(shard)).collect();
        match missing.is_empty() {
            true => tracing::info!(
                "{}: shard {mine} is done, and so are all others: the same command with --merge in place of --shard publishes",
                self.stage
            ),
            false => tracing::info!("{}: shard {mine} is done; not yet: {}", self.stage, list(&missing)),
        }
    }
}

/// A result that cannot be published because shards of it are missing.
#[derive(Debug)]
pub struct Incomplete {
    stage: &'static str,
    folder: PathBuf,
    /// Into how many shards the work was divided; `None`: none has run.
    count: Option<usize>,
    missing: Vec<Shard>,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Incomplete { stage, folder, count, missing } = self;
        match count {
            None => write!(f, "--merge: no shard of {stage} has run, there is none in {}", folder.display()),
            Some(count) => {
                write!(f, "--merge: {} of {count} shards of {stage} are missing: {}", missing.len(), list(missing))
            }
        }
    }
}

impl std::error::Error for Incomplete {}

impl Problem for Incomplete {
    fn kind(&self) -> ErrorKind {
        ErrorKind::NotFound
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "run {} --shard I/N for them, on the same kind of machine as this one; or leave --merge away: the command then computes what is missing",
            self.stage
        ))
    }
}

fn list(shards: &[Shard]) -> String {
    let named: Vec<String> = shards.iter().take(NAMED).map(Shard::to_string).collect();
    let more = shards.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_written_as_a_scheduler_counts() {
        let shard: Shard = "2/7".parse().unwrap();
        assert_eq!(shard.to_string(), "2/7");
        let refused = |text: &str| text.parse::<Shard>().unwrap_err();
        assert_eq!(refused("7/7"), "expected 0/7 to 6/7: shards are counted from 0");
        for text in ["", "3", "/", "a/b", "0/0", "-1/3", "1/100001", "1 / 3"] {
            assert_eq!(refused(text), "expected I/N, e.g. 0/8 to 7/8, with at most 100000 shards", "{text}");
        }
    }

    #[test]
    fn shares_have_everything_once_and_are_of_nearly_one_size() {
        for (total, count) in [(0, 3), (1, 3), (7, 7), (20, 7), (20, 1), (1000, 13)] {
            let shares: Vec<Range<usize>> = Shard::all(count).map(|shard| shard.range(total)).collect();
            let all: Vec<usize> = shares.iter().cloned().flatten().collect();
            assert_eq!(all, (0..total).collect::<Vec<_>>());
            assert!(
                shares.iter().all(|share| [total / count, total.div_ceil(count)].contains(&share.len())),
                "{shares:?}"
            );
        }
    }

    #[test]
    fn a_merge_names_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let shards = |shard: Option<&str>, merge| {
            let shard = shard.map(|text| text.parse().unwrap());
            Shards::new("attend", folder.path().join("a.partial"), Sharing { shard, merge })
        };
        let merge = shards(None, true);
        let fail = merge.check(|_| true).unwrap_err();
        assert!(fail.to_string().contains("no shard of attend has run"), "{fail}");
        let third = shards(Some("2/30"), false);
        third.begin(third.mine().unwrap()).unwrap();
        let fail = merge.check(|shard| shard.index % 10 == 4).unwrap_err();
        assert_eq!(fail.to_string(), "--merge: 3 of 30 shards of attend are missing: 4/30, 14/30, 24/30");
        assert_eq!(fail.kind(), ErrorKind::NotFound);
        assert!(merge.check(|_| true).unwrap_err().to_string().ends_with("18/30, 19/30 and 10 more"));
        merge.check(|_| false).unwrap();
        shards(None, false).check(|_| true).unwrap();
    }
}
