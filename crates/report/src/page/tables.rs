//! The page's tables, row by row from [`crate::results::Results`].

use std::collections::BTreeMap;

use cxr::metrics::Metric;
use cxr::{Finding, output_names};
use serde::Serialize;
use tables::metrics::Row;

use super::Page;
use crate::Error;
use crate::cohort::BRANCHES;
use crate::localisation::{self, OVERLAPS};
use crate::measure::{ALL, DIFFERENCES, MEAN};
use crate::published::{self, Kind};
use crate::results::{interval, p_value, signed, signed_interval, subset_title, title, value};

/// A table as the template draws it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Table {
    title: &'static str,
    head: Vec<Column>,
    rows: Vec<Line>,
}

#[derive(Debug, Clone, Serialize)]
struct Column {
    name: String,
    /// Whether its cells are text, which begins at the left.
    text: bool,
}

#[derive(Debug, Clone, Serialize)]
struct Line {
    name: String,
    class: &'static str,
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Cell {
    text: String,
    small: String,
    class: &'static str,
}

impl Cell {
    fn plain(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), ..Cell::default() }
    }

    fn text(text: &str, wide: bool) -> Cell {
        Cell { text: text.to_owned(), class: if wide { "text wide" } else { "text" }, ..Cell::default() }
    }

    /// A value with its interval; nothing where there is no row.
    fn of(row: Option<&Row>) -> Cell {
        let Some(row) = row else { return Cell::default() };
        Cell {
            text: value(row),
            small: interval(row).unwrap_or_default(),
            class: if row.value.is_none() { "undefined" } else { "" },
        }
    }

    /// A difference with its interval, bold where that excludes 0.
    fn signed(row: Option<&Row>) -> Cell {
        let Some(row) = row else { return Cell::default() };
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

fn class(name: &str) -> &'static str {
    match name {
        MEAN | ALL => "mean",
        "no_finding" => "aside",
        _ => "",
    }
}

/// The 14 findings, the mean and No Finding.
fn order() -> impl Iterator<Item = &'static str> {
    let names = output_names();
    (0..Finding::COUNT).map(move |output| names[output]).chain([MEAN, "no_finding"])
}

fn columns(names: &[&str]) -> Vec<Column> {
    let text = |name: &str| ["input px", "split", "source", "run"].contains(&name);
    names.iter().map(|&name| Column { name: name.to_owned(), text: text(name) }).collect()
}

/// A first column or two, a column per branch, and one per difference.
fn with_branches(first: &[&str]) -> Vec<Column> {
    let pairs = DIFFERENCES.map(|(_, a, b)| format!("{} \u{2212} {}", BRANCHES[a], BRANCHES[b]));
    let names = first.iter().copied().chain(BRANCHES).chain(pairs.iter().map(String::as_str));
    columns(&names.collect::<Vec<_>>())
}

