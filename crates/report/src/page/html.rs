//! The page as HTML.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cxr::metrics::calibration::sigmoid;
use cxr::metrics::{Metric, Scope, Series};
use cxr::{BBox, Branch, Finding, Labels};
use minijinja::Environment;
use minijinja::value::Serde;
use picture::overlay::{CONTROL, REGION};
use serde::Serialize;
use tables::images;

use super::content::{Page, percent};
use crate::Error;
use crate::cases::Case;
use crate::gallery::{self, Choice};
use crate::results::title;

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
    image: String,
    heat: String,
    crop: String,
    probabilities: Vec<Line>,
}

/// `#ffb000`.
fn colour([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

impl Page<'_> {
    /// The HTML.
    ///
    /// # Errors
    /// A drawing or the template fails, a bug.
    pub fn html(&self) -> Result<String, Error> {
        let mut environment = Environment::new();
        environment.add_template("page.html", concat!(include_str!("macros.html"), include_str!("page.html")))?;
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
            .map(|finding| serde_json::json!({ "value": finding.snake(), "title": title(finding) }))
            .collect();
        let region = |metric: Metric| {
            let row = self.results.get(Series::Attention, Scope::All, metric, self.split);
            Some(format!("{:.1} %", 100.0 * row.value?))
        };
        let predicted = self.results.located(Series::Attention, Scope::Mean, Metric::BoxPredicted, self.split);
        let predicted = predicted.and_then(|row| Some(format!("{:.0} %", 100.0 * row.value?)));
        let page = serde_json::json!({
            "key": &self.key[..8.min(self.key.len())],
            "dataset": self.dataset,
            "not_comparable": self.dataset.not_comparable(),
            "patients": self.cohort.patient_count(),
            "draws": self.draws,
            "percent": percent(self.confidence),
            "headline": self.headline(),
            "unlabelled": self.results.unlabelled(self.split),
            "tables": self.tables()?,
            "figures": figures,
            "trained": self.model.is_none(),
            "diverged": self.diverged(),
            "sweep": !self.sweep.is_empty(),
            "refusal": self.refusal,
            "control": self.control,
            "region": self.region(),
            "region_colour": colour(if self.control.is_some() { CONTROL } else { REGION }),
            "area": region(Metric::AttentionArea),
            "fallback": region(Metric::FallbackRate),
            "predicted": predicted,
            "any_box": self.cases.iter().any(|case| !case.attended.image.boxes.is_empty()),
            "findings": findings,
            "cases": cases,
            "provenance": self.provenance,
            "style": include_str!("style.css"),
            "script": include_str!("script.js"),
        });
        Ok(environment.get_template("page.html")?.render(Serde(page))?)
    }

    /// What an image shows and, of the findings that the data have, what is unknown.
    fn listed(&self, labels: Labels) -> String {
        let names = |findings: &mut dyn Iterator<Item = Finding>| findings.map(title).collect::<Vec<_>>().join(", ");
        let shown = match names(&mut labels.findings()) {
            none if none.is_empty() => "No Finding".to_owned(),
            names => names,
        };
        let in_data = self.results.findings(self.split);
        match names(&mut labels.unknown().filter(|finding| in_data.contains(finding))) {
            none if none.is_empty() => shown,
            unknown if labels.findings().next().is_none() => format!("not known: {unknown}"),
            unknown => format!("{shown}; not known: {unknown}"),
        }
    }

    fn shown(&self, case: &Case) -> Shown {
        let images::Row { record, width_px, height_px, boxes, .. } = case.attended.image;
        let labels = &self.cohort.labels[case.image];
        let png = |bytes: &[u8]| format!("data:image/png;base64,{}", STANDARD.encode(bytes));
        let probability = |p: f64| if p < 0.0005 { "< 0.001".to_owned() } else { format!("{p:.3}") };
        let reported = |scope: Scope| match scope {
            Scope::Finding(finding) => labels.contains(finding),
            _ => labels.no_finding() == Some(true),
        };
        let line = |(scope, branches): (Scope, [f64; 3])| Line {
            name: title(scope),
            reported: reported(scope),
            branches: branches.into_iter().map(probability).collect(),
        };
        let why = |finding: Finding, what: &str| {
            let logit = self.cohort.logits(Branch::Fusion)[case.image][finding.index()];
            format!("{}, {what}: {}", title(finding), probability(sigmoid(f64::from(logit))))
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
        let listed = self.listed(record.labels);
        let truth = boxes.iter().map(|drawn| title(drawn.finding)).collect::<Vec<_>>();
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
            alt: format!("radiograph {}, reported: {listed}; {} marked{drawn}", record.image_id, self.region()),
            labels: listed,
            width: *width_px,
            height: *height_px,
            frame: Frame::new(&self.frame.bbox(), false),
            boxes: std::iter::once(Frame::new(&case.attended.region.bbox, false))
                .chain(boxes.iter().map(|drawn| Frame::new(&drawn.bbox, true)))
                .collect(),
            image: png(&case.stored.image_png),
            heat: png(&case.heat),
            crop: png(&case.stored.crop_png),
            probabilities: gallery::most_probable(self.cohort, case.image, 5).into_iter().map(line).collect(),
        }
    }
}
