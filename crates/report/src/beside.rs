//! Rows of `metrics.parquet` about what stands beside the run: imported models, and the labels of experts.

use std::collections::{BTreeSet, HashSet};

use cxr::metrics::{Cell, Estimate, Metric, Sampled, Scope, Series, Subset};
use cxr::{Branch, Finding, OUTPUTS, Split};
use tables::metrics::Row;
use tables::predictions;

use crate::Error;
use crate::compare::{Comparison, Line, Side, compare};
use crate::experts::{Mapping, Panel};
use crate::plan::Plan;

/// What the reason of a peer's [`Metric::FindingsDefined`] begins with; which images count is behind it.
pub(crate) const COUNT: &str = "no interval of a count; ";

/// How many images a number rests on.
#[derive(Debug, Clone, Copy)]
struct Counts {
    pos: usize,
    neg: usize,
    all: usize,
}

/// A row; `otherwise` is why there is no value although there are positives and negatives.
fn row(cell: Cell, estimate: Estimate, counts: Counts, otherwise: &str) -> Row {
    let Counts { pos, neg, all } = counts;
    let reason = match (estimate.value, pos, neg) {
        (Some(_), ..) => None,
        (None, 0, _) => Some("no positives"),
        (None, _, 0) => Some("no negatives"),
        _ => Some(otherwise),
    };
    Row {
        cell,
        value: estimate.value,
        ci_low: estimate.low,
        ci_high: estimate.high,
        n_pos: pos as u64,
        n_neg: neg as u64,
        n_unknown: all.saturating_sub(pos + neg) as u64,
        undefined_draws: estimate.undefined as u64,
        reason: reason.map(str::to_owned),
        seeds: None,
    }
}

/// A row of a number that was drawn, which says why it has no interval, as [`crate::measure`] does.
fn drawn(cell: Cell, estimate: Estimate, counts: Counts, otherwise: &str, plan: &Plan) -> Row {
    let mut made = row(cell, estimate, counts, otherwise);
    if estimate.value.is_some() && estimate.low.is_none() && plan.bootstrap.draws > 0 {
        let reason = match made.cell.scope {
            Scope::Mean => "no interval: a finding is undefined in more than a tenth of the draws, drawn again or not",
            _ => "no interval: more than a tenth of the draws have only one class",
        };
        made.reason = Some(reason.to_owned());
    }
    made
}

/// The outputs that two patients or more show and two or more do not, among the images that both have in the split:
/// DeLong's variance needs them.
fn enough(ours: &[predictions::Row], theirs: &[predictions::Row], split: Split) -> [bool; OUTPUTS] {
    let there = theirs.iter().filter(|row| row.key.split == split).map(|row| row.key.image_id.as_str());
    let there: HashSet<&str> = there.collect();
    let mut patients: [[BTreeSet<u32>; 2]; OUTPUTS] = Default::default();
    for row in ours.iter().filter(|row| row.key.split == split && there.contains(row.key.image_id.as_str())) {
        for (classes, shown) in patients.iter_mut().zip(row.key.labels.outputs()) {
            if let Some(shown) = shown {
                classes[usize::from(shown)].insert(row.key.patient_id);
            }
        }
    }
    patients.map(|classes| classes.iter().all(|class| class.len() >= 2))
}

/// Which images count in a comparison with the model `peer`, and which are left out.
fn counted(comparison: &Comparison, peer: &str, split: Split) -> String {
    let Comparison { images, apart: [ours, theirs], seen, .. } = comparison;
    format!(
        "{images} {split} images count, which both have; left out: {ours} of this run that {peer} lacks, {theirs} of \
         {peer} that this run lacks, {seen} of {peer} on which this run was trained or chose its epoch"
    )
}

/// What is missing in a line, and why.
struct Why {
    /// Why there is no AUROC.
    auroc: &'static str,
    /// Why there is no p-value.
    p: &'static str,
}

impl Why {
    /// Of the line of `output`, that of the mean being behind those of the outputs.
    fn of(lines: &[Line], output: usize, peer: &Side, enough: &[bool; OUTPUTS]) -> Why {
        let line = &lines[output];
        let is_mean = line.scope == Scope::Mean;
        let auroc = match is_mean && peer.scored[..Finding::COUNT].contains(&true) {
            true => "no finding that it scores is defined",
            false => "no scores",
        };
        let few = |output: usize| lines[output].difference.value.is_some() && !enough[output];
        let few = if is_mean { (0..Finding::COUNT).any(few) } else { few(output) };
        let p = match (line.difference.value, few) {
            (None, _) => auroc,
            (Some(_), true) => "fewer than two patients of a class",
            (Some(_), false) => "the difference does not vary",
        };
        Why { auroc, p }
    }
}

