//! The 14 findings of ChestX-ray14 and the label set of one image.

use std::fmt;
use std::str::FromStr;

/// Number of network outputs: the 14 findings, then "No Finding" (AG-CNN, section III-A, C = 15).
pub const OUTPUTS: usize = 15;

/// One of the 14 findings of NIH ChestX-ray14 (Wang et al., CVPR 2017), in NIH's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the variants are the findings' names
pub enum Finding {
    Atelectasis,
    Cardiomegaly,
    Effusion,
    Infiltration,
    Mass,
    Nodule,
    Pneumonia,
    Pneumothorax,
    Consolidation,
    Edema,
    Emphysema,
    Fibrosis,
    PleuralThickening,
    Hernia,
}

/// A finding's name that NIH's tables do not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown finding {0:?}, expected one of the 14 of ChestX-ray14 or \"No Finding\"")]
pub struct UnknownFinding(pub String);

impl Finding {
    /// Number of findings.
    pub const COUNT: usize = 14;

    /// All findings in NIH's order, which is the order of the network's first 14 outputs.
    pub const ALL: [Finding; Self::COUNT] = [
        Finding::Atelectasis,
        Finding::Cardiomegaly,
        Finding::Effusion,
        Finding::Infiltration,
        Finding::Mass,
        Finding::Nodule,
        Finding::Pneumonia,
        Finding::Pneumothorax,
        Finding::Consolidation,
        Finding::Edema,
        Finding::Emphysema,
        Finding::Fibrosis,
        Finding::PleuralThickening,
        Finding::Hernia,
    ];

    /// Position in NIH's order, 0 to 13.
    pub fn index(self) -> usize {
        self as usize
    }

    /// NIH's spelling, e.g. `Pleural_Thickening`.
    pub fn name(self) -> &'static str {
        match self {
            Finding::Atelectasis => "Atelectasis",
            Finding::Cardiomegaly => "Cardiomegaly",
            Finding::Effusion => "Effusion",
            Finding::Infiltration => "Infiltration",
            Finding::Mass => "Mass",
            Finding::Nodule => "Nodule",
            Finding::Pneumonia => "Pneumonia",
            Finding::Pneumothorax => "Pneumothorax",
            Finding::Consolidation => "Consolidation",
            Finding::Edema => "Edema",
            Finding::Emphysema => "Emphysema",
            Finding::Fibrosis => "Fibrosis",
            Finding::PleuralThickening => "Pleural_Thickening",
            Finding::Hernia => "Hernia",
        }
    }

    /// Column-name spelling, e.g. `pleural_thickening`.
    pub fn snake(self) -> &'static str {
        output_names()[self.index()]
    }
}

/// Names of the 15 network outputs in order, snake_case: the findings, then `no_finding`.
pub fn output_names() -> [&'static str; OUTPUTS] {
    [
        "atelectasis",
        "cardiomegaly",
        "effusion",
        "infiltration",
        "mass",
        "nodule",
        "pneumonia",
        "pneumothorax",
        "consolidation",
        "edema",
        "emphysema",
        "fibrosis",
        "pleural_thickening",
        "hernia",
        "no_finding",
    ]
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Finding {
    type Err = UnknownFinding;

    /// Reads NIH's spelling; `Infiltrate`, as `BBox_List_2017.csv` has it, means [`Finding::Infiltration`].
    fn from_str(text: &str) -> Result<Self, UnknownFinding> {
        if text == "Infiltrate" {
            return Ok(Finding::Infiltration);
        }
        Finding::ALL
            .into_iter()
            .find(|finding| finding.name() == text || finding.snake() == text)
            .ok_or_else(|| UnknownFinding(text.to_owned()))
    }
}

/// The findings of one image; the empty set is "No Finding".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Labels(u16);

impl Labels {
    /// Reads NIH's `Finding Labels` field, e.g. `Cardiomegaly|Emphysema` or `No Finding`.
    ///
    /// # Errors
    /// A name that is no finding; "No Finding" beside a finding.
    pub fn parse(text: &str) -> Result<Self, UnknownFinding> {
        let text = text.trim();
        if text == "No Finding" {
            return Ok(Labels(0));
        }
        text.split('|').map(|name| name.trim().parse::<Finding>()).collect()
    }

    /// Whether the image shows `finding`.
    pub fn contains(self, finding: Finding) -> bool {
        self.0 & (1 << finding.index()) != 0
    }

    /// Adds a finding.
    pub fn insert(&mut self, finding: Finding) {
        self.0 |= 1 << finding.index();
    }

    /// Whether the image shows none of the 14.
    pub fn no_finding(self) -> bool {
        self.0 == 0
    }

    /// The findings in NIH's order.
    pub fn findings(self) -> impl Iterator<Item = Finding> {
        Finding::ALL.into_iter().filter(move |&finding| self.contains(finding))
    }

    /// Training targets in output order: 14 findings, then "No Finding"; 0 or 1.
    pub fn targets(self) -> [f32; OUTPUTS] {
        let mut targets = [0.0; OUTPUTS];
        for finding in self.findings() {
            targets[finding.index()] = 1.0;
        }
        targets[OUTPUTS - 1] = f32::from(u8::from(self.no_finding()));
        targets
    }
}

impl FromIterator<Finding> for Labels {
    fn from_iter<I: IntoIterator<Item = Finding>>(findings: I) -> Self {
        let mut labels = Labels::default();
        for finding in findings {
            labels.insert(finding);
        }
        labels
    }
}

impl fmt::Display for Labels {
    /// NIH's form: names joined by `|`, or `No Finding`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.no_finding() {
            return f.write_str("No Finding");
        }
        for (i, finding) in self.findings().enumerate() {
            if i > 0 {
                f.write_str("|")?;
            }
            f.write_str(finding.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_round_trip_in_nih_form() {
        for text in ["No Finding", "Cardiomegaly|Emphysema", "Pleural_Thickening"] {
            assert_eq!(Labels::parse(text).unwrap().to_string(), text);
        }
        // NIH's lists are not always alphabetical.
        assert_eq!(Labels::parse("Hernia|Mass").unwrap().to_string(), "Mass|Hernia");
    }

    #[test]
    fn unknown_findings_are_named() {
        assert_eq!(Labels::parse("Mass|Covid").unwrap_err(), UnknownFinding("Covid".into()));
        assert_eq!(Labels::parse("").unwrap_err(), UnknownFinding(String::new()));
        assert!(Labels::parse("No Finding|Mass").is_err());
    }

    #[test]
    fn targets_have_no_finding_last() {
        assert_eq!(Labels::default().targets()[14], 1.0);
        let targets = Labels::parse("Mass").unwrap().targets();
        assert_eq!((targets[4], targets[14]), (1.0, 0.0));
    }
}
