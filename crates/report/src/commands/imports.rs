//! Where imported predictions lie on disk: all that this program asks of `stage` for them.
//!
//! An import is the one result, `import`, of a run that is called as the model.

use cxr::OUTPUTS;
use serde_json::{Value, json};
use stage::{Begin, Common, Computed, Fail, Outcome, Run, Spec, Unchecked};
use tables::predictions::{self, Row};

use super::ending::fail;
use crate::Error;
use crate::import::{Images, Imported};

/// How an import is published.
pub(super) const IMPORT: Spec = Spec { name: "import", version: 2, seeded: false, defaults: "[import]\n", about: "" };

const PREDICTIONS: &str = "predictions.parquet";

/// Stages with predictions of a run's own; no import has one beside it.
const OWN: [&str; 4] = ["fusion", "local", "global", "evaluate"];

/// An imported model.
#[derive(Debug)]
pub(super) struct Model {
    /// Sorted by image; all are test images.
    pub(super) rows: Vec<Row>,
    /// Which outputs have scores: the others hold 0.
    pub(super) scored: [bool; OUTPUTS],
    /// Which images they are.
    pub(super) images: Images,
    /// File name of the label table.
    pub(super) table: String,
    /// Digest of the predictions.
    pub(super) digest: String,
}

/// The run of an import, with what it is made from.
///
/// # Errors
/// Exit code 2 for a name that a run of another kind has.
pub(super) fn open(common: &Common, name: &str, made_from: &[(String, String)]) -> Result<Run, Fail> {
    let common = Common { run: name.to_owned(), ..common.clone() };
    let (mut run, Unchecked(_)) = Run::open(&IMPORT, &common)?;
    if !matches!(run.optional_input("prep", &[""]), Ok(None)) {
        let taken = anyhow::anyhow!("{name}: a run of that name trains models of its own");
        return Err(Fail::usage(taken).hint("give the imported model another name"));
    }
    for (label, digest) in made_from {
        run.outside(label, digest.clone(), None);
    }
    Ok(run)
}

/// Publishes an import, unless the store has it.
pub(super) fn publish(run: &Run, imported: &Imported, images: &Images, table: &str) -> Result<Outcome, Fail> {
    let mut work = match run.begin()? {
        Begin::Work(work) => work,
        Begin::Stop(outcome) => return Ok(outcome),
    };
    predictions::write(&work.out().join(PREDICTIONS), &imported.rows, IMPORT.name).map_err(fail)?;
    work.rows(PREDICTIONS, imported.rows.len() as u64);
    work.computed(Computed { device: "CPU".to_owned(), ..Computed::default() });
    let names: Vec<&str> = cxr::output_names()
        .into_iter()
        .zip(imported.scored)
        .filter(|(_, scored)| *scored)
        .map(|(name, _)| name)
        .collect();
    work.publish(json!({
        "headline": format!("{} images, {}", images.images, images.name),
        "outputs": names,
        "images": images,
        "labels": table,
    }))
}

/// The imported predictions of a run; `None` where it is no import.
///
/// # Errors
/// Exit code 2 for a run that has predictions of its own, too: it is not known which of them are asked for.
pub(super) fn of_run(run: &mut Run) -> Result<Option<Model>, Fail> {
    let Some(input) = run.optional_input(IMPORT.name, &[PREDICTIONS])? else { return Ok(None) };
    for own in OWN {
        // What is there and cannot be used is there.
        if !matches!(run.optional_input(own, &[""]), Ok(None)) {
            return Err(both(run.name(), own));
        }
    }
    let facts = &input.manifest().metrics;
    let bad = |what: &'static str, expected: &'static str| {
        fail(Error::Fact { stage: IMPORT.name.to_owned(), what, got: facts[what].to_string(), expected })
    };
    let images = serde_json::from_value(facts["images"].clone()).map_err(|_| bad("images", "what the images are"))?;
    let outputs = facts["outputs"].as_array().ok_or_else(|| bad("outputs", "names of outputs"))?;
    let scored = cxr::output_names().map(|name| outputs.iter().any(|output| output.as_str() == Some(name)));
    let table = facts["labels"].as_str().map(str::to_owned).ok_or_else(|| bad("labels", "a file name"))?;
    let rows = predictions::read(&input.file(PREDICTIONS)?).map_err(fail)?;
    Ok(Some(Model { rows, scored, images, table, digest: input.digest(PREDICTIONS) }))
}

/// The error of a run that is called as an imported model.
fn both(run: &str, own: &str) -> Fail {
    let import = IMPORT.name;
    let both = anyhow::anyhow!(
        "run {run} has an imported model in {run}/{import} and predictions of its own in {run}/{own}, expected only one"
    );
    Fail::usage(both).hint(format!(
        "choose another name for the import (`report import NAME ...`), then remove the link {run}/{import} from the \
         artefacts folder"
    ))
}

/// Digest of what an import is asked to do.
pub(super) fn options(columns: Option<&str>, official: bool, limit: Option<usize>) -> String {
    let options: Value = json!({ "columns": columns, "official": official, "limit": limit });
    stage::digest(&options)
}
