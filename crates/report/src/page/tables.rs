//! The page's tables, row by row from [`crate::results::Results`].

use std::collections::BTreeMap;

use cxr::metrics::decision::Criterion;
use cxr::metrics::{Decision, Metric, Overlap, Pair, Scope, Series, Subset};
use cxr::{Branch, Finding};
use serde::Serialize;
use tables::metrics::Row;

use super::content::Page;
use crate::Error;
use crate::published::{self, Chosen, Kind};
use crate::results::{interval, known, p_value, series_title, signed, signed_interval, subset_title, title, value};

/// A table as the template draws it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) head: Vec<Column>,
    pub(super) rows: Vec<Line>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Column {
    name: String,
    /// Whether its cells are text, which begins at the left.
    text: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) class: &'static str,
    pub(super) cells: Vec<Cell>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) small: String,
    pub(super) class: &'static str,
}

impl Cell {
    pub(super) fn plain(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), ..Cell::default() }
    }

    pub(super) fn text(text: &str, wide: bool) -> Cell {
        Cell { text: text.to_owned(), class: if wide { "text wide" } else { "text" }, ..Cell::default() }
    }

    /// A p-value, or a dash where there is none.
    pub(super) fn p(p: Option<f64>) -> Cell {
        Cell::plain(p.map_or("\u{2014}".to_owned(), p_value))
    }

    /// A value with its interval.
    pub(super) fn of(row: &Row) -> Cell {
        Cell {
            text: value(row),
            small: interval(row).unwrap_or_default(),
            class: if row.value.is_none() { "undefined" } else { "" },
        }
    }

    /// A difference with its interval, bold where that excludes 0.
    pub(super) fn signed(row: &Row) -> Cell {
        let clear = matches!((row.ci_low, row.ci_high), (Some(low), Some(high)) if low > 0.0 || high < 0.0);
        Cell {
            text: if row.value.is_some() { signed(row) } else { "undefined".to_owned() },
            small: signed_interval(row).unwrap_or_default(),
            class: match row.value {
                None => "undefined",
                _ if clear => "best",
                _ => "",
            },
        }
    }
}

pub(super) fn class(scope: Scope) -> &'static str {
    match scope {
        Scope::Mean | Scope::All => "mean",
        Scope::NoFinding => "aside",
        Scope::Finding(_) | Scope::Expert(_) => "",
    }
}

pub(super) fn columns(names: &[&str]) -> Vec<Column> {
    let text = |name: &str| ["input px", "split", "epoch chosen on", "source", "run", "what it is"].contains(&name);
    names.iter().map(|&name| Column { name: name.to_owned(), text: text(name) }).collect()
}

/// A first column or two, a column per branch, and one per difference.
fn with_series(first: &[&str]) -> Vec<Column> {
    let series: Vec<String> = Series::scored().map(series_title).collect();
    columns(&first.iter().copied().chain(series.iter().map(String::as_str)).collect::<Vec<_>>())
}

/// A number of every branch and every difference.
fn of_series<'r>(row: impl Fn(Series) -> &'r Row) -> impl Iterator<Item = Cell> {
    Series::scored().map(move |series| match series {
        Series::Pair(_) => Cell::signed(row(series)),
        _ => Cell::of(row(series)),
    })
}

/// Behind the name of a model whose epoch was chosen on the test list.
const CHOSEN_ON_TEST: &str = " \u{2020}";

