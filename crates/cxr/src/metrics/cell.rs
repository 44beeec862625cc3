//! The names of reported numbers: which series, scope, metric, subset and split a row of `metrics.parquet` is about.
//!
//! Every type reads back the text that it displays, and refuses another one with the list of known names.
//!
//! ```
//! use cxr::metrics::{Metric, Overlap, Subset};
//!
//! assert_eq!("iou_at_0.3".parse(), Ok(Metric::IouAt(Overlap::ALL[2])));
//! assert_eq!(Subset::Threshold("otsu".to_owned()).to_string(), "attend.threshold=otsu");
//! assert!("auc".parse::<Metric>().unwrap_err().to_string().starts_with("unknown metric \"auc\", expected one of auroc, "));
//! ```

use std::fmt::{self, Display};
use std::str::FromStr;

use super::decision::Criterion;
use crate::{Branch, Expert, Finding, ImageRecord, OUTPUTS, Sex, Split, UnknownName, ViewPosition, output_names};

/// The one of `all` that displays as `text`.
fn parse<T: Display + Clone>(what: &'static str, text: &str, all: &[T]) -> Result<T, UnknownName> {
    all.iter().find(|value| value.to_string() == text).cloned().ok_or_else(|| {
        let known: Vec<String> = all.iter().map(T::to_string).collect();
        UnknownName { what, got: text.to_owned(), allowed: known.join(", ") }
    })
}

/// Two branches whose numbers are subtracted on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[derive(strum::Display, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Pair {
    /// Fusion minus global.
    FusionGlobal,
    /// Fusion minus local.
    FusionLocal,
}

impl Pair {
    /// Both.
    pub const ALL: [Pair; 2] = [Pair::FusionGlobal, Pair::FusionLocal];

    /// What is subtracted from the fusion.
    pub fn other(self) -> Branch {
        match self {
            Pair::FusionGlobal => Branch::Global,
            Pair::FusionLocal => Branch::Local,
        }
    }
}

/// Whose number it is; the column `branch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Series {
    /// A branch's own number: `global`, `local` or `fusion`.
    Branch(Branch),
    /// A difference of two branches: `fusion-global` or `fusion-local`.
    Pair(Pair),
    /// The mean probability of several seeds' fusions: `ensemble`.
    Ensemble,
    /// Its gain over the mean of those fusions' own numbers: `ensemble-fusion`.
    EnsembleGain,
    /// A number about attended regions: `attend`.
    Attention,
    /// A number about regions of class activation maps: `class_map`.
    ClassMap,
    /// NIH's labels, held against those of experts: `nih`.
    Nih,
    /// An imported model, on images that [`Subset::Peer`] names: `peer`.
    Peer,
    /// A branch minus an imported model: `global-peer`, `local-peer`, `fusion-peer`.
    AgainstPeer(Branch),
}

impl Series {
    /// All series, in the order of tables.
    pub const ALL: [Series; 14] = [
        Series::Branch(Branch::Global),
        Series::Branch(Branch::Local),
        Series::Branch(Branch::Fusion),
        Series::Pair(Pair::FusionGlobal),
        Series::Pair(Pair::FusionLocal),
        Series::Ensemble,
        Series::EnsembleGain,
        Series::Attention,
        Series::ClassMap,
        Series::Nih,
        Series::Peer,
        Series::AgainstPeer(Branch::Global),
        Series::AgainstPeer(Branch::Local),
        Series::AgainstPeer(Branch::Fusion),
    ];

    /// The branches of one training and their differences.
    pub fn scored() -> impl Iterator<Item = Series> + Clone {
        Series::ALL.into_iter().filter(|series| matches!(series, Series::Branch(_) | Series::Pair(_)))
    }

    /// The name in `metrics.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Series::Branch(branch) => branch.name(),
            Series::Pair(pair) => pair.into(),
            Series::Ensemble => "ensemble",
            Series::EnsembleGain => "ensemble-fusion",
            Series::Attention => "attend",
            Series::ClassMap => "class_map",
            Series::Nih => "nih",
            Series::Peer => "peer",
            Series::AgainstPeer(Branch::Global) => "global-peer",
            Series::AgainstPeer(Branch::Local) => "local-peer",
            Series::AgainstPeer(Branch::Fusion) => "fusion-peer",
        }
    }
}

