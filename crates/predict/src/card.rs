//! The model card: what the report says, in Hugging Face's form (Mitchell et al., Model cards for model reporting, FAT*
//! 2019).

use std::fmt::Write;

use cxr::metrics::{Metric, Scope, Series, Subset};
use cxr::{Branch, DatasetKind, Finding, Split, Tta, output_names};
use model::Model;
use stage::{Fail, Run};
use tables::metrics::Row;
use tables::{images, metrics};

use crate::error::Error;

/// What a card is written from.
#[derive(Debug, Clone)]
pub struct Card {
    facts: images::Facts,
    /// Images of train, validation and test.
    images: [usize; 3],
    split: Split,
    rows: Vec<Row>,
    license: String,
    /// Commit of the program, if known.
    build: Option<String>,
}

impl Card {
    /// Reads the run's images and its report.
    ///
    /// # Errors
    /// The report has not run, or is stale.
    pub fn read(run: &mut Run, license: &str) -> Result<Card, Fail> {
        let prep = run.input("prep", &["images/"])?;
        let report = run.input("report", &["metrics.parquet"])?;
        let files = prep.files("images/")?;
        let split = report.manifest().metrics["split"].as_str().and_then(|split| split.parse().ok());
        Ok(Card {
            facts: images::facts(&files).map_err(Error::from)?,
            images: images::rows(&files).map_err(Error::from)?,
            split: split.unwrap_or(Split::Test),
            rows: metrics::read(&report.file("metrics.parquet")?).map_err(Error::from)?,
            license: license.to_owned(),
            build: stage::build(),
        })
    }

    fn find(
        &self,
        series: impl Into<Series>,
        scope: impl Into<Scope>,
        metric: Metric,
        subset: &Subset,
    ) -> Option<&Row> {
        let (series, scope) = (series.into(), scope.into());
        self.rows.iter().find(|row| {
            let cell = &row.cell;
            cell.series == series
                && cell.scope == scope
                && cell.metric == metric
                && cell.subset == *subset
                && cell.split == self.split
        })
    }

    fn auroc(&self, branch: Branch, scope: impl Into<Scope>, subset: &Subset) -> String {
        self.find(branch, scope, Metric::Auroc, subset).map_or("not measured".to_owned(), shown)
    }

    fn data(&self) -> &'static str {
        match self.facts.dataset {
            DatasetKind::Phantom => {
                "a synthetic dataset of phantom radiographs; **it knows nothing about real patients**"
            }
            DatasetKind::Nih => "NIH ChestX-ray14 (Wang et al., CVPR 2017)",
            DatasetKind::Folder => "chest radiographs that are not public",
        }
    }
}

/// `0.901 [0.890, 0.912]`, or why there is no number.
fn shown(row: &Row) -> String {
    match (row.value, row.ci_low, row.ci_high) {
        (Some(value), Some(low), Some(high)) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        (Some(value), ..) => format!("{value:.3}"),
        (None, ..) => format!("undefined ({})", row.reason.as_deref().unwrap_or("no images")),
    }
}

/// Which views of an image are averaged, where it is not one.
fn views(model: &Model) -> String {
    let [global, local] = model.network.tta();
    match [global, local] == [Tta::None; 2] {
        true => String::new(),
        false => format!(
            " Features and logits are means over views of an image (test-time augmentation: global {global}, local \
             {local}), which `agcnn.tta` in the metadata of the weights files, and of the ONNX files, if any, says; an ONNX \
             graph scores one view."
        ),
    }
}

/// The card as Markdown with a YAML header; `references` says how many reference images the folder has.
pub fn text(card: &Card, model: &Model, references: usize, onnx: bool) -> String {
    let mut text = header(card);
    let [train, validation, test] = card.images;
    let backbones = model.network.branches().map(|network| network.backbone());
    let _ = write!(
        text,
        "# AG-CNN: 14 findings on chest radiographs\n\n\
         Attention guided CNN (Guan et al., [arXiv 1801.09927](https://arxiv.org/abs/1801.09927)): a global branch \
         ({}) sees the radiograph, its feature map says where to look, a local branch ({}) sees that region, a fusion layer \
         reads both. Trained on {}.\n\n\
         **Not for clinical use.**\n\n\
         ## Use\n\n\
         ```sh\npredict --model THIS_FOLDER image.png      # PNG, JPEG, DICOM, folders\n\
         predict selftest --model THIS_FOLDER       # {references} reference images, recomputed\n```\n\n\
         The program is in the repository that wrote this card. The safetensors have torchvision's names and load into its \
         networks with 15 outputs. An image goes in as `preprocessor_config.json` says; the local branch sees the region that \
         `config.json` (`attention`) describes; the answer is fusion's logit, divided by `decision.temperature`.{}{}\n\n\
         ## Intended use\n\n\
         Research: reproduction, comparison, external evaluation of frontal chest radiographs of adults. Out of scope: \
         diagnosis, triage, lateral views, other parts of the body, children. `predict` refuses what is unlike the training \
         images, and says why; a refusal is no safeguard.\n\n",
        backbones[0],
        backbones[1],
        card.data(),
        views(model),
        if onnx { " `onnx/` has the three networks for ONNX Runtime." } else { "" },
    );
    let _ = write!(
        text,
        "## Data\n\n\
         Labels: `{}`. Split: {}; {train} training, {validation} validation and {test} test images. Epochs, thresholds, \
         temperature and the novelty limit were chosen on validation; nothing was chosen on test.{}\n\n",
        card.facts.label_table,
        card.facts.split,
        match card.facts.dataset {
            DatasetKind::Nih =>
                " NIH's labels were mined from reports and are often wrong (against radiologists: \
                                 sensitivity 0.5 for Pneumothorax; Majkowska et al., Radiology 2019).",
            _ => "",
        },
    );
    results(card, &mut text);
    subgroups(card, &mut text);
    decisions(model, &mut text);
    let _ = write!(
        text,
        "## Limits\n\n\
         A probability is calibrated for the mix of patients in validation, not for others. AUROC falls on other hospitals' \
         images; measure it (`just evaluate`). The attended region says where the network looked, not where a finding is. \
         Intervals are over patients of one test set, not over hospitals, readers or trainings.\n\n\
         Made by commit {}.\n",
        card.build.as_deref().unwrap_or("unknown"),
    );
    text
}

