//! An answer as a row.

use cxr::{Branch, output_names};
use tables::answers;

use crate::ask::Answered;
use crate::error::Error;

/// The row of an image.
pub(super) fn row(answered: &Answered) -> answers::Row {
    let Answered { name, answer } = answered;
    answers::Row {
        image: (*name).to_owned(),
        refused: answer.refusal.as_ref().map(|refusal| (refusal.code().to_owned(), refusal.to_string())),
        novelty: answer.novelty,
        seen: answer.seen.as_ref().map(|seen| answers::Seen {
            box_px: seen.box_px.map(|edge| edge as f32),
            probabilities: seen.probabilities,
            calibrated: seen.calibrated,
            calls: seen.calls,
            verdicts: std::array::from_fn(|output| seen.verdicts?[output].map(Into::into)),
        }),
    }
}

/// The header line, with the columns of the verdicts or without.
pub(super) fn csv_header(verdicts: bool) -> Result<String, Error> {
    let mut names: Vec<String> = ["image", "refused", "why", "novelty"].map(str::to_owned).into();
    names.extend(["x_min_px", "y_min_px", "x_max_px", "y_max_px"].map(str::to_owned));
    for branch in Branch::ALL {
        names.extend(output_names().map(|finding| format!("prob_{branch}_{finding}")));
    }
    names.extend(output_names().map(|finding| format!("calibrated_{finding}")));
    names.extend(output_names().map(|finding| format!("call_{finding}")));
    if verdicts {
        names.extend(output_names().map(|finding| format!("verdict_{finding}")));
    }
    line(&names)
}

/// The line of a row; what is not known is empty.
pub(super) fn csv(row: &answers::Row, verdicts: bool) -> Result<String, Error> {
    let (reason, why) = row.refused.clone().unzip();
    let mut cells = vec![row.image.clone(), reason.unwrap_or_default(), why.unwrap_or_default()];
    cells.push(row.novelty.map_or(String::new(), |novelty| novelty.to_string()));
    let seen = row.seen.as_ref();
    let number = |value: Option<f32>| value.map_or(String::new(), |value| value.to_string());
    cells.extend((0..4).map(|edge| number(seen.map(|seen| seen.box_px[edge]))));
    for branch in Branch::ALL {
        cells.extend(
            (0..output_names().len())
                .map(|output| number(seen.map(|seen| seen.probabilities[branch as usize][output]))),
        );
    }
    cells.extend((0..output_names().len()).map(|output| number(seen.map(|seen| seen.calibrated[output]))));
    let call = |output: usize| seen.and_then(|seen| seen.calls[output]);
    cells.extend((0..output_names().len()).map(|output| match call(output) {
        Some(true) => "1".to_owned(),
        Some(false) => "0".to_owned(),
        None => String::new(),
    }));
    if verdicts {
        let verdict = |output: usize| seen.and_then(|seen| seen.verdicts[output]);
        cells.extend((0..output_names().len()).map(|output| verdict(output).unwrap_or_default().to_owned()));
    }
    line(&cells)
}

fn line(cells: &[String]) -> Result<String, Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    let bytes = writer.into_inner().map_err(|error| Error::Io(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
