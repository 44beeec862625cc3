//! A picture of every image: radiograph with the attended box, heat map, crop.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use model::Model;
use picture::overlay::{HeatMap, Overlay};

use crate::ask::Answered;
use crate::error::Error;

/// A folder of pictures.
#[derive(Debug)]
pub struct Overlays {
    folder: PathBuf,
    names: HashSet<String>,
}

impl Overlays {
    /// Makes the folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(folder: &Path) -> Result<Overlays, Error> {
        fs_err::create_dir_all(folder)?;
        Ok(Overlays { folder: folder.to_owned(), names: HashSet::new() })
    }

    /// Writes the picture of an image, unless it was refused.
    ///
    /// # Errors
    /// The disk is full.
    pub fn draw(&mut self, answered: &Answered, model: &Model) -> Result<(), Error> {
        let Some(seen) = &answered.answer.seen else { return Ok(()) };
        let name = self.name(answered.name);
        Ok(fs_err::write(self.folder.join(name), panels(&seen.sight, model))?)
    }

    /// The name of an image's picture: its own file name, numbered where that is taken.
    fn name(&mut self, image: &str) -> String {
        let stem = Path::new(image).file_stem().map_or("image".into(), |stem| stem.to_string_lossy());
        // The disk takes 255 bytes, the number and the ending among them.
        let stem = &stem[..stem.floor_char_boundary(200)];
        let numbers = (2..).map(|n| format!("{stem}-{n}.png"));
        let mut names = std::iter::once(format!("{stem}.png")).chain(numbers);
        names.find(|name| self.names.insert(name.clone())).unwrap_or_default()
    }
}

/// The heat map of the global branch.
pub fn heat_map<'a>(sight: &'a model::Sight, model: &Model) -> HeatMap<'a> {
    let attention = model.network.attention();
    let (input_px, cells) = (attention.frame.input_px, attention.cells);
    HeatMap { values: &sight.heat_map, shape: sight.heat_map_shape, input_px, cells }
}

/// The three panels as a PNG file.
pub fn panels(sight: &model::Sight, model: &Model) -> Vec<u8> {
    Overlay {
        image: &sight.prepared,
        crop: &sight.crop,
        heat: heat_map(sight, model),
        frame: model.network.attention().frame,
        region: sight.bbox,
        control: false,
        drawn: &[],
    }
    .panels()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder_and_differ() {
        let folder = tempfile::tempdir().unwrap();
        let mut overlays = Overlays::new(folder.path()).unwrap();
        let names = ["a/x.png", "b/x.dcm", "../../etc/x.jpg", "<3>", "/"].map(|image| overlays.name(image));
        assert_eq!(names, ["x.png", "x-2.png", "x-3.png", "<3>.png", "image.png"]);
        let longest = "ä".repeat(127);
        let names = [(); 2].map(|()| overlays.name(&longest));
        assert_eq!(names, [format!("{}.png", "ä".repeat(100)), format!("{}-2.png", "ä".repeat(100))]);
    }
}
