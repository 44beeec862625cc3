//! `store` lists runs and results, finds out where a file comes from, and removes what no run links to.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand};
use indicatif::HumanBytes;
use stage::inventory::{Inventory, Item, Kind, inventory, remove};
use stage::{EXIT_CODES, Fail, Outcome};

/// The store of results: list, find, clean up
///
/// Results lie in <ARTIFACTS_DIR>/store/<stage>/<key>/ and are shared by all runs; a run is a folder of links to them.
/// To forget a run, remove its folder; `store gc` then removes what no other run links to.
#[allow(rustdoc::invalid_html_tags)] // the placeholders of --help
#[derive(Parser)]
#[command(name = "store", version, after_help = EXIT_CODES)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Folder that holds the store and all runs
    #[arg(global = true, long, default_value = "artifacts", value_name = "DIR")]
    artifacts_dir: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// List runs with their stages, and what is unfinished or linked by no run
    Runs,
    /// Say which results hold a file with the same contents, e.g. a copied table
    Find {
        /// Any file
        file: PathBuf,
    },
    /// Remove results that no run links to, and unfinished work, after saying what and how much
    Gc {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Keep what was changed in the last so many days; fractions are allowed
        #[arg(long, default_value_t = 7.0, value_name = "DAYS")]
        keep_days: f64,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    stage::exit(|| {
        let text = match &args.command {
            Command::Runs => runs(&inventory(&args.artifacts_dir)?),
            Command::Find { file } => find(&inventory(&args.artifacts_dir)?, file)?,
            Command::Gc { dry_run, keep_days } => return gc(&args.artifacts_dir, *dry_run, *keep_days),
        };
        stage::print(&text)?;
        Ok(Outcome::Done)
    })
}

fn date(time: SystemTime) -> String {
    stage::rfc3339(time).replace('T', " ").replace('Z', "")
}

fn line(text: &mut String, run: &str, item: &Item) {
    let (key, date, size) = (&item.name[..8.min(item.name.len())], date(item.changed), HumanBytes(item.bytes));
    let headline = if item.at_work { "at work" } else { &item.headline };
    let _ = writeln!(text, "{run:<20} {:<9} {key:<8}  {date}  {:>11}  {headline}", item.stage, size.to_string());
}

/// Stages in pipeline order, then steps.
fn rank(stage: &str) -> usize {
    stage::STAGES.iter().position(|&name| name == stage).unwrap_or(stage::STAGES.len())
}

fn runs(inventory: &Inventory) -> String {
    let mut text = format!("{:<20} {:<9} {:<8}  {:<19}  {:>11}\n", "run", "stage", "key", "made (UTC)", "size");
    let mut names: Vec<&String> = inventory.items.iter().flat_map(|item| &item.linked_by).collect();
    names.sort();
    names.dedup();
    for name in names {
        let mut items: Vec<&Item> = inventory.items.iter().filter(|item| item.linked_by.contains(name)).collect();
        items.sort_by_key(|item| rank(&item.stage));
        items.into_iter().for_each(|item| line(&mut text, name, item));
    }
    let group = |item: &Item| match item.kind {
        Kind::Partial => Some("unfinished"),
        _ if !item.reached => Some("linked by no run (just gc removes it)"),
        _ => item.linked_by.is_empty().then_some("held by results of runs"),
    };
    for title in ["held by results of runs", "unfinished", "linked by no run (just gc removes it)"] {
        let items: Vec<&Item> = inventory.items.iter().filter(|&item| group(item) == Some(title)).collect();
        if !items.is_empty() {
            let _ = writeln!(text, "\n{title}");
            items.into_iter().for_each(|item| line(&mut text, &item.run, item));
        }
    }
    for (run, stage) in &inventory.old {
        let _ = writeln!(text, "\n{run}/{stage} is a folder that version 0.1 left; it is not touched");
    }
    for (run, stage) in &inventory.dangling {
        let _ = writeln!(text, "\n{run}/{stage} links to a result that is gone; just {stage} makes it again");
    }
    let total: u64 = inventory.items.iter().map(|item| item.bytes).sum();
    let _ = writeln!(text, "\n{} in the store", HumanBytes(total));
    text
}

fn find(inventory: &Inventory, file: &Path) -> Result<String, Fail> {
    let mut text = String::new();
    for (item, name) in inventory.find(file)? {
        let _ = writeln!(text, "{}/{name}  made by run {}", item.folder.display(), item.run);
    }
    if text.is_empty() {
        let error = anyhow::anyhow!("{}: no result in the store holds a file with these contents", file.display());
        return Err(Fail::missing(error));
    }
    Ok(text)
}

fn gc(artifacts: &Path, dry_run: bool, keep_days: f64) -> Result<Outcome, Fail> {
    let age = Duration::try_from_secs_f64(keep_days * 86_400.0)
        .map_err(|error| Fail::usage(anyhow::anyhow!("--keep-days {keep_days}: {error}")))?;
    let before = inventory(artifacts)?;
    let garbage = before.garbage(age);
    let mut text = String::new();
    garbage.iter().for_each(|item| line(&mut text, &item.run, item));
    let total: u64 = garbage.iter().map(|item| item.bytes).sum();
    let (count, size) = (garbage.len(), HumanBytes(total));
    let _ = match (garbage.is_empty(), dry_run) {
        (true, _) => writeln!(text, "nothing to remove"),
        (false, true) => writeln!(text, "would remove {count} folders, {size}"),
        (false, false) => writeln!(text, "removes {count} folders, {size}"),
    };
    stage::print(&text)?;
    if !garbage.is_empty() && !dry_run {
        let freed = remove(artifacts, age)?;
        stage::print(&format!("freed {}\n", HumanBytes(freed)))?;
    }
    Ok(Outcome::Done)
}