impl From<Branch> for Series {
    fn from(branch: Branch) -> Self {
        Series::Branch(branch)
    }
}

impl From<Pair> for Series {
    fn from(pair: Pair) -> Self {
        Series::Pair(pair)
    }
}

impl Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Series {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        parse("branch", text, &Series::ALL)
    }
}

/// What a number is about; the column `finding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One of the 14 findings, in snake_case.
    Finding(Finding),
    /// `no_finding`, the fifteenth output.
    NoFinding,
    /// `mean`: the mean over the 14 findings that are defined.
    Mean,
    /// `all`: one number for all outputs, or for boxes of all findings.
    All,
    /// `expert_airspace_opacity`, ...: a finding that radiologists looked for.
    Expert(Expert),
}

impl Scope {
    /// The scopes of the network's outputs, in their order.
    pub fn outputs() -> [Scope; OUTPUTS] {
        std::array::from_fn(|output| Finding::ALL.get(output).map_or(Scope::NoFinding, |&finding| finding.into()))
    }

    /// The name in `metrics.parquet`.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Finding(finding) => finding.snake(),
            Scope::NoFinding => output_names()[Finding::COUNT],
            Scope::Mean => "mean",
            Scope::All => "all",
            Scope::Expert(Expert::Fracture) => "expert_fracture",
            Scope::Expert(Expert::Pneumothorax) => "expert_pneumothorax",
            Scope::Expert(Expert::AirspaceOpacity) => "expert_airspace_opacity",
            Scope::Expert(Expert::NoduleOrMass) => "expert_nodule_or_mass",
        }
    }
}

impl From<Finding> for Scope {
    fn from(finding: Finding) -> Self {
        Scope::Finding(finding)
    }
}

impl Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let rest = [Scope::Mean, Scope::All].into_iter().chain(Expert::ALL.map(Scope::Expert));
        let all: Vec<Scope> = Scope::outputs().into_iter().chain(rest).collect();
        parse("finding", text, &all)
    }
}

/// A number about decisions at a threshold that was chosen on other images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Decision {
    /// The threshold itself, as a probability.
    Threshold,
    /// Share of the positives that are called positive.
    Sensitivity,
    /// Share of the negatives that are called negative.
    Specificity,
    /// Share of those called positive that are positive.
    Precision,
    /// Harmonic mean of precision and sensitivity.
    F1,
}

impl Decision {
    /// All of them.
    pub const ALL: [Decision; 5] =
        [Decision::Threshold, Decision::Sensitivity, Decision::Specificity, Decision::Precision, Decision::F1];

    /// Those that are shares of images.
    pub const SHARES: [Decision; 4] = [Decision::Sensitivity, Decision::Specificity, Decision::Precision, Decision::F1];
}

/// An overlap of region and box above which the box counts as found, in tenths: T of Wang et al., CVPR 2017, section 4.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Overlap(u8);

impl Overlap {
    /// 0.1 to 0.7.
    pub const ALL: [Overlap; 7] = [Overlap(1), Overlap(2), Overlap(3), Overlap(4), Overlap(5), Overlap(6), Overlap(7)];
    /// 0.3, in published tables.
    pub const THREE_TENTHS: Overlap = Overlap(3);
    /// 0.5, in published tables.
    pub const HALF: Overlap = Overlap(5);

    /// The overlap as a number between 0 and 1.
    pub fn value(self) -> f32 {
        f32::from(self.0) / 10.0
    }
}

impl Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0.{}", self.0)
    }
}

