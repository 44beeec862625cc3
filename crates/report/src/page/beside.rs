//! The tables of what stands beside the run.

use cxr::metrics::{Cell as Key, Metric, Scope, Series, Subset};
use cxr::{Branch, Expert, Finding};
use tables::metrics::Row;

use super::content::Page;
use super::tables::{Cell, Line, Table, class, columns};
use crate::beside::COUNT;
use crate::results::title;

/// The class of lines that are sentences about the table, which the page has above it.
const ABOUT: &str = "about";

impl Page<'_> {
    /// The row of a cell, which is there.
    fn on(&self, series: impl Into<Series>, scope: Scope, metric: Metric, subset: &Subset) -> &Row {
        self.results.of_subset(series, scope, metric, subset, self.split)
    }

    /// The imported models, in the order in which they were measured.
    pub(super) fn peers(&self) -> impl Iterator<Item = &str> {
        let is_mean = |row: &&Row| {
            row.cell.series == Series::Peer && row.cell.scope == Scope::Mean && row.cell.metric == Metric::Auroc
        };
        self.results.rows().iter().filter(is_mean).filter_map(|row| match &row.cell.subset {
            Subset::Peer(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// What experts looked for, of which there are numbers.
    pub(super) fn experts(&self) -> impl Iterator<Item = Expert> {
        Expert::ALL.into_iter().filter(|&expert| {
            let (series, scope) = (Series::Nih, Scope::Expert(expert));
            let (metric, subset) = (Metric::Kappa, Subset::Experts);
            self.results.find(&Key { series, scope, metric, subset, split: self.split }).is_some()
        })
    }

    /// Begins with a line of class [`ABOUT`] for each model: which images count.
    pub(super) fn beside_peers(&self) -> Table {
        let defined = |name: &str| {
            let subset = Subset::Peer(name.to_owned());
            self.on(Series::Peer, Scope::Mean, Metric::FindingsDefined, &subset)
        };
        let about = |name: &str| {
            let counted = defined(name).reason.as_deref().and_then(|reason| reason.strip_prefix(COUNT));
            Line { name: format!("{name}: {}.", counted.unwrap_or_default()), class: ABOUT, cells: Vec::new() }
        };
        let mut rows: Vec<Line> = self.peers().map(about).collect();
        for name in self.peers() {
            let subset = Subset::Peer(name.to_owned());
            let mean = match defined(name).value.map(|value| value as usize) {
                Some(defined) if defined < Finding::COUNT => format!("Mean ({defined} of 14)"),
                _ => "Mean (14)".to_owned(),
            };
            for scope in self.results.scopes(self.split) {
                let of = |series: Series| self.on(series, scope, Metric::Auroc, &subset);
                let theirs = of(Series::Peer);
                let images = theirs.n_pos + theirs.n_neg + theirs.n_unknown;
                let mut cells = vec![Cell::plain(images), Cell::plain(theirs.n_pos), Cell::of(theirs)];
                for branch in Branch::ALL {
                    cells.push(Cell::of(of(branch.into())));
                    cells.push(Cell::signed(of(Series::AgainstPeer(branch))));
                    cells.push(Cell::p(
                        self.on(Series::AgainstPeer(branch), scope, Metric::AurocDelongP, &subset).value,
                    ));
                }
                let what = if scope == Scope::Mean { mean.clone() } else { title(scope) };
                rows.push(Line { name: format!("{name}: {what}"), class: class(scope), cells });
            }
        }
        let mut head = ["model", "images", "positives", "its AUROC"].map(str::to_owned).to_vec();
        for branch in Branch::ALL {
            head.extend([branch.to_string(), format!("{branch} \u{2212} it"), "p".to_owned()]);
        }
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        Table { title: "Imported models", head: columns(&head), rows }
    }

    pub(super) fn nih_against_experts(&self) -> Table {
        let rows = self.experts().map(|expert| {
            let of = |metric: Metric| self.on(Series::Nih, Scope::Expert(expert), metric, &Subset::Experts);
            let row = of(Metric::Kappa);
            let mut cells = vec![Cell::plain(row.n_pos + row.n_neg), Cell::plain(row.n_pos)];
            cells.extend([Metric::Sensitivity, Metric::Precision, Metric::Kappa].map(|metric| Cell::of(of(metric))));
            Line { name: title(Scope::Expert(expert)), class: "", cells }
        });
        let head = ["finding", "images", "positive by experts", "sensitivity", "PPV", "kappa"];
        Table { title: "NIH's labels against the experts'", head: columns(&head), rows: rows.collect() }
    }

    pub(super) fn branches_against_experts(&self) -> Table {
        let rows = self.experts().map(|expert| {
            let scope = Scope::Expert(expert);
            let cells = Branch::ALL.into_iter().flat_map(|branch| {
                [Subset::Experts, Subset::ExpertImages]
                    .map(|subset| Cell::of(self.on(branch, scope, Metric::Auroc, &subset)))
            });
            Line { name: title(scope), class: "", cells: cells.collect() }
        });
        let mut head = vec!["finding".to_owned()];
        for branch in Branch::ALL {
            head.extend([format!("{branch}, experts"), format!("{branch}, NIH")]);
        }
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        Table { title: "Branches by both kinds of truth", head: columns(&head), rows: rows.collect() }
    }
}
