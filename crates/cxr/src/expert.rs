//! What radiologists who looked again at some of NIH's images say of them.

use strum::{VariantArray, VariantNames};

use crate::{Finding, Labels, UnknownName};

/// One of the four findings for which Majkowska et al. had NIH's images read, by three radiologists each ("Chest Radiograph
/// Interpretation with Deep Learning Models", Radiology 294:421, 2020, DOI 10.1148/radiol.2019191293). Only one of them is
/// a finding of NIH's; two are unions of some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray, strum::VariantNames)]
#[strum(serialize_all = "snake_case", parse_err_ty = UnknownName, parse_err_fn = unknown_expert)]
pub enum Expert {
    /// A broken bone; NIH has no label for it.
    Fracture,
    /// Air between lung and chest wall.
    Pneumothorax,
    /// Anything that makes the air spaces opaque.
    AirspaceOpacity,
    /// A nodule or a mass.
    NoduleOrMass,
}

fn unknown_expert(text: &str) -> UnknownName {
    UnknownName {
        what: "finding of experts",
        got: text.to_owned(),
        allowed: <Expert as VariantNames>::VARIANTS.join(", "),
    }
}

impl Expert {
    /// Number of findings.
    pub const COUNT: usize = 4;

    /// All four, in Google's order.
    pub const ALL: [Expert; Self::COUNT] = *<Expert as VariantArray>::VARIANTS.first_chunk().unwrap();

    /// Place in Google's order, 0 to 3.
    pub fn index(self) -> usize {
        self as usize
    }

    /// `airspace_opacity`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Expert {
    /// Which of NIH's findings make it, none for a fracture: the default of `report.experts`, which says why.
    pub fn findings(self) -> &'static [Finding] {
        match self {
            Expert::Fracture => &[],
            Expert::Pneumothorax => &[Finding::Pneumothorax],
            Expert::AirspaceOpacity => &[
                Finding::Consolidation,
                Finding::Pneumonia,
                Finding::Infiltration,
                Finding::Atelectasis,
                Finding::Edema,
            ],
            Expert::NoduleOrMass => &[Finding::Nodule, Finding::Mass],
        }
    }
}

/// What experts say of one image, in the order of [`Expert::ALL`]; `None` where nobody looked for it.
pub type ExpertLabels = [Option<bool>; Expert::COUNT];

/// Whether an image shows any of some findings: yes, if one is present; no, if all are absent; else that is unknown.
pub fn any_of(labels: Labels, findings: &[Finding]) -> Option<bool> {
    let mut each = findings.iter().map(|&finding| labels.get(finding));
    if each.clone().any(|shown| shown == Some(true)) {
        return Some(true);
    }
    each.all(|shown| shown == Some(false)).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_is_known_where_it_follows() {
        let mut labels = Labels::parse("Mass").unwrap();
        labels.set(Finding::Nodule, None);
        assert_eq!(any_of(labels, &[Finding::Nodule, Finding::Mass]), Some(true));
        assert_eq!(any_of(labels, &[Finding::Mass, Finding::Nodule]), Some(true));
        assert_eq!(any_of(labels, &[Finding::Nodule, Finding::Hernia]), None);
        assert_eq!(any_of(labels, &[Finding::Edema, Finding::Hernia]), Some(false));
        assert_eq!("airspace_opacity".parse(), Ok(Expert::AirspaceOpacity));
        assert!("cough".parse::<Expert>().unwrap_err().to_string().contains("nodule_or_mass"));
    }
}