fn header(card: &Card) -> String {
    let mut text = format!(
        "---\nlicense: {}\nlibrary_name: candle\npipeline_tag: image-classification\ntags:\n- chest-x-ray\n- radiology\n\
         - ag-cnn\n- multi-label\n",
        card.license
    );
    if card.facts.dataset == DatasetKind::Nih {
        text += "datasets:\n- nih-chest-xray14\n";
    }
    if let Some(value) = card.find(Branch::Fusion, Scope::Mean, Metric::Auroc, &Subset::All).and_then(|row| row.value) {
        let _ = write!(
            text,
            "model-index:\n- name: ag-cnn\n  results:\n  - task:\n      type: image-classification\n    dataset:\n      \
             name: {} ({} split)\n      type: {}\n      split: {}\n    metrics:\n    - type: roc_auc\n      name: mean AUROC\n      \
             value: {value:.4}\n",
            if card.facts.dataset == DatasetKind::Phantom { "phantom" } else { "own" },
            card.facts.split,
            if card.facts.dataset == DatasetKind::Phantom { "synthetic" } else { "chest-x-ray" },
            card.split,
        );
    }
    text + "---\n\n"
}

fn results(card: &Card, text: &mut String) {
    let _ = write!(
        text,
        "## Results\n\nAUROC on {}, with 95 % intervals over patients.\n\n\
         | finding | positives | global | local | fusion |\n|---|---|---|---|---|\n",
        card.split
    );
    let scopes = Finding::ALL.map(Scope::Finding).into_iter().chain([Scope::NoFinding, Scope::Mean]);
    for scope in scopes {
        let positives = card.find(Branch::Fusion, scope, Metric::Auroc, &Subset::All).map_or(0, |row| row.n_pos);
        let cells = Branch::ALL.map(|branch| card.auroc(branch, scope, &Subset::All)).join(" | ");
        let name = match scope {
            Scope::Finding(finding) => finding.name().replace('_', " "),
            Scope::NoFinding => "No Finding".to_owned(),
            _ => "**mean of the findings**".to_owned(),
        };
        let _ = writeln!(text, "| {name} | {positives} | {cells} |");
    }
    text.push('\n');
}

fn subgroups(card: &Card, text: &mut String) {
    let mut subsets: Vec<&Subset> = Vec::new();
    for row in &card.rows {
        let subset = &row.cell.subset;
        if row.cell.split == card.split && subset.is_group() && !subsets.contains(&subset) {
            subsets.push(subset);
        }
    }
    if subsets.is_empty() {
        return;
    }
    *text += "### Subgroups\n\nMean AUROC of the fusion branch.\n\n| subgroup | mean AUROC |\n|---|---|\n";
    for subset in subsets {
        let _ = writeln!(text, "| {subset} | {} |", card.auroc(Branch::Fusion, Scope::Mean, subset));
    }
    text.push('\n');
}

fn decisions(model: &Model, text: &mut String) {
    let temperature = model.decision.temperature.map_or("none".to_owned(), |temperature| format!("{temperature:.3}"));
    let _ = write!(
        text,
        "### Decisions\n\nTemperature {temperature}. A finding is called at these calibrated probabilities ({} on \
         validation):\n\n| finding | threshold |\n|---|---|\n",
        model.decision.criterion
    );
    for (name, threshold) in output_names().into_iter().zip(model.thresholds()) {
        let threshold = threshold.map_or("none".to_owned(), |threshold| format!("{threshold:.3}"));
        let _ = writeln!(text, "| {name} | {threshold} |");
    }
    text.push('\n');
}