/// The branches beside an imported model, on the images that both have.
///
/// # Errors
/// [`Error::Apart`] without common images; [`Error::RunLabels`] where labels differ; [`Error::Interrupted`].
pub fn peer(
    peer: &Side,
    branches: &[Vec<predictions::Row>; 3],
    run: &str,
    split: Split,
    plan: &Plan,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for branch in Branch::ALL {
        let ours = branches[branch as usize].clone();
        let enough = enough(&ours, &peer.rows, split);
        let side = Side { run: run.to_owned(), branch: Some(branch), rows: ours, scored: [true; OUTPUTS] };
        let comparison = compare(&[side, peer.clone()], split, plan)?;
        let lines = &comparison.lines;
        for (output, line) in lines.iter().enumerate() {
            let subset = Subset::Peer(peer.run.clone());
            let cell = |series, metric| Cell { series, scope: line.scope, metric, subset: subset.clone(), split };
            let counts = Counts { pos: line.n_pos, neg: line.n_neg, all: comparison.images };
            let why = Why::of(lines, output, peer, &enough);
            let [ours, theirs] = line.sides;
            rows.push(drawn(cell(branch.into(), Metric::Auroc), ours, counts, why.auroc, plan));
            if branch == Branch::Global {
                rows.push(drawn(cell(Series::Peer, Metric::Auroc), theirs, counts, why.auroc, plan));
            }
            if branch == Branch::Global && line.scope == Scope::Mean {
                let of_findings = lines[..Finding::COUNT].iter();
                let defined = of_findings.filter(|line| line.difference.value.is_some()).count();
                let value = Estimate { value: Some(defined as f64), ..Estimate::default() };
                let reason = format!("{COUNT}{}", counted(&comparison, &peer.run, split));
                let row = row(cell(Series::Peer, Metric::FindingsDefined), value, counts, why.auroc);
                rows.push(Row { reason: Some(reason), ..row });
            }
            let against = Series::AgainstPeer(branch);
            rows.push(drawn(cell(against, Metric::Auroc), line.difference, counts, why.auroc, plan));
            let p = Estimate { value: line.p, ..Estimate::default() };
            rows.push(row(cell(against, Metric::AurocDelongP), p, counts, why.p));
        }
    }
    Ok(rows)
}