/// What was measured; the column `metric`. `docs/reading-the-numbers.md` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Metric {
    /// Area under the ROC curve, see [`auroc`](super::auroc).
    Auroc,
    /// See [`average_precision`](super::average_precision).
    AveragePrecision,
    /// A difference of AUROCs with its interval in closed form, see [`delong`](super::delong).
    AurocDelong,
    /// The p-value of that difference.
    AurocDelongP,
    /// How many of the 14 findings a mean is over.
    FindingsDefined,
    /// A number about decisions, at the threshold that the criterion prefers: `sensitivity_youden`, ...
    #[strum(to_string = "{0}_{1}")]
    Decision(Decision, Criterion),
    /// Brier score.
    Brier,
    /// Expected calibration error.
    Ece,
    /// What the logits are to be divided by.
    Temperature,
    /// Brier score after that division.
    BrierScaled,
    /// Expected calibration error after that division.
    EceScaled,
    /// Share of boxes that contain the heat map's maximum.
    PointingGame,
    /// Share of boxes whose centre lies in the attended region.
    HitRate,
    /// Mean intersection over union of region and box.
    Iou,
    /// Mean intersection over the region.
    Iobb,
    /// Share of boxes with a larger intersection over union.
    #[strum(to_string = "iou_at_{0}")]
    IouAt(Overlap),
    /// Share of boxes with a larger intersection over the region.
    #[strum(to_string = "iobb_at_{0}")]
    IobbAt(Overlap),
    /// Localisation accuracy of WSRPN's protocol.
    #[strum(to_string = "loc_acc_at_{0}")]
    LocAccAt(Overlap),
    /// The same accuracy of a model that predicts no finding, at every overlap.
    LocAccNothing,
    /// Share of boxes whose finding is predicted in that protocol.
    BoxPredicted,
    /// Share of the image that the region takes.
    AttentionArea,
    /// Share of images without a region.
    FallbackRate,
    /// Share of the experts' positives that NIH's labels have.
    Sensitivity,
    /// Share of NIH's positives that the experts confirm.
    Precision,
    /// Cohen's kappa, see [`kappa`](super::agreement::kappa).
    Kappa,
}

/// A metric for every overlap.
pub type OfOverlap = fn(Overlap) -> Metric;

impl Metric {
    /// The metrics of a ranking, in the order of [`Resamples::ranking`](super::Resamples::ranking).
    pub const RANKED: [Metric; 2] = [Metric::Auroc, Metric::AveragePrecision];

    /// The shares of boxes with more than an overlap, and how the overlap is called.
    pub const SHARES: [(OfOverlap, &'static str); 2] = [(Metric::IouAt, "IoU"), (Metric::IobbAt, "IoBB")];

    /// All metrics.
    pub fn all() -> Vec<Metric> {
        let mut all = Metric::RANKED.to_vec();
        all.extend([Metric::AurocDelong, Metric::AurocDelongP, Metric::FindingsDefined]);
        for criterion in Criterion::ALL {
            all.extend(Decision::ALL.map(|decision| Metric::Decision(decision, criterion)));
        }
        all.extend([Metric::Brier, Metric::Ece, Metric::Temperature, Metric::BrierScaled, Metric::EceScaled]);
        all.extend([Metric::PointingGame, Metric::HitRate, Metric::Iou, Metric::Iobb]);
        all.extend(Overlap::ALL.map(Metric::IouAt));
        all.extend(Overlap::ALL.map(Metric::IobbAt));
        all.extend(Overlap::ALL.map(Metric::LocAccAt));
        all.extend([Metric::LocAccNothing, Metric::BoxPredicted]);
        all.extend([Metric::AttentionArea, Metric::FallbackRate]);
        all.extend([Metric::Sensitivity, Metric::Precision, Metric::Kappa]);
        all
    }
}

impl FromStr for Metric {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        parse("metric", text, &Metric::all())
    }
}

/// Twenty years of age each, as many images as a subgroup needs; the first band holds the few children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display, strum::VariantArray)]
#[allow(missing_docs)] // the variants are the bands' first years
pub enum AgeBand {
    #[strum(serialize = "0-39")]
    From0,
    #[strum(serialize = "40-59")]
    From40,
    #[strum(serialize = "60-79")]
    From60,
    #[strum(serialize = "80+")]
    From80,
}

impl AgeBand {
    /// All bands, by rising age.
    pub const ALL: [AgeBand; 4] = [AgeBand::From0, AgeBand::From40, AgeBand::From60, AgeBand::From80];

