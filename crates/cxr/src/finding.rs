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

/// What is known about the findings of one image: each is present, absent or unknown. The default is "No Finding", all
/// 14 absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    present: u16,
    unknown: u16,
}

impl Labels {
    /// Nothing is known.
    pub const UNKNOWN: Labels = Labels { present: 0, unknown: (1 << Finding::COUNT) - 1 };

    /// Reads NIH's `Finding Labels` field, e.g. `Cardiomegaly|Emphysema` or `No Finding`; what it does not name is absent.
    ///
    /// # Errors
    /// A name that is no finding; "No Finding" beside a finding.
    pub fn parse(text: &str) -> Result<Self, UnknownName> {
        let text = text.trim();
        if text == "No Finding" {
            return Ok(Labels::default());
        }
        text.split('|').map(|name| name.trim().parse::<Finding>()).collect()
    }

    /// Whether the image shows `finding`; `None` where that is unknown.
    pub fn get(self, finding: Finding) -> Option<bool> {
        let bit = 1 << finding.index();
        (self.unknown & bit == 0).then_some(self.present & bit != 0)
    }

    /// Says whether the image shows `finding`.
    pub fn set(&mut self, finding: Finding, shown: Option<bool>) {
        let bit = 1 << finding.index();
        self.present &= !bit;
        self.unknown &= !bit;
        match shown {
            Some(true) => self.present |= bit,
            Some(false) => {}
            None => self.unknown |= bit,
        }
    }

    /// Whether the image is known to show `finding`.
    pub fn contains(self, finding: Finding) -> bool {
        self.get(finding) == Some(true)
    }

    /// Whether the image shows none of the 14: no, if one is present; yes, if all are absent; else that is unknown.
    pub fn no_finding(self) -> Option<bool> {
        match (self.present, self.unknown) {
            (0, 0) => Some(true),
            (0, _) => None,
            _ => Some(false),
        }
    }

    /// The findings that are present, in NIH's order.
    pub fn findings(self) -> impl Iterator<Item = Finding> {
        Finding::ALL.into_iter().filter(move |&finding| self.contains(finding))
    }

    /// The findings that are unknown, in NIH's order.
    pub fn unknown(self) -> impl Iterator<Item = Finding> {
        Finding::ALL.into_iter().filter(move |&finding| self.get(finding).is_none())
    }

    /// The truth in output order, 14 findings, then "No Finding"; `None` where it is unknown.
    pub fn outputs(self) -> [Option<bool>; OUTPUTS] {
        std::array::from_fn(|output| match Finding::ALL.get(output) {
            Some(&finding) => self.get(finding),
            None => self.no_finding(),
        })
    }
}

impl FromIterator<Finding> for Labels {
    /// These are present, all others absent.
    fn from_iter<I: IntoIterator<Item = Finding>>(findings: I) -> Self {
        let mut labels = Labels::default();
        for finding in findings {
            labels.set(finding, Some(true));
        }
        labels
    }
}

impl fmt::Display for Labels {
    /// NIH's form: names joined by `|`, or `No Finding`. Unknown findings have a question mark: `Mass|?Hernia`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.no_finding() == Some(true) {
            return f.write_str("No Finding");
        }
        let named = Finding::ALL.into_iter().filter(|&finding| self.get(finding) != Some(false));
        for (i, finding) in named.enumerate() {
            if i > 0 {
                f.write_str("|")?;
            }
            f.write_str(if self.contains(finding) { "" } else { "?" })?;
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
    fn outputs_have_no_finding_last() {
        assert_eq!(Labels::default().outputs()[14], Some(true));
        let outputs = Labels::parse("Mass").unwrap().outputs();
        assert_eq!((outputs[3], outputs[4], outputs[14]), (Some(false), Some(true), Some(false)));
    }

    #[test]
    fn no_finding_is_known_where_it_follows() {
        let mut labels = Labels::default();
        labels.set(Finding::Hernia, None);
        assert_eq!((labels.no_finding(), labels.get(Finding::Hernia)), (None, None));
        assert_eq!(labels.to_string(), "?Hernia");
        labels.set(Finding::Mass, Some(true));
        assert_eq!((labels.no_finding(), labels.to_string().as_str()), (Some(false), "Mass|?Hernia"));
        assert!(labels.contains(Finding::Mass) && !labels.contains(Finding::Hernia));
        labels.set(Finding::Hernia, Some(true));
        labels.set(Finding::Hernia, Some(false));
        assert_eq!(labels, Labels::parse("Mass").unwrap());
        assert_eq!((Labels::UNKNOWN.no_finding(), Labels::UNKNOWN.unknown().count()), (None, Finding::COUNT));
        assert_eq!(Labels::UNKNOWN.outputs(), [None; OUTPUTS]);
    }
}
