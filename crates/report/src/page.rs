//! The page, and the short table on stdout: what [`Results`] say, in words and columns.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cxr::metrics::Metric;
use cxr::{Finding, Split, output_names};
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use crate::drawing::Drawing;
use crate::localisation;
use crate::published::{Dataset, Kind, Line};
use crate::results::{BRANCHES, DEFINED, DIFFERENCES, MEAN, Results, interval, signed, signed_interval, title, value};
use crate::{Error, published};

/// One stage's provenance.
#[derive(Debug, Clone, Serialize)]
pub struct Provenance {
    /// Name.
    pub stage: String,
    /// Run it was taken from.
    pub run: String,
    /// Key.
    pub key: String,
    /// Stage version.
    pub version: u32,
    /// Seed.
    pub seed: u64,
    /// `--device`.
    pub device: String,
    /// Worker threads.
    pub threads: usize,
    /// Git commit, if known.
    pub git: Option<String>,
    /// When it started.
    pub started: String,
    /// Duration as it is to be read; empty for this report, which is not finished yet.
    pub seconds: String,
    /// Effective configuration, `key = value` lines.
    pub config: Vec<(String, String)>,
}

/// One overlay.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// The image.
    pub image_id: String,
    /// What it shows.
    pub labels: String,
    /// Findings with a drawn box, and whether the region hits their centre.
    pub boxes: Vec<(Finding, bool)>,
    /// Two panels.
    pub png: Vec<u8>,
}

/// All that a page shows.
pub struct Page<'a> {
    /// Name of the run.
    pub run: &'a str,
    /// The table.
    pub results: &'a Results,
    /// What it was measured on.
    pub dataset: &'a Dataset,
    /// Split reported on.
    pub split: Split,
    /// Patients reported on.
    pub patients: usize,
    /// Bootstrap draws.
    pub draws: usize,
    /// Share of draws inside an interval.
    pub confidence: f64,
    /// Input side of the branches, pixels, as text.
    pub crop: &'a str,
    /// Figures.
    pub forest: &'a Drawing,
    /// Figures.
    pub roc: &'a Drawing,
    /// Overlays.
    pub overlays: &'a [Overlay],
    /// Upstream first.
    pub provenance: &'a [Provenance],
}

#[derive(Serialize)]
struct Cell {
    text: String,
    interval: String,
    best: bool,
    undefined: bool,
}

#[derive(Serialize)]
struct MetricRow {
    name: String,
    class: &'static str,
    positives: u64,
    branches: Vec<Cell>,
    differences: Vec<Cell>,
}

#[derive(Serialize)]
struct BoxRow {
    name: String,
    class: &'static str,
    boxes: u64,
    hit: Cell,
    cells: Vec<String>,
}

#[derive(Serialize)]
struct Picture {
    src: String,
    image_id: String,
    labels: String,
    boxes: Vec<String>,
}

