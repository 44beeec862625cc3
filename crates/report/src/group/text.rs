//! A group in sentences, and as a short table on stdout.

use std::cmp::Ordering;
use std::fmt::Write;

use cxr::Branch;
use cxr::metrics::{Metric, Pair, Scope, Series, Subset};
use tables::metrics::Row;

use super::arms::{Arm, Group};
use crate::published::Dataset;
use crate::results::{Results, interval, sign, signed, signed_interval, value};

impl Group {
    /// Where the rows of an arm are.
    pub(crate) fn subset(&self, arm: &Arm) -> Subset {
        if self.is_study() { Subset::Arm(arm.name.clone()) } else { Subset::All }
    }

    /// The arms that the first one is compared with, and where the rows of the difference are.
    pub(crate) fn others(&self) -> impl Iterator<Item = (&Arm, Subset)> {
        let reference = &self.arms[0].name;
        self.arms[1..].iter().map(move |arm| (arm, Subset::Versus(reference.clone(), arm.name.clone())))
    }

    /// The branches in which other arms differ from the first one: what is equal, arms share.
    pub(crate) fn compared(&self, results: &Results) -> Vec<Branch> {
        let differs = |row: &Row| row.value != Some(0.0) || row.ci_low != row.ci_high;
        let somewhere =
            |branch: &Branch| self.others().any(|(_, subset)| differs(self.mean(results, *branch, &subset)));
        Branch::ALL.into_iter().filter(somewhere).collect()
    }

    /// What few seeds cannot say; `None` with three or more.
    pub(crate) fn few(&self) -> Option<String> {
        match self.seeds.len() {
            1 => {
                Some("One seed: intervals are over patients alone, and say nothing about another training.".to_owned())
            }
            count @ ..=2 => {
                Some(format!("{count} seeds say little about what others would give; hence wide intervals."))
            }
            _ => None,
        }
    }

    fn mean<'r>(&self, results: &'r Results, series: impl Into<Series>, subset: &Subset) -> &'r Row {
        results.of_subset(series, Scope::Mean, Metric::Auroc, subset, self.split)
    }
}

/// `3 of 5`: in how many seeds a difference is above 0.
pub(crate) fn wins(row: &Row) -> String {
    let of = |seeds: &tables::metrics::Seeds| Some(format!("{} of {}", seeds.above?, seeds.count));
    row.seeds.as_ref().and_then(of).unwrap_or_default()
}

/// `± 0.004`, the standard deviation over seeds; empty where there is none.
pub(crate) fn spread(row: &Row) -> String {
    row.seeds.and_then(|seeds| seeds.sd).map_or(String::new(), |sd| format!("\u{b1} {sd:.3}"))
}

/// The reference is better than, worse than, or not told apart from other arms, of one branch.
fn contrast(group: &Group, results: &Results, branch: Branch) -> Option<String> {
    let names = |wanted: Ordering| -> Vec<&str> {
        let is_it = |(_, subset): &(&Arm, Subset)| sign(group.mean(results, branch, subset)) == Some(wanted);
        group.others().filter(is_it).map(|(arm, _)| arm.name.as_str()).collect()
    };
    let said = [
        (Ordering::Greater, "better than with"),
        (Ordering::Less, "worse than with"),
        (Ordering::Equal, "not told apart by these patients and seeds from"),
    ];
    let parts = said.into_iter().filter_map(|(wanted, words)| {
        let names = names(wanted);
        (!names.is_empty()).then(|| format!("{words} {}", names.join(", ")))
    });
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| format!("{branch} with {}: {}.", group.arms[0].name, parts.join("; ")))
}

/// What follows from the numbers.
pub fn sentences(group: &Group, results: &Results) -> Vec<String> {
    let reference = &group.arms[0];
    let subset = group.subset(reference);
    let fusion = group.mean(results, Branch::Fusion, &subset);
    let between = interval(fusion).map_or(String::new(), |interval| format!(" ({interval})"));
    let name = if group.is_study() { format!("{}: ", reference.name) } else { String::new() };
    let mut said = vec![format!("{name}mean AUROC of fusion {} {}{between}.", value(fusion), spread(fusion))];
    let gain = group.mean(results, Pair::FusionGlobal, &subset);
    let verdict = sign(gain).map_or(String::new(), |sign| {
        let verdict = match sign {
            Ordering::Greater => "fusion is better",
            Ordering::Less => "fusion is worse",
            Ordering::Equal => "these patients and seeds leave open whether there is a difference",
        };
        format!(": {verdict}")
    });
    let between = signed_interval(gain).map_or(String::new(), |between| format!(" ({between})"));
    let why = if group.is_study() { " Whether attention is the reason, the other arms say." } else { "" };
    said.push(format!(
        "Fusion \u{2212} global is {}{between}, above 0 in {} seeds{verdict}.{why}",
        signed(gain),
        wins(gain)
    ));
    said.extend(group.compared(results).into_iter().filter_map(|branch| contrast(group, results, branch)));
    said
}

/// The table for the terminal: mean AUROCs of every arm, and what follows.
pub fn text(group: &Group, results: &Results, dataset: &Dataset, confidence: f64) -> String {
    let cohort = group.cohort();
    let seeds = group.seeds.len();
    let mut text = format!(
        "Mean AUROC on {} {} images of {} patients, {seeds} {} [{} % interval over patients{}]\n",
        cohort.len(),
        group.split,
        cohort.patient_count(),
        if seeds == 1 { "seed" } else { "seeds" },
        (confidence * 1e4).round() / 100.0,
        if seeds == 1 { "" } else { " and seeds" },
    );
    let mut line = |name: &str, row: &Row, signs: bool| {
        let (value, interval) = match signs {
            true => (signed(row), signed_interval(row)),
            false => (value(row), interval(row)),
        };
        let interval = interval.map_or(String::new(), |interval| format!("[{interval}]"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<36}{value:>8} {:<9} {interval:<20} {}", spread(row), wins(row));
    };
    for arm in &group.arms {
        let subset = group.subset(arm);
        let of = |series: &str| if group.is_study() { format!("{}: {series}", arm.name) } else { series.to_owned() };
        for branch in Branch::ALL {
            line(&of(branch.name()), group.mean(results, branch, &subset), false);
        }
        line(&of("ensemble of the fusions"), group.mean(results, Series::Ensemble, &subset), false);
        line(&of("fusion - global"), group.mean(results, Pair::FusionGlobal, &subset), true);
        line(&of("fusion - local"), group.mean(results, Pair::FusionLocal, &subset), true);
        line(&of("ensemble - fusion"), group.mean(results, Series::EnsembleGain, &subset), true);
    }
    let compared = group.compared(results);
    for (arm, subset) in group.others() {
        for &branch in &compared {
            let name = format!("{branch}: {} - {}", group.arms[0].name, arm.name);
            line(&name, group.mean(results, branch, &subset), true);
        }
    }
    let not_comparable = dataset.not_comparable().map(|why| format!("Not comparable with published results: {why}."));
    for sentence in sentences(group, results).into_iter().chain(group.few()).chain(not_comparable) {
        text.push_str(&sentence);
        text.push('\n');
    }
    text
}
