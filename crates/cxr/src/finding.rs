//! The 14 findings of ChestX-ray14 and the label set of one image.

use std::fmt;

use strum::{VariantArray, VariantNames};

use crate::UnknownName;

/// Number of network outputs: the 14 findings, then "No Finding" (AG-CNN, section III-A, C = 15).
pub const OUTPUTS: usize = 15;

/// One of the 14 findings of NIH ChestX-ray14 (Wang et al., CVPR 2017), in NIH's order.
///
/// Reads NIH's spelling and the column names' (`pleural_thickening`); `Infiltrate`, as `BBox_List_2017.csv` has it, is
/// [`Finding::Infiltration`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray, strum::VariantNames)]
#[strum(ascii_case_insensitive, parse_err_ty = UnknownName, parse_err_fn = unknown_finding)]
#[allow(missing_docs)] // the variants are the findings' names
pub enum Finding {
    Atelectasis,
    Cardiomegaly,
    Effusion,
    #[strum(to_string = "Infiltration", serialize = "Infiltrate")]
    Infiltration,
    Mass,
    Nodule,
    Pneumonia,
    Pneumothorax,
    Consolidation,
    Edema,
    Emphysema,
    Fibrosis,
    #[strum(serialize = "Pleural_Thickening")]
    PleuralThickening,
    Hernia,
}

fn unknown_finding(text: &str) -> UnknownName {
    UnknownName { what: "finding", got: text.to_owned(), allowed: <Finding as VariantNames>::VARIANTS.join(", ") }
}

impl Finding {
    /// Number of findings.
    pub const COUNT: usize = 14;

    /// All findings in NIH's order, which is the order of the network's first 14 outputs.
    pub const ALL: [Finding; Self::COUNT] = *<Finding as VariantArray>::VARIANTS.first_chunk().unwrap();

    /// Position in NIH's order, 0 to 13.
    pub fn index(self) -> usize {
        self as usize
    }

    /// NIH's spelling, e.g. `Pleural_Thickening`.
    pub fn name(self) -> &'static str {
        self.into()
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

/// The findings of one image; the empty set is "No Finding".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Labels(u16);

impl Labels {
    /// Reads NIH's `Finding Labels` field, e.g. `Cardiomegaly|Emphysema` or `No Finding`.
    ///
    /// # Errors
    /// A name that is no finding; "No Finding" beside a finding.
    pub fn parse(text: &str) -> Result<Self, UnknownName> {
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
        let message = |text: &str| Labels::parse(text).unwrap_err().to_string();
        assert!(
            message("Mass|Covid").starts_with("unknown finding \"Covid\", expected one of Atelectasis, Cardiomegaly, ")
        );
        assert!(message("").contains("\"\", expected one of"));
        assert!(Labels::parse("No Finding|Mass").is_err());
    }

    #[test]
    fn findings_have_three_spellings() {
        for (index, finding) in Finding::ALL.into_iter().enumerate() {
            assert_eq!(finding.index(), index);
            assert_eq!(finding.name().to_lowercase(), finding.snake());
            assert_eq!(finding.to_string(), finding.name());
            assert_eq!((finding.name().parse(), finding.snake().parse()), (Ok(finding), Ok(finding)));
        }
        assert_eq!(Finding::PleuralThickening.name(), "Pleural_Thickening");
        assert_eq!(Finding::Infiltration.name(), "Infiltration");
        assert_eq!("Infiltrate".parse(), Ok(Finding::Infiltration));
    }

    #[test]
    fn targets_have_no_finding_last() {
        assert_eq!(Labels::default().targets()[14], 1.0);
        let targets = Labels::parse("Mass").unwrap().targets();
        assert_eq!((targets[4], targets[14]), (1.0, 0.0));
    }
}
