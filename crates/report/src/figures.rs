//! The figures, as [`Drawing`]s.
//!
//! A branch has a colour, a shape and a dash, so that no figure needs its colours to be read.

mod arms;
mod axis;
mod curves;
mod forest;
mod localisation;
mod style;
mod sweep;
mod training;

use std::path::Path;

use cxr::Split;
use cxr::metrics::{Metric, Overlap, Scope, Series};
use tables::epochs;

pub use arms::{arms, contrasts};
pub use forest::forest;
pub use sweep::{Swept, sweep};

use crate::Error;
use crate::cohort::Cohort;
use crate::drawing::Drawing;
use crate::plan::{KeepGoing, check};
use crate::published::Sweep;
use crate::results::Results;

/// A figure: its name under `figures/`, what it shows in words, and its marks.
pub struct Figure {
    /// File name without ending.
    pub name: &'static str,
    /// The alternative text.
    pub alt: &'static str,
    /// The marks.
    pub drawing: Drawing,
}

impl Figure {
    /// Writes the figure to a folder, as SVG and as PNG.
    ///
    /// # Errors
    /// The disk is full; a drawing fails, a bug.
    pub fn save(&self, folder: &Path) -> Result<(), crate::Error> {
        fs_err::create_dir_all(folder)?;
        fs_err::write(folder.join(format!("{}.svg", self.name)), self.drawing.svg()?)?;
        fs_err::write(folder.join(format!("{}.png", self.name)), self.drawing.png()?)?;
        Ok(())
    }
}

/// What the figures show.
pub struct Shown<'a> {
    /// The images.
    pub cohort: &'a Cohort,
    /// The numbers.
    pub results: &'a Results,
    /// The epochs of each branch.
    pub epochs: &'a [Vec<epochs::Row>; 3],
    /// The points of a sweep; empty without one.
    pub swept: &'a [Swept],
    /// The paper's sweep.
    pub paper: &'a [Sweep],
    /// The split reported on.
    pub split: Split,
}

/// Draws all figures that there are numbers for.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn draw(shown: &Shown, keep_going: KeepGoing) -> Result<Vec<Figure>, Error> {
    let &Shown { cohort, results, epochs, swept, paper, split } = shown;
    let mut figures = Vec::new();
    let mut push = |name, alt, drawing: &dyn Fn() -> Drawing| -> Result<(), Error> {
        check(keep_going)?;
        figures.push(Figure { name, alt, drawing: drawing() });
        Ok(())
    };
    let alt = "AUROC of every finding with intervals, and paired differences";
    push("auroc", alt, &|| forest::forest(results, split))?;
    push("roc", "ROC curves of every finding", &|| curves::roc(cohort, results, split))?;
    push("pr", "Precision-recall curves of every finding", &|| curves::pr(cohort, results, split))?;
    let alt = "Share of positives against probability of every finding";
    push("calibration", alt, &|| curves::calibration(cohort, results, split))?;
    push("subgroups", "Mean AUROC by sex, age and view position", &|| forest::subsets(results, split))?;
    if epochs.iter().any(|rows| !rows.is_empty()) {
        push("training", "Loss and validation AUROC of every epoch", &|| training::training(epochs))?;
    }
    let overlaps = results.located(Series::Attention, Scope::All, Metric::IouAt(Overlap::ALL[0]), split);
    if overlaps.is_some_and(|row| row.value.is_some()) {
        let alt = "Share of boxes found against the overlap asked for";
        push("localisation", alt, &|| localisation::overlaps(results, split))?;
    }
    if !swept.is_empty() {
        let alt = "Mean AUROC against the threshold of the attention mask, beside the paper's";
        push("sweep", alt, &|| sweep(swept, paper))?;
    }
    Ok(figures)
}
