//! The page: what [`Results`] say, in words, tables and pictures.

mod tables;
mod text;

use std::collections::BTreeMap;

use ::tables::{epochs, images};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cxr::{BBox, Finding, Split, output_names};
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use crate::Error;
use crate::cohort::Cohort;
use crate::drawing::Drawing;
use crate::gallery::{self, Choice};
use crate::localisation::Attended;
use crate::measure::ALL;
use crate::published::Dataset;
use crate::results::{Results, title};
use crate::sweep::Entry;

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

/// One case of the gallery.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// Position in the cohort.
    pub image: usize,
    /// Why it is shown.
    pub choice: Choice,
    /// Image and region.
    pub attended: Attended<'a>,
    /// The stored picture, PNG.
    pub picture: Vec<u8>,
    /// The heat map, RGBA PNG.
    pub heat: Vec<u8>,
    /// The crop, PNG.
    pub crop: Vec<u8>,
}

/// A figure: its name under `figures/`, what it shows in words, and its marks.
pub struct Figure {
    /// File name without ending.
    pub name: &'static str,
    /// The alternative text.
    pub alt: &'static str,
    /// The marks.
    pub drawing: Drawing,
}

/// All that a page shows.
pub struct Page<'a> {
    /// Name of the run.
    pub run: &'a str,
    /// The table.
    pub results: &'a Results,
    /// What it was measured on.
    pub dataset: &'a Dataset,
    /// The images.
    pub cohort: &'a Cohort,
    /// Split reported on.
    pub split: Split,
    /// Bootstrap draws.
    pub draws: usize,
    /// Share of draws inside an interval.
    pub confidence: f64,
    /// Input side of the global branch, pixels.
    pub crop: f32,
    /// Epochs of global, local and fusion.
    pub epochs: &'a [Vec<epochs::Row>; 3],
    /// Why boxes are not held against regions, if so.
    pub refusal: Option<&'a str>,
    /// Runs of the sweep, if there was one.
    pub sweep: &'a [Entry],
    /// Figures by name.
    pub figures: &'a [Figure],
    /// The gallery.
    pub cases: &'a [Case<'a>],
    /// Upstream first.
    pub provenance: &'a [Provenance],
}

#[derive(Serialize)]
struct Frame {
    x: f32,
    y: f32,
    width: f32,
    height: f32,
    drawn: bool,
}

impl Frame {
    fn new(bbox: &BBox, drawn: bool) -> Frame {
        Frame { x: bbox.x_min, y: bbox.y_min, width: bbox.width(), height: bbox.height(), drawn }
    }
}

#[derive(Serialize)]
struct Line {
    name: String,
    reported: bool,
    branches: Vec<String>,
}

#[derive(Serialize)]
struct Shown {
    kind: &'static str,
    findings: String,
    why: String,
    image_id: String,
    patient: String,
    labels: String,
    alt: String,
    width: u32,
    height: u32,
    frame: Frame,
    boxes: Vec<Frame>,
    picture: String,
    heat: String,
    crop: String,
    probabilities: Vec<Line>,
}

