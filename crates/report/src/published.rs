//! Results of others, kept in blocks by the kind of split they were measured on.

use std::fmt::Display;
use std::str::FromStr;

use cxr::metrics::{Metric, Scope};
use cxr::{Branch, DatasetKind, Split};
use serde::{Deserialize, Deserializer, Serialize};

use crate::results::{Results, interval, value};

/// Images in NIH's whole dataset.
pub const NIH_IMAGES: usize = 112_120;
/// Images in NIH's official test list.
pub const NIH_OFFICIAL_TEST: usize = 25_596;

/// Kind of split: results compare only within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// NIH's own test list.
    Official,
    /// Random or own lists; mostly easier, and each another one.
    Other,
}

impl Kind {
    /// The kind of `prep.split`.
    pub fn of(prep_split: &str) -> Kind {
        if prep_split == "official" { Kind::Official } else { Kind::Other }
    }
}

/// One published result.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Who and what.
    pub model: String,
    /// Mean AUROC over the 14 findings.
    pub mean: f64,
    /// Lower end of the published interval, if any.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Published standard deviation over runs, if any.
    pub plus_minus: Option<f64>,
    /// Which block it belongs to.
    pub split: Kind,
    /// More about the split.
    #[serde(default)]
    pub detail: String,
    /// Side of the input in pixels, where stated.
    #[serde(default)]
    pub input: String,
    /// Where the number was read.
    pub source: String,
    /// On which images the published epoch was chosen.
    pub chosen: Chosen,
    /// What shows that; empty where it is unknown.
    #[serde(default)]
    pub chosen_source: String,
}

/// On which images an epoch was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chosen {
    /// On others than those that are reported.
    Validation,
    /// On those that are reported: the best of all epochs, by their own result.
    Test,
    /// Nobody says.
    Unknown,
}

impl Chosen {
    /// How it reads.
    pub fn text(self) -> &'static str {
        match self {
            Chosen::Validation => "validation",
            Chosen::Test => "test list",
            Chosen::Unknown => "unknown",
        }
    }
}

/// A published localisation accuracy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Localisation {
    /// Who and what.
    pub model: String,
    /// Share of boxes with IoU above 0.3.
    pub iou_at_03: f64,
    /// Share of boxes with IoU above 0.5.
    pub iou_at_05: f64,
    /// Where the number was read.
    pub source: String,
}

/// A published series of mean AUROC against tau.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Whose AUROC.
    #[serde(deserialize_with = "parsed")]
    pub branch: Branch,
    /// On which split.
    #[serde(deserialize_with = "parsed")]
    pub split: Split,
    /// tau.
    pub thresholds: Vec<f64>,
    /// Mean AUROC, one per threshold.
    pub values: Vec<f64>,
    /// Where the numbers were read.
    pub source: String,
}

/// A value from its name.
fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// All published results that come with this program.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Everything {
    /// Mean AUROCs.
    #[serde(rename = "result")]
    pub results: Vec<Published>,
    /// On NIH's boxes.
    pub localisation: Vec<Localisation>,
    /// The paper's Fig. 8 and 9.
    #[serde(rename = "sweep")]
    pub sweeps: Vec<Sweep>,
}

/// Reads `published.toml`.
///
/// # Errors
/// The embedded file is malformed, which a test excludes.
pub fn all() -> Result<Everything, toml::de::Error> {
    toml::from_str(include_str!("published.toml"))
}

/// What a run was measured on, as far as comparisons need it.
#[derive(Debug, Clone, Serialize)]
pub struct Dataset {
    /// Whose images they are.
    #[serde(serialize_with = "display")]
    pub kind: DatasetKind,
    /// `prep.split`.
    pub split: String,
    /// Images in all splits.
    pub images: usize,
    /// Images reported on.
    pub reported: usize,
    /// The split reported on.
    #[serde(serialize_with = "display")]
    pub reported_split: Split,
}

impl Dataset {
    /// Why our numbers may not be held against published ones; `None` where they may.
    pub fn not_comparable(&self) -> Option<String> {
        match self.kind {
            DatasetKind::Phantom => return Some("synthetic images, not patients".to_owned()),
            DatasetKind::Folder => return Some("measured on other images than NIH ChestX-ray14".to_owned()),
            DatasetKind::Nih => {}
        }
        if self.reported_split != Split::Test {
            return Some(format!("measured on the {} split", self.reported_split));
        }
        let (got, whole, what) = match Kind::of(&self.split) {
            Kind::Official => (self.reported, NIH_OFFICIAL_TEST, "official test images"),
            Kind::Other => (self.images, NIH_IMAGES, "images"),
        };
        (got != whole).then(|| format!("a part of the dataset: {got} of {whole} {what}"))
    }
}

/// A value by its name.
fn display<T: Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// One line of the comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Who and what.
    pub model: String,
    /// Mean AUROC, for sorting; ours may be undefined.
    pub mean: Option<f64>,
    /// As it is to be read.
    pub text: String,
    /// Interval or deviation, or empty.
    pub spread: String,
    /// Input side.
    pub input: String,
    /// Detail of the split.
    pub detail: String,
    /// Source.
    pub source: String,
    /// How the epoch was chosen.
    pub chosen: Chosen,
    /// What shows that.
    pub chosen_source: String,
    /// From this run.
    pub ours: bool,
}