/// NIH's labels against the experts', and every branch against both.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn experts(
    panel: &Panel,
    branches: &[Vec<predictions::Row>; 3],
    mapping: &Mapping,
    split: Split,
    plan: &Plan,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for agreement in panel.agreement(mapping, plan)? {
        let scope = Scope::Expert(agreement.expert);
        let of: [(Metric, &Sampled); 3] = [
            (Metric::Sensitivity, &agreement.sensitivity),
            (Metric::Precision, &agreement.precision),
            (Metric::Kappa, &agreement.kappa),
        ];
        let (pos, all) = (agreement.positives, agreement.images);
        for (metric, sampled) in of {
            let cell = Cell { series: Series::Nih, scope, metric, subset: Subset::Experts, split };
            let otherwise = if agreement.called == 0 { "NIH's labels call no image so" } else { "undefined" };
            let counts = Counts { pos, neg: all - pos, all };
            rows.push(drawn(cell, sampled.estimate(plan.confidence), counts, otherwise, plan));
        }
    }
    for branch in Branch::ALL {
        for judged in panel.judge(&branches[branch as usize], &[true; OUTPUTS], mapping, plan)? {
            let both = [(Subset::Experts, &judged.experts), (Subset::ExpertImages, &judged.nih)];
            for ((subset, sampled), pos) in both.into_iter().zip(judged.positives) {
                let scope = Scope::Expert(judged.expert);
                let cell = Cell { series: branch.into(), scope, metric: Metric::Auroc, subset, split };
                let counts = Counts { pos, neg: judged.images - pos, all: judged.images };
                rows.push(drawn(cell, sampled.estimate(plan.confidence), counts, "undefined", plan));
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use cxr::metrics::Bootstrap;
    use cxr::{ImageKey, Labels};

    use super::*;

    /// A row of patient `n`'s only image, with one score for all outputs.
    fn image(n: u32, split: Split, shown: &[Finding], score: f32) -> predictions::Row {
        let labels: Labels = shown.iter().copied().collect();
        let key = ImageKey { image_id: format!("{n:08}_000.png"), patient_id: n, split, labels };
        predictions::Row { key, logits: [score; OUTPUTS] }
    }

    /// Ten patients, five with a mass and the first with a hernia, whose scores are `score` of their numbers.
    fn images(split: Split, score: impl Fn(u32) -> f32) -> Vec<predictions::Row> {
        let shown = |n: u32| -> &'static [Finding] {
            match n {
                0 => &[Finding::Mass, Finding::Hernia],
                1..5 => &[Finding::Mass],
                _ => &[],
            }
        };
        (0..10).map(|n| image(n, split, shown(n), score(n))).collect()
    }

    fn rows(draws: usize) -> Vec<Row> {
        let falling = |n: u32| -(n as f32);
        let uneven = |n: u32| (n * 7 % 10) as f32;
        // The model scores mass, nodule and hernia; one of its images is not of the run, one was trained on.
        let mut theirs = images(Split::Test, falling);
        theirs.extend([image(20, Split::Test, &[], 0.0), image(30, Split::Test, &[], 0.0)]);
        let mut scored = [false; OUTPUTS];
        for finding in [Finding::Mass, Finding::Nodule, Finding::Hernia] {
            scored[finding.index()] = true;
        }
        let side = Side { run: "zoo".to_owned(), branch: None, rows: theirs, scored };
        let ours = |score: &dyn Fn(u32) -> f32| {
            let mut rows = images(Split::Test, score);
            rows.extend([image(30, Split::Train, &[], 0.0), image(40, Split::Test, &[], 0.0)]);
            rows
        };
        let branches = [ours(&uneven), ours(&uneven), ours(&falling)];
        let keep_going = || ControlFlow::<()>::Continue(());
        let bootstrap = Bootstrap { draws, seed: 1 };
        let plan = Plan { bootstrap, confidence: 0.95, keep_going: &keep_going };
        peer(&side, &branches, "demo", Split::Test, &plan).unwrap()
    }

    fn on(rows: &[Row], series: Series, scope: impl Into<Scope>, metric: Metric) -> Row {
        let (scope, subset) = (scope.into(), Subset::Peer("zoo".to_owned()));
        let cell = Cell { series, scope, metric, subset, split: Split::Test };
        rows.iter().find(|row| row.cell == cell).unwrap_or_else(|| panic!("{cell}")).clone()
    }

    #[test]
    fn what_counts_of_a_peer_is_said_once() {
        let rows = rows(0);
        let defined = on(&rows, Series::Peer, Scope::Mean, Metric::FindingsDefined);
        assert_eq!(defined.value, Some(2.0));
        assert_eq!(
            defined.reason.as_deref().and_then(|reason| reason.strip_prefix(COUNT)),
            Some(
                "10 test images count, which both have; left out: 1 of this run that zoo lacks, 1 of zoo that this run \
                 lacks, 1 of zoo on which this run was trained or chose its epoch"
            )
        );
        assert_eq!(rows.iter().filter(|row| row.cell.metric == Metric::FindingsDefined).count(), 1);
    }

    #[test]
    fn what_is_missing_says_why() {
        let drawn = rows(200);
        let p = |branch: Branch, scope: Scope| {
            let row = on(&drawn, Series::AgainstPeer(branch), scope, Metric::AurocDelongP);
            (row.value.is_some(), row.reason)
        };
        let because = |reason: &str| (false, Some(reason.to_owned()));
        let [mass, nodule, hernia, edema] =
            [Finding::Mass, Finding::Nodule, Finding::Hernia, Finding::Edema].map(Scope::from);
        assert_eq!(p(Branch::Global, mass), (true, None));
        // The fusion's scores are the model's.
        assert_eq!(p(Branch::Fusion, mass), because("the difference does not vary"));
        for scope in [hernia, Scope::Mean] {
            assert_eq!(p(Branch::Global, scope), because("fewer than two patients of a class"), "{scope}");
        }
        assert_eq!(p(Branch::Global, nodule), because("no positives"));
        assert_eq!(p(Branch::Global, edema), because("no positives"));
        assert_eq!(p(Branch::Global, Scope::NoFinding), because("no scores"));

        // One patient with a hernia is in two of three draws.
        for series in [Branch::Global.into(), Series::Peer, Series::AgainstPeer(Branch::Fusion)] {
            let row = on(&drawn, series, hernia, Metric::Auroc);
            assert!(row.value.is_some() && row.ci_low.is_none());
            let reason = "no interval: more than a tenth of the draws have only one class";
            assert_eq!(row.reason.as_deref(), Some(reason), "{series}");
        }
        assert_eq!(on(&drawn, Series::Peer, mass, Metric::Auroc).reason, None);
        // Who asks for no intervals misses none.
        assert_eq!(on(&rows(0), Series::Peer, hernia, Metric::Auroc).reason, None);
    }
}
