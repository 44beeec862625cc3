//! What a report reads.

use std::path::PathBuf;

use cxr::{Branch, DatasetKind, Split};
use stage::{Fail, Input, Run};
use tables::{class_maps, epochs, experts, images, predictions, regions};

use super::ending::fail;
use super::swept;
use crate::Error;
use crate::cohort::Cohort;
use crate::sweep::{self, Entry};

/// The files of the stages that a report stands on.
pub(super) struct Inputs {
    pub(super) phantom: Option<Input>,
    pub(super) prep: Input,
    /// Where predictions and regions come from.
    pub(super) source: Source,
    pub(super) swept: Option<Input>,
    pub(super) image_facts: images::Facts,
}

/// Whose predictions are reported.
pub(super) enum Source {
    /// Of the networks that this run trained.
    Trained {
        attend: Input,
        /// In the order of [`Branch::ALL`].
        branches: [Input; 3],
    },
    /// Of a model that was trained elsewhere.
    External(Input),
}

impl Source {
    /// Names the inputs to `run`: those of an external evaluation, where there was one.
    fn open(run: &mut Run) -> Result<Source, Fail> {
        if let Some(evaluated) = run.optional_input(EVALUATE, &[""])? {
            return Ok(Source::External(evaluated));
        }
        let attend = run.input("attend", &["regions", CLASS_MAPS])?;
        let files = [PREDICTIONS, EPOCHS];
        let [global, local, fusion] = Branch::ALL.map(|branch| run.input(branch.name(), &files));
        Ok(Source::Trained { attend, branches: [global?, local?, fusion?] })
    }

    /// What has the regions.
    pub(super) fn regions(&self) -> &Input {
        match self {
            Source::Trained { attend, .. } => attend,
            Source::External(evaluated) => evaluated,
        }
    }

    /// The model of an external evaluation, by its digest.
    pub(super) fn model(&self) -> Option<&str> {
        match self {
            Source::Trained { .. } => None,
            Source::External(evaluated) => evaluated.manifest().metrics["model"].as_str(),
        }
    }

    fn predictions(&self, branch: Branch) -> Result<PathBuf, Fail> {
        match self {
            Source::Trained { branches, .. } => branches[branch as usize].file(PREDICTIONS),
            Source::External(evaluated) => evaluated.file(&format!("{branch}/{PREDICTIONS}")),
        }
    }

    /// The epochs of a branch; none where it was trained elsewhere.
    fn epochs(&self, branch: Branch) -> Result<Vec<epochs::Row>, Fail> {
        match self {
            Source::Trained { branches, .. } => epochs::read(&branches[branch as usize].file(EPOCHS)?).map_err(fail),
            Source::External(_) => Ok(Vec::new()),
        }
    }
}

/// What has the attended regions of a run: its external evaluation, or attend.
///
/// # Errors
/// Exit code 3 where neither has run, or is stale.
pub(super) fn regions_of(run: &mut Run) -> Result<Input, Fail> {
    match run.optional_input(EVALUATE, &["regions"])? {
        Some(evaluated) => Ok(evaluated),
        None => run.input("attend", &["regions"]),
    }
}

/// A branch's predictions in a run: those of its external evaluation, or of the branch that it trained; `None` where
/// neither has run.
///
/// # Errors
/// Exit code 3 where they are stale.
pub(super) fn predictions_of(run: &mut Run, branch: Branch) -> Result<Option<Predicted>, Fail> {
    let name = format!("{branch}/{PREDICTIONS}");
    let predicted = |input: &Input, name: &str, elsewhere| -> Result<Option<Predicted>, Fail> {
        Ok(Some(Predicted { path: input.file(name)?, digest: input.digest(name), elsewhere }))
    };
    if let Some(evaluated) = run.optional_input(EVALUATE, &[&name])? {
        return predicted(&evaluated, &name, true);
    }
    match run.optional_input(branch.name(), &[PREDICTIONS])? {
        Some(trained) => predicted(&trained, PREDICTIONS, false),
        None => Ok(None),
    }
}

/// A branch's predictions.
pub(super) struct Predicted {
    pub(super) path: PathBuf,
    /// Of their contents.
    pub(super) digest: String,
    /// Whether the model was trained elsewhere.
    pub(super) elsewhere: bool,
}

