//! Rows of `metrics.parquet` about what stands beside the run: imported models, and the labels of experts.

use cxr::metrics::{Cell, Estimate, Metric, Sampled, Scope, Series, Subset};
use cxr::{Branch, OUTPUTS, Split};
use tables::metrics::Row;
use tables::predictions;

use crate::Error;
use crate::compare::{Comparison, Side, compare};
use crate::experts::{Mapping, Panel};
use crate::plan::Plan;

/// How many images a number rests on.
#[derive(Debug, Clone, Copy)]
struct Counts {
    pos: usize,
    neg: usize,
    all: usize,
}

fn row(cell: Cell, estimate: Estimate, counts: Counts) -> Row {
    let Counts { pos, neg, all } = counts;
    let reason = match (estimate.value, pos, neg) {
        (Some(_), ..) => None,
        (None, 0, _) => Some("no positives"),
        (None, _, 0) => Some("no negatives"),
        _ => Some("no scores"),
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
        let side = Side { run: run.to_owned(), branch: Some(branch), rows: ours, scored: [true; OUTPUTS] };
        let Comparison { images, lines, .. } = compare(&[side, peer.clone()], split, plan)?;
        for line in lines {
            let subset = Subset::Peer(peer.run.clone());
            let cell = |series, metric| Cell { series, scope: line.scope, metric, subset: subset.clone(), split };
            let counts = Counts { pos: line.n_pos, neg: line.n_neg, all: images };
            let [ours, theirs] = line.sides;
            rows.push(row(cell(branch.into(), Metric::Auroc), ours, counts));
            if branch == Branch::Global {
                rows.push(row(cell(Series::Peer, Metric::Auroc), theirs, counts));
            }
            let against = Series::AgainstPeer(branch);
            rows.push(row(cell(against, Metric::Auroc), line.difference, counts));
            let p = Estimate { value: line.p, ..Estimate::default() };
            rows.push(row(cell(against, Metric::AurocDelongP), p, counts));
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
            rows.push(row(cell, sampled.estimate(plan.confidence), Counts { pos, neg: all - pos, all }));
        }
    }
    for branch in Branch::ALL {
        for judged in panel.judge(&branches[branch as usize], &[true; OUTPUTS], mapping, plan)? {
            let both = [(Subset::Experts, &judged.experts), (Subset::ExpertImages, &judged.nih)];
            for ((subset, sampled), pos) in both.into_iter().zip(judged.positives) {
                let scope = Scope::Expert(judged.expert);
                let cell = Cell { series: branch.into(), scope, metric: Metric::Auroc, subset, split };
                let counts = Counts { pos, neg: judged.images - pos, all: judged.images };
                rows.push(row(cell, sampled.estimate(plan.confidence), counts));
            }
        }
    }
    Ok(rows)
}
