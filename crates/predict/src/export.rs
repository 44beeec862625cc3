//! A run's model as one folder, in Hugging Face's layout.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use branch::{Originals, raw_folder};
use cxr::{DatasetKind, Split, Tta};
use model::{Model, Question, folder};
use nets::onnx::HeatMap;
use picture::Radiograph;
use stage::{Fail, Input, Run, info, warn};
use tables::images;

use crate::card::{self, Card};
use crate::commands::Exported;
use crate::error::Error;
use crate::output::value;

/// Reference images of a model, where the data are public.
pub const REFERENCES: usize = 4;
/// Folder of the reference images.
pub const REFERENCE: &str = "reference";
/// Their answers, a JSON object a line.
pub const EXPECTED: &str = "expected.jsonl";

const LICENSE: &str = include_str!("../../../LICENSE");

/// The folder's path without a slash at its end, behind which `.partial` would be another name.
///
/// # Errors
/// It exists.
pub fn free(folder: &Path) -> Result<PathBuf, Fail> {
    let folder: PathBuf = folder.components().collect();
    match fs_err::symlink_metadata(&folder) {
        Ok(_) => Err(Fail::usage(anyhow!("{}: exists already", folder.display()))
            .hint("name a folder that does not exist, or remove this one")),
        Err(_) => Ok(folder),
    }
}

/// Writes the model `made` of the run into `exported.folder`, which appears whole or not at all.
///
/// # Errors
/// The folder exists; the report has not run, or is stale; an original image is gone or has changed; the disk is full.
pub fn export(run: &mut Run, made: &Input, exported: &Exported) -> Result<(), Fail> {
    let target = &free(&exported.folder)?;
    let card = Card::read(run, &exported.license)?;
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    if partial.exists() {
        fs_err::remove_dir_all(partial)?;
    }
    fs_err::create_dir_all(partial)?;
    for name in folder::names::DIGESTED.into_iter().chain([folder::names::CONFIG]) {
        copy(&made.file(name)?, &partial.join(name))?;
    }
    let device = nets::device(run.device()).map_err(Error::from)?;
    let model = Model::open(partial, &device).map_err(Error::from)?;
    let references = references(run, &model, &partial.join(REFERENCE), exported.references)?;
    if exported.license.eq_ignore_ascii_case("mit") {
        fs_err::write(partial.join("LICENSE"), LICENSE)?;
    }
    if exported.onnx {
        onnx(&model, partial)?;
    }
    fs_err::write(partial.join("README.md"), card::text(&card, &model, references, exported.onnx))?;
    fs_err::rename(partial, target)?;
    Ok(())
}

/// Writes `onnx/{global,local,fusion}.onnx`.
fn onnx(model: &Model, folder: &Path) -> Result<(), Error> {
    let onnx = folder.join("onnx");
    fs_err::create_dir(&onnx)?;
    let network = &model.network;
    let [of_global, of_local] = network.tta();
    if network.tta() != [Tta::None; 2] {
        warn!(
            "the ONNX files score one view of an image; this model scores global by tta = {of_global}, local by \
             {of_local}, which their metadata say"
        );
    }
    let ([global, local], attention) = (network.branches(), network.attention());
    let heat_map = HeatMap { statistic: attention.statistic, normalise: attention.normalise, cells: attention.cells };
    nets::onnx::write(global, (attention.frame, of_global), Some(heat_map), &onnx.join("global.onnx"))?;
    nets::onnx::write(local, (network.local_frame(), of_local), None, &onnx.join("local.onnx"))?;
    let (weight, bias) = network.fusion().tensors().map_err(model::Error::from)?;
    let dims = [global, local].map(|network| network.backbone().channels());
    Ok(nets::onnx::write_fusion(&weight, Some(&bias), dims, &onnx.join("fusion.onnx"))?)
}

/// A copy that its owner may change and remove: files of the store are read-only.
fn copy(from: &Path, to: &Path) -> Result<(), Fail> {
    let (mut from, mut to) = (fs_err::File::open(from)?, fs_err::File::create(to)?);
    std::io::copy(&mut from, &mut to)?;
    Ok(to.sync_all()?)
}

/// Copies up to `count` test images of the run, evenly spread, and writes what the model says of them; says how many.
fn references(run: &mut Run, model: &Model, folder: &Path, count: Option<usize>) -> Result<usize, Fail> {
    fs_err::create_dir(folder)?;
    let mut lines = String::new();
    let mut written = 0;
    let prep = run.input("prep", &["images/"])?;
    let files = prep.files("images/")?;
    let count = match (count, images::facts(&files).map_err(Error::from)?.dataset) {
        (Some(count), _) => count,
        (None, DatasetKind::Nih | DatasetKind::Phantom) => REFERENCES,
        (None, DatasetKind::Folder) => 0,
    };
    if count > 0 {
        let rows = images::read_meta(&files).map_err(Error::from)?;
        let test: Vec<_> = rows.iter().filter(|row| row.split == Split::Test).collect();
        let originals = Originals::new(raw_folder(run, &prep)?, &files)?;
        let count = count.min(test.len());
        for index in 0..count {
            let row = test[index * test.len() / count];
            let bytes = originals.bytes(&row.record.image_id).map_err(Fail::from)?;
            let (number, end) = (index + 1, Path::new(&row.path).extension().unwrap_or_default());
            let name = format!("{number}.{}", end.to_string_lossy());
            fs_err::write(folder.join(&name), &bytes)?;
            let radiograph = Radiograph::decode(&name, &bytes).map_err(Error::from)?;
            let question = Question { no_gate: true, error_rate: None };
            let answers = model.answer(&[&radiograph], question).map_err(Error::from)?;
            lines += &format!("{}\n", value(&name, &answers[0]));
            written += 1;
        }
        info!("{written} test images of the run are in {}, as references", folder.display());
    }
    if written == 0 {
        warn!(
            "the model has no reference images, so `predict selftest` has nothing to compare; --references N adds some"
        );
    }
    fs_err::write(folder.join(EXPECTED), lines)?;
    Ok(written)
}