    /// The band of an age in years.
    pub fn of(years: u16) -> AgeBand {
        match years {
            0..40 => AgeBand::From0,
            40..60 => AgeBand::From40,
            60..80 => AgeBand::From60,
            80.. => AgeBand::From80,
        }
    }
}

/// The images that a number was measured on, within its split; the column `subset`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subset {
    /// `all`.
    All,
    /// `sex=F`, `sex=M`.
    Sex(Sex),
    /// `age=40-59`, ...
    Age(AgeBand),
    /// `view=PA`, `view=AP`.
    ViewPosition(ViewPosition),
    /// `attend.threshold=0.5`: all images, in the run of a sweep whose `attend.threshold` is that number or method.
    Threshold(String),
    /// `arm=random`: all images, by the trainings of that arm of a study.
    Arm(String),
    /// `arm=attended-versus-random`: the difference of two arms on all images.
    Versus(String, String),
    /// `experts`: images that experts read, whose labels are the truth.
    Experts,
    /// `experts_nih`: the same images, NIH's labels being the truth.
    ExpertImages,
    /// `peer=jrzech`: images that an imported model has scores of, too.
    Peer(String),
}

/// What the text of a [`Subset::Threshold`] begins with.
const THRESHOLD: &str = "attend.threshold=";
/// What the text of a [`Subset::Arm`] begins with.
const ARM: &str = "arm=";
/// What stands between the arms of a [`Subset::Versus`].
const VERSUS: &str = "-versus-";
/// What the text of a [`Subset::Peer`] begins with.
const PEER: &str = "peer=";

impl Subset {
    /// The groups of images that are measured on their own, in the order of tables.
    pub fn groups() -> Vec<Subset> {
        let sexes = [Sex::Female, Sex::Male].map(Subset::Sex);
        let positions = [ViewPosition::Pa, ViewPosition::Ap].map(Subset::ViewPosition);
        sexes.into_iter().chain(AgeBand::ALL.map(Subset::Age)).chain(positions).collect()
    }

    /// Whether it is one of [`Subset::groups`]: some of the images.
    pub fn is_group(&self) -> bool {
        matches!(self, Subset::Sex(_) | Subset::Age(_) | Subset::ViewPosition(_))
    }

    /// Whether the image belongs to it; an image about which the table says nothing belongs to no group.
    pub fn contains(&self, image: &ImageRecord) -> bool {
        match self {
            Subset::All | Subset::Threshold(_) | Subset::Arm(_) | Subset::Versus(..) => true,
            // No property of the image says so.
            Subset::Experts | Subset::ExpertImages | Subset::Peer(_) => false,
            Subset::Sex(sex) => image.sex == Some(*sex),
            Subset::Age(band) => image.age_years.map(AgeBand::of) == Some(*band),
            Subset::ViewPosition(position) => image.view_position == Some(*position),
        }
    }
}

impl Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subset::All => f.write_str("all"),
            Subset::Sex(sex) => write!(f, "sex={}", sex.name()),
            Subset::Age(band) => write!(f, "age={band}"),
            Subset::ViewPosition(position) => write!(f, "view={}", position.name()),
            Subset::Threshold(threshold) => write!(f, "{THRESHOLD}{threshold}"),
            Subset::Arm(arm) => write!(f, "{ARM}{arm}"),
            Subset::Versus(first, second) => write!(f, "{ARM}{first}{VERSUS}{second}"),
            Subset::Experts => f.write_str("experts"),
            Subset::ExpertImages => f.write_str("experts_nih"),
            Subset::Peer(name) => write!(f, "{PEER}{name}"),
        }
    }
}

impl FromStr for Subset {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        if let Some(threshold) = text.strip_prefix(THRESHOLD).filter(|threshold| !threshold.is_empty()) {
            return Ok(Subset::Threshold(threshold.to_owned()));
        }
        if let Some(arm) = text.strip_prefix(ARM).filter(|arm| !arm.is_empty()) {
            return Ok(match arm.split_once(VERSUS) {
                Some((first, second)) => Subset::Versus(first.to_owned(), second.to_owned()),
                None => Subset::Arm(arm.to_owned()),
            });
        }
        if let Some(name) = text.strip_prefix(PEER).filter(|name| !name.is_empty()) {
            return Ok(Subset::Peer(name.to_owned()));
        }
        let mut all = vec![Subset::All, Subset::Experts, Subset::ExpertImages];
        all.extend(Subset::groups());
        let others = format!(", {THRESHOLD}<threshold>, {PEER}<model>, {ARM}<arm>, {ARM}<arm>{VERSUS}<arm>");
        parse("subset", text, &all).map_err(|error| UnknownName { allowed: error.allowed + &others, ..error })
    }
}