impl Page<'_> {
    /// The HTML.
    ///
    /// # Errors
    /// A drawing or the template fails, a bug.
    pub fn html(&self) -> Result<String, Error> {
        let mut environment = Environment::new();
        environment.add_template("page.html", include_str!("page/page.html"))?;
        let mut figures = BTreeMap::new();
        for figure in self.figures {
            figures.insert(figure.name, figure.drawing.inline_svg(figure.alt)?);
        }
        let cases: Vec<Shown> = self.cases.iter().map(|case| self.shown(case)).collect();
        let shown =
            |finding: &Finding| cases.iter().any(|case| case.findings.split(' ').any(|name| name == finding.snake()));
        let findings: Vec<_> = Finding::ALL
            .into_iter()
            .filter(shown)
            .map(|finding| serde_json::json!({ "value": finding.snake(), "title": title(finding.snake()) }))
            .collect();
        let region = |metric: &str| {
            let row = self.results.get(crate::localisation::BRANCH, ALL, metric, self.split)?;
            Some(format!("{:.1} %", 100.0 * row.value?))
        };
        let page = serde_json::json!({
            "run": self.run,
            "dataset": self.dataset,
            "not_comparable": self.dataset.not_comparable(),
            "patients": self.cohort.patient_count(),
            "draws": self.draws,
            "percent": percent(self.confidence),
            "headline": self.headline(),
            "tables": self.tables()?,
            "figures": figures,
            "sweep": !self.sweep.is_empty(),
            "refusal": self.refusal,
            "area": region("attention_area"),
            "fallback": region("fallback_rate"),
            "any_box": self.cases.iter().any(|case| !case.attended.image.boxes.is_empty()),
            "findings": findings,
            "cases": cases,
            "provenance": self.provenance,
            "style": include_str!("page/style.css"),
            "script": include_str!("page/script.js"),
        });
        Ok(environment.get_template("page.html")?.render(Serde(page))?)
    }

    fn shown(&self, case: &Case) -> Shown {
        let images::Row { record, width_px, height_px, boxes, .. } = case.attended.image;
        let labels = &self.cohort.labels[case.image];
        let targets = labels.targets();
        let names = output_names();
        let png = |bytes: &[u8]| format!("data:image/png;base64,{}", STANDARD.encode(bytes));
        let probability = |p: f64| if p < 0.0005 { "< 0.001".to_owned() } else { format!("{p:.3}") };
        let line = |(output, branches): (usize, [f64; 3])| Line {
            name: title(names[output]),
            reported: targets[output] == 1.0,
            branches: branches.into_iter().map(probability).collect(),
        };
        let why = |finding: Finding, what: &str| {
            let of = gallery::most_probable(self.cohort, case.image, names.len());
            let p = of.iter().find(|(output, _)| *output == finding as usize).map_or(0.0, |(_, p)| p[2]);
            format!("{}, {what}: {}", title(finding.snake()), probability(p))
        };
        let n_pos = |finding: Finding| self.cohort.labels.iter().filter(|labels| labels.contains(finding)).count();
        let why = match case.choice {
            Choice::Best(finding) => why(finding, &format!("among the highest of {}", n_pos(finding))),
            Choice::Missed(finding) => why(finding, &format!("among the lowest of {}", n_pos(finding))),
            Choice::FalseAlarm(finding) => why(finding, "not reported, among the highest"),
            Choice::Random => "Drawn by seed".to_owned(),
        };
        let mut findings: Vec<&str> = labels.findings().map(Finding::snake).collect();
        findings.extend(case.choice.finding().map(Finding::snake).filter(|name| !findings.contains(name)));
        let reported = record.labels.to_string().replace('|', ", ").replace('_', " ");
        let truth = boxes.iter().map(|drawn| title(drawn.finding.snake())).collect::<Vec<_>>();
        let drawn = if truth.is_empty() { String::new() } else { format!("; drawn boxes: {}", truth.join(", ")) };
        let patient = [
            record.age_years.map(|age| format!("{age} years")),
            record.sex.map(|sex| sex.name().to_owned()),
            record.view_position.map(|view| view.name().to_owned()),
        ];
        Shown {
            kind: case.choice.kind(),
            findings: if findings.is_empty() { "no_finding".to_owned() } else { findings.join(" ") },
            why,
            image_id: record.image_id.clone(),
            patient: patient.into_iter().flatten().collect::<Vec<_>>().join(", "),
            alt: format!("radiograph {}, reported: {reported}; attended region marked{drawn}", record.image_id),
            labels: reported,
            width: *width_px,
            height: *height_px,
            frame: Frame::new(&case.attended.frame(self.crop), false),
            boxes: std::iter::once(Frame::new(&case.attended.region.bbox, false))
                .chain(boxes.iter().map(|drawn| Frame::new(&drawn.bbox, true)))
                .collect(),
            picture: png(&case.picture),
            heat: png(&case.heat),
            crop: png(&case.crop),
            probabilities: gallery::most_probable(self.cohort, case.image, 5).into_iter().map(line).collect(),
        }
    }
}

/// `95`, `99.5`.
fn percent(share: f64) -> String {
    let percent = (share * 1e4).round() / 100.0;
    percent.to_string()
}
