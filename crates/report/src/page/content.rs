//! All that a page shows.

use cxr::{EvalFrame, Split};
use tables::epochs;

use crate::cases::Case;
use crate::cohort::Cohort;
use crate::figures::Figure;
use crate::provenance::Provenance;
use crate::published::Dataset;
use crate::results::Results;
use crate::sweep::Entry;

/// All that a page shows.
pub struct Page<'a> {
    /// The report's key: run names and dates are no part of the page, which several runs may share.
    pub key: &'a str,
    /// The numbers.
    pub results: &'a Results,
    /// What they were measured on.
    pub dataset: &'a Dataset,
    /// The images.
    pub cohort: &'a Cohort,
    /// Split reported on.
    pub split: Split,
    /// Bootstrap draws.
    pub draws: usize,
    /// Share of draws inside an interval.
    pub confidence: f64,
    /// The part of an image that the global branch sees.
    pub frame: EvalFrame,
    /// The model's digest, where it was trained elsewhere.
    pub model: Option<&'a str>,
    /// Epochs of global, local and fusion; none where they were trained elsewhere.
    pub epochs: &'a [Vec<epochs::Row>; 3],
    /// Why boxes are not held against regions, if so.
    pub refusal: Option<&'a str>,
    /// Where regions are put, if that is a control and not where the network looks.
    pub control: Option<&'a str>,
    /// Runs of the sweep, if there was one.
    pub sweep: &'a [Entry],
    /// Figures by name.
    pub figures: &'a [Figure],
    /// The gallery.
    pub cases: &'a [Case<'a>],
    /// Upstream first.
    pub provenance: &'a [Provenance],
}

/// A share as a percentage: `95`, `99.5`.
pub(super) fn percent(share: f64) -> String {
    let percent = (share * 1e4).round() / 100.0;
    percent.to_string()
}