/// What a number is: the key of a row of `metrics.parquet`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Whose number it is.
    pub series: Series,
    /// What it is about.
    pub scope: Scope,
    /// What was measured.
    pub metric: Metric,
    /// On which of the split's images.
    pub subset: Subset,
    /// On which split.
    pub split: Split,
}

impl Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { series, scope, metric, subset, split } = self;
        write!(f, "branch {series}, finding {scope}, metric {metric}, subset {subset}, split {split}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of files and notebooks: they never change.
    #[test]
    fn names_are_those_of_the_file() {
        let names =
            |values: &[&dyn Display]| values.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" ");
        let all = Metric::all();
        assert_eq!(
            names(&all.iter().map(|metric| metric as &dyn Display).collect::<Vec<_>>()),
            "auroc average_precision auroc_delong auroc_delong_p findings_defined \
             threshold_youden sensitivity_youden specificity_youden precision_youden f1_youden \
             threshold_f1 sensitivity_f1 specificity_f1 precision_f1 f1_f1 \
             brier ece temperature brier_scaled ece_scaled pointing_game hit_rate iou iobb \
             iou_at_0.1 iou_at_0.2 iou_at_0.3 iou_at_0.4 iou_at_0.5 iou_at_0.6 iou_at_0.7 \
             iobb_at_0.1 iobb_at_0.2 iobb_at_0.3 iobb_at_0.4 iobb_at_0.5 iobb_at_0.6 iobb_at_0.7 \
             loc_acc_at_0.1 loc_acc_at_0.2 loc_acc_at_0.3 loc_acc_at_0.4 loc_acc_at_0.5 loc_acc_at_0.6 loc_acc_at_0.7 \
             loc_acc_nothing box_predicted \
             attention_area fallback_rate sensitivity precision kappa"
        );
        let series = Series::ALL.map(Series::name);
        assert_eq!(
            series,
            [
                "global",
                "local",
                "fusion",
                "fusion-global",
                "fusion-local",
                "ensemble",
                "ensemble-fusion",
                "attend",
                "class_map",
                "nih",
                "peer",
                "global-peer",
                "local-peer",
                "fusion-peer"
            ]
        );
        assert_eq!(Scope::outputs().map(Scope::name), output_names());
        assert_eq!([Scope::Mean, Scope::All].map(Scope::name), ["mean", "all"]);
        let subsets: Vec<String> = Subset::groups().iter().map(Subset::to_string).collect();
        let expected = ["sex=F", "sex=M", "age=0-39", "age=40-59", "age=60-79", "age=80+", "view=PA", "view=AP"];
        assert_eq!(subsets, expected);
    }

    #[test]
    fn names_read_back() {
        for metric in Metric::all() {
            assert_eq!(metric.to_string().parse(), Ok(metric));
        }
        for series in Series::ALL {
            assert_eq!(series.name().parse(), Ok(series));
        }
        for scope in Scope::outputs().into_iter().chain([Scope::Mean, Scope::All]).chain(Expert::ALL.map(Scope::Expert))
        {
            assert_eq!(scope.name().parse(), Ok(scope));
        }
        let named = [
            Subset::All,
            Subset::Threshold("0.70".into()),
            Subset::Arm("random".into()),
            Subset::Experts,
            Subset::ExpertImages,
            Subset::Peer("jrzech".into()),
            Subset::Versus("attended".into(), "random".into()),
        ];
        for subset in Subset::groups().into_iter().chain(named) {
            assert_eq!(subset.to_string().parse(), Ok(subset));
        }
        assert!("iou_at_0.8".parse::<Metric>().is_err() && "attend.threshold=".parse::<Subset>().is_err());
        let error = "fusion-attend".parse::<Series>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown branch \"fusion-attend\", expected one of global, local, fusion, fusion-global, fusion-local, ensemble, ensemble-fusion, attend, class_map, \
             nih, peer, global-peer, local-peer, fusion-peer"
        );
    }
}
