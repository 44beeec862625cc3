//! What a report reads.

use cxr::{Branch, DatasetKind, Split};
use stage::{Fail, Input, Run};
use tables::{epochs, images, predictions, regions};

use super::ending::fail;
use super::swept;
use crate::Error;
use crate::cohort::Cohort;
use crate::sweep::{self, Entry};

/// The files of the stages that a report stands on.
pub(super) struct Inputs {
    pub(super) phantom: Option<Input>,
    pub(super) prep: Input,
    pub(super) attend: Input,
    /// In the order of [`Branch::ALL`].
    pub(super) branches: [Input; 3],
    pub(super) swept: Option<Input>,
    pub(super) image_facts: images::Facts,
}

/// Their contents, without pixels.
pub(super) struct Data {
    pub(super) images: Vec<images::Row>,
    pub(super) regions: Vec<regions::Row>,
    pub(super) region_facts: regions::Facts,
    /// The images of the split that is reported, and of the other one.
    pub(super) cohorts: [Cohort; 2],
    /// In the order of [`Branch::ALL`].
    pub(super) epochs: [Vec<epochs::Row>; 3],
    pub(super) swept: Vec<Entry>,
}

impl Inputs {
    /// Names all inputs to `run`, and checks that they are there and fresh.
    pub(super) fn open(run: &mut Run) -> Result<Inputs, Fail> {
        let prep = run.input("prep", &["images/"])?;
        let attend = run.input("attend", &["regions"])?;
        let image_facts = images::facts(&prep.files("images/")).map_err(fail)?;
        let phantom =
            (image_facts.dataset == DatasetKind::Phantom).then(|| run.input("phantom", &["Data_Entry"])).transpose()?;
        let files = ["predictions.parquet", "epochs.parquet"];
        let [global, local, fusion] = Branch::ALL.map(|branch| run.input(branch.name(), &files));
        let branches = [global?, local?, fusion?];
        let swept = swept::of_run(run)?;
        Ok(Inputs { phantom, prep, attend, branches, swept, image_facts })
    }

    /// Reads every table once.
    pub(super) fn read(&self, splits: [Split; 2], limit: Option<usize>) -> Result<Data, Error> {
        let images = images::read_meta(&self.prep.files("images/"))?;
        let regions = regions::read_meta(&self.attend.files("regions"))?;
        let region_facts = regions::facts(&self.attend.files("regions"))?;
        let read = |input: &Input| predictions::read(&input.file("predictions.parquet"));
        let [global, local, fusion] = self.branches.each_ref().map(read);
        let predictions = [global?, local?, fusion?];
        let [reported, other] = splits.map(|split| Cohort::join(&predictions, split, limit));
        let cohorts = [reported?, other?];
        if cohorts[0].is_empty() {
            return Err(Error::Empty { split: splits[0] });
        }
        let read = |input: &Input| epochs::read(&input.file("epochs.parquet"));
        let [global, local, fusion] = self.branches.each_ref().map(read);
        let epochs = [global?, local?, fusion?];
        let swept = match &self.swept {
            Some(swept) => sweep::entries(&swept::rows(swept)?)?,
            None => Vec::new(),
        };
        Ok(Data { images, regions, region_facts, cohorts, epochs, swept })
    }

    /// All stages, upstream first.
    pub(super) fn stages(&self) -> impl Iterator<Item = &Input> {
        let [global, local, fusion] = &self.branches;
        self.phantom.iter().chain([&self.prep, global, &self.attend, local, fusion])
    }
}
