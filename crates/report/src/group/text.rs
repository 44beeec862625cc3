//! A group in sentences, and as a short table on stdout.

use std::fmt::Write;

use cxr::Branch;
use cxr::metrics::{Metric, Pair, Scope, Series, Subset};
use tables::metrics::Row;

use super::arms::{Arm, Group};
use crate::results::{Results, interval, signed, signed_interval, value};

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

/// What an interval of a difference says: above 0, below 0, or neither.
fn verdict<'t>(row: &Row, [above, below, open]: [&'t str; 3]) -> &'t str {
    match (row.ci_low, row.ci_high) {
        (Some(low), _) if low > 0.0 => above,
        (_, Some(high)) if high < 0.0 => below,
        _ => open,
    }
}

fn difference(row: &Row) -> String {
    let between = signed_interval(row).map_or(String::new(), |between| format!(" ({between})"));
    format!("{}{between}, above 0 in {} seeds", signed(row), wins(row))
}

/// What follows from the numbers.
pub fn sentences(group: &Group, results: &Results) -> Vec<String> {
    let reference = &group.arms[0];
    let subset = group.subset(reference);
    let fusion = group.mean(results, Branch::Fusion, &subset);
    let between = interval(fusion).map_or(String::new(), |interval| format!(" ({interval})"));
    let name = if group.is_study() { format!("{}: ", reference.name) } else { String::new() };
    let spread = spread(fusion);
    let mut said = vec![format!("{name}mean AUROC of fusion {} {spread}{between}.", value(fusion))];
    let gain = group.mean(results, Pair::FusionGlobal, &subset);
    said.push(format!(
        "Fusion \u{2212} global is {}: {}.",
        difference(gain),
        verdict(
            gain,
            [
                "fusion is better",
                "fusion is worse",
                "these patients and seeds leave open whether there is a difference"
            ]
        )
    ));
    for (arm, subset) in group.others() {
        for branch in [Branch::Local, Branch::Fusion] {
            let row = group.mean(results, branch, &subset);
            let (reference, other) = (&reference.name, &arm.name);
            let better = format!("{reference} is better than {other}");
            let worse = format!("{reference} is worse than {other}");
            let open = "these patients and seeds leave open which is better";
            said.push(format!(
                "{branch}: {reference} \u{2212} {other} is {}: {}.",
                difference(row),
                verdict(row, [&better, &worse, open])
            ));
        }
    }
    said
}

/// The table for the terminal: mean AUROCs of every arm, and what follows.
pub fn text(group: &Group, results: &Results, confidence: f64) -> String {
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
    for (arm, subset) in group.others() {
        for branch in [Branch::Local, Branch::Fusion] {
            let name = format!("{branch}: {} - {}", group.arms[0].name, arm.name);
            line(&name, group.mean(results, branch, &subset), true);
        }
    }
    for sentence in sentences(group, results) {
        text.push_str(&sentence);
        text.push('\n');
    }
    text
}
