//! `report show`: one image.

use std::io::Write;
use std::path::{Path, PathBuf};

use cxr::metrics::decision::Criterion;
use cxr::metrics::{Cell, Decision, Metric, Scope, Subset};
use cxr::{Branch, Split};
use stage::{Common, Fail, Outcome, Run};
use tables::{images, metrics, predictions, regions};

use super::ending::{fail, keep_going};
use super::inputs::{predictions_of, regions_of};
use crate::cases::{file_name, stored};
use crate::config::{Config, SPEC};
use crate::localisation::{self, Attended};
use crate::results::Results;
use crate::{Error, overlay, show};

/// Prints what the tables know about an image, and writes its overlay to `output` or here.
///
/// # Errors
/// An input is missing, stale, edited or corrupt; there is no such image.
pub fn show(common: &Common, image_id: &str, output: Option<&Path>) -> Result<Outcome, Fail> {
    let (mut run, _) = Run::open::<Config>(&SPEC, common)?;
    let prep = run.input("prep", &["images/"])?;
    let attend = regions_of(&mut run)?;
    let images = images::read_meta(&prep.files("images/")?).map_err(fail)?;
    let regions = regions::read_meta(&attend.files("regions")?).map_err(fail)?;
    let attended = find(&images, &regions, image_id).map_err(fail)?;
    let image_id = attended.image.record.image_id.as_str();

    let mut rows: [Option<predictions::Row>; 3] = Default::default();
    for branch in Branch::ALL {
        rows[branch as usize] = prediction(&mut run, branch, image_id)?;
    }
    let results = results(&mut run)?;
    let threshold = |scope: Scope| {
        let metric = Metric::Decision(Decision::Threshold, Criterion::Youden);
        let (series, subset) = (Branch::Fusion.into(), Subset::All);
        // A report on validation chooses no thresholds.
        results.as_ref()?.find(&Cell { series, scope, metric, subset, split: Split::Test })?.value
    };
    let facts = regions::facts(&[attend.first("regions")?]).map_err(fail)?;
    let control = localisation::control(&facts);
    stage::print(&show::text(&attended, rows.each_ref().map(Option::as_ref), &threshold, control.as_deref()))?;

    let stored = stored(&prep, &attend, &[&attended], &keep_going)?;
    let stored = &stored[image_id];
    let decode = |png: &[u8]| overlay::decode(image_id, png).map_err(fail);
    let (image, crop) = (decode(&stored.image_png)?, decode(&stored.crop_png)?);
    let png = overlay::draw(&image, &crop, &attended, &facts).map_err(fail)?;
    let path = output.map_or_else(|| PathBuf::from(file_name(image_id, "-overlay.png")), Path::to_path_buf);
    write_whole(&path, &png).map_err(Fail::failed)?;
    stage::info!("wrote {}", path.display());
    Ok(Outcome::Nothing)
}

fn find<'a>(images: &'a [images::Row], regions: &'a [regions::Row], image_id: &str) -> Result<Attended<'a>, Error> {
    // A path is taken for the file's name, and a name without ending for a PNG's.
    let name = Path::new(image_id).file_name().map_or(image_id.into(), |name| name.to_string_lossy());
    let names = [image_id.to_owned(), name.to_string(), format!("{name}.png")];
    let named = |name: &String| images.iter().find(|image| image.record.image_id == *name);
    let image = names.iter().find_map(named).ok_or_else(|| Error::NoImage {
        image_id: image_id.to_owned(),
        images: images.len(),
        first: images.first().map_or(String::new(), |image| image.record.image_id.clone()),
    })?;
    let image_id = &image.record.image_id;
    let region = regions.iter().find(|region| region.key.image_id == *image_id);
    Ok(Attended { image, region: region.ok_or_else(|| Error::NoRegion { image_id: image_id.to_owned() })? })
}

/// The image's prediction by a branch; `None` where the branch has not run yet.
fn prediction(run: &mut Run, branch: Branch, image_id: &str) -> Result<Option<predictions::Row>, Fail> {
    let Some(predicted) = predictions_of(run, branch)? else { return Ok(None) };
    let rows = predictions::read(&predicted.path).map_err(fail)?;
    let row = rows.into_iter().find(|row| row.key.image_id == image_id);
    let missing = || fail(Error::NoPrediction { image_id: image_id.to_owned(), branch });
    row.ok_or_else(missing).map(Some)
}

/// The numbers of the run's report; `None` where there is no report yet.
fn results(run: &mut Run) -> Result<Option<Results>, Fail> {
    let Some(report) = run.optional_input(SPEC.name, &["metrics.parquet"])? else { return Ok(None) };
    let rows = metrics::read(&report.file("metrics.parquet")?).map_err(fail)?;
    Results::new(rows).map(Some).map_err(fail)
}

/// Writes a file beside its place, then renames it: it is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut partial = path.to_owned().into_os_string();
    partial.push(".partial");
    let mut file = fs_err::File::create(&partial)?;
    file.write_all(bytes)?;
    fs_err::rename(&partial, path)
}