impl Page<'_> {
    fn row(&self, branch: &str, finding: &str, metric: &str) -> Option<&Row> {
        self.results.get(branch, finding, metric, self.split)
    }

    fn positives(&self, finding: &str) -> String {
        self.row(BRANCHES[0], finding, "auroc").map_or(String::new(), |row| row.n_pos.to_string())
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
            ("youden", self.decisions("youden")),
            ("f1", self.decisions("f1")),
            ("calibration", self.calibration()),
            ("calibration_fusion", self.calibration_fusion()),
            ("subgroups", self.subgroups()),
            ("training", self.training()),
            ("localisation", self.published_localisation(&published.localisation)),
            ("sweep", self.swept()),
            ("provenance", self.stages()),
        ]);
        if self.row(localisation::BRANCH, ALL, "hit_rate").is_some() {
            tables.insert("boxes", self.boxes());
            tables.insert("overlaps", self.overlaps());
        }
        Ok(tables)
    }

    fn headlines(&self) -> Table {
        let rows = BRANCHES.into_iter().enumerate().map(|(branch, name)| {
            let mut cells = vec![Cell::plain(self.positives(MEAN))];
            cells.extend(["auroc", "average_precision"].map(|metric| Cell::of(self.row(name, MEAN, metric))));
            let pair = DIFFERENCES.iter().find(|(_, _, other)| *other == branch);
            cells.push(match pair {
                Some((pair, ..)) => Cell::signed(self.row(pair, MEAN, "auroc")),
                None => Cell::plain("\u{2014}"),
            });
            let p = pair.and_then(|(pair, ..)| self.row(pair, MEAN, "auroc_delong_p")?.value);
            cells.push(Cell::plain(p.map_or("\u{2014}".to_owned(), p_value)));
            Line { name: name.to_owned(), class: if branch == 2 { "mean" } else { "" }, cells }
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
        let input = self.crop.to_string();
        let lines = published::block(results, kind, self.dataset, self.results, self.split, &input);
        let rows = lines.into_iter().map(|line| Line {
            name: line.model,
            class: if line.ours { "ours" } else { "" },
            cells: vec![
                Cell { text: line.text, small: line.spread, class: "" },
                Cell::text(&line.input, false),
                Cell::text(&line.detail, false),
                Cell::text(&line.source, true),
            ],
        });
        let head = columns(&["model", "mean AUROC", "input px", "split", "source"]);
        let title = match kind {
            Kind::Official => "Published results, official split",
            Kind::Other => "Published results, other splits",
        };
        Table { title, head, rows: rows.collect() }
    }

    fn ranked(&self, metric: Metric) -> Table {
        let metric = metric.name();
        let rows = order().map(|name| {
            let rows = BRANCHES.map(|branch| self.row(branch, name, metric));
            let best = rows.iter().flatten().filter_map(|row| row.value).fold(f64::NEG_INFINITY, f64::max);
            let mut cells = vec![Cell::plain(self.positives(name))];
            cells.extend(rows.map(|row| {
                let mut cell = Cell::of(row);
                if row.is_some_and(|row| row.value == Some(best)) {
                    cell.class = "best";
                }
                cell
            }));
            for (pair, ..) in DIFFERENCES {
                cells.push(Cell::signed(self.row(pair, name, metric)));
            }
            if metric == "auroc" {
                for (pair, ..) in DIFFERENCES {
                    let p = self.row(pair, name, "auroc_delong_p").and_then(|row| row.value);
                    cells.push(Cell::plain(p.map_or("\u{2014}".to_owned(), p_value)));
                }
            }
            Line { name: if name == MEAN { self.mean_title() } else { title(name) }, class: class(name), cells }
        });
        let mut head = with_branches(&["finding", "positives"]);
        if metric == "auroc" {
            head.extend(columns(&["p, global", "p, local"]));
        }
        let title = if metric == "auroc" { "AUROC" } else { "Average precision" };
        Table { title, head, rows: rows.collect() }
    }

    fn decisions(&self, criterion: &str) -> Table {
        let metrics = ["threshold", "sensitivity", "specificity", "precision", "f1"];
        let rows = order().map(|name| {
            let of = |metric: &str| Cell::of(self.row(BRANCHES[2], name, &format!("{metric}_{criterion}")));
            let cells = std::iter::once(Cell::plain(self.positives(name))).chain(metrics.map(of)).collect();
            Line { name: title(name), class: class(name), cells }
        });
        let head = ["finding", "positives", "threshold", "sensitivity", "specificity", "precision", "F1"];
        let title = if criterion == "youden" { "Decisions by Youden's J" } else { "Decisions by F1" };
        Table { title, head: columns(&head), rows: rows.collect() }
    }

    fn calibration(&self) -> Table {
        let rows = BRANCHES.into_iter().map(|branch| {
            let of = |metric: &str| Cell::of(self.row(branch, MEAN, metric));
            let mut cells = vec![Cell::plain(self.positives(MEAN))];
            cells.extend(["brier", "ece"].map(of));
            cells.push(Cell::of(self.row(branch, ALL, "temperature")));
            cells.extend(["brier_scaled", "ece_scaled"].map(of));
            Line { name: branch.to_owned(), class: if branch == BRANCHES[2] { "mean" } else { "" }, cells }
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
        let rows = order().map(|name| {
            let of = |metric: &str| Cell::of(self.row(BRANCHES[2], name, metric));
            let mut cells = vec![Cell::plain(self.positives(name))];
            cells.extend(["brier", "ece", "brier_scaled", "ece_scaled"].map(of));
            Line { name: title(name), class: class(name), cells }
        });
        let head = ["finding", "positives", "Brier score", "ECE", "Brier score, scaled", "ECE, scaled"];
        Table { title: "Calibration of the fusion, every finding", head: columns(&head), rows: rows.collect() }
    }

    fn subgroups(&self) -> Table {
        let rows = self.results.subsets().into_iter().filter_map(|subset| {
            let of = |branch: &str| self.results.of_subset(branch, MEAN, "auroc", &subset, self.split);
            let first = of(BRANCHES[0])?;
            let defined = self.results.of_subset(BRANCHES[0], MEAN, "findings_defined", &subset, self.split);
            let mut cells = vec![
                Cell::plain(first.n_pos + first.n_neg),
                Cell::plain(first.n_pos),
                Cell::plain(defined.and_then(|row| row.value).unwrap_or(0.0)),
            ];
            cells.extend(BRANCHES.map(|branch| Cell::of(of(branch))));
            cells.extend(DIFFERENCES.map(|(pair, ..)| Cell::signed(of(pair))));
            Some(Line { name: subset_title(&subset), class: class(&subset), cells })
        });
        let head = with_branches(&["images of", "images", "with a finding", "findings defined"]);
        Table { title: "Mean AUROC of subgroups", head, rows: rows.collect() }
    }

    fn training(&self) -> Table {
        let rows = BRANCHES.into_iter().zip(self.epochs).map(|(branch, epochs)| {
            let best = epochs.iter().find(|row| row.best);
            let number = |value: Option<f64>| Cell::plain(value.map_or("\u{2014}".to_owned(), |v| format!("{v:.3}")));
            Line {
                name: branch.to_owned(),
                class: "",
                cells: vec![
                    Cell::plain(epochs.len()),
                    Cell::plain(best.map_or("\u{2014}".to_owned(), |row| row.epoch.to_string())),
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
            let of = |branch: &str| entry.results.get(branch, MEAN, "auroc", entry.split);
            let mut cells: Vec<Cell> = BRANCHES.map(|branch| Cell::of(of(branch))).into();
            cells.extend(DIFFERENCES.map(|(pair, ..)| Cell::signed(of(pair))));
            let fallback = entry.results.get(localisation::BRANCH, ALL, "fallback_rate", entry.split);
            cells.push(Cell::of(fallback));
            Line { name: entry.threshold.clone(), class: "", cells }
        });
        let mut head = with_branches(&["threshold"]);
        head.extend(columns(&["whole image"]));
        Table { title: "Mean AUROC by threshold", head, rows: rows.collect() }
    }

    /// Findings that have boxes, and all of them.
    fn boxed(&self) -> impl Iterator<Item = &'static str> {
        order()
            .filter(|&name| name != MEAN)
            .chain([ALL])
            .filter(|name| self.row(localisation::BRANCH, name, "hit_rate").is_some())
    }

    fn boxes(&self) -> Table {
        let metrics = ["pointing_game", "hit_rate", "attention_area", "iou", "iou_at_0.3", "iou_at_0.5", "iobb"];
        let rows = self.boxed().map(|name| {
            let of = |metric: &str| self.row(localisation::BRANCH, name, metric);
            let boxes = of("hit_rate").map_or(0, |row| row.n_pos);
            let mut cells = vec![Cell::plain(boxes)];
            cells.extend(metrics.map(|metric| match (metric, name) {
                // Of all images, not of those with boxes: said above the table.
                ("attention_area", ALL) => Cell::default(),
                _ => Cell::of(of(metric)),
            }));
            Line { name: title(name), class: class(name), cells }
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

    fn overlaps(&self) -> Table {
        let rows = self.boxed().flat_map(|name| {
            ["iou", "iobb"].map(|overlap| {
                let of = |t: &str| Cell::of(self.row(localisation::BRANCH, name, &format!("{overlap}_at_{t}")));
                let label = if overlap == "iou" { "IoU" } else { "IoBB" };
                Line { name: format!("{}, {label}", title(name)), class: class(name), cells: OVERLAPS.map(of).into() }
            })
        });
        let names = OVERLAPS.map(|t| format!("> {t}"));
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
        if self.refusal.is_none() && self.row(localisation::BRANCH, ALL, "iou_at_0.3").is_some() {
            let of = |metric: &str| Cell::of(self.row(localisation::BRANCH, ALL, metric));
            let source = match self.dataset.not_comparable() {
                Some(_) => "not comparable, see the top".to_owned(),
                None => "this report; one region per image, not per finding".to_owned(),
            };
            let cells = vec![of("iou_at_0.3"), of("iou_at_0.5"), Cell::text(&source, true)];
            rows.push(Line { name: "this run: attended region".to_owned(), class: "ours", cells });
        }
        let head = ["model", "IoU > 0.3", "IoU > 0.5", "source"];
        Table { title: "Published localisation", head: columns(&head), rows }
    }

    fn stages(&self) -> Table {
        let last = self.provenance.len().saturating_sub(1);
        let rows = self.provenance.iter().enumerate().map(|(i, stage)| {
            let git = stage.git.as_deref().unwrap_or("unknown");
            Line {
                name: stage.stage.clone(),
                class: "",
                cells: vec![
                    Cell::text(&stage.run, false),
                    Cell::plain(&stage.key[..12.min(stage.key.len())]),
                    Cell::plain(stage.version),
                    Cell::plain(stage.seed),
                    Cell::plain(&stage.device),
                    Cell::plain(stage.threads),
                    Cell::plain(if i == last { "manifest.json" } else { git }),
                    Cell::plain(&stage.started),
                    Cell::plain(&stage.seconds),
                ],
            }
        });
        let head = ["stage", "run", "key", "version", "seed", "device", "threads", "commit", "started", "took"];
        Table { title: "Provenance", head: columns(&head), rows: rows.collect() }
    }
}