/// Whether a stage of that name evaluates a model that was trained elsewhere.
pub(super) fn is_evaluation(stage: &str) -> bool {
    stage == EVALUATE
}

/// What experts say, where prep has it.
const EXPERTS: &str = "experts.parquet";
const CLASS_MAPS: &str = "class_maps.parquet";
/// The stage of an external evaluation.
const EVALUATE: &str = "evaluate";
/// The stage that has the images.
pub(super) const PREP: &str = "prep";
const PREDICTIONS: &str = "predictions.parquet";
const EPOCHS: &str = "epochs.parquet";

/// Their contents, without pixels.
pub(super) struct Data {
    pub(super) images: Vec<images::Row>,
    /// What experts say of images; `None` where prep has nothing.
    pub(super) experts: Option<Vec<experts::Row>>,
    /// In the order of [`Branch::ALL`].
    pub(super) predictions: [Vec<predictions::Row>; 3],
    pub(super) regions: Vec<regions::Row>,
    pub(super) region_facts: regions::Facts,
    /// Class activation maps of the images with boxes; `None` where attend has none.
    pub(super) class_maps: Option<Vec<class_maps::Row>>,
    /// The images of the split that is reported, and of the other one.
    pub(super) cohorts: [Cohort; 2],
    /// In the order of [`Branch::ALL`].
    pub(super) epochs: [Vec<epochs::Row>; 3],
    pub(super) swept: Vec<Entry>,
}

impl Inputs {
    /// Names all inputs to `run`, and checks that they are there and fresh.
    pub(super) fn open(run: &mut Run) -> Result<Inputs, Fail> {
        let prep = run.input(PREP, &["images/", EXPERTS])?;
        let image_facts = images::facts(&[prep.first("images/")?]).map_err(fail)?;
        let phantom =
            (image_facts.dataset == DatasetKind::Phantom).then(|| run.input("phantom", &["Data_Entry"])).transpose()?;
        let source = Source::open(run)?;
        let swept = swept::of_run(run)?;
        Ok(Inputs { phantom, prep, source, swept, image_facts })
    }

    /// Reads every table once.
    pub(super) fn read(&self, splits: [Split; 2], limit: Option<usize>) -> Result<Data, Fail> {
        let images = images::read_meta(&self.prep.files("images/")?).map_err(fail)?;
        let files = self.source.regions().files("regions")?;
        let regions = regions::read_meta(&files).map_err(fail)?;
        let region_facts = regions::facts(&files).map_err(fail)?;
        let class_maps = self.source.regions().manifest().outputs.iter().any(|file| file.name == CLASS_MAPS);
        let shape = (region_facts.heatmap[0], region_facts.heatmap[1]);
        let class_maps = class_maps
            .then(|| class_maps::read(&self.source.regions().file(CLASS_MAPS)?, shape).map_err(fail))
            .transpose()?;
        let read = |branch| predictions::read(&self.source.predictions(branch)?).map_err(fail);
        let [global, local, fusion] = Branch::ALL.map(read);
        let predictions = [global?, local?, fusion?];
        let [reported, other] = splits.map(|split| Cohort::join(&predictions, split, limit));
        let cohorts = [reported.map_err(fail)?, other.map_err(fail)?];
        if cohorts[0].is_empty() {
            return Err(fail(Error::Empty { split: splits[0] }));
        }
        let [global, local, fusion] = Branch::ALL.map(|branch| self.source.epochs(branch));
        let epochs = [global?, local?, fusion?];
        let swept = match &self.swept {
            Some(swept) => sweep::entries(&swept::rows(swept)?).map_err(fail)?,
            None => Vec::new(),
        };
        let experts = match self.prep.manifest().outputs.iter().any(|file| file.name == EXPERTS) {
            true => Some(experts::read(&self.prep.file(EXPERTS)?).map_err(fail)?),
            false => None,
        };
        Ok(Data { images, experts, predictions, regions, region_facts, class_maps, cohorts, epochs, swept })
    }

    /// All stages, upstream first.
    pub(super) fn stages(&self) -> impl Iterator<Item = &Input> {
        let made: Vec<&Input> = match &self.source {
            Source::Trained { attend, branches: [global, local, fusion] } => vec![global, attend, local, fusion],
            Source::External(evaluated) => vec![evaluated],
        };
        self.phantom.iter().chain([&self.prep]).chain(made)
    }
}