/// Published results of one kind by rising mean, with ours where we belong: in order if they compare, else in front.
pub fn block(
    published: &[Published],
    kind: Kind,
    dataset: &Dataset,
    results: &Results,
    split: Split,
    crop: &str,
) -> Vec<Line> {
    let theirs = published.iter().filter(|result| result.split == kind).map(|result| Line {
        model: result.model.clone(),
        mean: Some(result.mean),
        text: trimmed(result.mean),
        spread: match (result.low, result.high, result.plus_minus) {
            (Some(low), Some(high), _) => format!("{low:.3}\u{2013}{high:.3}"),
            (_, _, Some(deviation)) => format!("\u{b1}{deviation}"),
            _ => String::new(),
        },
        input: result.input.clone(),
        detail: result.detail.clone(),
        source: result.source.clone(),
        chosen: result.chosen,
        chosen_source: result.chosen_source.clone(),
        ours: false,
    });
    let mut lines: Vec<Line> = theirs.collect();
    let why_not = dataset.not_comparable();
    if Kind::of(&dataset.split) == kind {
        for branch in Branch::ALL {
            let row = results.get(branch, Scope::Mean, Metric::Auroc, split);
            lines.push(Line {
                model: format!("this run: {branch}"),
                mean: row.value,
                text: value(row),
                spread: interval(row).unwrap_or_default(),
                input: crop.to_owned(),
                detail: dataset.split.clone(),
                source: if why_not.is_some() { "not comparable, see above" } else { "this report" }.to_owned(),
                // No stage chooses anything on test images.
                chosen: if split == Split::Test { Chosen::Validation } else { Chosen::Test },
                chosen_source: String::new(),
                ours: true,
            });
        }
    }
    let place = |line: &Line| if line.ours && why_not.is_some() { None } else { line.mean };
    lines.sort_by(|a, b| place(a).partial_cmp(&place(b)).unwrap_or(std::cmp::Ordering::Equal));
    lines
}

/// Three decimals, or four where the source has four.
fn trimmed(value: f64) -> String {
    let four = format!("{value:.4}");
    four.strip_suffix('0').map_or(four.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use cxr::metrics::{Cell, Subset};

    use super::*;

    #[test]
    fn every_published_result_has_a_source() {
        let everything = all().unwrap();
        assert!(everything.localisation.iter().all(|l| !l.source.is_empty() && l.iou_at_05 <= l.iou_at_03));
        assert!(everything.sweeps.iter().all(|s| s.values.len() == s.thresholds.len() && !s.source.is_empty()));
        let all = everything.results;
        assert!(all.iter().all(|result| !result.source.is_empty() && (0.5..1.0).contains(&result.mean)));
        // Whoever says how an epoch was chosen says who shows it.
        assert!(all.iter().all(|result| (result.chosen == Chosen::Unknown) == result.chosen_source.is_empty()));
        let chosen_on_test = all.iter().filter(|result| result.chosen == Chosen::Test);
        let marked: Vec<&str> = chosen_on_test.map(|result| result.model.split([',', ' ']).next().unwrap()).collect();
        assert_eq!(marked, ["ViT-S", "EVA-X-Ti", "ViT-B", "EVA-X-B"]);
        for kind in [Kind::Official, Kind::Other] {
            assert!(all.iter().filter(|result| result.split == kind).count() > 5);
        }
        assert_eq!((trimmed(0.8034), trimmed(0.87)), ("0.8034".into(), "0.870".into()));
    }

    #[test]
    fn only_whole_real_test_sets_compare() {
        let whole = Dataset {
            kind: DatasetKind::Nih,
            split: "official".into(),
            images: NIH_IMAGES,
            reported: NIH_OFFICIAL_TEST,
            reported_split: Split::Test,
        };
        assert_eq!(whole.not_comparable(), None);
        let part = Dataset { reported: 240, ..whole.clone() };
        assert_eq!(part.not_comparable().unwrap(), "a part of the dataset: 240 of 25596 official test images");
        assert!(Dataset { kind: DatasetKind::Phantom, ..whole.clone() }.not_comparable().is_some());
        assert!(Dataset { kind: DatasetKind::Folder, ..whole.clone() }.not_comparable().is_some());
        assert!(Dataset { reported_split: Split::Validation, ..whole.clone() }.not_comparable().is_some());

        // Ours take their place among the others only where they compare, and only in the block of our split.
        let row = |branch: Branch| tables::metrics::Row {
            cell: Cell {
                series: branch.into(),
                scope: Scope::Mean,
                metric: Metric::Auroc,
                subset: Subset::All,
                split: Split::Test,
            },
            value: Some(0.9),
            ci_low: None,
            ci_high: None,
            n_pos: 1,
            n_neg: 1,
            n_unknown: 0,
            undefined_draws: 0,
            reason: None,
            seeds: None,
        };
        let results = Results::new(Branch::ALL.map(row).into()).unwrap();
        let places = |kind, dataset: &Dataset| -> Vec<usize> {
            let lines = block(&all().unwrap().results, kind, dataset, &results, Split::Test, "224");
            (0..lines.len()).filter(|&i| lines[i].ours).collect()
        };
        let theirs = all().unwrap().results.iter().filter(|result| result.split == Kind::Official).count();
        assert_eq!(places(Kind::Official, &whole), [theirs, theirs + 1, theirs + 2]);
        assert_eq!(places(Kind::Official, &part), [0, 1, 2]);
        assert_eq!(places(Kind::Other, &whole), [0; 0]);
    }
}