impl Page<'_> {
    /// The HTML.
    ///
    /// # Errors
    /// A drawing or the template fails, a bug.
    pub fn html(&self) -> Result<String, Error> {
        let mut environment = Environment::new();
        environment.add_template("page.html", include_str!("page.html"))?;
        let published = published::all()?;
        let block = |kind| -> Vec<Line> {
            published::block(&published, kind, self.dataset, self.results, self.split, self.crop)
        };
        let overlays: Vec<Picture> = self
            .overlays
            .iter()
            .map(|overlay| Picture {
                src: format!("data:image/png;base64,{}", STANDARD.encode(&overlay.png)),
                image_id: overlay.image_id.clone(),
                labels: overlay.labels.replace('|', ", ").replace('_', " "),
                boxes: overlay
                    .boxes
                    .iter()
                    .map(|&(finding, hit)| format!("{} {}", title(finding.snake()), if hit { "hit" } else { "missed" }))
                    .collect(),
            })
            .collect();
        let [auroc, average_precision] = Metric::ALL.map(|metric| self.metric_rows(metric));
        let page = serde_json::json!({
            "run": self.run,
            "dataset": self.dataset,
            "not_comparable": self.dataset.not_comparable(),
            "patients": self.patients,
            "draws": self.draws,
            "percent": percent(self.confidence),
            "headline": self.headline(),
            "branches": BRANCHES,
            "differences": DIFFERENCES.map(|(_, a, b)| format!("{} \u{2212} {}", BRANCHES[a], BRANCHES[b])),
            "auroc": auroc,
            "average_precision": average_precision,
            "forest": self.forest.inline_svg("AUROC of every finding with intervals, and paired differences")?,
            "roc": self.roc.inline_svg("ROC curves of the 14 findings")?,
            "boxes": self.box_rows(),
            "area": self.get(localisation::ALL, "attention_area").map(value),
            "fallback": self.get(localisation::ALL, "fallback_rate").map(value),
            "overlays": overlays,
            "official": block(Kind::Official),
            "other": block(Kind::Other),
            "provenance": self.provenance,
        });
        Ok(environment.get_template("page.html")?.render(Serde(page))?)
    }

    fn get(&self, finding: &str, metric: &str) -> Option<&tables::metrics::Row> {
        self.results.get(localisation::BRANCH, finding, metric, self.split)
    }

    /// The result in two sentences.
    fn headline(&self) -> Vec<String> {
        let metric = Metric::Auroc.name();
        let mean = |branch: &str| self.results.get(branch, MEAN, metric, self.split);
        let mut sentences = Vec::new();
        if let (Some(fusion), Some(global)) = (mean("fusion"), mean("global")) {
            let with = |row| match interval(row) {
                Some(interval) => format!("{} ({interval})", value(row)),
                None => value(row),
            };
            sentences.push(format!(
                "Mean AUROC over {}: fusion {}, global {}.",
                self.findings(),
                with(fusion),
                with(global)
            ));
        }
        if let Some(row) = mean(DIFFERENCES[0].0)
            && let (Some(low), Some(high), Some(between)) = (row.ci_low, row.ci_high, signed_interval(row))
        {
            let verdict = match (low > 0.0, high < 0.0) {
                (true, _) => "fusion is better on these patients",
                (_, true) => "fusion is worse on these patients",
                _ => "no difference that these patients could show",
            };
            sentences.push(format!("Fusion \u{2212} global is {} ({between}): {verdict}.", signed(row)));
        }
        sentences
    }

    /// Over how many findings the mean is, where that is not all 14.
    fn defined(&self) -> Option<usize> {
        let row = self.results.get(BRANCHES[0], MEAN, DEFINED, self.split)?;
        Some(row.value? as usize).filter(|&defined| defined < Finding::COUNT)
    }

    /// `the 14 findings`, or how many of them are defined.
    fn findings(&self) -> String {
        match self.defined() {
            Some(defined) => format!("the {defined} of 14 findings that are defined"),
            None => "the 14 findings".to_owned(),
        }
    }

    fn mean_title(&self) -> String {
        match self.defined() {
            Some(defined) => format!("Mean ({defined} of 14)"),
            None => "Mean (14)".to_owned(),
        }
    }

    fn metric_rows(&self, metric: Metric) -> Vec<MetricRow> {
        let names = output_names();
        let order = names[..Finding::COUNT].iter().copied().chain([MEAN, "no_finding"]);
        order
            .filter_map(|name| {
                let rows = BRANCHES.map(|b| self.results.get(b, name, metric.name(), self.split));
                let best = rows.iter().flatten().filter_map(|row| row.value).fold(f64::NEG_INFINITY, f64::max);
                let cell = |row: &tables::metrics::Row| Cell {
                    text: value(row),
                    interval: interval(row).unwrap_or_default(),
                    best: row.value == Some(best),
                    undefined: row.value.is_none(),
                };
                let pair = |row: &tables::metrics::Row| Cell {
                    text: if row.value.is_some() { signed(row) } else { "undefined".to_owned() },
                    interval: signed_interval(row).unwrap_or_default(),
                    best: matches!((row.ci_low, row.ci_high), (Some(l), Some(h)) if l > 0.0 || h < 0.0),
                    undefined: row.value.is_none(),
                };
                let differences =
                    DIFFERENCES.iter().filter_map(|(b, _, _)| self.results.get(b, name, metric.name(), self.split));
                Some(MetricRow {
                    name: if name == MEAN { self.mean_title() } else { title(name) },
                    class: class(name),
                    positives: rows[0]?.n_pos,
                    branches: rows.iter().flatten().map(|row| cell(row)).collect(),
                    differences: differences.map(pair).collect(),
                })
            })
            .collect()
    }

    fn box_rows(&self) -> Vec<BoxRow> {
        let names = output_names();
        let order = names[..Finding::COUNT].iter().copied().chain([localisation::ALL]);
        order
            .filter_map(|name| {
                let hit = self.get(name, "hit_rate")?;
                let area = match name {
                    localisation::ALL => String::new(),
                    _ => self.get(name, "attention_area").map_or(String::new(), value),
                };
                let rest = ["iou", "iou_above_0.1", "iou_above_0.3", "iou_above_0.5", "iobb"];
                let rest = rest.map(|metric| self.get(name, metric).map_or(String::new(), value));
                Some(BoxRow {
                    name: title(name),
                    class: if name == localisation::ALL { "mean" } else { "" },
                    boxes: hit.n_pos,
                    hit: Cell {
                        text: value(hit),
                        interval: interval(hit).unwrap_or_default(),
                        best: false,
                        undefined: hit.value.is_none(),
                    },
                    cells: std::iter::once(area).chain(rest).collect(),
                })
            })
            .collect()
    }

    /// The short table for stdout.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        let shown = percent(self.confidence);
        lines.push(format!(
            "AUROC on {} {} images of {} patients [{shown} % interval, {} draws of patients]",
            self.dataset.reported, self.split, self.patients, self.draws
        ));
        if let Some(why) = self.dataset.not_comparable() {
            lines.push(format!("not comparable with published results: {why}"));
        }
        let names = output_names();
        let order = names[..Finding::COUNT].iter().copied().chain([MEAN, "no_finding"]);
        let header = BRANCHES.map(|branch| format!("  {branch:<20}")).concat();
        lines.push(format!("{:<20}{:>6}{header}", "finding", "n_pos").trim_end().to_owned());
        for name in order {
            let mut line = title(name);
            for (i, branch) in BRANCHES.into_iter().enumerate() {
                let Some(row) = self.results.get(branch, name, Metric::Auroc.name(), self.split) else { continue };
                if i == 0 {
                    line = format!("{line:<20}{:>6}", row.n_pos);
                }
                let interval = interval(row).map_or(String::new(), |interval| format!(" [{interval}]"));
                let cell = format!("{}{interval}", value(row));
                line += &format!("  {cell:<20}");
                if row.value.is_none() {
                    break;
                }
            }
            lines.push(line.trim_end().to_owned());
        }
        for (name, a, b) in DIFFERENCES {
            let Some(row) = self.results.get(name, MEAN, Metric::Auroc.name(), self.split) else { continue };
            let interval = signed_interval(row).map_or(String::new(), |interval| format!(" [{interval}]"));
            lines.push(format!("mean {} - {}: {}{interval}", BRANCHES[a], BRANCHES[b], signed(row)));
        }
        lines.push(format!("mean: over {}", self.findings()));
        if let (Some(hit), Some(area)) =
            (self.get(localisation::ALL, "hit_rate"), self.get(localisation::ALL, "attention_area"))
        {
            lines.push(format!(
                "attention hits the centre of {} of {} drawn boxes; it takes {} of an image",
                value(hit),
                hit.n_pos,
                value(area)
            ));
        }
        lines.join("\n") + "\n"
    }
}

fn class(name: &str) -> &'static str {
    match name {
        MEAN => "mean",
        "no_finding" => "aside",
        _ => "",
    }
}

/// `95`, `99.5`.
fn percent(share: f64) -> String {
    let percent = (share * 1e4).round() / 100.0;
    percent.to_string()
}
