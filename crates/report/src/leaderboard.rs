//! All models on one page: side by side where they were evaluated on the same images, apart where not.

use std::fmt::Write;

use cxr::metrics::{Estimate, Scope};
use cxr::{Finding, OUTPUTS};
use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;
use serde_json::json;

use crate::Error;
use crate::import::{Aurocs, Scored};
use crate::plan::Plan;
use crate::results::title;

/// One model to be placed.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The run, and its branch where it has branches.
    pub name: String,
    /// `imported`, `trained here`, `evaluated here`.
    pub kind: &'static str,
    /// Which images, in words.
    pub split: String,
    /// File name of the label table.
    pub labels: String,
    /// Its scores.
    pub scored: Scored,
}

/// A model in its place.
#[derive(Debug, Clone)]
pub struct Placed {
    /// As in [`Entry`].
    pub name: String,
    /// As in [`Entry`].
    pub kind: &'static str,
    /// Its AUROCs.
    pub aurocs: Aurocs,
    /// Mean AUROC.
    pub mean: Estimate,
    /// The first one's mean less this one's, on the same draws; `None` for the first.
    pub behind: Option<Estimate>,
}

/// Models with the same images, labels and findings: only these can be ranked.
#[derive(Debug, Clone)]
pub struct Group {
    /// Which images, in words.
    pub split: String,
    /// Digest of the images' names.
    pub digest: String,
    /// How many images.
    pub images: usize,
    /// How many patients.
    pub patients: usize,
    /// File name of the label table.
    pub labels: String,
    /// The findings that the mean is over.
    pub findings: Vec<Finding>,
    /// By falling mean.
    pub models: Vec<Placed>,
}

/// Which outputs have an AUROC: those that the model scores and the images have both classes of.
fn defined(scored: &Scored) -> [bool; OUTPUTS] {
    std::array::from_fn(|output| {
        let mut classes = scored.labels.iter().filter_map(|labels| labels.outputs()[output]);
        let first = classes.next();
        scored.scored[output] && first.is_some_and(|first| classes.any(|other| other != first))
    })
}

/// Groups and measures the models; groups of more images come first.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn groups(entries: Vec<Entry>, plan: &Plan) -> Result<Vec<Group>, Error> {
    let findings = |entry: &Entry| -> Vec<Finding> {
        let defined = defined(&entry.scored);
        Finding::ALL.into_iter().filter(|finding| defined[finding.index()]).collect()
    };
    let alike = |a: &Entry, b: &Entry| {
        a.scored.image_ids == b.scored.image_ids
            && a.scored.labels == b.scored.labels
            && a.scored.patients == b.scored.patients
            && findings(a) == findings(b)
    };
    let mut sets: Vec<Vec<Entry>> = Vec::new();
    for entry in entries {
        match sets.iter_mut().find(|set| alike(&set[0], &entry)) {
            Some(set) => set.push(entry),
            None => sets.push(vec![entry]),
        }
    }
    let mut groups = Vec::new();
    for set in sets {
        let first = &set[0];
        let resamples = first.scored.resamples(plan);
        let ids: Vec<&str> = first.scored.image_ids.iter().map(String::as_str).collect();
        let mut group = Group {
            split: first.split.clone(),
            digest: crate::import::lists::digest(&ids),
            images: ids.len(),
            patients: first.scored.patient_count(),
            labels: first.labels.clone(),
            findings: findings(first),
            models: Vec::new(),
        };
        for entry in set {
            let aurocs = entry.scored.aurocs(&resamples, plan)?;
            let mean = aurocs.mean.estimate(plan.confidence);
            group.models.push(Placed { name: entry.name, kind: entry.kind, aurocs, mean, behind: None });
        }
        group.models.sort_by(|a, b| b.mean.value.partial_cmp(&a.mean.value).unwrap_or(std::cmp::Ordering::Equal));
        let best = group.models[0].aurocs.mean.clone();
        for model in &mut group.models[1..] {
            model.behind = Some(best.minus(&model.aurocs.mean).estimate(plan.confidence));
        }
        groups.push(group);
    }
    groups.sort_by(|a, b| {
        b.images.cmp(&a.images).then(a.digest.cmp(&b.digest)).then(b.findings.len().cmp(&a.findings.len()))
    });
    Ok(groups)
}

impl Group {
    /// `14 findings`, or which.
    fn over(&self) -> String {
        match self.findings.len() {
            Finding::COUNT => "all 14 findings".to_owned(),
            _ => self.findings.iter().map(|&finding| title(finding)).collect::<Vec<_>>().join(", "),
        }
    }

