//! Predictions of others: a table with a score for each image and finding.
//!
//! Pure: bytes in, scores out. The image is found by its column's name, or else in the first column that holds names of
//! images; a finding by its name with whatever stands before or behind it (`prob_Mass`, `Mass`, `Mass_logit`).

mod columns;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;

use cxr::OUTPUTS;

use crate::names::{image_name, known_by};
use crate::table::{Error, Limits, Table, cell};
use columns::{Chosen, choose, image_column};

/// What is believed of a file that may be anything: NIH has 112,120 images, which with 15 scores of
/// ten digits take 20 MB.
pub const LIMITS: Limits = Limits { bytes: 1 << 27, rows: 2_000_000, cells: 1000 };

/// What a score is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// All values lie in 0 to 1.
    Probability,
    /// Some lie outside: scores before the sigmoid.
    Logit,
}

/// The scores of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// What each image is called, without folders and without the ending of an image file, and its scores in output
    /// order, in the file's order; 0 for an output without a column.
    pub rows: Vec<(String, [f64; OUTPUTS])>,
    /// Which outputs have a column.
    pub scored: [bool; OUTPUTS],
    /// What the scores are.
    pub scale: Scale,
    /// The column with the images.
    pub image_column: String,
    /// The columns with the scores, in output order.
    pub score_columns: Vec<String>,
    /// Columns that nothing reads.
    pub ignored: Vec<String>,
    /// Rows that repeat an image and its scores.
    pub repeated: usize,
}

/// Reads a table of scores; `wanted` is what stands beside the findings in the names of its columns (`prob` for
/// `prob_Mass`), where there are several such sets.
///
/// # Errors
/// No text, no rows, more than [`LIMITS`]; no column of images or of scores; several sets of scores, or only sets of 0 and
/// 1, of which none is wanted; two columns for one finding; a cell that is no finite number; an image on two lines with
/// different scores.
pub fn scores(path: &Path, bytes: &[u8], wanted: Option<&str>) -> Result<Scores, Error> {
    let table = Table::within(path, bytes, LIMITS)?;
    if table.rows.is_empty() {
        return Err(Error::NoRows { path: table.path() });
    }
    let image = image_column(&table)?;
    let Chosen { columns, ignored } = choose(&table, &image, wanted)?;
    let mut rows: Vec<(String, [f64; OUTPUTS])> = Vec::with_capacity(table.rows.len());
    let mut lines: HashMap<String, (u64, usize)> = HashMap::with_capacity(table.rows.len());
    let (mut inside, mut repeated) = (true, 0);
    for (line, record) in &table.rows {
        let text = cell(record, Some(&image));
        let name = image_name(text).ok_or_else(|| table.bad(*line, &image, text, "the name of an image's file"))?;
        let mut scores = [0.0; OUTPUTS];
        for (output, column) in &columns {
            let text = cell(record, Some(column));
            let score = text.parse::<f64>().ok().filter(|score| (*score as f32).is_finite());
            scores[*output] = score.ok_or_else(|| table.bad(*line, column, text, NUMBER))?;
            inside &= (0.0..=1.0).contains(&scores[*output]);
        }
        let image_id = known_by(&name).to_owned();
        match lines.get(&image_id) {
            Some(&(_, at)) if rows[at].1 == scores => repeated += 1,
            Some(&(first, _)) => {
                return Err(Error::Differ { path: path.to_owned(), line: *line, first, image_id });
            }
            None => {
                lines.insert(image_id.clone(), (*line, rows.len()));
                rows.push((image_id, scores));
            }
        }
    }
    let mut scored = [false; OUTPUTS];
    columns.iter().for_each(|(output, _)| scored[*output] = true);
    Ok(Scores {
        rows,
        scored,
        scale: if inside { Scale::Probability } else { Scale::Logit },
        image_column: image.name,
        score_columns: columns.into_iter().map(|(_, column)| column.name).collect(),
        ignored,
        repeated,
    })
}

/// What a cell of a score must be.
const NUMBER: &str = "a finite number, a probability or a logit; an image without a score has no row";

impl Scale {
    /// The score before the sigmoid, f32: of probability 0 and 1 beyond those of all others. Rising in `score`; equal
    /// only for scores that f32 cannot tell apart.
    pub fn logit(self, score: f64) -> f32 {
        match self {
            Scale::Logit => score as f32,
            // The logits of the smallest f64 above 0 and the largest below 1 are -744.4 and 36.7.
            Scale::Probability if score <= 0.0 => -750.0,
            Scale::Probability if score >= 1.0 => 40.0,
            Scale::Probability => (score.ln() - (-score).ln_1p()) as f32,
        }
    }
}