impl Page<'_> {
    fn row(&self, series: impl Into<Series>, scope: impl Into<Scope>, metric: Metric) -> &Row {
        self.results.get(series, scope, metric, self.split)
    }

    fn positives(&self, scope: impl Into<Scope>) -> Cell {
        let row = self.row(Branch::Global, scope, Metric::Auroc);
        Cell { small: known(row).unwrap_or_default(), ..Cell::plain(row.n_pos) }
    }

    /// All tables by the name that the template uses.
    pub(super) fn tables(&self) -> Result<BTreeMap<&'static str, Table>, Error> {
        let published = published::all()?;
        let mut tables = BTreeMap::from([
            ("headline", self.headlines()),
            ("official", self.published(&published.results, Kind::Official)),
            ("other", self.published(&published.results, Kind::Other)),
            ("auroc", self.ranked(Metric::Auroc)),
            ("average_precision", self.ranked(Metric::AveragePrecision)),
            ("youden", self.decisions(Criterion::Youden)),
            ("f1", self.decisions(Criterion::F1)),
            ("calibration", self.calibration()),
            ("calibration_fusion", self.calibration_fusion()),
            ("subgroups", self.subgroups()),
            ("training", self.training()),
            ("localisation", self.published_localisation(&published.localisation)),
            ("sweep", self.swept()),
            ("provenance", self.stages()),
        ]);
        if self.peers().next().is_some() {
            tables.insert("peers", self.beside_peers());
        }
        if self.experts().next().is_some() {
            tables.insert("experts_nih", self.nih_against_experts());
            tables.insert("experts", self.branches_against_experts());
        }
        if self.boxed().next().is_some() {
            tables.insert("boxes", self.boxes());
            tables.insert("overlaps", self.overlaps());
        }
        Ok(tables)
    }

    fn headlines(&self) -> Table {
        let rows = Branch::ALL.into_iter().map(|branch| {
            let mut cells = vec![self.positives(Scope::Mean)];
            cells.extend(Metric::RANKED.map(|metric| Cell::of(self.row(branch, Scope::Mean, metric))));
            match Pair::ALL.into_iter().find(|pair| pair.other() == branch) {
                Some(pair) => {
                    cells.push(Cell::signed(self.row(pair, Scope::Mean, Metric::Auroc)));
                    cells.push(Cell::p(self.row(pair, Scope::Mean, Metric::AurocDelongP).value));
                }
                None => cells.extend([Cell::p(None), Cell::p(None)]),
            }
            Line { name: branch.to_string(), class: if branch == Branch::Fusion { "mean" } else { "" }, cells }
        });
        let head = [
            "branch",
            "images with a finding",
            "mean AUROC",
            "mean average precision",
            "fusion \u{2212} this, AUROC",
            "p",
        ];
        Table { title: "Headline", head: columns(&head), rows: rows.collect() }
    }

    fn published(&self, results: &[published::Published], kind: Kind) -> Table {
        let input = self.frame.input_px.to_string();
        let lines = published::block(results, kind, self.dataset, self.results, self.split, &input);
        let rows = lines.into_iter().map(|line| Line {
            name: line.model + if line.chosen == Chosen::Test && !line.ours { CHOSEN_ON_TEST } else { "" },
            class: if line.ours { "ours" } else { "" },
            cells: vec![
                Cell { text: line.text, small: line.spread, class: "" },
                Cell::text(&line.input, false),
                Cell::text(&line.detail, false),
                Cell { small: line.chosen_source, ..Cell::text(line.chosen.text(), false) },
                Cell::text(&line.source, true),
            ],
        });
        let head = columns(&["model", "mean AUROC", "input px", "split", "epoch chosen on", "source"]);
        let title = match kind {
            Kind::Official => "Published results, official split",
            Kind::Other => "Published results, other splits",
        };
        Table { title, head, rows: rows.collect() }
    }

    fn ranked(&self, metric: Metric) -> Table {
        let is_auroc = metric == Metric::Auroc;
        let rows = self.results.scopes(self.split).into_iter().map(|scope| {
            let of_branch = |branch: Branch| self.row(branch, scope, metric).value;
            let best = Branch::ALL.into_iter().filter_map(of_branch).fold(f64::NEG_INFINITY, f64::max);
            let mut cells = vec![self.positives(scope)];
            cells.extend(of_series(|series| self.row(series, scope, metric)));
            for branch in Branch::ALL.into_iter().filter(|&branch| of_branch(branch) == Some(best)) {
                cells[1 + branch as usize].class = "best";
            }
            if is_auroc {
                cells.extend(Pair::ALL.map(|pair| Cell::p(self.row(pair, scope, Metric::AurocDelongP).value)));
            }
            Line {
                name: if scope == Scope::Mean { self.mean_title() } else { title(scope) },
                class: class(scope),
                cells,
            }
        });
        let mut head = with_series(&["finding", "positives"]);
        if is_auroc {
            head.extend(columns(&["p, global", "p, local"]));
        }
        Table { title: if is_auroc { "AUROC" } else { "Average precision" }, head, rows: rows.collect() }
    }

    fn decisions(&self, criterion: Criterion) -> Table {
        let rows = self.results.scopes(self.split).into_iter().map(|scope| {
            let of = |decision: Decision| match (decision, scope) {
                // A mean of thresholds would mean nothing.
                (Decision::Threshold, Scope::Mean) => Cell::default(),
                _ => Cell::of(self.row(Branch::Fusion, scope, Metric::Decision(decision, criterion))),
            };
            let cells = std::iter::once(self.positives(scope)).chain(Decision::ALL.map(of)).collect();
            Line { name: title(scope), class: class(scope), cells }
        });
        let head = ["finding", "positives", "threshold", "sensitivity", "specificity", "precision", "F1"];
        let title = match criterion {
            Criterion::Youden => "Decisions by Youden's J",
            Criterion::F1 => "Decisions by F1",
        };
        Table { title, head: columns(&head), rows: rows.collect() }
    }

    fn calibration(&self) -> Table {
        let rows = Branch::ALL.into_iter().map(|branch| {
            let of = |metric: Metric| Cell::of(self.row(branch, Scope::Mean, metric));
            let mut cells = vec![self.positives(Scope::Mean)];
            cells.extend([Metric::Brier, Metric::Ece].map(of));
            cells.push(Cell::of(self.row(branch, Scope::All, Metric::Temperature)));
            cells.extend([Metric::BrierScaled, Metric::EceScaled].map(of));
            Line { name: branch.to_string(), class: if branch == Branch::Fusion { "mean" } else { "" }, cells }
        });
        let head = [
            "branch",
            "images with a finding",
            "Brier score",
            "ECE",
            "temperature",
            "Brier score, scaled",
            "ECE, scaled",
        ];
        Table { title: "Calibration", head: columns(&head), rows: rows.collect() }
    }

    fn calibration_fusion(&self) -> Table {
        let rows = self.results.scopes(self.split).into_iter().map(|scope| {
            let of = |metric: Metric| Cell::of(self.row(Branch::Fusion, scope, metric));
            let mut cells = vec![self.positives(scope)];
            cells.extend([Metric::Brier, Metric::Ece, Metric::BrierScaled, Metric::EceScaled].map(of));
            Line { name: title(scope), class: class(scope), cells }
        });
        let head = ["finding", "positives", "Brier score", "ECE", "Brier score, scaled", "ECE, scaled"];
        Table { title: "Calibration of the fusion, every finding", head: columns(&head), rows: rows.collect() }
    }

    fn subgroups(&self) -> Table {
        let rows = self.results.subsets(self.split).into_iter().map(|subset| {
            let of = |series: Series, metric: Metric| {
                self.results.of_subset(series, Scope::Mean, metric, subset, self.split)
            };
            let first = of(Branch::Global.into(), Metric::Auroc);
            let defined = of(Branch::Global.into(), Metric::FindingsDefined);
            let mut cells = vec![
                Cell::plain(first.n_pos + first.n_neg + first.n_unknown),
                Cell::plain(first.n_pos),
                Cell::plain(defined.value.unwrap_or(0.0)),
            ];
            cells.extend(of_series(|series| of(series, Metric::Auroc)));
            let class = if *subset == Subset::All { "mean" } else { "" };
            Line { name: subset_title(subset), class, cells }
        });
        let head = with_series(&["images of", "images", "with a finding", "findings defined"]);
        Table { title: "Mean AUROC of subgroups", head, rows: rows.collect() }
    }

    fn training(&self) -> Table {
        let rows = Branch::ALL.into_iter().zip(self.epochs).map(|(branch, epochs)| {
            let best = epochs.iter().find(|row| row.best);
            let dash = || "\u{2014}".to_owned();
            let number = |value: Option<f64>| Cell::plain(value.map_or_else(dash, |value| format!("{value:.3}")));
            Line {
                name: branch.to_string(),
                class: "",
                cells: vec![
                    Cell::plain(epochs.len()),
                    Cell::plain(best.map_or_else(dash, |row| row.epoch.to_string())),
                    number(best.and_then(|row| row.validation_auroc)),
                    number(best.map(|row| row.train_loss)),
                    number(best.and_then(|row| row.validation_loss)),
                ],
            }
        });
        let head = ["stage", "epochs", "published epoch", "its validation AUROC", "training loss", "validation loss"];
        Table { title: "Training", head: columns(&head), rows: rows.collect() }
    }

    fn swept(&self) -> Table {
        let rows = self.sweep.iter().map(|entry| {
            let mut cells: Vec<Cell> = of_series(|series| entry.mean(series)).collect();
            cells.push(Cell::of(entry.fallback_rate()));
            Line { name: entry.threshold.clone(), class: "", cells }
        });
        let mut head = with_series(&["threshold"]);
        head.extend(columns(&["whole image"]));
        Table { title: "Mean AUROC by threshold", head, rows: rows.collect() }
    }

    /// Findings that have boxes, then all of them together; nothing without boxes.
    fn boxed(&self) -> impl Iterator<Item = Scope> {
        let scopes = Finding::ALL.map(Scope::from).into_iter().chain([Scope::All]);
        scopes.filter(|&scope| self.results.located(Series::Attention, scope, Metric::HitRate, self.split).is_some())
    }

    fn boxes(&self) -> Table {
        let metrics = [
            Metric::PointingGame,
            Metric::HitRate,
            Metric::AttentionArea,
            Metric::Iou,
            Metric::IouAt(Overlap::THREE_TENTHS),
            Metric::IouAt(Overlap::HALF),
            Metric::Iobb,
        ];
        let scopes = self.boxed().flat_map(|scope| self.localised().map(move |series| (scope, series)));
        let rows = scopes.map(|(scope, series)| {
            let of = |metric: Metric| self.row(series, scope, metric);
            let mut cells = vec![Cell::plain(of(Metric::HitRate).n_pos)];
            cells.extend(metrics.map(|metric| match (metric, scope) {
                // Of all images, not of those with boxes: said above the table.
                (Metric::AttentionArea, Scope::All) if series == Series::Attention => Cell::default(),
                _ => Cell::of(of(metric)),
            }));
            let name = match series {
                Series::ClassMap => format!("{}, class map", title(scope)),
                _ => title(scope),
            };
            Line { name, class: class(scope), cells }
        });
        let head = [
            "finding",
            "boxes",
            "pointing game",
            "box's centre in region",
            "area of region",
            "mean IoU",
            "IoU > 0.3",
            "IoU > 0.5",
            "mean IoBB",
        ];
        Table { title: "Localisation", head: columns(&head), rows: rows.collect() }
    }

    /// What was held against boxes: the attended regions, and the class activation maps where there are any.
    fn localised(&self) -> impl Iterator<Item = Series> {
        let there = |&series: &Series| self.results.located(series, Scope::All, Metric::HitRate, self.split).is_some();
        [Series::Attention, Series::ClassMap].into_iter().filter(there).collect::<Vec<_>>().into_iter()
    }

    fn overlaps(&self) -> Table {
        let rows = self.boxed().flat_map(|scope| {
            let series = self.localised().flat_map(|series| Metric::SHARES.map(|share| (series, share)));
            let lines = series.map(move |(series, (metric, label))| {
                let of = |overlap: Overlap| Cell::of(self.row(series, scope, metric(overlap)));
                let whose = if series == Series::ClassMap { ", class map" } else { "" };
                let name = format!("{}, {label}{whose}", title(scope));
                Line { name, class: class(scope), cells: Overlap::ALL.map(of).into() }
            });
            lines.collect::<Vec<_>>()
        });
        let names = Overlap::ALL.map(|overlap| format!("> {overlap}"));
        let head: Vec<&str> = std::iter::once("share of boxes with").chain(names.iter().map(String::as_str)).collect();
        Table { title: "Overlaps", head: columns(&head), rows: rows.collect() }
    }

    fn published_localisation(&self, published: &[published::Localisation]) -> Table {
        let mut rows: Vec<Line> = published
            .iter()
            .map(|line| Line {
                name: line.model.clone(),
                class: "",
                cells: vec![
                    Cell::plain(format!("{:.2}", line.iou_at_03)),
                    Cell::plain(format!("{:.2}", line.iou_at_05)),
                    Cell::text(&line.source, true),
                ],
            })
            .collect();
        if self.refusal.is_none() && self.boxed().next().is_some() {
            let source = match self.dataset.not_comparable() {
                Some(_) => "not comparable, see the top".to_owned(),
                None => "this report".to_owned(),
            };
            for series in self.localised() {
                let row =
                    |overlap: Overlap| self.results.located(series, Scope::Mean, Metric::LocAccAt(overlap), self.split);
                let of = |overlap: Overlap| row(overlap).map(Cell::of).unwrap_or_default();
                let cells = vec![of(Overlap::THREE_TENTHS), of(Overlap::HALF), Cell::text(&source, true)];
                let what = match series {
                    Series::ClassMap => "class activation maps",
                    _ => self.region(),
                };
                rows.push(Line { name: format!("this run: {what}"), class: "ours", cells });
            }
        }
        let nothing = self.results.located(Series::Attention, Scope::Mean, Metric::LocAccNothing, self.split);
        if let Some(row) = nothing.filter(|_| self.refusal.is_none()) {
            let cells = vec![Cell::of(row), Cell::of(row), Cell::text("by counting boxes", true)];
            rows.push(Line { name: "nothing predicted".to_owned(), class: "", cells });
        }
        let head = ["model", "accuracy at IoU > 0.3", "accuracy at IoU > 0.5", "source"];
        Table { title: "Published localisation", head: columns(&head), rows }
    }

    fn stages(&self) -> Table {
        let rows = self.provenance.iter().map(|stage| Line {
            name: stage.stage.clone(),
            class: "",
            cells: vec![
                Cell::plain(&stage.key[..12.min(stage.key.len())]),
                Cell::plain(stage.version),
                Cell::plain(stage.seed.map_or("none".to_owned(), |seed| seed.to_string())),
                Cell::plain(&stage.device),
                Cell::plain(stage.threads),
                Cell::plain(stage.build.as_deref().unwrap_or("unknown")),
            ],
        });
        let head = ["stage", "key", "version", "seed", "device", "threads", "commit"];
        Table { title: "Provenance", head: columns(&head), rows: rows.collect() }
    }
}