    /// What the models of this group have in common.
    fn about(&self) -> String {
        format!(
            "{} images of {} patients, {}; labels of {}; mean over {}; images {}",
            self.images,
            self.patients,
            self.split,
            self.labels,
            self.over(),
            &self.digest[..8.min(self.digest.len())]
        )
    }
}

/// What stands above tables of different images.
pub const APART: &str = "These models were evaluated on different images, labels or findings: tables are ranked by themselves, \
    and a mean of one says nothing beside a mean of another.";

fn number(estimate: &Estimate, decimals: usize) -> String {
    estimate.value.map_or("undefined".to_owned(), |value| format!("{value:.decimals$}"))
}

fn between(estimate: &Estimate, decimals: usize) -> String {
    let interval = estimate.low.zip(estimate.high);
    interval.map_or(String::new(), |(low, high)| format!("{low:.decimals$}\u{2013}{high:.decimals$}"))
}

/// The groups for the terminal.
pub fn text(groups: &[Group]) -> String {
    let mut text = String::new();
    if groups.len() > 1 {
        let _ = writeln!(text, "{APART}");
    }
    for group in groups {
        let _ = writeln!(text, "\n{}", group.about());
        let [a, b, c] = ["model", "mean AUROC", "behind the first"];
        let _ = writeln!(text, "{a:<32}{:<15}{b:<26}{c}", "");
        for model in &group.models {
            let with =
                |estimate: &Estimate, open: &str| format!("{}{open}{}]", number(estimate, 4), between(estimate, 4));
            let behind = model.behind.as_ref().map_or(String::new(), |behind| with(behind, " ["));
            let _ = writeln!(text, "{:<32}{:<15}{:<26}{behind}", model.name, model.kind, with(&model.mean, " ["));
        }
    }
    text
}

/// The groups as CSV: a row per model.
pub fn csv(groups: &[Group]) -> String {
    let mut text =
        "model,kind,images,patients,split,image_digest,labels,findings,mean_auroc,ci_low,ci_high\n".to_owned();
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let cell = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for group in groups {
        for model in &group.models {
            let cells = [
                quoted(&model.name),
                model.kind.to_owned(),
                group.images.to_string(),
                group.patients.to_string(),
                quoted(&group.split),
                group.digest.clone(),
                quoted(&group.labels),
                group.findings.len().to_string(),
                cell(model.mean.value),
                cell(model.mean.low),
                cell(model.mean.high),
            ];
            let _ = writeln!(text, "{}", cells.join(","));
        }
    }
    text
}

#[derive(Serialize)]
struct Row {
    name: String,
    kind: &'static str,
    mean: String,
    interval: String,
    behind: String,
    behind_interval: String,
}

/// The page.
///
/// # Errors
/// The template fails, a bug.
pub fn html(groups: &[Group], plan: &Plan) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.add_template("leaderboard.html", include_str!("leaderboard/leaderboard.html"))?;
    let row = |model: &Placed| Row {
        name: model.name.clone(),
        kind: model.kind,
        mean: number(&model.mean, 4),
        interval: between(&model.mean, 4),
        behind: model.behind.as_ref().map_or(String::new(), |behind| number(behind, 4)),
        behind_interval: model.behind.as_ref().map_or(String::new(), |behind| between(behind, 4)),
    };
    let shown: Vec<_> = groups
        .iter()
        .map(|group| {
            let finding = |finding: &Finding| {
                let of = |model: &Placed| model.aurocs.outputs[finding.index()].value;
                let cells: Vec<String> = group
                    .models
                    .iter()
                    .map(|model| of(model).map_or(String::new(), |value| format!("{value:.3}")))
                    .collect();
                json!({
                    "name": title(Scope::from(*finding)),
                    "positives": group.models[0].aurocs.positives[finding.index()],
                    "cells": cells,
                })
            };
            json!({
                "about": group.about(),
                "split": group.split,
                "models": group.models.iter().map(row).collect::<Vec<_>>(),
                "findings": group.findings.iter().map(finding).collect::<Vec<_>>(),
            })
        })
        .collect();
    let page = json!({
        "groups": shown,
        "apart": (groups.len() > 1).then_some(APART),
        "percent": (plan.confidence * 1e4).round() / 100.0,
        "draws": plan.bootstrap.draws,
        "style": include_str!("page/style.css"),
    });
    Ok(environment.get_template("leaderboard.html")?.render(Serde(page))?)
}
