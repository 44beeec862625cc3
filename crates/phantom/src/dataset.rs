//! Lays the dataset out as NIH does: images, table, lists, boxes.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cxr::Finding;
use picture::Grey;
use rayon::prelude::*;

use crate::cohort::Exam;
use crate::config::Config;
use crate::radiograph::{Radiograph, Subject, render};

/// Images per `images_NNN` folder; NIH has some 10,000.
const PER_FOLDER: usize = 1000;

/// What went wrong while writing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl stage::Problem for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::Interrupted => ErrorKind::Interrupted,
            Error::Io(_) => ErrorKind::Other,
        }
    }
}

/// Draws and writes everything into `folder`; `watch` hears of every image, and may stop the work.
///
/// # Errors
/// A file cannot be written; [`Error::Interrupted`].
pub fn write(
    folder: &Path,
    exams: &[Exam],
    config: &Config,
    watch: &(dyn Fn() -> ControlFlow<()> + Sync),
) -> Result<(), Error> {
    let size = config.size;
    let side = u32::try_from(size).unwrap_or(u32::MAX);
    let shelves: Vec<PathBuf> = (0..exams.len().div_ceil(PER_FOLDER))
        .map(|i| folder.join(format!("images_{:03}", i + 1)).join("images"))
        .collect();
    for shelf in &shelves {
        fs_err::create_dir_all(shelf)?;
    }
    let boxes: Vec<_> = exams
        .par_iter()
        .enumerate()
        .map(|(i, exam)| {
            let record = &exam.record;
            let subject = Subject {
                seed: config.seed,
                patient_id: record.patient_id,
                follow_up: record.follow_up.unwrap_or_default(),
                sex: record.sex,
                view_position: record.view_position,
                labels: record.labels,
            };
            let Radiograph { pixels, boxes } = render(&subject, size, config.contrast);
            let png = Grey { width: side, height: side, pixels }.encode();
            fs_err::write(shelves[i / PER_FOLDER].join(&record.image_id), png)?;
            if watch().is_continue() { Ok(boxes) } else { Err(Error::Interrupted) }
        })
        .collect::<Result<_, Error>>()?;

    fs_err::write(folder.join("Data_Entry_2017_v2020.csv"), table(exams, size))?;
    fs_err::write(folder.join("train_val_list.txt"), list(exams, false))?;
    fs_err::write(folder.join("test_list.txt"), list(exams, true))?;
    // NIH's header has nine fields, its rows six; coordinates are in a frame of 1024 pixels.
    let mut text = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n".to_owned();
    // Test images only, as in NIH's list: boxes are for measuring, not for training.
    for (exam, boxes) in exams.iter().zip(&boxes).filter(|(exam, _)| exam.test) {
        for sign in boxes {
            let scale = 1024.0 / size as f32;
            let (area, name) = (sign.bbox.scaled(scale, scale), bbox_name(sign.finding));
            let [x, y, w, h] = [area.x_min, area.y_min, area.width(), area.height()];
            text += &format!("{},{name},{x},{y},{w},{h}\n", exam.record.image_id);
        }
    }
    fs_err::write(folder.join("BBox_List_2017.csv"), text)?;
    Ok(())
}

/// NIH's box list calls Infiltration "Infiltrate".
fn bbox_name(finding: Finding) -> &'static str {
    if finding == Finding::Infiltration { "Infiltrate" } else { finding.name() }
}

fn table(exams: &[Exam], size: usize) -> String {
    let mut text = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
                    OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
        .to_owned();
    for exam in exams {
        let record = &exam.record;
        text += &format!(
            "{},{},{},{},{},{},{},{size},{size},0.7,0.7\n",
            record.image_id,
            record.labels,
            record.follow_up.unwrap_or_default(),
            record.patient_id,
            record.age_years.map_or_else(String::new, |age| age.to_string()),
            record.sex.map_or("", |sex| sex.name()),
            record.view_position.map_or("", |position| position.name()),
        );
    }
    text
}

/// One name per line; like NIH's, without a newline at the end.
fn list(exams: &[Exam], test: bool) -> String {
    let names: Vec<_> =
        exams.iter().filter(|exam| exam.test == test).map(|exam| exam.record.image_id.as_str()).collect();
    names.join("\n")
}
